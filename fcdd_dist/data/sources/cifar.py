"""CIFAR-10 and CIFAR-100 as published: pickles, so only torchvision's own classes read them, after their sums match.

No other pickle is ever opened by this project.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ...errors import BadInput
from ..native import torchvision
from .source import TRAIN_AND_TEST, ArraySource, slug

_SETS = {"cifar-10-batches-py": "CIFAR10", "cifar-100-python": "CIFAR100"}


def detect(path: Path) -> bool:
    return bool(_found(path))


def open_batches(path: Path, known: Mapping[str, str]) -> ArraySource:
    """With ``known`` classes CIFAR-10, else CIFAR-100 where both are there, as the paper's exposure is."""
    found = _found(path)
    folder = found.get("cifar-10-batches-py") if known else found.get("cifar-100-python")
    folder = folder or next(iter(found.values()))
    dataset = getattr(torchvision().datasets, _SETS[folder.name])
    _check_sums(folder, dataset)
    arrays, names = {}, {}
    for split in TRAIN_AND_TEST:
        with warnings.catch_warnings():
            # The published pickles are of 2009; numpy 2.4 finds fault with how they name their types.
            warnings.filterwarnings("ignore", message=r"dtype\(\): align should be passed")
            batches = dataset(folder.parent, train=split == "train", download=False)
        arrays[split] = batches.data, np.asarray(batches.targets)
        names[split] = f"{folder.name}/{split}/"
    classes = {slug(name): name for name in batches.classes}
    if known and list(classes) != list(known):
        raise BadInput(f"{folder} has the classes of {_SETS[folder.name]}, not those of the recipe")
    return ArraySource(str(folder), known or classes, arrays, names)


def _found(path: Path) -> dict[str, Path]:
    candidates = (path, *(path / name for name in _SETS))
    return {folder.name: folder for folder in candidates if folder.name in _SETS and folder.is_dir()}


def _check_sums(folder: Path, dataset: type) -> None:
    """Every file has the published MD5 sum, or BadInput names the first that has not; nothing is unpickled."""
    check = torchvision().datasets.utils.check_integrity
    meta = dataset.meta
    for name, md5 in [*dataset.train_list, *dataset.test_list, (meta["filename"], meta["md5"])]:
        if not check(folder / name, md5):
            state = "is not the published file (its MD5 sum differs)" if (folder / name).exists() else "is missing"
            raise BadInput(f"{folder / name} {state}; it is a pickle and was not opened. Get the set again from "
                           f"{dataset.url}")
