"""Who drives a run: ``lease.json`` in its folder, so that two drivers never write one run at once.

The owner renews the lease while it lives. An owner that is dead on this machine loses it at once. Any other is waited
for: either its time runs out, and the lease is taken over, or it is renewed, and the second driver is refused. What
counts is how long the record stays as it is by the clock of whoever waits: clocks of two machines are not compared.

Each owner in turn has a higher ``attempt``, also after a release; a commit of an older attempt is dropped, so that
workers that outlived their driver do no harm.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from ..errors import BadInput, Conflict, NotFound
from .stores import Store

LEASE = "lease.json"


@dataclass(frozen=True)
class Owner:
    """A process, named so that no other one in the world or in time is taken for it."""

    host: str
    boot: str  # of the kernel and of the space in which process ids count; empty where the system tells neither
    pid: int
    started: str  # as the system tells it; pids are used again

    @classmethod
    def of(cls, pid: int) -> Owner:
        return cls(socket.gethostname(), _boot(), pid, _started(pid) or "")

    def is_dead_here(self) -> bool:
        """Whether this machine is the owner's and the process is gone for certain."""
        here = Owner.of(os.getpid())
        return bool(self.boot) and (self.host, self.boot) == (here.host, here.boot) and _gone(self.pid, self.started)


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
                settle: float = 1.0, poll: float = 0.25) -> Lease:
        """Takes the lease of the run in ``store``, or waits for it up to ``good_for`` seconds.

        ``every``: seconds between renewals; ``settle``: between taking over and looking whether another did so too.
        Raises Conflict that names the holder where it is alive.
        """
        seen: _Record | None = None  # the holder that is waited for
        patience = 0.0
        while True:
            there = _read(store)
            if there is None:
                mine = _new(attempt=1)
                if store.create(LEASE, mine.to_json()):
                    return cls(store, mine, every, good_for)
                continue
            if there.owner is not None and not there.owner.is_dead_here():
                if seen is None or seen.token != there.token:
                    if seen is None:
                        say(f"{store.url} is held by {there.holder}: waiting up to {good_for:g} s for it to end")
                    seen, patience = there, time.monotonic() + good_for
                if there != seen:
                    raise Conflict(f"{store.url} is in use by {there.holder}: wait for it, stop it, or choose "
                                   f"another place")
                if time.monotonic() < patience:
                    time.sleep(poll)
                    continue
                say(f"{there.holder} has not renewed its lease for {good_for:g} s: taking over")
            mine = _new(there.attempt + 1)
            if _read(store) != there:
                continue
            store.write(LEASE, mine.to_json())
            time.sleep(settle)
            if _read(store) == mine:  # else another was faster, and is now waited for
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

        The record stays, since it counts the attempts, or goes with ``forget``, where nothing depends on them.
        """
        if self._end.is_set():
            return
        self._end.set()
        self._thread.join()
        if _read(self._store) != self._record:
            return
        if forget:
            self._store.delete(LEASE)
        else:
            self._store.write(LEASE, replace(self._record, owner=None).to_json())

    def __enter__(self) -> Lease:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.release()

    def _renew(self) -> None:
        renewed = time.monotonic()
        while not self._end.wait(self._every):
            try:
                there = _read(self._store)
                if there != self._record:
                    holder = there.holder if there and there.owner else "nobody"
                    self._lost = f"{self._store.url} was taken over by {holder} while this process did not answer"
                    return
                record = replace(self._record, renewed=time.time())
                self._store.write(LEASE, record.to_json())
                self._record, renewed = record, time.monotonic()
            except Exception as error:  # noqa: BLE001 - whatever a store raises: told by check once it matters
                if time.monotonic() - renewed > self._good_for:
                    self._lost = f"the lease on {self._store.url} could not be renewed: {error}"
                    return


def still_current(store: Store, attempt: int) -> bool:
    """Whether a commit of ``attempt`` counts: no later one has begun."""
    there = _read(store)
    return there is None or there.attempt <= attempt


def _new(attempt: int) -> _Record:
    now = time.time()
    return _Record(Owner.of(os.getpid()), attempt, secrets.token_hex(8), now, now)


def _read(store: Store) -> _Record | None:
    try:
        text = store.read(LEASE)
    except NotFound:
        return None
    try:
        tree = json.loads(text)
        owner = Owner(**tree["owner"]) if tree["owner"] is not None else None
        return _Record(owner, int(tree["attempt"]), tree["token"], float(tree["since"]), float(tree["renewed"]))
    except (ValueError, KeyError, TypeError):
        raise BadInput(f"{store.url}/{LEASE} is damaged: delete it if nobody works on this run") from None


def _boot() -> str:
    """The kernel's boot and the pid namespace: two containers may share a name and a kernel, but not pids."""
    try:
        return f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return socket.gethostname()  # no such thing here: a machine is its name


def _started(pid: int) -> str | None:
    """When a process began, in the system's own words; None where it is gone, or only waits to be buried."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()  # the name may hold anything
        return None if fields[0] in "ZX" else fields[19]
    except FileNotFoundError:
        if Path("/proc/self/stat").exists():
            return None
    told = subprocess.run(["ps", "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
    state, _, when = told.stdout.strip().partition(" ")
    return None if not state or state.startswith("Z") else when.strip()


def _gone(pid: int, started: str) -> bool:
    try:
        os.kill(pid, signal.SIG_DFL)  # 0: asks, and sends nothing
    except ProcessLookupError:
        return True
    except PermissionError:
        return False  # alive, and another user's
    return _started(pid) != started
