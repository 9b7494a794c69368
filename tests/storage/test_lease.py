"""The lease of a run: every way in which a second driver may meet a first."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import threading
import time
from dataclasses import asdict

import pytest

from fcdd_dist.errors import BadInput, Conflict
from fcdd_dist.storage import FolderStore, MemoryStore, open_store
from fcdd_dist.storage.lease import LEASE, Lease, Owner, still_current

FAST = {"every": 0.05, "good_for": 0.4, "settle": 0.02, "poll": 0.01}


def acquire(store, said=None):
    return Lease.acquire(store, say=(said if said is not None else []).append, **FAST)


def record(store) -> dict:
    return json.loads(store.read(LEASE))


def plant(store, owner: Owner | None, attempt=3):
    """A lease as another driver left it."""
    store.write(LEASE, json.dumps({"schema_version": 1, "owner": owner and asdict(owner), "attempt": attempt,
                                   "token": "other", "since": 0.0, "renewed": 0.0}).encode())


def claim_of(owner: Owner, attempt: int) -> bytes:
    return json.dumps({"schema_version": 1, "owner": asdict(owner), "attempt": attempt, "token": f"of {attempt}",
                       "since": 0.0, "renewed": 0.0}).encode()


@pytest.fixture(params=["folder", "memory"])
def store(request, tmp_path):
    return FolderStore(tmp_path / "run") if request.param == "folder" else MemoryStore()


@pytest.fixture
def dead_process():
    """The pid and the owner of a process that has ended."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        return Owner.of(process.pid)


def elsewhere() -> Owner:
    return Owner(host="far-away", boot="b", pid=7, started="1")


def test_the_first_owner_is_recorded_and_renewed(store):
    with acquire(store) as lease:
        first = record(store)
        assert lease.attempt == first["attempt"] == 1
        assert first["owner"]["pid"] == os.getpid()
        deadline = time.monotonic() + 10
        while record(store)["renewed"] == first["renewed"]:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        lease.check()
    assert record(store)["owner"] is None


def test_attempts_grow_over_releases(store):
    for attempt in (1, 2, 3):
        with acquire(store) as lease:
            assert lease.attempt == attempt


def test_a_dead_owner_loses_it_at_once(store, dead_process):
    plant(store, dead_process)
    said = []
    with acquire(store, said) as lease:
        assert lease.attempt == 4
    assert said == []


def test_a_used_pid_is_not_the_same_process(store):
    here = Owner.of(os.getpid())
    plant(store, Owner(here.host, here.boot, here.pid, "long ago"))
    said = []
    with acquire(store, said) as lease:
        assert lease.attempt == 4
    assert said == []


def test_a_silent_owner_elsewhere_is_waited_for_and_replaced(store):
    plant(store, elsewhere())
    said = []
    began = time.monotonic()
    with acquire(store, said) as lease:
        assert time.monotonic() - began >= FAST["good_for"]
        assert lease.attempt == 4
    assert "process 7 on far-away since 1970-01-01" in said[0]
    assert "waiting up to 0.4 s to see whether that process is alive" in said[0]
    assert "taking over" in said[1]


def test_an_owner_that_renews_is_named(store):
    with acquire(store):
        said = []
        with pytest.raises(Conflict, match=rf"in use by process {os.getpid()} on .* since "):
            acquire(store, said)
        assert len(said) == 1


def test_an_owner_that_lets_go_is_followed(store):
    lease = Lease.acquire(store, say=[].append, every=60)
    timer = threading.Timer(0.1, lease.release)
    timer.start()
    with Lease.acquire(store, say=[].append, every=60, settle=0.02, poll=0.01) as second:
        assert second.attempt == lease.attempt + 1
    timer.join()


class SlowMemory(MemoryStore):
    """Before and after each write passes a time of its own, up to ``slowness`` seconds."""

    slowness = 0.0

    def write(self, key, data):
        time.sleep(random.random() * self.slowness)
        super().write(key, data)
        time.sleep(random.random() * self.slowness)

    def create(self, key, data):
        time.sleep(random.random() * self.slowness)
        created = super().create(key, data)
        time.sleep(random.random() * self.slowness)
        return created


