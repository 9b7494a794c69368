"""What test scores say against a detector."""

from __future__ import annotations

import pytest

from fcdd_dist.cli.options import warnings
from fcdd_dist.evaluation.verdict import collapsed, doubts, doubts_of


@pytest.mark.parametrize(("nominal", "anomalous", "expected"), [
    (1.0, 1.05, True), (1.05, 1.0, True), (1.0, 1.2, False), (0.0, 0.0, True), (0.0, 1e-6, False), (1.0, 0.5, False)])
def test_collapse_is_a_difference_below_a_tenth(nominal, anomalous, expected):
    assert collapsed(nominal, anomalous) is expected


@pytest.mark.parametrize(("auroc", "nominal", "anomalous", "words"), [
    (0.9, 1.0, 2.0, []), (0.6, 1.0, 1.05, ["collapsed"]), (0.499, 2.0, 1.0, ["worse than chance"]),
    (0.4, 1.05, 1.0, ["collapsed", "worse than chance"]), (0.5, None, 1.0, []), (None, 1.0, None, [])])
def test_what_is_said_against_a_detector(auroc, nominal, anomalous, words):
    found = doubts(auroc, nominal, anomalous)
    assert [doubt.word for doubt in found] == words
    assert doubts_of({"auroc": auroc, "mean_score": {"nominal": nominal, "anomalous": anomalous}}) == found


def test_a_single_run_ends_with_a_warning_where_it_is_broken():
    result = {"auroc": 0.1833, "average_precision": 0.8, "mean_score": {"nominal": 2.0, "anomalous": 1.0}}
    line, = warnings(result)
    assert line.startswith("warning            The ranking is worse than chance: ")
    assert "Train longer" in line
    assert warnings(result | {"auroc": 0.9}) == []
