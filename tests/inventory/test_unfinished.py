"""An unfinished sharding is one thing: ls counts its tasks, pull says what to do, clean removes all or nothing."""

from __future__ import annotations

import json
import os
import shutil
import time

import pytest

from fcdd_dist.data.shards.tasks import perform
from fcdd_dist.data.shards.write import shard
from fcdd_dist.errors import Fault, NotFound
from fcdd_dist.experiment import Form
from fcdd_dist.inventory import clean as module
from fcdd_dist.inventory import listing
from fcdd_dist.inventory.clean import LEFTOVERS, SHARDINGS, clean
from fcdd_dist.inventory.pull import pull
from fcdd_dist.storage import FolderStore
from fcdd_dist.storage.lease import Lease
from tests.inventory.places import an_unfinished_sharding, copy, files, lease

pytestmark = pytest.mark.slow  # together: six seconds

HOUR = 3600.0
OWNER = {"host": "node-1", "boot": "b", "pid": 7, "started": "1"}
GOES_ON = "run the same `fcdd-dist shard` command again: it goes on"
EXPOSURE_SHARD = "exposure/train/exposure/000000.tar"


def aged(store: FolderStore, hours: float = 48.0) -> None:
    moment = time.time() - hours * HOUR
    for path in store.root.rglob("*"):
        if path.is_file():
            os.utime(path, (moment, moment))


@pytest.fixture(autouse=True)
def fast(monkeypatch):
    """A lease that is taken over settles at once: nobody else wants it here."""
    acquire = Lease.acquire.__func__
    monkeypatch.setattr(Lease, "acquire", classmethod(lambda cls, store, *, say, **more: acquire(
        cls, store, say=say, **{"settle": 0.0, "good_for": 0.3, "every": 0.1, "poll": 0.02} | more)))


@pytest.fixture(scope="module")
def killed(tmp_path_factory, tiny_data):
    """Two days old, beside a data set that is whole, and something that somebody keeps there."""
    outer = FolderStore(tmp_path_factory.mktemp("killed"))
    store = an_unfinished_sharding(outer.at("half"), tiny_data.read("train/1/000000.tar"))
    store.write(EXPOSURE_SHARD, tiny_data.read(EXPOSURE_SHARD))
    lease(store, OWNER)
    store.write("lease/000001.json", store.read("lease.json"))
    store.write("notes.txt", b"of a person")
    store.write("unfinished/notes.txt", b"of a person")
    copy(tiny_data, outer.at("whole"))
    aged(outer)
    return outer.root


@pytest.fixture
def outer(killed, tmp_path):
    shutil.copytree(killed, tmp_path / "outer")
    return FolderStore(tmp_path / "outer")


def rest(store: FolderStore) -> set[str]:
    return set(files(store.root / "half"))


@pytest.fixture
def images(tmp_path, fill_folder):
    for number, kind in enumerate(("good", "other")):
        fill_folder(tmp_path / "raw/train" / kind, 12, 1000 * number)
    fill_folder(tmp_path / "outliers/things", 12, 5000)
    return tmp_path


def sharded(images, store, tasks=None):
    """Killed after so many ``tasks``, where these are given."""
    left = [tasks]

    def runner(plan, rest, out):
        for task in rest:
            if left[0] is not None:
                if not left[0]:
                    raise KeyboardInterrupt
                left[0] -= 1
            yield task, perform(plan, task, out)

    return shard("folder", str(images / "raw"), store, exposure=str(images / "outliers"),
                 form=Form.parse("png-8-rgb"), runner=runner)


THEIRS = {"notes.txt", "unfinished/notes.txt"}


