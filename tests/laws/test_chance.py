"""Chance is a pure function of its key and position, and never changes: golden values."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kstest

from fcdd_dist import chance

GOLDEN_PERMUTATION = [0, 1, 2, 6, 3, 7, 4, 5]
GOLDEN_INTEGER = 982
GOLDEN_NORMALS = [-2.29748368, 1.11515093, -0.42296952]
GOLDEN_DIGEST = '1731a34e81e6ae74ad1bbab77e211163'


def test_golden_values():
    assert chance.words(3, 0, "x", 1).tolist() == [17022349293514416914, 12864358714232623737, 3386135826756411495]
    assert chance.permutation(8, 1, "p").tolist() == GOLDEN_PERMUTATION
    assert chance.integer(1000, 7, "i") == GOLDEN_INTEGER
    assert chance.uniforms(2, 1, "a").tolist() == pytest.approx([0.78901024, 0.08538396], abs=1e-8)
    assert chance.normals(3, 1, "n").tolist() == pytest.approx(GOLDEN_NORMALS, abs=1e-7)
    assert chance.digest(0).hex() == GOLDEN_DIGEST


@given(st.integers(0, 200), st.integers(0, 50), st.integers(0, 3))
@settings(max_examples=50, deadline=None)
def test_any_stretch_of_a_stream_can_be_had_by_itself(start, count, seed):
    for numbers in (chance.words, chance.uniforms, chance.normals):
        whole = numbers(start + count, seed, "stretch")
        assert np.array_equal(numbers(count, seed, "stretch", start=start), whole[start:])


def test_keys_are_hashed_as_a_whole():
    keys = [(1, 2), (12,), ("1", 2), (1, "2"), (2, 1), (1, 2, 0)]
    assert len({chance.digest(*key) for key in keys}) == len(keys)
    seeds_and_epochs = {chance.digest(seed, "order", epoch) for seed in range(5) for epoch in range(600)}
    assert len(seeds_and_epochs) == 3000


@pytest.mark.parametrize("key", [(), (1.5,), (True,), (None,)])
def test_what_is_no_key_is_refused(key):
    with pytest.raises((TypeError, ValueError)):
        chance.digest(*key)


def test_uniforms_are_uniform():
    draws = chance.uniforms(200_000, 3, "uniform")
    assert draws.min() >= 0
    assert draws.max() < 1
    histogram = np.bincount((draws * 20).astype(int), minlength=20)
    assert abs(histogram - 10_000).max() < 500  # five standard deviations
    assert abs(np.corrcoef(draws[:-1], draws[1:])[0, 1]) < 0.012


def test_normals_are_normal():
    draws = chance.normals(1_000_000, 3, "normal")
    assert draws.dtype == np.float32
    draws = draws.astype(float)
    assert kstest(draws, "norm").statistic < 0.00163  # 1 % of samples of the normal distribution are beyond
    assert abs(draws.mean()) < 0.005  # five standard errors, here and below
    assert abs(draws.std() - 1) < 0.0035
    assert abs((draws**4).mean() - 3) < 0.05
    assert all(abs(np.corrcoef(draws[:-lag], draws[lag:])[0, 1]) < 0.005 for lag in range(1, 9))  # 4 are of one word


@given(st.integers(1, 300), st.integers(0, 5))
@settings(max_examples=30, deadline=None)
def test_a_permutation_has_every_place_once(n, seed):
    assert sorted(chance.permutation(n, seed, "p")) == list(range(n))
    assert 0 <= chance.integer(n, seed, "i") < n
