"""Labels of the validation images of ILSVRC2012, which lie in one heap: from the devkit or one of the lists in use.

    ILSVRC2012_devkit_t12.tar.gz        or what was unpacked of it: meta.mat and ..._validation_ground_truth.txt
    LOC_val_solution.csv                Kaggle's, rows "ILSVRC2012_val_00048981,n03995372 85 1 499 272"
    imagenet_2012_validation_synset_labels.txt     a WordNet id a line
    another csv with "val" in its name  rows "file,WordNet id"
"""

from __future__ import annotations

import csv
import gzip
import io
import os
import re
import tarfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO

from ...errors import BadInput
from .folders import names_in
from .source import is_wnid

_KIT = "ILSVRC2012_devkit_t12"
_TRUTH, _META = "ILSVRC2012_validation_ground_truth.txt", "meta.mat"
_KAGGLE = "LOC_val_solution.csv"
_LINES = "imagenet_2012_validation_synset_labels.txt"
_MOST = 64 << 20  # bytes of a file of labels
_LOOKED_FOR = (f"{_KIT}.tar.gz (or its {_TRUTH} and {_META}), {_KAGGLE}, {_LINES}, or a csv with 'val' in its name and "
               f"rows 'file,WordNet id'")


@dataclass(frozen=True)
class Labels:
    """A WordNet id for each validation image: by the image's name without extension, or in the images' order."""

    where: str
    by_stem: Mapping[str, str] | None
    in_order: Sequence[str]

    @property
    def wnids(self) -> frozenset[str]:
        return frozenset(self.in_order)

    def of(self, names: Iterable[str], images: str) -> dict[str, str]:
        """The WordNet id of each image. Raises BadInput where images and labels are not the same.

        Labels in order go by the numbers at the ends of the names, so that a missing image moves no other's label.
        """
        names = list(names)
        if len(names) != len(self.in_order):
            raise BadInput(f"{images} has {len(names):,} images, but {self.where} has {len(self.in_order):,} labels")
        if self.by_stem is None:
            table = dict(enumerate(self.in_order, 1))
            found = {name: table.pop(_number(name), None) for name in names}
        else:
            found = {name: self.by_stem.get(PurePosixPath(name).stem) for name in names}
        for name, wnid in found.items():
            if wnid is None:
                raise BadInput(f"{images}: {self.where} has no label for {name}"
                               + (", or a second image of that number" if self.by_stem is None else ""))
        return found


def find_labels(places: Sequence[Path], real: Iterable[str]) -> Labels | None:
    """The labels in the first of the folders ``places`` that has any, or Kaggle's in a folder above the first of these;
    None where there are none.

    ``real``: the WordNet ids that there are. Raises BadInput for labels that are none of these.
    """
    tries = [(read, place) for read in (_unpacked, _packed, partial(_named_csv, _KAGGLE), _lines, _other_csv)
             for place in places]
    tries += [(partial(_named_csv, _KAGGLE), place) for place in _above(places)]
    for read, place in tries:
        if place.is_dir() and (labels := read(place)) is not None:
            if unreal := labels.wnids - frozenset(real):
                raise BadInput(f"{labels.where} has the label {min(unreal)}, which is no class of ILSVRC2012 and "
                               f"none of the training images")
            return labels
    return None


def looked_for(places: Sequence[Path]) -> str:
    """What ``find_labels`` looks for, and where, for a message."""
    above = [str(place) for place in _above(places) if place not in places]
    return (f"{_LOOKED_FOR}, in {' and '.join(map(str, places))}"
            + (f"; and for {_KAGGLE} in {' and '.join(above)}, too" if above else ""))


def _above(places: Sequence[Path]) -> list[Path]:
    """Kaggle's list lies three folders above the images: one may have given any of the folders between."""
    return list(places[0].parents)[:3] if places else []


def _unpacked(place: Path) -> Labels | None:
    for folder in (place, place / "data", place / _KIT / "data", place / _KIT):
        if (folder / _TRUTH).is_file():
            if not (folder / _META).is_file():
                raise BadInput(f"{folder} has {_TRUTH}, but not {_META}, which tells what its numbers mean")
            return _devkit(_bytes(folder / _TRUTH), _bytes(folder / _META), f"{folder / _TRUTH}")
    return None


def _packed(place: Path) -> Labels | None:
    path = next((path for path in (place / f"{_KIT}.tar.gz", place / f"{_KIT}.tar") if path.is_file()), None)
    if path is None:
        return None
    found: dict[str, bytes] = {}
    try:
        with open(path, "rb") as file:
            zipped = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            unzipped = gzip.GzipFile(fileobj=file) if zipped else file
            with tarfile.open(fileobj=_Bounded(unzipped, str(path)), mode="r|") as kit:
                for member in kit:
                    name = PurePosixPath(member.name).name
                    if name in (_TRUTH, _META) and member.isreg():
                        found[name] = kit.extractfile(member).read()
    except (OSError, EOFError, zlib.error, tarfile.TarError, ValueError, OverflowError, RecursionError, KeyError,
            IndexError) as error:
        reason = getattr(error, "strerror", None) or str(error).partition("\n")[0].rstrip(":")
        raise BadInput(f"{path} can't be read: {reason}; get it again") from None
    if missing := [name for name in (_TRUTH, _META) if name not in found]:
        raise BadInput(f"{path} has no {' and no '.join(missing)}; get the devkit of tasks 1 and 2 again")
    return _devkit(found[_TRUTH], found[_META], str(path))


