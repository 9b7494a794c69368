"""The report of a run, from fabricated run folders."""

from __future__ import annotations

import json
import re

import pytest

from fcdd_dist.errors import Damaged, NotFound
from fcdd_dist.report.write import write_report
from fcdd_dist.storage import FolderStore, MemoryStore
from tests.report.html_pages import Page
from tests.report.run_folders import change, fabricate

pytestmark = pytest.mark.slow  # together: seven seconds



def report(run) -> tuple[Page, str]:
    write_report(run)
    return Page(run.read("report.html").decode()), run.read("report.md").decode()


@pytest.fixture
def run():
    return MemoryStore()


@pytest.fixture
def no_charts(monkeypatch):
    """For tests of words alone, since drawing takes most of the time."""
    monkeypatch.setattr("fcdd_dist.report.run.charts", lambda facts: [])


@pytest.mark.parametrize("kind", ["memory", "folder"])
def test_a_finished_run(kind, tmp_path):
    run = MemoryStore() if kind == "memory" else FolderStore(tmp_path / "run")
    page, text = report(fabricate(run, exposure="/data/oe"))
    auroc = json.loads(run.read("result.json"))["auroc"]
    for words in (page.text, text):
        assert "T-shirt/top" in words
        assert f"In {100 * auroc:.1f} % of all pairs" in words
        assert f"{auroc:.4f}" in words
        assert f"({auroc - 0.82:+.2f})" in words
        assert "arXiv 2007.01760v1, Table 3" in words
        assert "grey CIFAR-100, or EMNIST letters" in words
        assert "/data/oe (2,000 images)" in words
        assert "40 set aside" in words
        assert "16 by 16 of the 28 by 28 pixels" in words
        assert "schedule.factor" in words
        assert "Its threshold flags" in words
        assert "collapsed" not in words
        assert "There is no" not in words
    assert "| Epochs | 400 | 3 | yes |" in text
    assert "finished" in page.text
    assert "coat" in page.text
    assert {tag for tag, _ in page.tags} >= {"svg", "img", "table", "details"}


def test_the_page_stands_by_itself(run):
    page, text = report(fabricate(run))
    for tag, attributes in page.tags:
        assert tag not in ("script", "link", "iframe", "object")
        for name in ("src", "href", "xlink:href"):
            assert attributes.get(name, "#").startswith(("#", "data:image/jpeg;base64,"))
    assert len(page.ids) == len(set(page.ids))
    html = run.read("report.html").decode()
    targets = set(re.findall(r"url\(#([^)]+)\)", html)) | set(re.findall(r'href="#([^"]+)"', html))
    assert targets <= set(page.ids)
    assert not re.search(r"url\((?!#)|@import|https?://(?!www\.w3\.org)", html)
    pictures = re.findall(r"!\[[^\]]*\]\(([^)]+)\)", text)
    assert pictures == ["report/losses.png", "report/scores.png", "report/roc.png", "heatmaps/by-score.png"]
    assert all(run.read(key).startswith(b"\x89PNG") for key in pictures)


def test_an_equal_run_has_an_equal_report():
    one, other = fabricate(MemoryStore()), fabricate(MemoryStore())
    write_report(one)
    write_report(other)
    write_report(other)
    for key in ("report.html", "report.md", "report/losses.png", "report/roc.png"):
        assert one.read(key) == other.read(key)


@pytest.mark.usefixtures("no_charts")
def test_names_are_only_text(run):
    hostile = '<script>alert(1)</script> "a" & \'b\' | `c` *d* [e](f) $x$ \u732b\nnew'
    page, text = report(fabricate(run, class_name=hostile, exposure="/data/<i>|x", names={"coat": hostile}))
    assert "script" not in {tag for tag, _ in page.tags}
    assert "i" not in {tag for tag, _ in page.tags}
    assert page.text.count("<script>alert(1)</script>") >= 2
    assert "<script" not in text
    rows = [line for line in text.splitlines() if "alert" in line and line.startswith("|")]
    assert rows
    assert all(len(re.findall(r"(?<!\\)\|", row)) == 6 for row in rows)
    assert text.splitlines()[0].endswith("new")


@pytest.mark.usefixtures("no_charts")
def test_hostile_file_names_of_heatmaps_are_only_text(run):
    fabricate(run)
    run.write('heatmaps/"><b>x.png', run.read("heatmaps/by-score.png"))
    page, text = report(run)
    assert "b" not in {tag for tag, attributes in page.tags if attributes}
    assert "heatmaps/%22%3E%3Cb%3Ex.png" in text


@pytest.mark.parametrize(("key", "says"), [
    ("metrics.jsonl", "There is no metrics.jsonl"), ("scores.csv", "There is no scores.csv"),
    ("heatmaps/by-score.png", "There are no PNG files in heatmaps/"), ("result.json", "Unfinished: 3 of 3 epochs")])
def test_what_is_missing_is_said(run, key, says):
    fabricate(run).delete(key)
    page, text = report(run)
    assert says in page.text
    assert says in text


