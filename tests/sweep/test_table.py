"""The table of a sweep: states, means, what stands beside the paper's numbers, and the three files."""

from __future__ import annotations

import csv
import io
import json
import statistics
from dataclasses import replace

import pytest

from fcdd_dist.recipes import recipe
from fcdd_dist.storage import MemoryStore
from fcdd_dist.sweep.plan import Plan
from fcdd_dist.sweep.rendering import markdown, summary
from fcdd_dist.sweep.standing import Standing, of_history
from fcdd_dist.sweep.table import table, write_table
from tests.sweep.making import ended, history, result, search, sweep


def done(trial, auroc, precision=0.5):
    return Standing(9, result=result(trial, auroc=auroc, average_precision=precision))


def of(this, *standings):
    """The table where the cells in their order stand as given."""
    plan = Plan(this)
    return table(plan, {trial.name: one(trial) if callable(one) else one
                        for trial, one in zip(plan.cells({}), standings, strict=False)})


def test_the_states_of_cells():
    this = sweep(["coat"], seeds=5)
    found = of(this, lambda trial: done(trial, 0.75), Standing(epochs=4), Standing(epochs=4, reason="no memory"),
               Standing(epochs=2, reason="the loss is not finite", diverged=True))  # 2: by the clock alone
    assert [(cell["seed"], cell["state"], cell["reason"], cell["epochs"]) for cell in found["cells"]] == [
        (0, "done", None, 9), (1, "unfinished", None, 4), (2, "failed", "no memory", 4),
        (3, "failed", "the loss is not finite", 0), (4, "waiting", None, 0)]
    assert found["cells"][0] == {"class": "coat", "name": "Coat", "seed": 0, "trial": "trials/coat-s0", "state": "done",
                                 "reason": None, "epochs": 9, "auroc": 0.75, "average_precision": 0.5,
                                 "doubts": []}
    assert {name: found[name] for name in ("recipe", "protocol", "epochs", "seeds", "complete", "search")} == {
        "recipe": "fmnist", "protocol": "paper", "epochs": 9, "seeds": 5, "complete": False, "search": None}


def test_a_result_of_fewer_epochs_is_no_result():
    found = of(sweep(["coat"], seeds=1, epochs=12), lambda trial: Standing(10, result=result(trial, epochs=9)))
    assert [(cell["state"], cell["epochs"], cell["auroc"]) for cell in found["cells"]] == [("unfinished", 10, None)]


def test_means_are_over_seeds_and_then_over_classes():
    values = (0.8, 0.9, 1.0, 0.5, 0.6, 0.7)
    found = of(sweep(["coat", "bag"], seeds=3), *(lambda trial, v=value: done(trial, v, v / 2) for value in values))
    coat, bag = found["classes"]
    assert coat["auroc_mean"] == pytest.approx(0.9)
    assert coat["auroc_std"] == pytest.approx(0.1)  # of a sample
    assert coat["average_precision_mean"] == pytest.approx(0.45)
    assert bag["auroc_mean"] == pytest.approx(0.6)
    assert found["mean"]["auroc_mean"] == pytest.approx(0.75)
    assert found["complete"]


def test_a_spread_takes_two_and_a_mean_over_classes_all():
    found = of(sweep(["coat", "bag"], seeds=2), lambda trial: done(trial, 0.8))
    coat, bag = found["classes"]
    assert (coat["done"], coat["auroc_mean"], coat["auroc_std"]) == (1, 0.8, None)
    assert (bag["done"], bag["auroc_mean"], bag["average_precision_mean"]) == (0, None, None)
    assert found["mean"]["auroc_mean"] is None


def test_a_run_without_an_auroc_is_done_all_the_same():
    found = of(sweep(["coat", "bag"], seeds=1), lambda trial: done(trial, None, None), lambda trial: done(trial, 0.8))
    assert found["complete"]
    assert found["cells"][0]["state"] == "done"
    assert (found["classes"][0]["done"], found["classes"][0]["auroc_mean"]) == (1, None)
    assert found["mean"]["auroc_mean"] is None
    assert "| Coat | 1/1 | - | - |" in markdown(found)


