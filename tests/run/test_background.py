"""Storage beside the training: a store that is held, fails or is slow, wrapped around a folder, in this process.

Nothing here depends on how long anything takes: a write is held until the training has made so many steps beside it.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable

import pytest

from fcdd_dist import checkpoint
from fcdd_dist.data.order import Cursor
from fcdd_dist.errors import BadInput, Damaged, Fault, Interrupted, NonFiniteLoss
from fcdd_dist.run import Job, commit, prepare, rank, run_rank
from fcdd_dist.run.background import Background, Lookout
from fcdd_dist.storage import FolderStore, MemoryStore
from fcdd_dist.storage.counts import count
from fcdd_dist.training.curves import METRICS
from fcdd_dist.training.fit import State
from fcdd_dist.world import World

pytestmark = pytest.mark.slow
PATIENCE_S = 30


class Watched(FolderStore):
    """Tells ``hook`` of every read, write and removal before it: (verb, key below the run)."""

    def __init__(self, root, hook: Callable[[str, str], None], prefix: str = "") -> None:
        super().__init__(root)
        self._hook, self._prefix = hook, prefix

    def write(self, key, data):
        self._hook("write", self._prefix + key)
        super().write(key, data)

    def size(self, key):
        self._hook("look", self._prefix + key)
        return super().size(key)

    def at(self, prefix):
        return Watched(self.root / prefix, self._hook, f"{self._prefix}{prefix}/")


@pytest.fixture
def job(digits_data, digits_experiment, tmp_path):
    """A checkpoint is due at every step."""
    return Job(experiment=digits_experiment, data=digits_data, run=str(tmp_path / "run"), checkpoint_every_s=1e-6,
               keep=1000)


@pytest.fixture
def watch(monkeypatch):
    """``watch(hook)``: what training and commits do to the run's store is told to ``hook`` first."""

    def use(hook: Callable[[str, str], None]) -> None:
        monkeypatch.setattr(commit, "open_store", lambda url: Watched(url, hook))

    return use


class Hold:
    """A hook that holds the first write of a key that ends in ``key`` until ``steps`` steps were made beside it."""

    def __init__(self, key: str, steps: int, then: Exception | None = None) -> None:
        self._key, self._then, self._steps = key, then, threading.Semaphore(0)
        self._wanted, self._made = steps, 0
        self.held, self.writes = threading.Event(), []  # (thread, key)
        self._writing = threading.Lock()

    def __call__(self, verb: str, key: str) -> None:
        if verb != "write":
            return
        assert self._writing.acquire(blocking=False), "two writes at once"
        try:
            self.writes.append((threading.current_thread().name, key))
            if key.endswith(self._key) and not self.held.is_set():
                self.held.set()
                for _ in range(self._wanted):
                    assert self._steps.acquire(timeout=PATIENCE_S), "the training waits for an upload"
                if self._then is not None:
                    raise self._then
        finally:
            self._writing.release()

    def on_step(self, state) -> None:
        if not self.held.wait(PATIENCE_S):
            raise AssertionError("no upload began")
        self._steps.release()


def taken(run: str) -> list[str]:
    return checkpoint.names(FolderStore(run))


def test_training_goes_on_beside_an_upload_and_takes_no_other_meanwhile(job, watch):
    hold = Hold(checkpoint.OPTIMIZER, steps=10)
    watch(hold)
    result = run_rank(job, World(), on_step=hold.on_step)
    assert result["epochs"] == 2
    first, second, *_ = names = taken(job.run)
    assert first == "epoch-000000-step-000001"
    assert checkpoint.position(second) >= checkpoint.position("epoch-000001-step-000003")  # ten steps of eight an epoch
    assert names[-1] == "epoch-000002"
    written = [key for _, key in hold.writes if key.endswith(checkpoint.RECORD)]
    assert written == [f"checkpoints/{name}/{checkpoint.RECORD}" for name in names]  # each once, in this order
    assert {key for thread, key in hold.writes if thread != "upload"} == {METRICS}  # by restore, before the training


