"""torchvision's import fails beside a torch of another build: one clear line."""

from __future__ import annotations

import sys

import pytest

from fcdd_dist.data import native
from fcdd_dist.errors import BadInput


def test_the_broken_pair_is_named(monkeypatch):
    class Broken:
        @staticmethod
        def find_spec(name, path=None, target=None):
            if name == "torchvision":
                raise RuntimeError("operator torchvision::nms does not exist\nand so on")

    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Broken, *sys.meta_path])
    native.torchvision.cache_clear()
    with pytest.raises(BadInput, match=r"nms does not exist.*pip install") as caught:
        native.torchvision()
    assert "\n" not in str(caught.value)
    native.torchvision.cache_clear()


def test_torchvision_is_there_with_what_we_use():
    assert native.torchvision().datasets.CIFAR10
