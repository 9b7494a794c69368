"""Search spaces: what they may be, what is refused, and what is drawn from them."""

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fcdd_dist.errors import BadInput
from fcdd_dist.experiment import paths
from fcdd_dist.recipes import RECIPES, recipe
from fcdd_dist.sweep.space import FIXED, Axis, check_space, draw, is_grid, place
from fcdd_dist.sweep.spaces import SPACES, read_space

BASE = recipe("fmnist").experiment("trouser", 0)
LR = {"loguniform": [1e-4, 0.1]}


def space(**axes):
    """``optimizer__lr=...`` for ``optimizer.lr``."""
    return {path.replace("__", "."): Axis.model_validate(axis) for path, axis in axes.items()}


def refused(call, *arguments):
    with pytest.raises(BadInput) as caught:
        call(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def write(content, name="s.json"):
        (tmp_path / name).write_text(content if isinstance(content, str) else json.dumps(content))
        return name
    return write


def test_an_axis_is_its_json():
    for tree in ({"grid": [1, None, {"kind": "sgd"}]}, {"choice": [[0.5]]}, {"uniform": [64, 256]},
                 {"loguniform": [1e-4, 0.1]}):
        axis = Axis.model_validate(tree)
        assert axis.model_dump(mode="json") == tree
        assert Axis.model_validate_json(axis.model_dump_json()) == axis
        assert Axis.model_validate(axis) == axis


@pytest.mark.parametrize("name", SPACES)
@pytest.mark.parametrize("of", RECIPES)
def test_every_recipe_takes_all_that_a_named_space_gives(name, of):
    experiment, found = recipe(of).experiment("x", 0), read_space(name)
    check_space(found, experiment)
    for one in draw(found, 5, 0):
        experiment.override(f"{path}={json.dumps(value)}" for path, value in one.items())


def test_files_hold_paths_or_tables(written):
    plain = written({"optimizer.lr": {"grid": [0.1]}, "network.bias": {"choice": [True]}})
    tables = written({"optimizer": {"lr": {"grid": [0.1]}}, "network": {"bias": {"choice": [True]}}}, "t.json")
    toml = written("optimizer.lr = {grid = [0.1]}\n[network]\nbias = {choice = [true]}\n", "s.toml")
    assert read_space(plain) == read_space(tables) == read_space(toml) == space(
        optimizer__lr={"grid": [0.1]}, network__bias={"choice": [True]})


@pytest.mark.parametrize(("content", "message"), [
    ({"optimizer.lr": {"grid": []}}, "s.json: optimizer.lr: the grid is empty"),
    ({"optimizer.lr": {"gird": [1]}}, "s.json: optimizer.lr: there is no kind of axis 'gird' (did you mean 'grid'?); "
                                      "there are: grid, choice, uniform, loguniform"),
    ({"optimizer.lr": {"grid": 1}}, "a grid takes a list, not 1"),
    ({"optimizer.lr": 0.1}, 's.json: optimizer.lr: an axis has one key, its kind, for example {"grid": [0.1, 0.01]}'),
    ({"optimizer.lr": {}}, "one key"),
    ({"optimizer.lr": {"grid": [1], "choice": [2]}}, "one key"),
    ({"optimizer.lr": {"choice": [1, 2, 1.0]}}, "the choice has 1.0 twice"),
    ({"optimizer.lr": {"uniform": [2, 1]}}, "the range goes from 2 to 1: write [low, high]"),
    ({"optimizer.lr": {"uniform": [1, 1]}}, "the range goes from 1 to 1"),
    ({"optimizer.lr": {"loguniform": [0, 1]}}, "the range begins at 0, which has no logarithm: begin above 0"),
    ({"optimizer.lr": {"uniform": [1, 2, 3]}}, "a uniform takes two numbers, [low, high], not [1, 2, 3]"),
    ({"optimizer.lr": {"uniform": [False, True]}}, "two numbers"),
    ({"optimizer.lr": {"uniform": ["1", 2]}}, "two numbers"),
    ('{"optimizer.lr": {"uniform": [1, NaN]}}', "two numbers"),
    ('{"optimizer.lr": {"uniform": [1, 1e999]}}', "two numbers"),
    ('{"optimizer.lr": {"grid": [NaN]}}', "the grid has nan, which is no JSON value"),
    ({}, "s.json is an empty search space"),
    ([1], "s.json is no search space: write axes by their paths"),
    ("", "s.json is damaged: line 1"),
    ('{\n"optimizer.lr": {"grid": [1}}', "s.json is damaged: line 2, column 28"),
    ('{"seed": 1, "seed": 2}', "s.json has seed twice"),
    ({"optimizer": {"lr": {"grid": [1]}}, "optimizer.lr": {"grid": [2]}}, "s.json has optimizer.lr twice"),
])
def test_a_file_that_is_no_space_is_refused(written, content, message):
    assert message in refused(read_space, written(content))


@pytest.mark.parametrize(("content", "message"), [
    ("a = 1\nb = {", "s.toml is damaged: "), ("a = 1\nb ! 2", "line 2"),
    ("lanes = {grid = [1979-05-27]}", "lanes: the grid has datetime.date(1979, 5, 27), which is no JSON value")])
def test_a_toml_file_that_is_no_space_is_refused(written, content, message):
    assert message in refused(read_space, written(content, "s.toml"))


def test_what_is_not_there_is_told(tmp_path):
    assert refused(read_space, "optimiser") == (
        "there is no search space 'optimiser' (did you mean 'optimizer'?); there are: optimizer, learning-rate, "
        "batch-norm, augmentation, exposure; or give a .json or .toml file")
    assert "there is no file nowhere/s.toml" in refused(read_space, "nowhere/s.toml")
    (tmp_path / "folder.json").mkdir()
    assert "folder.json can't be read: Is a directory" in refused(read_space, str(tmp_path / "folder.json"))
    (tmp_path / "s.json").write_bytes(b"\xff")
    assert "it is not UTF-8 text" in refused(read_space, str(tmp_path / "s.json"))


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
    ({"data": {"grid": [{}]}}, "data can't be searched as a whole, since it has data.recipe"),
    ({"data__form__side": {"grid": [32]}}, "data.form.side can't be searched: it follows from the data set"),
    ({"epochs": {"grid": [3]}}, "epochs can't be searched: give --epochs"),
])
def test_what_the_experiment_can_not_have_is_refused(axes, message):
    assert message in refused(check_space, space(**axes), BASE)


