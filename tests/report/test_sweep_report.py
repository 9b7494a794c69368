"""The report of a sweep, from fabricated folders of sweeps."""

from __future__ import annotations

import io
import json
import re

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from fcdd_dist.cli import main
from fcdd_dist.errors import Damaged, NotFound
from fcdd_dist.published import PROTOCOLS, columns
from fcdd_dist.recipes import RECIPES
from fcdd_dist.report.sheets import embedded
from fcdd_dist.report.sweep import charts
from fcdd_dist.report.sweep.facts import read_facts
from fcdd_dist.report.write import write_report
from fcdd_dist.storage import FolderStore, MemoryStore
from fcdd_dist.sweep.standing import Standing
from tests.report.html_pages import Page
from tests.report.run_folders import change
from tests.report.sweep_folders import fabricate_sweep, search

THREE = ["coat", "bag", "shirt"]
HOSTILE = '<script>alert(1)</script> "a" & \'b\' | `c` *d* [e](f) $x$ \u732b\nnew'


def report(folder) -> tuple[Page, str]:
    write_report(folder)
    return Page(folder.read("report.html").decode()), folder.read("report.md").decode()


def cells_of(text: str, name: str) -> list[str]:
    """The first row of a Markdown table that begins with ``name``."""
    row = next(line for line in text.splitlines() if line.startswith(f"| {name} |"))
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]]


@pytest.fixture
def folder():
    return MemoryStore()


@pytest.fixture
def no_charts(monkeypatch):
    """For tests of words alone, since drawing takes most of the time."""
    monkeypatch.setattr("fcdd_dist.report.sweep.class_chart", lambda facts: [])
    monkeypatch.setattr("fcdd_dist.report.sweep.search_charts", lambda facts: [])


def half(trial):
    if trial.class_id == "coat":
        return Standing(epochs=3, reason="the loss of epoch 4 is not finite")
    if trial.class_id == "bag" and trial.seed == 1:
        return Standing(epochs=5)
    return Standing() if trial.class_id == "sandal" else None


@pytest.mark.slow
def test_a_finished_sweep(tmp_path):
    folder = FolderStore(tmp_path / "clothes")
    page, text = report(fabricate_sweep(folder))
    table = json.loads(folder.read("table.json"))
    mean = table["mean"]
    for words in (page.text, text):
        assert "All 20 trainings are done: 10 classes, 2 seeds each." in words
        assert f"The mean AUROC over 10 classes is {mean['auroc_mean']:.4f}, {mean['difference']:.2f} above" in words
        for row in table["classes"]:
            assert f"{row['auroc_mean']:.4f} ± {row['auroc_std']:.4f}" in words
        assert "mean of 2, seeds 0 to 1" in words
        assert "16 by 16 of the 28 by 28 pixels" in words
        assert "arXiv 2007.01760v1, Table 3" in words
        assert "/data/oe (2,000 images)" in words
        assert "There is no" not in words
        assert not re.search(r"\b(nan|None)\b", words)
    assert page.words[0].startswith("clothes")
    assert {tag for tag, _ in page.tags} >= {"svg", "img", "table", "details"}
    assert text.startswith("# clothes\n")
    assert folder.read("report/classes.png").startswith(b"\x89PNG")
    for key in re.findall(r"\]\((\S+\.png)\)", text):
        assert folder.read(key).startswith(b"\x89PNG")


def test_a_bar_ends_at_1_and_seeds_stand_above_it(folder):
    fabricate_sweep(folder, classes=["coat"])
    table = json.loads(folder.read("table.json"))
    for cell, area in zip(table["cells"], (0.95, 1.0), strict=True):
        cell["auroc"] = area
    table["classes"][0] |= {"auroc_mean": 0.975, "auroc_std": 0.0354}
    folder.write("table.json", json.dumps(table).encode())
    axes = Figure().subplots()
    charts._classes(axes, read_facts(folder))
    (bar,) = axes.containers[0].lines[2]
    assert bar.get_segments()[0][:, 0] == pytest.approx([0.975 - 0.0354, 1.0])
    (seeds,) = [line for line in axes.get_lines() if line.get_label() == "single seeds"]
    assert list(seeds.get_xdata()) == [0.95, 1.0]
    assert all(place < -0.2 for place in seeds.get_ydata())
    assert seeds.get_zorder() > bar.get_zorder()