class _Bounded:
    """What is unpacked of a file, up to as much as a devkit may have: a few bytes of gzip may be as many gigabytes."""

    def __init__(self, file: IO[bytes], where: str) -> None:
        self._file, self._where, self._left = file, where, _MOST

    def read(self, count: int) -> bytes:
        data = self._file.read(min(count, self._left + 1))
        self._left -= len(data)
        if self._left < 0:
            raise BadInput(f"{self._where} unpacks to more than {_MOST >> 20} MiB, which no devkit has; get it again")
        return data


def _devkit(truth: bytes, meta: bytes, where: str) -> Labels:
    """The ground truth has an ILSVRC2012_ID a line; meta.mat tells the WordNet ids of these."""
    wnids = _synsets(meta, where)
    labels = []
    for number, line in enumerate(_text(truth, where).splitlines(), 1):
        if not re.fullmatch(r"\s*[0-9]{1,9}\s*", line) or int(line) not in wnids:
            raise BadInput(f"{where}, line {number}: {line[:40]!r} is no class of {_META}, which has the numbers "
                           f"{min(wnids)} to {max(wnids)}")
        labels.append(wnids[int(line)])
    return Labels(where, None, labels)


def _synsets(meta: bytes, where: str) -> dict[int, str]:
    """ILSVRC2012_ID -> WordNet id of the synsets that are classes, which are those without children."""
    import numpy as np
    from scipy.io import loadmat

    try:
        synsets = np.atleast_1d(loadmat(io.BytesIO(meta), squeeze_me=True)["synsets"])
        found = {int(synset["ILSVRC2012_ID"]): str(synset["WNID"]) for synset in synsets
                 if int(synset["num_children"]) == 0}
    except Exception as error:  # whatever comes to the reader on other bytes than MATLAB's
        raise BadInput(f"{where}: {_META} can't be read: {error or type(error).__name__}; get it again") from error
    if not found or not all(map(is_wnid, found.values())):
        raise BadInput(f"{where}: {_META} has no WordNet ids of classes; get it again")
    return found


def _lines(place: Path) -> Labels | None:
    path = place / _LINES
    if not path.is_file():
        return None
    labels = [line.strip() for line in _text(_bytes(path), str(path)).splitlines()]
    for number, label in enumerate(labels, 1):
        if not is_wnid(label):
            raise BadInput(f"{path}, line {number}: {label[:40]!r} is no WordNet id (n01440764)")
    return Labels(str(path), None, labels)


def _named_csv(name: str, place: Path) -> Labels | None:
    path = place / name
    if not os.path.isfile(path):  # False, too, where a folder above may not be looked into
        return None
    by_stem: dict[str, str] = {}
    rows = [row for row in csv.reader(io.StringIO(_text(_bytes(path), str(path)))) if row]
    for number, row in enumerate(rows, 1):
        label = (row[1].split() or [""])[0] if len(row) > 1 else ""
        if not is_wnid(label):
            if number == 1:
                continue  # the header
            raise BadInput(f"{path}, row {number}: {','.join(row)[:60]!r} is not a file and a WordNet id (n01440764)")
        stem = PurePosixPath(row[0].strip()).stem
        if by_stem.setdefault(stem, label) != label:
            raise BadInput(f"{path}, row {number}: {stem} is {label} here and {by_stem[stem]} before")
    return Labels(str(path), by_stem, list(by_stem.values()))


def _other_csv(place: Path) -> Labels | None:
    found = [name for name in names_in(place) if name.lower().endswith(".csv") and "val" in name.lower()]
    if len(found) > 1:
        raise BadInput(f"{place} has {' and '.join(found)}: which has the labels of the validation images? Keep one")
    return _named_csv(found[0], place) if found else None


def _bytes(path: Path) -> bytes:
    try:
        with open(path, "rb") as file:
            data = file.read(_MOST + 1)
    except OSError as error:
        raise BadInput(f"{path} can't be read: {error.strerror}") from None
    if len(data) > _MOST:
        raise BadInput(f"{path} has more than {_MOST >> 20} MiB, which no list of labels has")
    return data


def _text(data: bytes, where: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise BadInput(f"{where} is no text in UTF-8") from None


def _number(name: str) -> int:
    digits = re.search(r"([0-9]{1,9})$", PurePosixPath(name).stem)
    return int(digits[1]) if digits else -1
