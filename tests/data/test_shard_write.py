"""Sharding: what is written, that it is the same each time, and what stops it."""

from __future__ import annotations

import io
import itertools
import json
import re
import shutil
import tarfile
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fcdd_dist.data.images import decode_stored, load_image, to_form
from fcdd_dist.data.manifest import load_manifest
from fcdd_dist.data.shards import tars
from fcdd_dist.data.shards.read import read_shard
from fcdd_dist.data.shards.spool import Spool, Spooled, exposure_target, nominal_target, set_aside
from fcdd_dist.data.shards.statistics import Tally, measure
from fcdd_dist.data.shards.tasks import NotBegun
from fcdd_dist.data.shards.unfinished import PLAN
from fcdd_dist.data.shards.write import shard, shard_exposure
from fcdd_dist.errors import BadInput, Conflict
from fcdd_dist.experiment import Form
from fcdd_dist.storage import FolderStore, MemoryStore, exists
from fcdd_dist.storage.lease import LEASE
from tests.support.ilsvrc import write_synset_tars

FORM = Form.parse("png-16-rgb")


@pytest.fixture(scope="module")
def raw(tmp_path_factory, fill_folder):
    """Two classes of 70 train and 5 test images, a kind that is only in test, and 60 exposure images in 3 folders.

    Nobody changes them.
    """
    root = tmp_path_factory.mktemp("images")
    fill_folder(root / "raw/train/good", 70, 0)
    fill_folder(root / "raw/train/Other", 70, 1000)
    for number, kind in enumerate(("good", "Other", "crack")):
        fill_folder(root / "raw/test" / kind, 5, 2000 + 10 * number)
    for number, name in enumerate(("n01", "n02", "n03")):
        fill_folder(root / "outliers" / name, 20, 3000 + 100 * number)
    return root


@pytest.fixture
def mine(raw, tmp_path):
    """A copy of the images, to be changed."""
    return Path(shutil.copytree(raw, tmp_path / "mine"))


@pytest.fixture(scope="module")
def written(raw):
    """The store and the manifest of a data set of all of them, which nobody changes."""
    return write(raw)


def write(raw, store=None, **options):
    store = MemoryStore() if store is None else store
    options = {"exposure": str(raw / "outliers"), "form": FORM, **options}
    return store, shard("folder", str(raw / "raw"), store, **options)


def contents(store):
    return {entry.key: store.read(entry.key) for entry in store.list()}


def samples(store, manifest, split, class_id):
    part = manifest.part(split, class_id)
    return [sample for record in part.shards for sample in read_shard(store, record)] if part else []


def counts(manifest):
    return {split: {class_id: part.samples for class_id, part in parts.items()}
            for split, parts in manifest.splits.items()}


def test_what_is_written(written):
    store, manifest = written
    assert load_manifest(store) == manifest
    assert (manifest.kind, manifest.recipe, str(manifest.form)) == ("nominal", "folder", "png-16-rgb")
    assert {entry.id: entry.name for entry in manifest.classes} == {"other": "Other", "good": "good", "crack": "crack"}
    assert counts(manifest) == {"train": {"other": 50, "good": 50}, "holdout": {"other": 20, "good": 20},
                                "test": {"other": 5, "good": 5, "crack": 5}}
    exposure = load_manifest(store.at("exposure"))
    assert exposure.kind == "exposure"
    assert counts(exposure) == {"train": {"exposure": 59}, "holdout": {"exposure": 1}}
    keys = {entry.key for entry in store.list()}
    assert keys >= {"manifest.json", "train/good/000000.tar", "exposure/manifest.json",
                    "exposure/holdout/exposure/000000.tar"}


def test_samples_hold_the_pixels_and_the_source(raw, written):
    store, manifest = written
    for sample in samples(store, manifest, "test", "crack"):
        pixels = to_form(load_image((raw / "raw" / sample.source).read_bytes()), FORM)
        np.testing.assert_array_equal(decode_stored(sample.image, FORM), pixels.transpose(2, 0, 1))
    assert [sample.key for sample in samples(store, manifest, "test", "crack")] == [f"crack-{n:08d}" for n in range(5)]
    both = samples(store, manifest, "train", "good") + samples(store, manifest, "holdout", "good")
    assert sorted(sample.key for sample in both) == [f"good-{number:08d}" for number in range(70)]
    assert all(sample.source == f"train/good/{int(sample.key[-8:]):03d}.png" for sample in both)


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_plain_webdataset_reads_our_shards(raw, tmp_path):
    """It leaves the file open, hence the filters."""
    import webdataset

    store, manifest = write(raw, FolderStore(tmp_path / "out"))
    url = str(tmp_path / "out" / manifest.part("train", "good").shards[0].key)
    plain = list(webdataset.WebDataset(url, shardshuffle=False))
    ours = samples(store, manifest, "train", "good")
    assert [sample["__key__"] for sample in plain] == [sample.key for sample in ours]
    assert all(sample["png"] == own.image for sample, own in zip(plain, ours, strict=True))
    assert json.loads(plain[0]["json"])["source"] == ours[0].source