def test_it_is_one_thing_that_goes_as_a_whole(outer):
    before = files(outer.root)
    result = clean(outer.url)
    (one,) = result.orphans
    assert (one.group, one.name, one.kept) == (SHARDINGS, "half/", None)
    assert one.why == "unfinished, 3 of 7 tasks, 3 shards"
    ours = {key for key in before if key.startswith("half/") and key.removeprefix("half/") not in THEIRS}
    assert one.bytes == sum(len(before[key]) for key in ours if "lease" not in key)
    text = module.lines(result)
    assert any(line.endswith(GOES_ON) for line in text)
    assert files(outer.root) == before
    result = clean(outer.url, remove=True)
    assert not any(GOES_ON in line for line in module.lines(result))
    assert set(before) - set(files(outer.root)) == ours
    assert rest(outer) == THEIRS
    assert clean(outer.url).orphans == []


@pytest.mark.parametrize("below", ["half", "half/"])
def test_it_is_found_where_the_url_names_it(outer, below):
    (one,) = clean(f"{outer.url}/{below}", remove=True).orphans
    assert one.name == "."
    assert rest(outer) == THEIRS


@pytest.mark.parametrize("young", ["unfinished/spill-000001.json", "unfinished/spill/000001.bin", "train/2/000000.tar",
                                   "exposure/train/exposure/000001.tar", "lease.json", "exposure/lease.json"])
def test_one_file_that_is_young_keeps_all_of_it(outer, tiny_data, young):
    store = outer.at("half")
    store.write(young, store.read("lease.json") if "lease" in young else
                tiny_data.read("train/2/000000.tar" if "/2/" in young else EXPOSURE_SHARD))
    before = files(outer.root)
    result = clean(outer.url, remove=True)
    assert result.loose == []
    assert [orphan.kept for orphan in result.kept] == [
        "in use: held by process 7 on node-1" if "lease" in young else "too young"]
    assert files(outer.root) == before


@pytest.mark.parametrize("place", ["", "half", "half/exposure"])
def test_while_a_lease_lives_it_stays_however_old_its_files(outer, place):
    record = json.loads(outer.read("half/lease.json")) | {"renewed": time.time()}
    outer.write(f"{place}/lease.json".lstrip("/"), json.dumps(record).encode())
    before = files(outer.root)
    result = clean(outer.url, older_than_s=0.0, remove=True)
    assert [orphan.kept for orphan in result.kept] == ["in use: held by process 7 on node-1"]
    assert "held by process 7" in "\n".join(module.lines(result))
    assert files(outer.root) == before


def test_a_sharding_that_goes_on_meanwhile_is_not_disturbed(outer, monkeypatch):
    """It begins between the look and the removal; and one that has come further and was killed again is kept, too."""
    begin, store = module._remove_shards, outer.at("half")

    def late(*arguments):
        with Lease.acquire(store, say=print):
            begin(*arguments)

    monkeypatch.setattr(module, "_remove_shards", late)
    (one,) = clean(outer.url, remove=True).orphans
    assert one.kept.startswith("in use: ")

    def further(*arguments):
        store.write("unfinished/nominal-0.json", b"{}")
        begin(*arguments)

    aged(outer)
    before = rest(outer)
    monkeypatch.setattr(module, "_remove_shards", further)
    (one,) = clean(outer.url, remove=True).orphans
    assert one.kept == "changed just now"
    assert {key for key in rest(outer) if "lease" not in key} == {
        key for key in before if "lease" not in key} | {"unfinished/nominal-0.json"}


@pytest.mark.parametrize("place", ["", "exposure/"])
def test_one_that_was_finished_meanwhile_stays(outer, tiny_data, monkeypatch, place):
    begin, store = module._remove_shards, outer.at("half")

    def late(*arguments):
        store.write(f"{place}manifest.json", tiny_data.read(f"{place}manifest.json"))
        begin(*arguments)

    monkeypatch.setattr(module, "_remove_shards", late)
    before = rest(outer)
    (one,) = clean(outer.url, remove=True).orphans
    assert one.kept == "changed just now"
    assert {key for key in before if "lease" not in key} < rest(outer)


