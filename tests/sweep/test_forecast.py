"""How long a sweep takes: what the sum is made of."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from fcdd_dist.sweep import forecast
from fcdd_dist.sweep.forecast import START_S, seconds, steps_an_epoch
from fcdd_dist.sweep.progress import Progress
from tests.sweep.making import search, sweep

PACE = SimpleNamespace(step=0.01, image=0.001)


class Data:
    """A manifest, as far as it is asked."""

    def __init__(self):
        self.splits = {which: {name: SimpleNamespace(samples=images) for name, images in (("coat", coat), ("bag", bag))}
                       for which, coat, bag in (("train", 1280, 1281), ("holdout", 100, 900), ("test", 500, 500))}

    def part(self, split, class_id):
        return self.splits[split][class_id]


def left(epochs, trainings, tests=0):
    return Progress("", 0, "", epochs, trainings, tests)


@pytest.fixture
def steps_alone(monkeypatch):
    for name in ("START_S", "_TRIAL_S", "_PICTURES_S"):
        monkeypatch.setattr(forecast, name, 0.0)
    monkeypatch.setattr(forecast, "_INPUT", 1.0)


def test_nothing_takes_no_time():
    assert seconds(sweep(["coat"]), Data(), left(0, 0), PACE, at_once=2, workers=1) == 0


def test_short_sweeps_are_mostly_start_and_what_each_trial_takes_beyond_its_steps():
    this = sweep(["coat", "bag"], protocol="holdout")
    one = seconds(this, Data(), left(0, 1, 1), PACE, at_once=2, workers=1)
    assert one > START_S + 1 + 1  # a second beside 1,000 test images of a millisecond
    many = seconds(this, Data(), left(0, 6, 6), PACE, at_once=2, workers=1)
    assert many - START_S == pytest.approx(3 * (one - START_S))
    assert seconds(this, Data(), left(0, 1, 1), PACE, at_once=2, workers=2) > one + 5


@pytest.mark.usefixtures("steps_alone")
def test_epochs_are_steps_and_a_look_at_the_hold_out():
    this = sweep(["coat", "bag"], protocol="holdout")
    assert steps_an_epoch(this, Data()) == 10.5
    compared = (2 * 100 + 2 * 500) / 2
    assert seconds(this, Data(), left(100, 4), PACE, at_once=1, workers=1) == pytest.approx(
        100 * (10.5 * 0.01 + compared * 0.001))
    paper = sweep(["coat", "bag"], protocol="paper")
    assert steps_an_epoch(paper, Data()) == (11 + 18) / 2
    assert seconds(paper, Data(), left(100, 4), PACE, at_once=1, workers=1) == pytest.approx(100 * 14.5 * 0.01)
    searched = sweep(["coat", "bag"], protocol="paper", search=search())
    assert seconds(searched, Data(), left(100, 4), PACE, at_once=1, workers=1) > 100 * 14.5 * 0.01


@pytest.mark.usefixtures("steps_alone")
def test_trials_that_do_not_fill_the_last_round_leave_places_empty():
    this = sweep(["coat"])
    each = seconds(this, Data(), left(9, 1), PACE, at_once=1, workers=1)
    assert seconds(this, Data(), left(9, 1), PACE, at_once=16, workers=1) == each
    assert seconds(this, Data(), left(27, 3), PACE, at_once=2, workers=1) == pytest.approx(2 * each)
