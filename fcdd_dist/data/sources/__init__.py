"""Raw image sets as people have them. ``open_source`` and ``open_exposure`` tell the layout by looking.

A new layout is a file with two functions and a line in ``SOURCES``; the contract tests come by themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ...errors import BadInput, NotFound
from ...recipes import recipe
from ...storage import absolute
from . import cifar, digits, folders, idx, ilsvrc, synsets
from .download import download as fetch
from .source import TRAIN_AND_TEST, Item, Source

__all__ = ["BUNDLED", "SOURCES", "TRAIN_AND_TEST", "Item", "Layout", "Source", "on_this_machine", "open_exposure",
           "open_source"]


@dataclass(frozen=True)
class Layout:
    """How a kind of source lies on disk.

    ``detect(path)`` looks without reading much; it may be given a file. ``open(path, known)`` raises BadInput where
    something is amiss; ``known`` are the recipe's classes, or empty where the source names its own.
    """

    looked_for: str
    recipes: tuple[str, ...] | None  # that it can be the nominal data of; None for all
    detect: Callable[[Path], bool]
    open: Callable[[Path, Mapping[str, str]], Source]


SOURCES: dict[str, Layout] = {  # the first that is detected is taken
    "idx": Layout("train-images-idx3-ubyte (or .gz, t10k-..., emnist-letters-...)", ("fmnist", "digits"),
                  idx.detect, idx.open_idx),
    "cifar": Layout("cifar-10-batches-py or cifar-100-python", ("cifar10",), cifar.detect, cifar.open_batches),
    "ilsvrc": Layout("ILSVRC2012_img_train.tar or train/<wnid>/, with ILSVRC2012_img_val.tar or val/ (also below "
                     "Data/CLS-LOC)", ("imagenet30",), ilsvrc.detect, ilsvrc.open_ilsvrc),
    "classes": Layout("train/CLASS/ and test/CLASS/ (or val/CLASS/) with images", None,
                      folders.detect_classes, folders.open_classes),
    "synsets": Layout("a tar of <wnid>.tar (fall11_whole.tar) or of <wnid>/, or a folder of tars with images (exposure "
                      "only)", (),
                      synsets.detect, synsets.open_synsets),
    "images": Layout("images in any folders (exposure only)", (), folders.detect_images, folders.open_images),
}

# Recipes whose data come with the installation: (nominal, exposure).
BUNDLED: dict[str, tuple[Callable[[], Source], Callable[[], Source]]] = {
    "digits": (digits.open_digits, digits.open_exposure),
}


def on_this_machine(path: str) -> Path:
    """``path`` made absolute. Raises BadInput for a URL of object storage: an image a request would take for ever."""
    place = absolute(path)
    if "://" in place:
        raise BadInput(f"{path}: images to be sharded are read from this machine; copy them into a folder here first, "
                       f"and give that")
    return Path(place)


def open_source(path: str | None, recipe_name: str, *, download: bool = False) -> Source:
    """The nominal images of a recipe in the folder (or archive) ``path``; None for data that are bundled.

    ``download`` lets torchvision fetch them into ``path`` where they are not there yet. Raises BadInput that says
    what was looked for.
    """
    classes = recipe(recipe_name).classes
    if path is None:
        if recipe_name not in BUNDLED:
            raise BadInput(f"recipe {recipe_name!r} has no bundled data: give the folder of its images (--source PATH)")
        return BUNDLED[recipe_name][0]()
    fitting = {name: layout for name, layout in SOURCES.items()
               if layout.recipes is None or recipe_name in layout.recipes}
    return _open(path, recipe_name, fitting, classes, download, exposure=False)


def open_exposure(path: str | None, like: str, *, download: bool = False) -> Source:
    """Images for outlier exposure in the folder or archive ``path``, in any layout; None for what comes with ``like``.
    """
    recipe(like)
    if path is None:
        if like not in BUNDLED:
            raise BadInput(f"recipe {like!r} has no bundled exposure images: give a folder of images (--exposure PATH)")
        return BUNDLED[like][1]()
    return _open(path, like, SOURCES, {}, download, exposure=True)


def _open(path: str, recipe_name: str, layouts: Mapping[str, Layout], known: Mapping[str, str], download: bool,
          *, exposure: bool) -> Source:
    folder = on_this_machine(path)
    if folder.exists():
        for name, layout in layouts.items():
            if layout.detect(folder) and not (exposure and name == "classes" and folders.synsets_in(folder / "train")):
                return layout.open(folder, known)
    if download:
        folder = fetch(folder, recipe_name, exposure=exposure)
        return next(layout.open(folder, known) for layout in layouts.values() if layout.detect(folder))
    if not folder.exists():
        raise NotFound(f"there is no file or folder {folder}")
    what = "exposure images" if exposure else f"images for recipe {recipe_name!r}"
    raise BadInput(f"{folder} has no {what}; looked for: "
                   f"{'; '.join(layout.looked_for for layout in layouts.values())}")
