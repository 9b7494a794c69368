"""Training on object storage that fails in every way: the samples, the weights and the metrics stay the same.

Bare processes and this one, without Ray; the undisturbed run reads and writes folders. Shards are streamed.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import threading

import pytest

from fcdd_dist import checkpoint
from fcdd_dist.errors import Damaged, Fault
from fcdd_dist.run import Job, run_rank
from fcdd_dist.storage import FolderStore, counts, open_store
from fcdd_dist.world import World
from tests.support import ranks
from tests.support.proxy import Rule

pytestmark = [pytest.mark.s3, pytest.mark.slow]
EPOCHS = 3
WEATHER = {"seconds", "images_per_s", "input_wait_s", "storage_requests", "storage_retries"}


@pytest.fixture(autouse=True)
def patience(monkeypatch):
    monkeypatch.setenv("FCDD_S3_TIMEOUT_S", "1")
    monkeypatch.setenv("FCDD_S3_RETRY_S", "30")


@pytest.fixture(scope="module")
def undisturbed(digits_data, digits_experiment, tmp_path_factory):
    run = str(tmp_path_factory.mktemp("undisturbed") / "run")
    job = Job(experiment=digits_experiment.model_copy(update={"epochs": EPOCHS}), data=digits_data, run=run, threads=1)
    ranks.train(job, 1)
    return FolderStore(run)


@pytest.fixture
def job(bucket, digits_data, digits_experiment):
    """On a bucket that holds the same data set."""
    target = open_store(f"{bucket.url}/data")
    source = FolderStore(digits_data)
    for entry in source.list():
        target.write(entry.key, source.read(entry.key))
    return Job(experiment=digits_experiment.model_copy(update={"epochs": EPOCHS}), data=target.url,
               run=f"{bucket.url}/runs/one", checkpoint_every_s=0.001, keep=1000, budget_bytes=0, threads=1)


def weights(run):
    name = checkpoint.names(run)[-1]
    _, tensors = checkpoint.read(run.at(f"checkpoints/{name}"), checkpoint.DETECTOR, checkpoint.OPTIMIZER)
    return {f"{file}:{key}": value for file, content in tensors.items() for key, value in content.items()}


def metrics(run):
    return [json.loads(line) for line in run.read("metrics.jsonl").splitlines()]


def assert_equal_runs(job, other):
    run = open_store(job.run)
    ours, theirs = weights(run), weights(other)
    assert ours.keys() == theirs.keys()
    assert not [key for key in ours if not (ours[key] == theirs[key]).all()]
    plain = [[{key: value for key, value in line.items() if key not in WEATHER} for line in metrics(store)]
             for store in (run, other)]
    assert plain[0] == plain[1]
    assert run.read("scores.csv") == other.read("scores.csv")


def test_bad_weather_changes_nothing_and_is_counted(job, undisturbed, faulty):
    faulty.add(Rule(method="GET", path=r"train/.*\.tar", reset_at=40_000))
    faulty.add(Rule(method="GET", path=r"train/.*\.tar", cut_at=30_000))
    faulty.add(Rule(method="GET", path=r"exposure/.*\.tar", lie_at=50_000))
    faulty.add(Rule(method="GET", path=r"exposure/.*\.tar", stall_at=20_000, stall=30.0))
    faulty.add(Rule(method="GET", path=r"holdout/.*\.tar", flip_at=2_000))
    faulty.add(Rule(method="GET", path=r"test/.*\.tar", times=4, status=503, code="SlowDown"))
    faulty.add(Rule(method="PUT", path=r"detector\.safetensors", skip=1, upload_reset_at=1_000))
    faulty.add(Rule(method="PUT", path=r"optimizer\.safetensors", skip=1, drop_response=True))
    faulty.add(Rule(method="PUT", path=r"checkpoint\.json", skip=1, times=3, status=500, code="InternalError"))
    faulty.add(Rule(method="PUT", path=r"metrics\.jsonl", times=2, status=503, code="SlowDown"))
    before = counts()
    result = run_rank(job, World())
    assert_equal_runs(job, undisturbed)
    retries = (counts() - before).retries
    assert retries >= 15
    assert result["storage"]["retries"] == retries
    assert 0 < sum(line["storage_retries"] for line in metrics(open_store(job.run))) <= retries


@pytest.mark.parametrize("place", ["in mid-epoch", "in mid-upload"])
def test_the_server_is_killed_and_comes_back(job, undisturbed, faulty, bucket, place):
    starts: list[threading.Timer] = []

    def strike(_=None) -> None:
        if not starts:
            bucket.server.kill()
            starts.append(threading.Timer(0.5, bucket.server.start))
            starts[0].start()

    if place == "in mid-upload":
        faulty.add(Rule(method="PUT", path=r"optimizer\.safetensors", skip=2, call=strike))
    steps = []

    def on_step(state) -> None:
        steps.append(state.cursor)
        if place == "in mid-epoch" and (state.cursor.epoch, state.cursor.step) == (1, 4):
            strike()

    run_rank(job, World(), on_step=on_step)
    starts[0].join()
    assert_equal_runs(job, undisturbed)


@pytest.mark.parametrize(("place", "when"), [
    ("checkpoint.json", "before"), ("detector.safetensors", "amid")])
def test_a_driver_killed_between_data_and_record(job, undisturbed, place, when):
    with pytest.raises(ranks.RanksDied, match="-9"):
        ranks.train(job, 1, {"rank": 0, "write": place, "times": 3, "when": when})
    run = open_store(job.run)
    assert len(checkpoint.names(run)) in (2, 3)
    for name in checkpoint.names(run):  # old or new, never something between
        checkpoint.read(run.at(f"checkpoints/{name}"), checkpoint.DETECTOR, checkpoint.OPTIMIZER)
    ranks.train(job, 1)
    assert_equal_runs(job, undisturbed)


def test_a_worker_killed_while_its_upload_is_on_the_wire(job, undisturbed, faulty):
    """By the proxy, when the request that carries a checkpoint's file has begun, and is not done."""
    pids = []

    def strike(_request) -> None:
        (pid,) = [rank.pid for rank in multiprocessing.active_children()]
        pids.append(pid)
        os.kill(pid, signal.SIGKILL)

    faulty.add(Rule(method="PUT", path=r"optimizer\.safetensors", skip=2, call=strike))
    with pytest.raises(ranks.RanksDied, match="-9"):
        ranks.train(job, 1)
    assert len(pids) == 1
    ranks.train(job, 1)
    assert_equal_runs(job, undisturbed)


