"""The command line: bad input in one line and early, names and precision of runs, what is imported for it."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys

import pytest

from fcdd_dist.cli import main
from fcdd_dist.cli.parser import build, parse
from fcdd_dist.cli.train import auto_precision
from fcdd_dist.cli.train import job as job_of
from fcdd_dist.cluster.placement import Placement
from fcdd_dist.errors import BadInput
from fcdd_dist.storage import FolderStore

TRAIN = ["train", "digits", "--data", "DATA", "--nominal", "3", "--storage", "RUNS"]


@pytest.fixture
def data(digits_data):
    return digits_data


def error_of(capsys, *arguments: str) -> str:
    """The one line that a refused command leaves."""
    assert main(list(arguments)) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("fcdd-dist: error: ")
    assert err.count("\n") == 1
    return err


def job(tmp_path, data, *more: str, gpus: bool = False, said: list | None = None):
    arguments = [{"DATA": str(data), "RUNS": str(tmp_path / "runs")}.get(word, word) for word in TRAIN]
    return job_of(parse([*arguments, *more]), Placement(gpus=int(gpus)), ([] if said is None else said).append)


@pytest.mark.parametrize(("arguments", "wanted"), [
    (["trian"], "no verb 'trian' (did you mean 'train'?)"),
    ([*TRAIN, "--worker", "2"], "no option --worker (did you mean '--workers'?)"),
    ([*TRAIN, "--epochs", "many"], "--epochs: 'many' is no whole number"),
    ([*TRAIN, "--epochs", "0"], "--epochs: 0 is less than 1"),
    ([*TRAIN, "--budget", "5"], "--budget: 5 is not at least 0 and below 1"),
    ([*TRAIN, "--precision", "fp16"], "--precision: invalid choice: 'fp16'"),
    ([*TRAIN, "--decode", "gpu"], "--decode: invalid choice: 'gpu'"),
    ([*TRAIN, "--workers", "two"], "neither a number nor a range"),
    ([*TRAIN, "--workers", "3-2"], "3-2 is no range"),
    ([*TRAIN, "--name", "../other"], "--name '../other'"),
    ([*TRAIN, "--set", "optimizer.rl=1"], "no field optimizer.rl (did you mean 'optimizer.lr'?)"),
    (["train", "digits", "--nominal", "3", "--storage", "RUNS"], "required: --data"),
    (["train", "digts", *TRAIN[2:]], "no recipe 'digts' (did you mean 'digits'?)"),
    ([*TRAIN[:3], "gs://bucket/x", *TRAIN[4:]], "there is no storage of this kind"),
    (["quickstart", "--digit", "10"], "--digit: invalid choice: 10"),
    (["shard", "exposure", "--source", "x", "--out", "y"], "needs --like"),
    (["shard", "digits", "--like", "digits", "--out", "y"], "--like goes with `shard exposure`"),
    (["shard", "folder", "--source", "x", "--out", "y", "--form", "gif"], "'gif' is no stored form"),
    (["explain", "--out", "x", "checkpoint"], "required: IMAGE|FOLDER|URL"),
    (["shard", "folder", "--source", "s3://bucket/raw", "--exposure", "x", "--out", "y"],
     "s3://bucket/raw: images to be sharded are read from this machine; copy them into a folder here first"),
    (["shard", "folder", "--source", "x", "--exposure", "s3://bucket/more", "--out", "y"],
     "s3://bucket/more: images to be sharded are read"),
    (["shard", "exposure", "--like", "digits", "--source", "s3://bucket/raw", "--out", "y"], "copy them into a folder"),
    (["evaluate", "s3:/bucket/run", "--data", "x"], "write s3://BUCKET/PREFIX, in small letters and with two slashes"),
    (["explain", "checkpoint", "gs://bucket/x.png", "--out", "x"], "there is no storage of this kind"),
])
def test_bad_input_is_one_line(capsys, tmp_path, monkeypatch, arguments, wanted):
    monkeypatch.chdir(tmp_path)
    assert wanted in error_of(capsys, *arguments)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("more", "wanted"), [
    (["--workers", "9"], "9 workers can't share 8 lanes"),
    (["--nominal", "digit3"], "no class 'digit3'"),
    (["--set", "network.name=\"fcdd224\""], "fcdd224"),
    (["--exposure", "DATA"], "no exposure set"),
    (["--decode", "cuda", "--gpus-per-worker", "0"], "--decode cuda needs workers with GPUs"),
    (["--decode", "cuda", "--gpus-per-worker", "1"], "decode=cuda is for JPEG, and DATA is stored as png-"),
])
def test_what_does_not_fit_the_data_is_refused_before_ray_starts(capsys, tmp_path, data, more, wanted):
    words = [{"DATA": str(data), "RUNS": str(tmp_path)}.get(word, word) for word in [*TRAIN, *more]]
    assert wanted.replace("DATA", str(data)) in error_of(capsys, *words)
    assert list(tmp_path.iterdir()) == []


def test_no_precision_is_told_of_a_run_that_is_refused(capsys, tmp_path, data):
    (tmp_path / "notes.txt").write_text("mine")
    words = [{"DATA": str(data), "RUNS": str(tmp_path.parent)}.get(word, word) for word in TRAIN]
    assert "holds other files and no run" in error_of(capsys, *words, "--name", tmp_path.name)


def test_a_missing_data_set_is_named(capsys, tmp_path):
    error = error_of(capsys, *TRAIN[:3], str(tmp_path), *TRAIN[4:])
    assert f"{tmp_path} is no data set" in error


def test_the_default_name_holds_class_seed_and_experiment(tmp_path, data):
    one, same = job(tmp_path, data), job(tmp_path, data, "--nominal", "digit 3", "--epochs", "3")
    assert one.run == same.run == str(tmp_path / "runs" / f"digits-3-s0-{one.experiment.id[:8]}")
    assert one.experiment.data.nominal == "3"
    others = [job(tmp_path, data, "--seed", "7"), job(tmp_path, data, "--set", "optimizer.lr=0.1"),
              job(tmp_path, data, "--protocol", "paper")]
    assert len({one.run, *(other.run for other in others)}) == 4
    assert others[2].experiment.data.train_on == "train+holdout"


def test_settings_win_over_flags(tmp_path, data):
    assert job(tmp_path, data, "--epochs", "3", "--set", "epochs=5").experiment.epochs == 5
    said = []
    assert job(tmp_path, data, "--set", "precision=bf16", said=said).experiment.precision == "bf16"
    assert said == []


def test_auto_precision_is_answered_and_said(tmp_path, data):
    flags = tmp_path / "cpuinfo"
    flags.write_text("flags : fpu avx512_bf16 sse\n")
    assert auto_precision(False, flags) == ("bf16", "this CPU has avx512_bf16")
    flags.write_text("flags : fpu avx2\n")
    assert auto_precision(False, flags)[0] == "float32"
    assert auto_precision(True, flags)[0] == "bf16"
    assert auto_precision(False, tmp_path / "none")[0] == "float32"
    said = []
    assert job(tmp_path, data, gpus=True, said=said).experiment.precision == "bf16"
    assert said == ["precision bf16: GPUs are asked for"]


@pytest.mark.parametrize("name", [[], ["--name", "mine"]])
def test_a_resume_does_not_answer_auto_again(tmp_path, data, name):
    there = job(tmp_path, data, "--precision", "float32", *name)
    FolderStore(there.run).write("experiment.json", json.dumps(
        {"experiment": there.experiment.model_dump(mode="json")}).encode())
    assert job(tmp_path, data, *name, gpus=True) == there


def test_relative_paths_mean_nothing_in_a_job(capsys, monkeypatch):
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    assert "'DATA' is relative, and a submitted job" in error_of(
        capsys, *[word if word != "RUNS" else "/runs" for word in TRAIN])


def test_every_verb_has_a_help_with_examples(capsys):
    _, verbs = build()
    for verb in verbs:
        with pytest.raises(SystemExit) as end:
            main([verb, "--help"])
        assert end.value.code == 0
        text = capsys.readouterr().out
        assert "examples:\n  fcdd-dist" in text
        assert max(map(len, text.splitlines())) <= 120


def test_the_examples_parse():
    import shlex

    parser, _ = build()
    texts = [verb.epilog for verb in build()[1].values()]
    lines = "\n".join(texts).replace("\\\n", " ").splitlines()
    examples = [shlex.split(line)[1:] for line in lines if line.strip().startswith("fcdd-dist ")]
    assert len(examples) > 10
    for example in examples:
        assert isinstance(parser.parse_args(example), argparse.Namespace)


def test_help_and_refusals_load_nothing_heavy():
    heavy = ("torch", "ray", "torchvision", "sklearn", "matplotlib", "boto3", "webdataset")
    code = f"""
