"""Searchers: what is tried next depends on the figures alone, so a search that was killed goes on as it would have."""

import math
import subprocess
import sys

import pytest

from fcdd_dist.errors import BadInput
from fcdd_dist.recipes import recipe
from fcdd_dist.sweep.fields import check_space
from fcdd_dist.sweep.halving import Figure
from fcdd_dist.sweep.searchers import GENERATION, SEARCHERS, choose
from fcdd_dist.sweep.space import Axis, draw
from fcdd_dist.sweep.spaces import read_space

RATES = {"optimizer.lr": Axis.model_validate({"loguniform": [1e-4, 0.1]})}
MIXED = RATES | {path: Axis.model_validate(tree) for path, tree in {
    "network.bias": {"grid": [True, False]}, "batch_size": {"uniform": [16, 64]},
    "augmentation.noise": {"choice": [None, {"std": 0.01}]}}.items()}
GRIDS = read_space("batch-norm")


def searcher(name, space, samples, seed):
    return SEARCHERS[name](space, samples, seed)


def figure(settings):
    """Best at a learning rate of 0.01, with noise; too high a rate diverges."""
    off = abs(math.log10(settings["optimizer.lr"]) + 2) + (settings["augmentation.noise"] is None)
    if settings["optimizer.lr"] > 0.05:
        return Figure(math.inf, 1, "diverged")
    return Figure(off, 1, "stopped") if off > 1 else Figure(off, 9, "done")


def run(one):
    """All figures of a search from beginning to end."""
    figures = {}
    while len(known := one.settings(figures)) > len(figures) or not one.finished(figures):
        figures = {number: figure(settings) for number, settings in enumerate(known)}
    return figures


@pytest.mark.parametrize(("name", "space"), [("grid", GRIDS), ("random", MIXED)])
def test_what_is_drawn_is_known_at_once(name, space):
    one = searcher(name, space, 3, 5)
    assert one.generations({}) == (draw(space, 3, 5),)
    assert one.settings({}) == draw(space, 3, 5)
    assert one.finished({})
    assert one.largest == len(draw(space, 3, 5))


def test_optuna_is_asked_in_generations():
    one = searcher("optuna", MIXED, 11, 0)
    assert one.largest == GENERATION
    figures, known = {}, one.settings({})
    assert len(known) == GENERATION
    for number in reversed(range(GENERATION)):
        assert one.settings(figures) == known
        assert not one.finished(figures)
        figures[number] = figure(known[number])
    assert one.settings(figures)[:GENERATION] == known
    assert len(one.settings(figures)) == 2 * GENERATION
    whole = run(one)
    assert [len(part) for part in one.generations(whole)] == [4, 4, 3]


def test_a_search_that_was_killed_anywhere_goes_on_with_the_same_suggestions():
    undisturbed = searcher("optuna", MIXED, 11, 0)
    whole = run(undisturbed)
    settings = undisturbed.settings(whole)
    for there in range(len(whole)):
        reborn = searcher("optuna", MIXED, 11, 0)
        known = {number: whole[number] for number in range(there)}
        assert reborn.settings(known) == settings[:GENERATION * (there // GENERATION + 1)]
        assert reborn.settings(dict(sorted(whole.items(), reverse=True))) == settings


def test_another_process_is_given_the_same_suggestions_without_any_noise():
    code = ("from fcdd_dist.sweep.searchers import SEARCHERS, Figure; from fcdd_dist.sweep.spaces import read_space; "
            "figures = {number: Figure(number / 7, 9, 'done') for number in range(8)}; "
            "print(SEARCHERS['optuna'](read_space('optimizer'), 12, 0).settings(figures))")
    found = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    figures = {number: Figure(number / 7, 9, "done") for number in range(8)}
    assert found.stdout.strip() == str(searcher("optuna", read_space("optimizer"), 12, 0).settings(figures))
    assert found.stderr == ""


def test_suggestions_are_of_the_space_and_depend_on_the_seed():
    one = searcher("optuna", MIXED, 12, 0)
    known = one.settings(run(one))
    for settings in known:
        check_space({path: Axis.model_validate({"grid": [value]}) for path, value in settings.items()},
                    recipe("fmnist").experiment("trouser", 0), 1)
        assert 1e-4 <= settings["optimizer.lr"] <= 0.1
        assert 16 <= settings["batch_size"] <= 64
        assert type(settings["batch_size"]) is int
    assert known != searcher("optuna", MIXED, 12, 1).settings(run(searcher("optuna", MIXED, 12, 1)))


@pytest.mark.parametrize("told", [
    lambda value: Figure(value, 9, "done"), lambda value: Figure(value, 1, "stopped"),
    lambda value: Figure(value, 9, "done") if value < 1 else Figure(math.inf, 1, "diverged")])
def test_optuna_learns_from_settings_that_are_done_stopped_or_diverged(told):
    middles = []  # median distances of the last twelve
    for seed in range(4):
        one, figures = searcher("optuna", RATES, 28, seed), {}
        while len(known := one.settings(figures)) > len(figures):
            figures = {n: told(abs(math.log10(settings["optimizer.lr"]) + 1.5)) for n, settings in enumerate(known)}
        offs = [abs(math.log10(settings["optimizer.lr"]) + 1.5) for settings in known[-12:]]
        middles.append(sorted(offs)[6])
    assert sum(middles) / 4 < 0.6  # 1 where nothing is learnt


def test_what_was_suggested_before_is_not_tried_again():
    one, figures = searcher("optuna", GRIDS, 40, 0), {}
    while len(known := one.settings(figures)) > len(figures):
        figures = {number: Figure(number, 9, "done") for number in range(len(known))}
    assert one.finished(figures)
    assert len({tuple(settings.values()) for settings in known}) == len(known) <= 8
    assert all(one.generations(figures))


def test_without_optuna_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(BadInput, match=r"^--searcher optuna needs Optuna: pip install 'fcdd_dist\[optuna\]'$"):
        searcher("optuna", MIXED, 3, 0)


@pytest.mark.parametrize(("asked", "given"), [
    ((None, GRIDS, None), ("grid", 1)), (("grid", GRIDS, None), ("grid", 1)), ((None, MIXED, 3), ("random", 3)),
    (("random", MIXED, 3), ("random", 3)), (("optuna", GRIDS, 3), ("optuna", 3)),
    (("optuna", MIXED, 3), ("optuna", 3))])
def test_searcher_and_samples_follow_from_what_was_asked_for(asked, given):
    assert choose(*asked) == given


@pytest.mark.parametrize(("asked", "message"), [
    (("optna", MIXED, 3), "there is no searcher 'optna' (did you mean 'optuna'?); there are: grid, random, optuna"),
    (("grid", MIXED, None), "--searcher grid tries all values, and those of optimizer.lr are drawn (loguniform)"),
    (("random", GRIDS, 3), "--searcher random has nothing to draw from in a space of grids alone"),
    ((None, GRIDS, 3), "--samples 3 does nothing for a space of grids alone"),
    ((None, MIXED, None), "--searcher random needs --samples N, a number from 1"),
    (("optuna", GRIDS, 0), "--searcher optuna needs --samples N, a number from 1")])
def test_what_does_not_go_together_is_refused(asked, message):
    with pytest.raises(BadInput) as caught:
        choose(*asked)
    assert message in str(caught.value)


def test_every_searcher_can_be_chosen():
    assert {choose(name, GRIDS if name == "grid" else MIXED, None if name == "grid" else 2)[0]
            for name in SEARCHERS} == set(SEARCHERS)
