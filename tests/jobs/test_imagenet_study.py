"""What the study says of the photographs it compares."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fcdd_dist.data.shards.write import shard_exposure
from fcdd_dist.experiment import Form
from fcdd_dist.storage import open_store


@pytest.fixture
def study(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "jobs"))
    import imagenet_study

    yield imagenet_study
    sys.modules.pop("imagenet_study")


@pytest.fixture
def photographs(tmp_path):
    for number in range(2):
        folder = tmp_path / "photographs" / "class"
        folder.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 256, (300, 400, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.jpg")
    return tmp_path / "photographs"


def test_a_photograph_whose_writing_is_cut_off_is_written_again(study, photographs, tmp_path, monkeypatch):
    out = tmp_path / "out"

    def killed(path, data):
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY))
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", killed)
        with pytest.raises(KeyboardInterrupt):
            study.alike(photographs, out)
    study.alike(photographs, out)
    assert [path.name for path in sorted((out / "class").iterdir())] == ["0.jpg", "1.jpg"]
    for path in (out / "class").iterdir():
        with Image.open(path) as image:
            image.load()
            assert image.size == (224, 224)


def test_the_one_number_is_of_the_centre(study, tmp_path):
    grainy = np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8)
    smooth = np.full((256, 256, 3), 128, np.uint8)
    framed = grainy.copy()
    framed[16:240, 16:240] = smooth[16:240, 16:240]
    powers = []
    for name, pixels in (("grainy", grainy), ("framed", framed)):
        (tmp_path / name / "all").mkdir(parents=True)
        Image.fromarray(pixels).save(tmp_path / name / "all" / "0.png")
        store = open_store(str(tmp_path / f"{name}-out"))
        manifest = shard_exposure("folder", str(tmp_path / name), store, form=Form.parse("png-256-rgb"))
        powers += study.powers(store, manifest.part("train", "exposure").shards).tolist()
    assert powers[0] > 10
    assert powers[1] < -10  # nothing but what stands for nothing
