"""ILSVRC2012 as people have it, in any mixture, without unpacking:

    ILSVRC2012_img_train.tar    a tar of <wnid>.tar           or train/<wnid>/..., or train/<wnid>.tar
    ILSVRC2012_img_val.tar      images in one heap            or val/<wnid>/..., or images in one heap in val/

right in the folder or in Data/CLS-LOC below it, as Kaggle has it. A heap needs labels (see ``labels``). Classes are
WordNet ids. Opening reads a header and the end of each class's tar; a class is listed when it is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

from PIL import Image

from ...errors import BadInput
from ...recipes.imagenet1k import names as imagenet1k
from .archive import Region, images, refuse_truncated, tars_in, whole
from .classes_in_tars import Tars
from .folders import Folders, find_images, folders_in, has_images, names_in, printable, read_file, refuse_loose
from .labels import Labels, find_labels, looked_for
from .source import Files, FileSource, RawSplit, is_wnid, name_classes

TRAIN_TAR, VAL_TAR = "ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar"
_BELOW = ("", "CLS-LOC", "Data/CLS-LOC", "ILSVRC/Data/CLS-LOC")

Images = Mapping[str, Callable[[], Image.Image]]


def detect(path: Path) -> bool:
    return any((home / name).is_file() for home in _homes(path) for name in (TRAIN_TAR, VAL_TAR)) or any(
        _wnids(home / "train") or _wnids(home / "train", ".tar") for home in _homes(path))


def open_ilsvrc(path: Path, known: Mapping[str, str]) -> FileSource:
    """All classes that are there, in the order of their WordNet ids. Raises BadInput.

    For exposure, which is when no classes are ``known``, a heap without labels is passed over if there are others.
    """
    train, heap, labels = _train(path, known), _tarred_heap(path), None
    real = {**imagenet1k(), **(train.names if train else {})}
    if heap is not None:
        labels = find_labels(_places(path), real)
    test = _class_folders(path, known) if labels is None else None  # where the tar was kept beside what came of it
    if heap is None and test is None and (heap := _heap(path)) is not None:
        labels = find_labels(_places(path), real)
    names = {**(train.names if train else {}), **(test.names if test else {})}
    splits: dict[RawSplit, Files] = {split: found.files for split, found in (("train", train), ("test", test)) if found}
    if labels is not None:
        names |= {wnid: wnid for wnid in labels.wnids if wnid not in names}
        splits["test"] = _Labelled(heap, labels)
    elif heap is not None and test is None and (known or not splits):
        raise BadInput(f"{heap.where} needs labels, and there are none; looked for {looked_for(_places(path))}")
    shown = {**names, **imagenet1k(), **known}
    notes = (f"labels from {labels.where}",) if labels else ()
    return FileSource(str(path), {class_id: shown[class_id] for class_id in sorted(names)}, splits, notes)


@dataclass(frozen=True)
class _Part:
    """A split whose images lie by class."""

    files: Files
    names: Mapping[str, str]  # class id -> what it is called on disk


@dataclass(frozen=True)
class _Heap:
    where: str
    list: Callable[[], Images]  # of all, by name


class _Labelled:
    """Images in one heap, told apart by labels. All headers are read when the first class is asked for."""

    exact = True

    def __init__(self, heap: _Heap, labels: Labels) -> None:
        self._heap, self._labels = heap, labels

    @cached_property
    def _by_class(self) -> dict[str, list[tuple[str, Callable[[], Image.Image]]]]:
        found = self._heap.list()
        by_class: dict[str, list] = {}
        for name, wnid in self._labels.of(found, self._heap.where).items():
            by_class.setdefault(wnid, []).append((name, found[name]))
        return by_class

    def images(self, class_id: str) -> Iterator[tuple[str, Callable[[], Image.Image]]]:
        yield from self._by_class.get(class_id, ())

    def about(self, class_id: str) -> int:
        return len(self._by_class.get(class_id, ()))


def _homes(path: Path) -> list[Path]:
    if path.is_file():
        return [path.parent] if path.name in (TRAIN_TAR, VAL_TAR) else []
    return [path / below for below in _BELOW if (path / below).is_dir()]


def _places(path: Path) -> list[Path]:
    """Folders in which labels may lie."""
    folder = path.parent if path.is_file() else path
    return [place for place in (folder, folder / "ILSVRC", *_homes(path)[1:]) if place.is_dir()]


def _train(path: Path, known: Mapping[str, str]) -> _Part | None:
    """Where somebody unpacked the tar and kept it, the tar is taken: it is known to be all."""
    for home in _homes(path):
        if (home / TRAIN_TAR).is_file():
            found = {name.rpartition("/")[2]: tar for name, tar in tars_in(whole(home / TRAIN_TAR)).items()}
            return _tars(found, str(home / TRAIN_TAR))
        folders, tars = _wnids(home / "train"), _wnids(home / "train", ".tar")
        if folders and tars:
            raise BadInput(f"{home / 'train'} has both folders and tars, such as {folders[0]} and {tars[0]}.tar: keep "
                           f"one kind")
        if tars:
            return _tars({f"{wnid}.tar": whole(home / "train" / f"{wnid}.tar") for wnid in tars}, str(home / "train"))
        if folders:
            return _in_folders(home, "train", known)
    return None


def _tars(found: Mapping[str, Region], where: str) -> _Part:
    regions = {name[:-4]: region for name, region in found.items() if name.endswith(".tar") and is_wnid(name[:-4])}
    if not regions:
        raise BadInput(f"{where} has no tars of classes (n01440764.tar, ...); get it again")
    refuse_truncated(regions.values())
    return _Part(Tars(regions, "train/", empty=False), {wnid: wnid for wnid in regions})


def _class_folders(path: Path, known: Mapping[str, str]) -> _Part | None:
    """Of test images; ``test`` is taken before ``val`` as in other folders, but ImageNet's own test images have no
    classes."""
    return next((_in_folders(home, name, known) for home in _homes(path) for name in ("test", "val")
                 if _wnids(home / name)), None)


def _tarred_heap(path: Path) -> _Heap | None:
    for home in _homes(path):
        if (home / VAL_TAR).is_file():
            refuse_truncated([whole(home / VAL_TAR)])
            return _Heap(str(home / VAL_TAR), partial(_list_tar, str(home / VAL_TAR)))
    return None


def _heap(path: Path) -> _Heap | None:
    for home in _homes(path):
        if (home / "val").is_dir() and has_images(home / "val"):
            return _Heap(str(home / "val"), partial(_list_folder, home))
    return None


def _list_tar(path: str) -> Images:
    return {f"val/{name}": read for name, read in images(whole(path)).items()}


def _list_folder(home: Path) -> Images:
    return {printable(name): partial(read_file, str(home / name)) for name in find_images(home, "val")}


def _in_folders(home: Path, split: str, known: Mapping[str, str]) -> _Part:
    refuse_loose(home / split)
    found = folders_in(home / split)
    # Empty folders of other names come about, such as a disk's lost+found.
    other = [name for name in found if not is_wnid(name) and has_images(home / split / name)]
    if known and other:
        raise BadInput(f"{home / split / printable(other[0])} has no WordNet id for a name (n01440764), as the other "
                       f"folders have: move it elsewhere")
    found = [name for name in found if is_wnid(name) or name in other]
    ids = name_classes(map(printable, found), {}, str(home / split))
    for name in found:
        if not has_images(home / split / name):
            raise BadInput(f"{home / split / name} has no images: put some there, or remove it")
    folders = {ids[printable(name)]: (f"{split}/{name}",) for name in found}
    return _Part(Folders(home, folders), {class_id: name for name, class_id in ids.items()})


def _wnids(path: Path, ending: str = "") -> list[str]:
    """The WordNet ids in a folder that is perhaps not there: of its folders, or of its files with an ``ending``."""
    if not path.is_dir():
        return []
    names = names_in(path) if ending else folders_in(path)
    return [name.removesuffix(ending) for name in names if name.endswith(ending) and is_wnid(name.removesuffix(ending))]
