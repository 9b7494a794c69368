"""The bench runs and says what it measured in one shape; how fast anything is is not asked here."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

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
    assert (handed_over["aim"], augmented["aim"]) == (12, 4)  # on every CPU
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
    assert rate["figures"]["pixels_per_image"] == 500 * 375
    assert [row["unit"] for row in rows["whole224"]] == ["%", "%"]
    for row in rows["whole224"]:
        alone, elsewhere = (row["figures"][f"{name}_images_per_s"] for name in ("theirs", "step_elsewhere"))
        assert 0.1 < alone / elsewhere < 10  # the same work
        differs = abs(row["figures"]["against_step_elsewhere"] / row["value"] - 1) > 0.02
        assert ("a process that never streamed" in row["what"]) == differs


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peaks are read from /proc")
def test_the_memory_of_sharding_is_measured_for_many_images_and_for_large_ones(tmp_path):
    done = bench("corpus", "--quick", "--json", str(tmp_path / "bench.json"))
    assert done.returncode == 0, done.stderr
    many, full = json.loads((tmp_path / "bench.json").read_text())["rows"]["corpus"]
    assert (many["aim"], full["aim"]) == (250, 400)
    assert full["figures"]["spills"] == full["figures"]["buckets"] == 1
    assert 0 < full["value"] == full["figures"]["peak_mb"] - full["figures"]["idle_mb"]


def test_we_and_others_read_the_same_images(tmp_path):
    rows, skipped = quickly(tmp_path / "bench.json", "peers")
    assert not skipped
    assert [row["what"].split()[4] for row in rows["peers"]] == ["webdataset", "ImageFolder"]
    for row in rows["peers"]:
        assert "with 1 worker each" in row["what"]
        assert "ahead in every column" in row["what"] or "behind in" in row["what"]
        columns = {"images_per_s", "first_batch_s", "peak_mb", "resume_s", "peak_rss_mb"}
        assert set(row["figures"]) == {f"{column}_1_{who}" for column in columns for who in ("ours", "theirs")}
        assert all(value > 0 for value in row["figures"].values())


@pytest.fixture
def peers_with(tmp_path, monkeypatch):
    """The peers with a program in the place of the one that reads images."""
    monkeypatch.syspath_prepend(str(BENCH.parent))
    import bench_children
    import bench_peers

    def make(program, limit_s=20):
        script = tmp_path / "rival.py"
        script.write_text("import sys, time, json\n" + program)
        monkeypatch.setattr(bench_peers, "_SCRIPT", script)
        monkeypatch.setattr(bench_children, "_LIMIT_S", limit_s)
        folder = tmp_path / "peers"
        folder.mkdir()
        return bench_peers.Peers(folder, {})

    return make


_READY = "print('ready', flush=True); sys.stdin.readline()\n"
_ENDS = "print(json.dumps({}))\n"


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="memory is read from /proc")
def test_the_memory_of_a_rival_that_says_much_is_measured(peers_with):
    peers = peers_with(f"say = 'word ' * 10**6\nprint(say, file=sys.stderr); print(say)\n{_READY}"
                       f"kept = bytearray(b'x') * 100_000_000\ntime.sleep(1)\n{_ENDS}")
    assert 100 <= peers.run("any", "memory", 1)["peak_mb"] < 150


@pytest.mark.parametrize(("program", "reason"), [
    ("print('well', file=sys.stderr)\nsys.exit('no licence')", "any with 1 workers, memory ended with 1: no licence"),
    (f"{_READY}sys.exit(3)", "ended with 3: it does not say why"),
    ("time.sleep(60)", "was not at its end after 1 s"),
    (f"{_READY}time.sleep(60)", "was not at its end after 1 s")])
def test_a_rival_that_dies_or_hangs_is_told_of_in_one_line(peers_with, program, reason):
    with pytest.raises(RuntimeError) as told:
        peers_with(program, 1).run("any", "memory", 1)
    assert reason in str(told.value)
    assert "\n" not in str(told.value)


def test_a_rival_that_fails_has_a_row_and_the_others_go_on(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCH.parent))
    import bench_peers
    from bench_timing import Bench

    class Peers:
        def __init__(self, *_):
            self.turns = 0

        def run(self, name, task, workers):
            self.turns += name == "ImageFolder" and task == "speed"
            if name == "webdataset" and task == "memory":
                raise RuntimeError("webdataset with 1 workers, memory ended with 1: no licence")
            ours = name == "ours"
            return {"speed": {"images_per_s": 30.0 if ours else 10.0, "first_batch_s": self.turns + 9.0 * ours,
                              "images_per_cpu_s": 50.0 if ours else 20.0},
                    "resume": {"resume_s": 1.0}, "memory": {"peak_mb": 1.0, "peak_rss_mb": 1.0}}[task]

    monkeypatch.setattr(bench_peers, "Peers", Peers)
    monkeypatch.setattr(bench_peers, "_images", lambda *_: {})
    monkeypatch.setattr(bench_peers, "_RIVALS", {"webdataset": (1,), "ImageFolder": (0, 1)})
    failed, row = bench_peers.peers(Bench(None, False, "float32", False), SimpleNamespace(folder=Path("nowhere")))
    assert failed.value is failed.reached is None
    assert failed.what.endswith("webdataset does: webdataset with 1 workers, memory ended with 1: no licence")
    assert (row.value, row.reached) == (3.0, True)
    assert "at the best number of workers of each, of 0, 1 (0: all of it on one core)" in row.what
    assert "behind in first_batch_s with 0, first_batch_s with 1" in row.what
    assert row.figures["first_batch_s_0_theirs"] == 3.0  # the median of turns 1, 3 and 5
    assert row.figures["images_per_cpu_s_0_ours"] == 50.0
    assert "images_per_cpu_s_1_ours" not in row.figures


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
