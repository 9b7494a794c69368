"""Stores under URLs that every verb finds, and a small real data set."""

import pytest

from fcdd_dist.data.shards.write import shard
from fcdd_dist.storage import FolderStore, open_store
from tests.inventory.places import Harmful


@pytest.fixture
def harmful(monkeypatch):
    """A store that does harm at ``bad:``, where pull, ls and clean find it."""
    store = Harmful("bad:")

    def at(url):
        if not url.startswith("bad:"):
            return open_store(url)
        prefix = url.removeprefix("bad:").strip("/")
        return store.at(prefix) if prefix else store

    for module in ("plan", "listing", "clean"):
        monkeypatch.setattr(f"fcdd_dist.inventory.{module}.open_store", at)
    monkeypatch.setattr("fcdd_dist.inventory.plan.absolute", lambda url: url)
    return store


@pytest.fixture(scope="session")
def outliers(tmp_path_factory, fill_folder):
    """A folder of 40 exposure images: far fewer than the digits' own."""
    folder = tmp_path_factory.mktemp("outliers")
    fill_folder(folder / "things", 40)
    return str(folder)


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory, outliers):
    """Three classes of the bundled digits, and 40 exposure images."""
    store = FolderStore(tmp_path_factory.mktemp("tiny"))
    shard("digits", None, store, classes=["0", "1", "2"], exposure=outliers)
    return store
