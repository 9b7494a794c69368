"""Training on random crops of photographs of any size, and a detector that looks at the centre of them."""

import csv
import io
import json

import numpy as np
import pytest
import torch
from PIL import Image

from fcdd_dist import Detector, checkpoint
from fcdd_dist.data.order import Cursor
from fcdd_dist.errors import BadInput
from fcdd_dist.evaluation.explain import explain
from fcdd_dist.experiment import Form
from fcdd_dist.run import Job, claim, prepare, run_rank
from fcdd_dist.run.rank import measured_preprocessing, open_stream
from fcdd_dist.storage import FolderStore
from fcdd_dist.world import World
from tests.support.photographs import FORMS, cropping, photograph, write_photographs

pytestmark = pytest.mark.slow  # it trains


@pytest.fixture(scope="module", params=FORMS)
def form(request):
    return Form.parse(request.param)


@pytest.fixture(scope="module")
def data(form, tmp_path_factory):
    """(folder, the originals of its test split by source)"""
    folder = tmp_path_factory.mktemp("photographs")
    return str(folder), write_photographs(folder, form)


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    """(job, result) of a run that streams all of its input."""
    job = Job(experiment=cropping(epochs=4), data=data[0], run=str(tmp_path_factory.mktemp("crops") / "run"),
              budget_bytes=0)
    claim(prepare(job))
    return job, run_rank(job, World())


def batches(job, size=1, start=Cursor(0, 0), epochs=2, **changes):  # noqa: B008  (frozen)
    prepared = prepare(job.model_copy(update=changes))
    preprocessing = measured_preprocessing(prepared)
    parts = [list(open_stream(prepared, preprocessing, World(rank, size), torch.device("cpu")).batches(start, epochs))
             for rank in range(size)]
    return [(steps[0][0], *(torch.cat(of_ranks) for of_ranks in zip(*(batch for _, batch in steps), strict=True)))
            for steps in zip(*parts, strict=True)]


def test_the_same_batches_for_any_workers_resident_or_streamed_from_anywhere(data, tmp_path):
    job = Job(experiment=cropping(), data=data[0], run=str(tmp_path / "run"))
    whole = batches(job)
    assert len(whole) == 6
    assert whole[0][1].shape == (26, 3, 32, 32)
    assert len({float(images.double().sum()) for _, images, _ in whole}) == 6
    for size in (1, 2, 3, 4):
        for start, budget in ((0, 0 if size > 1 else None), (4, 0), (5, None)):
            ours = batches(job, size, whole[start][0], budget_bytes=budget)
            assert len(ours) == 6 - start
            for (cursor, images, labels), (other, images2, labels2) in zip(ours, whole[start:], strict=True):
                assert cursor == other
                assert torch.equal(images, images2)
                assert torch.equal(labels, labels2)


def test_a_run_leaves_how_long_it_waited_for_input(trained):
    job, result = trained
    run = FolderStore(job.run)
    lines = [json.loads(line) for line in run.read("metrics.jsonl").splitlines()]
    assert len(lines) == 4
    assert all(0 <= line["input_wait_s"] < line["seconds"] for line in lines)
    assert lines[0]["input_wait_s"] > 0  # nothing was ahead of the first step
    assert result["input_wait_s"] == pytest.approx(sum(line["input_wait_s"] for line in lines))
    assert result["input_wait_share"] == pytest.approx(result["input_wait_s"] / result["seconds"])
    assert result["auroc"] > 0.8
    assert any(b"input_wait_seconds" in run.read(entry.key) for entry in run.list("tensorboard/"))


def test_the_checkpoint_says_what_is_looked_at_and_in_which_units(trained):
    record = checkpoint.read_record(checkpoint.locate(trained[0].run))
    assert record.preprocessing.model_dump() == {
        "normalization": "mean-std", "side": 32, "shift": (0.485, 0.456, 0.406), "scale": (0.229, 0.224, 0.225),
        "view": "centre"}