def test_what_was_trained_beside_uploads_is_what_is_trained_without(job, watch, tmp_path):
    alone = job.model_copy(update={"run": str(tmp_path / "alone"), "checkpoint_every_s": 3600.0})
    run_rank(alone, World())
    hold = Hold(checkpoint.RECORD, steps=5)
    watch(hold)
    run_rank(job, World(), on_step=hold.on_step)
    for name in (checkpoint.DETECTOR, checkpoint.OPTIMIZER):
        key = f"checkpoints/epoch-000002/{name}"
        assert FolderStore(job.run).read(key) == FolderStore(alone.run).read(key)
    for name in taken(job.run):  # also those that were written while the weights moved on
        record, _ = checkpoint.read(FolderStore(job.run).at(f"checkpoints/{name}"), checkpoint.DETECTOR)
        assert checkpoint.name_of(record.cursor) == name


def test_a_slow_last_upload_is_waited_for(job, watch):
    slow = []

    def hook(verb, key):
        if verb == "write" and key.startswith("checkpoints/epoch-000002/"):
            slow.append(key)
            time.sleep(0.2)

    watch(hook)
    run_rank(job, World())
    assert len(slow) == 3
    assert taken(job.run)[-1] == "epoch-000002"
    assert not [thread for thread in threading.enumerate() if thread.name == "upload"]


def test_epochs_end_while_an_upload_is_in_flight_and_no_line_is_lost(job, watch):
    hold = Hold(checkpoint.DETECTOR, steps=12)
    watch(hold)
    run_rank(job, World(), on_step=hold.on_step)
    lines = [json.loads(line) for line in FolderStore(job.run).read("metrics.jsonl").splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2]
    assert all(line["storage_requests"] == line["storage_retries"] == 0 for line in lines)  # of a folder


@pytest.mark.parametrize("error", [Fault("nothing worked for 120 s"), BadInput("may not write there"),
                                   ZeroDivisionError("a bug")])
def test_what_fails_beside_the_training_ends_it_as_it_is_and_the_older_checkpoint_stands(job, watch, error):
    run_rank(job, World())
    longer = job.model_copy(update={"experiment": job.experiment.model_copy(update={"epochs": 4})})
    before, steps = taken(job.run), []
    hold = Hold(checkpoint.RECORD, steps=3, then=error)
    watch(hold)

    def on_step(state):
        steps.append(state.cursor)
        hold.on_step(state)

    with pytest.raises(type(error)) as caught:
        run_rank(longer, World(), on_step=on_step)
    assert caught.value is error
    assert 3 <= len(steps) < 16
    assert taken(job.run) == before
    assert checkpoint.last(FolderStore(job.run), pytest.fail) == before[-1]


def test_a_failure_of_the_last_upload_is_told_too(job, watch):
    def refuse(verb, key):
        if verb == "write" and key.startswith("checkpoints/epoch-000002/"):
            raise Fault("down")

    watch(refuse)
    with pytest.raises(Fault, match="down"):
        run_rank(job, World())
    assert "result.json" not in [entry.key for entry in FolderStore(job.run).list()]


def test_a_training_that_fails_waits_for_its_upload(job, watch):
    hold, steps = Hold(checkpoint.OPTIMIZER, steps=3), []
    watch(hold)

    def fail(state):
        hold.on_step(state)
        steps.append(state)
        if len(steps) == 3:
            raise NonFiniteLoss("of a step")

    with pytest.raises(NonFiniteLoss, match="of a step"):
        run_rank(job, World(), on_step=fail)
    assert taken(job.run) == ["epoch-000000-step-000001"]


def test_where_both_fail_the_training_is_what_counts_and_the_other_is_said(job, watch):
    hold, said = Hold(checkpoint.OPTIMIZER, steps=1, then=Fault("down")), []
    watch(hold)

    def fail(state):
        hold.on_step(state)
        raise NonFiniteLoss("of a step")

    with pytest.raises(NonFiniteLoss, match="of a step"):
        run_rank(job, World(), say=said.append, on_step=fail)
    assert said[-1] == "the last upload failed, too: Fault: down"