@pytest.mark.parametrize("broken_after", [0, 1, 3, 4, 8])
def test_broken_off_it_can_be_repeated(outer, monkeypatch, broken_after):
    """The plan is there as long as anything is."""
    delete, left = FolderStore.delete, [broken_after]

    def breaks(self, key):
        if "lease" not in key:
            if not left[0]:
                raise Fault("the storage does not answer")
            left[0] -= 1
        delete(self, key)

    monkeypatch.setattr(module, "in_parallel", lambda function, values: [function(value) for value in values])
    monkeypatch.setattr(FolderStore, "delete", breaks)
    with pytest.raises(Fault):
        clean(outer.url, remove=True)
    monkeypatch.setattr(FolderStore, "delete", delete)
    assert len(rest(outer)) == 12 - broken_after
    assert "unfinished/plan.json" in rest(outer)
    aged(outer)
    (one,) = clean(outer.url, remove=True).orphans
    assert one.kept is None
    assert rest(outer) == THEIRS


def test_records_are_gone_before_any_shard_is(outer, monkeypatch):
    deleted, delete = [], FolderStore.delete
    monkeypatch.setattr(FolderStore, "delete", lambda self, key: (deleted.append(key), delete(self, key)))
    clean(outer.url, remove=True)
    kinds = ["plan" if "plan" in key else "record" if key.endswith(".json") else "data" for key in deleted
             if "lease" not in key]
    assert kinds == ["record"] * 3 + ["data"] * 6 + ["plan"]


@pytest.mark.parametrize("plan", [
    b"{", b"[]", b"null", b'"text"', b"\xff", b"[" * 100_000, b'{"schema_version": 1, "recipe": "digits"}',
    b'{"schema_version": 1, "tasks": []}', b'{"recipe": "soup", "tasks": ["cook"]}',
    b'{"schema_version": 1, "recipe": "soup", "tasks": "cook"}', b'{"schema_version": 1, "recipe": {}, "tasks": []}',
    b'{"schema_version": 1, "recipe": "soup", "tasks": [{"cook": 1}]}'])
def test_somebody_elses_folder_of_that_name_is_not_touched(tmp_path, plan):
    theirs = FolderStore(tmp_path)
    theirs.write("unfinished/plan.json", plan)
    theirs.write("unfinished/nominal-1.json", b"{}")
    theirs.write("unfinished/spill/000000.bin", b"of a person")
    theirs.write("unfinished/digests.bin", b"of a person")
    theirs.write("novel/unfinished/plan.json", plan)
    theirs.write("novel/train/1/000000.tar", b"of a person" * 100)
    aged(theirs)
    before = files(tmp_path)
    assert clean(str(tmp_path), older_than_s=0.0, remove=True).orphans == []
    assert files(tmp_path) == before
    with pytest.raises(NotFound, match="only other files"):
        listing.look(str(tmp_path))
    with pytest.raises(NotFound, match="holds none, though there are 6 other objects"):
        pull(str(tmp_path), str(tmp_path / "copy"))


def test_what_others_have_among_ours_stays(outer):
    theirs = {"unfinished/sketch.json": b"{}", "unfinished/spill/1.bin": b"", "unfinished/spill/000001.bin.bak": b"",
              "train/cats/1.jpg": b"", "train/1/000007.tar": b"of a person" * 100,
              "deeper/unfinished/nominal-1.json": b"{}", "lease/contract.pdf": b""}
    store = outer.at("half")
    for key, data in theirs.items():
        store.write(key, data)
    aged(outer)
    (one,) = clean(outer.url, remove=True).orphans
    assert "3 shards, beside 1 file of others" in one.why
    assert rest(outer) == THEIRS | set(theirs)


def test_a_plan_in_a_run_is_of_the_run(outer):
    outer.write("half/experiment.json", b"{}")
    aged(outer)
    assert SHARDINGS not in {orphan.group for orphan in clean(outer.url).orphans}


def test_the_plan_of_a_newer_version_keeps_everything(outer):
    store = outer.at("half")
    store.write("unfinished/plan.json", b'{"schema_version": 2, "recipe": "digits", "tasks": {"new": 1}}')
    aged(outer)
    before = files(outer.root)
    result = clean(outer.url, remove=True)
    assert [orphan.kept for orphan in result.orphans] == [
        "not to be judged: its plan was written by a newer fcdd_dist"]
    assert files(outer.root) == before
    assert any("half" in line and "unfinished" in line for line in listing.lines(listing.look(outer.url)))


