"""The contract of sources, over the whole registry: each layout is made on disk, found, opened and read."""

from __future__ import annotations

import gzip
import hashlib
import io
import pickle
import struct

import numpy as np
import pytest

from fcdd_dist.data.sources import BUNDLED, SOURCES, TRAIN_AND_TEST, open_exposure, open_source
from fcdd_dist.recipes import RECIPES
from tests.support import ilsvrc

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


WNIDS = ("n01440764", "n02701002", "n07697537")  # tench, ambulance, hotdog
HEAP = [WNIDS[number % 3] for number in (2, 0, 1, 1, 0, 2, 0, 1, 2)]  # labels of validation images, PER_CLASS each


def jpegs(make_image, wnids=WNIDS):
    made = {}
    for wnid in wnids:
        files = [io.BytesIO() for _ in range(PER_CLASS)]
        for number, file in enumerate(files):
            make_image(number, (40, 30)).save(file, "JPEG")
        made[wnid] = [file.getvalue() for file in files]
    return made


def heap(images):
    left = {wnid: iter(files) for wnid, files in images.items()}
    return [next(left[wnid]) for wnid in HEAP]


def make_ilsvrc_tars(path, monkeypatch, make_image):
    images = jpegs(make_image)
    ilsvrc.write_train_tar(path / "ILSVRC2012_img_train.tar", images)
    ilsvrc.write_val_tar(path / "ILSVRC2012_img_val.tar", heap(images))
    ilsvrc.write_devkit(path / "ILSVRC2012_devkit_t12.tar.gz", ("n07697537", "n01440764", "n02701002"), HEAP)
    return "imagenet30"


def make_ilsvrc_folders(path, monkeypatch, make_image):
    images = jpegs(make_image)
    for split in ("train", "val"):
        ilsvrc.write_folders(path / split, images)
    return "imagenet30"


def make_kaggle(path, monkeypatch, make_image):
    images = jpegs(make_image)
    ilsvrc.write_folders(path / "ILSVRC/Data/CLS-LOC/train", images)
    ilsvrc.write_val_heap(path / "ILSVRC/Data/CLS-LOC/val", heap(images))
    ilsvrc.write_kaggle_csv(path / "LOC_val_solution.csv", HEAP)
    return "imagenet30"


def make_mixture(path, monkeypatch, make_image):
    images = jpegs(make_image)
    ilsvrc.write_synset_tars(path / "train", images)
    ilsvrc.write_val_heap(path / "val", heap(images))
    ilsvrc.write_lines(path / "imagenet_2012_validation_synset_labels.txt", HEAP)
    return "imagenet30"


def make_whole(path, monkeypatch, make_image):
    ilsvrc.write_whole_tar(path / "winter21_whole.tar", jpegs(make_image), prefix="winter21_whole/")


def make_synset_tars(path, monkeypatch, make_image):
    ilsvrc.write_synset_tars(path, jpegs(make_image))


def make_other_tars(path, monkeypatch, make_image):
    ilsvrc.write_synset_tars(path, jpegs(make_image, ("Cats", "dogs")))


LAYOUTS = {"idx": make_idx, "idx, zipped": make_zipped_idx, "cifar": make_cifar, "classes": make_classes,
           "images": make_images, "ilsvrc, tars": make_ilsvrc_tars, "ilsvrc, folders": make_ilsvrc_folders,
           "ilsvrc, Kaggle's": make_kaggle, "ilsvrc, mixed": make_mixture, "synsets, whole": make_whole,
           "synsets, tars": make_synset_tars, "synsets, others": make_other_tars}
ESTIMATES = ("tars", "mixed", "whole", "others")  # where a class's images aren't counted, but weighed


def check(source, splits=TRAIN_AND_TEST, count=PER_CLASS, exact=TRAIN_AND_TEST):
    assert source.where
    assert source.classes
    for split in splits:
        for class_id in source.classes:
            items = list(source.items(split, class_id))
            names = [item.name for item in items]
            assert names == sorted(set(names)), "sorted by name, each once"
            assert len(items) == count or count is None
            about = source.about(split, class_id)
            assert about == len(items) if split in exact else about >= 1
            assert source.exact(split) == (split in exact)
            assert source.about(split, class_id) == about
            assert all((item.split, item.class_id) == (split, class_id) for item in items)
            assert [item.name for item in source.items(split, class_id)] == names
            image = items[0].read()
            assert image.mode in ("L", "RGB")
            np.testing.assert_array_equal(np.asarray(items[0].read()), np.asarray(image))
            again = pickle.loads(pickle.dumps(items[0]))  # items may go to other processes
            np.testing.assert_array_equal(np.asarray(again.read()), np.asarray(image))
    for split in set(TRAIN_AND_TEST) - set(splits):
        for class_id in source.classes:
            assert not list(source.items(split, class_id))
            assert source.about(split, class_id) == 0


def test_every_layout_is_made_here():
    assert {name.partition(",")[0] for name in LAYOUTS} == set(SOURCES)


@pytest.mark.parametrize("name", LAYOUTS)
def test_layout(name, tmp_path, monkeypatch, make_image):
    recipe = LAYOUTS[name](tmp_path, monkeypatch, make_image)
    first = next(kind for kind, layout in SOURCES.items() if layout.detect(tmp_path))
    assert first == name.partition(",")[0]
    exact = TRAIN_AND_TEST[1:] if name.partition(", ")[2] in ESTIMATES else TRAIN_AND_TEST
    if recipe is not None:
        source = open_source(str(tmp_path), recipe)
        check(source, exact=exact)
        known = RECIPES[recipe].classes
        order = sorted(source.classes) if first == "ilsvrc" else [c for c in known if c in source.classes]
        assert list(source.classes) == order, "the recipe's order, or that of WordNet ids where there are more"
        assert all(known.get(class_id, "tench") == shown for class_id, shown in source.classes.items())
    check(open_exposure(str(tmp_path), "fmnist"), TRAIN_AND_TEST[:1] if recipe is None else TRAIN_AND_TEST, exact=exact)


@pytest.mark.parametrize("recipe", BUNDLED)
def test_bundled(recipe):
    check(open_source(None, recipe), count=None)
    check(open_exposure(None, recipe), TRAIN_AND_TEST[:1], count=None)


@pytest.mark.parametrize("name", LAYOUTS)
def test_layouts_look_at_files_too(name, tmp_path):
    """A path may be of an archive, or of anything."""
    (tmp_path / "notes.txt").write_text("nothing")
    assert not SOURCES[name.partition(",")[0]].detect(tmp_path / "notes.txt")
