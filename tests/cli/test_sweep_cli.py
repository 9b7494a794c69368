"""``fcdd-dist sweep``: what is refused, in one line and before anything starts or is written; what a dry run says."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import get_args

import pytest

from fcdd_dist.cli import main
from fcdd_dist.cli.parser import parse
from fcdd_dist.cli.sweep import _SELECT, _SPACES, EXAMPLES, order
from fcdd_dist.cluster.dry_run import dry_run
from fcdd_dist.cluster.placement import cores
from fcdd_dist.cluster.slots import TrialPlacement
from fcdd_dist.cluster.sweep import Order, survey
from fcdd_dist.sweep.space import draw
from fcdd_dist.sweep.spaces import SPACES
from fcdd_dist.sweep.value import Select

RATES = {"optimizer.lr": {"grid": [0.001, 0.01]}}


@pytest.fixture
def refused(tmp_path, digits_data, capsys):
    """``refused(*options)``: the one line that is left of a sweep, which has changed nothing and was quick."""

    def run(*more: str, data: str = digits_data, nominal: str = "0,1", space: dict | None = None) -> str:
        before, began = files(tmp_path), time.monotonic()
        assert main(command(tmp_path, data, *searching(tmp_path, space), *more, nominal=nominal)) == 2
        assert time.monotonic() - began < 5
        out, err = capsys.readouterr()
        assert out == ""
        assert err.startswith("fcdd-dist: error: ")
        assert err.count("\n") == 1, err
        assert {name: content for name, content in files(tmp_path).items() if name != "space.json"} == {
            name: content for name, content in before.items() if name != "space.json"}
        return err

    return run


def command(folder: Path, data: str, *more: str, nominal: str = "0,1") -> list[str]:
    return ["sweep", "digits", "--data", data, "--nominal", nominal, "--storage", str(folder), "--name", "a",
            "--precision", "float32", "--gpus-per-trial", "0", *more]


def searching(folder: Path, space: dict | None) -> list[str]:
    if space is None:
        return []
    (folder / "space.json").write_text(json.dumps(space))
    return ["--search", str(folder / "space.json")]


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def stand(folder: Path, data: str, *more: str, nominal: str = "0,1") -> None:
    """A sweep that was killed before its first trial began."""
    wanted = order(parse(command(folder, data, *more, nominal=nominal)), TrialPlacement(), [].append)
    (folder / "a").mkdir()
    (folder / "a" / "sweep.json").write_text(wanted.sweep.to_json())


@pytest.mark.parametrize(("more", "nominal", "wanted"), [
    ((), "0,0", "--nominal names '0' twice"),
    ((), "0,digit 0", "--nominal names '0' and 'digit 0', which is the same, twice"),
    ((), "0,eleven", "there is no class 'eleven'"),
    (("--seeds", "0"), "0", "--seeds: 0 is less than 1"),
    (("--gpus-per-trial", "1"), "0", "a trial takes 1 CPU, 1 GPU, and this machine has 0 GPUs: give "
                                     "--gpus-per-trial 0, or the --address of a cluster"),
    (("--gpus-per-trial", "-1"), "0", "--gpus-per-trial -1: give 0, 1, or a fraction between them"),
    (("--workers-per-trial", "9"), "0", "9 workers can't share 8 lanes"),
    (("--samples", "3"), "0", "--samples goes with --search SPACE"),
    (("--scheduler", "none"), "0", "--scheduler goes with --search SPACE"),
    (("--searcher", "grid"), "0", "--searcher goes with --search SPACE"),
    (("--search-seeds", "2"), "0", "--search-seeds goes with --search SPACE"),
    (("--search-seed", "2"), "0", "--search-seed goes with --search SPACE"),
    (("--search", "learning-rate", "--search-seed", "2"), "0", "--search-seed does nothing for a space of grids alone"),
    (("--search", "learning-rate", "--scheduler", "none", "--reduction", "3"), "0",
     "--reduction goes with --scheduler asha"),
    (("--search", "optimizer", "--samples", "1"), "0", "the search has a single setting (optimizer.lr="),
    (("--search", "optimizer", "--samples", "10001"), "0", "the search has 10,001 settings"),
    (("--search", "optimizer", "--samples", "3", "--set", "optimizer.lr=1"), "0", "optimizer.lr is searched, too"),
    (("--set", "seed=7"), "0", "--set seed=7: seed can't be set for a sweep: give --seeds"),
    (("--set", "data.train_on=train+holdout"), "0", "can't be set for a sweep: it follows from --protocol"),
    (("--set", 'data={"nominal": "1"}'), "0", "data can't be set for a sweep: data.recipe is in it"),
    (("--seeds", "100001"), "0", "1 class with 100,001 seeds each are 100,001 trainings"),
    (("--search", "optimiser"), "0", "there is no search space 'optimiser' (did you mean 'optimizer'?)"),
    (("--search", "optimizer"), "0", "--searcher random needs --samples N"),
    (("--track", "tensorbord"), "0", "no such tracker"),
    (("--name", "../a"), "0", "--name '../a'"),
    (("--name", "a/b", "--dry-run"), "0", "--name 'a/b': a sweep is a folder of --storage"),
    (("--precision", "auto", "--gpus-per-trial", "1"), "0", "a trial takes 1 CPU, 1 GPU"),  # and no precision is told
    (("--precision", "auto"), "eleven", "there is no class 'eleven'"),
    (("--data", "nowhere"), "0", "is no data set"),
])
def test_options_that_do_not_go(refused, monkeypatch, more, nominal, wanted):
    monkeypatch.setattr("fcdd_dist.cluster.sweep.local_gpus", lambda: 0)  # whatever this machine has
    assert wanted in refused(*more, nominal=nominal)


@pytest.mark.parametrize(("space", "wanted"), [
    ({"optimizer.rl": {"grid": [0.1]}}, "there is no field optimizer.rl (did you mean 'optimizer.lr'?)"),
    ({"optimizer.lr": {"grid": []}}, "optimizer.lr: the grid is empty"),
    ({"epochs": {"grid": [1, 2]}}, "epochs can't be searched: give --epochs"),
    ({"data.nominal": {"grid": ["0"]}}, "data.nominal can't be searched: it follows from --nominal"),
    ({"heatmap.sigma": {"grid": [1.0]}}, "heatmap.sigma can't be searched"),
    ({"network.name": {"grid": ["fcdd28", "nosuchnet"]}}, "no network 'nosuchnet'"),
    ({"network.name": {"grid": ["fcdd28", "fcdd224"]}}, "network fcdd224 takes 3 channels and the data have 1"),
    ({"data.normalization": {"grid": ["mean-std", "imagenet"]}}, "data.normalization=imagenet is for colour"),
    ({"network.batch_norm": {"grid": ["world", "rank"]}}, "with one worker a trial, world and rank are the same"),
    ({}, "is an empty search space"),
])
def test_spaces_that_do_not_go(refused, space, wanted):
    assert wanted in refused(space=space)


def test_lanes_that_the_workers_of_a_trial_can_not_share(refused):
    assert "3 workers can't share 2 lanes" in refused("--workers-per-trial", "3", space={"lanes": {"grid": [8, 2]}})


def test_help_says_what_there_is_and_its_example_is_taken(tmp_path, digits_data):
    """It is written out, since help must not wait for what it tells of."""
    assert set(_SPACES) == set(SPACES)
    assert get_args(Select) == _SELECT
    example = json.loads(next(line for line in EXAMPLES.splitlines() if line.startswith("  {")))
    options = parse(command(tmp_path, digits_data, *searching(tmp_path, example), "--samples", "2"))
    assert list(order(options, TrialPlacement(), [].append).sweep.search.space) == list(example)


def test_a_search_needs_a_hold_out(refused, tmp_path, digits_data):
    data = tmp_path / "data"
    shutil.copytree(digits_data, data)
    manifest = json.loads((data / "manifest.json").read_text())
    del manifest["splits"]["holdout"]["1"]
    (data / "manifest.json").write_text(json.dumps(manifest))
    assert "has no hold-out images of class '1'" in refused(data=str(data), space=RATES)


def test_a_name_stands_for_one_sweep(refused, tmp_path, digits_data):
    stand(tmp_path, digits_data, *searching(tmp_path, RATES))
    for more, wanted in (
            (("--set", "batch_size=32"), "batch_size: 64 -> 32"),
            (("--protocol", "paper"), "protocol: holdout -> paper"),
            (("--search-seeds", "2"), "search seeds: 1 -> 2"),
            (("--epochs", "9"), "epochs: 60 -> 9"), (("--reduction", "4"), "search reduction: 3 -> 4")):
        err = refused(*more, space=RATES)
        assert f"is a sweep of other settings ({wanted})" in err
        assert "give another --name" in err
    assert "classes: without 1" in refused(nominal="0", space=RATES)
    assert "is a sweep of other settings (search: " in refused()


def test_a_random_search_may_grow_and_another_seed_is_another_one(refused, tmp_path, digits_data):
    rates = {"optimizer.lr": {"loguniform": [0.001, 0.1]}}
    space = searching(tmp_path, rates)
    stand(tmp_path, digits_data, *space, "--samples", "9")

    def of(*more: str) -> Order:
        return order(parse(command(tmp_path, digits_data, *space, *more)), TrialPlacement(), [].append)

    survey(of("--samples", "26"), [].append)
    assert "search samples: 9 -> 27, which are compared after 2, 6, 20, 60 epochs" in refused(
        "--samples", "27", space=rates)
    assert "search seed: 0 -> 1" in refused("--samples", "9", "--search-seed", "1", space=rates)
    first, other = (draw(one.space, one.samples, one.seed) for one in (
        of("--samples", "3", *seed).sweep.search for seed in ((), ("--search-seed", "1"))))
    assert first != other
    assert of("--samples", "9").sweep.search.draws == "spread"


def test_a_search_of_optuna_holds_its_version(tmp_path, digits_data):
    optuna = pytest.importorskip("optuna")
    search = order(parse(command(tmp_path, digits_data, "--search", "optimizer", "--searcher", "optuna", "--samples",
                                 "2")), TrialPlacement(), [].append).sweep.search
    assert search.optuna_version == optuna.__version__


def test_what_stands_there_and_is_no_sweep_is_left_alone(refused, tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "notes.txt").write_text("mine")
    assert "holds other files and no sweep: give another --name or --storage" in refused()
    (tmp_path / "a" / "experiment.json").write_text("{}")
    assert f"{tmp_path}/a is a run and no sweep: give another --name, or go on with the run by `fcdd-dist" in refused()
    for text, wanted in (("{", "is damaged ("), ("{}", "is damaged ("), ("[1]", "is damaged ("),
                         ('{"schema_version": 2}', "was written by a newer fcdd_dist")):
        (tmp_path / "a" / "sweep.json").write_text(text)
        assert f"sweep.json {wanted}" in refused()


@pytest.mark.slow  # measures a step
def test_a_dry_run_tells_what_would_run_and_leaves_nothing(tmp_path, digits_data, capsys):
    space = searching(tmp_path, RATES)
    assert main(command(tmp_path, digits_data, *space, "--seeds", "2", "--dry-run")) == 0
    out = capsys.readouterr().out
    assert "2 classes (digit 0, digit 1)" in out
    assert "2 seeds each, 60 epochs, protocol holdout, float32" in out
    assert "no setting is selected of 2: 2 waiting" in out
    assert "8 trainings to begin, 4 tests of 359 images, and 14 s to start" in out
    assert "shared" not in out
    assert sorted(files(tmp_path)) == ["space.json"]
    assert [path.name for path in tmp_path.iterdir()] == ["space.json"]


@pytest.mark.parametrize(("more", "wanted"), [
    (("--track", "tensorbord"), "no such tracker"), (("--storage", "{folder}/file"), "file is no folder")])
def test_a_dry_run_refuses_what_a_sweep_would(refused, tmp_path, more, wanted):
    (tmp_path / "file").write_text("mine")
    assert wanted in refused(*(one.format(folder=tmp_path) for one in more), "--dry-run")
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.slow  # measures a step
def test_a_dry_run_leaves_folders_that_are_not_there_so_and_says_what_is_too_much(tmp_path, digits_data):
    cpus = cores() + 3
    wanted = order(parse(command(tmp_path / "not" / "there", digits_data)), TrialPlacement(), [].append)
    found, lines = dry_run(wanted, TrialPlacement(cpus=cpus), None, [].append)
    assert found["crowded"]
    assert lines[-1].startswith(f"a trial takes {cpus} CPUs and this machine has {cores()}: they would be shared, and ")
    assert list(tmp_path.iterdir()) == []
