"""A sharding in tasks: the same bytes in whatever order, however cut and interrupted; and what it refuses."""

from __future__ import annotations

import io
import itertools
import json
import subprocess
import sys
from collections import Counter, namedtuple

import numpy as np
import pytest

from fcdd_dist.data.manifest import MANIFEST, load_manifest
from fcdd_dist.data.shards import plan as plans
from fcdd_dist.data.shards import sharding, tars, tasks
from fcdd_dist.data.shards.plan import expected_bytes
from fcdd_dist.data.shards.read import read_shard
from fcdd_dist.data.shards.tasks import one_after_another, perform
from fcdd_dist.data.shards.unfinished import FOLDER, PLAN, spill_key, standing_plan
from fcdd_dist.data.shards.write import shard, shard_exposure
from fcdd_dist.errors import BadInput, Conflict, Damaged
from fcdd_dist.experiment import Form
from fcdd_dist.storage import FolderStore, MemoryStore

pytestmark = pytest.mark.slow  # together: half a minute
FORM = Form.parse("png-8-rgb")


@pytest.fixture
def raw(tmp_path, fill_folder):
    """Two classes, and 120 exposure images in 12 folders."""
    for number, kind in enumerate(("good", "other")):
        fill_folder(tmp_path / "raw/train" / kind, 25, 1000 * number)
        fill_folder(tmp_path / "raw/test" / kind, 5, 1000 * number + 500)
    for number in range(12):
        fill_folder(tmp_path / f"outliers/k{number:02}", 10, 5000 + 100 * number)
    return tmp_path


@pytest.fixture
def cut_small(monkeypatch):
    """Six spills and eight buckets, some shards of each."""
    monkeypatch.setattr(plans, "SPILL_SAMPLES", 20)
    monkeypatch.setattr(plans, "BUCKET_SAMPLES", 15)
    monkeypatch.setattr(tars, "MAX_SAMPLES", 7)


def run(raw, store=None, **options):
    store = MemoryStore() if store is None else store
    options = {"exposure": str(raw / "outliers"), "form": FORM, **options}
    return store, shard("folder", str(raw / "raw"), store, **options)


def contents(store):
    return {entry.key: store.read(entry.key) for entry in store.list()}


def keys_and_sources(store, split="train"):
    part = load_manifest(store).part(split, "exposure")
    return [(sample.key, sample.source) for record in part.shards for sample in read_shard(store, record)]


def backwards(plan, tasks, out):
    return [(task, perform(plan, task, out)) for task in reversed(list(tasks))]


def twice(plan, tasks, out):
    """As where a worker was lost after its work, and another did it again."""
    for task in tasks:
        perform(plan, task, out)
        yield task, perform(plan, task, out)


def test_the_same_bytes_in_any_order_and_however_spilled(raw, cut_small, monkeypatch):
    store, manifest = run(raw)
    exposure = load_manifest(store.at("exposure"))
    assert len(exposure.part("train", "exposure").shards) >= 16
    assert not any(key.startswith(FOLDER) for key in contents(store))
    for runner in (backwards, twice):
        assert contents(run(raw, runner=runner)[0]) == contents(store)
    monkeypatch.setattr(plans, "SPILL_SAMPLES", 50)
    assert contents(run(raw)[0]) == contents(store)
    monkeypatch.setattr(plans, "BUCKET_SAMPLES", 1000)  # one bucket: the same order, cut into other shards
    whole, _ = run(raw)
    assert keys_and_sources(whole.at("exposure")) == keys_and_sources(store.at("exposure"))
    assert keys_and_sources(whole.at("exposure"), "holdout") == keys_and_sources(store.at("exposure"), "holdout")
    assert load_manifest(whole.at("exposure")).content == exposure.content
    for ours, theirs in zip(load_manifest(whole.at("exposure")).part("train", "exposure").statistics,
                            exposure.part("train", "exposure").statistics, strict=True):
        assert ours[0] == theirs[0]
        np.testing.assert_allclose(ours[1], theirs[1], rtol=1e-12)
    assert load_manifest(whole).id == manifest.id