def test_beside_the_paper_stand_its_classes_and_its_mean_where_all_of_them_are_there():
    every = list(recipe("fmnist").classes)
    found = of(sweep(every, seeds=1), *[lambda trial: done(trial, 0.5)] * len(every))
    trouser = next(row for row in found["classes"] if row["class"] == "trouser")
    assert (trouser["published"], trouser["difference"]) == (0.98, 0.5 - 0.98)
    theirs = [row["published"] for row in found["classes"]]
    assert found["mean"]["published"] == pytest.approx(statistics.fmean(theirs), abs=0.005)
    assert found["mean"]["difference"] == 0.5 - found["mean"]["published"]
    two = of(sweep(["trouser", "coat"], seeds=1), lambda trial: done(trial, 0.5), lambda trial: done(trial, 0.6))
    assert two["mean"] == {"auroc_mean": 0.55, "published": None, "difference": None}
    waiting = of(sweep(["trouser"]))["classes"][0]
    assert (waiting["published"], waiting["difference"]) == (0.98, None)


def test_where_the_paper_has_no_table_nothing_stands_beside():
    found = of(sweep(["trouser"], seeds=1, name="folder"), lambda trial: done(trial, 0.5))
    assert (found["classes"][0]["published"], found["mean"]["published"]) == (None, None)


AWKWARD = {"coat": 'a|b, "c" <i>\\\nnext', "bag": "Tasche ✓"}


def test_csv_and_markdown_hold_what_names_and_reasons_may_have():
    this = sweep(["coat", "bag"], seeds=1, names=AWKWARD)
    found = of(this, lambda trial: done(trial, 0.123456789), Standing(reason='no, "none" | at all\nnowhere'))
    store = MemoryStore()
    write_table(store, found)
    assert json.loads(store.read("table.json")) == found
    rows = list(csv.DictReader(io.StringIO(store.read("table.csv").decode(), newline="")))
    assert [row["name"] for row in rows] == list(AWKWARD.values())
    assert [row["reason"] for row in rows] == ["", 'no, "none" | at all\nnowhere']
    assert [float(rows[0]["auroc"]), rows[1]["auroc"]] == [0.123456789, ""]
    lines, notes = (part.splitlines() for part in store.read("table.md").decode().split("\n\n"))
    assert len(lines) == 2 + 2 + 1
    assert notes[1:3] == ['- failed trials/bag-s0: no, "none" \\| at all nowhere',
                         "- 1 of 2 runs are missing; the same command tries them again"]
    assert lines[2].startswith('| a\\|b, "c" &lt;i>\\\\ next | 1/1 | 0.1235 | 0.5000 |')
    assert {line.replace("\\|", "").count("|") for line in lines} == {7}


def test_markdown_of_one_class_has_no_mean():
    found = of(sweep(["trouser"], seeds=2), lambda trial: done(trial, 0.98), lambda trial: done(trial, 0.96))
    assert markdown(found).partition("\n\n")[0].splitlines() == [
        "| class | seeds | AUROC | average precision | paper | difference |", "| --- | --- | --- | --- | --- | --- |",
        "| Trouser | 2/2 | 0.9700 ± 0.0141 | 0.5000 | 0.98 | -0.010 |"]


def test_the_summary_says_what_is_missing_and_why():
    found = of(sweep(["trouser", "bag"], seeds=1), lambda trial: done(trial, 0.98), Standing(reason="no memory"))
    assert summary(found) == [
        "class    seeds  AUROC   paper  difference",
        "Trouser  1/1    0.9800  0.98   +0.000",
        "Bag      0/1    -       0.86   -",
        "mean            -       -      -",
        "not the paper's protocol: 9 epochs instead of 400, 1 seed instead of 5",
        "failed trials/bag-s0: no memory",
        "1 of 2 runs are missing; the same command tries them again"]


