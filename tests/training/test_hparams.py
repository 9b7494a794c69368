"""What TensorBoard shows of a sweep: asked over its own HTTP interface."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from contextlib import contextmanager
from urllib.request import Request, urlopen

import pytest

from fcdd_dist.storage import FolderStore
from fcdd_dist.training.curves import write_tensorboard
from fcdd_dist.training.hparams import HPARAMS, write_hparams

WRITE = """
import sys
from fcdd_dist.storage import FolderStore
from fcdd_dist.training.hparams import write_hparams
parameters = {"class": "Bag", "seed": 0, "optimizer.lr": 0.1, "optimizer.nesterov": True, "network.width": None}
write_hparams(FolderStore(sys.argv[1]), parameters, {"auroc": 0.75}, 3)
"""


def a_trial(sweep: FolderStore, class_name: str, seed: int, lr: float, auroc: float | None) -> None:
    trial = sweep.at(f"trials/{class_name.lower()}-s{seed}-{round(lr * 1000):08x}")
    write_tensorboard(trial, [{"epoch": epoch, "seconds": 2.0, "loss": 1 / epoch, "holdout_loss": 2 * lr / epoch,
                               "holdout_auroc": None if epoch == 1 else 1 - lr, "lr": lr} for epoch in (1, 2, 3)], 1e9)
    write_hparams(trial, {"class": class_name, "seed": seed, "optimizer.lr": lr},
                  {"auroc": auroc, "average_precision": auroc}, 3)


@contextmanager
def tensorboard(folder):
    """Asks a TensorBoard of ``folder``: a path, and for some what is to be sent."""
    served = subprocess.Popen([sys.executable, "-m", "tensorboard.main", "--logdir", folder, "--host", "127.0.0.1",
                               "--port", "0"], stderr=subprocess.PIPE, text=True)

    def ask(path: str, body: dict | None = None):
        data = None if body is None else json.dumps(body).encode()
        with urlopen(Request(address + path, data, {"Content-Type": "application/json"}), timeout=30) as answer:
            return json.load(answer)

    try:
        address = next(line.split(" at ")[1].split()[0] for line in served.stderr if " at http://" in line)
        yield ask
    finally:
        served.terminate()
        served.communicate(timeout=30)


@pytest.mark.slow
def test_tensorboard_shows_curves_figures_and_what_differs(tmp_path):
    sweep = FolderStore(tmp_path)
    a_trial(sweep, "Bag", 0, 0.125, None)
    a_trial(sweep, "Bag", 0, 0.25, 0.75)
    a_trial(sweep, "Shirt", 1, 0.25, 0.5)
    names = ["bag-s0-0000007d", "bag-s0-000000fa", "shirt-s1-000000fa"]
    with tensorboard(f"{sweep.root}/trials") as ask:
        until = time.monotonic() + 60
        while sorted(tags := ask("data/plugin/scalars/tags")) != [f"{name}/tensorboard" for name in names]:
            assert time.monotonic() < until
            time.sleep(0.2)
        curves = {"loss/all", "loss/holdout", "auroc/holdout", "learning_rate"}
        assert set(tags[f"{names[0]}/tensorboard"]) == curves
        assert set(tags[f"{names[1]}/tensorboard"]) == curves | {"auroc/test", "average_precision/test"}
        run = f"run={names[1]}/tensorboard"
        assert [point[1:] for point in ask(f"data/plugin/scalars/scalars?tag=auroc/holdout&{run}")] == [
            [2, 0.75], [3, 0.75]]
        experiment = ask("data/plugin/hparams/experiment", {})
        assert {info["name"]: info["type"] for info in experiment["hparamInfos"]} == {
            "class": "DATA_TYPE_STRING", "seed": "DATA_TYPE_FLOAT64", "optimizer.lr": "DATA_TYPE_FLOAT64"}
        assert [info["displayName"] for info in experiment["metricInfos"]] == [
            "AUROC", "average precision", "hold-out AUROC", "hold-out loss"]
        groups = ask("data/plugin/hparams/session_groups", {
            "colParams": [], "startIndex": 0, "sliceSize": 10, "allowedStatuses": ["STATUS_SUCCESS"]})["sessionGroups"]
    rows = {group["name"]: (group["hparams"], {metric["name"]["tag"]: metric["value"]
                                               for metric in group["metricValues"]}) for group in groups}
    assert sorted(rows) == names
    assert rows[names[0]][1] == {"auroc/holdout": 0.875, "loss/holdout": pytest.approx(1 / 12)}
    assert rows[names[2]] == ({"class": "Shirt", "seed": 1, "optimizer.lr": 0.25}, {
        "auroc/test": 0.5, "average_precision/test": 0.5, "auroc/holdout": 0.75, "loss/holdout": pytest.approx(1 / 6)})


@pytest.mark.slow
def test_equal_trials_are_equal_bytes_in_other_processes(tmp_path):
    for hashes in "12":
        subprocess.run([sys.executable, "-c", WRITE, str(tmp_path / hashes / "bag-s0")], check=True,
                       env={"PYTHONHASHSEED": hashes})
    one, other = (FolderStore(tmp_path / hashes / "bag-s0").read(HPARAMS) for hashes in "12")
    assert one == other
