"""Two writers of one data set: one wins, the other is told, and their shards never mix."""

from __future__ import annotations

import functools
import io
import json
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict

import pytest

from fcdd_dist.data.manifest import MANIFEST, load_manifest
from fcdd_dist.data.shards import claim as claims
from fcdd_dist.data.shards.uploads import AT_ONCE, Uploads
from fcdd_dist.data.shards.write import shard
from fcdd_dist.errors import BadInput, Conflict, Fault
from fcdd_dist.experiment import Form
from fcdd_dist.storage import FolderStore, MemoryStore, open_store
from fcdd_dist.storage.lease import LEASE, Lease, Owner

FORM = Form.parse("png-16-rgb")


@pytest.fixture(params=["memory", "folder", pytest.param("s3", marks=pytest.mark.s3)])
def store(request, tmp_path):
    if request.param == "s3":
        return open_store(f"{request.getfixturevalue('bucket').url}/data")
    return FolderStore(tmp_path / "data") if request.param == "folder" else MemoryStore()


@pytest.fixture(scope="module")
def sources(tmp_path_factory, fill_folder):
    """Two sets of the same names and sizes, with other images; and exposure for both. Nobody changes them."""
    root = tmp_path_factory.mktemp("sources")
    for number, name in enumerate(("a", "b")):
        fill_folder(root / name / "train/good", 30, 100 * number)
        fill_folder(root / name / "test/crack", 5, 1000 + 100 * number)
    fill_folder(root / "outliers", 20, 5000)
    return root


@pytest.fixture
def fast(monkeypatch):
    quick = functools.partial(Lease.acquire, every=0.05, good_for=0.6, settle=0.05, poll=0.02)
    monkeypatch.setattr(claims.Lease, "acquire", quick)


def write(sources, name, store, progress=None):
    return shard("folder", str(sources / name), store, exposure=str(sources / "outliers"), form=FORM,
                 progress=progress)


def contents(store):
    return {entry.key: store.read(entry.key) for entry in store.list()}


def planted(store, owner: Owner | None, attempt: int = 7) -> None:
    store.write(LEASE, json.dumps({"schema_version": 1, "owner": owner and asdict(owner), "attempt": attempt,
                                   "token": "other", "since": 0.0, "renewed": 0.0}).encode())


@pytest.mark.slow
@pytest.mark.parametrize("names", [("a", "b"), ("a", "a")])
def test_two_at_once(sources, store, fast, names):
    wholes = {}
    for name in set(names):
        wholes[name] = MemoryStore()
        write(sources, name, wholes[name])
    barrier = threading.Barrier(2)

    def attempt(name):
        barrier.wait()
        try:
            return write(sources, name, store, progress=lambda line: time.sleep(0.3))
        except Conflict as error:
            return error

    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(attempt, names))
    refused = [result for result in results if isinstance(result, Conflict)]
    assert len(refused) == 1
    assert re.search("is in use by process .* choose another place|is a data set already", str(refused[0]))
    winner = names[0] if isinstance(results[1], Conflict) else names[1]
    assert contents(store) == contents(wholes[winner])  # and nothing else: no lease


def test_one_that_waited_is_told_that_the_data_set_is_there(sources, store, monkeypatch):
    monkeypatch.setattr(claims.Lease, "acquire", functools.partial(Lease.acquire, every=60, settle=0.05, poll=0.02))
    begun, waits = threading.Event(), threading.Event()

    def slowly(line):
        begun.set()
        assert waits.wait(10)

    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(write, sources, "a", store, slowly)
        assert begun.wait(10)
        with pytest.raises(Conflict, match="is a data set already"):
            write(sources, "b", store, lambda line: waits.set())
        assert first.result() == load_manifest(store)
    assert LEASE not in contents(store)


