"""clean: names every kind of leftover, and removes these alone, when told to, and nothing that is young or in use."""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from dataclasses import asdict

import pytest

from fcdd_dist.data.manifest import load_manifest
from fcdd_dist.data.shards.write import shard
from fcdd_dist.errors import Fault, NotFound
from fcdd_dist.inventory import clean as module
from fcdd_dist.inventory.clean import CHECKPOINTS, LEFTOVERS, NOTES, SHARDS, clean, lines
from fcdd_dist.inventory.pull import pull
from fcdd_dist.storage import FolderStore
from fcdd_dist.storage.lease import Lease
from fcdd_dist.storage.owner import Owner
from tests.inventory.places import a_checkpoint, a_run, a_sweep, copy, files, lease

HOUR = 3600.0
OWNER = asdict(Owner("node-1", "b", 7, "1"))
NOTE = b'{"attempt": 1, "lines": []}'


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
    run.write("board/said.json", NOTE)
    run.write("board/layout.json", b'{"of": "a person"}')
    copy(tiny_data, store.at("data"))
    store.write("data/train/1/000009.tar", tiny_data.read("train/1/000000.tar"))
    store.write("data/train/1/000010.tar", b"of a person, too")
    store.write("data/other/train/1/000000.tar", tiny_data.read("train/1/000000.tar"))
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
    for why in ("no checkpoint.json", "optimizer.safetensors is missing", "has 5 bytes and should have", "2 days",
                "1 shard, not in manifest.json", "an abandoned sharding", "of a pull that was broken off"):
        assert why in text
    assert files(store.root) == before


def test_with_yes_these_go_and_nothing_else(store):
    before = files(store.root)
    result = clean(store.url, remove=True)
    assert set(before) - set(files(store.root)) == GONE & set(before)
    assert lines(result)[-1].startswith("removed 9 things, ")
    assert lines(clean(store.url))[-1].endswith("nothing to remove")


@pytest.mark.parametrize("url", ["", "/all/trials", "/all/trials/0-s1/checkpoints",
                                 "/all/trials/0-s1/checkpoints/epoch-000001"])
def test_what_a_killed_trial_left_goes_when_no_driver_has_the_sweep(tmp_path, url, fast):
    store = FolderStore(tmp_path / "store")
    sweep = a_sweep(store.at("all"), done=2)
    trial = sweep.at("trials/0-s1")
    trial.delete("checkpoints/epoch-000001/checkpoint.json")
    (trial.root / "checkpoints/epoch-000001/.part-abcd_123").write_bytes(b"temporary")
    aged(store)
    before = files(store.root)
    with Lease.acquire(sweep, say=print):
        kept = clean(f"{store.url}{url}", remove=True).kept
        assert kept
        assert all("in use: held by process" in orphan.kept for orphan in kept)
    assert {key for key in before if "lease" not in key} == {key for key in files(store.root) if "lease" not in key}
    result = clean(f"{store.url}{url}", remove=True)
    gone = set(before) - set(files(store.root))
    assert result.kept == []
    whole = not url.endswith("epoch-000001")  # by itself it is no checkpoint
    assert gone == {f"all/trials/0-s1/checkpoints/epoch-000001/{name}" for name in (
        ".part-abcd_123", *(["detector.safetensors", "optimizer.safetensors"] if whole else []))}


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
    lease(store.at(place), OWNER)
    before = files(store.root)
    result = clean(store.url, older_than_s=limit, remove=True)
    gone = set(before) - set(files(store.root))
    assert gone
    assert not any(key.startswith(f"{place}/") for key in gone)
    assert {orphan.kept for orphan in result.kept} == {"in use: held by process 7 on node-1"}


def test_a_lease_that_nobody_renews_or_that_was_released_holds_nothing(store):
    lease(store.at("run"), OWNER)
    aged(store)
    assert clean(store.url).kept == []
    lease(store.at("run"), None)
    assert clean(store.url).kept == []
    (store.root / "run/lease.json").write_bytes(b"{")
    assert "can't be read" in next(orphan.kept for orphan in clean(store.url).kept)


@pytest.mark.parametrize(("key", "data", "why"), [
    ("run/checkpoints/epoch-000003/checkpoint.json", b'{"schema_version": 9}', "by a newer fcdd_dist"),
    ("run/checkpoints/epoch-000003/checkpoint.json", b"{}", "is damaged"),
    ("data/manifest.json", b'{"schema_version": 9}', "by a newer fcdd_dist"),
    ("data/manifest.json", b"{", "is damaged")])
