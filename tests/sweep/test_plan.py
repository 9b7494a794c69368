"""The plan of a sweep: whatever the order, and whatever was killed, failed and tried again, it comes to the same."""

from __future__ import annotations

import json
import random
import threading
import time
from dataclasses import replace

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fcdd_dist.errors import BadInput
from fcdd_dist.sweep import trials
from fcdd_dist.sweep.halving import halve
from fcdd_dist.sweep.plan import Plan
from fcdd_dist.sweep.progress import progress
from fcdd_dist.sweep.standing import Standing, of_history
from fcdd_dist.sweep.table import table
from tests.sweep.making import GRID, ended, history, number, result, search, sweep


class World:
    """Run folders, and trials that end as their experiments have it: all that outlives a driver.

    A share ``diverge`` of what a search tries diverges, each in an epoch of its own.
    """

    def __init__(self, diverge: float = 0.0) -> None:
        self.diverge = diverge
        self.committed: dict[str, int] = {}  # epochs, by trial
        self.results: dict[str, dict] = {}
        self.diverged: set[str] = set()
        self.finished: list[tuple[str, int, bool]] = []

    def last_epoch(self, trial) -> int:
        """Before which it diverges; a large number where it does not."""
        return int(number(trial, "epoch") * 9) if number(trial, "diverges") < self.diverge else 10**9

    def standing(self, trial) -> Standing:
        found = of_history(history(trial, self.committed.get(trial.name, 0)), self.results.get(trial.name))
        return replace(found, diverged=True, reason="diverged") if trial.name in self.diverged else found

    def stop(self, trial, share: float) -> None:
        """Killed on its way, with some of it committed."""
        there, end = self.committed.get(trial.name, 0), min(trial.experiment.epochs, self.last_epoch(trial))
        self.committed[trial.name] = max(there, there + int(share * (end - there)))

    def finish(self, trial, share: float) -> Standing:
        this = trial.name, trial.experiment.epochs, trial.tested
        assert this not in self.finished  # nothing is done twice
        self.finished.append(this)
        if not trial.tested and trial.experiment.epochs > self.last_epoch(trial):
            self.stop(trial, share)
            self.diverged.add(trial.name)
        else:
            self.committed[trial.name] = trial.experiment.epochs
            if trial.tested:
                self.results[trial.name] = result(trial)
        return self.standing(trial)


def survey(plan: Plan, world: World) -> dict[str, Standing]:
    standings: dict[str, Standing] = {}
    while asked := [trial for trial in plan.known(standings) if trial.name not in standings]:
        standings |= {trial.name: world.standing(trial) for trial in asked}
    return standings


def attempt(this, world: World, chance: random.Random, *, kill: float, fail: float, at_once: int) -> bool:
    """One driver, killed or not; whether it came to the end of what it wanted."""
    plan = Plan(this)
    standings, running, given_up = survey(plan, world), {}, set()
    while True:
        wanted = plan.wanted(standings)
        assert len({trial.name for trial in wanted}) == len(wanted)
        free = [trial for trial in wanted if trial.name not in running and trial.name not in given_up]
        for trial in free[:at_once - len(running)]:
            running[trial.name] = trial
        if not running:
            assert wanted == Plan(this).wanted(standings)  # what it has kept changes nothing
            return not wanted
        if chance.random() < kill:
            for trial in running.values():
                world.stop(trial, chance.random())
            return False
        trial = running.pop(chance.choice(sorted(running)))
        if chance.random() < fail:
            world.stop(trial, chance.random())
            standings[trial.name] = replace(standings.get(trial.name, Standing()), reason="no memory")
            given_up.add(trial.name)
        else:
            before = standings.get(trial.name, Standing())
            after = world.finish(trial, chance.random())
            # A driver is told of a divergence, and not what was committed before it.
            standings[trial.name] = replace(before, diverged=True, reason="diverged") if after.diverged else after


def outcome(this, world: World) -> str:
    plan = Plan(this)
    return json.dumps(table(plan, survey(plan, world)), allow_nan=False)


SEARCHES = st.none() | st.builds(
    search, searcher=st.sampled_from(["grid", "random"]), samples=st.integers(1, 9), seed=st.integers(0, 99),
    seeds=st.integers(1, 2), scheduler=st.sampled_from(["asha", "none"]), reduction=st.integers(2, 4),
    select=st.sampled_from(["holdout_loss", "holdout_auroc"]))
SWEEPS = st.builds(
    sweep, classes=st.sampled_from([["coat"], ["coat", "bag"], ["bag", "trouser", "coat"]]), seeds=st.integers(1, 3),
    epochs=st.integers(1, 9), protocol=st.sampled_from(["paper", "holdout"]), search=SEARCHES)