def test_headers_are_fixed_and_plain(written):
    store, _ = written
    with tarfile.open(fileobj=io.BytesIO(store.read("train/good/000000.tar"))) as tar:
        members = tar.getmembers()
    assert all((m.mtime, m.uid, m.gid, m.uname, m.gname) == (0, 0, 0, "", "") and not m.pax_headers for m in members)


def test_the_same_bytes_each_time_wherever_it_is(raw, written, tmp_path):
    first, manifest = written
    again, _ = write(raw, FolderStore(tmp_path / "elsewhere"))
    assert contents(again) == contents(first)
    assert load_manifest(again).id == manifest.id


class Dying:
    """A store that fails at its n-th write, but for those of the lease."""

    def __init__(self, store, writes):
        self.store, self.url, self.left, self.lock = store, store.url, writes, threading.Lock()

    def __getattr__(self, name):
        return getattr(self.store, name)

    def at(self, prefix):
        inner = Dying(self.store.at(prefix), None)
        inner.count = self.count
        return inner

    def count(self, key):
        if key == LEASE:
            return
        with self.lock:
            if self.left == 0:
                raise KeyboardInterrupt
            self.left -= 1

    def write(self, key, data):
        self.count(key)
        self.store.write(key, data)

    def create(self, key, data):
        self.count(key)
        return self.store.create(key, data)


@pytest.mark.slow
def test_killed_anywhere_and_started_again(raw, written):
    whole, _ = written
    total = len(contents(whole))
    for writes in range(total):
        store = MemoryStore()
        with pytest.raises(KeyboardInterrupt):
            write(raw, Dying(store, writes))
        assert "manifest.json" not in contents(store)
        write(raw, store)
        assert contents(store) == contents(whole)


def test_a_data_set_is_never_changed(raw):
    store, _ = write(raw)
    before = contents(store)
    with pytest.raises(Conflict, match=r"is a data set already, made from something else \(source: null given"):
        shard_exposure("folder", str(raw / "outliers"), store.at("exposure"), form=FORM)
    store.delete("manifest.json")
    with pytest.raises(Conflict, match=r"exposure is a data set already: leave --exposure away to use it"):
        write(raw, store)
    del before["manifest.json"]
    assert contents(store) == before


def test_a_finished_one_has_nothing_left_to_do(raw, written, tmp_path):
    store, manifest = FolderStore(tmp_path / "data"), written[1]
    for key, data in contents(written[0]).items():
        store.write(key, data)
    said = []
    assert write(raw, store, say=said.append, allow_bad=0) == (store, manifest)
    assert said == [f"{store.url} is finished; nothing to do"]
    assert contents(store) == contents(written[0])


@pytest.mark.parametrize(("change", "difference"), [
    ({"form": Form.parse("png-15-rgb")}, r'\(form: "png-15-rgb" given, "png-16-rgb" there\)'),
    ({"exclude": ["n02"]}, r'exposure.excluded: \["n02"\] given, \[\] there; exposure.classes: 2 given, 3 there'),
    ({"classes": ["good", "crack"]}, r'classes.other: null given, "Other" there'),
    ({"exposure": "RAW/outliers/n01"}, r'exposure.source: "RAW/outliers/n01" given, "RAW/outliers" there'),
])
def test_a_finished_one_of_other_settings_is_refused(raw, written, change, difference):
    store, _ = written
    before = contents(store)
    change = {name: value.replace("RAW", str(raw)) if name == "exposure" else value for name, value in change.items()}
    with pytest.raises(Conflict, match=f"made from something else .*{difference.replace('RAW', str(raw))}"):
        write(raw, store, **change)
    assert contents(store) == before