def test_a_stop_that_is_asked_for_during_an_upload_commits_once_that_is_done(job, watch):
    hold = Hold(checkpoint.OPTIMIZER, steps=2)  # the stop comes with the second at the earliest
    watch(hold)
    longer = job.model_copy(update={"experiment": job.experiment.model_copy(update={"epochs": 1000})})

    def on_step(state):
        hold.on_step(state)
        if not FolderStore(job.run).root.joinpath("stop.json").exists():
            FolderStore(job.run).write("stop.json", b"{}")

    with pytest.raises(Interrupted, match="with a checkpoint committed") as caught:
        run_rank(longer, World(), on_step=on_step)
    epoch, step = re.search(r"after epoch (\d+) of 1000, step (\d+),", str(caught.value)).groups()
    assert checkpoint.position(taken(job.run)[-1]) == Cursor(int(epoch), int(step))
    assert checkpoint.last(FolderStore(job.run), pytest.fail) == taken(job.run)[-1]


def test_a_look_for_the_stop_that_fails_ends_the_training(job, watch):
    def refuse(verb, key):
        if verb == "look" and key == "stop.json":
            raise Fault("nothing worked for 120 s")

    watch(refuse)
    longer = job.model_copy(update={"experiment": job.experiment.model_copy(update={"epochs": 1000})})
    with pytest.raises(Fault, match="nothing worked"):
        run_rank(longer, World())


def test_a_run_that_was_taken_over_commits_nothing_more(job):
    take_over(job.run)
    with pytest.raises(Fault, match="another driver has taken over"):
        run_rank(job.model_copy(update={"attempt": 4}), World())
    assert taken(job.run) == []


def take_over(run: str) -> None:
    owner = {"host": "h", "boot": "b", "pid": 1, "started": "s"}
    FolderStore(run).write("lease.json", json.dumps(
        {"owner": owner, "attempt": 5, "token": "t", "since": 0, "renewed": 0}).encode())


@pytest.mark.parametrize("during", [checkpoint.DETECTOR, checkpoint.OPTIMIZER])
def test_a_run_that_is_taken_over_during_an_upload_gets_no_record(job, watch, during):
    """As after an outage, in which an upload hung and the lease ran out."""
    def hook(verb, key):
        if verb == "write" and key.endswith(during):
            take_over(job.run)

    watch(hook)
    with pytest.raises(Fault, match="another driver has taken over"):
        run_rank(job.model_copy(update={"attempt": 4}), World())
    assert taken(job.run) == []
    there = [entry.key.rpartition("/")[2] for entry in FolderStore(job.run).list("checkpoints/")]
    assert there == [checkpoint.DETECTOR, checkpoint.OPTIMIZER][:1 + (during == checkpoint.OPTIMIZER)]


def test_a_run_that_is_taken_over_during_a_commit_loses_no_checkpoints(job, watch):
    records = []

    def hook(verb, key):
        if verb == "write" and key.endswith(checkpoint.RECORD):
            records.append(key)
            if len(records) == 3:
                take_over(job.run)

    watch(hook)
    with pytest.raises(Fault, match="another driver has taken over"):
        run_rank(job.model_copy(update={"attempt": 4, "keep": 1}), World())
    assert len(taken(job.run)) == 2  # else it would be the third alone: no epoch has ended, so that none is the best


def test_a_run_that_is_taken_over_during_its_evaluation_gets_no_result(job, monkeypatch):
    def hook(verb, key):
        if verb == "write" and key.startswith("heatmaps/"):
            take_over(job.run)

    monkeypatch.setattr(rank, "open_store", lambda url: Watched(url, hook))
    with pytest.raises(Fault, match="another driver has taken over"):
        run_rank(job.model_copy(update={"attempt": 4}), World())
    there = [entry.key for entry in FolderStore(job.run).list()]
    assert "scores.csv" in there
    assert "result.json" not in there


def test_a_run_that_was_taken_over_is_not_tidied_by_who_starts_again(job):
    """Workers that crash and come back while another driver has the run."""
    run_rank(job, World())
    run = FolderStore(job.run)
    run.write(f"checkpoints/{taken(job.run)[-1]}/{checkpoint.DETECTOR}", b"being written by the other")
    before = taken(job.run)
    take_over(job.run)
    with pytest.raises(Fault, match="another driver has taken over"):
        run_rank(job.model_copy(update={"attempt": 4}), World())
    assert taken(job.run) == before