def test_what_is_left_beside_a_finished_data_set_is_found(tmp_path, tiny_data):
    """Killed while it tidied up. Its shards are those of the data set by now."""
    store = an_unfinished_sharding(FolderStore(tmp_path / "all" / "done"), tiny_data.read("train/1/000000.tar"))
    copy(tiny_data, store)
    for key in ("unfinished/nominal-1.json", "unfinished/spill/000000.bin"):
        store.delete(key)
    lease(store, OWNER)
    outer = str(tmp_path / "all")
    assert [orphan.kept for orphan in clean(outer, remove=True).orphans] == ["in use: held by process 7 on node-1"]
    store.delete("lease.json")
    assert [orphan.kept for orphan in clean(outer, remove=True).orphans] == ["too young"]
    aged(store)
    (one,) = clean(outer, remove=True).orphans
    assert (one.group, one.name, one.kept) == (LEFTOVERS, "done/unfinished/", None)
    assert files(store.root) == files(tiny_data.root)


@pytest.mark.parametrize("manifest", [b"{", b'{"schema_version": 9}', b'{"name": "My web app"}'])
def test_beside_a_manifest_that_can_not_be_judged_it_stays(outer, manifest):
    outer.write("half/manifest.json", manifest)
    aged(outer)
    before = files(outer.root)
    result = clean(outer.url, remove=True)
    assert result.loose == []
    assert all(orphan.kept.startswith("not to be judged: manifest.json") for orphan in result.kept)
    assert files(outer.root) == before


def test_an_exposure_set_that_is_finished_stays(outer, tiny_data):
    copy(tiny_data.at("exposure"), outer.at("half/exposure"))
    aged(outer)
    (one,) = clean(outer.url, remove=True).orphans
    assert one.why == "unfinished, 3 of 7 tasks, 2 shards"
    assert files(outer.root / "half/exposure") == files(tiny_data.root / "exposure")


def test_its_exposure_folder_alone_is_a_part_of_it(outer):
    before = files(outer.root)
    result = clean(f"{outer.url}/half/exposure", remove=True)
    assert [orphan.kept for orphan in result.orphans] == ["a part of the unfinished sharding in the folder above"]
    assert files(outer.root) == before


def test_an_exposure_set_by_itself_is_a_sharding_of_its_own(outer):
    plan = json.loads(outer.read("half/unfinished/plan.json"))
    outer.write("half/exposure/unfinished/plan.json", json.dumps(plan | {"tasks": ["gather-000000"]}).encode())
    aged(outer)
    assert {orphan.name: orphan.why for orphan in clean(outer.url, remove=True).orphans} == {
        "half/": "unfinished, 3 of 7 tasks, 2 shards", "half/exposure/": "unfinished, 0 of 1 tasks, 1 shard"}
    assert rest(outer) == THEIRS


def test_a_plan_alone_is_found(tmp_path, tiny_data):
    """Killed at once; or a clean that was broken off before its last step."""
    store = an_unfinished_sharding(FolderStore(tmp_path), tiny_data.read("train/1/000000.tar"))
    for key in set(files(store.root)) - {"unfinished/plan.json"}:
        store.delete(key)
    aged(store)
    (one,) = clean(store.url, remove=True).orphans
    assert one.why == "unfinished, 0 of 7 tasks, 0 shards"
    assert files(store.root) == {}


