"""Resident and streamed pixels: the same ones, fetched ahead, in bounded memory; errors and early ends."""

import threading
import time

import numpy as np
import pytest
import torch

from fcdd_dist.data.manifest import Shard
from fcdd_dist.data.shards.decode import decode_samples
from fcdd_dist.data.shards.read import FETCHERS, read_shard
from fcdd_dist.errors import Damaged, Fault, NotFound
from fcdd_dist.experiment import Form
from fcdd_dist.storage import MemoryStore
from fcdd_dist.stream import resident, streamed
from fcdd_dist.stream.resident import Resident
from fcdd_dist.stream.streamed import Streamed
from tests.support.shards import SlowStore, no_thread_is_left, until, write_shards

CPU = torch.device("cpu")
PNG, JPEG = Form.parse("png-5-grey"), Form.parse("jpeg95-16-rgb")


@pytest.fixture(autouse=True)
def threads_end():
    yield
    until(no_thread_is_left)


def one_shard_each(shards):
    """A request for two samples of each shard, in turn."""
    firsts = np.cumsum([0, *(shard.samples for shard in shards)])[:-1]
    return [np.array([first + 1, first]) for first in firsts]


def random_requests(samples, count, size, seed=0):
    random = np.random.default_rng(seed)
    return [random.integers(0, samples, random.integers(0, size + 1)) for _ in range(count)]


def everything(store, shards, form):
    return torch.from_numpy(np.concatenate([decode_samples(read_shard(store, s), form, store, s) for s in shards]))


@pytest.mark.parametrize("form", [PNG, JPEG], ids=str)
@pytest.mark.parametrize("room", [1, 3, 100])
def test_resident_and_streamed_give_what_is_asked_for(form, room, monkeypatch):
    store = MemoryStore()
    shards = write_shards(store, form, [3, 1, 4, 7, 2, 5, 3])
    monkeypatch.setattr(streamed, "STREAM_BYTES", room * max(shard.bytes for shard in shards))
    want, requests = everything(store, shards, form), random_requests(25, 100, 6)
    for opened in (Resident(store, shards, form, CPU, 2), Streamed(store, shards, form, CPU, 2)):
        assert opened.samples == 25
        for _ in range(2):
            given = list(opened.walk(iter(requests)))
            assert len(given) == len(requests)
            assert all(torch.equal(images, want[ids]) for images, ids in zip(given, requests, strict=True))
    assert list(opened.walk([])) == []


@pytest.mark.parametrize("form", [PNG, JPEG], ids=str)
def test_fetches_overlap(form):
    store = SlowStore(wait_s=0.05)
    shards = write_shards(store, form, [2] * 64)
    began = time.monotonic()
    assert len(list(Streamed(store, shards, form, CPU, 1).walk(one_shard_each(shards)))) == 64
    assert store.most_at_once == FETCHERS
    assert time.monotonic() - began < 64 * 0.05 / 2  # one after the other
    Resident(store, shards, form, CPU, 1)
    assert store.most_at_once == FETCHERS
    assert sorted(store.asked) == sorted(2 * [shard.key for shard in shards])


def test_once_ahead_a_walk_does_not_wait_for_the_network():
    store = SlowStore()
    shards = write_shards(store, JPEG, [2] * 100)
    walk = Streamed(store, shards, JPEG, CPU, 1).walk(one_shard_each(shards))
    begun, ahead = 8, streamed._LOOKED_AHEAD
    for number in range(begun):  # at first it does not look far
        next(walk)
        assert len(store.asked) <= number + 2 ** number + 2
    until(lambda: len(store.done) == begun + ahead)
    store.gate.clear()
    for _ in range(ahead):
        next(walk)
    assert len(store.done) == begun + ahead
    until(lambda: len(store.asked) == len(store.done) + FETCHERS)  # and goes on asking
    store.gate.set()
    assert len(list(walk)) == 100 - begun - ahead


def test_a_shard_is_fetched_once_while_there_is_room():
    store = SlowStore()
    shards = write_shards(store, PNG, [4] * 10)
    streamed = Streamed(store, shards, PNG, CPU, 2)
    for _ in range(2):
        list(streamed.walk(random_requests(40, 50, 8)))
    assert sorted(store.asked) == sorted(shard.key for shard in shards)


class CountingStore(MemoryStore):
    """Knows how many bytes of what it gave are alive, and at most were; would rather not exceed ``limit``."""

    def __init__(self):
        super().__init__()
        self.living = self.most = self.limit = 0
        self.counting = threading.RLock()

    def verified(self, key, size, sha256):
        # A thread that has just finished may still be letting go of what was given back: that takes no second.
        end = time.monotonic() + 1
        while not self.add(size, time.monotonic() > end):
            time.sleep(0.001)
        data = Counted(super().verified(key, size, sha256))
        data.store = self
        return data

    def add(self, size, anyway):
        with self.counting:
            if self.living + size > self.limit and not anyway:
                return False
            self.living += size
            self.most = max(self.most, self.living)
            return True


class Counted(bytes):
    def __del__(self):
        with self.store.counting:
            self.store.living -= len(self)