def test_an_original_scores_as_its_shard_member_does(trained, data):
    detector = Detector.load(trained[0].run)
    rows = list(csv.DictReader(io.StringIO(FolderStore(trained[0].run).read("scores.csv").decode())))
    assert len(rows) == 24
    ours = detector.score([data[1][row["path"]] for row in rows])
    theirs = np.array([float(row["score"]) for row in rows])
    spread = np.ptp(theirs[[row["label"] == "0" for row in rows]])
    assert np.abs(ours - theirs).max() < 0.01 * spread


def test_maps_are_of_the_centre_and_nothing_is_said_of_the_rest(trained, form):
    detector = Detector.load(trained[0].run)
    sizes = [(40, 40), (100, 50), (60, 90), (300, 20), (1, 1), (3, 900)]
    images = [photograph("other", seed).resize(size) for seed, size in enumerate(sizes)]
    for size, map_, heatmap in zip(sizes, detector.maps(images), detector.explain(images), strict=True):
        left, top, right, bottom = detector.seen(size)
        looked = np.zeros(size[::-1], bool)
        looked[top: bottom, left: right] = True
        assert looked.any()
        assert map_.shape == heatmap.shape == size[::-1]
        assert np.array_equal(~np.isnan(map_), looked)
        assert np.array_equal(~np.isnan(heatmap), looked)
        assert map_[looked].min() >= 0
        assert 0 <= heatmap[looked].min() <= heatmap[looked].max() <= 1
    assert detector.seen((40, 40)) == (4, 4, 36, 36)
    assert detector.seen((100, 50)) == ((10, 5, 90, 45) if form.fit == "square" else (30, 5, 70, 45))
    # A blot outside changes nothing but a little, by the codec's blocks; one inside is found where it is.
    image = photograph("church", 5).resize((100, 50))
    left, top, right, bottom = detector.seen(image.size)
    before = detector.maps([image])[0]
    outside, inside = np.asarray(image).copy(), np.asarray(image).copy()
    outside[:2], outside[:, :left - 4] = 255, 0
    inside[top + 22: bottom - 8, left + 4: left + 14: 2] = 255
    ours, theirs = (map_ - before for map_ in detector.maps([inside, outside]))
    assert np.nanmax(np.abs(theirs)) < 0.02 * np.nanmax(ours)
    row, column = np.unravel_index(np.nanargmax(ours), before.shape)
    assert row > (top + bottom) / 2
    assert column < (left + right) / 2


def test_explain_hatches_what_was_not_looked_at_and_says_so(trained, tmp_path):
    for number, size in enumerate([(160, 90), (90, 160)]):
        photograph("other", number).resize(size).save(tmp_path / f"{number}.png")
    for scale in ("given", "each"):
        found = explain(trained[0].run, [str(tmp_path / "*.png")], str(tmp_path / "out"), raw=True, scale=scale)
        assert found.failed == 0
        raw = np.load(tmp_path / "out/0.npy", allow_pickle=False)
        assert np.isnan(raw).any()
        assert np.isfinite(raw).any()
        rows = list(csv.DictReader((tmp_path / "out/scores.csv").read_text().splitlines()))
        assert all(np.isfinite(float(row["score"])) for row in rows)


def test_the_sheets_of_the_run_are_there(trained):
    run = FolderStore(trained[0].run)
    for name in ("by-score", "extremes"):
        assert Image.open(io.BytesIO(run.read(f"heatmaps/{name}.png"))).size[0] > 400


def test_evaluating_again_gives_the_same(trained, data):
    from fcdd_dist.evaluation.evaluate import evaluate

    job, result = trained
    again = evaluate(job.run, data[0])
    assert [again[key] for key in ("auroc", "mean_score")] == [result[key] for key in ("auroc", "mean_score")]


def test_grey_images_have_no_colours_of_imagenet(data, tmp_path):
    folder = tmp_path / "grey"
    write_photographs(folder, Form.parse("jpeg90-40-grey"))
    with pytest.raises(BadInput, match="imagenet is for colour"):
        prepare(Job(experiment=cropping(network__name="fcdd28"), data=str(folder), run=str(tmp_path / "run")))