def test_a_finished_one_that_can_not_be_vouched_for_is_refused(mine):
    store, manifest = write(mine)
    (mine / "raw/train/good/000.png").rename(mine / "000.png")
    with pytest.raises(Conflict, match=r"made from something else \(images.train: 139 given, 140 there\)"):
        write(mine, store)
    (mine / "000.png").rename(mine / "raw/train/good/000.png")
    whole = contents(store)

    def refused(key, data, reason):
        store.delete(key)
        if data is not None:
            store.write(key, data)
        with pytest.raises(BadInput, match=reason):
            write(mine, store)
        store.write(key, whole[key])

    refused("train/good/000000.tar", None, r"but its train/good/000000.tar is gone or has another size")
    refused("exposure/train/exposure/000000.tar", b"x", r"exposure is a data set already, but its train/exposure/0000")
    refused("exposure/manifest.json", None, "whose exposure set, memory:/exposure, is gone")
    refused("manifest.json", whole["manifest.json"][:-1], "manifest.json is damaged")
    older = manifest.model_copy(update={"made_from": None})
    assert older.id == manifest.id
    text = json.dumps({name: value for name, value in json.loads(older.to_json()).items() if name != "made_from"})
    refused("manifest.json", text.encode(), r"of an older version, which didn't note what it was made from")
    assert write(mine, store) == (store, manifest)


def test_other_files_are_not_mixed_with(raw, tmp_path):
    store = FolderStore(tmp_path)
    for key in (".DS_Store", "lease.json", "lease/000001.json", "unfinished/spill/000000.bin"):
        store.write(key, b"")
    store.write("notes.txt", b"mine")
    before = contents(store)
    with pytest.raises(Conflict, match=rf"{tmp_path} holds other files, such as notes.txt: choose another place"):
        write(raw, store)
    assert contents(store) == before


def test_what_is_refused_leaves_nothing(raw, tmp_path):
    """Also where it is refused by the runner, when the plan stands; and then another command may be given."""
    def unreachable(plan, tasks, out):
        assert exists(out, PLAN)
        raise NotBegun("the node 7 does not see it")

    store = FolderStore(tmp_path / "a/data")
    with pytest.raises(BadInput, match=r"^the node 7"):
        write(raw, store, runner=unreachable)
    assert list(tmp_path.iterdir()) == []
    store.root.mkdir(parents=True)
    with pytest.raises(BadInput, match=r"^the node 7"):
        write(raw, store, runner=unreachable)
    assert list(tmp_path.rglob("*")) == [tmp_path / "a", tmp_path / "a/data"], "a folder of the user's"
    with pytest.raises(Killed):
        write(raw, store, runner=dying)
    with pytest.raises(BadInput, match=r"^the node 7"):
        write(raw, store, runner=unreachable)
    assert exists(store, PLAN), "another's beginning"


def dying(plan, tasks, out):
    raise Killed


class Killed(Exception):
    pass


def test_resharding_keeps_the_holdout_and_the_content(mine, written, monkeypatch):
    store, manifest = written
    monkeypatch.setattr(tars, "MAX_SAMPLES", 7)
    small, resharded = write(mine)
    assert len(resharded.part("train", "good").shards) == 8
    assert resharded.id != manifest.id
    assert resharded.content == manifest.content
    assert resharded.part("train", "good").statistics == manifest.part("train", "good").statistics
    for number, path in enumerate(sorted((mine / "raw/train/good").iterdir())):  # other names, so another order
        path.rename(path.with_name(f"{(number * 37) % 70:03d}-renamed.png"))
    renamed_store, renamed = write(mine)
    assert renamed.content == manifest.content

    def held(store, manifest):
        return {bytes(sample.image) for sample in samples(store, manifest, "holdout", "good")}

    assert held(small, resharded) == held(store, manifest) == held(renamed_store, renamed)


def test_content_knows_split_and_class(mine, written):
    _, manifest = written
    (mine / "raw/test/crack/000.png").rename(mine / "raw/test/good/moved.png")
    _, moved = write(mine)
    assert moved.content != manifest.content


def test_shards_are_bounded_in_bytes(raw, monkeypatch):
    monkeypatch.setattr(tars, "MAX_BYTES", 40 << 10)
    store, manifest = write(raw)
    records = manifest.part("train", "good").shards
    assert len(records) > 2
    assert all(len(store.read(record.key)) == record.bytes <= 40 << 10 for record in records)


def test_exposure_is_shuffled_over_its_classes_and_leaves_out_what_it_shall(raw):
    store = MemoryStore()
    manifest = shard_exposure("folder", str(raw / "outliers"), store, exclude=["n02"], form=FORM)
    assert manifest.excluded == ("n02",)
    sources = [sample.source[:3] for sample in samples(store, manifest, "train", "exposure")]
    assert set(sources) == {"n01", "n03"}
    assert sum(a != b for a, b in itertools.pairwise(sources)) > 8
    keys = [sample.key for split in ("holdout", "train") for sample in samples(store, manifest, split, "exposure")]
    assert keys == [f"exposure-{number:08d}" for number in range(40)]
    with pytest.raises(BadInput, match=r"no class 'n04'.*it has: n01, n02, n03"):
        shard_exposure("folder", str(raw / "outliers"), MemoryStore(), exclude=["n04"], form=FORM)
    with pytest.raises(BadInput, match=r"no exposure images besides those of n01, n02, n03, which are left out: give "
                                       r"others, or leave out less \(--exclude A,B, or a list: imagenet1k, .*, none"):
        shard_exposure("folder", str(raw / "outliers"), MemoryStore(), exclude=["n01", "n02", "n03"], form=FORM)