@pytest.mark.usefixtures("no_charts")
def test_a_schedule_that_is_not_the_paper_s_is_said_beside_its_figures(folder):
    page, text = report(fabricate_sweep(folder, classes=["coat"]))
    assert cells_of(text, "Class")[1:3] == ["AUROC, here after 9 epochs", "FCDD, paper after 400 epochs"]
    assert "| Epochs | 400 | 9 | yes |" in text
    for words in (page.text, text):
        assert "Not the paper's schedule: its figures are of 400 epochs, those here of 9." in words
    page, text = report(fabricate_sweep(MemoryStore(), classes=["coat"], epochs=400))
    assert cells_of(text, "Class")[1:3] == ["AUROC, here", "FCDD, paper"]
    assert "| Epochs | 400 | 400 |  |" in text
    assert "Not the paper's schedule" not in page.text + text


def test_an_embedded_sheet_has_no_false_colours():
    """Beside red there is no more of it in grey than an eye can't see, and a smooth map stays smooth."""
    sheet = np.full((160, 160, 3), 90, np.uint8)
    sheet[75:] = (127, 0, 0)
    sheet[80:, :, 2] = np.arange(160)
    file = io.BytesIO()
    Image.fromarray(sheet).save(file, "PNG")
    jpeg, size = embedded(file.getvalue(), 1200, 60)
    assert size == (160, 160)
    with Image.open(io.BytesIO(jpeg)) as image:
        found = np.asarray(image.convert("RGB")).astype(int)
    assert np.ptp(found[:74], axis=2).max() < 30
    assert np.abs(found[88:] - sheet[88:]).max() < 12
    assert embedded(file.getvalue(), 80, 60)[1] == (80, 80)


@pytest.mark.usefixtures("no_charts")
@pytest.mark.parametrize("recipe", ["fmnist", "cifar10", "imagenet30"])
def test_a_class_has_every_published_column(folder, recipe):
    classes = list(RECIPES[recipe].classes)[:2]
    page, text = report(fabricate_sweep(folder, recipe_name=recipe, classes=classes, seeds=1))
    head = cells_of(text, "Class")
    for class_id in classes:
        found = columns(recipe, class_id)
        mine = cells_of(text, RECIPES[recipe].classes[class_id])
        shown = dict(zip(head, mine, strict=True))
        assert len([name for name in head if "OE" in name]) == len(found) - 1
        for row in found:
            exposure = "no OE" if row.supervision == "none" else "OE"
            name = f"{row.method}{'*' * row.from_literature} ({exposure})"
            if row.method == "FCDD":
                name = f"FCDD, paper after {PROTOCOLS[recipe].epochs} epochs"
            assert shown[name] == ("-" if row.auc is None else f"{row.auc:.2f}")
    assert "copied by the paper's authors" in page.text


@pytest.mark.usefixtures("no_charts")
def test_the_paper_s_mean_stands_beside_all_its_classes_alone(folder):
    whole = report(fabricate_sweep(folder, seeds=1))[1]
    assert cells_of(whole, "Mean")[2] == "0.88"
    assert "0.94" in cells_of(whole, "Mean")  # GEO's
    some = report(fabricate_sweep(MemoryStore(), classes=THREE, seeds=1))[1]
    assert cells_of(some, "Mean")[2:] == ["-", "-", "", "-", "-", "-", "-"]


