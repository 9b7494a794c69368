"""Who drives a run: ``lease.json`` in its folder, so that two drivers never write one run at once.

The owner renews the lease while it lives. An owner that is dead on this machine loses it at once. Any other is waited
for: either its time runs out, and the lease is taken over, or it is renewed, and the second driver is refused. What
counts is how long the record stays as it is by the clock of whoever waits: clocks of two machines are not compared.
Only time in which the store answers counts: in an outage of the store no owner can renew, however alive it is.

Each owner in turn has a higher ``attempt``, also after a release; a commit of an older attempt is dropped, so that
workers that outlived their driver do no harm. Whoever wants to be the next claims its number first: it creates
``lease/000004.json``, which only one can, and only then writes ``lease.json``. If it dies in between, the others wait
as long as for an owner, and claim the number after it. A claim comes before a look at ``lease.json``, and a write to
``lease.json`` before a look for a later claim: so of two who are slow, at least one sees the other and steps back.
Claims stay: a number that has been claimed is gone. Where a store can't create, and looks and then writes, the time
to ``settle`` and the look after it are what keeps two apart.
"""

from __future__ import annotations

import json
import os
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

from ..errors import BadInput, Conflict, FcddError, NotFound
from .owner import Owner
from .stores import Store, exists

LEASE, CLAIMS = "lease.json", "lease/"
_LATE = 1 / 6  # of the time a lease is good for, by which a look is late enough to tell nothing about the owner


@dataclass(frozen=True)
class _Record:
    owner: Owner | None  # None once released
    attempt: int
    token: str  # of this one hold
    since: float  # seconds since 1970, for people
    renewed: float

    def to_json(self) -> bytes:
        return json.dumps({"schema_version": 1, **asdict(self)}, indent=1).encode()

    @property
    def holder(self) -> str:
        assert self.owner is not None
        since = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(self.since))
        return f"process {self.owner.pid} on {self.owner.host} since {since}"


class Lease:
    """A hold on a run, renewed in the background until ``release``. A context manager.

    ``attempt`` counts the owners of the run from 1. ``check`` raises Conflict once the hold was lost.
    """

    def __init__(self, store: Store, record: _Record, every: float, good_for: float) -> None:
        self._store, self._record, self._every, self._good_for = store, record, every, good_for
        self._end = threading.Event()
        self._lost: str | None = None
        self._thread = threading.Thread(target=self._renew, name="lease", daemon=True)
        self._thread.start()

    @classmethod
    def acquire(cls, store: Store, *, say: Callable[[str], None], every: float = 10.0, good_for: float = 30.0,
                settle: float = 1.0, poll: float | None = None) -> Lease:
        """Takes the lease of the run in ``store``, or waits for it up to ``good_for`` seconds.

        ``every``: seconds between renewals; ``settle``: between taking over and looking whether another did so too;
        ``poll``: between looks while waiting, by default as often as looks are cheap.
        Raises Conflict that names the holder where it is alive.
        """
        contender = _Contender(store, say, good_for, store.look_every if poll is None else poll)
        while True:
            there = contender.wait_for_vacancy()
            number = there.attempt if there else _last_claim(store)
            if number == 0:
                mine = _new(attempt=1)
                won = store.create(LEASE, mine.to_json())
            else:
                claimed = contender.claim(there, number + 1)
                won = claimed is not None and _installed(store, mine := claimed, settle)
            if won:
                return cls(store, mine, every, good_for)

    @property
    def attempt(self) -> int:
        return self._record.attempt

    def check(self) -> None:
        """Raises Conflict where the lease was taken over, or could not be renewed in time."""
        if self._lost:
            raise Conflict(self._lost)

    def held(self) -> bool:
        """Whether it is still ours, by what stands in the store now."""
        there = _read(self._store)
        return there is not None and there.token == self._record.token

    def release(self, *, forget: bool = False) -> None:
        """Gives the lease up if it is still held. Idempotent.

        The record stays, since it counts the attempts, or goes with ``forget`` and all claims, where nothing depends
        on them.
        """
        if self._end.is_set():
            return
        self._end.set()
        self._thread.join()
        if not self.held():
            return
        if forget:
            for entry in list(self._store.list(CLAIMS)):
                if _number(entry.key) is not None:  # others may have files there
                    self._store.delete(entry.key)
            self._store.delete(LEASE)
        else:
            self._store.write(LEASE, replace(self._record, owner=None).to_json())

    def __enter__(self) -> Lease:
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        try:
            self.release()
        except FcddError:
            if error is None:  # else it is the first that counts, and this one its consequence
                raise

    def _renew(self) -> None:
        renewed = time.monotonic()
        while not self._end.wait(self._every):
            try:
                began, there = time.monotonic(), _read(self._store)
                # One of an earlier attempt was only on its way for long: ours belongs there.
                if there is None or (there.token != self._record.token and (
                        there.attempt >= self.attempt or began - renewed > self._good_for)):
                    self._lost = self._taken_by(there)
                    return
                record = replace(self._record, renewed=time.time())
                self._store.write(LEASE, record.to_json())
                if time.monotonic() - began > self._every and exists(self._store, _claim(self.attempt + 1)):
                    self._lost = self._taken_by(_read(self._store, _claim(self.attempt + 1)))
                    return
                self._record, renewed = record, time.monotonic()
            except Exception as error:  # noqa: BLE001 - whatever a store raises: told by check once it matters
                if time.monotonic() - renewed > self._good_for:
                    self._lost = f"the lease on {self._store.url} could not be renewed: {error}"
                    return

    def _taken_by(self, there: _Record | None) -> str:
        holder = there.holder if there and there.owner else "nobody"
        return f"{self._store.url} was taken over by {holder} while this process did not answer"


