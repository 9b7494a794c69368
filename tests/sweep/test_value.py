"""A sweep as a value: its trials' experiments, its JSON, and what may become what."""

from __future__ import annotations

import json

import pytest

from fcdd_dist.errors import BadInput, Conflict
from fcdd_dist.experiment import Form
from fcdd_dist.recipes import recipe
from fcdd_dist.sweep.value import Sweep
from tests.sweep.making import GRID, RATES, search, sweep

ASKED = {"classes": ["coat", "bag"], "seeds": 2, "epochs": 9}


@pytest.mark.parametrize("this", [
    sweep(), sweep(search=search(searcher="grid")), sweep(search=search(seeds=2, scheduler="none"), protocol="holdout"),
    sweep(search=search({"augmentation.noise": {"choice": [None, {"std": 0.01}]}}), exposure="s3://b/x")])
def test_json_and_back(this):
    assert Sweep.from_json(this.to_json(), "here") == this
    assert list(Sweep.from_json(this.to_json(), "here").classes) == list(this.classes)


@pytest.mark.parametrize(("text", "message"), [
    ("{", "^s3://b/x/sweep.json is damaged .*: give another --name$"),
    (b"\xff", "is damaged"),
    (sweep().to_json().replace('"seeds": 2', '"seeds": 0'), "is damaged .seeds: "),
    (sweep().to_json().replace('"seeds"', '"seed"'), "is damaged .seeds: field required"),
    (sweep().to_json().replace('"schema_version": 1', '"schema_version": 2'),
     "^s3://b/x/sweep.json was written by a newer fcdd_dist: update this one$")])
def test_what_is_damaged_is_named(text, message):
    with pytest.raises(BadInput, match=message):
        Sweep.from_json(text, "s3://b/x/sweep.json")


def test_a_trial_differs_from_the_recipe_by_what_was_asked_for_and_its_setting():
    settings = ("optimizer.lr=0.005", "precision=bf16", "epochs=70")
    first = recipe("fmnist").experiment("coat", 0).override([*settings, "epochs=9"])
    form = Form.parse("png-32-grey")
    first = first.model_copy(update={"data": first.data.model_copy(update={"form": form})})  # as the data set has it
    this = sweep(["coat", "bag"], settings=settings, experiment=first)
    assert this.experiment_of("coat", 0, {}, tested=False) == first
    found = this.experiment_of("bag", 3, {"network.bias": False, "augmentation.noise": {"std": 0.01}}, tested=True)
    theirs = recipe("fmnist").experiment("bag", 3)
    assert found == theirs.model_copy(update={
        "epochs": 9, "precision": "bf16", "optimizer": theirs.optimizer.model_copy(update={"lr": 0.005}),
        "data": theirs.data.model_copy(update={"form": form, "train_on": "train+holdout"}),
        "network": theirs.network.model_copy(update={"bias": False}),
        "augmentation": found.augmentation})
    assert found.augmentation.noise.std == 0.01


@pytest.mark.parametrize(("protocol", "tested", "train_on"), [
    ("paper", True, "train+holdout"), ("paper", False, "train"), ("holdout", True, "train"),
    ("holdout", False, "train")])
def test_a_search_always_keeps_its_hold_out(protocol, tested, train_on):
    assert sweep(protocol=protocol).experiment_of("coat", 0, {}, tested=tested).data.train_on == train_on


@pytest.mark.parametrize("more", [
    {}, {"seeds": 5}, {"epochs": 40}, {"classes": ["coat", "bag", "shirt"]}, {"classes": ["shirt", "bag", "coat"]},
    {"classes": ["bag", "coat"]}, {"data": "s3://moved/data"}, {"exposure": "s3://moved/exposure"},
    {"names": {"coat": "Mantel", "bag": "Tasche"}}])
def test_without_a_search_a_sweep_may_grow(more):
    sweep(**ASKED | more).going_on_from(sweep(**ASKED), "here")


@pytest.mark.parametrize(("other", "differences"), [
    ({"seeds": 1}, "seeds: 2 -> 1"),
    ({"epochs": 8}, "epochs: 9 -> 8"),
    ({"classes": ["bag"]}, "classes: without coat"),
    ({"classes": ["shirt"]}, "classes: without coat, bag"),
    ({"protocol": "holdout"}, "protocol: paper -> holdout"),
    ({"data_id": "f" * 16}, "data set: dddddddddddddddd -> ffffffffffffffff"),
    ({"exposure_id": None}, "exposure set: eeeeeeeeeeeeeeee -> None"),
    ({"settings": ["optimizer.lr=0.5"]}, "optimizer.lr: 0.01 -> 0.5"),
    ({"seeds": 1, "protocol": "holdout"}, "protocol: paper -> holdout; seeds: 2 -> 1"),
    ({"search": search()}, "search: none -> over optimizer.lr")])
def test_other_sweeps_are_refused_with_what_differs(other, differences):
    with pytest.raises(Conflict) as caught:
        sweep(**ASKED | other).going_on_from(sweep(**ASKED), "runs/x")
    assert str(caught.value) == f"runs/x is a sweep of other settings ({differences}): give another --name"