def test_equal_images_fall_together(mine):
    for number in range(20):
        data = (mine / "raw/train/good/000.png").read_bytes()
        (mine / f"raw/train/good/copy-{number}.png").write_bytes(data)
    store, manifest = write(mine)
    split_of = {}
    for split in ("train", "holdout"):
        for sample in samples(store, manifest, split, "good"):
            split_of.setdefault(bytes(sample.image), set()).add(split)
    assert all(len(splits) == 1 for splits in split_of.values())
    assert manifest.part("holdout", "good").samples == 20


def test_a_class_of_equal_images_has_no_holdout(mine):
    for path in (mine / "raw/train/good").iterdir():
        path.write_bytes((mine / "raw/test/good/000.png").read_bytes())
    _, manifest = write(mine)
    assert manifest.part("holdout", "good") is None
    assert manifest.part("train", "good").samples == 70


def test_sizes_of_the_holdout():
    assert [nominal_target(n) for n in (0, 1, 2, 3, 30, 60, 61, 400, 1000, 6000, 10**6)] == [
        0, 0, 0, 1, 10, 20, 20, 20, 50, 300, 500]
    assert [exposure_target(n) for n in (0, 1, 2, 3, 100, 24900, 10**6)] == [0, 0, 0, 1, 1, 249, 2000]


def test_few_images(mine):
    for path in sorted((mine / "raw/train/good").iterdir())[1:]:
        path.unlink()
    _, manifest = write(mine)
    assert (manifest.part("train", "good").samples, manifest.part("holdout", "good")) == (1, None)


def test_chosen_classes_and_those_that_are_not_there(raw):
    _, manifest = write(raw, classes=["Other"])
    assert [entry.id for entry in manifest.classes] == ["other"]
    with pytest.raises(BadInput, match=r"no class 'goof'.*did you mean 'good'"):
        write(raw, classes=["goof"])
    with pytest.raises(BadInput, match="has no train images of crack"):
        write(raw, classes=["crack"])
    for names, said in ((["good", "good"], "class good is named twice"),
                        (["Other", "other"], "class other is named twice: as Other and as other")):
        with pytest.raises(BadInput, match=f"{said}$"):
            write(raw, classes=names)


def test_own_images_need_exposure(raw):
    with pytest.raises(BadInput, match="--exposure"):
        write(raw, exposure=None)
    store = MemoryStore()
    shard_exposure("folder", str(raw / "outliers"), store.at("exposure"), form=FORM)
    before = contents(store)
    write(raw, store, exposure=None)
    assert contents(store).items() > before.items()
    with pytest.raises(BadInput, match="exclude names classes of exposure"):
        write(raw, exposure=None, exclude=["n01"])


def test_bad_images_are_left_out_counted_and_named(mine):
    for number in range(3):
        (mine / f"raw/train/good/bad-{number}.jpg").write_bytes(b"\xff\xd8\xff" + bytes(number))
    (mine / "raw/test/good/Thumbs.db").write_bytes(b"junk")
    store, manifest = write(mine)
    assert [entry.source for entry in manifest.left_out] == [f"train/good/bad-{number}.jpg" for number in range(3)]
    assert all(entry.reason and entry.split == "train" for entry in manifest.left_out)
    (mine / "raw/train/good/zero.png").write_bytes(b"")
    store = MemoryStore()
    with pytest.raises(BadInput, match=r"more than 3 of the 144 train .*bad-0.*--allow-bad") as caught:
        write(mine, store)
    assert "\n" not in str(caught.value)
    assert "manifest.json" not in contents(store)
    _, manifest = write(mine, allow_bad=4)
    assert len(manifest.left_out) == 4
    with pytest.raises(BadInput, match="more than 0 of"):
        write(mine, allow_bad=0)


def test_a_class_without_any_usable_train_image(mine):
    for path in (mine / "raw/train/good").iterdir():
        path.write_bytes(b"broken")
    with pytest.raises(BadInput, match=r"'good' has no train image that can be used"):
        write(mine, allow_bad=100)


