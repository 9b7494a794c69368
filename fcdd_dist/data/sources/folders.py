"""Folders of image files: by split and class, or just images.

    train/CLASS/...  with test/CLASS/... or val/CLASS/...    classes, or good images and kinds of defects (MVTec-AD)
    any folder of images                                     exposure only; WordNet ids are found three folders deep

Class folders may be nested. Symbolic links are followed, to files and to folders (a folder inside itself is visited
once). Hidden files, and files whose extension is no image's, are not images; all others count, and what can't be
read is left out and named when sharding.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from PIL import Image

from ...errors import BadInput
from ..images import MAX_BYTES, BadImage, load_image
from .source import LEVELS, FileSource, RawSplit, is_wnid, name_classes

# HEIC and its like count as images, so that they are not left out in silence: reading them gives the reason.
EXTENSIONS = frozenset((".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm",
                        ".pbm", ".pnm", ".gif", ".heic", ".heif", ".avif", ".jp2", ".jxl"))
_NORMAL = ("good", "normal")  # two names that people give to what is not anomalous
_LOOSE = "images"  # the class of exposure images that lie in no folder


class Folders:
    """Image files below ``root``: of each class its folder, below which they are looked for when it is asked for.

    Nothing else is held: ImageNet22k is 21,841 folders of 14 million files.
    """

    exact = True

    def __init__(self, root: Path, folders: Mapping[str, Sequence[str]],
                 loose: Mapping[str, Sequence[str]] | None = None) -> None:
        """``folders``: of each class, below ``root``. ``loose``: of a class, those of which only the images right in
        them are meant."""
        self._root, self._folders, self._loose = str(root), folders, loose or {}
        self._counts: dict[str, int] = {}

    def images(self, class_id: str) -> Iterator[tuple[str, Callable[[], Image.Image]]]:
        for name in self._names(class_id):
            yield printable(name), partial(read_file, os.path.join(self._root, name))

    def about(self, class_id: str) -> int:
        if class_id not in self._counts:
            self._counts[class_id] = len(self._names(class_id))
        return self._counts[class_id]

    def _names(self, class_id: str) -> list[str]:
        found = [name for folder in self._folders.get(class_id, ())
                 for name in _walk(self._root, folder, _above(self._root, folder))]
        for folder in self._loose.get(class_id, ()):
            found += [_join(folder, name) for name in _loose_images(os.path.join(self._root, folder))]
        return sorted(found)


def detect_classes(path: Path) -> bool:
    train = path / "train"
    return train.is_dir() and bool(folders_in(train))


def open_classes(path: Path, known: Mapping[str, str]) -> FileSource:
    """``train/CLASS`` and ``test/CLASS`` (or ``val/CLASS``). Raises BadInput, also where a train folder is empty."""
    folders: dict[RawSplit, str] = {"train": "train"}
    test = next((name for name in ("test", "val") if (path / name).is_dir()), None)
    if test is not None:
        folders["test"] = test
    classes: dict[str, str] = {}
    splits: dict[RawSplit, Folders] = {}
    for split, folder in folders.items():
        refuse_loose(path / folder)
        found = folders_in(path / folder)
        names = name_classes(map(printable, found), known, str(path / folder))
        if split == "test" and not known:
            _join_normal(names, classes, path)
        ours = {names[printable(name)]: f"{folder}/{name}" for name in found}
        for (class_id, where), name in zip(ours.items(), found, strict=True):
            if not has_images(path / where):
                raise BadInput(f"{path / where} has no images: put some there, or remove it")
            display = known.get(class_id) or printable(name)
            if classes.setdefault(class_id, display) != display and not {class_id} & set(_NORMAL):
                raise BadInput(f"{path}: the folders {classes[class_id]!r} and {display!r} would both be class "
                               f"{class_id!r}: rename one, with letters of the English alphabet")
        splits[split] = Folders(path, {class_id: (where,) for class_id, where in ours.items()})
    order = [class_id for class_id in (known or classes) if class_id in classes]
    return FileSource(str(path), {class_id: classes[class_id] for class_id in order}, splits)


def detect_images(path: Path) -> bool:
    return path.is_dir() and has_images(path)


def open_images(path: Path, known: Mapping[str, str]) -> FileSource:
    """All images below ``path``; their classes are the folders with WordNet ids for names, up to three folders deep,
    and the folders beside these. Where there are no such ids they are the folders right below ``path``."""
    folders, loose = class_folders(path)
    # In the order of the paths of their images, in which "a b/" comes before "a/".
    names = name_classes(map(printable, sorted(folders, key=lambda name: f"{folders[name][0]}/")), {}, str(path))
    classes = {class_id: name for name, class_id in names.items()}
    rights: dict[str, list[str]] = {}
    for name, where in loose.items():
        class_id = names.get(printable(name)) or next(iter(name_classes([printable(name)], {}, str(path)).values()))
        classes.setdefault(class_id, printable(name))
        rights.setdefault(class_id, []).extend(where)
    return FileSource(str(path), classes, {"train": Folders(
        path, {names[printable(name)]: where for name, where in folders.items()}, rights)})


def class_folders(root: Path) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """The folders of each class's name below ``root``, and those of which only the images right in them are meant.

    Nothing in a folder with a WordNet id for a name is looked at but whether it has images: ImageNet22k unpacked is
    21,841 of them, wherever they lie. A name that comes twice, as in train/ and val/, is one class.
    """
    folders: dict[str, list[str]] = {}
    loose: dict[str, list[str]] = {}
    for name, where, deep in _classes(str(root), "", (os.path.realpath(root),), LEVELS):
        (folders if deep else loose).setdefault(name, []).append(where)
    return folders, loose


def synsets_in(path: Path) -> bool:
    """Whether a folder with a WordNet id for a name, and images, lies in ``path``, up to three folders deep."""
    return any(map(is_wnid, class_folders(path)[0]))


def _classes(root: str, folder: str, above: tuple[str, ...], levels: int) -> list[tuple[str, str, bool]]:
    """Name, folder, and whether all below it is meant, for the classes in ``folder``; sorted."""
    found: list[tuple[str, str, bool]] = []
    inside, any_loose = [], False
    for entry in _entries(os.path.join(root, folder)):
        if _is_folder(entry):
            inside.append(entry.name)
        elif not any_loose:
            any_loose = _is_image_file(entry)
    for name in sorted(inside):
        where = _join(folder, name)
        path = os.path.join(root, where)
        if (real := os.path.realpath(path)) in above:
            continue
        deeper = [] if is_wnid(name) or not levels else _classes(root, where, (*above, real), levels - 1)
        if any(is_wnid(name) for name, _, _ in deeper):
            found += deeper
        elif has_images(path, above):
            found.append((name, where, True))
    if any_loose:
        found.append((os.path.basename(folder) or _LOOSE, folder, False))
    return found


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


def has_images(path: Path | str, above: tuple[str, ...] = ()) -> bool:
    """Whether any image lies below ``path``; of a folder of many no more is read than it takes to see one."""
    above = (*above, os.path.realpath(path))
    inside: list[str] = []
    for entry in _entries(path):
        if _is_folder(entry):
            inside.append(entry.path)
        elif _is_image_file(entry):
            return True
    return any(has_images(folder, above) for folder in sorted(inside) if os.path.realpath(folder) not in above)


def refuse_loose(path: Path) -> None:
    """Raises BadInput where images lie right in ``path``, beside the folders of the classes."""
    if loose := _loose_images(str(path)):
        raise BadInput(f"{path} has images outside of its folders, such as {printable(loose[0])}: put them into the "
                       f"folder of their class")


def folders_in(path: Path) -> list[str]:
    """The names of the folders right in ``path``, sorted, without hidden ones. Raises BadInput."""
    return sorted(entry.name for entry in _entries(path) if _is_folder(entry))


def find_images(root: Path, folder: str) -> list[str]:
    """Paths below ``root`` of all images in ``folder``, sorted."""
    return sorted(_walk(str(root), folder, ()))


def printable(name: str) -> str:
    """``name`` with bytes that are no UTF-8 written as ``\\xNN``, so that any file or terminal takes it."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _walk(root: str, folder: str, above: tuple[str, ...]) -> Iterator[str]:
    path = os.path.join(root, folder)
    above = (*above, os.path.realpath(path))
    for entry in sorted(_entries(path), key=lambda entry: entry.name):
        relative = _join(folder, entry.name)
        if _is_folder(entry):
            if os.path.realpath(entry.path) not in above:
                yield from _walk(root, relative, above)
        elif _is_image_file(entry):
            yield relative


