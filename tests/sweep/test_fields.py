"""Which fields of an experiment a sweep may set or search, and what is said of values that it can't have."""

from __future__ import annotations

import json

import pytest

from fcdd_dist.errors import BadInput
from fcdd_dist.experiment import paths
from fcdd_dist.recipes import RECIPES, recipe
from fcdd_dist.sweep.fields import FIXED, check_given, check_settings, check_space
from fcdd_dist.sweep.space import Axis, draw
from fcdd_dist.sweep.spaces import SPACES, read_space

BASE = recipe("fmnist").experiment("trouser", 0)


def space(**axes):
    """``optimizer__lr=...`` for ``optimizer.lr``."""
    return {path.replace("__", "."): Axis.model_validate(axis) for path, axis in axes.items()}


def refused(call, *arguments):
    with pytest.raises(BadInput) as caught:
        call(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", SPACES)
@pytest.mark.parametrize("of", RECIPES)
def test_every_recipe_takes_all_that_a_named_space_gives(name, of):
    experiment, found = recipe(of).experiment("x", 0), read_space(name)
    check_space(found, experiment, 1)
    for one in draw(found, 5, 0):
        experiment.override(f"{path}={json.dumps(value)}" for path, value in one.items())


@pytest.mark.parametrize(("axes", "message"), [
    ({"optimizer__rl": {"grid": [1]}}, "search space: there is no field optimizer.rl (did you mean 'optimizer.lr'?)"),
    ({"optimizer__lr": {"grid": [0.1, -1]}}, "search space: optimizer.lr: input should be greater than 0, not -1"),
    ({"optimizer__lr": {"uniform": [-1, 1]}}, "optimizer.lr: input should be greater than 0, not -1"),
    ({"exposure__probability": {"uniform": [0.5, 1.5]}}, "less than or equal to 1, not 1.5"),
    ({"optimizer__betas": {"grid": [[0.5, 0.9]]}}, "give the whole optimizer as JSON"),  # of Adam; this is SGD
    ({"schedule__milestones": {"grid": [[3]]}}, "give the whole schedule as JSON"),
    ({"batch_size": {"uniform": [64.5, 256]}}, "batch_size: input should be a valid integer, not 64.5"),
    ({"network__bias": {"uniform": [0, 1]}}, "network.bias: input should be a valid boolean, not 0"),
    ({"network__bias": {"grid": ["yes"]}}, 'network.bias: input should be a valid boolean, not "yes"'),
    ({"augmentation__padding": {"grid": [2]}, "augmentation__crop": {"grid": ["none", "pad"]}},
     "augmentation.padding=2 does nothing with augmentation.crop=none"),
    ({"lanes": {"grid": [8, 16]}, "optimizer__lr": {"grid": [1]}, "batch_size": {"uniform": [8, 64]}},
     "search space: lanes: 16 lanes can't share a batch of 8"),
    ({"schedule__factor": {"grid": [0.5]}, "schedule": {"grid": [{"kind": "exponential", "factor": 0.9}]}},
     "schedule and schedule.factor can't both be searched"),
    ({"exposure__probability": {"uniform": [0, 1]}}, "without exposure the hold-out has no anomalies"),
    ({"data": {"grid": [{}]}}, "data can't be searched: data.recipe is in it, and it follows from RECIPE; give other "
                               "fields of data by themselves"),
    ({"data__form__side": {"grid": [32]}}, "data.form.side can't be searched: it follows from the data set"),
    ({"epochs": {"grid": [3]}}, "epochs can't be searched: give --epochs"),
    ({"network__name": {"grid": ["fcdd28", "nosuchnet"]}}, "search space: no network 'nosuchnet'"),
    ({"network__name": {"choice": ["fcdd28", "fcdd32"]}}, "search space: network fcdd32 takes 3 channels and the data "
                                                          "have 1"),
    ({"data__normalization": {"grid": ["mean-std", "imagenet"]}}, "search space: data.normalization=imagenet is for "
                                                                  "colour, and the data are grey"),
    ({"network__batch_norm": {"grid": ["world", "rank"]}}, "with one worker a trial, world and rank are the same"),
])
def test_what_the_experiment_can_not_have_is_refused(axes, message):
    assert message in refused(check_space, space(**axes), BASE, 1)


@pytest.mark.parametrize("path", FIXED)
def test_fields_that_follow_from_something_else_are_not_searched(path):
    assert path in paths(type(BASE))
    assert FIXED[path] in refused(check_space, {path: Axis.model_validate({"grid": [1]})}, BASE, 1)


@pytest.mark.parametrize("axes", [
    {"schedule": {"choice": [{"kind": "exponential", "factor": 0.9}, {"kind": "milestones", "milestones": [2]}]}},
    {"optimizer": {"grid": [{"kind": "sgd", "lr": 0.1}, {"kind": "adam", "lr": 0.001}]}},
    {"optimizer__momentum": {"grid": [0, 0.9]}, "optimizer__nesterov": {"grid": [False]}},  # 0 is for no nesterov alone
    {"augmentation__noise__std": {"loguniform": [1e-4, 0.1]}},  # of a field that is null
    {"lanes": {"uniform": [1, 8]}}, {"data__normalization": {"grid": ["lcn-minmax", "mean-std"]}},
])
def test_what_it_can_have_is_taken(axes):
    check_space(space(**axes), BASE, 1)
    for one in draw(space(**axes), 3, 0):
        BASE.override(f"{path}={json.dumps(value)}" for path, value in one.items())


def test_workers_share_what_is_searched():
    few = space(lanes={"grid": [8, 2]})
    check_space(few, BASE, 2)
    assert refused(check_space, few, BASE, 3) == (
        "search space: 3 workers can't share 2 lanes: use at most 2 workers")
    check_space(space(network__batch_norm={"grid": ["world", "rank"]}), BASE, 2)


class Counting:
    """An experiment that counts the settings that it is asked for."""

    def __init__(self):
        self.asked = []

    def override(self, settings):
        self.asked.append(tuple(settings))
        return BASE


def test_every_value_of_long_axes_is_tried_and_not_every_pair_of_them():
    counting = Counting()
    check_space(space(optimizer__lr={"choice": list(range(1, 301))}, batch_size={"choice": list(range(8, 308))}),
                counting, 1)
    assert len(counting.asked) == 2 * 300 + 6 * 6
    assert {rate for rate, _ in counting.asked} == {f"optimizer.lr={rate}" for rate in range(1, 301)}
    assert ("optimizer.lr=300", "batch_size=307") in counting.asked


def test_settings_are_tried_one_by_one():
    """What goes with the ends of an axis need not go with its middle."""
    middle = space(lanes={"grid": [1, 2, 3, 16, 4, 5, 6]}, batch_size={"grid": [16, 17, 18, 8, 19, 20, 21]})
    check_space(middle, BASE, 1)
    assert "lanes: 16 lanes can't share a batch of 8" in refused(check_settings, draw(middle, 1, 0), BASE, 1)


@pytest.mark.parametrize(("setting", "message"), [
    ("seed=7", "--set seed=7: seed can't be set for a sweep: give --seeds"),
    ("data.train_on=train+holdout", "data.train_on can't be set for a sweep: it follows from --protocol"),
    ("data.nominal=coat", "it follows from --nominal"),
    ('data={"recipe": "fmnist"}', "data can't be set for a sweep: data.recipe is in it, and it follows from RECIPE; "
                                  "give other fields of data by themselves"),
    ('exposure={"probability": 0.3}', "exposure.order_seed is in it, and it follows from --seeds"),
    ("optimizer.lr=0.1", "--set optimizer.lr=0.1: optimizer.lr is searched, too: leave it out here, or in the search "
                         "space"),
    ('optimizer={"kind": "adam", "lr": 1}', "optimizer.lr is searched, too"),
    ("schedule.shorten=15", "--set schedule.shorten=15: schedule is searched, too"),
])
def test_what_would_be_lost_is_not_set(setting, message):
    searched = space(optimizer__lr={"grid": [1, 2]}, schedule={"grid": [{"kind": "exponential", "factor": 0.9}]})
    assert message in refused(check_given, ["batch_size=32", setting], searched)


def test_what_all_trials_share_may_be_set():
    check_given(["epochs=3", "precision=bf16", "heatmap.sigma=2", "batch_size=32", "data.repeats=2",
                 "exposure.limit=10", "optimizer.lr=0.1"], {})