def test_another_recipe_is_refused_by_its_name():
    with pytest.raises(Conflict, match='"fmnist" -> "cifar10"'):
        sweep(["coat"], name="cifar10").going_on_from(sweep(["coat"]), "here")


FOUND = ASKED | {"search": search(GRID, "grid")}


@pytest.mark.parametrize("more", [{}, {"seeds": 5}, {"classes": ["bag", "coat"]}, {"data": "s3://moved/data"}])
def test_with_a_search_more_seeds_are_tested(more):
    sweep(**FOUND | more).going_on_from(sweep(**FOUND), "here")


LESS = {"optimizer.lr": {"grid": [0.1]}, "network.affine": {"grid": [True, False]}}


@pytest.mark.parametrize(("other", "differences"), [
    ({"search": None}, "search: over optimizer.lr, network.bias -> none"),
    ({"epochs": 40}, "epochs: 9 -> 40"),
    ({"seeds": 1}, "seeds: 2 -> 1"),
    ({"classes": ["coat", "bag", "shirt"]}, "classes: with shirt, which the search has not seen"),
    ({"search": search(GRID, "grid", seeds=2)}, "search seeds: 1 -> 2"),
    ({"search": search(GRID, "grid", select="holdout_auroc")}, 'search select: "holdout_loss" -> "holdout_auroc"'),
    ({"search": search(GRID, "grid", scheduler="none", reduction=2)},
     'search scheduler: "asha" -> "none"; search reduction: 3 -> 2'),
    ({"search": search(LESS, "grid")},
     'search optimizer.lr: {"grid": [0.1, 0.01, 0.001]} -> {"grid": [0.1]}; search network.bias: {"grid": [true, '
     'false]} -> absent; search over: ["optimizer.lr", "network.bias"] -> ["optimizer.lr", "network.affine"]; search '
     'network.affine: absent -> {"grid": [true, false]}'),
    ({"search": search(dict(reversed(GRID.items())), "grid")},
     'search over: ["optimizer.lr", "network.bias"] -> ["network.bias", "optimizer.lr"]')])
def test_what_a_search_has_found_holds_for_what_it_was_made_of(other, differences):
    with pytest.raises(Conflict) as caught:
        sweep(**FOUND | other).going_on_from(sweep(**FOUND), "runs/x")
    assert str(caught.value) == f"runs/x is a sweep of other settings ({differences}): give another --name"


@pytest.mark.parametrize("more", [
    {"samples": 26}, {"samples": 10, "scheduler": "none"}, {"samples": 10, "seed": 3, "select": "holdout_auroc"}])
def test_random_samples_may_grow_where_settings_are_compared_after_the_same_epochs(more):
    """The same number of rungs: from 9 samples to 26, of which a third goes on twice."""
    there = sweep(**ASKED | {"search": search(RATES, **more | {"samples": 9})})
    mine = sweep(**ASKED | {"search": search(RATES, **more)})
    mine.going_on_from(there, "here")
    with pytest.raises(Conflict, match=rf"\(search samples: {more['samples']} -> 9\)"):
        there.going_on_from(mine, "here")


@pytest.mark.parametrize(("there", "mine", "differences"), [
    (search(RATES, samples=3), search(RATES, samples=9),
     "search samples: 3 -> 9, which are compared after 1, 3, 9 epochs, and no longer after 3, 9"),
    (search(RATES, samples=3), search(RATES, samples=4, seed=1), "search samples: 3 -> 4; search seed: 0 -> 1"),
    (search(RATES, "optuna", samples=4), search(RATES, "optuna", samples=8), "search samples: 4 -> 8"),
    (search(RATES, "optuna", optuna_version="4.4.0"), search(RATES, "optuna", optuna_version="4.5.0"),
     'search optuna_version: "4.4.0" -> "4.5.0"')])
def test_other_samples_are_another_search(there, mine, differences):
    with pytest.raises(Conflict) as caught:
        sweep(search=mine).going_on_from(sweep(search=there), "here")
    assert f"here is a sweep of other settings ({differences}): give another --name" == str(caught.value)


def test_a_search_that_was_begun_with_other_draws_is_not_gone_on_with():
    """Sweeps of before there were two kinds don't say which."""
    tree = json.loads(sweep(search=search()).to_json())
    assert tree["search"].pop("draws") == "independent"
    there = Sweep.from_json(json.dumps(tree), "here")
    for samples in (9, 10):
        with pytest.raises(Conflict, match=r'search draws: "independent" -> "spread".*give another --name'):
            sweep(search=search(samples=samples, draws="spread")).going_on_from(there, "here")


def test_what_is_written_does_not_depend_on_the_order_of_settings_in_memory():
    this = sweep(search=search())
    assert json.loads(this.to_json())["search"]["space"] == RATES
    assert Sweep.from_json(this.to_json(), "here").to_json() == this.to_json()
