"""Real image sets: our measurements against the constants that the authors published (July 2020)."""

from __future__ import annotations

import numpy as np
import pytest

from fcdd_dist.data.images import to_form
from fcdd_dist.data.manifest import load_manifest
from fcdd_dist.data.shards.read import read_shard
from fcdd_dist.data.shards.statistics import Tally, measure
from fcdd_dist.data.shards.write import shard, shard_exposure
from fcdd_dist.data.sources import open_source
from fcdd_dist.recipes import recipe
from fcdd_dist.storage import FolderStore, MemoryStore

pytestmark = [pytest.mark.data, pytest.mark.slow]

FMNIST = {  # mean, std, LCN minimum, LCN maximum of the training images of a class
    "t-shirt_top": (0.32561, 0.35074, -2.68124, 24.85431), "trouser": (0.22290, 0.34353, -2.57786, 11.16980),
    "pullover": (0.37670, 0.35868, -2.80817, 19.13355), "dress": (0.25890, 0.35422, -1.95337, 18.65673),
    "coat": (0.38532, 0.37631, -2.61039, 19.16669), "sandal": (0.13673, 0.26311, -1.23585, 28.46309),
    "shirt": (0.33178, 0.33928, -3.25161, 24.19682), "sneaker": (0.16769, 0.29479, -1.08144, 16.87881),
    "bag": (0.35355, 0.36527, -3.65610, 11.35028), "ankle_boot": (0.30119, 0.37053, -1.38593, 11.42665)}
CIFAR10 = {  # mean and std, RGB
    "airplane": ((0.52565, 0.56033, 0.58887), (0.25022, 0.24083, 0.26597)),
    "automobile": ((0.47113, 0.45446, 0.44712), (0.26806, 0.26583, 0.27495)),
    "bird": ((0.48924, 0.49146, 0.42390), (0.22705, 0.22094, 0.24338)),
    "cat": ((0.49548, 0.45636, 0.41541), (0.25684, 0.25227, 0.25799)),
    "deer": ((0.47155, 0.46515, 0.37797), (0.21733, 0.20653, 0.21182)),
    "dog": ((0.49992, 0.46461, 0.41643), (0.25043, 0.24375, 0.24895)),
    "frog": ((0.47002, 0.43829, 0.34500), (0.22888, 0.21856, 0.22042)),
    "horse": ((0.50195, 0.47984, 0.41671), (0.24305, 0.24397, 0.25172)),
    "ship": ((0.49021, 0.52539, 0.55468), (0.24962, 0.24069, 0.25150)),
    "truck": ((0.49864, 0.48530, 0.47801), (0.26805, 0.26911, 0.28102))}


def measured(path, name, classes=None):
    """The statistics of the training images of each class, at the stored form."""
    source, form = open_source(str(path), name), recipe(name).form
    for class_id in classes or source.classes:
        tally = Tally()
        for item in source.items("train", class_id):
            tally.add(measure(to_form(item.read(), form).transpose(2, 0, 1)))
        yield class_id, tally.statistics()


def test_constants_of_fashion_mnist(test_data):
    found = dict(measured(test_data / "fashion-mnist", "fmnist"))
    assert list(found) == list(FMNIST)
    for class_id, s in found.items():
        np.testing.assert_allclose((s.mean[0], s.std[0], s.lcn_minimum[0], s.lcn_maximum[0]), FMNIST[class_id],
                                   rtol=1e-6, atol=1.1e-5)


def test_constants_of_cifar10(test_data):
    """The set at hand went through JPEG, so it agrees to about 0.01."""
    found = dict(measured(test_data / "cifar10", "cifar10", list(CIFAR10)[::4]))
    for class_id, s in found.items():
        np.testing.assert_allclose((s.mean, s.std), CIFAR10[class_id], atol=1e-2)


def test_shards_of_fashion_mnist(test_data, tmp_path):
    store = FolderStore(tmp_path)
    manifest = shard("fmnist", str(test_data / "fashion-mnist"), store, exposure=str(test_data / "kmnist"),
                     classes=["Trouser", "bag"])
    assert {split: {c: part.samples for c, part in parts.items()} for split, parts in manifest.splits.items()} == {
        "train": {"trouser": 5700, "bag": 5700}, "holdout": {"trouser": 300, "bag": 300},
        "test": {"trouser": 1000, "bag": 1000}}
    for class_id in ("trouser", "bag"):
        s = manifest.part("train", class_id).statistics.merge(manifest.part("holdout", class_id).statistics)
        np.testing.assert_allclose((s.mean[0], s.std[0], s.lcn_minimum[0], s.lcn_maximum[0]), FMNIST[class_id],
                                   atol=1.1e-5)
    exposure = load_manifest(store.at("exposure"))
    assert {split: parts["exposure"].samples for split, parts in exposure.splits.items()} == {
        "train": 9900, "holdout": 100}
    for record in exposure.part("train", "exposure").shards:
        assert len(read_shard(store.at("exposure"), record)) == record.samples


def test_own_images_with_defects(test_data):
    manifest = shard("folder", str(test_data / "magnetic-tile"), MemoryStore(),
                     exposure=str(test_data / "imagenette-3"))
    assert {split: {c: part.samples for c, part in parts.items()} for split, parts in manifest.splits.items()} == {
        "train": {"good": 130}, "holdout": {"good": 20},
        "test": {"good": 40, **dict.fromkeys(("blowhole", "break", "crack", "fray", "uneven"), 20)}}
    assert not manifest.left_out


def test_photographs_of_the_web(test_data):
    """Odd ones among them: invalid and rotated EXIF, grey ones, some below the stored size."""
    manifest = shard_exposure("cifar10", str(test_data / "imagenet-sample"), MemoryStore())
    assert sum(part["exposure"].samples for part in manifest.splits.values()) == 400
    assert not manifest.left_out
