"""What is freed is given back, in a process of its own."""

import subprocess
import sys

import pytest

CODE = """
import re, sys
from pathlib import Path
from fcdd_dist.stream.heap import return_large_blocks

def resident_mb():
    return int(re.search(r"VmRSS:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1000

if sys.argv[1] == "yes":
    return_large_blocks()
before = resident_mb()

del [b"x" * (31 << 20)][:]  # from here on, glibc takes blocks of that size from its heap
large, small = [], []
for number in range(20):
    large.append(b"x" * (5 << 20))
    small.append(b"y" * 100_000)  # what holds the heap together
del large
print(resident_mb() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's malloc")
def test_large_blocks_are_given_back():
    kept = {wanted: float(subprocess.run([sys.executable, "-c", CODE, wanted], capture_output=True, text=True,
                                         check=True).stdout) for wanted in ("no", "yes")}
    assert kept["yes"] < 20
    assert kept["no"] > 80  # else there is nothing to do any more
