"""Bad input is one clear line, before anything expensive starts."""

import json
import shutil
from pathlib import Path

import pytest

from fcdd_dist.data.manifest import MANIFEST
from fcdd_dist.data.shards.write import shard, shard_exposure
from fcdd_dist.errors import BadInput, Damaged
from fcdd_dist.experiment import Form
from fcdd_dist.recipes import recipe
from fcdd_dist.run import Job, prepare, run_rank
from fcdd_dist.storage import FolderStore
from fcdd_dist.world import World


@pytest.fixture
def data(digits_data, tmp_path):
    """A copy of the data set, to be spoilt."""
    return Path(shutil.copytree(digits_data, tmp_path / "data"))


@pytest.fixture
def no_heatmaps(monkeypatch):
    """For runs whose pictures nobody looks at, which take longer than all the rest."""
    monkeypatch.setattr("fcdd_dist.evaluation.pictures.write_heatmaps", lambda *arguments: None)


def job(data, nominal="0", settings=(), **changes):
    return Job(experiment=recipe("digits").experiment(nominal, 0).override(settings), data=str(data),
               run=str(Path(data).parent / "run")).model_copy(update=changes)


def refused(this, message):
    with pytest.raises(BadInput, match=message) as caught:
        prepare(this)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


def edit(path, change):
    tree = json.loads(path.read_text())
    change(tree)
    path.write_text(json.dumps(tree))


def test_a_class_may_be_given_by_id_or_name_and_the_form_is_that_of_the_data(data):
    assert prepare(job(data, "digit 3")).experiment.data.nominal == "3"
    assert prepare(job(data, "digit 3")).fingerprint == prepare(job(data, "3")).fingerprint


def test_an_unknown_class(data):
    refused(job(data, "digit 33"),
            r"no class 'digit 33' \(did you mean 'digit 3'\?\); there are: digit 0 \(0\), digit 1 \(1\), ")


def test_an_unknown_recipe(data):
    spoilt = job(data)
    wrong = spoilt.experiment.data.model_copy(update={"recipe": "digit"})
    refused(spoilt.model_copy(update={"experiment": spoilt.experiment.model_copy(update={"data": wrong})}),
            "no recipe 'digit' .*did you mean 'digits'")


def test_a_folder_without_a_manifest(tmp_path):
    refused(job(tmp_path / "nothing"), r"nothing is no data set: it has no manifest.json")


def test_a_damaged_manifest(data):
    (data / MANIFEST).write_text("{")
    refused(job(data), r"manifest.json is damaged: .*shard the data again")


def test_a_manifest_with_a_field_that_nobody_knows(data):
    edit(data / MANIFEST, lambda tree: tree.update(extra=1))
    refused(job(data), "manifest.json is damaged: there is no field extra")


def test_a_data_set_of_another_recipe(data):
    edit(data / MANIFEST, lambda tree: tree.update(recipe="fmnist"))
    refused(job(data), "is a data set of recipe fmnist, not digits")


def test_a_missing_shard_and_one_of_another_size(data):
    missing = data / "train/0/000000.tar"
    whole = missing.read_bytes()
    missing.write_bytes(whole[:-512])
    refused(job(data), rf"train/0/000000.tar has {len(whole) - 512} bytes and should have {len(whole)}")
    missing.unlink()
    refused(job(data), "train/0/000000.tar is missing")
    prepare(job(data, "1"))  # which does not need it


def test_exposure_that_is_missing_of_another_form_or_none(data, tmp_path, fill_folder):
    other = FolderStore(tmp_path / "other")
    fill_folder(tmp_path / "outliers", 3)
    shard_exposure("digits", str(tmp_path / "outliers"), other, form=Form.parse("png-32-grey"))
    refused(job(data, exposure=other.url), r"other is stored as png-32-grey and .*data as png-28-grey")
    refused(job(data, exposure=str(data)), "data is no exposure set")
    refused(job(data / "exposure"), "is an exposure set: give it with --exposure")
    shutil.rmtree(data / "exposure")
    refused(job(data), "has no exposure set and the objective has a trivial optimum without anomalies")
    assert prepare(job(data, settings=["exposure.probability=0"])).exposure is None