@pytest.mark.parametrize("path", FIXED)
def test_fields_that_follow_from_something_else_are_not_searched(path):
    assert path in paths(type(BASE))
    assert FIXED[path] in refused(check_space, {path: Axis.model_validate({"grid": [1]})}, BASE)


@pytest.mark.parametrize("axes", [
    {"schedule": {"choice": [{"kind": "exponential", "factor": 0.9}, {"kind": "milestones", "milestones": [2]}]}},
    {"optimizer": {"grid": [{"kind": "sgd", "lr": 0.1}, {"kind": "adam", "lr": 0.001}]}},
    {"optimizer__momentum": {"grid": [0, 0.9]}, "optimizer__nesterov": {"grid": [False]}},  # 0 is for no nesterov alone
    {"augmentation__noise__std": {"loguniform": [1e-4, 0.1]}},  # of a field that is null
    {"lanes": {"uniform": [1, 8]}}, {"data__normalization": {"grid": ["lcn-minmax", "mean-std"]}},
])
def test_what_it_can_have_is_taken(axes):
    check_space(space(**axes), BASE)
    for one in draw(space(**axes), 3, 0):
        BASE.override(f"{path}={json.dumps(value)}" for path, value in one.items())


def test_grids_are_multiplied_and_the_last_changes_quickest():
    grids = space(optimizer__lr={"grid": [1, 2]}, network__bias={"grid": [True, False]})
    assert is_grid(grids)
    product = ({"optimizer.lr": 1, "network.bias": True}, {"optimizer.lr": 1, "network.bias": False},
               {"optimizer.lr": 2, "network.bias": True}, {"optimizer.lr": 2, "network.bias": False})
    assert draw(grids, 1, 0) == draw(grids, 3, 7) == product


def test_the_points_of_a_grid_share_the_draws():
    mixed = space(optimizer__lr=LR, network__bias={"grid": [True, False]})
    assert not is_grid(mixed)
    found = draw(mixed, 3, 0)
    assert [list(one) for one in found] == [["optimizer.lr", "network.bias"]] * 6
    assert [one["network.bias"] for one in found] == [True, False] * 3
    rates = [one["optimizer.lr"] for one in found]
    assert rates[::2] == rates[1::2]
    assert len(set(rates)) == 3


@given(st.integers(0, 20), st.integers(0, 20), st.integers(0, 5))
@settings(max_examples=30)
def test_more_samples_begin_with_the_same_settings_and_none_is_there_twice(some, more, seed):
    mixed = space(optimizer__lr=LR, batch_size={"uniform": [16, 17]}, network__bias={"grid": [True, False]})
    few, many = draw(mixed, some, seed), draw(mixed, some + more, seed)
    assert many[:len(few)] == few
    tiny = draw(space(batch_size={"uniform": [16, 18]}, network__bias={"grid": [True, False]}), 60, seed)
    assert len({tuple(one.values()) for one in tiny}) == len(tiny) == 6


def test_draws_depend_on_the_seed_and_on_the_path_but_not_on_other_axes():
    alone, other = space(optimizer__lr=LR), {"uniform": [0.1, 0.9]}
    assert draw(alone, 3, 0) != draw(alone, 3, 1)
    together = draw(alone | space(augmentation__flip=other, exposure__probability=other), 3, 0)
    assert [{"optimizer.lr": one["optimizer.lr"]} for one in together] == list(draw(alone, 3, 0))
    assert all(one["augmentation.flip"] != one["exposure.probability"] for one in together)


@given(st.floats(1e-9, 1e9), st.floats(1.001, 1e6), st.floats(0, 1), st.sampled_from(["uniform", "loguniform"]))
def test_numbers_are_in_the_range_and_short(low, ratio, u, kind):
    high = low * ratio
    value = place("optimizer.lr", Axis.model_validate({kind: [low, high]}), u)
    assert low <= value <= high
    assert value in (low, high, float(f"{value:.4g}"))


@pytest.mark.parametrize("kind", ["uniform", "loguniform"])
@pytest.mark.parametrize("path", ["batch_size", "exposure.limit"])
def test_a_field_of_whole_numbers_gets_whole_numbers(kind, path):
    axis = Axis.model_validate({kind: [2, 5]})
    values = [place(path, axis, step / 1000) for step in range(1001)]
    assert {type(value) for value in values} == {int}
    shares = [values.count(number) / 1001 for number in (2, 3, 4, 5)]
    expected = [1 / 4] * 4 if kind == "uniform" else [math.log((k + 1) / k) / math.log(3) for k in (2, 3, 4, 5)]
    assert shares == pytest.approx(expected, abs=0.002)


def test_a_range_of_logarithms_has_as_many_draws_in_each_decade():
    rates = [one["optimizer.lr"] for one in draw(space(optimizer__lr=LR), 600, 0)]
    for low in (1e-4, 1e-3, 1e-2):
        assert sum(low <= rate < 10 * low for rate in rates) == pytest.approx(200, abs=40)
