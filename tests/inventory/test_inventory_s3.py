"""pull, ls and clean against a real S3 server, undisturbed and behind a proxy that breaks what it should."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from fcdd_dist import Detector
from fcdd_dist.errors import Damaged
from fcdd_dist.inventory.clean import LEFTOVERS, clean
from fcdd_dist.inventory.listing import look
from fcdd_dist.inventory.pull import pull
from fcdd_dist.storage import open_store
from tests.inventory.places import a_run, copy, files
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
    faulty.add(Rule("GET", r"epoch-000002/detector", times=None, delay=0.3))
    into = tmp_path / "copy"
    process = subprocess.Popen([sys.executable, "-m", "fcdd_dist.cli", "pull", at.url, str(into)], env=os.environ,
                               stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 30
    while sum(map(len, files(into).values())) < 16 << 20 and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (into / "detector.safetensors").exists()
    faulty.clear()
    assert pull(at.url, str(into))["already"] >= 8 << 20
    assert (into / "detector.safetensors").read_bytes() == data


def test_abandoned_uploads_go_and_those_of_others_stay(run, bucket, tmp_path):
    for key in ("run ä/checkpoints/epoch-000009/detector.safetensors", "data/train/1/000000.tar", "film.mp4"):
        bucket.client.upload_part(Bucket=bucket.name, Key=key, PartNumber=1, Body=b"x" * 1000, UploadId=(
            bucket.client.create_multipart_upload(Bucket=bucket.name, Key=key)["UploadId"]))
    assert not [orphan for orphan in clean(bucket.url, remove=True).loose if orphan.group == LEFTOVERS]
    result = clean(bucket.url, older_than_s=0.0, remove=True)
    assert {(orphan.name, orphan.bytes) for orphan in result.loose if orphan.group == LEFTOVERS} == {
        ("run ä/checkpoints/epoch-000009/detector.safetensors", 1000), ("data/train/1/000000.tar", 1000)}
    assert [key for key, _ in bucket.uploads()] == ["film.mp4"]


def test_a_data_set_and_what_it_does_not_name(bucket, tiny_data, tmp_path):
    store = copy(tiny_data, open_store(f"{bucket.url}/data"))
    pull(store.url, str(tmp_path / "copy"))
    assert files(tmp_path / "copy") == files(tiny_data.root)
    store.write("train/1/000005.tar", b"x")
    clean(store.url, older_than_s=0.0, remove=True)
    assert {entry.key for entry in store.list()} == set(files(tiny_data.root))
