"""The whole way in a bucket, as users go it: nothing of it lies on this machine, and no secret lies anywhere."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fcdd_dist.cli import main
from tests.support.proxy import Rule

pytestmark = [pytest.mark.s3, pytest.mark.ray]
WITHIN_S = 150


def command(*arguments: str, folder: Path, code: int = 0) -> subprocess.CompletedProcess:
    """``fcdd-dist`` in a process of its own, in a folder of its own."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    done = subprocess.run([sys.executable, "-m", "fcdd_dist.cli", *arguments], cwd=folder, env=environment,
                          capture_output=True, text=True, timeout=WITHIN_S, check=False)
    assert done.returncode == code, f"{done.stdout}\n{done.stderr}"
    return done


def test_the_whole_way_in_a_bucket(bucket, tmp_path, monkeypatch, capsys):
    said = []
    monkeypatch.chdir(tmp_path)

    def run(verb: str, *arguments: str) -> str:
        if verb == "train":
            done = command(verb, *arguments, folder=tmp_path)
            out, err = done.stdout, done.stderr
        else:
            assert main([verb, *arguments]) == 0
            out, err = capsys.readouterr()
        said.append(out + err)
        return out

    url = bucket.url
    run("shard", "digits", "--out", f"{url}/data/digits")
    training = ("train", "digits", "--data", f"{url}/data/digits", "--nominal", "0", "--storage", f"{url}/runs",
                "--name", "zero", "--workers", "2", "--checkpoint-every", "1", "--cache", "cache", "--json")
    result = json.loads(run(*training, "--epochs", "20"))
    assert result["auroc"] > 0.9
    assert result["run"] == f"{url}/runs/zero"
    assert result["storage"]["requests"] > 10
    keys = [key.removeprefix("runs/zero/") for key in bucket.list("runs/zero/")]
    assert not [key for key in keys if key.startswith((".ray", "board", "stop"))]
    assert list((tmp_path / "cache").glob("??/*"))
    run(*training, "--epochs", "20")
    assert "is finished: 20 epochs" in said[-1]

    evaluated = json.loads(run("evaluate", f"{url}/runs/zero/best", "--data", f"{url}/data/digits", "--json"))
    assert evaluated["checkpoint"].startswith(f"{url}/runs/zero/checkpoints/epoch-")
    run("report", f"{url}/runs/zero")
    assert "AUROC" in bucket.get("runs/zero/report.html").decode()

    listed = run("ls", f"{url}")
    assert "runs/zero" in listed
    assert "data/digits" in listed
    assert f"{result['auroc']:.4f}" in listed

    run("pull", f"{url}/runs/zero", "zero")
    run("pull", f"{url}/data/digits", "digits")
    again = json.loads(run("evaluate", "zero/best", "--data", "digits", "--json"))
    assert again["auroc"] == evaluated["auroc"]

    from fcdd_dist.data.manifest import load_manifest
    from fcdd_dist.data.shards.read import read_shard
    from fcdd_dist.storage import open_store

    data = open_store(f"{url}/data/digits")
    for sample in read_shard(data, load_manifest(data).part("test", "3").shards[0])[:3]:
        bucket.put(f"photos/{sample.key}.png", bytes(sample.image))
    run("explain", f"{url}/runs/zero", f"{url}/photos", "--out", f"{url}/explained")
    rows = list(csv.DictReader(bucket.get("explained/scores.csv").decode().splitlines()))
    assert len(rows) == 3
    assert all(f"explained/{row['picture']}" in bucket.list() for row in rows)
    assert "nothing to remove" in run("clean", url)

    secret = bucket.server.secret_key
    assert not [text for text in said if secret in text]
    assert not [key for key in bucket.list() if secret.encode() in bucket.get(key)]
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and secret.encode() in path.read_bytes()]


def test_an_outage_while_ray_trains(bucket, faulty, tmp_path, monkeypatch):
    """The store is away for seconds while two workers train: nobody is lost, and all of it is counted."""
    monkeypatch.setenv("FCDD_S3_TIMEOUT_S", "2")
    assert main(["shard", "digits", "--out", f"{bucket.url}/digits"]) == 0
    arguments = ["train", "digits", "--data", f"{bucket.url}/digits", "--nominal", "0", "--storage",
                 f"{bucket.url}/runs", "--name", "run", "--workers", "2", "--epochs", "80", "--checkpoint-every", "1"]
    log = tmp_path / "log"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}

    def checkpoints() -> list[str]:
        return [key for key in bucket.list("runs/run/checkpoints/") if key.endswith("checkpoint.json")]

    def wait(done) -> None:
        deadline = time.monotonic() + WITHIN_S
        while not done():
            assert time.monotonic() < deadline, log.read_text()
            assert driver.poll() is None, log.read_text()
            time.sleep(0.1)

    with open(log, "wb") as stderr, subprocess.Popen([sys.executable, "-m", "fcdd_dist.cli", *arguments], cwd=tmp_path,
                                                     env=environment, stderr=stderr) as driver:
        try:
            wait(checkpoints)
            rule = faulty.add(Rule(method=None, path="", times=None, status=503, code="SlowDown"))
            wait(lambda: rule.hits > 12)
            rule.times = 0
            assert driver.wait(WITHIN_S) == 0, log.read_text()
        finally:
            driver.kill()
    assert "a worker was lost" not in log.read_text()
    lines = [json.loads(line) for line in bucket.get("runs/run/metrics.jsonl").decode().splitlines()]
    assert [line["epoch"] for line in lines] == list(range(1, 81))
    assert sum(line["storage_retries"] for line in lines) > 0


class TestBadInput:
    """One line, exit code 2, at once: before Ray, and before anything is written."""

    @pytest.fixture
    def refused(self, bucket, capsys):
        data = f"{bucket.url}/data"

        def refused(message: str, *arguments: str) -> None:
            usual = ("train", "digits", "--data", data, "--nominal", "0", "--storage", f"{bucket.url}/runs")
            assert main(arguments or usual) == 2
            text = capsys.readouterr().err.strip().splitlines()[-1]
            assert message in text
            assert text.startswith("fcdd-dist: error: ")
            assert bucket.server.secret_key not in text

        return refused

    def test_of_every_verb(self, refused, bucket, tmp_path):
        nowhere = "s3://no-such-bucket/x"
        there = "there is no bucket 'no-such-bucket'"
        refused("s3://", "evaluate", bucket.url + "/x", "--data", bucket.url)
        refused("is no data set")
        for arguments in (("shard", "digits", "--out", nowhere), ("evaluate", nowhere, "--data", bucket.url),
                          ("explain", nowhere, "x.png", "--out", str(tmp_path / "out")), ("report", nowhere),
                          ("pull", nowhere, str(tmp_path / "out")), ("ls", nowhere), ("clean", nowhere),
                          ("train", "digits", "--data", nowhere, "--nominal", "0", "--storage", "runs")):
            refused(there, *arguments)
        refused("two slashes", "ls", "s3:/bucket/x")
        refused("no storage of this kind", "ls", "gs://bucket/x")

    def test_storage_that_may_only_be_read(self, refused, bucket, monkeypatch):
        assert main(["shard", "digits", "--out", f"{bucket.url}/data"]) == 0
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", bucket.server.reader_key)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", bucket.server.reader_secret)
        before = bucket.list()
        with contextlib.chdir("/"):
            refused(f"{bucket.url}/runs/digits-0-s0-")
        refused("may not write there")
        assert bucket.list() == before
