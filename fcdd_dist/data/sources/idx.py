"""idx files, plain or gzipped: MNIST, Fashion-MNIST, KMNIST, and EMNIST letters (whose images lie on their side)."""

from __future__ import annotations

import gzip
import re
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ...errors import BadInput
from .source import ArraySource, RawSplit

_IMAGES = re.compile(r"(?P<set>emnist-[a-z]+-)?(?P<part>train|t10k|test)-images-idx3-ubyte(?P<gz>\.gz)?")
_LETTERS = "emnist-letters-"
_MOST = 2 << 30  # bytes of a file, unpacked


def detect(path: Path) -> bool:
    return bool(_homes(path))


def open_idx(path: Path, known: Mapping[str, str]) -> ArraySource:
    """Images with labels 0, 1, ... for the ``known`` classes in their order. Raises BadInput."""
    homes = _homes(path)
    if len(homes) > 1:
        raise BadInput(f"{path} has several sets of idx files: name one of {', '.join(map(str, homes))}")
    home, prefix = homes[0], _set(homes[0])
    arrays: dict[RawSplit, tuple[np.ndarray, np.ndarray]] = {}
    names: dict[RawSplit, str] = {}
    for split, parts in (("train", ("train",)), ("test", ("t10k", "test"))):
        for part in parts:
            stem = f"{prefix}{part}-images-idx3-ubyte"
            file = _file(home, stem)
            if file is None:
                continue
            labels = _file(home, f"{prefix}{part}-labels-idx1-ubyte")
            if labels is None:
                raise BadInput(f"{home} has {file.name}, but not its labels {prefix}{part}-labels-idx1-ubyte")
            arrays[split] = _read(file, 3), _read(labels, 1)
            names[split] = f"{stem}/"
            if len(arrays[split][0]) != len(arrays[split][1]):
                raise BadInput(f"{file} has {len(arrays[split][0])} images, but {labels.name} has "
                               f"{len(arrays[split][1])} labels")
            break
    if prefix.startswith("emnist-"):
        arrays = {split: (images.transpose(0, 2, 1), labels) for split, (images, labels) in arrays.items()}
    if prefix == _LETTERS and not known:
        classes = {chr(ord("a") + place): chr(ord("A") + place) for place in range(26)}
        arrays = {split: (images, labels.astype(np.int64) - 1) for split, (images, labels) in arrays.items()}
    else:
        top = max((int(labels.max(initial=0)) for _, labels in arrays.values()), default=0)
        classes = dict(known) or {str(label): str(label) for label in range(top + 1)}
    for split, (_, labels) in arrays.items():
        if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < len(classes):
            raise BadInput(f"{home}: the {split} labels go from {labels.min()} to {labels.max()}, but there are "
                           f"{len(classes)} classes")
    present = np.unique(np.concatenate([labels for _, labels in arrays.values()]))
    return _without_absent(str(home), classes, arrays, names, present)


def _without_absent(where: str, classes: dict[str, str], arrays: dict, names: dict, present: np.ndarray) -> ArraySource:
    """Classes without any image are none of the source's."""
    ids = [list(classes)[place] for place in present]
    arrays = {split: (images, np.searchsorted(present, labels)) for split, (images, labels) in arrays.items()}
    return ArraySource(where, {class_id: classes[class_id] for class_id in ids}, arrays, names)


def _homes(path: Path) -> list[Path]:
    """Folders with idx files: ``path`` itself, or where torchvision and EMNIST's archive put them below it."""
    below = (path, path / "raw", path / "gzip", *sorted(path.glob("*/raw")))
    return [folder for folder in below if folder.is_dir() and any(_matches(folder))]


def _matches(folder: Path) -> list[re.Match]:
    return [match for entry in sorted(folder.iterdir()) if (match := _IMAGES.fullmatch(entry.name))]


def _set(home: Path) -> str:
    """The prefix of the set to read: the plain one, else EMNIST letters, else the only one."""
    prefixes = {match["set"] or "" for match in _matches(home)}
    for prefix in ("", _LETTERS):
        if prefix in prefixes:
            return prefix
    if len(prefixes) > 1:
        raise BadInput(f"{home} has the sets {', '.join(sorted(prefixes))}; only one may be there, or the letters")
    return prefixes.pop()


def _file(home: Path, stem: str) -> Path | None:
    return next((path for path in (home / stem, home / f"{stem}.gz") if path.is_file()), None)


def _read(path: Path, dimensions: int) -> np.ndarray:
    """The array of an idx file of unsigned bytes. Raises BadInput where its length is not what its header says."""
    head = 4 + 4 * dimensions
    try:
        with (gzip.open if path.suffix == ".gz" else open)(path, "rb") as file:
            begin = file.read(head)
            if len(begin) < head or begin[:4] != bytes((0, 0, 8, dimensions)):
                raise BadInput(f"{path} is no idx file of unsigned bytes in {dimensions} dimensions")
            shape = struct.unpack(f">{dimensions}I", begin[4:])
            wanted = int(np.prod(shape, dtype=object))
            if wanted > _MOST:
                raise BadInput(f"{path} claims {wanted} bytes of pixels, more than the limit of {_MOST}")
            data = file.read(wanted + 1)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise BadInput(f"{path} is damaged: {error}; get it again") from None
    if len(data) != wanted:
        raise BadInput(f"{path} should hold {wanted} bytes after its header and holds "
                       f"{'more' if len(data) > wanted else len(data)}; get it again")
    return np.frombuffer(data, np.uint8).reshape(shape)
