"""``fcdd-dist sweep``: what is refused, in one line and before anything starts or is written; what a dry run says."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import pytest

from fcdd_dist.cli import main
from fcdd_dist.cli.parser import parse
from fcdd_dist.cli.sweep import order
from fcdd_dist.cluster.slots import TrialPlacement

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
    (("--gpus-per-trial", "-1"), "0", "--gpus-per-trial -1: can't be less than 0"),
    (("--workers-per-trial", "9"), "0", "9 workers can't share 8 lanes"),
    (("--samples", "3"), "0", "--samples goes with --search SPACE"),
    (("--scheduler", "none"), "0", "--scheduler goes with --search SPACE"),
    (("--searcher", "grid"), "0", "--searcher goes with --search SPACE"),
    (("--search-seeds", "2"), "0", "--search-seeds goes with --search SPACE"),
    (("--search", "optimiser"), "0", "there is no search space 'optimiser' (did you mean 'optimizer'?)"),
    (("--search", "optimizer"), "0", "--searcher random needs --samples N"),
    (("--track", "tensorbord"), "0", "no such tracker"),
    (("--name", "../a"), "0", "--name '../a'"),
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
    ({}, "is an empty search space"),
])
def test_spaces_that_do_not_go(refused, space, wanted):
    assert wanted in refused(space=space)


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
            (("--epochs", "9"), "epochs: 60 -> 9"), (("--reduction", "4"), "search reduction: 3 -> 4")):
        err = refused(*more, space=RATES)
        assert f"is a sweep of other settings ({wanted})" in err
        assert "give another --name" in err
    assert "classes: without 1" in refused(nominal="0", space=RATES)
    assert "is a sweep of other settings (search: " in refused()


def test_what_stands_there_and_is_no_sweep_is_left_alone(refused, tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "notes.txt").write_text("mine")
    assert "holds other files and no sweep: give another --name or --storage" in refused()
    for text in ("{", "{}", "[1]", '{"schema_version": 2}'):
        (tmp_path / "a" / "sweep.json").write_text(text)
        assert "sweep.json is damaged (" in refused()


def test_a_dry_run_tells_what_would_run_and_leaves_nothing(tmp_path, digits_data, capsys):
    space = searching(tmp_path, RATES)
    assert main(command(tmp_path, digits_data, *space, "--seeds", "2", "--dry-run")) == 0
    out = capsys.readouterr().out
    assert "2 classes (digit 0, digit 1)" in out
    assert "2 seeds each, 60 epochs, protocol holdout, float32" in out
    assert sorted(files(tmp_path)) == ["space.json"]
    assert [path.name for path in tmp_path.iterdir()] == ["space.json"]
