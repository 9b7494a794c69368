"""clean: names every kind of leftover, and removes these alone, when told to, and nothing that is young or in use."""

from __future__ import annotations

import os
import shutil
import time

import pytest

from fcdd_dist.errors import NotFound
from fcdd_dist.inventory.clean import CHECKPOINTS, LEFTOVERS, NOTES, SHARDS, clean, lines
from fcdd_dist.storage import FolderStore
from tests.inventory.places import a_checkpoint, a_run, copy, files, lease

HOUR = 3600.0


def aged(store: FolderStore, hours: float = 48.0, below: str = "") -> None:
    moment = time.time() - hours * HOUR
    for path in (store.root / below).rglob("*"):
        if path.is_file():
            os.utime(path, (moment, moment))


@pytest.fixture
def store(tmp_path, orphans):
    shutil.copytree(orphans, tmp_path / "all")
    return FolderStore(tmp_path / "all")


@pytest.fixture(scope="module")
def orphans(tmp_path_factory, tiny_data):
    """One orphan of each kind, beside what is whole and what is of others; all two days old."""
    store = FolderStore(tmp_path_factory.mktemp("orphans"))
    run = a_run(store.at("run"), epochs=(1, 2, 3, 4, 5))
    run.delete("checkpoints/epoch-000002/checkpoint.json")
    run.delete("checkpoints/epoch-000003/optimizer.safetensors")
    run.write("checkpoints/epoch-000004/detector.safetensors", b"short")
    run.write("checkpoints/epoch-000002/notes.txt", b"of a person")
    run.write("checkpoints/mine/weights.bin", b"of a person")
    copy(tiny_data, store.at("data"))
    store.write("data/train/1/000009.tar", b"x" * 1000)
    store.write("data/train/1/old.tar", b"of a person")
    store.write("half/train/1/000000.tar", tiny_data.read("train/1/000000.tar"))
    store.write("else/train/1/000000.tar", b"others number their files, too" * 100)
    store.write("photo.jpg", b"of a person")
    store.write(".probe-0123abcd", b"")
    for name in ("run/.part-abcd_123", ".part-pull-0123456789abcdef", ".part-mine", ".hidden"):
        (store.root / name).write_bytes(b"temporary")
    aged(store)
    return store.root


ORPHANS = {
    CHECKPOINTS: {f"run/checkpoints/epoch-00000{n}" for n in (2, 3, 4)},
    SHARDS: {"data/train/1/", "half/train/1/"},
    LEFTOVERS: {"run/.part-abcd_123", ".part-pull-0123456789abcdef"},
    NOTES: {"run/board/", ".probe-0123abcd"},
}
GONE = {f"run/checkpoints/epoch-00000{n}/{file}" for n in (2, 3, 4) for file in (
    "checkpoint.json", "detector.safetensors", "optimizer.safetensors")} | {
    "data/train/1/000009.tar", "half/train/1/000000.tar", "run/.part-abcd_123", ".part-pull-0123456789abcdef",
    "run/board/said.json", ".probe-0123abcd"}


def test_every_kind_is_named_and_nothing_removed_without_yes(store):
    before = files(store.root)
    result = clean(store.url)
    found = {group: {orphan.name for orphan in result.loose if orphan.group == group} for group in ORPHANS}
    assert found == ORPHANS
    assert result.kept == []
    assert result.as_json()["bytes"] == sum(len(before[key]) for key in GONE & set(before))
    text = "\n".join(lines(result))
    assert all(name in text for names in ORPHANS.values() for name in names)
    assert "nothing was removed: the same with --yes" in text
    for why in ("no checkpoint.json", "optimizer.safetensors is missing", "has 5 bytes, not", "2 days",
                "1 shard, not in manifest.json", "an abandoned sharding", "of a pull that was broken off"):
        assert why in text
    assert files(store.root) == before


