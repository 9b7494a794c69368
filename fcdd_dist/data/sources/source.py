"""What every raw source of images is: named items by split and class, each read when it is asked for."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Literal, Protocol

import numpy as np
from PIL import Image

from ...errors import BadInput, nearest

RawSplit = Literal["train", "test"]
TRAIN_AND_TEST: tuple[RawSplit, RawSplit] = ("train", "test")
LEVELS = 3  # folders that may lie above those whose names are WordNet ids
_WNID = re.compile(r"n[0-9]{8}")
_LONGEST_ID = 80  # characters; the names of members in a plain tar file have at most 100


@dataclass(frozen=True, slots=True)
class Item:
    """An image of a source. ``read()`` gives it in mode "L" or "RGB", or raises BadImage with the reason."""

    split: RawSplit
    class_id: str
    name: str  # unique in the source; printable
    read: Callable[[], Image.Image]


class Source(Protocol):
    """Images by split and class. Every implementation passes ``tests/contracts/test_sources.py``."""

    where: str  # for messages
    classes: Mapping[str, str]  # id -> display name, in the canonical order
    notes: tuple[str, ...]  # lines for a person: what was found elsewhere than he may think

    def items(self, split: RawSplit, class_id: str) -> Iterator[Item]:
        """The images of a class, by name; none where the class lacks the split. Nothing is decoded.

        What this class needs is listed when the first is asked for. Raises BadInput where that can't be read.
        """
        ...

    def about(self, split: RawSplit, class_id: str) -> int:
        """How many images a class has: exactly where that is cheap, else an estimate; the same each time."""
        ...

    def exact(self, split: RawSplit) -> bool:
        """Whether ``about`` is exact for all classes of a split."""
        ...


class Files(Protocol):
    """The image files of one split, by class."""

    exact: bool  # whether ``about`` is

    def images(self, class_id: str) -> Iterator[tuple[str, Callable[[], Image.Image]]]:
        """The name of each image, sorted, and what reads it; none for a class that is not there."""
        ...

    def about(self, class_id: str) -> int: ...


class FileSource:
    """Images in files or archives. Held are the classes and where they lie; files are listed class by class."""

    def __init__(self, where: str, classes: Mapping[str, str], splits: Mapping[RawSplit, Files],
                 notes: tuple[str, ...] = ()) -> None:
        self.where, self.classes, self.notes = where, dict(classes), notes
        self._splits = splits

    def items(self, split: RawSplit, class_id: str) -> Iterator[Item]:
        if split in self._splits:
            for name, read in self._splits[split].images(class_id):
                yield Item(split, class_id, name, read)

    def about(self, split: RawSplit, class_id: str) -> int:
        return self._splits[split].about(class_id) if split in self._splits else 0

    def exact(self, split: RawSplit) -> bool:
        return split not in self._splits or self._splits[split].exact


class ArraySource:
    """Images that are already pixels: idx files, the batches of CIFAR, the bundled digits."""

    notes = ()

    def __init__(self, where: str, classes: Mapping[str, str],
                 arrays: Mapping[RawSplit, tuple[np.ndarray, np.ndarray]], names: Mapping[RawSplit, str]) -> None:
        """``arrays[split]``: images (n, H, W) or (n, H, W, 3) uint8, and the places of their classes (n,) int.

        ``names[split]``: what stands before the number of an image in its name.
        """
        self.where, self.classes = where, dict(classes)
        self._arrays, self._names = arrays, names
        self._places = {class_id: place for place, class_id in enumerate(classes)}

    def items(self, split: RawSplit, class_id: str) -> Iterator[Item]:
        if split not in self._arrays:
            return
        images, places = self._arrays[split]
        width = max(5, len(str(len(images) - 1)))
        for index in np.flatnonzero(places == self._places[class_id]):
            yield Item(split, class_id, f"{self._names[split]}{index:0{width}d}", partial(_image, images, index))

    def about(self, split: RawSplit, class_id: str) -> int:
        return int((self._arrays[split][1] == self._places[class_id]).sum()) if split in self._arrays else 0

    def exact(self, split: RawSplit) -> bool:
        return True


def _image(images: np.ndarray, index: int) -> Image.Image:
    return Image.fromarray(np.asarray(images[index]))


def slug(name: str) -> str:
    """``name`` as a class id: in lower case, whatever is not a letter, digit, ``-`` or ``_`` becomes ``_``."""
    return re.sub(r"[^a-z0-9_-]", "_", name.lower())


def is_wnid(name: str) -> bool:
    """Whether ``name`` has the form of a WordNet id, as ImageNet's classes have it: n01440764."""
    return bool(_WNID.fullmatch(name))


def name_classes(folders: Iterable[str], known: Mapping[str, str], where: str) -> dict[str, str]:
    """The class id of each folder name.

    With ``known`` classes a folder may be named as the id or the display name, in any case. Without, ids follow from
    the names. Raises BadInput for a name that is no known class, and where two folders would be one class.
    """
    by_slug = {slug(text): class_id for class_id, display in known.items() for text in (display, class_id)}
    found: dict[str, str] = {}
    taken: dict[str, str] = {}
    for folder in folders:
        class_id = slug(folder)
        if known:
            if class_id not in by_slug:
                raise BadInput(f"{where}: {folder!r} is none of the recipe's classes{nearest(class_id, by_slug)}; "
                               f"these are: {', '.join(known[c] if is_wnid(c) else c for c in known)}")
            class_id = by_slug[class_id]
        if len(class_id) > _LONGEST_ID:
            raise BadInput(f"{where}: the folder {folder!r} has a name of more than {_LONGEST_ID} characters")
        if class_id in taken:
            raise BadInput(f"{where}: the folders {taken[class_id]!r} and {folder!r} would both be class {class_id!r}: "
                           f"rename one")
        taken[class_id], found[folder] = folder, class_id
    return found