def _entries(path: str | Path) -> Iterator[os.DirEntry]:
    """What lies in a folder, in no order, without hidden things. Raises BadInput.

    Entries know what they are without a request of their own, which is what 14 million files need.
    """
    try:
        with os.scandir(path) as entries:
            for entry in entries:
                if not entry.name.startswith("."):
                    yield entry
    except OSError as error:
        if isinstance(error, PermissionError) and os.path.basename(path) == "lost+found":
            return  # the disk's own, of root alone
        raise BadInput(f"the folder {path} can't be read: {error.strerror}") from None


def _is_folder(entry: os.DirEntry) -> bool:
    return os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir(follow_symlinks=False)


def _is_image_file(entry: os.DirEntry) -> bool:
    """Of what is no folder. A broken link counts: reading it gives the reason."""
    return is_image(entry.name) and (entry.is_symlink() or entry.is_file(follow_symlinks=False))


def names_in(path: str | Path) -> list[str]:
    """What lies right in a folder, sorted. Raises BadInput."""
    try:
        return sorted(os.listdir(path))
    except OSError as error:
        raise BadInput(f"the folder {path} can't be read: {error.strerror}") from None


def _loose_images(path: str) -> list[str]:
    """The names of the images right in ``path``, sorted."""
    return sorted(entry.name for entry in _entries(path) if not _is_folder(entry) and _is_image_file(entry))


def _join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name


def _above(root: str, folder: str) -> tuple[str, ...]:
    """The real paths of the folders that ``folder`` lies in, up to ``root``: a link to one is not followed."""
    parts = folder.split("/")[:-1]
    return tuple(os.path.realpath(os.path.join(root, *parts[:count])) for count in range(len(parts) + 1))


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
