"""Laws of order: any world sees the same batches, every sample equally often, seek equals skip."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fcdd_dist import chance
from fcdd_dist.data.order import Cursor, Order
from fcdd_dist.errors import BadInput
from fcdd_dist.experiment import Exposure
from fcdd_dist.world import World, rows

SHARDS = st.lists(st.integers(1, 40), min_size=1, max_size=6).map(tuple)


def order(batch_size=12, lanes=5, seed=0, window=7, repeats=1, nominal=(10, 23, 4), exposure=(9, 30), **settings_):
    return Order(batch_size=batch_size, lanes=lanes, seed=seed, window=window, repeats=repeats, nominal=nominal,
                 exposure=exposure, settings=Exposure(**settings_))


def batch(order, cursor, lanes):
    parts = [order.rows(cursor, lane) for lane in lanes]
    return (np.concatenate([part.exposed for part in parts]), np.concatenate([part.ids for part in parts]))


@given(nominal=SHARDS, batch_size=st.integers(1, 30), lanes=st.integers(1, 8), window=st.integers(1, 50),
       repeats=st.integers(1, 3), epoch=st.integers(0, 4))
@settings(max_examples=60, deadline=None)
def test_every_sample_is_seen_equally_often(nominal, batch_size, lanes, window, repeats, epoch):
    lanes = min(lanes, batch_size)
    this = order(batch_size, lanes, 1, window, repeats, nominal, probability=0.0)
    n, steps = sum(nominal), -(-repeats * sum(nominal) // batch_size)
    assert this.steps_per_epoch == steps
    seen = np.zeros(n, int)
    for step in range(steps):
        _, ids = batch(this, Cursor(epoch, step), range(lanes))
        assert len(ids) == batch_size
        np.add.at(seen, ids, 1)
    assert set(seen) <= {steps * batch_size // n, -(-steps * batch_size // n)}


@given(exposure=SHARDS, lanes=st.integers(1, 8), window=st.integers(1, 50), limit=st.none() | st.integers(1, 60))
@settings(max_examples=20, deadline=None)
def test_exposure_is_drawn_without_replacement_within_a_lanes_pass(exposure, lanes, window, limit):
    this = order(16, lanes, 0, window, 1, (100,), exposure, probability=1.0, limit=limit)
    total = sum(exposure)
    used = min(limit or total, total)
    everything = set()
    for lane in range(lanes):
        first, end = lane * used // lanes, (lane + 1) * used // lanes
        size = max(1, end - first)
        ids = np.concatenate([this.rows(Cursor(epoch, step), lane).ids for epoch in range(5) for step in
                              range(this.steps_per_epoch)])  # two passes and more
        for number in range(len(ids) // size):
            one_pass = ids[number * size: (number + 1) * size]
            assert len(set(one_pass)) == size
            assert set(one_pass) == set(ids[:size])
        everything |= set(ids)
        assert ids.min() >= 0
        assert ids.max() < total
    assert len(everything) == used or used < lanes


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5])
def test_any_world_sees_the_same_global_batches(size):
    this = order()
    for cursor in (Cursor(0, 0), Cursor(0, 2), Cursor(3, 1)):
        whole = batch(this, cursor, range(5))
        fresh = order()  # a rank knows nothing of what the others have asked for
        parts = [batch(fresh, cursor, World(rank, size).lanes(5)) for rank in range(size)]
        for index in range(2):
            assert np.array_equal(np.concatenate([part[index] for part in parts]), whole[index])


def test_seek_equals_skip():
    walked, sought = order(), order()
    steps = [Cursor(epoch, step) for epoch in range(4) for step in range(walked.steps_per_epoch)]
    seen = [batch(walked, cursor, range(5)) for cursor in steps]
    for index in reversed(range(len(steps))):
        there = batch(sought, steps[index], range(5))
        assert np.array_equal(there[0], seen[index][0])
        assert np.array_equal(there[1], seen[index][1])


def test_detectors_with_one_order_seed_see_the_same_exposure_whatever_their_class():
    one = order(seed=0, nominal=(40,), order_seed=7)
    other = order(seed=5, nominal=(22, 18), order_seed=7)
    for step in range(one.steps_per_epoch):
        for lane in range(5):
            a, b = one.rows(Cursor(0, step), lane), other.rows(Cursor(0, step), lane)
            assert np.array_equal(a.exposed, b.exposed)
            assert np.array_equal(a.ids[a.exposed], b.ids[b.exposed])


def test_epochs_and_seeds_differ_and_coins_are_fair():
    this = order(batch_size=200, lanes=8, nominal=(512, 488), exposure=(512,) * 4)
    first, second = (batch(this, Cursor(epoch, 0), range(8)) for epoch in (0, 1))
    assert not np.array_equal(first[1], second[1])
    won = np.concatenate([batch(this, Cursor(epoch, step), range(8))[0] for epoch in range(20) for step in range(5)])
    assert abs(won.mean() - 0.5) < 0.018  # five standard deviations of 20,000 coins


def test_a_large_exposure_set_is_sought_without_a_list_of_it():
    this = order(batch_size=200, lanes=8, window=256, nominal=(512,), exposure=(512,) * 27_000)  # 14 million
    there = this.rows(Cursor(500, 1), 3)
    assert there.ids[there.exposed].max() < 512 * 27_000
    touched = {int(i) // 512 for step in range(3) for i in this.rows(Cursor(500, step), 3).ids}
    assert len(touched) <= 12  # few shards at a time, though the set has 27,000


def test_a_world_larger_than_the_lanes_is_refused():
    with pytest.raises(BadInput, match="9 workers can't share 8 lanes"):
        World(0, 9).lanes(8)


@given(st.integers(1, 300), st.integers(1, 16), st.integers(1, 16))
@settings(max_examples=50, deadline=None)
def test_rows_of_all_lanes_of_all_ranks_cover_the_batch_once(batch_size, lanes, size):
    size = min(size, lanes)
    owned = [lane for rank in range(size) for lane in World(rank, size).lanes(lanes)]
    assert owned == list(range(lanes))
    cover = [row for lane in range(lanes) for row in range(*rows(batch_size, lanes, lane))]
    assert cover == list(range(batch_size))


@pytest.mark.parametrize("probability", [0.1, 0.5, 0.7, 1 / 3, 1e-9, 1.0])
def test_coins_are_uniforms_below_the_probability(probability):
    this = order(batch_size=400, lanes=2, probability=probability, order_seed=4)
    for step in (0, 1, 500):
        draws = chance.uniforms(200, 4, "coin", 1, start=200 * step)
        exposed = this.rows(Cursor(*divmod(step, this.steps_per_epoch)), 1).exposed
        assert np.array_equal(exposed, draws < probability)


class TestFourteenMillionExposureSamples:
    """35,000 shards of 400: what a place costs, and what a resume in the middle of them asks for."""

    SHARDS = (400,) * 35_000

    def opened(self):
        return order(batch_size=200, lanes=8, window=256, nominal=(400, 400, 500), exposure=self.SHARDS)

    def test_opening_and_seeking_take_milliseconds_and_little_memory(self):
        import time
        import tracemalloc

        tracemalloc.start()
        try:
            began = time.perf_counter()
            this = self.opened()
            far = Cursor(int(0.9 * 14e6 / 100 / this.steps_per_epoch), 3)
            for cursor in (Cursor(0, 0), far):
                batch(this, cursor, range(8))
            seconds = time.perf_counter() - began
            assert tracemalloc.get_traced_memory()[1] < 40 << 20
        finally:
            tracemalloc.stop()
        assert seconds < 2  # a tenth of it on a machine that has nothing else to do

    @pytest.mark.parametrize("part", [0.1, 0.5, 0.9])
    def test_the_first_batch_after_a_resume_asks_for_the_shards_under_way(self, part):
        this = self.opened()
        step = int(part * 14e6 / 100)
        exposed, ids = batch(this, Cursor(*divmod(step, this.steps_per_epoch)), range(8))
        assert exposed.sum() > 60
        assert len({int(i) // 400 for i in ids[exposed]}) <= 2 * 8

    def test_a_step_in_the_far_future_is_what_it_always_was(self):
        """Coins are counted from the first one on, however they are counted: a golden value."""
        there = self.opened().rows(Cursor(2000, 5), 5)
        assert "".join(map(str, there.exposed.astype(int))) == "0000111110000000101110111"
        assert there.ids.tolist() == [
            507, 621, 553, 506, 9428778, 9428768, 9428617, 9428636, 9428682, 532, 543, 545, 627, 577, 546, 626, 9428791,
            556, 9428564, 9428775, 9428660, 520, 9428684, 9428647, 9428609]
