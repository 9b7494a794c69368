"""The driver, as far as it goes without Ray: what it asks of storage, where Ray's own state goes, how a run ends."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from fcdd_dist.cluster import local, train
from fcdd_dist.cluster.placement import Placement
from fcdd_dist.cluster.signals import Signals
from fcdd_dist.errors import BadInput
from fcdd_dist.recipes import recipe
from fcdd_dist.run import Job
from fcdd_dist.storage import FolderStore, MemoryStore, open_store

FIXED, RANGE = Placement(2, 2), Placement(1, 8)


@pytest.fixture(scope="module")
def digits_data(tmp_path_factory):
    from fcdd_dist.data.shards.write import shard

    folder = tmp_path_factory.mktemp("digits")
    shard("digits", None, FolderStore(folder), classes=["0"])
    return str(folder)


@pytest.mark.parametrize(("nodes", "loopback", "placement", "url", "beside_the_run"), [
    (1, True, FIXED, "s3://bucket/run", False),
    (1, True, RANGE, "s3://bucket/run", False),  # nobody can join a Ray on loopback
    (1, False, FIXED, "s3://bucket/run", False),
    (1, False, RANGE, "s3://bucket/run", True),
    (2, False, FIXED, "s3://bucket/run", True),
    (1, False, RANGE, "/runs/run", False),
])
def test_rays_own_state_depends_on_the_bucket_only_where_nodes_share_it(monkeypatch, nodes, loopback, placement, url,
                                                                       beside_the_run):
    monkeypatch.setattr(local, "nodes", lambda: nodes)
    monkeypatch.setattr(local, "on_loopback", lambda: loopback)
    place = train._place_of_rays_state(open_store(url), Path("/own"), placement)
    assert place == ("s3://bucket/run/.ray" if beside_the_run else "/own")


@pytest.mark.s3
def test_ray_finds_the_place_beside_a_run_of_any_name(bucket, monkeypatch):
    import pyarrow.fs

    monkeypatch.setattr(local, "nodes", lambda: 2)
    place = train._place_of_rays_state(open_store(f"{bucket.url}/my runs/größe 100%+1"), Path("/own"), FIXED)
    filesystem, path = pyarrow.fs.FileSystem.from_uri(place)  # as Ray does
    with filesystem.open_output_stream(f"{path}/x") as file:
        file.write(b"1")
    assert bucket.list() == ["my runs/größe 100%+1/.ray/x"]


@pytest.mark.s3
def test_a_run_that_may_not_be_written_is_refused_before_anything_starts(bucket, monkeypatch, digits_data):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", bucket.server.reader_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", bucket.server.reader_secret)
    monkeypatch.setattr(local, "session", lambda *arguments: pytest.fail("Ray was started"))
    job = Job(experiment=recipe("digits").experiment("0", 0), data=digits_data, run=f"{bucket.url}/run")
    with pytest.raises(BadInput, match=f"{bucket.url}/run.* may not write there"):
        train.train(job, FIXED, None, pytest.fail)


def test_a_run_that_was_refused_leaves_nothing_that_is_in_the_way(digits_data, tmp_path):
    from fcdd_dist.run import check, prepare

    job = Job(experiment=recipe("digits").experiment("0", 0), data=digits_data, run=str(tmp_path / "run"))
    FolderStore(job.run).write(".probe-0123abcd", b"")  # of a driver that was killed while it looked
    check(prepare(job))


def test_own_folders_go_with_their_context():
    with local.own_folder() as folder:
        (folder / "x").mkdir()
    assert not folder.exists()


class Fitting(SimpleNamespace):
    """A training that is over after ``looks`` looks."""

    looks, joined, result, error = 0, 0, None, None

    def is_alive(self):
        return self.joined < self.looks

    def join(self, seconds):
        self.joined += 1


def wait(fitting, run, updates, prepared=None):
    view = SimpleNamespace(started=1.0, update=lambda: updates.append(fitting.joined), say=pytest.fail,
                           board=SimpleNamespace(failure=lambda: None))
    lease = SimpleNamespace(check=lambda: None, attempt=1)
    return train._wait(fitting, view, prepared, run, lease, Signals())


def test_the_driver_looks_as_often_as_the_store_wants():
    run, updates = MemoryStore(), []
    run.look_every = 3600.0
    assert wait(Fitting(looks=20, result={"auroc": 1.0}), run, updates) == {"auroc": 1.0}
    assert updates == [1, 20]


def test_a_run_that_is_done_is_done_whatever_ray_says_afterwards():
    done = SimpleNamespace(done=True, result={"auroc": 0.9})
    assert wait(Fitting(error=OSError("no room for Ray's own files")), MemoryStore(), [], done) == done.result
    with pytest.raises(OSError, match="no room"):
        wait(Fitting(error=OSError("no room for Ray's own files")), MemoryStore(), [], SimpleNamespace(done=False))
