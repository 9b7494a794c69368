"""The data sets of the bench: a user's own, or made up and written by the project's own sharding."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path

import numpy as np
from bench_timing import Skip
from PIL import Image

from fcdd_dist.data.images import encode
from fcdd_dist.data.manifest import load_manifest
from fcdd_dist.data.shards.read import read_shard
from fcdd_dist.data.shards.write import shard
from fcdd_dist.experiment import Experiment, Form
from fcdd_dist.recipes import recipe
from fcdd_dist.run import Prepared
from fcdd_dist.storage import open_store

_COUNTS = {"cifar10": (5_000, 24_900), "folder": (480, 960)}  # nominal and exposure images, as of the sets we have
_QUICK = {"cifar10": (600, 1_200), "folder": (64, 128)}
_CLASSES = {"cifar10": ("ship", "truck"), "folder": ("good", "scratched")}  # nominal first
_FEW = 40  # other images, so that a whole run has something to evaluate


class DataSets:
    """``small``: images of 32 px as for CIFAR-10; ``large``: of 240 px in the form of a user's folder."""

    def __init__(self, given: Iterable[str], quick: bool) -> None:
        """``given``: data sets to use in the place of made-up ones; the recipe in its manifest says which."""
        self._given = {load_manifest(open_store(url)).recipe: url for url in given}
        self._quick = quick
        self._folder = tempfile.TemporaryDirectory(prefix="fcdd-bench-")
        if unknown := self._given.keys() - _COUNTS.keys():
            raise Skip(f"the bench has parts for data of the recipes cifar10 and folder, not {', '.join(unknown)}")

    @property
    def folder(self) -> Path:
        """For whatever a part has to write."""
        return Path(self._folder.name)

    @cached_property
    def small(self) -> str:
        return self._given.get("cifar10") or self._make_up("cifar10")

    @cached_property
    def large(self) -> str:
        return self._given.get("folder") or self._make_up("folder")

    @cached_property
    def photographs(self) -> str:
        """Made up in any case: JPEGs of 256 px, so many that reading ahead matters."""
        return self._make_up("folder", "photographs", Form.parse("jpeg95-256-rgb"), 4)

    @staticmethod
    def experiment(url: str, precision: str) -> Experiment:
        """Its recipe's, of its first class, on all its training images, each once an epoch."""
        manifest = load_manifest(open_store(url))
        nominal = next(entry.id for entry in manifest.classes if manifest.part("train", entry.id))
        return recipe(manifest.recipe).experiment(nominal, 0).override([
            f"precision={precision}", "data.repeats=1", "data.train_on=train+holdout"])

    def close(self) -> None:
        self._folder.cleanup()

    def _make_up(self, name: str, called: str | None = None, form: Form | None = None, more: int = 1) -> str:
        try:
            import webdataset  # noqa: F401 - needed for writing alone
        except ModuleNotFoundError:
            raise Skip("making up data needs webdataset; or give --data") from None
        called, form = called or name, form or recipe(name).form
        source, out = self.folder / f"{called}-images", self.folder / called
        counts = (_QUICK if self._quick else _COUNTS)[name]
        rng, (nominal, other) = np.random.default_rng(0), _CLASSES[name]
        for folder, count in ((f"set/train/{nominal}", counts[0]), (f"set/test/{nominal}", _FEW),
                              (f"set/train/{other}", _FEW), (f"set/test/{other}", _FEW),
                              ("exposure/all", more * counts[1])):
            (source / folder).mkdir(parents=True)
            for number in range(count):
                pixels = _picture(rng, form.side)
                (source / folder / f"{number:06}.{form.extension}").write_bytes(encode(pixels, form))
        shard(name, str(source / "set"), open_store(str(out)), exposure=str(source / "exposure"), form=form)
        return str(out)


def unpack(checked: Prepared, folder: Path) -> tuple[list[Path], list[Path]]:
    """The very images that ``checked`` trains on as files, as a script would have them: nominal, exposure."""
    found = []
    for which, store in (("nominal", checked.data_store), ("exposure", checked.exposure_store)):
        (folder / which).mkdir(parents=True, exist_ok=True)
        paths = []
        for record in checked.shards(which, *checked.trained_on):
            for sample in read_shard(store, record):
                paths.append(folder / which / f"{len(paths):07}.{checked.experiment.data.form.extension}")
                paths[-1].write_bytes(sample.image)
        found.append(paths)
    return found[0], found[1]


def _picture(rng: np.random.Generator, side: int) -> np.ndarray:
    """(side, side, 3) uint8: large soft patches with a little grain, so that it compresses as photographs do."""
    patches = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).resize((side, side))
    grain = rng.integers(-6, 7, (side, side, 3))
    return np.clip(np.asarray(patches) + grain, 0, 255).astype(np.uint8)