@pytest.mark.usefixtures("no_charts")
def test_half_a_sweep_says_what_is_missing_and_why(folder):
    page, text = report(fabricate_sweep(folder, stands=half))
    for words in (page.text, text):
        assert "15 of 20 trainings are done (10 classes, 2 seeds each): 2 failed, 1 unfinished, 2 not begun." in words
        assert "There is no mean over the classes yet: Coat and Sandal have no test score." in words
        assert "Failed: Coat, seed 0 (the loss of epoch 4 is not finite); Coat, seed 1" in words
    assert cells_of(text, "Bag")[4] == "1 of 2"
    missing = text[text.index("## What is missing"):]
    assert "| Coat | 0, 1 | failed, 3 of 9 epochs trained | the loss of epoch 4 is not finite |" in missing
    assert "| Sandal | 0, 1 | not begun | - |" in missing
    assert "| Bag | 1 | unfinished, 5 of 9 epochs trained | - |" in missing


def test_nothing_is_done_yet(folder):
    page, text = report(fabricate_sweep(folder, classes=THREE, stands=lambda trial: Standing()))
    assert "0 of 6 trainings are done" in page.text
    assert "svg" not in {tag for tag, _ in page.tags}
    assert "![" not in text
    assert cells_of(text, "Coat")[1:3] == ["-", "0.86"]
    assert not re.search(r"\b(nan|None)\b", page.text)


def test_without_a_table(folder):
    fabricate_sweep(folder, classes=THREE, stands=lambda trial: Standing()).delete("table.json")
    page, _ = report(folder)
    assert "There is no table.json" in page.text
    assert "0 of 6 trainings are done (3 classes, 2 seeds each): 6 not begun" in page.text


@pytest.mark.usefixtures("no_charts")
@pytest.mark.parametrize(("recipe", "classes"), [("digits", ["3", "4"]), ("folder", ["screws", "nuts"])])
def test_a_recipe_that_the_paper_has_not(folder, recipe, classes):
    page, text = report(fabricate_sweep(folder, recipe_name=recipe, classes=classes))
    assert f"The paper has no table for recipe {recipe}." in page.text
    assert cells_of(text, "Class") == ["Class", "AUROC, here", "Seeds", "Average precision"]
    assert "FCDD, paper" not in text
    assert "mean of 2, seeds 0 to 1" in text


@pytest.mark.usefixtures("no_charts")
def test_a_single_training(folder):
    page, text = report(fabricate_sweep(folder, classes=["coat"], seeds=1))
    assert re.search(r"The training is done\. The AUROC of Coat is 0\.\d{4}, 0\.\d\d (above|below) the paper's 0\.86",
                     page.text)
    assert "| Mean |" not in text
    assert "±" not in text


@pytest.mark.usefixtures("no_charts")
def test_a_protocol_like_the_paper_s_does_not_stand_out(folder):
    _, text = report(fabricate_sweep(folder, seeds=5, epochs=400, classes=["coat"], protocol="paper",
                                     settings=["precision=bf16"]))
    page = Page(folder.read("report.html").decode())
    assert "| Nominal training images | all of the class | all of the class |" in text
    assert "| precision | float32 | bf16 |" in text
    differing = [attributes for tag, attributes in page.tags if tag == "tr" and attributes.get("class") == "differs"]
    # The exposure set, the last batch and the precision, of the protocol; precision and train_on of the settings.
    assert len(differing) == 3 + 2


