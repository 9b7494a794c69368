"""What is known of a sweep's data before anything starts."""

from __future__ import annotations

import pytest

from fcdd_dist.data.manifest import EXPOSURE, MANIFEST, ClassName, Manifest, Part, Shard, Statistics
from fcdd_dist.errors import BadInput
from fcdd_dist.experiment import Form
from fcdd_dist.recipes import recipe
from fcdd_dist.storage import FolderStore
from fcdd_dist.sweep.checks import check_classes, check_search, check_size, check_tried, prepare_first
from tests.sweep.making import search, sweep

FORM = Form.parse("png-28-grey")
NAMES = {"trouser": "Trouser", "bag": "Bag", "coat": "Coat", "all-in-one": "All"}
EVERY = {"train": ("trouser", "bag", "coat"), "holdout": ("trouser", "bag"), "test": tuple(NAMES)}
STATISTICS = Statistics(pixels=1, sum=(0.5,), sum_of_squares=(0.5,), minimum=(0.0,), maximum=(1.0,), lcn_minimum=(0.0,),
                        lcn_maximum=(1.0,))


def write(store, splits, kind="nominal", names=NAMES):
    """A data set of a shard for each class of each split, which nobody reads."""
    parts: dict[str, dict] = {split: {} for split in splits}
    for split, one in [(split, one) for split, classes in splits.items() for one in classes]:
        shard = Shard(key=f"{split}/{one}/000000.tar", samples=1, bytes=10240, sha256="0" * 64)
        store.write(shard.key, bytes(shard.bytes))
        parts[split][one] = Part(shards=(shard,), statistics=STATISTICS)
    manifest = Manifest(kind=kind, recipe="fmnist", form=FORM, splits=parts, content="0" * 64, versions={},
                        classes=tuple(ClassName(id=one, name=name) for one, name in names.items()))
    store.write(MANIFEST, manifest.to_json().encode())
    return manifest


@pytest.fixture
def data(tmp_path):
    write(FolderStore(tmp_path), EVERY)
    write(FolderStore(tmp_path / EXPOSURE), {"train": (EXPOSURE,), "holdout": (EXPOSURE,)}, "exposure",
          {EXPOSURE: EXPOSURE})
    return tmp_path


def prepared(data, *nominal, name="fmnist", exposure=None, settings=()):
    first = recipe(name).experiment(nominal[0], 0).override(settings)
    return prepare_first(first, str(data), exposure, "/nowhere/run", nominal=nominal)


@pytest.mark.parametrize(("wanted", "found"), [
    (["all"], ("trouser", "bag", "coat")),  # in the order of the manifest, those that can be trained on
    (["coat", "Trouser"], ("coat", "trouser")), (["bag"], ("bag",))])
def test_classes_are_given_by_id_or_name_or_all(data, wanted, found):
    assert prepared(data, *wanted)[1] == found


@pytest.mark.parametrize(("wanted", "message"), [
    (["coat", "bagg"], r"there is no class 'bagg'.*bag.*there are: trouser, bag, coat, All \(all-in-one\)"),
    (["coat", "coat"], "--nominal names 'coat' twice"),
    (["coat", "Coat"], "--nominal names 'coat' and 'Coat', which is the same, twice"),
    (["all", "coat"], "there is no class 'all'"),
    (["all-in-one"], "has no training images of class 'all-in-one': choose another, or shard more")])
def test_classes_that_can_not_be_trained_on_are_refused(data, wanted, message):
    with pytest.raises(BadInput, match=message):
        prepared(data, *wanted)


def test_a_data_set_without_training_images_has_nothing_to_sweep(tmp_path):
    manifest = write(FolderStore(tmp_path), {"test": ("bag",)})
    assert check_classes(["all"], manifest, "here") == ()
    with pytest.raises(BadInput, match="has no class with training images"):
        prepared(tmp_path, "all")


def test_the_first_class_is_prepared_as_a_run_is(data):
    found, classes = prepared(data, "Coat", "bag")
    assert classes == ("coat", "bag")
    assert (found.experiment.data.nominal, found.experiment.data.form, found.class_name) == ("coat", FORM, "Coat")
    assert found.exposure.kind == "exposure"


