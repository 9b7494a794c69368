"""The lease of a run: every way in which a second driver may meet a first."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from dataclasses import asdict

import pytest

from fcdd_dist.errors import BadInput, Conflict
from fcdd_dist.storage import FolderStore, MemoryStore
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
    assert "waiting" in said[0]
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


def test_of_many_at_once_one_wins(store, dead_process):
    plant(store, dead_process)
    winners, refused = [], []

    def rush():
        try:
            winners.append(acquire(store))
        except Conflict as conflict:
            refused.append(conflict)

    threads = [threading.Thread(target=rush) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(winners) == 1
    assert len(refused) == 5
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
