"""The desk, from which trials are taken and to which they are brought back."""

from __future__ import annotations

import random
import threading

import pytest

from fcdd_dist.cluster.desk import Desk
from fcdd_dist.sweep.plan import Plan
from fcdd_dist.sweep.standing import Standing
from fcdd_dist.sweep.table import table
from tests.sweep.making import ended, history, result, search, sweep

SEARCHED = sweep(["coat", "bag"], seeds=1, protocol="holdout", search=search(searcher="grid"))


def outcome(trial):
    """What Tune's thread is told of a trial that went well."""
    return result(trial) if trial.tested else {"history": history(trial, trial.experiment.epochs)}


def taken(desk):
    found = []
    while (trial := desk.take()) is not None:
        found.append(trial)
    return found


def test_each_is_given_out_once_and_over_is_when_all_are_back():
    desk = Desk(Plan(sweep(["coat"], seeds=2)), {})
    first, second = taken(desk)
    assert [one.trial.name for one in desk.running()] == ["coat-s0", "coat-s1"]
    assert not desk.over()
    desk.done(second.name, outcome(second))
    assert not desk.over()
    desk.done(first.name, outcome(first))
    assert desk.over()
    assert desk.running() == []
    assert [(one.trial.name, one.state) for one in desk.ended()] == [("coat-s1", "done"), ("coat-s0", "done")]
    assert desk.ended() == []
    assert desk.standings() == {trial.name: Standing(9, result=result(trial)) for trial in (first, second)}


def test_what_stood_before_is_not_given_out():
    plan = Plan(sweep(["coat"], seeds=2))
    first, second = plan.cells({})
    half = Standing(epochs=4)
    desk = Desk(plan, {first.name: ended(first), second.name: half})
    assert taken(desk) == [second]
    assert desk.running()[0].epochs == 4
    desk.done(second.name, outcome(second))
    assert desk.ended()[0].begun == 4
    assert Desk(plan, desk.standings()).over()


@pytest.mark.parametrize("diverged", [True, False])
def test_what_failed_is_not_given_out_again_in_this_attempt_but_in_the_next(diverged):
    plan = Plan(sweep(["coat"], seeds=2))
    desk = Desk(plan, {})
    first, second = taken(desk)
    desk.failed(first.name, "no memory", diverged, ("a traceback",))
    desk.done(second.name, outcome(second))
    assert desk.take() is None
    assert desk.over()
    one = desk.ended()[0]
    assert (one.state, one.standing.reason, one.standing.diverged, one.said) == (
        "failed", "no memory", diverged, ("a traceback",))
    again = Desk(plan, desk.standings())
    assert taken(again) == [first]
    again.done(first.name, outcome(first))
    assert again.standings()[first.name] == Standing(9, result=result(first))  # and nothing of a reason


def test_what_was_interrupted_has_what_it_has_committed_and_waits_for_the_next_attempt():
    plan = Plan(sweep(["coat"], seeds=1))
    desk = Desk(plan, {"coat-s0": Standing(epochs=4)})
    trial = desk.take()
    desk.interrupted(trial.name, history(trial, 6))
    assert desk.take() is None
    assert desk.over()
    assert desk.standings()["coat-s0"].epochs == 6
    assert [one.state for one in desk.ended()] == ["interrupted"]
    assert taken(Desk(plan, desk.standings())) == [trial]


def test_when_it_is_closed_nothing_more_is_given_out_and_it_is_over_with_the_last():
    desk = Desk(Plan(sweep(["coat"], seeds=3)), {})
    trial = desk.take()
    desk.close()
    assert desk.take() is None
    assert not desk.over()
    desk.interrupted(trial.name, [])
    assert desk.over()


def test_a_failed_trial_of_a_search_ends_the_attempt_without_a_selection():
    desk = Desk(Plan(SEARCHED), {})
    first = desk.take()
    desk.failed(first.name, "no memory", False)
    while (trial := desk.take()) is not None:
        desk.done(trial.name, outcome(trial))
    assert desk.over()
    assert desk.plan.cells(desk.standings()) == ()
    again = Desk(desk.plan, desk.standings())
    assert again.take().name == first.name


def test_a_run_that_is_tested_keeps_the_figures_of_the_trial_it_goes_on_from():
    desk = Desk(Plan(SEARCHED), {})
    while not (trial := desk.take()).tested:
        desk.done(trial.name, outcome(trial))
    before = desk.standings()[trial.name]
    assert before.figures
    desk.done(trial.name, outcome(trial))
    after = desk.standings()[trial.name]
    assert (after.figures, after.result) == (before.figures, result(trial))
    assert desk.ended()[-1].begun == 9  # of the search: nothing is left but the test


def test_many_threads_come_to_the_same_table():
    calm = Desk(Plan(SEARCHED), {})
    while (trial := calm.take()) is not None:
        calm.done(trial.name, outcome(trial))
    busy, seen, errors = Desk(Plan(SEARCHED), {}), [], []

    def work(seed):
        chance = random.Random(seed)
        try:
            while not busy.over():
                if (trial := busy.take()) is None:
                    continue
                seen.append((trial.name, trial.experiment.epochs, trial.tested))
                if chance.random() < 0.5:
                    table(busy.plan, busy.standings())
                busy.done(trial.name, outcome(trial))
        except Exception as error:
            errors.append(error)
            raise

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert len(seen) == len(set(seen)) == len(busy.ended())
    assert table(busy.plan, busy.standings()) == table(calm.plan, calm.standings())
    assert table(calm.plan, calm.standings())["complete"]


def test_news_are_told_once():
    desk = Desk(Plan(sweep()), {})
    desk.say("coat-s0: trying again")
    assert desk.news() == ["coat-s0: trying again"]
    assert desk.news() == []
