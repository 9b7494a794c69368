"""The number of workers is no part of the result."""

import csv
import io
import json

import numpy as np
import pytest
import torch

from fcdd_dist.data.order import Cursor
from fcdd_dist.detector import Detector
from fcdd_dist.run import Job, prepare
from fcdd_dist.run.rank import measured_preprocessing, open_stream
from fcdd_dist.storage import FolderStore
from fcdd_dist.world import World
from tests.support.ranks import train


def streams(job, size):
    prepared = prepare(job)
    for rank in range(size):
        yield open_stream(prepared, measured_preprocessing(prepared), World(rank, size), torch.device("cpu"))


def batches(job, size, start=Cursor(0, 0), epochs=2):  # noqa: B008  (frozen)
    """The global batches of a world, put together from its ranks' parts."""
    parts = [list(stream.batches(start, epochs)) for stream in streams(job, size)]
    for steps in zip(*parts, strict=True):
        assert len({cursor for cursor, _ in steps}) == 1
        yield (steps[0][0], torch.cat([batch.images for _, batch in steps]),
               torch.cat([batch.labels for _, batch in steps]))


def assert_equal_batches(ours, theirs):
    for (cursor, images, labels), (other, images2, labels2) in zip(ours, theirs, strict=True):
        assert cursor == other
        assert torch.equal(labels, labels2)
        assert torch.equal(images, images2)


@pytest.fixture(scope="module")
def job(digits_data, digits_experiment, tmp_path_factory):
    return Job(experiment=digits_experiment, data=digits_data, run=str(tmp_path_factory.mktemp("batches") / "run"))


@pytest.fixture(scope="module")
def whole(job):
    """All batches of a world of one, whose split is resident."""
    return list(batches(job, 1))


@pytest.mark.parametrize("size", [2, 3, 4, 5])
def test_global_batches_are_identical(job, whole, size):
    assert_equal_batches(batches(job, size), whole)


def test_resident_and_streamed_give_the_same_batches(job, whole):
    streamed = job.model_copy(update={"budget_bytes": 0})
    assert_equal_batches(batches(streamed, 1), whole)
    assert_equal_batches(batches(streamed, 3), whole)


def test_a_stream_can_begin_anywhere(job, whole):
    for index in (1, 5, len(whole) - 1):
        cursor = whole[index][0]
        assert_equal_batches(batches(job, 1, cursor), whole[index:])
        assert_equal_batches(batches(job.model_copy(update={"budget_bytes": 0}), 2, cursor), whole[index:])


@pytest.fixture(scope="module")
def trained(digits_data, digits_experiment, tmp_path_factory):
    """{workers: run folder} after four epochs."""
    root = tmp_path_factory.mktemp("workers")
    runs = {}
    for workers in (1, 2, 4):
        job = Job(experiment=digits_experiment.model_copy(update={"epochs": 4}), data=digits_data,
                  run=str(root / str(workers)))
        train(job, workers)
        runs[workers] = FolderStore(job.run)
    return runs


@pytest.mark.slow
@pytest.mark.parametrize("workers", [2, 4])
def test_losses_agree_to_a_thousandth(trained, workers):
    def losses(run):
        lines = [json.loads(line) for line in run.read("metrics.jsonl").splitlines()]
        return np.array([[line[key] for key in ("loss", "loss_nominal", "loss_anomalous", "holdout_loss")]
                         for line in lines])

    ours, alone = losses(trained[workers]), losses(trained[1])
    assert len(ours) == 4
    assert np.abs(ours / alone - 1).max() < 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("workers", [2, 3])
def test_scores_threshold_and_auroc_of_one_checkpoint_are_equal_bit_for_bit(trained, workers, tmp_path, digits_data,
                                                                            digits_experiment):
    """A trained run whose evaluation is missing is evaluated again by another number of workers."""
    copy = FolderStore(tmp_path / "copy")
    for entry in trained[1].list():
        if entry.key not in ("scores.csv", "result.json"):
            copy.write(entry.key, trained[1].read(entry.key))
    job = Job(experiment=digits_experiment.model_copy(update={"epochs": 4}), data=digits_data, run=copy.url)
    result = train(job, workers)
    original = json.loads(trained[1].read("result.json"))
    for key in ("auroc", "average_precision", "per_kind", "threshold", "mean_score"):
        assert result[key] == original[key]
    assert copy.read("scores.csv") == trained[1].read("scores.csv")


@pytest.mark.slow
def test_the_detector_alone_gives_the_scores_of_the_run(trained, digits_data):
    """From the images of the shards, in other batches, by one more thread."""
    from fcdd_dist.evaluation.evaluate import evaluate

    run = trained[2]
    again = evaluate(run.url, digits_data)
    original = json.loads(run.read("result.json"))
    assert again["auroc"] == original["auroc"]
    assert again["threshold"] == original["threshold"]
    rows = list(csv.DictReader(io.StringIO(run.read("scores.csv").decode())))
    assert {row["label"] for row in rows} == {"0", "1"}
    detector = Detector.load(run.url)
    flagged = detector.flagged(np.array([float(row["score"]) for row in rows], np.float32))
    assert flagged.astype(int).tolist() == [int(row["flagged"]) for row in rows]


@pytest.mark.slow
def test_with_statistics_of_each_rank_what_is_kept_is_what_was_evaluated(digits_data, digits_experiment, tmp_path):
    from fcdd_dist.evaluation.evaluate import evaluate

    job = Job(experiment=digits_experiment.override(["network.batch_norm=rank"]), data=digits_data,
              run=str(tmp_path / "run"))
    result = train(job, 2)
    again = evaluate(job.run, digits_data)
    assert [again[key] for key in ("auroc", "mean_score")] == [result[key] for key in ("auroc", "mean_score")]
