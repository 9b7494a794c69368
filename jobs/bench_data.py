"""The data sets of the bench: a user's own, or made up and written by the project's own sharding."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property, partial
from itertools import count
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
_IMAGENET, _QUICK_IMAGENET = (800, 8_000), (16, 512)  # four steps of recipe imagenet30; exposure for some seconds
_PHOTOGRAPHS, _QUICK_PHOTOGRAPHS = 400, 24
_ROLL = 41  # pixels by which the copies of a photograph are shifted, so that no two are the same


class DataSets:
    """``small``: images of 32 px as for CIFAR-10; ``large``: of 240 px in the form of a user's folder.

    ``imagenet``: of 256 px in the form of recipe imagenet30; ``full_size``: photographs as people have them.
    """

    def __init__(self, given: Iterable[str], quick: bool, photographs: str | None = None) -> None:
        """``given``: data sets to use in the place of made-up ones; the recipe in its manifest says which.

        ``photographs``: a folder with JPEG files, somewhere below it, to use in the place of made-up ones.
        """
        self._given = {load_manifest(open_store(url)).recipe: url for url in given}
        self._quick, self._photographs = quick, photographs
        self._folder = tempfile.TemporaryDirectory(prefix="fcdd-bench-")
        if unknown := self._given.keys() - {*_COUNTS, "imagenet30"}:
            raise Skip(f"the bench has parts for data of the recipes cifar10, folder and imagenet30, not "
                       f"{', '.join(unknown)}")
        if photographs and not _jpegs(Path(photographs)):
            raise Skip(f"{photographs} has no JPEG files (.jpg, .jpeg) in it: give --photographs another folder")

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

    @cached_property
    def full_size(self) -> list[Path]:
        """JPEG files of full size: those given (400 of them where there are more), or as many made up."""
        wanted = _QUICK_PHOTOGRAPHS if self._quick else _PHOTOGRAPHS
        if self._photographs:
            found = _jpegs(Path(self._photographs))
            return found[:: max(1, len(found) // wanted)][:wanted]
        folder, rng = self.folder / "full-size", np.random.default_rng(0)
        folder.mkdir()
        for number in range(wanted):
            Image.fromarray(_photograph(rng, 500, 375)).save(folder / f"{number:06}.jpg", "JPEG", quality=95)
        return _jpegs(folder)

    @cached_property
    def imagenet(self) -> str:
        """The photographs, scaled and shifted until there are enough, sharded in the form of recipe imagenet30."""
        if "imagenet30" in self._given:
            return self._given["imagenet30"]
        form = recipe("imagenet30").form
        return self._write("folder", "imagenet", form, _QUICK_IMAGENET if self._quick else _IMAGENET,
                           partial(next, self.copies(form)))

    def copies(self, form: Form) -> Iterator[np.ndarray]:
        """The photographs as (side, side, 3) uint8, again and again, shifted so that no two are the same."""
        small = [np.asarray(Image.open(path).convert("RGB").resize((form.side, form.side))) for path in self.full_size]
        for number in count():
            yield np.roll(small[number % len(small)], number // len(small) * _ROLL, axis=1)

    @staticmethod
    def experiment(url: str, precision: str) -> Experiment:
        """Its recipe's, of its first class, on all its training images, each once an epoch."""
        manifest = load_manifest(open_store(url))
        nominal = next(entry.id for entry in manifest.classes if manifest.part("train", entry.id))
        name = "imagenet30" if manifest.form == recipe("imagenet30").form else manifest.recipe
        return recipe(name).experiment(nominal, 0).override([
            f"data.recipe={manifest.recipe}", f"precision={precision}", "data.repeats=1",
            "data.train_on=train+holdout"])

    def close(self) -> None:
        self._folder.cleanup()

    def _make_up(self, name: str, called: str | None = None, form: Form | None = None, more: int = 1) -> str:
        form, rng = form or recipe(name).form, np.random.default_rng(0)
        nominal, exposure = (_QUICK if self._quick else _COUNTS)[name]
        return self._write(name, called or name, form, (nominal, more * exposure), lambda: _picture(rng, form.side))

    def _write(self, name: str, called: str, form: Form, counts: tuple[int, int], picture: Callable[[], np.ndarray]
               ) -> str:
        """A data set of recipe ``name``, of so many nominal and exposure images and a few others; its URL."""
        source, out = self.folder / f"{called}-images", self.folder / called
        nominal, other = _CLASSES[name]
        for folder, images in ((f"set/train/{nominal}", counts[0]), (f"set/test/{nominal}", _FEW),
                               (f"set/train/{other}", _FEW), (f"set/test/{other}", _FEW), ("exposure/all", counts[1])):
            (source / folder).mkdir(parents=True)
            for number in range(images):
                (source / folder / f"{number:06}.{form.extension}").write_bytes(encode(picture(), form))
        shard(name, str(source / "set"), open_store(str(out)), exposure=str(source / "exposure"), form=form)
        shutil.rmtree(source)
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


def _photograph(rng: np.random.Generator, width: int, height: int) -> np.ndarray:
    """(height, width, 3) uint8: as much structure at every scale as photographs have, and some 60 kB as JPEG."""
    pixels, cells = np.full((height, width, 3), 118.0), 2
    while cells < width:
        shape = (cells * height // width + 1, cells)
        grey, colour = rng.normal(size=(*shape, 1)), rng.normal(size=(*shape, 3))
        octave = np.float32(np.clip(128 + 40 * (grey + 0.3 * colour), 0, 255)).astype(np.uint8)
        scaled = Image.fromarray(octave).resize((width, height), Image.Resampling.BICUBIC)
        pixels += (np.asarray(scaled, np.float64) - 128) * 2.5 / cells**0.6
        cells *= 2
    return np.clip(pixels, 0, 255).astype(np.uint8)


def _jpegs(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg"))