@pytest.mark.slow
def test_a_search_is_accounted_for(folder):
    page, text = report(fabricate_sweep(folder, classes=["coat", "bag"], search=search()))
    found = json.loads(folder.read("table.json"))["search"]
    chosen = found["settings"][found["selected"]]
    for words in (page.text, text):
        assert f"Selected was setting {found['selected']} (optimizer.lr = {chosen['settings']['optimizer.lr']}" in words
        assert f"by its mean hold-out loss of {chosen['figure']:.4g} after 9 epochs" in words
        assert "Test images played no part" in words
        assert "after 1 and 3 epochs the best of every 3 settings goes on" in words
        assert "the mean over 2 classes and 1 seed" in words
    rows = [line for line in text.splitlines() if re.match(r"\| \d+ \|", line)]
    assert len(rows) == len(found["settings"])
    assert rows[0].startswith(f"| {found['selected']} |")
    assert "| selected |" in rows[0]
    assert [entry.key for entry in folder.list("report/")] == [
        "report/classes.png", "report/search-exposure-probability.png", "report/search-network-batch_norm.png",
        "report/search-optimizer-lr.png", "report/search-schedule.png"]
    assert page.text.count("selected") >= 5


def test_settings_are_compared_within_a_rung(folder):
    """All of them at the first, whose figures the table does not have of those that went on."""
    facts = read_facts(fabricate_sweep(folder, classes=["coat", "bag"], search=search()))
    settings, selected = facts.table.search.settings, facts.selected.number
    assert {rung: len(figures) for rung, figures in facts.figures.items()} == {1: 18, 3: 6, 9: 2}
    for one in settings:
        lr, noise = one.settings["optimizer.lr"], 0.01 * (one.number % 5)
        for rung, figures in facts.figures.items():
            expected = pytest.approx(0.1 + (10 * lr + noise) / rung) if rung <= one.epochs else None
            assert figures.get(one.number) == expected
    panels = Figure().subplots(3, 1)
    charts._field(panels, facts, "optimizer.lr", [1, 3, 9])
    assert [axes.get_title("left") for axes in panels] == [
        "after 1 epoch: 18 settings", "after 3 epochs: 6 settings", "after 9 epochs: 2 settings"]
    shown = [{line.get_label(): len(line.get_xdata()) for line in axes.get_lines()} for axes in panels]
    assert shown == [{"stopped or undecided": 12, "went on or finished": 5, "selected": 1},
                     {"stopped or undecided": 4, "went on or finished": 1, "selected": 1},
                     {"went on or finished": 1, "selected": 1}]
    star = panels[0].get_lines()[-1]
    assert star.get_ydata() == [facts.figures[1][selected]]


@pytest.mark.usefixtures("no_charts")
def test_metrics_of_a_search_that_are_gone_are_said(folder):
    facts = read_facts(fabricate_sweep(folder, classes=["coat"], search=search()))
    cell = facts.selected.cells[0]
    folder.delete(f"{cell.trial}/metrics.jsonl")
    page, text = report(folder)
    for words in (page.text, text):
        assert "In 1 training of the search there is no metrics.jsonl" in words
    assert facts.selected.number not in read_facts(folder).figures[1]
    assert facts.selected.number in read_facts(folder).figures[9]


@pytest.mark.usefixtures("no_charts")
def test_a_search_that_has_not_come_to_its_end(folder):
    page, text = report(fabricate_sweep(folder, classes=["coat", "bag"], search=search(), searched=0.3))
    assert "The search has not selected a setting yet, and only what it selects is tested." in page.text
    assert "No setting is selected yet" in text


@pytest.mark.usefixtures("no_charts")
def test_a_training_of_a_search_that_failed_is_named(folder):
    fabricate_sweep(folder, classes=["coat"], search=search())
    table = json.loads(folder.read("table.json"))
    table["search"]["settings"][3]["cells"][0]["reason"] = "out of memory"
    folder.write("table.json", json.dumps(table).encode())
    page, text = report(folder)
    assert "| 3 | Coat | 0 | out of memory |" in text
    assert "out of memory" in page.text


@pytest.mark.usefixtures("no_charts")
def test_doubts_about_a_detector_are_said(folder):
    fabricate_sweep(folder, classes=THREE)
    change(folder.at("trials/bag-s1"), "result.json", mean_score={"nominal": 0.04, "anomalous": 0.0405})
    page, text = report(folder)
    assert "Bag, seed 1: This detector has collapsed" in page.text
    assert "**Warning.** Bag, seed 1: This detector has collapsed" in text