class Ranks:
    """Stands for the sum over two ranks: the first one tells, and the other hears it."""

    def __init__(self, monkeypatch) -> None:
        self._found = None
        monkeypatch.setattr(commit, "sum_over_ranks", self._sum)

    def _sum(self, mine, world, detector):
        if world.is_main:
            self._found = mine.clone()
        return mine + self._found if not world.is_main else mine


def restored(job, world, monkeypatch, damaged: str | None = None) -> State:
    """The state of a rank after its restore; it can't read the checkpoint ``damaged``."""
    from fcdd_dist.detector import Detector, build_network

    prepared = prepare(job)
    network, preprocessing = build_network(job.experiment), rank.measured_preprocessing(prepared)
    state = State.initial(network, job.experiment)
    commits = commit.Commits(prepared, world, Detector(job.experiment, network, preprocessing), rank.versions(),
                             lambda line: None, lambda state: None)
    with monkeypatch.context() as patched:
        patched.setattr(checkpoint, "read", reading(checkpoint.read, damaged))
        commits.restore(state)
    return state


def reading(read, damaged: str | None):
    def method(store, *wanted):
        if damaged and store.url.endswith(damaged):
            raise Damaged(f"{store.url} was damaged on the way")
        return read(store, *wanted)

    return method


def test_all_ranks_go_on_from_what_rank_0_finds(job, monkeypatch):
    Ranks(monkeypatch)
    assert [restored(job, World(each, 2), monkeypatch).cursor for each in (0, 1)] == [Cursor()] * 2
    run_rank(job, World())
    *_, second, newest = taken(job.run)
    restored(job, World(0, 2), monkeypatch)
    with pytest.raises(Damaged, match="on the way"):  # and not the second, which it can read
        restored(job, World(1, 2), monkeypatch, damaged=newest)
    assert restored(job, World(0, 2), monkeypatch, damaged=newest).cursor == checkpoint.position(second)
    FolderStore(job.run).write("checkpoints/epoch-000009/checkpoint.json", b"{}")  # what rank 1 alone would see
    assert restored(job, World(1, 2), monkeypatch).cursor == checkpoint.position(second)


def test_what_can_not_be_said_hides_no_error(job, watch):
    hold = Hold(checkpoint.OPTIMIZER, steps=1, then=Fault("down"))
    watch(hold)

    def say(line):
        raise Fault("the board is away, too")

    def fail(state):
        hold.on_step(state)
        raise NonFiniteLoss("of a step")

    with pytest.raises(NonFiniteLoss, match="of a step"):
        run_rank(job, World(), say=say, on_step=fail)


def test_requests_and_retries_stand_in_the_metrics_and_in_the_result(job, watch):
    """As if the folder counted what object stores count."""

    def counting(verb, key):
        count(requests=1, retries=verb == "write", bytes_written=10)

    watch(counting)
    result = run_rank(job, World())
    lines = [json.loads(line) for line in FolderStore(job.run).read("metrics.jsonl").splitlines()]
    assert sum(line["storage_retries"] for line in lines) > 0
    assert sum(line["storage_requests"] for line in lines) <= result["storage"]["requests"]
    assert result["storage"]["retries"] > 0
    assert result["storage"]["bytes_written"] == 10 * result["storage"]["requests"]
    assert result["storage"]["bytes_read"] == 0


def test_background_work_is_one_at_a_time_and_its_error_is_raised_once():
    release, background = threading.Event(), Background("test")
    background.start(lambda: release.wait(PATIENCE_S) and None)
    assert background.busy
    background.check()
    with pytest.raises(RuntimeError, match="busy"):
        background.start(print)
    release.set()
    background.wait()
    background.start(lambda: int("x"))
    with pytest.raises(ValueError):
        background.wait()
    background.wait()
    assert background.close() is None
    background.start(lambda: int("x"))
    assert isinstance(background.close(), ValueError)
    background.check()


def test_a_lookout_finds_what_comes_later():
    store = MemoryStore()
    store.look_every = 0.001
    lookout = Lookout(store, "stop.json")
    assert not lookout.found()
    store.write("stop.json", b"")
    deadline = time.monotonic() + PATIENCE_S
    while not lookout.found():
        assert time.monotonic() < deadline
        time.sleep(0.001)
    lookout.close()