def test_with_yes_these_go_and_nothing_else(store):
    before = files(store.root)
    result = clean(store.url, remove=True)
    assert set(before) - set(files(store.root)) == GONE & set(before)
    assert lines(result)[-1].startswith("removed 9 things, ")
    assert lines(clean(store.url))[-1].endswith("nothing to remove")


@pytest.mark.parametrize("young", ["run", "data", "half", ""])
def test_what_is_young_stays(store, young):
    aged(store, 1.0, young)
    before = files(store.root)
    result = clean(store.url, remove=True)
    gone = set(before) - set(files(store.root))
    assert not any(key.startswith(f"{young}/" if young else "") for key in gone)
    assert {orphan.kept for orphan in result.kept} == {"too young"}
    assert "in use, too young" in "\n".join(lines(result))
    clean(store.url, older_than_s=0.5 * HOUR, remove=True)
    assert set(before) - set(files(store.root)) == GONE & set(before)


def test_a_sharding_at_work_keeps_its_older_shards_too(store, tiny_data):
    store.write("half/train/2/000000.tar", tiny_data.read("train/2/000000.tar"))
    result = clean(store.url)
    assert {orphan.name for orphan in result.kept} == {"half/train/1/", "half/train/2/"}


@pytest.mark.parametrize("place", ["run", "half", "data"])
@pytest.mark.parametrize("limit", [24 * HOUR, 0.0])
def test_what_a_driver_holds_stays_however_old(store, place, limit):
    lease(store.at(place), {"pid": 7, "host": "node-1"})
    before = files(store.root)
    result = clean(store.url, older_than_s=limit, remove=True)
    gone = set(before) - set(files(store.root))
    assert gone
    assert not any(key.startswith(f"{place}/") for key in gone)
    assert {orphan.kept for orphan in result.kept} == {"in use: held by process 7 on node-1"}


def test_a_lease_that_nobody_renews_or_that_was_released_holds_nothing(store):
    lease(store.at("run"), {"pid": 7, "host": "node-1"})
    aged(store)
    assert clean(store.url).kept == []
    lease(store.at("run"), None)
    assert clean(store.url).kept == []
    (store.root / "run/lease.json").write_bytes(b"{")
    assert "can't be read" in next(orphan.kept for orphan in clean(store.url).kept)


@pytest.mark.parametrize(("key", "data"), [
    ("run/checkpoints/epoch-000003/checkpoint.json", b'{"schema_version": 9}'), ("data/manifest.json", b"{}")])
def test_what_can_not_be_judged_stays(store, key, data):
    store.write(key, data)
    aged(store)
    before = files(store.root)
    result = clean(store.url, remove=True)
    (kept,) = result.kept
    assert "can't be read" in kept.kept
    folder = key.rpartition("/")[0]
    assert {k for k in before if k.startswith(folder)} == {k for k in files(store.root) if k.startswith(folder)}


def test_what_changes_meanwhile_stays(store, monkeypatch):
    """A driver starts and finishes the checkpoint between the look and the removal."""
    from fcdd_dist.inventory import clean as module

    remove = module._remove

    def late(where, orphan):
        if orphan.name == "run/checkpoints/epoch-000002":
            a_checkpoint(store.at("run"), 2)
        remove(where, orphan)

    monkeypatch.setattr(module, "_remove", late)
    result = clean(store.url, remove=True)
    assert [orphan.kept for orphan in result.kept] == ["changed just now"]
    assert store.size("run/checkpoints/epoch-000002/checkpoint.json")


def test_a_wrong_place_is_not_touched(tmp_path):
    mine = FolderStore(tmp_path / "thesis")
    for key in ("thesis.txt", "board/notes.txt", "checkpoints/best.pt", "train/cats/1.jpg", "manifest.json"):
        mine.write(key, b"{}")
    aged(mine)
    assert clean(mine.url, remove=True).loose == []
    assert len(files(mine.root)) == 5
    with pytest.raises(NotFound, match="nothing there"):
        clean(str(tmp_path / "nowhere"))