def test_an_exposure_set_without_any_usable_image(mine):
    for path in (mine / "outliers").rglob("*.png"):
        path.write_bytes(b"broken")
    with pytest.raises(BadInput, match="no exposure image that can be used"):
        write(mine, allow_bad=100)


def test_odd_names_reach_the_samples(mine, make_image):
    make_image(1).save(mine / "raw/test/good/new\nline “x”.png")
    store, manifest = write(mine)
    assert "test/good/new\nline “x”.png" in {s.source for s in samples(store, manifest, "test", "good")}


def test_digits_come_with_their_exposure(digits_data):
    store = FolderStore(digits_data)
    exposure = load_manifest(store.at("exposure"))
    assert exposure.form == load_manifest(store).form
    assert sum(part.samples for parts in exposure.splits.values() for part in parts.values()) > 2800


def test_some_digits_and_other_exposure(raw):
    lines = []
    manifest = shard("digits", None, MemoryStore(), classes=["0", "digit 1"], exposure=str(raw / "outliers"),
                     progress=lines.append)
    assert [entry.id for entry in manifest.classes] == ["0", "1"]
    assert "360 of 360 images" in lines
    assert lines[-1] == "60 of 60 exposure images into shards"


def test_progress_says_what_is_an_estimate(tmp_path, make_image, file_bytes):
    """Tars are weighed, not counted, and these are filled up to 10,240 bytes."""
    write_synset_tars(tmp_path, {wnid: [file_bytes(make_image(seed), "JPEG")] for seed, wnid in
                                 enumerate(("n00000001", "n00000002"))})
    lines = []
    shard_exposure("folder", str(tmp_path), MemoryStore(), exclude=(), form=FORM, progress=lines.append)
    assert all(re.match(r"2 of about \d+ exposure images", line) for line in lines)
    assert len(lines) == 2


def test_jpeg_statistics_are_those_of_the_decoded_images(raw):
    form = Form.parse("jpeg90-16-rgb")
    store, manifest = write(raw, form=form)
    pixels = np.stack([decode_stored(sample.image, form) for sample in samples(store, manifest, "train", "good")])
    values = pixels / 255
    statistics = manifest.part("train", "good").statistics
    np.testing.assert_allclose(statistics.mean, values.mean(axis=(0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(statistics.std, values.std(axis=(0, 2, 3), ddof=0), rtol=1e-4)
    np.testing.assert_allclose(statistics.minimum, values.min(axis=(0, 2, 3)))
    centred = values - values.mean(axis=(1, 2, 3), keepdims=True)
    lcn = centred / np.abs(centred).mean(axis=(1, 2, 3), keepdims=True)
    np.testing.assert_allclose(statistics.lcn_minimum, lcn.min(axis=(0, 2, 3)), rtol=1e-9)
    np.testing.assert_allclose(statistics.lcn_maximum, lcn.max(axis=(0, 2, 3)), rtol=1e-9)


def test_statistics_of_an_image_of_one_value():
    tally = Tally()
    tally.add(measure(np.full((1, 4, 4), 51, np.uint8)))
    statistics = tally.statistics()
    assert (statistics.mean, statistics.std, statistics.lcn_minimum, statistics.lcn_maximum) == (
        (0.2,), (0.0,), (0.0,), (0.0,))


def test_a_spool_beyond_memory_gives_the_same(monkeypatch):
    from fcdd_dist.data.shards import spool

    monkeypatch.setattr(spool, "IN_MEMORY", 1000)
    draw = np.random.default_rng(0)
    kept = [Spooled(draw.bytes(32), draw.bytes(int(draw.integers(900))), b"{}", draw.random((7, 3))) for _ in range(50)]
    with Spool() as store:
        for sample in kept:
            store.add(sample)
        order, starts = store.by_digest()
        assert [kept[number].digest for number in order] == sorted(sample.digest for sample in kept)
        assert len(starts) == 50
        for number in draw.permutation(50).tolist():
            got = store.get(number)
            assert got[:3] == kept[number][:3]
            np.testing.assert_array_equal(got.row, kept[number].row)
        assert set_aside(store, 7).sum() == 7
    with Spool() as store:
        assert not len(set_aside(store, 5))


def test_an_image_scores_as_its_stored_self():
    """The whole image is scaled: a wide picture is squeezed, not cropped."""
    wide = Image.fromarray(np.tile(np.arange(0, 256, 4, dtype=np.uint8), (8, 1)))
    pixels = to_form(wide, Form.parse("png-16-grey"))[..., 0]
    assert pixels[0, 0] < 12
    assert pixels[0, -1] > 240