def test_what_can_not_be_judged_stays(store, key, data, why):
    store.write(key, data)
    aged(store)
    before = files(store.root)
    result = clean(store.url, remove=True)
    (kept,) = result.kept
    assert kept.kept.startswith("not to be judged: ")
    assert why in kept.kept
    folder = key.rpartition("/")[0]
    assert {k for k in before if k.startswith(folder)} == {k for k in files(store.root) if k.startswith(folder)}


@pytest.mark.parametrize(("data", "why"), [(b'{"schema_version": 2}', "by a newer fcdd_dist"), (b"{", "is damaged"),
                                           (None, "is damaged")])
def test_a_run_that_can_not_be_judged_keeps_all_that_only_it_can_tell(store, data, why):
    if data is None:
        data = json.dumps(json.loads(store.read("run/experiment.json")) | {"experiment": {"of": "tomorrow"}}).encode()
    store.write("run/experiment.json", data)
    aged(store)
    before = files(store.root)
    result = clean(store.url, remove=True)
    assert {orphan.name for orphan in result.kept} == ORPHANS[CHECKPOINTS] | {"run/board/"}
    assert all("not to be judged: experiment.json" in orphan.kept and why in orphan.kept for orphan in result.kept)
    assert not any(key.startswith(("run/checkpoints", "run/board")) for key in set(before) - set(files(store.root)))


def test_a_checkpoint_changes_meanwhile(store, monkeypatch):
    """A driver starts and finishes the checkpoint between the look and the removal."""
    remove = module._remove

    def late(where, orphan, *more):
        if orphan.name == "run/checkpoints/epoch-000002":
            a_checkpoint(store.at("run"), 2)
        remove(where, orphan, *more)

    monkeypatch.setattr(module, "_remove", late)
    result = clean(store.url, remove=True)
    assert [orphan.kept for orphan in result.kept] == ["changed just now"]
    assert store.size("run/checkpoints/epoch-000002/checkpoint.json")


def test_a_driver_that_starts_meanwhile_keeps_its_run(store, monkeypatch):
    remove = module._remove

    def late(where, orphan, *more):
        if orphan.name == "run/checkpoints/epoch-000003":
            lease(store.at("run"), OWNER)
        remove(where, orphan, *more)

    monkeypatch.setattr(module, "_remove", late)
    result = clean(store.url, remove=True)
    assert {orphan.name for orphan in result.kept} == {
        "run/checkpoints/epoch-000003", "run/checkpoints/epoch-000004", "run/board/", "run/.part-abcd_123"}
    assert {orphan.kept for orphan in result.kept} == {"in use: held by process 7 on node-1"}


def abandoned(tiny_data, store: FolderStore) -> FolderStore:
    copy(tiny_data, store).delete("manifest.json")
    aged(store)
    return store


@pytest.fixture
def fast(monkeypatch):
    quick = functools.partial(Lease.acquire, every=0.05, good_for=0.25, settle=0.05, poll=0.02)
    monkeypatch.setattr(Lease, "acquire", quick)


def test_a_sharding_that_starts_meanwhile_waits_and_loses_nothing(tmp_path, tiny_data, outliers, monkeypatch):
    monkeypatch.setattr(Lease, "acquire", functools.partial(Lease.acquire, every=60, settle=0.05, poll=0.02))
    store = abandoned(tiny_data, FolderStore(tmp_path / "half"))
    shutil.rmtree(store.root / "exposure")
    delete, started = FolderStore.delete, []

    def late(self, key):
        if key.endswith(".tar") and not started:
            started.append(threading.Thread(target=shard, args=("digits", None, store),
                                            kwargs={"classes": ["0"], "exposure": outliers}))
            started[0].start()
            time.sleep(0.2)
        delete(self, key)

    monkeypatch.setattr(FolderStore, "delete", late)
    clean(store.url, remove=True)
    started[0].join()
    named = {shard.key for parts in load_manifest(store).splits.values() for part in parts.values()
             for shard in part.shards}
    assert {key for key in files(store.root) if not key.startswith("exposure/")} == named | {"manifest.json"}