GROWING = st.fixed_dictionaries({
    "seed": st.integers(0, 99), "seeds": st.integers(1, 2), "scheduler": st.sampled_from(["asha", "none"]),
    "reduction": st.integers(2, 4), "select": st.sampled_from(["holdout_loss", "holdout_auroc"])})


@given(GROWING, st.integers(2, 6), st.integers(1, 5), st.integers(1, 9), st.sampled_from(["paper", "holdout"]),
       st.sampled_from([0.0, 0.3]), st.integers(0, 99))
@settings(max_examples=10, deadline=None)
def test_a_search_that_has_grown_comes_to_what_a_larger_one_does(what, few, more, epochs, protocol, diverge, seed):
    """Whether it had come to its end before, and had tested what it selected, or not."""
    small, large = (sweep(["coat", "bag"], epochs=epochs, protocol=protocol, search=search(samples=samples, **what))
                    for samples in (few, few + more))
    assume(Plan(small).rungs == Plan(large).rungs)
    large.going_on_from(small, "here")
    calm, grown, chance = World(diverge), World(diverge), random.Random(seed)
    assert attempt(large, calm, chance, kill=0, fail=0, at_once=1)
    attempt(small, grown, chance, kill=0.05, fail=0.05, at_once=chance.randint(1, 8))
    grown.finished.clear()  # a run that was tested then, and is found to be done when it is selected again
    assert attempt(large, grown, chance, kill=0, fail=0, at_once=chance.randint(1, 8))
    assert outcome(large, grown) == outcome(large, calm)


def check_all_come_to_the_same(this, seed: int, diverge: float, most: int = 200) -> None:
    calm, wild, chance = World(diverge), World(diverge), random.Random(seed)
    assert attempt(this, calm, chance, kill=0, fail=0, at_once=1)
    for tried in range(most):
        rough = 0.1 if tried < most - 1 else 0
        if attempt(this, wild, chance, kill=rough, fail=rough, at_once=chance.randint(1, 8)):
            break
    assert outcome(this, wild) == outcome(this, calm)
    assert sorted(wild.finished) == sorted(calm.finished)
    last = Plan(this)
    standings = survey(last, wild)
    assert last.wanted(standings) == []
    if found := table(last, standings)["search"]:
        assert (found["selected"] is not None) == any(row["state"] == "done" for row in found["settings"])
    if table(last, standings)["complete"]:
        assert progress(last, standings).epochs_left == 0


@given(SWEEPS, st.integers(0, 9999), st.sampled_from([0.0, 0.0, 0.3, 1.0]))
@settings(max_examples=10, deadline=None)
def test_whatever_is_killed_and_fails_the_table_and_the_work_are_those_of_a_calm_sweep(this, seed, diverge):
    check_all_come_to_the_same(this, seed, diverge)


def test_suggestions_of_optuna_come_to_the_same_too():
    pytest.importorskip("optuna")
    this = sweep(["bag"], seeds=1, search=search(searcher="optuna", samples=10, reduction=2))
    check_all_come_to_the_same(this, 7, diverge=0.3)


def complete(this) -> dict[str, Standing]:
    """All standings of a sweep that ran undisturbed."""
    plan, standings = Plan(this), {}
    while wanted := plan.wanted(standings):
        standings |= {trial.name: ended(trial) for trial in wanted}
    return standings


def test_a_sweep_without_a_search_is_its_cells():
    plan = Plan(sweep(["coat", "bag"], seeds=2))
    assert [trial.name for trial in plan.wanted({})] == ["coat-s0", "coat-s1", "bag-s0", "bag-s1"]
    assert plan.wanted({}) == plan.known({}) == list(plan.cells({}))
    assert {trial.experiment.data.train_on for trial in plan.cells({})} == {"train+holdout"}
    first, *others = plan.cells({})
    assert plan.wanted({first.name: ended(first)}) == others