def test_the_wrong_data_set_is_named_before_any_class(data):
    with pytest.raises(BadInput, match="is a data set of recipe fmnist, not cifar10"):
        prepared(data, "ship", name="cifar10")
    with pytest.raises(BadInput, match="is an exposure set: give it with --exposure"):
        prepared(data / EXPOSURE, "bag")


def test_shards_of_every_class_are_looked_for(data):
    (data / "train/bag/000000.tar").write_bytes(b"short")
    prepared(data, "coat")
    with pytest.raises(BadInput, match=r"train/bag/000000\.tar has 5 bytes and should have 10240"):
        prepared(data, "coat", "bag")


def test_settings_are_compared_on_hold_outs_of_classes_and_exposure(data, tmp_path):
    check_search(*prepared(data, "trouser", "bag"))
    with pytest.raises(BadInput, match="no hold-out images of class 'coat', and settings are compared on nothing else"):
        check_search(*prepared(data, "trouser", "coat"))
    other = FolderStore(tmp_path / "other")
    write(other, {"train": (EXPOSURE,)}, "exposure", {EXPOSURE: EXPOSURE})
    with pytest.raises(BadInput, match="the exposure set has no hold-out images"):
        check_search(*prepared(data, "bag", exposure=str(tmp_path / "other")))
    with pytest.raises(BadInput, match=r"exposure\.probability is 0: set it above 0"):
        check_search(*prepared(data, "bag", settings=["exposure.probability=0"]))


SWITCH = {"network.bias": {"choice": [True, False]}}
HUNDRED = {"optimizer.lr": {"grid": list(range(1, 101))}, "batch_size": {"grid": list(range(100, 201))}}


@pytest.mark.parametrize(("this", "message"), [
    (sweep(seeds=50_001), "2 classes with 50,001 seeds each are 100,002 trainings, and a sweep has 100,000 at most: "
                          "give fewer --seeds"),
    (sweep(search=search(samples=10**12)), "the search has 1,000,000,000,000 settings, and it can have 10,000 at most"),
    (sweep(search=search(HUNDRED, "grid")), "the search has 10,100 settings"),
    (sweep(search=search(HUNDRED, "optuna", samples=10_001)), "the search has 10,001 settings"),
    (sweep(search=search(samples=5001, seeds=10)), "the search has 5,001 settings with 20 trainings each")])
def test_what_is_too_large_is_refused_before_any_of_it_is_made(this, message):
    with pytest.raises(BadInput) as caught:
        check_size(this)
    assert message in str(caught.value)


def test_what_is_large_is_taken():
    check_size(sweep(seeds=50_000, search=search(HUNDRED, "optuna", samples=10_000, seeds=5)))


@pytest.mark.parametrize("one", [
    search({"network.bias": {"grid": [True]}}, "grid"), search(samples=1), search(SWITCH, samples=1),
    search({"optimizer.lr": {"uniform": [0.01, 0.0100001]}}),  # of four digits, all draws are the same
    search({"network.bias": {"choice": [True]}}, "optuna"), search(searcher="optuna", samples=1)])
def test_a_single_setting_has_nothing_to_be_compared_with(one):
    with pytest.raises(BadInput, match=r"the search has a single setting \((network|optimizer)\..*=.*\), and"):
        check_tried(one, recipe("fmnist").experiment("coat", 0), 1)


@pytest.mark.parametrize("one", [search(SWITCH, samples=9), search(SWITCH, "optuna"), search(samples=2)])
def test_two_can_be_compared(one):
    check_tried(one, recipe("fmnist").experiment("coat", 0), 1)


def test_what_is_drawn_is_tried_before_anything_starts():
    lanes = {"lanes": {"grid": [1, 2, 3, 16, 4, 5, 6]}, "batch_size": {"grid": [16, 17, 18, 8, 19, 20, 21]}}
    with pytest.raises(BadInput, match="16 lanes can't share a batch of 8"):
        check_tried(search(lanes, "grid"), recipe("fmnist").experiment("coat", 0), 1)
