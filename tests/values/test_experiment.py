"""The experiment as a value: strict, complete, identified."""

import json

import pytest

from fcdd_dist.errors import BadInput
from fcdd_dist.experiment import Experiment, Form, differences, paths
from fcdd_dist.recipes import recipe

BASE = recipe("cifar10").experiment("ship", 0)
PHOTOGRAPHS = recipe("imagenet30").experiment("n01440764", 0)


def test_epochs_are_no_part_of_the_identity_and_everything_else_is():
    assert BASE.model_copy(update={"epochs": 3}).id == BASE.id
    changes = {"optimizer.lr": 0.5, "data.nominal": "cat", "exposure.probability": 0.25, "network.bias": False,
               "augmentation.flip": 0.0, "schedule.factor": 0.2, "heatmap.eta": 0.5, "batch_size": 100, "lanes": 4,
               "precision": "bf16", "seed": 9, "data.window": 5, "exposure.limit": 7, "data.form.side": 64}
    ids = {BASE.override([f"{path}={json.dumps(value)}"]).id for path, value in changes.items()}
    assert len(ids | {BASE.id}) == len(changes) + 1


def test_numbers_have_one_form():
    assert BASE.override(["optimizer.lr=1"]).id == BASE.override(["optimizer.lr=1.0"]).id


@pytest.mark.parametrize(("setting", "message"), [
    ("optimzer.lr=1", r"no field optimzer.lr \(did you mean 'optimizer.lr'\?\)"),
    ("optimizer.rl=1", r"no field optimizer.rl \(did you mean 'optimizer.lr'\?\)"),
    ("optimizer.momentum=0.5", "no field optimizer.momentum"),
    ("optimizer.lr=fast", 'optimizer.lr: input should be a valid number, not "fast"'),
    ("optimizer.lr=-1", "optimizer.lr: input should be greater than 0"),
    ("optimizer.lr=Infinity", "optimizer.lr"),
    ("exposure.probability=1.5", "exposure.probability: input should be less than or equal to 1"),
    ("batch_size=2.5", "batch_size"),
    ("batch_size=true", "batch_size"),
    ("lanes=300", "300 lanes can't share a batch of 200"),
    ("precision=fp8", "precision: input should be 'bf16' or 'float32'"),
    ("schedule.kind=cosine", "schedule"),
    ("augmentation.padding=4", "augmentation.padding=4 does nothing with augmentation.crop=random"),
    ("lr", "'lr' is no setting: write PATH=VALUE"),
    ("data.nominal.x=1", "no field data.nominal.x"),
])
def test_a_bad_setting_is_one_clear_line(setting, message):
    with pytest.raises(BadInput, match=message) as caught:
        (PHOTOGRAPHS if "padding" in setting else BASE).override([setting])
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 200


def test_json_is_strict():
    tree = json.loads(BASE.to_json())
    tree["network"]["depth"] = 3
    with pytest.raises(BadInput, match=r"there is no field network\.depth"):
        Experiment.from_json(json.dumps(tree))
    del tree["network"]["depth"], tree["network"]["name"]
    with pytest.raises(BadInput, match=r"network.name: field required"):
        Experiment.from_json(json.dumps(tree))


def test_a_setting_reaches_unset_and_nested_fields():
    e = BASE.override(["exposure.limit=128", "augmentation.noise.std=0.5", "schedule.milestones=[1,2]",
                       "heatmap.sigma=1.2", "augmentation.jitter=[]"])
    assert (e.exposure.limit, e.augmentation.noise.std, e.schedule.milestones, e.heatmap.sigma, e.augmentation.jitter
            ) == (128, 0.5, (1, 2), 1.2, ())


def test_differences_are_named():
    other = BASE.override(["optimizer.lr=0.5", "seed=3"]).model_copy(update={"epochs": 1})
    assert differences(other, BASE) == ["optimizer.lr: 0.001 -> 0.5", "seed: 0 -> 3"]
    assert differences(BASE, BASE.model_copy(update={"epochs": 1})) == []


def test_paths_name_every_field_once():
    found = paths(Experiment)
    assert len(found) == len(set(found))
    assert set(found) >= {"optimizer.lr", "optimizer.momentum", "schedule.milestones", "epochs"}


@pytest.mark.parametrize("text", ["png-28-grey", "png-32-rgb", "jpeg95-240-rgb", "jpeg100-64-grey"])
def test_forms_are_written_as_they_are_read(text):
    assert str(Form.parse(text)) == text


@pytest.mark.parametrize("text", ["png", "png-0-rgb", "jpeg0-28-rgb", "jpeg101-28-rgb", "png95-28-rgb", "PNG-28-rgb",
                                  "png-28-cmyk", "png-28-rgb "])
def test_what_is_no_form_is_refused(text):
    with pytest.raises(BadInput, match="no stored form"):
        Form.parse(text)


@pytest.mark.parametrize("text", ["png-28-grey", "png-32-rgb", "jpeg95-240-rgb", "jpeg90-short256-rgb"])
def test_a_form_is_what_it_is_written_as(text):
    form = Form.parse(text)
    assert str(form) == text
    assert Form.model_validate_json(form.model_dump_json()) == form
    assert form.longest == (512 if "short" in text else form.side)


def test_a_fit_takes_all_else_from_the_recipe():
    photographs = Form.parse("jpeg90-256-rgb")
    assert str(Form.parse("short-side-256", photographs)) == "jpeg90-short256-rgb"
    assert Form.parse("square-256", photographs) == photographs
    for text in ("png-short32-rgb", "square-256", "jpeg90-256"):
        with pytest.raises(BadInput, match=r"no stored form: write png-SIDE-grey\|rgb, jpegQUALITY-SIDE"):
            Form.parse(text)
    with pytest.raises(BadInput, match="images whose sizes differ are stored as JPEG"):
        Form.parse("short-side-32", Form.parse("png-32-rgb"))


def test_the_default_fit_is_not_written_so_that_ids_stay():
    assert "fit" not in json.loads(BASE.to_json())["data"]["form"]
    other = BASE.override(["data.form.fit=short-side", "data.form.quality=90"])
    assert json.loads(other.to_json())["data"]["form"]["fit"] == "short-side"
    assert other.id != BASE.override(["data.form.quality=90"]).id