@pytest.mark.usefixtures("no_charts")
def test_names_are_only_text(folder):
    page, text = report(fabricate_sweep(folder, classes=["coat", "bag"], names={"coat": HOSTILE}, stands=half))
    assert "script" not in {tag for tag, _ in page.tags}
    assert page.text.count("<script>alert(1)</script>") >= 3
    assert "<script" not in text
    rows = [line for line in text.splitlines() if "alert" in line and line.startswith("|")]
    assert len(rows) == 2
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {10, 5}


@pytest.mark.slow
def test_charts_take_any_name(folder):
    page, _ = report(fabricate_sweep(folder, classes=["coat", "bag"], names={"coat": HOSTILE}))
    assert "script" not in {tag for tag, _ in page.tags}


@pytest.mark.slow
def test_an_equal_sweep_has_an_equal_report():
    one, other = (fabricate_sweep(MemoryStore(), classes=["coat"], search=search()) for _ in range(2))
    write_report(one)
    write_report(other)
    write_report(other)
    keys = [entry.key for entry in one.list("report")]
    assert len(keys) == 2 + 5
    for key in keys:
        assert one.read(key) == other.read(key)


@pytest.mark.usefixtures("no_charts")
def test_the_page_stands_by_itself_and_stays_small(folder):
    fabricate_sweep(folder, classes=THREE, seeds=1)
    noise = np.random.default_rng(0).integers(0, 256, (120, 2072, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).save(file, "PNG", compress_level=1)
    folder.write("trials/coat-s0/heatmaps/by-score.png", file.getvalue())
    page, _ = report(folder)
    pictures = [attributes for tag, attributes in page.tags if tag == "img"]
    assert len(pictures) == 3
    assert all(one["src"].startswith("data:image/jpeg;base64,") and one["alt"] for one in pictures)
    assert {one["width"] for one in pictures} >= {"1200"}
    for tag, attributes in page.tags:
        assert tag not in ("script", "link", "iframe", "object")
        assert not any(str(attributes.get(name)).startswith(("http", "//")) for name in ("src", "href"))
    assert len(page.ids) == len(set(page.ids))


@pytest.mark.usefixtures("no_charts")
@pytest.mark.parametrize(("key", "says"), [
    ("result.json", "There is no trials/bag-s0/result.json: its figures are those of table.json."),
    ("heatmaps/by-score.png", "There are no heatmaps of Bag.")])
def test_what_is_missing_of_a_run_is_said(folder, key, says):
    fabricate_sweep(folder, classes=THREE).delete(f"trials/bag-s0/{key}")
    page, text = report(folder)
    assert says in page.text
    assert says in text


@pytest.mark.parametrize(("key", "data", "message"), [
    ("sweep.json", b"{}", "sweep.json is damaged: experiment: field required"),
    ("table.json", b'{"cells": [', "table.json is damaged"),
    ("table.json", b'{"cells": [], "classes": [{"class": "coat"}], "mean": {}}',
     "table.json is damaged: classes.0.name: field required"),
    ("trials/coat-s0/result.json", b'{"auroc": NaN, "epochs": 3}', "trials/coat-s0/result.json is damaged: auroc"),
    ("trials/coat-s0/heatmaps/by-score.png", b"GIF89a", "trials/coat-s0/heatmaps/by-score.png is no PNG"),
])
def test_damage_is_named(folder, key, data, message):
    fabricate_sweep(folder, classes=["coat"])
    folder.write(key, data)
    with pytest.raises(Damaged, match=re.escape(message)):
        write_report(folder)


def test_neither_a_run_nor_a_sweep(tmp_path, capsys):
    with pytest.raises(NotFound, match=r"neither experiment\.json nor sweep\.json"):
        write_report(MemoryStore())
    (tmp_path / "nothing").mkdir()
    assert main(["report", str(tmp_path / "nothing")]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