def test_a_sharding_that_was_first_is_left_alone(tmp_path, tiny_data, monkeypatch, fast):
    store = abandoned(tiny_data, FolderStore(tmp_path / "half"))
    begin = module._remove_shards

    def late(*arguments):
        with Lease.acquire(store, say=print):
            begin(*arguments)

    monkeypatch.setattr(module, "_remove_shards", late)
    before = files(store.root)
    result = clean(store.url, remove=True)
    assert result.loose == []
    assert all(orphan.kept.startswith("in use: ") for orphan in result.kept)
    assert set(before) <= set(files(store.root))


def test_a_data_set_that_was_finished_meanwhile_stays(tmp_path, tiny_data, monkeypatch):
    store = abandoned(tiny_data, FolderStore(tmp_path / "half"))
    begin = module._remove_shards

    def late(*arguments):
        store.write("manifest.json", tiny_data.read("manifest.json"))
        begin(*arguments)

    monkeypatch.setattr(module, "_remove_shards", late)
    result = clean(store.url, remove=True)
    assert {orphan.kept for orphan in result.kept} == {"changed just now"}
    assert files(store.root) == files(tiny_data.root)


@pytest.mark.parametrize("inner", [False, True])
def test_the_lease_of_a_killed_sharding_goes_with_its_shards(tmp_path, tiny_data, fast, inner):
    """``inner``: it was at the exposure set, which is first, and for which it has a lease of its own."""
    store = abandoned(tiny_data, FolderStore(tmp_path / "all" / "half"))
    if inner:
        store.delete("exposure/manifest.json")
        for key in [key for key in files(store.root) if not key.startswith("exposure/")]:
            store.delete(key)
        lease(store.at("exposure"), OWNER)
    lease(store, OWNER)
    store.write("lease/000001.json", store.read("lease.json"))
    outer = str(tmp_path / "all")
    assert {orphan.kept for orphan in clean(outer).orphans} == {"in use: held by process 7 on node-1"}
    aged(store)
    assert clean(outer).kept == []
    result = clean(outer, remove=True)
    assert "half/lease.json" in {orphan.name for orphan in result.loose}
    kept = {} if inner else {key: data for key, data in files(tiny_data.root).items() if key.startswith("exposure/")}
    assert files(store.root) == kept
    if kept:
        assert clean(outer).orphans == []


def test_others_may_have_files_where_leases_have_theirs(tmp_path, tiny_data, fast):
    store = abandoned(tiny_data, FolderStore(tmp_path / "half"))
    lease(store, OWNER)
    store.write("lease/contract.pdf", b"of a person")
    store.write("lease/000002.json", b"of a person")
    aged(store)
    before = files(store.root)
    result = clean(store.url, remove=True)
    assert result.loose == []
    assert all(orphan.kept.startswith("not to be judged: ") for orphan in result.kept)
    assert files(store.root) == before
    store.delete("lease/000002.json")
    clean(store.url, remove=True)
    assert {key for key in files(store.root) if not key.startswith("exposure/")} == {"lease/contract.pdf"}


def test_no_lease_is_left_in_a_data_set(store):
    clean(store.url, remove=True)
    assert not any("lease" in key for key in files(store.root) if not key.startswith("run/"))
    assert json.loads(store.read("run/lease.json"))["attempt"] == 1


def test_a_pull_that_is_at_work_or_was_broken_off_keeps_all(tmp_path, tiny_data, monkeypatch):
    """What it has fetched is as old as what it copies, and vouched for last."""
    from fcdd_dist.inventory import pull as pulls

    source = copy(tiny_data, FolderStore(tmp_path / "data"))
    aged(source)
    into, fetch, seen = tmp_path / "copy", pulls._fetch, []

    def broken_off(*arguments):
        fetch(*arguments)
        FolderStore(into).delete("manifest.json")
        seen.append(clean(str(into), remove=True))
        raise Fault("the storage does not answer")

    monkeypatch.setattr(pulls, "_fetch", broken_off)
    with pytest.raises(Fault):
        pull(source.url, str(into))
    aged(FolderStore(into))
    before = files(into)
    for url in (tmp_path, into, into / "train", into / "train" / "1"):
        seen.append(clean(str(url), remove=True))
    assert files(into) == before
    assert [result.loose for result in seen] == [[]] * 5
    assert all("a pull fills it" in orphan.kept for result in seen for orphan in result.kept)
    monkeypatch.undo()
    pull(source.url, str(into))
    assert files(into) == files(source.root)


