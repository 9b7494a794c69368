"""The encoded samples of one class on their way into shards: decoded once, then read in any order.

The images are kept in memory up to a limit and in a temporary file beyond, so memory does not grow with the class:
about 40 bytes a sample. Where a sample goes is decided when all are known: by the hash of its pixels.
"""

from __future__ import annotations

import tempfile
from array import array
from types import TracebackType
from typing import NamedTuple

import numpy as np

IN_MEMORY = 128 << 20  # bytes of a class that are kept in memory


class Spooled(NamedTuple):
    """A sample as it was put in."""

    digest: bytes  # 32 bytes, the hash of the pixels
    image: bytes
    meta: bytes  # JSON
    row: np.ndarray  # (6, C) float64, see ``statistics.measure``


class Spool:
    """Samples by their number, in the order in which they were added."""

    def __init__(self, channels: int) -> None:
        self._file = tempfile.SpooledTemporaryFile(max_size=IN_MEMORY)  # noqa: SIM115  (closed by __exit__)
        self._channels = channels
        self._digests = bytearray()
        self._ends = array("Q", [0])

    def __enter__(self) -> Spool:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._file.close()

    def __len__(self) -> int:
        return len(self._ends) - 1

    def add(self, sample: Spooled) -> None:
        lengths = np.array([len(sample.image), len(sample.meta)], "<u8").tobytes()
        record = b"".join([lengths, sample.row.tobytes(), sample.image, sample.meta])
        self._file.write(record)
        self._digests += sample.digest
        self._ends.append(self._ends[-1] + len(record))

    def get(self, number: int) -> Spooled:
        self._file.seek(self._ends[number])
        record = self._file.read(self._ends[number + 1] - self._ends[number])
        image, meta = np.frombuffer(record, "<u8", 2).tolist()
        begin = 16 + 6 * 8 * self._channels
        row = np.frombuffer(record[16:begin]).reshape(6, self._channels)
        digest = bytes(self._digests[32 * number: 32 * number + 32])
        return Spooled(digest, record[begin: begin + image], record[begin + image: begin + image + meta], row)

    def by_digest(self) -> tuple[np.ndarray, np.ndarray]:
        """The numbers in the order of their digests (n,), and the places in it where a new digest begins (k,)."""
        words = np.frombuffer(bytes(self._digests), ">u8").reshape(-1, 4)
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
