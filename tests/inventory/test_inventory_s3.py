"""pull, ls and clean against a real S3 server, undisturbed and behind a proxy that breaks what it should."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from fcdd_dist import Detector
from fcdd_dist.errors import Damaged
from fcdd_dist.inventory.clean import LEFTOVERS, clean
from fcdd_dist.inventory.fetch import Fetcher
from fcdd_dist.inventory.listing import look
from fcdd_dist.inventory.pull import pull
from fcdd_dist.storage import open_store
from fcdd_dist.storage.lease import Lease
from tests.inventory.places import a_run, a_sweep, an_unfinished_sharding, copy, files
from tests.support.proxy import Rule

pytestmark = pytest.mark.s3


@pytest.fixture
def run(bucket):
    return a_run(open_store(f"{bucket.url}/run ä"))


def test_a_run_goes_there_and_back(run, bucket, tmp_path):
    pull(run.url, str(tmp_path / "copy"))
    assert Detector.load(str(tmp_path / "copy")).record.cursor.epoch == 2
    there = {entry.key for entry in run.list() if not entry.key.startswith((".ray", "lease", "board"))}
    assert set(files(tmp_path / "copy")) == there
    assert pull(run.url, str(tmp_path / "copy"))["fetched"] == 0
    pull(f"{run.url}/best", str(tmp_path / "best"))
    assert Detector.load(str(tmp_path / "best")).record.cursor.epoch == 2
    assert look(bucket.url).places[0].auroc == 0.9876
    assert look(run.url).last == "epoch-000002"


def test_a_sweep_goes_there_and_back_and_is_tidied_up(bucket, tmp_path):
    sweep = a_sweep(open_store(f"{bucket.url}/all"), done=3)
    killed = sweep.at("trials/0-s1/checkpoints/epoch-000001")
    killed.delete("checkpoint.json")
    upload(bucket, "all/trials/0-s1/checkpoints/epoch-000001/optimizer.safetensors")
    (place,) = look(bucket.url).as_json()["places"]
    assert (place["cells_done"], place["cells"], place["recipe"]) == (3, 4, "digits")
    assert [one.place.base for one in look(sweep.url).places] == ["0-s0", "0-s1", "1-s0"]
    assert pull(sweep.url, str(tmp_path / "copy"))["kind"] == "sweep"
    assert look(str(tmp_path / "copy")).sweep.cells_done == 3
    assert pull(sweep.url, str(tmp_path / "copy"))["fetched"] == 0
    with Lease.acquire(sweep, say=print):
        assert clean(sweep.url, older_than_s=0.0, remove=True).loose == []
    clean(f"{sweep.url}/trials", older_than_s=0.0, remove=True)
    assert list(killed.list()) == []
    assert bucket.uploads() == []
    assert look(sweep.url).sweep.cells_done == 3


@pytest.mark.parametrize("rule", [
    Rule("GET", r"epoch-000002/detector", reset_at=5000), Rule("GET", r"epoch-000002/detector", status=503),
    Rule("GET", r"epoch-000002/detector", flip_at=100)])
def test_what_breaks_on_the_way_is_made_good(run, faulty, tmp_path, rule):
    faulty.add(rule)
    pull(run.url, str(tmp_path / "copy"))
    assert rule.hits == 1
    assert Detector.load(str(tmp_path / "copy")).record.cursor.epoch == 2


def test_bytes_that_are_wrong_for_good_are_named(run, bucket, tmp_path):
    key = "checkpoints/epoch-000002/detector.safetensors"
    bucket.put(f"run ä/{key}", b"x" * run.size(key))
    with pytest.raises(Damaged, match=r"epoch-000002/detector\.safetensors does not verify"):
        pull(run.url, str(tmp_path / "copy"))
    assert Detector.load(str(tmp_path / "copy")).record.cursor.epoch == 1


def test_a_large_file_goes_on_where_it_was_killed(run, bucket, faulty, tmp_path):
    import hashlib
    import json

    data = np.random.default_rng(0).bytes(60 << 20)
    at = run.at("checkpoints/epoch-000002")
    record = json.loads(at.read("checkpoint.json"))
    record["files"]["detector.safetensors"] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    at.write("detector.safetensors", data)
    at.write("checkpoint.json", json.dumps(record).encode())
    goes_on = threading.Event()

    def hold(request):
        if int(re.search(r"bytes=(\d+)-", request.range)[1]) >= 32 << 20:
            goes_on.wait(60)

    faulty.add(Rule("GET", r"epoch-000002/detector", times=None, call=hold))
    into = tmp_path / "copy"
    process = subprocess.Popen([sys.executable, "-m", "fcdd_dist.cli", "pull", at.url, str(into)], env=os.environ,
                               stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 30
    while sum(path.stat().st_size for path in into.glob(".part-*")) < 16 << 20 and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    goes_on.set()
    assert not (into / "detector.safetensors").exists()
    faulty.clear()
    assert pull(at.url, str(into))["already"] >= 8 << 20
    assert (into / "detector.safetensors").read_bytes() == data


def upload(bucket, key: str) -> None:
    """Begins one, and never ends it."""
    started = bucket.client.create_multipart_upload(Bucket=bucket.name, Key=key)
    bucket.client.upload_part(Bucket=bucket.name, Key=key, PartNumber=1, Body=b"x" * 1000, UploadId=started["UploadId"])


def uploads_of(result) -> set[tuple[str, int]]:
    return {(orphan.name, orphan.bytes) for orphan in result.loose if orphan.group == LEFTOVERS}


def test_abandoned_uploads_go_and_those_of_others_stay(run, bucket, tiny_data):
    copy(tiny_data, open_store(f"{bucket.url}/data"))
    bucket.put("half/train/1/000000.tar", tiny_data.read("train/1/000000.tar"))
    an_unfinished_sharding(open_store(f"{bucket.url}/begun"), tiny_data.read("train/1/000000.tar"))
    ours = {"begun/unfinished/spill/000003.bin", "begun/exposure/train/exposure/000000.tar",
            "run ä/checkpoints/epoch-000009/detector.safetensors", "data/train/1/000007.tar", "half/train/2/000000.tar",
            "half/manifest.json", "half/exposure/train/exposure/000000.tar"}
    bucket.put("site/manifest.json", b'{"name": "My web app", "icons": []}')
    bucket.put("lab/experiment.json", b'{"mine": 1}')
    theirs = {"film.mp4", "run ä/film.mp4", "data/film.mp4", "backup/manifest.json", "site/manifest.json",
              "site/train/1/000000.tar", "site/checkpoints/epoch-000009/detector.safetensors",
              "site/unfinished/spill/000003.bin", "begun/unfinished/notes.txt",
              "imagenet/train/wds-a/000000.tar", "lab/checkpoints/epoch-000009/detector.safetensors",
              "data/other/train/1/000000.tar", "checkpoints/epoch-000009/detector.safetensors"}
    for key in ours | theirs:
        upload(bucket, key)
    assert not uploads_of(clean(bucket.url, remove=True))
    assert uploads_of(clean(bucket.url, older_than_s=0.0, remove=True)) == {(key, 1000) for key in ours}
    assert {key for key, _ in bucket.uploads()} == theirs


@pytest.mark.parametrize("below", ["checkpoints", "checkpoints/epoch-000002"])
def test_a_part_of_a_run_is_cleaned_unless_its_driver_is_at_work(run, bucket, below):
    run.delete("checkpoints/epoch-000002/checkpoint.json")
    upload(bucket, "run ä/checkpoints/epoch-000002/detector.safetensors")
    with Lease.acquire(run, say=print):
        result = clean(f"{run.url}/{below}", older_than_s=0.0, remove=True)
        assert result.loose == []
        assert result.kept
        assert all("in use: held by process" in orphan.kept for orphan in result.kept)
    clean(f"{run.url}/{below}", older_than_s=0.0, remove=True)
    assert bucket.uploads() == []
    assert bool(list(run.list("checkpoints/epoch-000002/"))) == (below != "checkpoints")  # itself it is no checkpoint


def test_a_data_set_and_what_it_does_not_name(bucket, tiny_data, tmp_path):
    store = copy(tiny_data, open_store(f"{bucket.url}/data"))
    pull(store.url, str(tmp_path / "copy"))
    assert files(tmp_path / "copy") == files(tiny_data.root)
    store.write("train/1/000005.tar", tiny_data.read("train/1/000000.tar"))
    store.write("train/1/000006.tar", b"of a person")
    clean(store.url, older_than_s=0.0, remove=True)
    assert {entry.key for entry in store.list()} == {*files(tiny_data.root), "train/1/000006.tar"}


def test_an_abandoned_sharding_goes_with_its_lease(bucket, tiny_data):
    store = copy(tiny_data, open_store(f"{bucket.url}/half"))
    store.delete("manifest.json")
    lease = Lease.acquire(store, say=print)
    assert clean(bucket.url, older_than_s=0.0, remove=True).loose == []
    lease.release()
    clean(bucket.url, older_than_s=0.0, remove=True)
    assert {entry.key for entry in store.list()} == {key for key in files(tiny_data.root) if key.startswith("exposure")}


def test_an_unfinished_sharding_goes_as_a_whole(bucket, tiny_data):
    store = an_unfinished_sharding(open_store(f"{bucket.url}/begun"), tiny_data.read("train/1/000000.tar"))
    store.write("unfinished/notes.txt", b"of a person")
    (place,) = look(bucket.url).as_json()["places"]
    assert (place["kind"], place["tasks_done"]) == ("unfinished sharding", 3)
    with Lease.acquire(store, say=print):
        assert clean(bucket.url, older_than_s=0.0, remove=True).loose == []
    clean(bucket.url, older_than_s=0.0, remove=True)
    assert {entry.key for entry in store.list()} == {"unfinished/notes.txt"}


@pytest.mark.parametrize("verb", ["ls", "pull", "clean"])
def test_an_interrupt_ends_it_at_once_though_the_store_stalls(run, faulty, tmp_path, verb):
    stalled = faulty.add(Rule("GET", r"safetensors" if verb == "pull" else r"/run.*\.json", times=None, stall=60))
    arguments = [run.url, *([str(tmp_path / "copy")] if verb == "pull" else [])]
    with subprocess.Popen([sys.executable, "-m", "fcdd_dist.cli", verb, *arguments], env=os.environ,
                          stderr=subprocess.PIPE, text=True) as process:
        try:
            deadline = time.monotonic() + 30
            while not stalled.hits and time.monotonic() < deadline:
                time.sleep(0.02)
            began = time.monotonic()
            assert process.poll() is None
            process.send_signal(signal.SIGINT)
            _, told = process.communicate(timeout=30)
        finally:
            process.kill()
    assert process.returncode == 130
    assert time.monotonic() - began < 5
    assert "Traceback" not in told


def test_what_was_replaced_by_a_longer_one_arrives_whole(run, tmp_path, monkeypatch):
    start = Fetcher.start

    def replaced(self):
        run.write("scores.csv", b"N" * 5000)
        run.write("empty.txt", b"no more")
        start(self)

    monkeypatch.setattr(Fetcher, "start", replaced)
    pull(run.url, str(tmp_path / "copy"))
    assert (tmp_path / "copy/scores.csv").read_bytes() == b"N" * 5000
    assert (tmp_path / "copy/empty.txt").read_bytes() == b"no more"
