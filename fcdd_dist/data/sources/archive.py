"""Tar files whose members are read at their places: nothing is unpacked, and tars inside tars are tars.

Python's ``tarfile`` reads the headers, so that old, GNU and pax archives are all understood. It takes a damaged header
for the end, in silence; so what stands at the end is looked at, and a truncated archive is never a short one.
"""

from __future__ import annotations

import os
import tarfile
import weakref
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
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
_UNSEEN = 1000  # members without a tar, after which there is none
_IN_DOUBT = 64  # tars without an end marker whose headers are read at once: those of millions of images take minutes
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
    start: int  # where its headers begin
    end: int  # where the next one's do


def whole(path: str | os.PathLike[str]) -> Region:
    """All of a file, which is not opened yet. Raises BadInput where it can't be reached."""
    path = os.fspath(path)
    try:
        status = os.stat(path)
    except OSError as error:
        raise BadInput(f"{printable(path)} can't be read: {error.strerror}") from None
    return Region(path, _stamp(status), 0, status.st_size)


def members(tar: Region) -> Iterator[Member]:
    """What is in an archive, but for folders, by its headers alone. Raises BadInput where it is damaged or no tar.

    One is held at a time: an archive may have 14 million.
    """
    end = 0
    try:
        head = tar.read(0, _BLOCK)
        if head[:2] == _GZIP:
            raise BadInput(f"{tar.name} is gzipped; {UNPACK}")
        if not head:
            raise BadInput(f"{tar.name} is no tar: it is empty")
        # A member without a size that is true would lead back, to itself or out of the archive.
        with tarfile.TarFile(fileobj=_Window(tar), mode="r", encoding="utf-8") as reader:
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
                    yield Member(name, data, info.isreg() and not info.issparse(), info.offset, end)
        _check_end(tar, reader.offset)
    except OSError as error:
        raise BadInput(f"{tar.name} can't be read: {error.strerror}") from None
    except (tarfile.TarError, ValueError, OverflowError, RecursionError, KeyError, IndexError) as error:
        raise BadInput(f"{tar.name} {'is damaged' if end else 'is no tar'}: {error}; get it again") from None


def images(tar: Region) -> dict[str, Callable[[], Image.Image]]:
    """The images of an archive by their names there, sorted, and what reads each. Raises BadInput as ``members``.

    Of a name that comes twice the last counts, as if the archive were unpacked.
    """
    found = {member.name: member for member in members(tar) if holds_image(member)}
    return {name: reads(found[name]) for name in sorted(found)}


def holds_image(member: Member) -> bool:
    """Whether it counts as an image by its name; hidden files don't."""
    return is_image(member.name) and not any(part.startswith(".") for part in member.name.split("/"))


def reads(member: Member) -> Callable[[], Image.Image]:
    """What reads an image. It can be sent to other processes."""
    return partial(_read, member.data) if member.plain else _no_file


def tars_in(tar: Region) -> dict[str, Region]:
    """The tars in an archive by their names there; none where it begins with many other things, and no tar.

    Raises BadInput as ``members``.
    """
    found: dict[str, Region] = {}
    for number, member in enumerate(members(tar)):
        if member.plain and member.name.lower().endswith(".tar"):
            found[member.name] = member.data
        elif not found and number >= _UNSEEN:
            break
    return found


def refuse_truncated(tars: Iterable[Region]) -> None:
    """Raises BadInput for an archive that breaks off, by reading the end of each: before hours of work, not after.

    A tar inside another may end without a marker, so only its headers tell; those of a few are read. What is damaged
    further inside is noticed when it is listed.
    """
    tars = list(tars)
    with ThreadPoolExecutor(_OPEN_FILES) as pool:
        open_ends = [tar for tar, ended in zip(tars, pool.map(_ends, tars), strict=True) if not ended]
    for tar in open_ends[:_IN_DOUBT]:
        for _ in members(tar):
            pass


class _File:
    """An open file; closed when nobody has it any more."""

    def __init__(self, path: str) -> None:
        self.number = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        weakref.finalize(self, os.close, self.number)


class _Window:
    """A region as ``tarfile`` reads a file: the byte before each header, then the header. That is one request here."""

    def __init__(self, region: Region) -> None:
        self._region, self._place = region, 0
        self._ahead, self._from = b"", 0  # bytes that were read, and their place

    def read(self, count: int) -> bytes:
        if not 0 <= count <= _HEADER:
            raise ValueError(f"a header of {count:,} bytes")
        first = self._place - self._from
        if not 0 <= first <= len(self._ahead) - count:
            self._ahead, self._from, first = self._region.read(self._place, max(count, 2 * _BLOCK)), self._place, 0
        data = self._ahead[first:first + count]
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
    if rest == 0 and tar.inside:
        return
    if rest < _BLOCK:
        raise BadInput(f"{tar.name} is truncated: it has no end marker at byte {place:,}; get it again")
    tail = tar.read(place, min(rest, _PADDING))
    if tail.count(0) != len(tail) or rest > _PADDING:
        raise BadInput(f"{tar.name} is damaged at byte {place:,} of {tar.size:,}; get it again")


def _ends(tar: Region) -> bool:
    """Whether the end marker is there. Raises BadInput where it can't be read."""
    try:
        tail = tar.read(max(0, tar.size - _BLOCK), _BLOCK)
    except OSError as error:
        raise BadInput(f"{tar.name} can't be read: {error.strerror}") from None
    return tar.size > _BLOCK and tail.count(0) == _BLOCK


def _tidy(name: str) -> str:
    name = printable(name)
    while name.startswith(("./", "/")):
        name = name[name.index("/") + 1:]
    return name


def _read(data: Region) -> Image.Image:
    check_bytes(data.size)
    try:
        found = data.read(0, data.size)
    except OSError as error:
        raise BadImage(f"it can't be read: {error.strerror}") from None
    return load_image(found)


def _no_file() -> Image.Image:
    raise BadImage("it is a link, a device or a file with holes in its archive: only plain files are read")
