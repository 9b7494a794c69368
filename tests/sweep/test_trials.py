"""The trials of a sweep, and the names of their folders."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fcdd_dist.data.manifest import CLASS_ID
from fcdd_dist.sweep.trials import parameters, searched, varied
from fcdd_dist.sweep.trials import tested as to_test
from tests.sweep.making import search, sweep


def test_without_a_search_a_name_is_class_and_seed():
    trials = list(to_test(sweep(["coat", "bag"], seeds=2), {}))
    assert [(trial.name, trial.class_id, trial.seed, trial.tested) for trial in trials] == [
        ("coat-s0", "coat", 0, True), ("coat-s1", "coat", 1, True), ("bag-s0", "bag", 0, True),
        ("bag-s1", "bag", 1, True)]
    assert trials[0].folder == "trials/coat-s0"
    assert [trial.experiment.data.nominal for trial in trials] == ["coat", "coat", "bag", "bag"]
    assert [trial.experiment.seed for trial in trials] == [0, 1, 0, 1]


@given(st.lists(st.from_regex(CLASS_ID, fullmatch=True), min_size=1, max_size=4, unique=True), st.integers(1, 3))
@settings(max_examples=15, deadline=None)
def test_names_of_any_classes_differ_and_are_folders(classes, seeds):
    trials = list(to_test(sweep(["coat"]).model_copy(update={"classes": tuple(classes), "seeds": seeds}), {}))
    names = {trial.name for trial in trials}
    assert len(names) == len(trials) == len(classes) * seeds
    assert all(re.fullmatch(r"[a-z0-9_-]+", name) for name in names)


def test_with_a_search_a_name_tells_the_setting_and_not_its_number():
    this = sweep(["coat"], search=search(seeds=2))
    first, second = searched(this, 4, {"optimizer.lr": 0.01})
    assert re.fullmatch(r"coat-s0-[0-9a-f]{8}", first.name)
    assert first.name.endswith(first.experiment.id[:8])
    assert second.name.startswith("coat-s1-")
    assert (first.setting, first.tested) == (4, False)
    assert next(searched(this, 7, {"optimizer.lr": 0.01})).name == first.name
    assert next(searched(this, 4, {"optimizer.lr": 0.02})).name != first.name


@pytest.mark.parametrize(("protocol", "shares"), [("holdout", True), ("paper", False)])
def test_a_folder_is_shared_by_the_search_and_the_test_of_one_experiment(protocol, shares):
    this = sweep(["coat"], seeds=1, protocol=protocol, search=search())
    (one,), (other,) = searched(this, 0, {"optimizer.lr": 0.01}), to_test(this, {"optimizer.lr": 0.01})
    assert (one.name == other.name) is shares
    assert (one.experiment == other.experiment) is shares


def test_epochs_are_no_part_of_the_name():
    trial = next(searched(sweep(["coat"], search=search()), 0, {"optimizer.lr": 0.01}))
    assert (trial.experiment.epochs, trial.up_to(3).experiment.epochs) == (9, 3)
    assert trial.up_to(3).name == trial.name == next(
        searched(sweep(["coat"], epochs=20, search=search()), 0, {"optimizer.lr": 0.01})).name


def test_parameters_are_all_that_the_trial_is():
    trial = next(to_test(sweep(["coat"]), {}))
    found = parameters(trial)
    assert (found["class"], found["seed"], found["optimizer.lr"], found["epochs"]) == (
        "coat", 0, trial.experiment.optimizer.lr, 9)
    assert not any(isinstance(value, dict) and value for value in found.values())


def test_what_varies_are_class_seed_and_what_is_searched():
    this = sweep(["coat"], search=search({"optimizer.lr": {"grid": [0.1]}, "augmentation.noise.std": {"grid": [0.1]}},
                                         "grid"))
    trial = next(searched(this, 0, {"optimizer.lr": 0.1, "augmentation.noise.std": 0.2}))
    assert varied(this, trial) == {"class": "coat", "seed": 0, "optimizer.lr": 0.1, "augmentation.noise.std": 0.2}
    assert varied(sweep(["coat"]), trial) == {"class": "coat", "seed": 0}