@pytest.mark.slow
def test_a_killed_one_is_taken_over_at_once(sources, tmp_path, fast):
    whole, store, code = MemoryStore(), FolderStore(tmp_path / "data"), f"""
import time
from fcdd_dist.data.shards.write import shard
from fcdd_dist.experiment import Form
from fcdd_dist.storage import FolderStore
def say(line):
    if " images" in line:
        print("there", flush=True)
        time.sleep(100)
shard("folder", {str(sources / "a")!r}, FolderStore({str(tmp_path / "data")!r}), exposure={str(sources / "outliers")!r},
      form=Form.parse("png-16-rgb"), progress=say)"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        deadline = time.monotonic() + 10
        while not any(entry.key.startswith("train/") for entry in store.list()):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    assert LEASE in contents(store)
    store.write("train/good/mine.txt", b"somebody's")
    with pytest.raises(Conflict, match="the beginning of another sharding"):
        write(sources, "b", store)
    write(sources, "a", store)
    write(sources, "a", whole)
    assert contents(store) == contents(whole) | {"train/good/mine.txt": b"somebody's"}


def test_shards_of_a_beginning_without_a_plan_are_cleared_away(sources, store):
    """As an earlier version left them."""
    write(sources, "a", whole := MemoryStore())
    for key in ("train/good/000000.tar", "exposure/train/exposure/000000.tar"):
        store.write(key, whole.read(key))
        store.write(key.replace("000000", "000007"), whole.read(key))
    write(sources, "b", store)
    write(sources, "b", other := MemoryStore())
    assert contents(store) == contents(other)


class Meddled(MemoryStore):
    """Calls ``meddle`` right before the manifest is created."""

    meddle = staticmethod(lambda: None)

    def create(self, key, data):
        if key == MANIFEST:
            self.meddle()
        return super().create(key, data)


def test_a_writer_that_was_held_up_does_no_harm(sources):
    """Another took over, and is at work."""
    store = Meddled()

    def taken_over(line):
        planted(store, Owner("far-away", "b", 7, "1"))

    with pytest.raises(Conflict, match="another process has written to memory: meanwhile"):
        shard("folder", str(sources / "a"), store, exposure=str(sources / "outliers"), form=FORM,
              progress=lambda line: taken_over(line) if line.endswith(" images") else None)
    assert MANIFEST not in contents(store)
    assert json.loads(store.read(LEASE))["token"] == "other"


@pytest.mark.parametrize("cleared", [True, False])
def test_a_manifest_that_was_on_its_way_for_long(sources, cleared):
    """It stands only where all that it names does."""
    store = Meddled()

    def meddle():
        planted(store, Owner("far-away", "b", 7, "1"))
        if cleared:
            store.delete("train/good/000000.tar")
            store.create("train/good/000000.tar", b"of the other")

    store.meddle = meddle
    if cleared:
        with pytest.raises(Conflict, match="meanwhile"):
            write(sources, "a", store)
        assert MANIFEST not in contents(store)
        assert store.read("train/good/000000.tar") == b"of the other"
    else:
        assert write(sources, "a", store) == load_manifest(store)


def tar(name: str, **header: object) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as out:
        member = tarfile.TarInfo(name)
        member.mode = 0o444
        for key, value in header.items():
            setattr(member, key, value)
        out.addfile(member)
    return file.getvalue()


@pytest.mark.parametrize("data", [b"", b"\0" * 1024, b"no tar" * 200, tar("cat.jpg"), tar("other-00000000.jpg"),
                                  tar("good-00000000.txt"), tar("good-00000000.jpg", mtime=1700000000),
                                  tar("good-00000000.jpg", mode=0o644), tar("good-00000000.jpg", uname="ann")])
def test_tars_of_others_are_never_cleared_away(sources, store, data):
    ours = tar("good-00000000.png")
    store.write("train/good/000000.tar", ours)
    store.write("train/good/000001.tar", data)
    before = contents(store)
    with pytest.raises(Conflict, match=r"holds other files, such as train/good/000001\.tar, .* choose another place"):
        write(sources, "a", store)
    assert contents(store) == before
    store.delete("train/good/000001.tar")
    write(sources, "a", store)
    assert store.read("train/good/000000.tar") != ours


def test_our_shards_are_known_by_their_headers(tmp_path, sources, fill_folder):
    store, long = MemoryStore(), "x" * 80
    mine = shutil.copytree(sources, tmp_path / "mine")
    fill_folder(mine / f"a/test/{long}", 2, 7)
    write(mine, "a", store)
    keys = [key for key in contents(store) if key.endswith(".tar")]
    assert any(long in key for key in keys)
    assert all(claims.SHARD.fullmatch(key.removeprefix("exposure/")) and claims.is_shard(store, key) for key in keys)
    assert claims.is_shard(store, "train/good/000099.tar") is None


def test_nothing_is_ever_written_over(store):
    store.write("train/x/000000.tar", b"of the other")
    with pytest.raises(Conflict, match=r"another process has written .*train/x/000000\.tar meanwhile, with other"):
        with Uploads(store) as uploads:
            uploads.put("train/x/000000.tar", b"ours")
    assert store.read("train/x/000000.tar") == b"of the other"
    with Uploads(store) as uploads:
        uploads.put("train/x/000000.tar", b"of the other")  # the same again, by one that was killed before


class Slow(MemoryStore):
    """Counts how many shards are created at once; fails for some, the later the sooner."""

    def __init__(self, failing=()):
        super().__init__()
        self.failing, self.now, self.most, self.counting = failing, 0, 0, threading.Lock()

    def create(self, key, data):
        if key == LEASE:
            return super().create(key, data)
        with self.counting:
            self.now += 1
            self.most = max(self.most, self.now)
        number = int(key[-6:-4])
        time.sleep(0.01 + (0.02 if number in self.failing[:1] else 0))
        with self.counting:
            self.now -= 1
        if number in self.failing:
            raise Fault(f"shard {number} broke")
        return super().create(key, data)


def put(uploads, count):
    for number in range(count):
        uploads.put(f"train/x/{number:06}.tar", b"%d" % number)


def test_a_few_are_on_their_way_at_once():
    store = Slow()
    with Uploads(store) as uploads:
        put(uploads, 20)
    assert store.most == AT_ONCE
    assert len(contents(store)) == 20


def test_errors_come_in_order_and_nothing_after_them():
    store = Slow(failing=(5, 6))
    with pytest.raises(Fault, match="shard 5 broke"), Uploads(store) as uploads:
        put(uploads, 20)
    assert max(contents(store)) <= "train/x/000009.tar"
    before = contents(store)
    time.sleep(0.1)
    assert contents(store) == before
    assert store.now == 0


def test_a_storage_that_fails_leaves_no_data_set(sources, monkeypatch):
    store = MemoryStore()
    honest = MemoryStore.create

    def create(self, key, data):
        if key.endswith(".tar") and "test/" in self._prefix + key:
            raise Fault("no answer for two minutes")
        return honest(self, key, data)

    monkeypatch.setattr(MemoryStore, "create", create)
    with pytest.raises(Fault, match="no answer"):
        write(sources, "a", store)
    assert MANIFEST not in contents(store)
    assert LEASE not in contents(store)


def test_refusals_come_before_anything_is_written(sources):
    for source, exposure in (("a", "s3://bucket/outliers"), ("s3://bucket/raw", "outliers"), ("none", "outliers")):
        store = MemoryStore()
        with pytest.raises(BadInput) as caught:
            shard("folder", source if "://" in source else str(sources / source), store, form=FORM,
                  exposure=exposure if "://" in exposure else str(sources / exposure))
        assert ("copy them into a folder here first" in str(caught.value)) == ("none" not in source)
        assert contents(store) == {}


@pytest.mark.s3
def test_a_bucket_holds_what_a_folder_does(sources, bucket, tmp_path):
    store, folder = open_store(f"{bucket.url}/data sets/ü"), FolderStore(tmp_path / "data")
    for place in (store, folder):
        write(sources, "a", place)
    assert contents(store) == contents(folder)
    assert bucket.uploads() == []
    secret = bucket.server.secret_key.encode()
    assert not any(secret in bucket.get(key) for key in bucket.list())