def test_exposure_is_numbered_through_and_in_the_order_of_its_hashes(raw, cut_small):
    store = MemoryStore()
    manifest = shard_exposure("folder", str(raw / "outliers"), store, form=FORM)
    numbered = sorted(keys_and_sources(store) + keys_and_sources(store, "holdout"))
    assert [key for key, _ in numbered] == [f"exposure-{number:08d}" for number in range(120)]
    assert keys_and_sources(store, "holdout")[0][0] == "exposure-00000000"
    names = [record.key for record in manifest.part("train", "exposure").shards]
    assert sorted(names) == names
    assert {int(name[-10:-4]) // tars.NUMBERS for name in names} == set(range(8))


def test_the_shuffle_is_as_good_as_a_uniform_one(raw, cut_small):
    """Neighbours are of one class as often as by chance: the mean is 119 * 9 / 119 of 119 pairs, the deviation 2.7."""
    store = MemoryStore()
    shard_exposure("folder", str(raw / "outliers"), store, form=FORM)
    order = [source[:3] for _, source in sorted(keys_and_sources(store) + keys_and_sources(store, "holdout"))]
    assert abs(sum(a == b for a, b in itertools.pairwise(order)) - 9) < 4 * 2.7
    halves = [Counter(order[:60]), Counter(order[60:])]
    chi_square = sum((half[name] - 5) ** 2 / 5 for half in halves for name in set(order))
    assert chi_square < 31.3  # 11 degrees of freedom: 0.1 % of uniform shuffles are above


class Killed(Exception):
    pass


class Dying(MemoryStore):
    """Fails at its n-th write, but for those of the lease, and at all that come after."""

    def __init__(self, objects, writes):
        super().__init__()
        self.left = [writes]
        self._objects = objects

    def at(self, prefix):
        inner = super().at(prefix)
        inner.left = self.left
        inner.__class__ = Dying
        return inner

    def _count(self, key):
        if not key.startswith("lease"):
            if self.left[0] == 0:
                raise Killed
            self.left[0] -= 1

    def write(self, key, data):
        self._count(key)
        super().write(key, data)

    def create(self, key, data):
        self._count(key)
        return super().create(key, data)

    def delete(self, key):
        self._count(key)
        super().delete(key)


def test_killed_at_any_write_or_delete_and_started_again(raw, cut_small):
    whole, _ = run(raw)
    writes = 0
    while True:
        store = MemoryStore()
        try:
            run(raw, Dying(store._objects, writes))
        except Killed:
            pass
        else:
            break
        run(raw, store)
        assert contents(store) == contents(whole), writes
        writes += 1
    assert writes > 60


def counting(done):
    def runner(plan, tasks, out):
        for task, record in one_after_another(plan, tasks, out):
            done.append(task.name)
            yield task, record
    return runner


def stopping(after):
    def runner(plan, tasks, out):
        for number, pair in enumerate(one_after_another(plan, tasks, out)):
            if number == after:
                raise Killed
            yield pair
    return runner


def test_what_is_finished_is_not_done_again(raw, cut_small, tmp_path):
    store, done = FolderStore(tmp_path / "data"), []
    with pytest.raises(Killed):
        run(raw, store, runner=stopping(1))  # whose second record is written
    assert standing_plan(store).tasks[:3] == ("nominal-good", "nominal-other", "spill-000000")
    store.write(f"{FOLDER}mine.txt", b"somebody's")
    run(raw, store, runner=counting(done))
    assert done == [f"spill-{number:06}" for number in range(6)] + [f"gather-{number:06}" for number in range(8)]
    assert [entry.key for entry in store.list(FOLDER)] == [f"{FOLDER}mine.txt"]


@pytest.mark.parametrize(("change", "message"), [
    ({"form": Form.parse("png-9-rgb")}, r"form: \"png-8-rgb\" -> \"png-9-rgb\""),
    ({"exclude": ["k03"]}, r"exposure.excluded: \[\] -> \[\"k03\"\]"),
    ({"classes": ["good"]}, r"classes.other: \"other\" -> null"),
    ({"exposure": None}, r"exposure: \{.*\.\.\. -> null"),
])
def test_a_beginning_of_other_settings_is_refused(raw, cut_small, change, message, fill_folder):
    store = MemoryStore()
    with pytest.raises(Killed):
        run(raw, store, runner=stopping(3))
    before = contents(store)
    if change.get("exposure", "") is None:
        other = MemoryStore()
        shard_exposure("folder", str(raw / "outliers"), other, form=FORM)
        for key, data in contents(other).items():
            store.write(f"exposure/{key}", data)
        before = contents(store)
    with pytest.raises(Conflict, match=f"holds the beginning of another sharding .*{message}.*same command"):
        run(raw, store, **change)
    assert contents(store) == before


def test_classes_that_have_other_images_than_before_are_done_again(raw, cut_small, fill_folder):
    store, done = MemoryStore(), []
    with pytest.raises(Killed):
        run(raw, store, runner=stopping_at("gather-000004"))
    fill_folder(raw / "raw/train/good", 30, 9000)
    for path in sorted((raw / "outliers/k05").iterdir())[:3]:
        path.unlink()
    run(raw, store, runner=counting(done))
    assert "nominal-good" in done
    assert "nominal-other" not in done
    assert "gather-000000" in done
    assert contents(store) == contents(run(raw)[0])
    (raw / "outliers/k99").mkdir()
    fill_folder(raw / "outliers/k99", 3, 9900)
    other = MemoryStore()
    with pytest.raises(Killed):
        run(raw, other, runner=stopping(3))
    fill_folder(raw / "outliers/k98", 3, 9800)
    with pytest.raises(Conflict, match=r"exposure.classes: \[.*\.\.\. -> "):
        run(raw, other)


def test_mended_images_are_read_again(raw, cut_small):
    mended = {}
    for path in sorted((raw / "outliers/k01").iterdir())[:4]:
        mended[path] = path.read_bytes()
        path.write_bytes(b"broken")
    store = MemoryStore()
    with pytest.raises(BadInput, match=r"more than 3 of the 120 exposure images can't be used: 'k01/.*--allow-bad N"):
        run(raw, store)
    assert len(load_manifest(run(raw, allow_bad=4)[0].at("exposure")).left_out) == 4
    for path, data in mended.items():
        path.write_bytes(data)
    run(raw, store)
    assert contents(store) == contents(run(raw)[0])
    assert load_manifest(store.at("exposure")).left_out == ()


def test_bad_images_of_several_spills_are_mended_too(raw, cut_small):
    """Each spill has fewer than are allowed: it ends when they are counted together."""
    mended = {path: path.read_bytes() for name in ("k01", "k05", "k09", "k11")
              for path in sorted((raw / "outliers" / name).iterdir())[:1]}
    for path in mended:
        path.write_bytes(b"broken")
    store = MemoryStore()
    with pytest.raises(BadInput, match="more than 3 of the 120 exposure images"):
        run(raw, store)
    for path, data in mended.items():
        path.write_bytes(data)
    done = []
    run(raw, store, runner=counting(done))
    assert "spill-000000" in done  # the one of k01
    assert "spill-000001" not in done  # which had no bad one
    assert contents(store) == contents(run(raw)[0])


def test_test_images_among_the_exposure_are_left_out(raw):
    copies = sorted((raw / "raw/test/other").iterdir())[:2]
    for path in copies:
        (raw / "outliers/k07" / f"copy-{path.name}").write_bytes(path.read_bytes())
    store, _ = run(raw)
    exposure = load_manifest(store.at("exposure"))
    assert [entry.source for entry in exposure.left_out] == [f"k07/copy-{path.name}" for path in copies]
    assert all("test or held-out images" in entry.reason for entry in exposure.left_out)
    assert sum(part.samples for parts in exposure.splits.values() for part in parts.values()) == 120
    for path in sorted((raw / "raw/test/good").iterdir())[:2]:
        (raw / "outliers/k08" / f"copy-{path.name}").write_bytes(path.read_bytes())
    with pytest.raises(BadInput, match=r"more than 3 of the 124 exposure images can't be used: 'k07/copy-.*test or"):
        run(raw)


def test_a_damaged_spill_is_noticed(raw, cut_small):
    def damaging(plan, tasks, out):
        for pair in one_after_another(plan, tasks, out):
            if pair[0].name == "spill-000005":
                data = bytearray(out.read(spill_key(3)))
                data[len(data) // 2] ^= 1
                out.write(spill_key(3), bytes(data))
            yield pair

    store = MemoryStore()
    with pytest.raises(Damaged, match=r"spill/000003\.bin has other bytes .*: delete it and shard again"):
        run(raw, store, runner=damaging)
    assert "exposure/manifest.json" not in contents(store)
    store.delete(spill_key(3))
    run(raw, store)
    assert contents(store) == contents(run(raw)[0])


def test_killed_while_tidying_up(raw):
    store, manifest = run(raw)
    whole = contents(store)
    other = MemoryStore()
    with pytest.raises(Killed):
        run(raw, other, runner=stopping(1))
    store.write(PLAN, other.read(PLAN))
    assert run(raw, store)[1] == manifest
    assert contents(store) == whole
    store.write(PLAN, other.read(PLAN))
    with pytest.raises(Conflict, match="is a data set already"):
        run(raw, store, form=Form.parse("png-9-rgb"))


def test_a_damaged_or_newer_plan(raw):
    for text, message in ((b"{}", "plan.json is damaged: delete"), (b'{"schema_version": 2}', "newer fcdd_dist")):
        store = MemoryStore()
        store.write(PLAN, text)
        with pytest.raises(BadInput, match=message):
            run(raw, store)


def test_a_class_of_wordnet_that_both_have(tmp_path, fill_folder):
    for name in ("n01440764", "n02979186"):
        fill_folder(tmp_path / "raw/train" / name, 5, 0)
        fill_folder(tmp_path / "outliers" / name, 5, 100)
    with pytest.raises(BadInput, match=r"has images of 2 of the classes to be learned .*\(--exclude n01440764,n0297"):
        run(tmp_path)
    store, _ = run(tmp_path, exclude=["n01440764"], classes=["n01440764"])
    assert load_manifest(store.at("exposure")).excluded == ("n01440764",)


def test_too_little_room(raw, tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(sharding.shutil, "disk_usage", lambda path: usage(10**9, 10**9, 50_000))
    with pytest.raises(BadInput, match=r"data/set has 50.0 kB free, and about 57.6 kB are needed"):
        run(raw, FolderStore(tmp_path / "data/set"))
    assert not (tmp_path / "data").exists()


def test_expected_bytes_are_of_the_right_size():
    assert expected_bytes(Form.parse("png-32-rgb")) == 3072
    assert 15_000 < expected_bytes(Form.parse("jpeg90-256-rgb")) < 20_000
    assert expected_bytes(Form.parse("jpeg90-short256-rgb")) > expected_bytes(Form.parse("jpeg90-256-rgb"))


def test_a_plan_holds_no_images(raw, cut_small):
    """What is kept for 14 million images: names of classes and numbers of tasks."""
    store = MemoryStore()
    with pytest.raises(Killed):
        run(raw, store, runner=stopping(0))
    plan = json.loads(store.read(PLAN))
    assert plan["exposure"]["spills"][0] == [["k00", 0, 1], ["k01", 0, 1]]
    assert plan["exposure"]["buckets"] == 8
    assert MANIFEST not in contents(store)


def test_a_class_of_many_images_is_cut(raw, cut_small, fill_folder):
    fill_folder(raw / "outliers/k00", 60, 8000)
    store, done = MemoryStore(), []
    shard_exposure("folder", str(raw / "outliers"), store, form=FORM, runner=counting(done))
    assert sum(name.startswith("spill") for name in done) > 7
    monolith = MemoryStore()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plans, "SPILL_SAMPLES", 1000)
        shard_exposure("folder", str(raw / "outliers"), monolith, form=FORM)
    assert contents(monolith) == contents(store)


def test_nominal_images_that_were_mended_are_read_again(raw):
    """Bad ones of two classes, whose records and shards are there."""
    mended = {}
    for kind in ("good", "other"):
        for path in sorted((raw / f"raw/train/{kind}").iterdir())[:2]:
            mended[path] = path.read_bytes()
            path.write_bytes(b"broken")
    store = MemoryStore()
    with pytest.raises(BadInput, match="more than 3 of the 50 train images"):
        run(raw, store)
    for path, data in mended.items():
        path.write_bytes(data)
    run(raw, store)
    assert contents(store) == contents(run(raw)[0])


def test_allowed_first_and_mended_then(raw, cut_small):
    """Records of later rounds depend on those that are done again."""
    bad = sorted((raw / "outliers/k03").iterdir())[:4]
    mended = {path: path.read_bytes() for path in bad}
    for path in bad:
        path.write_bytes(b"broken")
    store = MemoryStore()
    with pytest.raises(Killed):
        run(raw, store, allow_bad=4, runner=stopping_at("gather-000004"))
    with pytest.raises(BadInput, match="more than 3 of"):
        run(raw, store)
    for path, data in mended.items():
        path.write_bytes(data)
    run(raw, store)
    assert contents(store) == contents(run(raw)[0])


def stopping_at(name):
    def runner(plan, tasks, out):
        for task in tasks:
            if task.name == name:
                raise Killed
            yield task, perform(plan, task, out)
    return runner


@pytest.mark.parametrize("lost", ["train/good/000000.tar", "exposure/train/exposure/000000.tar", spill_key(2)])
def test_what_is_lost_in_between_is_written_anew(raw, cut_small, lost):
    store = MemoryStore()
    with pytest.raises(Killed):
        run(raw, store, runner=stopping_at("gather-000004"))
    store.delete(lost)
    run(raw, store)
    assert contents(store) == contents(run(raw)[0])


def test_a_shard_that_is_lost_at_the_end_is_noticed(raw, cut_small):
    def losing(plan, tasks, out):
        for pair in one_after_another(plan, tasks, out):
            if pair[0].name == "gather-000007":
                out.delete("train/good/000000.tar")
            yield pair

    store = MemoryStore()
    with pytest.raises(Conflict, match=r"train/good/000000\.tar was removed or changed while the rest was written"):
        run(raw, store, runner=losing)
    assert MANIFEST not in contents(store)
    run(raw, store)
    assert contents(store) == contents(run(raw)[0])


def test_records_without_a_plan_are_not_trusted(raw, cut_small):
    store = MemoryStore()
    with pytest.raises(Killed):
        run(raw, store, runner=stopping_at("gather-000004"))
    store.delete(PLAN)
    other = Form.parse("png-9-rgb")
    run(raw, store, form=other)
    assert contents(store) == contents(run(raw, form=other)[0])


def test_a_task_that_comes_late_leaves_nothing(raw, cut_small):
    late = []

    def keeping(plan, tasks, out):
        for task in tasks:
            late.append((plan, task))
            yield task, perform(plan, task, out)

    store, _ = run(raw, runner=keeping)
    before = contents(store)
    for plan, task in late:
        with pytest.raises(Conflict, match="has ended without this process"):
            perform(plan, task, store)
    assert contents(store) == before


def test_a_machine_with_other_versions_writes_nothing(raw, monkeypatch):
    def elsewhere(plan, todo, out):
        monkeypatch.setattr(tasks, "versions", lambda: plan.versions | {"pillow": "1.0"})
        return list(one_after_another(plan, todo, out))

    with pytest.raises(BadInput, match=r"has pillow 1\.0 and not .*: make all machines alike"):
        run(raw, runner=elsewhere)


def test_digests_that_are_lost_let_no_test_image_through(raw):
    tasks._avoided.clear()

    def losing(plan, todo, out):
        for task in todo:
            if task.name.startswith("spill"):
                out.delete(f"{FOLDER}digests.bin")
            yield task, perform(plan, task, out)

    with pytest.raises(BadInput, match=r"there is no memory:/unfinished/digests\.bin"):
        run(raw, runner=losing)


def test_an_exposure_set_is_not_written_into_a_sharding(raw, cut_small, tmp_path):
    store = FolderStore(tmp_path / "data")
    with pytest.raises(Killed):
        run(raw, store, runner=stopping_at("gather-000004"))
    with pytest.raises(Conflict, match="holds the beginning of a sharding with exposure of its own"):
        shard_exposure("folder", str(raw / "outliers"), FolderStore(tmp_path / "data/exposure"), form=FORM)
    run(raw, store)
    assert contents(store) == contents(run(raw)[0])


def test_a_list_is_left_out_or_it_is_said_that_it_can_not(raw):
    with pytest.raises(BadInput, match=r"its classes \(k00, k01, k02, \.\.\.\) are no WordNet ids.*--exclude none"):
        shard_exposure("imagenet30", str(raw / "outliers"), MemoryStore(), form=FORM)
    manifest = shard_exposure("imagenet30", str(raw / "outliers"), MemoryStore(), form=FORM, exclude=())
    assert manifest.excluded == ()


def test_shards_are_the_bytes_that_webdatasets_writer_makes(raw):
    from webdataset import TarWriter

    store, manifest = run(raw)
    for record in manifest.part("train", "good").shards:
        file = io.BytesIO()
        with TarWriter(file, user="", group="", mode=0o444, mtime=0, encoder=False) as tar:
            for sample in read_shard(store, record):
                tar.write({"__key__": sample.key, "png": bytes(sample.image), "json": bytes(sample.meta)})
        assert file.getvalue() == store.read(record.key)


def test_sharding_needs_no_torch(raw, tmp_path):
    """Half a gigabyte in each of many workers."""
    code = f"""
import sys
from fcdd_dist.data.shards.write import shard
from fcdd_dist.experiment import Form
from fcdd_dist.storage import FolderStore
shard("folder", {str(raw / "raw")!r}, FolderStore({str(tmp_path / "data")!r}), exposure={str(raw / "outliers")!r},
      form=Form.parse("jpeg90-8-rgb"))
assert not {{"torch", "ray", "webdataset"}} & sys.modules.keys()
"""
    subprocess.run([sys.executable, "-c", code], check=True)
