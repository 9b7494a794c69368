"""Tar files whose members are read at their places: nothing is unpacked, and tars inside tars are tars.

Python's ``tarfile`` reads the headers, so that old, GNU and pax archives are all understood. It takes a damaged header
for the end, in silence; so what stands at the end is looked at, and a truncated archive is never a short one.
"""

from __future__ import annotations

import os
import tarfile
import weakref
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial

from PIL import Image

from ...errors import BadInput
from ..images import BadImage, check_bytes, load_image
from .folders import is_image, printable

_BLOCK = 512  # bytes
_PADDING = 1 << 20  # zeros after an archive's end, at the most; writers fill up to 10,240 bytes, or what they are told
_HEADER = 16 << 20  # bytes that one read of headers may ask for
_OPEN_FILES = 16  # kept open at a time: a folder may hold 21,841 tars
BYTES_PER_IMAGE = 110_000  # of ImageNet22k, on average
_GZIP = b"\x1f\x8b"
UNPACK = "gzip can't be read at places: unpack it once (a tar of tars by tar -xzf, others by gunzip) and give that"


@dataclass(frozen=True, slots=True)
class Region:
    """A stretch of a file. It holds no open file, so it can be kept in numbers and sent to other processes."""

    path: str
    stamp: tuple[int, int]  # of the file: its bytes and the time of its last change
    start: int
    size: int
    inside: str = ""  # the name of this member in the file; empty for all of it

    @property
    def name(self) -> str:
        """For messages."""
        return f"{self.inside} in {printable(self.path)}" if self.inside else printable(self.path)

    def read(self, place: int, count: int) -> bytes:
        """``count`` bytes from ``place``, or what there is of them. Safe in threads. Raises OSError and BadInput."""
        count = max(0, min(count, self.size - place))
        file, parts = _opened(self.path, self.stamp), []
        while count and (part := os.pread(file.number, count, self.start + place)):
            parts.append(part)
            place, count = place + len(part), count - len(part)
        return b"".join(parts)


@dataclass(frozen=True, slots=True)
class Member:
    """Something in an archive. ``plain``: its bytes are a file's, so it is no link, device or file with holes."""

    name: str
    data: Region
    plain: bool


def whole(path: str | os.PathLike[str]) -> Region:
    """All of a file, which is not opened yet. Raises BadInput where it can't be reached."""
    path = os.fspath(path)
    try:
        status = os.stat(path)
    except OSError as error:
        raise BadInput(f"{printable(path)} can't be read: {error.strerror}") from None
    return Region(path, _stamp(status), 0, status.st_size)


def members(tar: Region) -> list[Member]:
    """What is in an archive, but for folders, by its headers alone. Raises BadInput where it is damaged or no tar."""
    found: list[Member] = []
    try:
        head = tar.read(0, _BLOCK)
        if head[:2] == _GZIP:
            raise BadInput(f"{tar.name} is gzipped; {UNPACK}")
        if not head:
            raise BadInput(f"{tar.name} is no tar: it is empty")
        # A member without a size that is true would lead back, to itself or out of the archive.
        with tarfile.TarFile(fileobj=_Window(tar), mode="r", encoding="utf-8") as reader:
            end = 0
            while (info := reader.next()) is not None:
                reader.members.clear()  # it would keep them all
                if info.size < 0 or reader.offset <= end:
                    raise BadInput(f"{tar.name} is damaged at byte {end:,}; get it again")
                end = reader.offset
                if end > tar.size:
                    raise BadInput(f"{tar.name} is truncated: {printable(info.name)} goes on to byte {end:,} of "
                                   f"{tar.size:,}; get it again")
                if not info.isdir():
                    name = _tidy(info.name)
                    data = Region(tar.path, tar.stamp, tar.start + info.offset_data, info.size, name)
                    found.append(Member(name, data, info.isreg() and not info.issparse()))
        _check_end(tar, reader.offset)
    except OSError as error:
        raise BadInput(f"{tar.name} can't be read: {error.strerror}") from None
    except (tarfile.TarError, ValueError, OverflowError, RecursionError, KeyError, IndexError) as error:
        state = "is damaged" if found else "is no tar"
        raise BadInput(f"{tar.name} {state}: {error}; get it again") from None
    return found


