"""Halving: what is trained and selected is that of synchronous halving, whatever the order of arrival."""

import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fcdd_dist.sweep.halving import Figure, halve, rungs

FIGURES = st.integers(0, 4).map(float) | st.just(math.inf)  # few values, so that there are ties


def synchronous(size, rungs, reduction, figures):
    """Of one bracket, a rung at a time: the settings on each rung, and the best at the last one."""
    alive, on = list(range(size)), []
    for number, rung in enumerate(rungs):
        on.append(alive)
        sound = [setting for setting in alive if figures[setting, rung] < math.inf]
        best_first = sorted(sound, key=lambda setting: (figures[setting, rung], setting))
        alive = sorted(best_first[:max(1, size // reduction ** (number + 1))])
    return on, best_first[0] if best_first else None


@st.composite
def brackets(draw, largest=9):
    size, reduction = draw(st.integers(1, largest)), draw(st.integers(2, 4))
    levels = rungs(size, draw(st.integers(1, 30)), reduction)
    figures = {(setting, rung): draw(FIGURES) for setting in range(size) for rung in levels}
    return size, levels, reduction, figures


@pytest.mark.parametrize(("asked", "given"), [
    ((9, 9, 3), (1, 3, 9)), ((9, 60, 3), (6, 20, 60)), ((8, 400, 3), (133, 400)), ((27, 3, 3), (1, 3)),
    ((1, 5, 3), (5,)), ((2, 5, 3), (5,)), ((9, 1, 3), (1,)), ((9, 2, 3), (2,)), ((16, 16, 4), (1, 4, 16))])
def test_rungs(asked, given):
    assert rungs(*asked) == given


@given(st.integers(1, 500), st.integers(1, 700), st.integers(2, 9))
def test_rungs_increase_to_all_epochs_and_are_as_many_as_there_are_settings_for(count, epochs, reduction):
    found = rungs(count, epochs, reduction)
    assert found[-1] == epochs
    assert found[0] >= 1
    assert all(low < high for low, high in itertools.pairwise(found))
    assert reduction ** (len(found) - 1) <= count
    assert reduction ** len(found) > count or found[0] < reduction


@pytest.mark.parametrize("asked", [(0, 1, 2), (1, 0, 2), (1, 1, 1)])
def test_what_is_no_halving_is_refused(asked):
    with pytest.raises(ValueError, match="no halving"):
        rungs(*asked)


@given(brackets(), st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_any_order_of_arrival_ends_as_synchronous_halving_does(bracket, chance):
    size, levels, reduction, truth = bracket
    on, best = synchronous(size, levels, reduction, truth)
    allowed = {(setting, rung) for rung, alive in zip(levels, on, strict=True) for setting in alive}
    arrived, before = {}, set()
    while True:
        now = halve([size], levels, reduction, arrived)
        wanted = set(now.wanted)
        assert len(wanted) == len(now.wanted)
        assert before <= wanted <= allowed  # it only grows, by what synchronous halving trains
        assert all(now.states[setting] == figure.state for setting, figure in now.final.items())
        missing = sorted(wanted - set(arrived))
        assert now.over == (not missing) == ("waiting" not in now.states.values())
        if not missing:
            break
        assert now.selected is None
        one = chance.choice(missing)
        arrived[one] = truth[one]
        before = wanted
    assert wanted == allowed
    assert now.selected == best
    assert set(now.final) == set(range(size))
    done = {setting for setting in on[-1] if truth[setting, levels[-1]] < math.inf}
    assert {setting for setting, state in now.states.items() if state == "done"} == done
    assert {setting for setting, state in now.states.items() if state == "diverged"} == {
        setting for setting, rung in allowed if truth[setting, rung] == math.inf}


@given(brackets(largest=5), st.data())
@settings(max_examples=30, deadline=None)
def test_a_setting_goes_on_or_is_stopped_as_soon_as_no_missing_figure_could_change_it(bracket, data):
    size, levels, reduction, truth = bracket
    arrived = {}
    for _ in range(data.draw(st.integers(0, size + 2))):
        missing = sorted(set(halve([size], levels, reduction, arrived).wanted) - set(arrived))
        if missing:
            one = data.draw(st.sampled_from(missing))
            arrived[one] = truth[one]
    now = halve([size], levels, reduction, arrived)
    unknown = [one for one in truth if one not in arrived]
    outcomes = []  # with every missing figure better than all others, or diverged
    for rest in itertools.product((-1.0, math.inf), repeat=len(unknown)):
        on, _ = synchronous(size, levels, reduction, arrived | dict(zip(unknown, rest, strict=True)))
        outcomes.append({(setting, rung) for rung, alive in zip(levels, on, strict=True) for setting in alive})
    assert set(now.wanted) == set.intersection(*outcomes)
    for setting, rung in arrived:
        above = [level for level in levels if level > rung]
        if above and now.states[setting] == "waiting" and now.figures[setting].epochs == rung:
            assert any((setting, above[0]) in outcome for outcome in outcomes)


def test_a_setting_goes_on_before_its_rung_is_full():
    ahead = {(0, 1): 3.0, (1, 1): 1.0, (2, 1): 2.0, (3, 1): 4.0, (4, 1): 5.0}
    assert halve([6], (1, 3), 2, ahead).wanted[6:] == ((1, 3), (2, 3))  # 5 is missing, and 3 of 6 go on
    assert halve([6], (1, 3), 2, ahead).states[3] == "stopped"
    assert halve([6], (1, 3), 2, ahead).states[0] == "waiting"


def test_brackets_go_on_by_themselves_and_are_compared_at_the_last_rung():
    bad, good = {0: 9.0, 1: 8.0, 2: 7.0}, {3: 3.0, 4: 2.0, 5: 1.0}
    figures = {(setting, rung): value for setting, value in (bad | good).items() for rung in (1, 3)}
    both = halve([3, 3], (1, 3), 3, figures)
    assert set(both.wanted) == {(setting, 1) for setting in range(6)} | {(2, 3), (5, 3)}
    assert (both.over, both.selected) == (True, 5)
    first = halve([3], (1, 3), 3, figures, more=True)
    assert (first.over, first.selected) == (False, None)  # though nothing of it is missing
    assert first.final == {0: Figure(9.0, 1, "stopped"), 1: Figure(8.0, 1, "stopped"), 2: Figure(7.0, 3, "done")}


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_where_all_diverge_nothing_is_selected(value):
    found = halve([3], (1, 3), 3, {(setting, 1): value for setting in range(3)})
    assert (found.over, found.selected) == (True, None)
    assert set(found.states.values()) == {"diverged"}
    assert found.final[0] == Figure(math.inf, 1, "diverged")


def test_without_rungs_every_setting_is_trained_to_the_end():
    figures = dict.fromkeys(((setting, 5) for setting in range(4)), 1.0)
    found = halve([4], (5,), 3, figures)
    assert set(found.wanted) == set(figures)
    assert found.selected == 0  # the lower number of equals


def test_figures_beyond_what_is_wanted_are_not_looked_at():
    long_ago = {(setting, rung): float(setting) for setting in range(3) for rung in (1, 3)}
    assert halve([3], (1, 3), 3, long_ago).wanted == ((0, 1), (1, 1), (2, 1), (0, 3))
    del long_ago[0, 1]
    assert halve([3], (1, 3), 3, long_ago).wanted == ((0, 1), (1, 1), (2, 1))