def test_a_search_trains_on_train_and_ends_in_cells_of_its_best_setting():
    this = sweep(["coat", "bag"], seeds=3, search=search(searcher="grid"))
    plan = Plan(this)
    first = plan.wanted({})
    assert len(first) == 6 * 2
    assert {trial.experiment.epochs for trial in first} == {plan.rungs[0]} == {3}
    assert {trial.experiment.data.train_on for trial in first} == {"train"}
    assert not any(trial.tested for trial in first)
    standings = complete(this)
    best = plan.search(standings).selected
    cells = plan.cells(standings)
    assert len(cells) == 2 * 3
    assert {trial.experiment.optimizer.lr for trial in cells} == {best["optimizer.lr"]}
    assert {trial.experiment.data.train_on for trial in cells} == {"train+holdout"}
    assert not {trial.name for trial in cells} & {trial.name for trial in first}  # another experiment, another folder
    figures = {number: sum(ended(trial).figures[9]["holdout_loss"] for trial in plan.searched(number, setting)[9]) / 2
               for number, setting in enumerate(plan.search({}).settings)}
    at_the_end = [number for number, rung in plan.search(standings).halving.wanted if rung == 9]
    assert plan.search(standings).halving.selected == min(at_the_end, key=figures.get)


def test_who_has_come_far_goes_first():
    plan = Plan(sweep(["coat"], search=search(samples=9)))
    standings = {trial.name: ended(trial) for trial in plan.wanted({})[:8]}
    order = [trial.experiment.epochs for trial in plan.wanted(standings)]
    assert order == sorted(order, reverse=True)
    assert set(order) == {1, 3}


def test_the_run_that_is_tested_goes_on_from_the_trial_of_the_same_experiment_and_keeps_its_figures():
    this = sweep(["coat"], seeds=2, protocol="holdout", search=search(searcher="grid", scheduler="none"))
    plan, standings = Plan(this), {}
    standings |= {trial.name: ended(trial) for trial in plan.wanted({})}
    shared, other = plan.wanted(standings)
    assert shared.name in standings
    assert other.name not in standings
    assert standings[shared.name].epochs == shared.experiment.epochs  # it has only its test to do
    before = table(plan, standings)["search"]
    tested = replace(standings[shared.name], result=result(shared))
    assert table(plan, standings | {shared.name: tested})["search"] == before
    assert plan.wanted(standings | {shared.name: tested}) == [other]
    broken = replace(standings[shared.name], reason="no test images")
    found = table(plan, standings | {shared.name: broken})
    assert found["search"] == before  # what fails as a run that is tested is no fault of the search's
    assert [cell["state"] for cell in found["cells"]] == ["failed", "waiting"]


def test_where_every_setting_diverges_nothing_is_selected_and_nothing_wanted():
    plan = Plan(sweep(search=search(searcher="grid")))
    standings = {trial.name: Standing(reason="the loss is not finite", diverged=True) for trial in plan.wanted({})}
    assert plan.wanted(standings) == []
    assert plan.cells(standings) == ()
    assert progress(plan, standings).figure == ""


def test_experiments_that_differ_never_share_a_folder(monkeypatch):
    plan = Plan(sweep(search=search(searcher="grid")))
    monkeypatch.setattr(trials, "DIGITS", 0)
    with pytest.raises(BadInput, match="would share the folder trials/trouser-s0-, though they differ: change"):
        plan.wanted({})


def test_equal_experiments_share_one():
    space = {"augmentation.noise": {"grid": [{"std": 0.001}, {"std": 0.001, "clamp": False}]}}
    plan = Plan(sweep(["coat"], search=search(space, searcher="grid", scheduler="none")))
    assert len({trial.name for trial in plan.wanted({})}) == 1
    standings = {trial.name: ended(trial) for trial in plan.wanted({})}
    assert plan.search(standings).halving.selected == 0


def test_the_epochs_left_are_those_of_synchronous_halving():
    this = sweep(["coat", "bag"], seeds=2, search=search(samples=9, seeds=2))
    every = 2 * 2 * (9 * 1 + 3 * 2 + 1 * 6)
    assert progress(Plan(this), {}).epochs_left == every + 4 * 9
    standings = complete(this)
    searched = {name: one for name, one in standings.items() if one.result is None}
    assert sum(one.epochs for one in searched.values()) == every
    found = progress(Plan(this), searched)
    assert (found.described, found.epochs_left) == ("0/4 done", 4 * 9)


def test_the_epochs_left_count_samples_that_optuna_has_yet_to_suggest():
    pytest.importorskip("optuna")
    found = progress(Plan(sweep(["coat"], seeds=1, search=search(searcher="optuna", samples=10, reduction=2))), {})
    assert found.described == "search: 0/4 settings decided"
    # Brackets of 4, 4 and 2 settings over rungs of 2, 4 and 9 epochs, and the run that is tested.
    assert found.epochs_left == (2 * (4 * 2 + 2 * 2 + 1 * 5) + (2 * 2 + 1 * 2 + 1 * 5)) + 9


