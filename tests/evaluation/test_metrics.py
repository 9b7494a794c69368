"""Scores against labels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fcdd_dist.errors import BadInput
from fcdd_dist.evaluation.metrics import auroc, average_precision, choose_threshold, per_kind, why_undefined


def test_auroc_is_the_share_of_ordered_pairs():
    labels, scores = [0, 0, 0, 1, 1], [0.1, 0.4, 0.5, 0.4, 0.9]
    assert auroc(labels, scores) == pytest.approx((1 + 0.5 + 0 + 3) / 6)
    assert average_precision(labels, scores) == pytest.approx(0.5 * 1 + 0.5 * 2 / 4)  # the tied pair enters together


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 9)), min_size=2, max_size=40))
def test_auroc_by_counting(pairs):
    labels, scores = zip(*pairs, strict=True)
    nominal = [score for label, score in pairs if not label]
    anomalous = [score for label, score in pairs if label]
    if not nominal or not anomalous:
        assert auroc(labels, scores) is None
        return
    wins = sum((a > n) + 0.5 * (a == n) for a in anomalous for n in nominal)
    assert auroc(labels, scores) == pytest.approx(wins / len(nominal) / len(anomalous))


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 9)), min_size=2, max_size=40))
def test_both_are_those_of_scikit_learn(pairs):
    from sklearn.metrics import average_precision_score, roc_auc_score

    labels, scores = zip(*pairs, strict=True)
    if len(set(labels)) == 2:
        assert auroc(labels, scores) == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
        assert average_precision(labels, scores) == pytest.approx(average_precision_score(labels, scores), abs=1e-12)


@pytest.mark.parametrize(("labels", "why"), [([], "no test images"), ([0, 0], "all test images are nominal"),
                                             ([1], "all test images are anomalous")])
def test_one_label_has_no_auroc_and_says_why(labels, why):
    scores = np.arange(len(labels), dtype=float)
    assert auroc(labels, scores) is None
    assert average_precision(labels, scores) is None
    assert why in why_undefined(labels)
    assert why_undefined([0, 1]) is None


@pytest.mark.parametrize(("labels", "scores", "message"), [
    ([0, 1], [0.1, float("nan")], "1 of 2 scores are not finite"),
    ([0, 1], [float("inf"), 1.0], "1 of 2 scores are not finite"),
    ([0, 2], [0.1, 0.2], "labels are 0"),
    ([0, 1, 1], [0.1, 0.2], "3 labels for 2 scores"),
])
def test_wrong_arrays_are_refused(labels, scores, message):
    with pytest.raises(ValueError, match=message):
        auroc(labels, scores)


def test_each_kind_stands_against_all_nominal_images():
    classes = ["bag", "coat", "bag", "hat", "coat"]
    table = per_kind(classes, [0, 1, 0, 1, 1], [0.1, 0.5, 0.3, 0.2, 0.05], {"coat": "A coat"})
    assert list(table) == ["coat", "hat"]
    assert table["coat"] == {"name": "A coat", "images": 2, "auroc": 0.5, "average_precision": pytest.approx(0.75)}
    assert table["hat"]["auroc"] == 0.5
    assert table["hat"]["name"] == "hat"


def test_kinds_without_nominal_images_have_no_auroc():
    assert per_kind(["a", "b"], [1, 1], [0.1, 0.2]) == {
        kind: {"name": kind, "images": 1, "auroc": None, "average_precision": None} for kind in "ab"}
    assert per_kind(["a", "a"], [0, 0], [0.1, 0.2]) == {}


@given(st.lists(st.integers(0, 20), min_size=1, max_size=120), st.sampled_from([0.0, 0.01, 0.05, 0.1, 0.29, 0.5, 0.9]))
def test_a_threshold_keeps_its_budget_and_no_lower_one_does(values, budget):
    scores = np.array(values, dtype=float)
    threshold = choose_threshold(scores, budget)
    assert np.mean(scores > threshold.value) <= budget
    assert threshold.value in scores
    lower = scores[scores < threshold.value]
    if lower.size:
        assert np.mean(scores > lower.max()) > budget - 1e-9
    assert (threshold.images, threshold.budget) == (len(values), budget)


def test_a_budget_needs_enough_images():
    enough = choose_threshold(np.arange(20.0), 0.05)
    assert (enough.value, enough.how) == (18.0, "at most 5 % of 20 nominal hold-out images score above it")
    few = choose_threshold(np.arange(19.0), 0.05)
    assert few.value == 18.0
    assert few.how == "the maximum over 19 nominal hold-out images: 5 % can't be told from fewer than 20"
    none = choose_threshold([], 0.05)
    assert none.value is None
    assert "no nominal images" in none.how
    assert choose_threshold(np.arange(100.0), 0.29).value == 70.0  # in floating point 0.29 * 100 is below 29


@pytest.mark.parametrize("budget", [-0.1, 1.0, float("nan")])
def test_an_impossible_budget_is_refused(budget):
    with pytest.raises(BadInput, match="budget"):
        choose_threshold([1.0], budget)
