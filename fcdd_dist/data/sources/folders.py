"""Folders of image files: by split and class, or just images.

    train/CLASS/...  with test/CLASS/... or val/CLASS/...    classes, or good images and kinds of defects (MVTec-AD)
    any folder of images                                     exposure only

Class folders may be nested. Symbolic links are followed, to files and to folders (a folder inside itself is visited
once). Hidden files, and files whose extension is no image's, are not images; all others count, and what can't be
read is left out and named when sharding.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

from PIL import Image

from ...errors import BadInput
from ..images import MAX_BYTES, BadImage, load_image
from .source import Item, RawSplit, name_classes

# HEIC and its like count as images, so that they are not left out in silence: reading them gives the reason.
EXTENSIONS = frozenset((".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm",
                        ".pbm", ".pnm", ".gif", ".heic", ".heif", ".avif", ".jp2", ".jxl"))
_NORMAL = ("good", "normal")  # two names that people give to what is not anomalous
_LOOSE = "images"  # the class of exposure images that lie in no folder


class FolderSource:
    """Image files whose paths are known; ``files[split][class id]`` are relative to ``root``."""

    def __init__(self, root: Path, classes: Mapping[str, str], files: Mapping[RawSplit, Mapping[str, list[str]]]
                 ) -> None:
        self.where, self.classes = str(root), dict(classes)
        self._root, self._files = str(root), files

    def items(self, split: RawSplit, class_id: str) -> Iterator[Item]:
        for name in self._files.get(split, {}).get(class_id, ()):
            yield Item(split, class_id, printable(name), partial(read_file, os.path.join(self._root, name)))


def detect_classes(path: Path) -> bool:
    train = path / "train"
    return train.is_dir() and bool(_folders(train))


def open_classes(path: Path, known: Mapping[str, str]) -> FolderSource:
    """``train/CLASS`` and ``test/CLASS`` (or ``val/CLASS``). Raises BadInput, also where a train folder is empty."""
    folders: dict[RawSplit, str] = {"train": "train"}
    test = next((name for name in ("test", "val") if (path / name).is_dir()), None)
    if test is not None:
        folders["test"] = test
    classes: dict[str, str] = {}
    files: dict[RawSplit, dict[str, list[str]]] = {}
    for split, folder in folders.items():
        if loose := [name for name in _names(path / folder) if is_image(name)
                     and not name.startswith(".") and not (path / folder / name).is_dir()]:
            raise BadInput(f"{path / folder} has images outside of its folders, such as {printable(loose[0])}: put "
                           f"them into the folder of their class")
        names = name_classes(map(printable, _folders(path / folder)), known, str(path / folder))
        if split == "test" and not known:
            _join_normal(names, classes, path)
        files[split] = {}
        for name in _folders(path / folder):
            class_id = names[printable(name)]
            found = find_images(path, f"{folder}/{name}")
            if not found:
                raise BadInput(f"{path / folder / name} has no images: put some there, or remove it")
            files[split][class_id] = found
            display = known.get(class_id) or printable(name)
            if classes.setdefault(class_id, display) != display and not {class_id} & set(_NORMAL):
                raise BadInput(f"{path}: the folders {classes[class_id]!r} and {display!r} would both be class "
                               f"{class_id!r}: rename one, with letters of the English alphabet")
    order = [class_id for class_id in (known or classes) if class_id in classes]
    return FolderSource(path, {class_id: classes[class_id] for class_id in order}, files)


def detect_images(path: Path) -> bool:
    return next(_walk(str(path), "", ()), None) is not None


def open_images(path: Path, known: Mapping[str, str]) -> FolderSource:
    """All images below ``path``; their classes are the folders right below it."""
    loose, inside = [], {}
    for name in find_images(path, ""):
        folder, slash, _ = name.partition("/")
        (inside.setdefault(folder, []) if slash else loose).append(name)
    names = name_classes(map(printable, inside), {}, str(path))
    classes = {class_id: name for name, class_id in names.items()}
    files = dict(zip(names.values(), inside.values(), strict=True))
    if loose:
        files[_LOOSE] = sorted(loose + files.get(_LOOSE, []))
        classes.setdefault(_LOOSE, _LOOSE)
    return FolderSource(path, classes, {"train": files})


def read_file(path: str) -> Image.Image:
    """Raises BadImage where the file can't be read or is no image."""
    return load_image(read_bytes(path))


def read_bytes(path: str) -> bytes:
    """Of a file, up to one more than an image may have. Raises BadImage where it can't be read."""
    try:
        with open(path, "rb") as file:
            return file.read(MAX_BYTES + 1)
    except OSError as error:
        raise BadImage(f"it can't be read: {error.strerror}") from None


def is_image(name: str) -> bool:
    """Whether a file of this name counts as an image."""
    return os.path.splitext(name)[1].lower() in EXTENSIONS


def find_images(root: Path, folder: str) -> list[str]:
    """Paths below ``root`` of all images in ``folder``, sorted."""
    return sorted(_walk(str(root), folder, ()))


def printable(name: str) -> str:
    """``name`` with bytes that are no UTF-8 written as ``\\xNN``, so that any file or terminal takes it."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _walk(root: str, folder: str, above: tuple[str, ...]) -> Iterator[str]:
    path = os.path.join(root, folder)
    above = (*above, os.path.realpath(path))
    for name in _names(path):
        if name.startswith("."):
            continue
        relative, full = f"{folder}/{name}" if folder else name, os.path.join(path, name)
        if os.path.isdir(full):
            if os.path.realpath(full) not in above:
                yield from _walk(root, relative, above)
        elif is_image(name) and (os.path.isfile(full) or os.path.islink(full)):
            yield relative  # a broken link counts: reading it gives the reason


def _names(path: str | Path) -> list[str]:
    try:
        return sorted(os.listdir(path))
    except OSError as error:
        raise BadInput(f"the folder {path} can't be read: {error.strerror}") from None


def _folders(path: Path) -> list[str]:
    return sorted(name for name in _names(path) if not name.startswith(".") and (path / name).is_dir())


def _join_normal(names: dict[str, str], train: Mapping[str, str], path: Path) -> None:
    """Where train has ``normal`` alone and test has ``good``, or the other way round, they are one class."""
    mine = [class_id for class_id in _NORMAL if class_id in train]
    if len(train) != 1 or not mine:
        return
    there = {class_id: name for name, class_id in names.items() if class_id in _NORMAL}
    if len(there) > 1:
        raise BadInput(f"{path}: the test images have both {' and '.join(there.values())}: which are the nominal ones? "
                       f"Keep one of the folders")
    for name in there.values():
        names[name] = mine[0]