def test_a_net_that_does_not_fit(data):
    refused(job(data, settings=["network.name=fcdd32"]), "network fcdd32 takes 3 channels and the data have 1")
    refused(job(data, settings=["network.name=fcdd29"]), "no network 'fcdd29'.*choose one of fcdd28, fcdd32, fcdd224")


def test_an_image_size_that_does_not_fit(tmp_path, fill_folder):
    store = FolderStore(tmp_path / "data")
    fill_folder(tmp_path / "outliers", 3)
    shard("digits", None, store, classes=["0"], exposure=str(tmp_path / "outliers"), form=Form.parse("png-32-grey"))
    refused(job(store.url), r"network fcdd28 takes images of 28 px and the data have 32 \(stored form png-32-grey\)")


def test_a_class_without_training_images(data):
    edit(data / MANIFEST, lambda tree: tree["splits"]["train"].pop("4"))
    refused(job(data, "4"), "has no training images of class '4'")


def test_more_workers_than_lanes(data, tmp_path):
    from fcdd_dist.cluster.placement import Placement
    from fcdd_dist.cluster.train import train

    with pytest.raises(BadInput, match="9 workers can't share 8 lanes"):
        train(job(data), Placement(9, 9), None, print)


@pytest.mark.parametrize("budget", [None, 0])
def test_bytes_that_were_altered_stop_the_run_with_shard_and_reason(data, budget):
    path = data / "train/0/000000.tar"
    whole = bytearray(path.read_bytes())
    whole[1500] ^= 1
    path.write_bytes(whole)
    with pytest.raises(Damaged, match=r"train/0/000000.tar"):
        run_rank(job(data, budget_bytes=budget), World())


def test_a_member_that_does_not_decode_stops_the_run_with_shard_and_key(data):
    """The manifest vouches for the bytes, and still they are no image of the form."""
    import hashlib

    path = data / "train/0/000000.tar"
    whole = path.read_bytes().replace(b"IHDR", b"XHDR", 1)
    path.write_bytes(whole)
    digest = hashlib.sha256(whole).hexdigest()
    edit(data / MANIFEST, lambda tree: tree["splits"]["train"]["0"]["shards"][0].update(sha256=digest))
    with pytest.raises(Damaged, match=r"train/0/000000.tar: sample 0-\d{8} is not a stored png-28-grey"):
        run_rank(job(data), World())


def test_nothing_of_the_test_split_is_read_before_the_last_step(data, monkeypatch):
    reads, trained = [], []
    read = FolderStore.read

    def logged(self, key, *arguments):
        reads.append((bool(trained and trained[-1]), f"{self.root}/{key}"))
        return read(self, key, *arguments)

    monkeypatch.setattr(FolderStore, "read", logged)
    this = job(data, settings=["epochs=2"])
    run_rank(this, World(), on_step=lambda state: trained.append(state.cursor.epoch == 2))
    tests = [after for after, key in reads if "/test/" in key]
    assert tests
    assert all(tests)
    assert any("/holdout/" in key for after, key in reads if not after)


def test_a_test_split_without_anomalies_or_without_images_trains_and_says_why(data, no_heatmaps):
    for drop, why in ((lambda tree: [tree["splits"]["test"].pop(str(d)) for d in range(1, 10)], "all test images are "
                       "nominal"), (lambda tree: tree["splits"].pop("test"), "there are no test images")):
        edit(data / MANIFEST, drop)
        shutil.rmtree(data.parent / "run", ignore_errors=True)
        result = run_rank(job(data, settings=["epochs=1"]), World())
        assert result["auroc"] is None
        assert why in result["why_null"]
        written = json.loads((data.parent / "run/result.json").read_text())
        assert written["auroc"] is None


def test_protocol_paper_trains_on_all_images_and_has_no_threshold(data, no_heatmaps):
    this = job(data, settings=["epochs=1", "data.train_on=train+holdout"])
    result = run_rank(this, World())
    assert result["protocol"] == "paper"
    assert result["threshold"]["value"] is None
    assert "no images were held out" in result["threshold"]["how"]
    line = json.loads((data.parent / "run/metrics.jsonl").read_text())
    assert line["holdout_loss"] is None
