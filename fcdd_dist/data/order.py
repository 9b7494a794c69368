"""Who sees which sample when: pure functions of sizes, seed and position. No I/O, no state, numpy only.

A batch has B rows, dealt to L *lanes*; a rank owns whole lanes, so the batches do not depend on the number of ranks.
An epoch of N samples has S = ceil(N / B) steps and S * B places, which are *completed first, then cut*: place j holds
entry ``j mod n`` of the epoch's order, and lane l has the S * rows(l) consecutive places after those of the lanes
before it. So every batch is full, every rank makes S steps, and each sample is seen floor(SB/n) or ceil(SB/n) times.

A *slot* (t, l, i) is row i of lane l in step t, counted over the whole training. In each slot a coin decides whether
an exposure image replaces the nominal one. Coins and exposure images depend on ``order_seed`` and the slot alone:
detectors that share those (and B and L) see the same exposure images, whatever their class.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from .. import chance
from ..experiment import Exposure
from ..world import cut, rows


@dataclass(frozen=True, order=True)
class Cursor:
    """The next step of a training: ``step`` of ``epoch``, both from 0."""

    epoch: int = 0
    step: int = 0


@dataclass(frozen=True)
class LaneRows:
    """What one lane sees in one step: ``ids[i]`` is an exposure sample where ``exposed[i]``, else a nominal one."""

    exposed: np.ndarray  # bool, (rows,)
    ids: np.ndarray  # int64, (rows,)


class Shuffle:
    """A seekable shuffle of the places ``first`` to ``first + length`` of a cyclic sequence of samples.

    The sequence is made of pieces (shards) in random order, turned by a random offset; places are then permuted
    within windows. So a reader that walks the places touches few shards at a time, and place q is known without
    computing those before it.
    """

    def __init__(self, starts: np.ndarray, counts: np.ndarray, first: int, length: int, window: int,
                 pieces: tuple, windows: tuple) -> None:
        """``starts``, ``counts``: (pieces,) int64, the sample ids of a piece are start to start + count.

        ``pieces`` and ``windows`` are the keys of the two permutations.
        """
        order = chance.permutation(len(counts), *pieces)
        self._starts, self._ends = starts[order], np.cumsum(counts[order])
        self._counts = counts[order]
        self._total = int(self._ends[-1])
        self._first = first + chance.integer(self._total, *pieces, "turn")
        self._length, self._window, self._key = length, window, windows
        self._within = lru_cache(maxsize=2)(self._permute)

    def __call__(self, places: np.ndarray) -> np.ndarray:
        """The sample ids at ``places`` (int64 in [0, length), any shape)."""
        window = places // self._window
        base = np.empty_like(places)
        for w in np.unique(window):
            here = window == w
            base[here] = w * self._window + self._within(int(w))[places[here] - w * self._window]
        base = (base + self._first) % self._total
        piece = np.searchsorted(self._ends, base, side="right")
        return self._starts[piece] + base - (self._ends[piece] - self._counts[piece])

    def _permute(self, window: int) -> np.ndarray:
        return chance.permutation(min(self._window, self._length - window * self._window), *self._key, window)


class Order:
    """The order of a training: ``order.rows(cursor, lane)`` names the samples of any lane in any step.

    ``nominal`` and ``exposure`` are the numbers of samples of each shard; ids count samples over these in turn.
    """

    def __init__(self, *, batch_size: int, lanes: int, seed: int, window: int, repeats: int,
                 nominal: tuple[int, ...], exposure: tuple[int, ...], settings: Exposure) -> None:
        self.batch_size, self.lanes = batch_size, lanes
        self._seed, self._window, self._settings = seed, window, settings
        self._counts = np.asarray(nominal, np.int64)
        self._starts = np.cumsum(self._counts) - self._counts
        self.samples = repeats * int(self._counts.sum())
        self.steps_per_epoch = -(-self.samples // batch_size)
        self._exposure = [_ExposureLane(lane, self.lane_rows(lane), lanes, exposure, window, settings)
                          for lane in range(lanes)]
        self._shuffle = lru_cache(maxsize=2 * lanes)(self._lane_shuffle)

    def lane_rows(self, lane: int) -> int:
        first, end = rows(self.batch_size, self.lanes, lane)
        return end - first

    def rows(self, cursor: Cursor, lane: int) -> LaneRows:
        count = self.lane_rows(lane)
        places = np.arange(cursor.step * count, (cursor.step + 1) * count, dtype=np.int64)
        ids = self._shuffle(cursor.epoch, lane)(places)
        exposed, exposure_ids = self._exposure[lane](cursor.epoch * self.steps_per_epoch + cursor.step)
        ids[exposed] = exposure_ids
        return LaneRows(exposed, ids)

    def _lane_shuffle(self, epoch: int, lane: int) -> Shuffle:
        length = self.steps_per_epoch * self.lane_rows(lane)
        first = self.steps_per_epoch * rows(self.batch_size, self.lanes, lane)[0]
        return Shuffle(self._starts, self._counts, first, length, self._window,
                       (self._seed, "order", epoch), (self._seed, "window", epoch, lane))


class _ExposureLane:
    """Lane l's passes over its own part of the exposure samples, each pass in a new order."""

    _BLOCK = 1 << 16  # coins that are tossed at once

    def __init__(self, lane: int, count: int, lanes: int, counts: tuple[int, ...], window: int,
                 settings: Exposure) -> None:
        self._lane, self._rows, self._window, self._settings = lane, count, window, settings
        total = sum(counts)
        if total and settings.probability:
            used = min(settings.limit or total, total)
            # The set is shuffled over its classes when it is written, so a cyclic range of it is a random subset.
            turn = chance.integer(total, settings.order_seed, "limit") if used < total else 0
            first, end = cut(used, lanes, lane)
            if first == end:
                first = lane % used
                end = first + 1
            self._starts, self._counts = _ranges(np.asarray(counts, np.int64), first + turn, end + turn)
        elif settings.probability:
            raise ValueError("exposure with a probability above 0 needs exposure samples")
        self._shuffle = lru_cache(maxsize=2)(self._pass_shuffle)
        # A coin is a uniform below the probability. Comparing words as they come takes a third of the time, which
        # counts when a training goes on late: all coins before are tossed again, 8 million a second and lane.
        self._last = np.uint64(max(1, math.ceil(settings.probability * 2**53) << 11) - 1)
        self._tossed = lru_cache(maxsize=2)(self._toss)
        self._won_before: list[int] = [0]  # [b]: coins won in the blocks before block b

    def __call__(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """Whether each row is exposed, (rows,) bool, and the ids for those that are."""
        if not self._settings.probability:
            return np.zeros(self._rows, bool), np.empty(0, np.int64)
        places = np.arange(step * self._rows, (step + 1) * self._rows)
        blocks = places // self._BLOCK
        exposed = np.empty(self._rows, bool)
        for block in range(int(blocks[0]), int(blocks[-1]) + 1):
            here = blocks == block
            exposed[here] = self._tossed(block)[places[here] - block * self._BLOCK]
        won = self._won(int(places[0])) + np.arange(int(exposed.sum()))
        length = int(self._counts.sum())
        ids = np.empty(len(won), np.int64)
        for number in np.unique(won // length):
            here = won // length == number
            ids[here] = self._shuffle(int(number))(won[here] - number * length)
        return exposed, ids

    def _toss(self, block: int) -> np.ndarray:
        key = (self._settings.order_seed, "coin", self._lane)
        return chance.words(self._BLOCK, *key, start=block * self._BLOCK) <= self._last

    def _won(self, place: int) -> int:
        """Coins won before ``place``."""
        block, offset = divmod(place, self._BLOCK)
        while len(self._won_before) <= block:
            self._won_before.append(self._won_before[-1] + int(self._tossed(len(self._won_before) - 1).sum()))
        return self._won_before[block] + int(self._tossed(block)[:offset].sum())

    def _pass_shuffle(self, number: int) -> Shuffle:
        key = (self._settings.order_seed, "exposure", self._lane, number)
        return Shuffle(self._starts, self._counts, 0, int(self._counts.sum()), self._window,
                       (*key, "shards"), (*key, "window"))


def _ranges(counts: np.ndarray, first: int, end: int) -> tuple[np.ndarray, np.ndarray]:
    """Starts and counts of the pieces of the cyclic range [first, end) of samples, cut where shards end."""
    total = int(counts.sum())
    edges = np.concatenate([np.cumsum(counts) + turn * total for turn in range(2)])
    edges = np.unique(np.concatenate([[first, end], edges[(edges > first) & (edges < end)]]))
    return edges[:-1] % total, np.diff(edges)
