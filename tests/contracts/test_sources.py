"""The contract of sources, over the whole registry: each layout is made on disk, found, opened and read."""

from __future__ import annotations

import gzip
import hashlib
import pickle
import struct

import numpy as np
import pytest

from fcdd_dist.data.sources import BUNDLED, SOURCES, TRAIN_AND_TEST, open_exposure, open_source
from fcdd_dist.recipes import RECIPES

PER_CLASS = 3  # images of each class and split that the layouts below have


def idx(values: np.ndarray) -> bytes:
    head = struct.pack(f">BBBB{values.ndim}I", 0, 0, 8, values.ndim, *values.shape)
    return head + values.astype(np.uint8).tobytes()


def make_idx(path, monkeypatch, make_image, *, zipped=False):
    labels = np.arange(10 * PER_CLASS) % 10
    images = np.stack([np.asarray(make_image(seed, (28, 28), "L")) for seed in range(len(labels))])
    for part in ("train", "t10k"):
        for name, data in ((f"{part}-images-idx3-ubyte", idx(images)), (f"{part}-labels-idx1-ubyte", idx(labels))):
            (path / (name + ".gz" * zipped)).write_bytes(gzip.compress(data) if zipped else data)
    return "fmnist"


def make_zipped_idx(path, monkeypatch, make_image):
    return make_idx(path, monkeypatch, make_image, zipped=True)


def make_cifar(path, monkeypatch, make_image):
    """The published files have published sums; the class is told the sums of these."""
    from torchvision.datasets import CIFAR10

    names = list(RECIPES["cifar10"].classes)
    folder = path / "cifar-10-batches-py"
    folder.mkdir()
    for batches in (CIFAR10.train_list, CIFAR10.test_list):
        share = 10 * PER_CLASS // len(batches)
        lists = []
        for number, (name, _) in enumerate(batches):
            labels = [(number * share + place) % 10 for place in range(share)]
            pixels = [np.asarray(make_image(label, (32, 32))).transpose(2, 0, 1).ravel() for label in labels]
            data = pickle.dumps({"data": np.stack(pixels), "labels": labels}, protocol=2)
            (folder / name).write_bytes(data)
            lists.append([name, hashlib.md5(data).hexdigest()])
        monkeypatch.setattr(CIFAR10, "train_list" if batches is CIFAR10.train_list else "test_list", lists)
    meta = pickle.dumps({"label_names": names}, protocol=2)
    (folder / "batches.meta").write_bytes(meta)
    monkeypatch.setattr(CIFAR10, "meta", {**CIFAR10.meta, "md5": hashlib.md5(meta).hexdigest()})
    return "cifar10"


def make_classes(path, monkeypatch, make_image):
    for split in ("train", "val"):
        for name in ("Airplane", "truck"):
            folder = path / split / name / "nested"
            folder.mkdir(parents=True)
            for number in range(PER_CLASS):
                make_image(number, (40, 30)).save(folder / f"{number}.png")
    return "cifar10"


def make_images(path, monkeypatch, make_image):
    for name in ("n01443537", "n01629819"):
        (path / name).mkdir()
        for number in range(PER_CLASS):
            make_image(number, (40, 30)).save(path / name / f"{number}.JPEG")
    # of no recipe: exposure only


LAYOUTS = {"idx": make_idx, "idx, zipped": make_zipped_idx, "cifar": make_cifar, "classes": make_classes,
           "images": make_images}


def check(source, splits=TRAIN_AND_TEST, count=PER_CLASS):
    assert source.where
    assert source.classes
    for split in splits:
        for class_id in source.classes:
            items = list(source.items(split, class_id))
            names = [item.name for item in items]
            assert names == sorted(set(names)), "sorted by name, each once"
            assert len(items) == count or count is None
            assert all((item.split, item.class_id) == (split, class_id) for item in items)
            assert [item.name for item in source.items(split, class_id)] == names
            image = items[0].read()
            assert image.mode in ("L", "RGB")
            np.testing.assert_array_equal(np.asarray(items[0].read()), np.asarray(image))


def test_every_layout_is_made_here():
    assert {name.partition(",")[0] for name in LAYOUTS} == set(SOURCES)


@pytest.mark.parametrize("name", LAYOUTS)
def test_layout(name, tmp_path, monkeypatch, make_image):
    recipe = LAYOUTS[name](tmp_path, monkeypatch, make_image)
    first = next(kind for kind, layout in SOURCES.items() if layout.detect(tmp_path))
    assert first == name.partition(",")[0]
    if recipe is not None:
        source = open_source(str(tmp_path), recipe)
        check(source)
        ids = list(RECIPES[recipe].classes)
        assert list(source.classes) == [class_id for class_id in ids if class_id in source.classes], "recipe's order"
        assert all(RECIPES[recipe].classes[class_id] == shown for class_id, shown in source.classes.items())
    check(open_exposure(str(tmp_path), "fmnist"), TRAIN_AND_TEST[:1] if recipe is None else TRAIN_AND_TEST)


@pytest.mark.parametrize("recipe", BUNDLED)
def test_bundled(recipe):
    check(open_source(None, recipe), count=None)
    check(open_exposure(None, recipe), TRAIN_AND_TEST[:1], count=None)