def test_ls_shows_it_as_what_it_is(outer):
    found = listing.look(outer.url)
    text = listing.lines(found)
    line = next(line for line in text if line.startswith("  half"))
    assert "digits" in line
    assert "unfinished, 3 of 7 tasks" in line
    assert "unfinished shardings (1)" in text
    assert f"  ! {GOES_ON}" in text
    assert "data sets (1)" in text
    tree = {one["name"]: one for one in found.as_json()["places"]}
    assert set(tree) == {"half", "whole"}
    assert (tree["half"]["kind"], tree["half"]["tasks"], tree["half"]["tasks_done"], tree["half"]["incomplete"]) == (
        "unfinished sharding", 7, 3, "unfinished, 3 of 7 tasks")
    assert tree["half"]["bytes"] == clean(outer.url).orphans[0].bytes
    assert any("unfinished, 3 of 7 tasks" in line for line in listing.lines(listing.look(f"{outer.url}/half")))


def test_ls_of_a_finished_one_shows_a_data_set(outer, tiny_data):
    copy(tiny_data, outer.at("half"))
    assert [(one.place.name, one.place.kind) for one in listing.look(outer.url).places] == [
        ("half", "data set"), ("whole", "data set")]


@pytest.mark.parametrize("exposure", [False, True])
def test_pull_of_it_says_what_to_do(outer, tiny_data, tmp_path, exposure):
    if exposure:
        copy(tiny_data.at("exposure"), outer.at("half/exposure"))
    with pytest.raises(NotFound) as raised:
        pull(f"{outer.url}/half", str(tmp_path / "copy"))
    assert str(raised.value) == (f"{outer.url}/half is a data set that is not whole (unfinished, 3 of 7 tasks): "
                                 f"{GOES_ON}; pull it then")
    assert not (tmp_path / "copy").exists()


def test_pull_of_what_holds_it_leaves_it_out_and_says_so(outer, tmp_path):
    said = []
    pull(outer.url, str(tmp_path / "copy"), say=said.append)
    assert set(os.listdir(tmp_path / "copy")) == {"whole"}
    assert said == [f"left out: {outer.url}/half is a data set that is not whole (unfinished, 3 of 7 tasks): "
                    f"{GOES_ON}; pull it then",
                    "left out: 2 objects that belong to none of them, such as 'half/notes.txt'"]


@pytest.mark.parametrize("tasks", [0, 1, 2, 3])
def test_what_a_real_sharding_leaves_when_it_is_killed(images, tmp_path, tasks):
    """Two classes, a spill, a bucket: it is counted, goes on after a look, and goes without a rest."""
    store = FolderStore(tmp_path / "data")
    with pytest.raises(KeyboardInterrupt):
        sharded(images, store, tasks)
    (place,) = listing.look(store.url).as_json()["places"]
    assert (place["tasks"], place["tasks_done"], place["recipe"]) == (4, tasks, "folder")
    (one,) = clean(store.url, remove=True).orphans
    assert (one.name, one.kept) == (".", "too young")
    assert one.bytes == place["bytes"] == sum(map(len, files(store.root).values()))
    copied = copy(store, FolderStore(tmp_path / "copy"))
    sharded(images, store)
    assert clean(store.url, older_than_s=0.0, remove=True).orphans == []
    aged(copied)
    clean(copied.url, remove=True)
    assert files(copied.root) == {}


@pytest.mark.parametrize("broken_after", [1, 2, 4, 5])
def test_a_sharding_goes_on_from_what_a_broken_off_clean_has_left(images, tmp_path, monkeypatch, broken_after):
    whole, store = FolderStore(tmp_path / "whole"), FolderStore(tmp_path / "data")
    sharded(images, whole)
    with pytest.raises(KeyboardInterrupt):
        sharded(images, store, 3)
    aged(store)
    delete, left = FolderStore.delete, [broken_after]

    def breaks(self, key):
        if "lease" not in key:
            if not left[0]:
                raise Fault("the storage does not answer")
            left[0] -= 1
        delete(self, key)

    monkeypatch.setattr(module, "in_parallel", lambda function, values: [function(value) for value in values])
    monkeypatch.setattr(FolderStore, "delete", breaks)
    before = files(store.root)
    with pytest.raises(Fault):
        clean(store.url, remove=True)
    assert len(files(store.root)) == len(before) - broken_after
    monkeypatch.setattr(FolderStore, "delete", delete)
    sharded(images, store)
    assert files(store.root) == files(whole.root)