class _Patience:
    """The time that somebody who may be dead is given to show that he is not.

    It begins anew where a look comes late: what has held it up, a store that hangs or a machine that stands still, may
    have held up the other one as long.
    """

    def __init__(self, good_for: float, pause: float) -> None:
        self._good_for, self._late = good_for, pause + _LATE * good_for
        self._begin(time.monotonic())

    def is_over(self) -> bool:
        """To be asked right after each look: whether enough time has passed without a sign of life."""
        now = time.monotonic()
        if now - self._looked > self._late:
            self._begin(now)
        self._looked = now
        return now >= self._until

    def _begin(self, now: float) -> None:
        self._looked, self._until = now, now + self._good_for


@dataclass
class _Contender:
    """Whoever wants a lease that somebody else has, or had."""

    store: Store
    say: Callable[[str], None]
    good_for: float
    pause: float

    def wait_for_vacancy(self) -> _Record | None:
        """The last record, once nobody alive holds it; None where there is none. Raises Conflict."""
        seen: _Record | None = None  # the holder that is waited for
        patience = self._patience()
        while True:
            there = _read(self.store)
            if there is None or there.owner is None or there.owner.is_dead_here():
                return there
            if seen is None or seen.token != there.token:
                if seen is None:
                    self.say(f"{self.store.url} is held by {there.holder}: waiting up to {self.good_for:g} s to "
                             f"see whether that process is alive")
                seen, patience = there, self._patience()
            if there != seen:
                raise Conflict(f"{self.store.url} is in use by {there.holder}: wait for it, stop it, or choose "
                               f"another place")
            if patience.is_over():
                self.say(f"{there.holder} has not renewed its lease for {self.good_for:g} s: taking over")
                return there
            time.sleep(self.pause)

    def claim(self, there: _Record | None, number: int) -> _Record | None:
        """Our record, with the first attempt from ``number`` that we could claim; None where the lease changed."""
        while True:
            mine = _new(number)
            if self.store.create(_claim(number), mine.to_json()):
                return mine if _read(self.store) == there else None
            first = _read(self.store, _claim(number))
            patience = self._patience()
            while True:
                if _read(self.store) != there:
                    return None
                if first and first.owner and first.owner.is_dead_here():
                    break
                if patience.is_over():
                    self.say(f"another process was about to take over {self.store.url} {self.good_for:g} s ago and "
                             f"has not: taking over")
                    break
                time.sleep(self.pause)
            number += 1

    def _patience(self) -> _Patience:
        return _Patience(self.good_for, self.pause)


def _installed(store: Store, mine: _Record, settle: float) -> bool:
    """Makes ``mine``, whose attempt we have claimed, the record of the lease; False where a later one is coming."""
    while True:
        store.write(LEASE, mine.to_json())
        time.sleep(settle)
        there = _read(store)
        if exists(store, _claim(mine.attempt + 1)) or there is None:
            return False
        if there.attempt >= mine.attempt:
            return there.token == mine.token
        # Else a record of an earlier attempt was on its way for long, and came after ours.


def still_current(store: Store, attempt: int) -> bool:
    """Whether a commit of ``attempt`` counts: no later one has begun."""
    there = _read(store)
    return there is None or there.attempt <= attempt


def _new(attempt: int) -> _Record:
    now = time.time()
    return _Record(Owner.of(os.getpid()), attempt, secrets.token_hex(8), now, now)


def _claim(attempt: int) -> str:
    return f"{CLAIMS}{attempt:06}.json"


def _last_claim(store: Store) -> int:
    """The highest number that was ever claimed: somebody may have deleted the record, but the numbers are gone."""
    return max((_number(entry.key) or 0 for entry in store.list(CLAIMS)), default=0)


def _number(key: str) -> int | None:
    """The attempt that is claimed by ``key``; None where it is no claim."""
    name = key.removeprefix(CLAIMS).removesuffix(".json")
    return int(name) if name.isdecimal() else None


def _read(store: Store, key: str = LEASE) -> _Record | None:
    try:
        text = store.read(key)
    except NotFound:
        return None
    try:
        tree = json.loads(text)
        owner = Owner(**tree["owner"]) if tree["owner"] is not None else None
        return _Record(owner, int(tree["attempt"]), tree["token"], float(tree["since"]), float(tree["renewed"]))
    except (ValueError, KeyError, TypeError):
        raise BadInput(f"{store.url}/{key} is damaged: delete it if nobody works on this run") from None