def images(tar: Region) -> dict[str, Callable[[], Image.Image]]:
    """The images of an archive by their names there, sorted, and what reads each. Raises BadInput as ``members``.

    Hidden files are passed over. Of a name that comes twice the last counts, as if the archive were unpacked.
    """
    found = {member.name: member for member in members(tar) if is_image(member.name) and not _hidden(member.name)}
    return {name: partial(_read, found[name].data) if found[name].plain else _no_file for name in sorted(found)}


class Tars:
    """Images in one tar for each class, listed when the class is asked for."""

    def __init__(self, tars: Mapping[str, Region], before: str = "", *, empty: bool = True) -> None:
        """``before``: what item names begin with. ``empty``: whether a class may be without images."""
        self._tars, self._before, self._empty = tars, before, empty

    def images(self, class_id: str) -> Iterator[tuple[str, Callable[[], Image.Image]]]:
        if class_id not in self._tars:
            return
        found = images(self._tars[class_id])
        if not found and not self._empty:
            raise BadInput(f"{self._tars[class_id].name} has no images: leave the class out, or get it again")
        for name, read in found.items():
            yield f"{self._before}{class_id}/{name}", read

    def about(self, class_id: str) -> int:
        """An estimate by the bytes: the headers of all of ImageNet22k are 14 million reads."""
        return max(1, self._tars[class_id].size // BYTES_PER_IMAGE) if class_id in self._tars else 0


class _File:
    """An open file; closed when nobody has it any more."""

    def __init__(self, path: str) -> None:
        self.number = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        weakref.finalize(self, os.close, self.number)


class _Window:
    """A region as ``tarfile`` reads a file."""

    def __init__(self, region: Region) -> None:
        self._region, self._place = region, 0

    def read(self, count: int) -> bytes:
        if not 0 <= count <= _HEADER:
            raise ValueError(f"a header of {count:,} bytes")
        data = self._region.read(self._place, count)
        self._place += len(data)
        return data

    def seek(self, place: int) -> None:
        self._place = place

    def tell(self) -> int:
        return self._place


@lru_cache(maxsize=_OPEN_FILES)
def _opened(path: str, stamp: tuple[int, int]) -> _File:
    file = _File(path)
    if _stamp(os.fstat(file.number)) != stamp:
        raise BadInput(f"{printable(path)} was changed while it was read; start again")
    return file


def _stamp(status: os.stat_result) -> tuple[int, int]:
    return status.st_size, status.st_mtime_ns


def _check_end(tar: Region, place: int) -> None:
    """Raises BadInput unless nothing but zeros follows ``place``, and no more of them than a writer pads with.

    A file must have its end marker. A tar inside another is as long as it says there, so that may be its end.
    """
    rest = tar.size - place
    if rest == 0 and tar.start > 0:
        return
    if rest < _BLOCK:
        raise BadInput(f"{tar.name} is truncated: it has no end marker at byte {place:,}; get it again")
    tail = tar.read(place, min(rest, _PADDING))
    if tail.count(0) != len(tail) or rest > _PADDING:
        raise BadInput(f"{tar.name} is damaged at byte {place:,} of {tar.size:,}; get it again")


def _tidy(name: str) -> str:
    name = printable(name)
    while name.startswith(("./", "/")):
        name = name[name.index("/") + 1:]
    return name


def _hidden(name: str) -> bool:
    return any(part.startswith(".") for part in name.split("/"))


def _read(data: Region) -> Image.Image:
    check_bytes(data.size)
    try:
        found = data.read(0, data.size)
    except OSError as error:
        raise BadImage(f"it can't be read: {error.strerror}") from None
    return load_image(found)


def _no_file() -> Image.Image:
    raise BadImage("it is a link, a device or a file with holes in its archive: only plain files are read")