import sys
from fcdd_dist.cli import main
for arguments in {[["--help"], ["train", "--help"], ["train", "digts", *TRAIN[2:]]]!r}:
    try:
        assert main(arguments) == 2
    except SystemExit as end:
        assert end.code == 0
    print(arguments, [name for name in {heavy!r} if name in sys.modules], file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    said = [line for line in done.stderr.splitlines() if line.startswith("[")]
    assert len(said) == 3
    assert all(line.endswith("] []") for line in said), done.stderr


def test_job_entry_points_are_the_verbs(capsys, monkeypatch):
    import runpy
    from pathlib import Path

    folder = Path(__file__).parents[2] / "jobs"
    for verb in ("train", "shard", "evaluate", "explain", "report"):
        monkeypatch.setattr(sys, "argv", [verb, "--help"])
        with pytest.raises(SystemExit):
            runpy.run_path(str(folder / f"{verb}.py"), run_name="__main__")
        assert f"usage: fcdd-dist {verb} " in capsys.readouterr().out


def test_an_unexpected_error_keeps_its_traceback(monkeypatch):
    import fcdd_dist.cli as cli

    def broken(_arguments):
        raise ZeroDivisionError

    monkeypatch.setattr(cli, "parse", broken)
    with pytest.raises(ZeroDivisionError):
        main(["report", "x"])


def test_bad_input_raised_in_parsing_is_ours():
    with pytest.raises(BadInput, match="see `fcdd-dist report --help`"):
        parse(["report"])
