"""Killed anywhere and run again: the same weights bit for bit, the same metrics but for times.

Runs in bare processes under gloo, without Ray. Faults are at named places; see ``tests.support.ranks``.
"""

import json

import pytest

from fcdd_dist import checkpoint
from fcdd_dist.errors import Conflict
from fcdd_dist.run import Job, check, claim, prepare
from fcdd_dist.storage import FolderStore
from tests.support.ranks import RanksDied, train

pytestmark = pytest.mark.slow
EPOCHS = 3
WEATHER = {"seconds", "images_per_s", "input_wait_s", "storage_requests", "storage_retries"}


@pytest.fixture(scope="module")
def undisturbed(digits_data, digits_experiment, tmp_path_factory):
    """(job maker, {workers: run folder}) of runs that nothing happened to, made when they are first asked for."""
    root, runs = tmp_path_factory.mktemp("runs"), {}

    def job(name, **changes):
        return Job(experiment=digits_experiment.model_copy(update={"epochs": EPOCHS}), data=digits_data,
                   run=str(root / name), checkpoint_every_s=0.001, keep=1000).model_copy(update=changes)

    def of(workers):
        if workers not in runs:
            this = job(f"undisturbed-{workers}", checkpoint_every_s=3600.0)
            train(this, workers)
            runs[workers] = FolderStore(this.run)
        return runs[workers]

    return job, of


def weights(run):
    name = checkpoint.names(run)[-1]
    _, tensors = checkpoint.read(run.at(f"checkpoints/{name}"), checkpoint.DETECTOR, checkpoint.OPTIMIZER)
    return {f"{file}:{key}": value for file, content in tensors.items() for key, value in content.items()}


def metrics(run):
    lines = [json.loads(line) for line in run.read("metrics.jsonl").splitlines()]
    return [{key: value for key, value in line.items() if key not in WEATHER} for line in lines]


def assert_equal_runs(run, other):
    ours, theirs = weights(run), weights(other)
    assert ours.keys() == theirs.keys()
    assert not [key for key in ours if not (ours[key] == theirs[key]).all()]
    assert metrics(run) == metrics(other)
    assert run.read("scores.csv") == other.read("scores.csv")


def killed_and_resumed(job, workers, fault):
    with pytest.raises(RanksDied, match="-9"):
        train(job, workers, fault)
    assert "result.json" not in [entry.key for entry in FolderStore(job.run).list()]
    train(job, workers)
    return FolderStore(job.run)


@pytest.mark.parametrize(("workers", "rank"), [(1, 0), (2, 1), (3, 0)])
def test_a_worker_killed_in_mid_epoch(undisturbed, workers, rank):
    job, of = undisturbed
    run = killed_and_resumed(job(f"mid-epoch-{workers}"), workers, {"rank": rank, "at": [1, 4]})
    assert_equal_runs(run, of(workers))


@pytest.mark.parametrize(("place", "times", "when"), [
    ("optimizer.safetensors", 5, "before"),  # the net's weights are there, the optimizer's are not
    ("checkpoint.json", 5, "before"),  # all data, no record
    ("checkpoint.json", 5, "after"),  # committed, older ones not yet removed
    ("metrics.jsonl", 3, "after"),  # metrics of a later state than the checkpoint
    ("optimizer.safetensors", 2, "amid"),  # and the training is further than any checkpoint
    ("checkpoint.json", 2, "amid"),
    ("tfevents.0000000000.run", 2, "amid"),  # committed, but the uploader is not done
    ("scores.csv", 1, "after"),  # trained, not yet evaluated
])
def test_killed_around_a_commit(undisturbed, place, times, when):
    job, of = undisturbed
    name = f"commit-{place}-{when}"
    run = killed_and_resumed(job(name, keep=1), 1, {"rank": 0, "write": place, "times": times, "when": when})
    assert_equal_runs(run, of(1))
    assert len(checkpoint.names(run)) <= 2  # the newest and the best


def test_resuming_twice_and_from_an_older_checkpoint(undisturbed):
    job, of = undisturbed
    this = job("twice")
    for at in ([0, 2], [2, 1]):
        with pytest.raises(RanksDied, match="-9"):
            train(this, 1, {"rank": 0, "at": at})
    run = FolderStore(this.run)
    newest = checkpoint.names(run)[-1]
    run.write(f"checkpoints/{newest}/detector.safetensors", b"altered")
    train(this, 1)
    assert_equal_runs(run, of(1))


def test_fewer_epochs_than_a_run_has_are_refused_and_change_nothing(undisturbed):
    job, _ = undisturbed
    this = job("fewer")
    claim(prepare(this))
    with pytest.raises(RanksDied, match="-9"):
        train(this, 1, {"rank": 0, "at": [2, 3]})
    less = this.model_copy(update={"experiment": this.experiment.model_copy(update={"epochs": 1})})
    with pytest.raises(Conflict, match="is in epoch 3, beyond the 1 epochs that are asked for"):
        check(prepare(less))
    train(this, 1)
    assert prepare(less).done
    claim(prepare(less))
    assert json.loads(FolderStore(this.run).read("experiment.json"))["experiment"]["epochs"] == EPOCHS


def test_three_epochs_then_six_are_six(undisturbed):
    job, _ = undisturbed
    short, long = job("longer"), job("six")
    six = short.experiment.model_copy(update={"epochs": 6})
    claim(prepare(short))
    train(short, 1)
    claim(prepare(short.model_copy(update={"experiment": six})))
    first = json.loads(FolderStore(short.run).read("result.json"))
    assert first["epochs"] == 3
    assert prepare(short).done
    assert not prepare(short.model_copy(update={"experiment": six})).done
    train(short.model_copy(update={"experiment": six}), 1)
    train(long.model_copy(update={"experiment": six}), 1)
    assert_equal_runs(FolderStore(short.run), FolderStore(long.run))


def test_a_request_to_stop_commits_and_the_run_goes_on(undisturbed):
    job, of = undisturbed
    this = job("stop", checkpoint_every_s=3600.0)
    run = FolderStore(this.run)
    run.write("stop.json", b"{}")
    with pytest.raises(RanksDied, match=r"stopped after epoch .* with a checkpoint committed"):
        train(this, 2)
    assert len(checkpoint.names(run)) == 1
    run.delete("stop.json")
    train(this, 2)
    assert_equal_runs(run, of(2))


def test_another_experiment_in_the_folder_is_refused_with_the_differences(undisturbed):
    job, _ = undisturbed
    this = job("claimed")
    claim(prepare(this))
    claim(prepare(this))  # the same again is no conflict
    other = this.model_copy(update={"experiment": this.experiment.override(["optimizer.lr=0.5", "seed=4"])})
    with pytest.raises(Conflict, match=r"optimizer.lr: 0.01 -> 0.5; seed: 0 -> 4.*another --name"):
        claim(prepare(other))


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_epoch(undisturbed):
    job, _ = undisturbed
    this = job("diverged")
    hot = this.experiment.override(["optimizer.lr=1e30"])
    with pytest.raises(RanksDied, match=r"NonFiniteLoss: the (loss of|net gives values that are .*) epoch 1"):
        train(this.model_copy(update={"experiment": hot}), 1)
