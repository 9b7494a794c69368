"""Placement, and what is found out about this machine for it."""

from __future__ import annotations

import pytest

from fcdd_dist.cluster import placement as module
from fcdd_dist.cluster.placement import Placement, cores, local_gpus
from fcdd_dist.errors import BadInput


@pytest.mark.parametrize(("text", "workers", "shown"), [
    ("1", 1, "1 worker"), ("4", 4, "4 workers"), ("2-4", (2, 4), "2-4 workers"), ("3-3", 3, "3 workers")])
def test_workers_are_a_number_or_a_range(text, workers, shown):
    placement = Placement.parse(text, gpus=0)
    assert placement.workers == workers
    assert str(placement) == shown


@pytest.mark.parametrize("text", ["", "0", "-1", "2-1", "0-2", "1.5", "1-", "two"])
def test_other_workers_are_refused(text):
    with pytest.raises(BadInput, match="workers"):
        Placement.parse(text, gpus=0)


def test_resources_of_a_worker():
    assert Placement().resources(2) == {"CPU": 2}
    assert Placement(gpus=1).resources(3) == {"CPU": 3, "GPU": 1}
    with pytest.raises(BadInput, match="threads"):
        Placement(cpus=0)


def test_gpus_are_counted_without_torch(monkeypatch, tmp_path):
    for name in ("nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm"):
        (tmp_path / name).touch()
    monkeypatch.setattr(module, "Path", lambda _folder: tmp_path)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(module.metadata, "version", lambda _name: "2.11.0")
    assert local_gpus() == 2
    assert Placement.parse("1").gpus == 1
    for value, count in {"": 0, "-1": 0, "1": 1, "0,1": 2, "0,1,2": 2}.items():
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", value)
        assert local_gpus() == count
    monkeypatch.setattr(module.metadata, "version", lambda _name: "2.11.0+cpu")
    assert local_gpus() == 0
    assert cores() >= 1