def race(stores, **times) -> tuple[list[Lease], list[Conflict]]:
    """One contender a store, all at once."""
    winners, refused, broken = [], [], []
    barrier = threading.Barrier(len(stores))

    def rush(store):
        barrier.wait()
        try:
            winners.append(Lease.acquire(store, say=[].append, **{**FAST, **times}))
        except Conflict as conflict:
            refused.append(conflict)
        except Exception as error:
            broken.append(error)
            raise

    threads = [threading.Thread(target=rush, args=(store,)) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not broken
    return winners, refused


@pytest.mark.parametrize("contenders", [2, 8])
def test_of_many_at_once_one_wins(store, dead_process, contenders):
    plant(store, dead_process)
    winners, refused = race([store] * contenders)
    assert len(winners) == 1
    assert len(refused) == contenders - 1
    assert winners[0].attempt == 4
    winners[0].release()


@pytest.mark.parametrize("contenders", [2, 8])
def test_of_many_who_are_the_first_one_wins(store, contenders):
    winners, refused = race([store] * contenders)
    assert [lease.attempt for lease in winners] == [1]
    assert len(refused) == contenders - 1
    winners[0].release()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_slow_writes_make_no_second_owner(dead_process, seed):
    """Each write takes many times as long as the time to settle, and a renewal is still in time."""
    random.seed(seed)
    store = SlowMemory()
    plant(store, dead_process)
    store.slowness = 0.2
    winners, refused = race([store] * 6, good_for=1.0)
    assert [lease.attempt for lease in winners] == [4]
    assert len(refused) == 5
    store.slowness = 0.0
    winners[0].release()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_writes_slower_than_a_lease_is_good_for_never_share_an_attempt(dead_process, seed):
    """Then owners do come one after the other, each taking the one before for dead; but no two are one attempt."""
    random.seed(seed)
    store = SlowMemory()
    plant(store, dead_process)
    store.slowness = 0.2
    winners, _ = race([store] * 4, good_for=0.1)
    attempts = [lease.attempt for lease in winners]
    assert len(set(attempts)) == len(attempts)
    store.slowness = 0.0
    time.sleep(0.2 + 2 * 0.2 + 4 * FAST["every"])  # each has renewed, or learnt that it can't
    assert [lease.attempt for lease in winners if not lease._lost] in ([], [max(attempts, default=0)])
    for lease in winners:
        lease.release()


def test_a_winner_that_dies_before_it_writes_is_waited_for_and_passed_over(store, dead_process):
    plant(store, dead_process)
    store.create("lease/000004.json", claim_of(elsewhere(), 4))
    began, said = time.monotonic(), []
    with acquire(store, said) as lease:
        assert time.monotonic() - began >= FAST["good_for"]
        assert lease.attempt == 5
    assert "was about to take over" in said[0]


def test_a_winner_that_died_on_this_machine_is_passed_over_at_once(store, dead_process):
    plant(store, None)
    store.create("lease/000004.json", claim_of(dead_process, 4))
    said = []
    with Lease.acquire(store, say=said.append, good_for=600, settle=0.02) as lease:
        assert lease.attempt == 5
    assert said == []


def test_a_winner_that_is_late_steps_back(store, dead_process, monkeypatch):
    """It has claimed a number, sleeps, and another takes it for dead: its own late write changes nothing."""
    plant(store, dead_process)
    sleeps, awake = threading.Event(), threading.Event()
    write, late = store.write, []

    def held_up(key, data):
        if threading.current_thread().name == "late":
            sleeps.set()
            assert awake.wait(20)
        write(key, data)

    def contend():
        try:
            late.append(acquire(store))
        except Conflict as conflict:
            late.append(str(conflict))

    monkeypatch.setattr(store, "write", held_up)
    thread = threading.Thread(target=contend, name="late")
    thread.start()
    assert sleeps.wait(20)
    with acquire(store) as lease:
        assert lease.attempt == 5
        awake.set()
        thread.join()
        assert "in use by" in late[0]
        until = time.monotonic() + 10
        while record(store)["attempt"] != 5:
            assert time.monotonic() < until
            time.sleep(0.01)
        lease.check()
        assert lease.held()


@pytest.mark.slow
def test_an_owner_that_answers_at_the_last_moment_stays(store, monkeypatch):
    """Between the end of our patience and our claim it renews: the claim is not used."""
    plant(store, elsewhere())
    create, said = store.create, []

    def slow(key, data):
        if key == "lease/000004.json":
            renewed = json.loads(store.read(LEASE)) | {"renewed": 1.0}
            store.write(LEASE, json.dumps(renewed).encode())
        return create(key, data)

    monkeypatch.setattr(store, "create", slow)
    began = time.monotonic()
    with acquire(store, said) as lease:  # since it has not renewed again
        assert time.monotonic() - began >= 2 * FAST["good_for"]
        assert lease.attempt == 5
    assert sum("waiting" in line for line in said) == 2


def test_a_claimed_number_is_never_claimed_again(store):
    for _ in range(3):
        acquire(store).release()
    assert [entry.key for entry in store.list("lease/")] == ["lease/000002.json", "lease/000003.json"]
    store.delete(LEASE)  # as we tell people to do where it is damaged
    with acquire(store) as lease:
        assert lease.attempt == 4


def test_a_forgotten_lease_leaves_nothing(store, dead_process):
    plant(store, dead_process)
    acquire(store).release(forget=True)
    assert list(store.list()) == []


def test_a_renewal_whose_answer_was_lost_loses_nothing(store, monkeypatch):
    lease = acquire(store)
    write, writes = store.write, []

    def lossy(key, data):
        write(key, data)
        writes.append(key)
        if len(writes) <= 3:
            raise OSError("the answer was lost")

    monkeypatch.setattr(store, "write", lossy)
    until = time.monotonic() + 10
    while len(writes) < 6:
        lease.check()
        assert time.monotonic() < until
        time.sleep(0.01)
    lease.check()
    lease.release()
    assert record(store)["owner"] is None


@pytest.mark.slow
@pytest.mark.parametrize("taken", [False, True])
def test_a_renewal_that_hangs_keeps_the_lease_unless_another_came(store, monkeypatch, taken):
    """As in an outage: the write is tried again and again for longer than the lease is good for."""
    lease = acquire(store)
    hangs, back, write = threading.Event(), threading.Event(), store.write

    def hang(key, data):
        if threading.current_thread().name == "lease" and not back.is_set():
            hangs.set()
            assert back.wait(20)
        write(key, data)

    monkeypatch.setattr(store, "write", hang)
    assert hangs.wait(20)
    if taken:
        store.create("lease/000002.json", claim_of(elsewhere(), 2))
        plant(store, elsewhere(), attempt=2)
    time.sleep(1.2 * FAST["good_for"])
    back.set()
    if taken:
        lease._thread.join(10)
        with pytest.raises(Conflict, match="taken over by process 7 on far-away"):
            lease.check()
    else:
        time.sleep(4 * FAST["every"])
        lease.check()
        assert lease.held()
    lease.release()


class Outage:
    """Holds every read and write of a store while it lasts, as one that tries again and again does."""

    def __init__(self, store, monkeypatch) -> None:
        self._up = threading.Event()
        self._up.set()
        self.held: set[str] = set()  # names of threads
        for verb in ("read", "write", "create"):
            monkeypatch.setattr(store, verb, self._holding(getattr(store, verb)))

    def _holding(self, method):
        def held(*arguments):
            if not self._up.is_set():
                self.held.add(threading.current_thread().name)
                assert self._up.wait(20)
            return method(*arguments)

        return held

    def lasts(self, seconds: float) -> None:
        """From when the owner and the one who waits for it, already for some time, have run into it."""
        time.sleep(0.15)
        self._up.clear()
        until = time.monotonic() + 10
        while not self.held >= {"lease", "waiter"}:
            assert time.monotonic() < until
            time.sleep(0.01)
        time.sleep(seconds)
        self._up.set()


def contend_in_a_thread(store, **times):
    """(the thread, what becomes of it: a lease or the refusal)."""
    came = []

    def contend():
        try:
            came.append(Lease.acquire(store, say=[].append, **{**FAST, **times}))
        except Conflict as conflict:
            came.append(str(conflict))

    thread = threading.Thread(target=contend, name="waiter")
    thread.start()
    return thread, came


@pytest.mark.slow
def test_an_outage_for_both_takes_the_lease_from_nobody(store, monkeypatch):
    """The owner answers only some time after the store is back: later than one look of whoever waits."""
    outage = Outage(store, monkeypatch)
    lease = Lease.acquire(store, say=[].append, **{**FAST, "every": 0.2})
    thread, came = contend_in_a_thread(store, good_for=0.8)
    renew = store.write

    def late(key, data):
        if threading.current_thread().name == "lease":
            time.sleep(0.3)
        renew(key, data)

    monkeypatch.setattr(store, "write", late)
    outage.lasts(1.5 * 0.8)
    thread.join(10)
    assert "in use by" in came[0]
    assert lease.held()
    lease.check()
    lease.release()


@pytest.mark.slow
def test_an_outage_while_a_claim_is_waited_for_does_not_count(store, monkeypatch):
    plant(store, None)
    store.create("lease/000004.json", claim_of(elsewhere(), 4))
    outage = Outage(store, monkeypatch)
    outage.held.add("lease")  # who has claimed is not of this process
    thread, came = contend_in_a_thread(store, good_for=0.8)
    outage.lasts(1.5 * 0.8)
    time.sleep(0.4)
    plant(store, elsewhere(), attempt=4)  # it was alive, and held up as well
    time.sleep(0.1)
    plant(store, elsewhere(), attempt=5)  # and renews
    thread.join(10)
    assert "in use by process 7" in came[0]


@pytest.mark.slow
def test_after_an_outage_a_dead_owner_is_still_replaced(store, monkeypatch):
    plant(store, elsewhere())
    outage = Outage(store, monkeypatch)
    outage.held.add("lease")
    thread, came = contend_in_a_thread(store)
    outage.lasts(1.5 * FAST["good_for"])
    thread.join(10)
    assert came[0].attempt == 4
    came[0].release()


@pytest.mark.s3
def test_on_a_real_server_one_of_eight_wins(bucket):
    stores = [open_store(f"{bucket.url}/runs/one") for _ in range(8)]
    for attempt in (1, 4):
        if attempt == 4:
            plant(stores[0], None)
        winners, refused = race(stores, good_for=3.0, every=0.2, settle=0.1)
        assert [lease.attempt for lease in winners] == [attempt]
        assert len(refused) == 7
        winners[0].release()


def test_who_lost_it_learns_so_and_leaves_it_alone(store):
    lease = acquire(store)
    plant(store, elsewhere(), attempt=2)
    lease._thread.join(10)
    with pytest.raises(Conflict, match="taken over by process 7 on far-away"):
        lease.check()
    lease.release()
    assert record(store)["token"] == "other"


def test_a_store_that_fails_for_long_loses_it(store, monkeypatch):
    lease = acquire(store)

    def fail(*_arguments):
        raise OSError("no space left")

    monkeypatch.setattr(store, "write", fail)
    lease._thread.join(10)
    with pytest.raises(Conflict, match="could not be renewed: no space left"):
        lease.check()
    monkeypatch.undo()
    lease.release()


def test_commits_of_older_attempts_do_not_count(store):
    assert still_current(store, 1)  # no lease at all: a run without a driver
    plant(store, elsewhere(), attempt=3)
    assert still_current(store, 3)
    assert not still_current(store, 2)


def test_a_damaged_record_is_named(store):
    store.write(LEASE, b"{}")
    with pytest.raises(BadInput, match=r"lease\.json is damaged"):
        acquire(store)


def test_another_process_is_alive_until_it_is_not(tmp_path):
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        owner = Owner.of(process.pid)
        assert not owner.is_dead_here()
        process.kill()
        deadline = time.monotonic() + 10
        while not owner.is_dead_here():  # also while its parent has not yet asked for its end
            assert time.monotonic() < deadline
            time.sleep(0.01)
