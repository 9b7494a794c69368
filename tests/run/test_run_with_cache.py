"""A job whose data set is in object storage, with a cache on this machine."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from fcdd_dist.cli.options import add_cache, cache_of
from fcdd_dist.cli.options import size as read_size
from fcdd_dist.errors import BadInput
from fcdd_dist.run import Job, prepare, run_rank
from fcdd_dist.storage import CachedStore, FolderStore, counts, open_store
from fcdd_dist.world import World


@pytest.fixture
def in_bucket(bucket, digits_data):
    """The digits in a bucket."""
    source, url = FolderStore(digits_data), f"{bucket.url}/digits"
    for entry in source.list():
        open_store(url).write(entry.key, source.read(entry.key))
    return url


@pytest.mark.s3
def test_a_second_run_reads_no_shard_from_the_bucket_and_computes_the_same(in_bucket, digits_experiment, tmp_path):
    one_epoch = digits_experiment.override(["epochs=1"])

    def job(name, cache):
        return Job(experiment=one_epoch, data=in_bucket, run=str(tmp_path / name), cache=cache)

    shards = sum(entry.size for entry in open_store(in_bucket).list() if entry.key.endswith(".tar"))
    results, read = [], []
    for name, cache in (("plain", None), ("first", str(tmp_path / "cache")), ("second", str(tmp_path / "cache"))):
        before = counts()
        results.append(run_rank(job(name, cache), World()))
        read.append((counts() - before).bytes_read)
    assert len({result["auroc"] for result in results}) == 1
    assert read[0] > read[1] > read[2]
    assert read[2] < shards / 10  # manifests
    again = prepare(job("second", str(tmp_path / "cache")))
    assert isinstance(again.data_store, CachedStore)
    assert isinstance(again.exposure_store, CachedStore)
    assert again.fingerprint == prepare(job("plain", None)).fingerprint


@pytest.mark.s3
def test_a_cache_that_can_not_be_is_refused_before_anything_starts(in_bucket, digits_experiment, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(BadInput, match=r"--cache .*/file: no cache can be there \(it is no folder\)"):
        prepare(Job(experiment=digits_experiment, data=in_bucket, run=str(tmp_path / "run"),
                    cache=str(tmp_path / "file")))


def test_a_data_set_in_a_folder_needs_no_cache(digits_data, digits_experiment, tmp_path):
    prepared = prepare(Job(experiment=digits_experiment, data=digits_data, run=str(tmp_path / "run"),
                           cache=str(tmp_path / "cache")))
    assert isinstance(prepared.data_store, FolderStore)
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(("text", "wanted"), [("50GB", 50 * 10**9), ("1.5 TB", 15 * 10**11), ("3MiB", 3 << 20),
                                              ("10kb", 10_000), ("2GiB", 2 << 30)])
def test_sizes(text, wanted):
    assert read_size(text) == wanted


@pytest.mark.parametrize("text", ["", "50", "GB", "-1GB", "0GB", "1e3GB", "50 elephants", "nanGB"])
def test_no_sizes(text):
    with pytest.raises(argparse.ArgumentTypeError, match="write it like 50GB"):
        read_size(text)


def test_the_options(tmp_path, monkeypatch):
    parser = argparse.ArgumentParser()
    add_cache(parser)
    monkeypatch.chdir(tmp_path)
    options = parser.parse_args(["--cache", "shards", "--cache-size", "2GB"])
    assert cache_of(options) == {"cache": str(Path(tmp_path, "shards")), "cache_bytes": 2 * 10**9}
    assert cache_of(parser.parse_args(["--cache", str(tmp_path)])) == {"cache": str(tmp_path)}
    assert cache_of(parser.parse_args([])) == {}
    with pytest.raises(BadInput, match="--cache-size goes with --cache"):
        cache_of(parser.parse_args(["--cache-size", "2GB"]))
    with pytest.raises(BadInput, match="--cache s3://bucket/x: a cache is a folder"):
        cache_of(parser.parse_args(["--cache", "s3://bucket/x"]))
