"""The README's commands, run as they stand there. The set-up lines are run by ``.ci/run``."""

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w+)(?: (\w+))?\n(.*?)^```\n+(.*?)$", README, re.MULTILINE | re.DOTALL)


def blocks(language, kind=""):
    return [text for tongue, mark, text, _ in BLOCKS if (tongue, mark) == (language, kind)]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    return tmp_path_factory.mktemp("readme")


def run(command, workspace):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    done = subprocess.run(["bash", "-euo", "pipefail", "-c", command], cwd=workspace, env=environment,
                          capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done


def test_every_block_is_run_by_somebody():
    known = {("sh", "setup"), ("sh", ""), ("sh", "data"), ("sh", "bucket"), ("sh", "imagenet"), ("sh", "sweep"),
             ("sh", "cluster"), ("sh", "long"), ("python", "")}
    assert {(language, kind) for language, kind, *_ in BLOCKS if language} <= known
    assert len(blocks("sh", "setup")[0].splitlines()) == 2
    for language, kind, text, after in BLOCKS:
        if kind in ("cluster", "long"):
            assert re.search(r"20\d\d-\d\d-\d\d", after), f"no date below the {language} {kind} block\n{text}"


@pytest.mark.ray
@pytest.mark.parametrize("digit", [0, 6])
def test_quickstart(workspace, digit):
    out = run(f"fcdd-dist quickstart --digit {digit}", workspace).stdout
    for word in ("toy set", "AUROC", "report.html", "explain"):
        assert word in out
    result = json.loads((workspace / f"quickstart/digit-{digit}/result.json").read_text())
    assert result["workers"] == 2
    assert result["auroc"] >= {0: 0.93, 6: 0.9}[digit]
    assert "AUROC" in (workspace / f"quickstart/digit-{digit}/report.html").read_text()


@pytest.mark.ray
def test_the_tour(workspace):
    for text in blocks("sh"):
        done = run(text, workspace)
    assert "run" in done.stderr
    assert "is finished: 20 epochs" in done.stderr
    assert len((workspace / "explained/scores.csv").read_text().splitlines()) == 11


@pytest.mark.ray
def test_sweeps(workspace):
    (text,) = blocks("sh", "sweep")
    run(text, workspace)
    for name, runs in (("three-digits", 9), ("searched", 4)):
        table = json.loads((workspace / f"runs/{name}/table.json").read_text())
        assert table["complete"]
        assert len(table["cells"]) == runs
        assert table["mean"]["auroc_mean"] > 0.8
    assert "AUROC" in (workspace / "runs/three-digits/report.html").read_text()
    assert table["search"]["selected"] is not None


@pytest.mark.ray
def test_in_python(workspace):
    (text,) = blocks("python")
    done = subprocess.run([sys.executable, "-c", text + "\nprint(len(scores), heatmaps[0].shape)"],
                          cwd=workspace, capture_output=True, text=True, check=False, env=os.environ)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[0] == "10 (28, 28)"


@pytest.mark.ray
@pytest.mark.s3
def test_a_local_bucket(workspace):
    """In a home of its own, so that a bucket that somebody has up is left alone."""
    (workspace / "infra").symlink_to(ROOT / "infra")
    pictures = workspace / "quickstart/pictures"
    if not pictures.exists():  # else the quickstart has made them
        pictures.mkdir(parents=True)
        for number in range(10):
            Image.new("L", (28, 28), 20 * number).save(pictures / f"{number}.png")
    (text,) = blocks("sh", "bucket")
    with tempfile.TemporaryDirectory(prefix="fcdd-s3-") as home:  # short: sockets have names of at most 107 bytes
        done = run(re.sub(r"(infra/local-bucket \w+)", rf"\1 --home {home}/b", text), workspace)
        assert not Path(home, "b").exists()
    assert "nothing to remove" in done.stdout
    assert (workspace / "five/detector.safetensors").exists()
    assert len((workspace / "explained-five/scores.csv").read_text().splitlines()) == 11


@pytest.mark.ray
@pytest.mark.data
def test_your_own_images(workspace, test_data):
    for name in ("magnetic-tile", "imagenet-sample"):
        (workspace / name).symlink_to(test_data / name)
    (text,) = blocks("sh", "data")
    run(text, workspace)
    assert len((workspace / "cracks/scores.csv").read_text().splitlines()) == 21


@pytest.mark.data
@pytest.mark.slow
def test_imagenet(workspace, test_data):
    for name in ("imagenette-3", "imagenet-sample"):
        if not (workspace / name).exists():
            (workspace / name).symlink_to(test_data / name)
    (text,) = blocks("sh", "imagenet")
    assert "3 classes, stored as jpeg90-256-rgb" in (out := run(text, workspace).stdout)
    assert "400 images in exposure" in out
    assert "data set" in out
