"""The bench runs and says what it measured in one shape; how fast anything is is not asked here."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

BENCH = Path(__file__).parents[2] / "jobs" / "bench.py"

pytestmark = pytest.mark.slow  # torch is imported anew for every run


def bench(*arguments):
    command = [sys.executable, str(BENCH), *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=BENCH.parents[1])


@pytest.mark.slow
def test_parts_are_measured_and_written_as_json(tmp_path):
    out = tmp_path / "bench.json"
    done = bench("step32", "upsampling", "--quick", "--threads", "1", "--json", str(out))
    assert done.returncode == 0, done.stderr
    found = json.loads(out.read_text())
    assert set(found) == {"machine", "precision", "quick", "skipped", "rows"}
    assert {"cpu", "load", "torch"} <= set(found["machine"])
    assert found["skipped"] == {}
    assert list(found["rows"]) == ["step32", "upsampling"]
    rows = [row for part in found["rows"].values() for row in part]
    assert len(rows) == 1 + 3  # upsampling at 28, 32 and 224 px
    for row in rows:
        assert set(row) == {"what", "value", "unit", "aim", "at_least", "figures", "reached"}
        assert row["value"] > 0
        assert row["unit"] == "x"
        assert row["aim"] is None or row["reached"] is (row["value"] >= row["aim"])
        assert {"ours_images_per_s", "theirs_images_per_s", "lowest", "highest", "pairs"} == set(row["figures"])
        assert row["figures"]["lowest"] <= row["value"] <= row["figures"]["highest"]
        assert row["what"] in done.stdout


def test_an_unknown_part_and_missing_data_are_refused_in_one_line(tmp_path):
    for arguments, reason in ((["nosuch"], "there is no part 'nosuch'; there are: step32"),
                              (["step32", "--data", str(tmp_path)], "is no data set"),
                              (["host", "--photographs", str(tmp_path)], "has no JPEG files")):
        done = bench(*arguments)
        assert done.returncode == 2
        assert reason in done.stderr.splitlines()[-1]


def quickly(out, *parts):
    """The rows of each part, and why parts were skipped."""
    done = bench(*parts, "--quick", "--threads", "1", "--json", str(out))
    assert done.returncode == 0, done.stderr
    found = json.loads(out.read_text())
    for rows in found["rows"].values():
        for row in rows:
            assert row["value"] > 0
            assert row["what"] in done.stdout
    return found["rows"], found["skipped"]


def test_the_work_of_the_host_its_qualities_and_resuming_are_measured(tmp_path):
    rows, skipped = quickly(tmp_path / "bench.json", "host", "resume", "quality", "decode_gpu")
    assert list(skipped) == ["decode_gpu"]
    assert "--device cuda" in skipped["decode_gpu"]
    handed_over, augmented = rows["host"]
    assert (handed_over["aim"] or 12, augmented["aim"] or 4) == (12, 4)  # none where the CPU lacks bf16
    assert handed_over["figures"]["ours_images_per_s"] > augmented["figures"]["ours_images_per_s"]
    resumed, order = rows["resume"]
    assert 0 < resumed["figures"]["shards_asked_for_resumed"] <= resumed["figures"]["shards"]
    assert order["unit"] == "s"
    bytes_per_image = [row["figures"]["bytes_per_image"] for row in rows["quality"]]
    errors = [row["figures"]["mean_absolute_error"] for row in rows["quality"]]
    assert len(rows["quality"]) == 4
    assert bytes_per_image == sorted(bytes_per_image)
    assert errors == sorted(errors, reverse=True)
    assert ["4:2:0" in row["what"] for row in rows["quality"]] == [True, True, True, False]


def test_sharding_and_training_at_224_px_are_measured(tmp_path):
    rows, skipped = quickly(tmp_path / "bench.json", "sharding", "whole224")
    assert not skipped
    rate, hours = rows["sharding"]
    assert hours["value"] == pytest.approx(14_200_000 / rate["value"] / 16 / 3600)
    assert sum(value for name, value in rate["figures"].items() if name.startswith("share_")) == pytest.approx(1)
    assert [row["unit"] for row in rows["whole224"]] == ["%", "%"]


def test_we_and_others_read_the_same_images(tmp_path):
    rows, skipped = quickly(tmp_path / "bench.json", "peers")
    assert not skipped
    assert [row["what"].split()[4] for row in rows["peers"]] == ["webdataset", "ImageFolder"]
    for row in rows["peers"]:
        assert "ahead in every column" in row["what"] or "behind in" in row["what"]
        columns = {"images_per_s", "first_batch_s", "peak_mb", "resume_s", "peak_rss_mb"}
        assert set(row["figures"]) == {f"{column}_1_{who}" for column in columns for who in ("ours", "theirs")}
        assert all(value > 0 for value in row["figures"].values())


@pytest.mark.skipif(not Path("/proc").exists(), reason="processes are found in /proc")
def test_what_others_delete_and_leave_is_in_a_folder_of_their_own(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(BENCH.parent))
    from bench_peers import Peers

    standing = tmp_path / "data" / "of-somebody"
    standing.mkdir(parents=True)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    folder = tmp_path / "bench"
    folder.mkdir()
    (folder / "files").mkdir()
    Image.new("RGB", (16, 16)).save(folder / "files" / "0.jpg")
    peers = Peers(folder, {"files": str(folder / "files"), "litdata": str(folder / "litdata")})
    try:
        peers.make_environment("litdata")
    except Exception as error:
        if type(error).__name__ != "Skip":
            raise
        pytest.skip(str(error))
    peers.run("litdata", "write", 0)
    assert (folder / "litdata" / "index.json").exists()
    assert standing.exists()
    assert {path.name for path in tmp_path.iterdir()} <= {"data", "bench"}


def test_an_interrupted_comparison_leaves_nothing(tmp_path):
    command = [sys.executable, str(BENCH), "peers", "--quick", "--threads", "1"]
    with subprocess.Popen(command, env=os.environ | {"TMPDIR": str(tmp_path)}, stdout=subprocess.DEVNULL,
                          stderr=subprocess.DEVNULL) as process:
        until = time.monotonic() + 120
        while not running_under(tmp_path):
            assert process.poll() is None
            assert time.monotonic() < until
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) != 0
    assert not running_under(tmp_path)
    assert not list(tmp_path.iterdir())


def running_under(folder):
    """Processes that were told of a file in the folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes()
        except OSError:  # it has just ended
            continue
        if os.fsencode(folder) in command:
            found.append(command)
    return found