def test_what_differs_from_the_paper_is_said_where_its_numbers_stand_beside():
    shortened = of(sweep(["trouser"], seeds=1, epochs=40, protocol="holdout", settings=["schedule.shorten=10"]))
    line = ("not the paper's protocol: 40 epochs instead of 400, schedule.shorten=10.0, a part of the images held out, "
            "1 seed instead of 5")
    assert line in summary(shortened)
    assert f"- {line}" in markdown(shortened).splitlines()
    assert of(sweep(["trouser"], seeds=5, epochs=400))["departures"] == []
    assert of(sweep(["trouser"], seeds=1, name="folder"))["departures"] == []


def test_broken_detectors_are_warned_of_in_one_line():
    def of_means(auroc, nominal, anomalous):
        return lambda trial: Standing(9, result=result(trial, auroc=auroc, mean_score={
            "nominal": nominal, "anomalous": anomalous}))

    found = of(sweep(["coat", "bag"], seeds=2), of_means(0.4, 2.0, 1.0), of_means(0.9, 1.0, 2.0),
               of_means(0.45, 1.0, 0.99), of_means(0.8, 1.0, 1.05))
    line = ("warning: 3 of 4 detectors are broken: Coat seed 0 (worse than chance), Bag seed 0 (collapsed, worse than "
            "chance), Bag seed 1 (collapsed); train with more --epochs, or look at the exposure set and at the "
            "learning rate")
    assert summary(found)[-1] == line
    assert markdown(found).splitlines()[-1] == f"- {line}"
    store = MemoryStore()
    write_table(store, found)
    rows = list(csv.DictReader(io.StringIO(store.read("table.csv").decode(), newline="")))
    assert [row["doubts"] for row in rows] == ["worse than chance", "", "collapsed, worse than chance", "collapsed"]
    found = of(sweep(["coat"], seeds=9), *[of_means(0.4, 2.0, 1.0)] * 9)
    assert "Coat seed 5 (worse than chance) and 3 more; train" in summary(found)[-1]


SEARCHED = sweep(["coat", "bag"], seeds=2, epochs=9, search=search(samples=9))


def test_before_a_search_has_found_its_setting_the_cells_have_no_folder():
    found = table(Plan(SEARCHED), {})
    assert [(cell["class"], cell["seed"], cell["trial"], cell["state"]) for cell in found["cells"]] == [
        ("coat", 0, None, "waiting"), ("coat", 1, None, "waiting"), ("bag", 0, None, "waiting"),
        ("bag", 1, None, "waiting")]
    assert not found["complete"]
    assert {row["state"] for row in found["search"]["settings"]} == {"waiting"}
    assert (found["search"]["rungs"], found["search"]["selected"]) == ([1, 3, 9], None)
    assert summary(found)[0] == "no setting is selected of 9: 9 waiting"
    assert summary(found)[-1] == "4 of 4 runs are missing; the same command goes on with the search that they wait for"


def test_the_settings_of_a_search():
    plan, standings = Plan(SEARCHED), {}
    trials = [plan.searched(number, setting)[1] for number, setting in enumerate(plan.search({}).settings)]
    for number, (coat, bag) in enumerate(trials):
        for trial, value in ((coat, 1.0 + number), (bag, 2.0 + number)):
            standings[trial.name] = of_history([{"epoch": 1, "holdout_loss": value, "holdout_auroc": 0.5}])
    standings[trials[2][1].name] = Standing()  # has not begun
    standings[trials[8][0].name] = Standing(reason="lower optimizer.lr", diverged=True)
    rows = table(plan, standings)["search"]["settings"]
    assert [row["state"] for row in rows] == ["running"] * 4 + ["stopped"] * 4 + ["failed"]
    assert rows[1] == {
        "number": 1, "settings": plan.search({}).settings[1], "state": "running", "epochs": 1, "figure": 2.5, "cells": [
            {"class": "coat", "seed": 0, "trial": trials[1][0].folder, "epochs": 1, "figure": 2.0, "reason": None},
            {"class": "bag", "seed": 0, "trial": trials[1][1].folder, "epochs": 1, "figure": 3.0, "reason": None}]}
    assert (rows[2]["epochs"], rows[2]["figure"]) == (0, None)
    assert (rows[8]["epochs"], rows[8]["figure"], rows[8]["cells"][0]["reason"]) == (1, None, "lower optimizer.lr")
    lines = summary(table(plan, standings))
    lr = rows[0]["settings"]["optimizer.lr"]
    assert lines[0] == ("no setting is selected of 9: 1 failed after 1 epoch, 1 running, 3 running after 1 epoch, 4 "
                        f"stopped after 1 epoch; setting 0 leads by holdout loss 1.5 after 1 epoch: optimizer.lr={lr}")
    assert lines[1] == f"failed {trials[8][0].folder}: lower optimizer.lr"


