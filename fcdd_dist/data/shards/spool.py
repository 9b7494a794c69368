"""Encoded samples on their way into shards: decoded once, then read in any order.

They are kept in memory up to a limit and in a temporary file beyond, so memory does not grow with their number: about
40 bytes a sample. Where a sample goes is decided when all are known: by the hash of its pixels.
"""

from __future__ import annotations

import struct
import tempfile
from array import array
from collections.abc import Iterator
from types import TracebackType
from typing import NamedTuple

import numpy as np

from ...errors import Fault

IN_MEMORY = 128 << 20  # bytes of samples that are kept in memory
DIGEST = 32  # bytes
_HEAD = struct.Struct(f"<{DIGEST}sHII")  # digest, bytes of the row, of the image and of the JSON


class Spooled(NamedTuple):
    """A sample as it was put in."""

    digest: bytes  # 32 bytes, the hash of the pixels
    image: bytes
    meta: bytes  # JSON
    row: np.ndarray  # (7, C) float64, see ``statistics.measure``

    def pack(self) -> bytes:
        row = self.row.astype("<f8").tobytes()
        return _HEAD.pack(self.digest, len(row), len(self.image), len(self.meta)) + row + self.image + self.meta


def unpack(record: bytes | memoryview) -> Spooled:
    """The sample that ``pack`` has written."""
    digest, row, image, meta = _HEAD.unpack_from(record)
    first, second, third = _HEAD.size + row, _HEAD.size + row + image, _HEAD.size + row + image + meta
    return Spooled(digest, bytes(record[first:second]), bytes(record[second:third]),
                   np.frombuffer(record[_HEAD.size:first], "<f8").reshape(7, -1))


def cut(records: bytes) -> Iterator[memoryview]:
    """The single records of several that stand one after another."""
    view, place = memoryview(records), 0
    while place < len(view):
        end = place + _HEAD.size + sum(_HEAD.unpack_from(view, place)[1:])
        yield view[place:end]
        place = end


class Spool:
    """Samples by their number, in the order in which they were added.

    Raises Fault where the temporary file can't be written.
    """

    def __init__(self) -> None:
        self._file = tempfile.SpooledTemporaryFile(max_size=IN_MEMORY)  # noqa: SIM115  (closed by __exit__)
        self._digests = bytearray()
        self._ends = array("Q", [0])

    def __enter__(self) -> Spool:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._file.close()

    def __len__(self) -> int:
        return len(self._ends) - 1

    def add(self, sample: Spooled) -> None:
        self.add_record(sample.pack())

    def add_record(self, record: bytes | memoryview) -> None:
        """A sample as ``pack`` has written it."""
        try:
            self._file.write(record)
        except OSError as error:
            raise Fault(f"the temporary folder {tempfile.gettempdir()} can't be written: {error.strerror}; free space "
                        f"there, or name another in TMPDIR") from None
        self._digests += record[:DIGEST]
        self._ends.append(self._ends[-1] + len(record))

    def get(self, number: int) -> Spooled:
        return unpack(self.record(number))

    def record(self, number: int) -> bytes:
        self._file.seek(self._ends[number])
        return self._file.read(self._ends[number + 1] - self._ends[number])

    @property
    def digests(self) -> np.ndarray:
        """(n, 4) big-endian 64-bit words, whose order is that of the digests."""
        return np.frombuffer(bytes(self._digests), ">u8").reshape(-1, 4)

    def by_digest(self) -> tuple[np.ndarray, np.ndarray]:
        """The numbers in the order of their digests (n,), and the places in it where a new digest begins (k,)."""
        words = self.digests
        order = np.lexsort((words[:, 3], words[:, 2], words[:, 1], words[:, 0]))
        ordered = words[order]
        new = np.ones(len(order), bool)
        new[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
        return order, np.flatnonzero(new)


def set_aside(spool: Spool, target: int) -> np.ndarray:
    """Whether each sample is held out, (n,) bool: up to ``target`` of them, those whose pixels have the least hashes.

    So the choice does not depend on names or order, and equal images fall together; of a group of equal images that
    is too large for what is still wanted, none is taken.
    """
    order, starts = spool.by_digest()
    held = np.zeros(len(spool), bool)
    wanted = target
    for first, end in zip(starts, np.append(starts, len(order))[1:], strict=True):
        if not wanted:
            break
        if end - first <= wanted:
            held[order[first:end]] = True
            wanted -= int(end - first)
    return held


def nominal_target(count: int) -> int:
    """How many of ``count`` nominal images are held out: 5 %, from 20 to 500, never more than a third."""
    return min(max(count * 5 // 100, 20), 500, count // 3)


def exposure_target(count: int) -> int:
    """How many of ``count`` exposure images are held out: 1 %, at least one, at most 2,000, never more than a third."""
    return min(max(count // 100, 1), 2000, count // 3)