@pytest.mark.parametrize("walks", [1, 2])
@pytest.mark.parametrize(("size", "room"), [(1, 4), (3, 4), (4, 8), (12, 1)])
def test_memory_is_bounded_whatever_is_asked_for(size, room, walks, monkeypatch):
    """By the room or a request that needs more; a second walk may have one request under way beside that."""
    store = CountingStore()
    shards = write_shards(store, JPEG, [1] * 40)
    largest = max(shard.bytes for shard in shards)
    monkeypatch.setattr(streamed, "STREAM_BYTES", room * largest)
    store.limit = (max(room, size) + (walks - 1) * size) * largest
    want, split = everything(MemoryStore("", store._objects), shards, JPEG), Streamed(store, shards, JPEG, CPU, 2)
    requests = [random_requests(40, 60, size, seed) for seed in range(walks)]
    under_way = [split.walk(each) for each in requests]
    for asked in zip(*requests, strict=True):
        for walk, ids in zip(under_way, asked, strict=True):
            assert torch.equal(next(walk), want[ids])
    assert [list(walk) for walk in under_way] == [[]] * walks
    assert 0.5 * min(store.limit, 20 * largest) < store.most <= store.limit


def damage(store, key):
    store.write(key, store.read(key)[:-1] + b"x")


@pytest.mark.parametrize(("spoil", "error"), [(damage, Damaged), (MemoryStore.delete, NotFound)])
@pytest.mark.parametrize("form", [PNG, JPEG], ids=str)
def test_an_error_comes_at_the_request_that_needs_the_shard_and_not_again(form, spoil, error):
    store = SlowStore()
    shards = write_shards(store, form, [2] * 30)
    good = store.read("20.tar")
    spoil(store, "20.tar")
    streamed = Streamed(store, shards, form, CPU, 2)
    walk = streamed.walk(one_shard_each(shards))
    for _ in range(20):
        next(walk)
    with pytest.raises(error, match=r"slow:/20\.tar"):
        next(walk)
    assert list(walk) == []
    until(no_thread_is_left)
    with pytest.raises(error, match=r"slow:/20\.tar"):
        Resident(store, shards, form, CPU, 2)
    store.write("20.tar", good)
    assert len(list(streamed.walk(one_shard_each(shards)))) == 30


def test_a_fault_of_the_storage_is_told_as_it_is():
    class Broken(SlowStore):
        def read(self, key, start=0, end=None):
            if key == "3.tar":
                raise Fault("nothing worked for 120 s")
            return super().read(key, start, end)

    store = Broken()
    shards = write_shards(store, PNG, [2] * 5)
    with pytest.raises(Fault, match="nothing worked"):
        list(Streamed(store, shards, PNG, CPU, 1).walk(one_shard_each(shards)))


def test_closed_early_it_neither_waits_nor_fetches_on():
    store = SlowStore()
    shards = write_shards(store, PNG, [2] * 50)
    want, requests = everything(store, shards, PNG), one_shard_each(shards)
    store.asked.clear(), store.done.clear()
    store.gate.clear()
    store.free |= {f"{number}.tar" for number in range(5)}
    streamed = Streamed(store, shards, PNG, CPU, 2)
    walk = streamed.walk(requests)
    for _ in range(5):  # by then it looks far ahead
        next(walk)
    until(lambda: len(store.asked) == 5 + FETCHERS)
    began = time.monotonic()
    walk.close()
    assert time.monotonic() - began < 5
    again = streamed.walk(requests)  # what is under way is not fetched twice
    assert torch.equal(next(again), want[requests[0]])
    store.gate.set()
    assert all(torch.equal(images, want[ids]) for images, ids in zip(again, requests[1:], strict=True))
    assert sorted(store.asked) == sorted(shard.key for shard in shards)


def test_left_alone_it_is_closed():
    store = SlowStore()
    shards = write_shards(store, PNG, [2] * 50)
    store.gate.clear()
    store.free |= {f"{number}.tar" for number in range(5)}
    for number, _ in enumerate(Streamed(store, shards, PNG, CPU, 2).walk(one_shard_each(shards))):
        if number == 4:  # by now it looks far ahead
            break
    until(lambda: len(store.asked) == 5 + FETCHERS)
    store.gate.set()
    until(no_thread_is_left)
    assert len(store.asked) == 5 + FETCHERS


def test_of_two_walks_one_may_end_early():
    store = SlowStore()
    shards = write_shards(store, PNG, [2] * 40)
    want, requests = everything(store, shards, PNG), one_shard_each(shards)
    store.asked.clear(), store.done.clear()
    streamed = Streamed(store, shards, PNG, CPU, 2)
    first, second = streamed.walk(requests), streamed.walk(requests)
    next(first)
    assert torch.equal(next(second), want[requests[0]])
    first.close()  # what the second waits for was asked for by the first
    assert all(torch.equal(images, want[ids]) for images, ids in zip(second, requests[1:], strict=True))
    assert sorted(store.asked) == sorted(shard.key for shard in shards)


def test_a_resident_split_is_decoded_as_it_comes():
    """No more of it is fetched than a few shards that decoding has not come to."""
    store, waiting = SlowStore(), []

    def slow_decode(data, form, where, shard, decode=resident.decode_shard):
        waiting.append(len(store.done) - len(waiting))
        time.sleep(0.01)
        return decode(data, form, where, shard)

    shards: tuple[Shard, ...] = write_shards(store, PNG, [2] * 60)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resident, "decode_shard", slow_decode)
        Resident(store, shards, PNG, CPU, 2)
    assert max(waiting) <= FETCHERS + 2
