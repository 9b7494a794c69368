"""Sessions of Ray, as far as they go without one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import pytest

from fcdd_dist.cluster import local
from fcdd_dist.cluster.placement import Placement
from fcdd_dist.errors import BadInput
from fcdd_dist.storage.lease import Owner


def test_variables_are_set_and_given_back(monkeypatch):
    monkeypatch.setenv("RAY_TRAIN_X", "the user's")
    monkeypatch.setenv("RAY_ADDRESS", "somewhere")
    monkeypatch.delenv("RAY_Y", raising=False)
    with local.environment({"RAY_TRAIN_X": "ours", "RAY_Y": "1"}, without=("RAY_ADDRESS",)):
        assert os.environ["RAY_TRAIN_X"] == "the user's"
        assert os.environ["RAY_Y"] == "1"
        assert "RAY_ADDRESS" not in os.environ
    assert os.environ["RAY_ADDRESS"] == "somewhere"
    assert "RAY_Y" not in os.environ


def test_an_address_where_nobody_listens_is_refused_soon():
    began = time.monotonic()
    with pytest.raises(BadInput, match=r"nobody answers at 127\.0\.0\.1:1 "), local.session(
            "127.0.0.1:1", Placement(), [].append):
        pass
    assert time.monotonic() - began < 5


def test_more_gpus_than_there_are_is_refused(monkeypatch):
    monkeypatch.setattr(local, "local_gpus", lambda: 1)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(BadInput, match="2 workers with 1 GPU each need 2, and this machine has 1"), local.session(
            None, Placement(2, 2, gpus=1), [].append):
        pass


def test_folders_of_killed_processes_are_removed(tmp_path):
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        dead = Owner.of(process.pid)
    living = Owner.of(os.getpid())
    for name, owner in (("dead", dead), ("living", living)):
        folder = tmp_path / f"fcdd-ray-{name}"
        folder.mkdir()
        (folder / "owner.json").write_text(json.dumps(asdict(owner)))
    (tmp_path / "fcdd-ray-unknown").mkdir()
    new = local._own_folder(str(tmp_path))
    assert {path.name for path in tmp_path.iterdir()} == {"fcdd-ray-living", "fcdd-ray-unknown", new.name}


def test_folders_are_short_enough_for_sockets(monkeypatch):
    monkeypatch.setattr(local.tempfile, "gettempdir", lambda: "/" + "x" * 60)
    assert local._short_folder() == "/tmp"
    monkeypatch.setattr(local.tempfile, "gettempdir", lambda: "/var/tmp")
    assert Path(local._short_folder()) == Path("/var/tmp")


@pytest.mark.ray
def test_who_has_imported_ray_before_gets_a_session_on_loopback_with_its_own_token_too():
    script = """
import ray
from ray._raylet import AuthenticationTokenLoader
AuthenticationTokenLoader.instance().has_token(ignore_auth_mode=True)
from fcdd_dist.cluster import local
from fcdd_dist.cluster.placement import Placement
for _ in range(2):
    with local.session(None, Placement(cpus=1), print):
        assert ray.get(ray.remote(lambda: 1).remote()) == 1
        assert local.on_loopback()
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