def test_what_was_committed_of_an_epoch_that_diverged_is_not_told():
    plan = Plan(sweep(["coat"], search=search(samples=3, scheduler="none")))
    trial, *_ = plan.wanted({})
    tables = [table(plan, {trial.name: Standing(epochs=epochs, reason="not finite", diverged=True)})
              for epochs in (0, 4)]
    assert tables[0] == tables[1]


def blocked(*, diverged: bool, last: int = 9) -> list[str]:
    """The summary of a search in which, of the settings that go on to ``last`` epochs, all fail at that."""
    plan, standings = Plan(SEARCHED), {}
    while wanted := [trial for trial in plan.wanted(standings) if trial.name not in standings
                     or standings[trial.name].reason is None]:
        for trial in wanted:
            before = standings.get(trial.name, Standing())
            standings[trial.name] = (replace(before, reason="too much", diverged=diverged)
                                     if trial.experiment.epochs == last else ended(trial))
    found = table(plan, standings)
    assert found["search"]["selected"] is None
    return summary(found)


def test_what_keeps_a_search_from_its_end_is_named():
    *_, line = blocked(diverged=False)  # one setting, two classes
    assert line.startswith("4 of 4 runs are missing; they wait for a search that lacks trials/coat-s0-")
    assert line.endswith(" and 1 more; the same command tries again")
    for last in (1, 9):
        *_, line = blocked(diverged=True, last=last)
        assert line == ("4 of 4 runs are missing; all settings that went on have diverged: give other values, and "
                        "another --name")


def test_a_search_that_is_over():
    plan, standings = Plan(SEARCHED), {}
    while wanted := plan.wanted(standings):
        standings |= {trial.name: ended(trial) for trial in wanted}
    found = table(plan, standings)
    assert found["complete"]
    rows = found["search"]["settings"]
    best = rows[found["search"]["selected"]]
    assert sorted(row["state"] for row in rows) == ["done"] + ["stopped"] * 8
    assert best["state"] == "done"
    assert best["figure"] == statistics.fmean(cell["figure"] for cell in best["cells"])
    lr = best["settings"]["optimizer.lr"]
    line = (f"selected setting {best['number']} of 9 by holdout loss {best['figure']:.4g} after 9 epochs, never by "
            f"test: optimizer.lr={lr}")
    assert summary(found)[0] == line
    store = MemoryStore()
    write_table(store, found)
    assert f"- {line}" in store.read("table.md").decode().splitlines()
    rows = list(csv.DictReader(io.StringIO(store.read("table.csv").decode(), newline="")))
    assert {(row["setting"], row["selected_by"]) for row in rows} == {
        (f"optimizer.lr={lr}", f"holdout loss {best['figure']:.4g} after 9 epochs")}


def test_a_figure_that_is_undefined_is_none_and_no_json_that_is_not():
    plan = Plan(sweep(["coat"], search=search(samples=3, scheduler="none", select="holdout_auroc")))
    standings = {trial.name: of_history([line | {"holdout_auroc": None} for line in history(trial, 9)])
                 for trial in plan.wanted({})}
    found = table(plan, standings)
    write_table(MemoryStore(), found)
    assert {row["figure"] for row in found["search"]["settings"]} == {None}
    assert summary(found)[0] == "no setting is selected of 3: 3 failed after 9 epochs"