@pytest.mark.parametrize("below", ["run/checkpoints", "run", "run/checkpoints/epoch-000002", "data", "data/train"])
def test_a_lease_above_the_url_holds(store, below):
    place = below.partition("/")[0]
    (store.root / "run/checkpoints/epoch-000002/.part-abcd_123").write_bytes(b"temporary")
    (store.root / "data/train/.part-abcd_123").write_bytes(b"temporary")
    aged(store)
    loose = clean(f"{store.url}/{below}").loose
    assert loose
    record = {"schema_version": 1, "owner": OWNER, "attempt": 1, "token": "t", "since": 0.0, "renewed": time.time()}
    store.write(f"{place}/lease.json", json.dumps(record).encode())
    before = files(store.root)
    result = clean(f"{store.url}/{below}", older_than_s=0.0, remove=True)
    assert {orphan.kept for orphan in result.kept} == {"in use: held by process 7 on node-1"}
    assert len(result.kept) == len(loose)
    assert files(store.root) == before


def test_a_lease_in_the_middle_of_a_data_set_holds(store):
    """Of a sharding of the exposure set alone, where the data set is finished."""
    store.at("data").delete("exposure/manifest.json")
    aged(store)
    assert {"data/exposure/train/exposure/", "data/exposure/holdout/exposure/"} < {
        orphan.name for orphan in clean(store.url).loose}
    lease(store.at("data/exposure"), OWNER)
    before = files(store.root)
    result = clean(store.url, older_than_s=0.0, remove=True)
    assert {orphan.name for orphan in result.kept} >= {"data/exposure/train/exposure/"}
    assert not any(key.startswith("data/exposure/") for key in set(before) - set(files(store.root)))


@pytest.mark.parametrize("data", [b"{", b'{"lease": "of a flat"}', b'{"owner": {"pid": 7}, "renewed": 0}'])
def test_a_lease_that_can_not_be_read_holds_however_old(store, data):
    store.write("lease.json", data)
    aged(store)
    result = clean(store.url, remove=True)
    assert result.loose == []
    assert {orphan.kept for orphan in result.kept} == {f"not to be judged: {store.url}/lease.json can't be read"}


def test_names_are_made_fit_for_a_terminal(tmp_path):
    folder = os.fsencode(tmp_path / "all") + b"/\xff\x1b[31m"
    os.makedirs(folder)
    with open(folder + b"/.probe-0123abcd", "wb"):
        pass
    aged(FolderStore(tmp_path / "all"))
    text = "\n".join(lines(clean(str(tmp_path / "all"))))
    text.encode()
    assert "\\xff\\x1b[31m/.probe-0123abcd" in text


THEIRS = {
    "thesis.txt": b"{}", "train/cats/1.jpg": b"", "manifest.json": b'{"name": "My web app", "icons": []}',
    "train/wds/000000.tar": b"not ours" * 1000, "web/train/1/000000.tar": b"not ours" * 1000,
    "experiment.json": b'{"mine": 1}', "board/layout.json": b'{"attempt": 1}', "lab/experiment.json": b'{"mine": 1}',
    "lab/board/notes.json": b'{"attempt": 1}', "lab/checkpoints/epoch-000010/optimizer.safetensors": b"of another",
    "lab/checkpoints/epoch-000010/checkpoint.json": b"{}", "checkpoints/best.pt": b"of another",
    "checkpoints/epoch-000010/detector.safetensors": b"of another trainer", "epoch-000002/detector.safetensors": b"",
    "none/checkpoints/epoch-000010/model.safetensors": b"of another", ".probe-0123abcd": b"of a person"}


def test_a_wrong_place_is_not_touched(tmp_path):
    mine = FolderStore(tmp_path / "thesis")
    for key, data in THEIRS.items():
        mine.write(key, data)
    aged(mine)
    for below in ("", "/lab", "/lab/checkpoints", "/checkpoints", "/train", "/none"):
        assert clean(mine.url + below, remove=True).orphans == []
    assert files(mine.root) == THEIRS
    with pytest.raises(NotFound, match="nothing there"):
        clean(str(tmp_path / "nowhere"))


def test_who_is_dead_on_this_machine_holds_nothing(tmp_path, tiny_data):
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        owner = Owner.of(process.pid)
    store = FolderStore(tmp_path)
    store.write("train/1/000000.tar", tiny_data.read("train/1/000000.tar"))
    store.write("lease.json", json.dumps({"schema_version": 1, "owner": asdict(owner), "attempt": 1, "token": "t",
                                          "since": time.time(), "renewed": time.time()}).encode())
    assert "train/1/" in [orphan.name for orphan in clean(str(tmp_path), older_than_s=0.0).loose]
