"""The bench runs and says what it measured in one shape; how fast anything is is not asked here."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

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
                              (["step32", "--data", str(tmp_path)], "is no data set")):
        done = bench(*arguments)
        assert done.returncode == 2
        assert reason in done.stderr.splitlines()[-1]