def test_a_run_that_just_began(run):
    fabricate(run, epochs=9)
    for key in ("metrics.jsonl", "result.json", "scores.csv", "heatmaps/by-score.png"):
        run.delete(key)
    page, text = report(run)
    assert "Unfinished: 0 of 9 epochs" in page.text
    assert "svg" not in {tag for tag, _ in page.tags}
    assert "0.82" in page.text
    assert "![" not in text


def test_without_a_record_it_is_no_run(run):
    with pytest.raises(NotFound, match=r"it has neither experiment\.json nor sweep\.json"):
        write_report(MemoryStore())


@pytest.mark.parametrize(("classes", "why"), [(("t-shirt_top",), "all test images are nominal"),
                                              (("coat", "bag"), "all test images are anomalous")])
def test_one_label_has_its_reason(run, classes, why):
    page, text = report(fabricate(run, classes=classes))
    for words in (page.text, text):
        assert f"There is no AUROC: {why}" in words
        assert not re.search(r"\b(nan|None)\b", words)
    assert "ROC curve" not in text
    assert "report/scores.png" in text


@pytest.mark.parametrize("images", [0, 1, 2])
def test_very_few_images_and_epochs(run, images):
    page, _ = report(fabricate(run, images=images, holdout=0, epochs=1))
    assert not re.search(r"\b(nan|None)\b", page.text)
    assert "Its threshold flags" not in page.text
    assert "no nominal images were set aside" in page.text


@pytest.mark.usefixtures("no_charts")
def test_a_collapsed_detector_is_warned_of(run):
    fabricate(run, gap=0.0)
    change(run, "result.json", mean_score={"nominal": 0.040, "anomalous": 0.0405})
    page, text = report(run)
    assert any(attributes.get("role") == "alert" for _, attributes in page.tags)
    assert "This detector has collapsed" in page.text
    assert "**Warning.** This detector has collapsed" in text


@pytest.mark.usefixtures("no_charts")
def test_a_ranking_worse_than_chance_is_warned_of(run):
    fabricate(run)
    change(run, "result.json", auroc=0.4)
    assert "worse than chance" in report(run)[0].text


@pytest.mark.usefixtures("no_charts")
def test_an_older_result_says_so(run):
    fabricate(run, epochs=5)
    change(run, "result.json", epochs=2)
    page, _ = report(run)
    assert "The test scores are of epoch 2. The run has since been asked for 5 epochs and has trained 5." in page.text
    assert "unfinished" in page.text


@pytest.mark.usefixtures("no_charts")
def test_settings_other_than_the_recipes_stand_out(run):
    page, text = report(fabricate(run, settings=("optimizer.lr=0.5", "precision=bf16",
                                                           "data.train_on=train+holdout")))
    assert "| optimizer.lr | 0.01 | 0.5 |" in text
    assert "38 settings, 4 other than the recipe's" in page.text  # epochs among them
    assert "| Nominal training images | all of the class | all of the class |" in text
    assert "| Nominal hold-out images, trained on too | 40 |" in text


@pytest.mark.usefixtures("no_charts")
@pytest.mark.parametrize(("recipe", "nominal"), [("digits", "3"), ("folder", "screws")])
def test_a_recipe_that_the_paper_has_not(run, recipe, nominal):
    page, text = report(fabricate(run, recipe_name=recipe, nominal=nominal, classes=(nominal, "coat")))
    assert f"The paper has no number for T-shirt/top of recipe {recipe}" in page.text
    assert "Beside the paper" not in text


def test_charts_of_an_earlier_report_go(run):
    fabricate(run)
    write_report(run)
    run.delete("scores.csv")
    write_report(run)
    assert [entry.key for entry in run.list("report/")] == ["report/losses.png"]


@pytest.mark.parametrize(("key", "data", "message"), [
    ("experiment.json", b"{}", "experiment.json is damaged: experiment: field required"),
    ("result.json", b'{"auroc": NaN, "epochs": 3}', "result.json is damaged: auroc"),
    ("result.json", b'{"auroc": 0.5', "result.json is damaged"),
    ("metrics.jsonl", b'{"epoch": 1, "loss": 1}\n{"epoch": 2}\n', "metrics.jsonl, line 2, is damaged: loss"),
    ("scores.csv", b"path,class,label,score\na,b,0,0.1\na,b,2,0.1\n", "scores.csv is damaged in line 3"),
    ("scores.csv", b"path,class,label,score\na,b,0,nan\n", "scores.csv is damaged in line 2"),
    ("scores.csv", b"path,class,label\na,b,0\n", "scores.csv is damaged in line 2"),
    ("heatmaps/by-score.png", b"GIF89a", "by-score.png is no PNG"),
])
def test_damage_is_named(run, key, data, message):
    fabricate(run)
    run.write(key, data)
    with pytest.raises(Damaged, match=re.escape(message)):
        write_report(run)
