"""ILSVRC2012 and ImageNet22k as people have them, all the way to a heatmap: shard, train, evaluate, explain."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
from PIL import Image

from fcdd_dist import Detector
from fcdd_dist.cli import main
from fcdd_dist.data.manifest import load_manifest
from fcdd_dist.data.shards.read import read_shard
from fcdd_dist.experiment import Form
from fcdd_dist.recipes import recipe
from fcdd_dist.run import Job, run_rank
from fcdd_dist.storage import FolderStore
from fcdd_dist.world import World
from tests.support import ilsvrc

ACORN, AIRLINER, TENCH, PERSON, PLANT = "n12267677", "n02690373", "n01440764", "n00007846", "n00017222"


@pytest.fixture(scope="module")
def sets(tmp_path_factory, make_image, file_bytes):
    """Two of the 30 classes and another one; exposure of a class of ImageNet-1k and two others."""
    root = tmp_path_factory.mktemp("imagenet")
    ilsvrc_folder = root / "ILSVRC2012"
    ilsvrc_folder.mkdir()

    def pictures(count, first):
        return [file_bytes(make_image(first + number, (300 + 7 * number, 260)), "JPEG") for number in range(count)]

    wnids = [ACORN, AIRLINER, TENCH]
    ilsvrc.write_train_tar(ilsvrc_folder / "ILSVRC2012_img_train.tar",
                           {wnid: pictures(3 if wnid == TENCH else 30, 100 * place)
                            for place, wnid in enumerate(wnids)})
    labels = [place % 3 for place in range(12)]
    ilsvrc.write_val_tar(ilsvrc_folder / "ILSVRC2012_img_val.tar",
                         [pictures(1, 1000 + 100 * label + place)[0] for place, label in enumerate(labels)])
    ilsvrc.write_devkit(ilsvrc_folder / f"{ilsvrc.KIT}.tar.gz", wnids, [wnids[label] for label in labels])
    ilsvrc.write_whole_tar(root / "fall11_whole.tar", {TENCH: pictures(5, 5000), PERSON: pictures(20, 6000),
                                                       PLANT: [*pictures(20, 7000), b"\xff\xd8\xff broken"]})
    return root


@pytest.fixture(scope="module", params=["square-256", "short-side-256"])
def data(request, sets, tmp_path_factory):
    out = tmp_path_factory.mktemp("data") / request.param
    assert main(["shard", "imagenet30", "--source", str(sets / "ILSVRC2012"), "--exposure",
                 str(sets / "fall11_whole.tar"), "--form", request.param, "--out", str(out)]) == 0
    return out


def test_what_is_sharded(data):
    manifest, exposure = load_manifest(FolderStore(data)), load_manifest(FolderStore(data / "exposure"))
    assert [(entry.id, entry.name) for entry in manifest.classes] == [(ACORN, "acorn"), (AIRLINER, "airliner")]
    counts = {split: {name: part.samples for name, part in parts.items()} for split, parts in manifest.splits.items()}
    assert counts == {
        "train": {ACORN: 20, AIRLINER: 20}, "holdout": {ACORN: 10, AIRLINER: 10}, "test": {ACORN: 4, AIRLINER: 4}}
    assert exposure.excluded == (TENCH,)  # of ImageNet-1k
    assert [(entry.source[:9], entry.reason[:10]) for entry in exposure.left_out] == [(PLANT, "it is dama")]
    assert sum(part.samples for parts in exposure.splits.values() for part in parts.values()) == 40
    assert manifest.form == exposure.form == Form.parse(data.name, recipe("imagenet30").form)
    sizes = {Image.open(io.BytesIO(sample.image)).size
             for record in exposure.part("train", "exposure").shards
             for sample in read_shard(FolderStore(data / "exposure"), record)}
    assert sizes == {(256, 256)} if data.name == "square-256" else (
        {height for _, height in sizes} == {256} and len({width for width, _ in sizes}) > 10)


@pytest.mark.slow
def test_trained_streamed_evaluated_and_explained(data, sets, tmp_path, make_image):
    experiment = recipe("imagenet30").experiment("acorn", 0).override(
        ["batch_size=8", "lanes=2", "epochs=1", "precision=float32", "network.batch_norm=rank"])
    job = Job(experiment=experiment, data=str(data), run=str(tmp_path / "run"), budget_bytes=0, threads=1)
    result = run_rank(job, World())
    assert 0 <= result["auroc"] <= 1
    assert result["counts"] == {"train": 20, "holdout": 10, "exposure": 40 - 1, "test_nominal": 4, "test_anomalous": 4}
    assert json.loads((tmp_path / "run/metrics.jsonl").read_text())["input_wait_s"] >= 0
    detector = Detector.load(str(tmp_path / "run"))
    assert detector.preprocessing.view == "centre"
    assert detector.preprocessing.shift == (0.485, 0.456, 0.406)
    picture = make_image(5, (400, 200))
    [heatmap] = detector.explain([picture])
    left, top, right, bottom = detector.seen(picture.size)
    assert heatmap.shape == (200, 400)
    assert np.isfinite(heatmap[top:bottom, left:right]).all()
    assert np.isnan(heatmap).mean() == pytest.approx(1 - (right - left) * (bottom - top) / heatmap.size, abs=0.02)
    assert main(["evaluate", str(tmp_path / "run"), "--data", str(data)]) == 0