def test_two_workers_from_a_bucket_are_two_from_a_folder(job, digits_data, tmp_path, faulty):
    faulty.add(Rule(method="GET", path=r"\.tar", times=None, skip=3, delay=0.05))
    faulty.add(Rule(method="GET", path=r"exposure/.*\.tar", times=2, status=503, code="SlowDown"))
    ranks.train(job, 2)
    other = job.model_copy(update={"data": digits_data, "run": str(tmp_path / "run")})
    ranks.train(other, 2)
    assert_equal_runs(job, FolderStore(other.run))


def test_what_lasts_too_long_ends_in_one_line_and_goes_on_later(job, undisturbed, faulty, monkeypatch):
    monkeypatch.setenv("FCDD_S3_RETRY_S", "1")
    rule = faulty.add(Rule(method="PUT", path=r"detector\.safetensors", skip=2, times=None, status=503))
    with pytest.raises(Fault, match=r"s3://.*detector\.safetensors: nothing worked for .*SlowDown.*goes on once it"):
        run_rank(job, World())
    rule.times = 0
    run_rank(job, World())
    assert_equal_runs(job, undisturbed)


def test_a_shard_that_is_damaged_for_good_is_an_error_with_its_name(job, faulty):
    faulty.add(Rule(method="GET", path=r"data/train/0/000000\.tar", times=None, flip_at=900))
    with pytest.raises(Damaged, match=r"s3://.*/data/train/0/000000\.tar has other bytes"):
        run_rank(job, World())


def test_a_cache_serves_the_second_run_and_is_repaired(job, undisturbed, tmp_path, faulty):
    folder = tmp_path / "cache"
    first, second, third = (job.model_copy(update={
        "cache": str(folder), "run": f"{job.run}-{number}", "cache_bytes": size})
        for number, size in enumerate((10**8, 10**8, 200_000)))
    asked = []
    for each in (first, second, third):
        run_rank(each, World())
        assert_equal_runs(each, undisturbed)
        asked.append(len(faulty.requests("GET", r"\.tar")) - sum(asked))
        for path in sorted(folder.glob("??/*"))[:2]:
            path.write_bytes(b"damaged")
    assert asked[1] <= 3 < asked[0]  # at most those that were damaged and one that two threads fetched
    assert sum(path.stat().st_size for path in folder.glob("??/*")) <= 200_000
