"""The classes of ImageNet-1k as a text file, and the lists of what exposure leaves out."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from importlib.resources import files

import pytest

from fcdd_dist.data.sources.source import is_wnid
from fcdd_dist.errors import Damaged
from fcdd_dist.recipes import RECIPES, imagenet1k
from fcdd_dist.recipes.exclusions import NAMED, exclusion
from fcdd_dist.recipes.imagenet1k import FILE, SHA256, names

# Reference: the usual index of each of the 30 among the 1,000, in the order of Table 5.
INDICES = (988, 404, 407, 50, 420, 425, 445, 530, 319, 543, 561, 572, 579, 934, 604, 640, 668, 677, 704, 721, 763, 528,
           780, 802, 805, 6, 949, 847, 859, 980)


def test_the_thousand():
    wnids = list(names())
    assert len(wnids) == 1000
    assert wnids == sorted(set(wnids))
    assert all(map(is_wnid, wnids))
    assert len(set(names().values())) == 1000
    assert all(name == name.strip() and name.isprintable() for name in names().values())
    assert names()["n01440764"] == "tench"


def test_the_thirty_have_their_usual_indices():
    thirty = RECIPES["imagenet30"].classes
    assert tuple(list(names()).index(wnid) for wnid in thirty) == INDICES
    different = {wnid: (mine, names()[wnid]) for wnid, mine in thirty.items() if mine != names()[wnid]}
    assert different == {"n03187595": ("rotary dial telephone", "dial telephone")}


def test_exclusions():
    assert exclusion("imagenet1k") == frozenset(names())
    assert exclusion("benchmark30") == frozenset(RECIPES["imagenet30"].classes) < exclusion("imagenet1k")
    assert exclusion("n01440764") is None
    assert {name: found.exclude for name, found in RECIPES.items() if found.exclude} == {"imagenet30": "imagenet1k"}
    assert RECIPES["imagenet30"].exclude in NAMED


@pytest.fixture
def other_file(tmp_path, monkeypatch):
    """``other_file(data)``: the list in a folder of its own, or none."""
    def place(data):
        (tmp_path / FILE).unlink(missing_ok=True)
        if data is not None:
            (tmp_path / FILE).write_bytes(data)
        monkeypatch.setattr(imagenet1k, "files", lambda package: tmp_path)
        names.cache_clear()
    yield place
    names.cache_clear()


def test_a_damaged_installation(other_file):
    data = files("fcdd_dist.recipes").joinpath(FILE).read_bytes()
    assert hashlib.sha256(data).hexdigest() == SHA256
    for damaged, reason in ((data.replace(b"tench", b"trout"), "was altered"), (data[:-1], "was altered"),
                            (None, "can't be read: No such file")):
        other_file(damaged)
        with pytest.raises(Damaged, match=rf"imagenet1k.txt of fcdd_dist {reason}.*install fcdd_dist again"):
            exclusion("imagenet1k")
        assert exclusion("benchmark30")


def test_the_list_is_read_when_it_is_asked_for():
    code = ("import fcdd_dist.recipes.exclusions, fcdd_dist.data.sources, fcdd_dist.recipes.imagenet1k as m; "
            "print(m.names.cache_info().currsize)")
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "0\n"