def test_the_trainings_left_are_counted_rung_by_rung():
    this = sweep(["coat", "bag"], seeds=2, search=search(samples=9, seeds=2))
    found = progress(Plan(this), {})
    assert (found.trainings_left, found.tests_left) == (2 * 2 * (9 + 3 + 1) + 4, 4)
    standings = complete(this)
    searched = {name: one for name, one in standings.items() if one.result is None}
    found = progress(Plan(this), searched)
    assert (found.trainings_left, found.tests_left) == (4, 4)
    assert progress(Plan(this), standings).trainings_left == 0


def test_progress_tells_the_best_setting_of_the_highest_rung_and_then_the_mean_over_classes_that_are_done():
    this = sweep(["coat"], seeds=2, search=search(samples=9, select="holdout_auroc"))
    plan = Plan(this)
    first = plan.wanted({})

    def auroc(trial, value):
        return of_history([{"epoch": 1, "holdout_auroc": value}])

    standings = {trial.name: auroc(trial, trial.setting / 10) for trial in first}
    assert progress(plan, standings).figure == "best setting 8: holdout auroc 0.8 after 1 epoch"
    assert progress(plan, standings).described == "search: 6/9 settings decided"
    assert progress(Plan(sweep(["coat"])), {}).figure == ""
    two = Plan(sweep(["coat", "bag"], seeds=2))
    runs = {trial.name: Standing(9, result=result(trial, auroc=auroc))
            for trial, auroc in zip(two.cells({}), (0.8, 0.9, 0.5, 0.6), strict=True)}
    assert progress(two, runs).figure == "mean AUROC of 2 classes 0.7000"
    del runs["bag-s1"]
    assert progress(two, runs).figure == "mean AUROC of 1 class 0.8500"
    del runs["coat-s0"]
    assert progress(two, runs).figure == ""
    plain = Plan(sweep(["coat", "bag"], seeds=1))
    coat, bag = plain.cells({})
    runs = {trial.name: Standing(9, result=result(trial, auroc=auroc)) for trial, auroc in ((coat, None), (bag, 0.5))}
    assert progress(plain, runs).figure == "mean AUROC of 1 class 0.5000"
    one = Plan(sweep(["coat"], seeds=1))
    assert progress(one, {"coat-s0": ended(one.cells({})[0])}).figure.startswith("mean AUROC 0.")
    assert progress(plain, {coat.name: Standing(4, reason="x")}).failed == 1
    assert progress(plain, {coat.name: Standing(4)}).epochs_left == 5 + 9


def test_other_figures_than_before_are_no_trouble():
    this = sweep(["coat"], search=search(searcher="grid"))
    plan, standings = Plan(this), complete(this)
    assert plan.cells(standings)
    assert plan.wanted({}) == Plan(this).wanted({})
    assert plan.wanted(standings) == []


def test_threads_that_know_more_and_less_do_not_disturb_each_other():
    pytest.importorskip("optuna")
    this = sweep(["coat"], seeds=1, search=search(searcher="optuna", samples=12, scheduler="none"))
    plan, all_of_it = Plan(this), complete(this)
    few = {trial.name: all_of_it[trial.name] for trial in Plan(this).wanted({})[:3]}
    wrong = []

    def ask(standings, expected):
        for _ in range(40):
            if (found := len(plan.search(standings).settings)) != expected:
                wrong.append(found)

    threads = [threading.Thread(target=ask, args=(standings, len(Plan(this).search(standings).settings)))
               for standings in (few, all_of_it, few, all_of_it)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.parametrize("this", [
    sweep([f"c{n}" for n in range(100)], seeds=10, name="folder", experiment=sweep(["c0"]).experiment),
    sweep(["coat", "bag", "trouser"], epochs=81, search=search(samples=100))], ids=["1000 cells", "a search"])
def test_asking_for_every_trial_is_cheap(this):
    plan, standings = Plan(this), {}
    standings = {trial.name: ended(trial) for trial in plan.wanted({})[:250]}
    plan.wanted(standings)
    times = []
    for _ in range(5):
        began = time.thread_time()
        plan.wanted(standings)
        times.append(time.thread_time() - began)
    assert min(times) < 0.02  # of which it takes some 2 ms


def test_rungs():
    assert Plan(sweep()).rungs == ()
    assert Plan(sweep(epochs=9, search=search(samples=9))).rungs == (1, 3, 9)
    assert Plan(sweep(epochs=9, search=search(samples=9, scheduler="none"))).rungs == (9,)
    assert Plan(sweep(epochs=9, search=search(GRID, "grid", reduction=2))).rungs == (2, 4, 9)
    assert halve([1], (9,), 3, {}).wanted == ((0, 9),)
