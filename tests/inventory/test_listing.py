"""ls: one listing and the small records; lines that a person can read, and nothing that a damaged record can stop."""

from __future__ import annotations

import json
import re

import pytest

from fcdd_dist.errors import NotFound
from fcdd_dist.inventory.listing import lines, look
from fcdd_dist.storage import Entry, FolderStore, MemoryStore
from fcdd_dist.sweep.plan import Plan
from fcdd_dist.sweep.table import table, write_table
from tests.inventory.places import a_checkpoint, a_run, a_sweep, copy
from tests.sweep import making


def rows(found):
    """Lines as lists of cells."""
    return [re.split(r" {2,}", line.strip()) for line in lines(found)]


def test_runs_sweeps_checkpoints_and_data_sets(harmful, tiny_data):
    a_run(harmful.at("runs/one"), auroc=0.875)
    a_run(harmful.at("runs/two"), epochs=(1,), of=400, done=False)
    a_sweep(harmful.at("all"), done=3)
    copy(tiny_data, harmful.at("data"))
    copy(harmful.at("runs/one/checkpoints/epoch-000001"), harmful.at("kept"))
    table = rows(look("bad:"))
    assert ["sweeps (1)"] in table
    assert ["runs (2)"] in table
    assert ["checkpoints (1)"] in table
    assert ["data sets (1)"] in table
    sizes = {row[0]: row[1:-2] for row in table if len(row) > 4}
    assert sizes["all"] == ["digits", "2", "2", "3/4", f"{(0.5625 + 0.75) / 2:.4f}"]
    assert sizes["runs/one"] == ["digit 0", "2/2", "0.8750"]
    assert sizes["runs/two"] == ["digit 0", "1/400"]
    assert sizes["kept"] == ["digit 0", "1/2", "1"]
    manifest_images = sizes["data"][2:]
    assert sizes["data"][:2] == ["digits", "3"]
    assert [int(cell.replace(",", "")) for cell in manifest_images] == [537, 40]
    assert all(len(line) <= 100 for line in lines(look("bad:")))
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d", table[-1][-1])


def test_a_sweep_is_one_line_of_two_small_records_and_its_trials_are_listed_when_asked_for(harmful):
    a_sweep(harmful.at("all"), done=1)
    a_run(harmful.at("all/trials/0-s1"), epochs=(1,), done=False)
    harmful.asked.clear()
    found = look("bad:")
    assert sorted(harmful.asked) == ["all/sweep.json", "all/table.json"]
    (tree,) = found.as_json()["places"]
    assert {name: tree.get(name) for name in ("recipe", "classes", "seeds", "cells", "cells_done", "auroc")} == {
        "recipe": "digits", "classes": 2, "seeds": 2, "cells": 4, "cells_done": 1, "auroc": None}
    trials = look("bad:", trials=True)
    assert [one.place.name for one in trials.places] == ["all", "all/trials/0-s0", "all/trials/0-s1"]
    assert ["all/trials/0-s1", "digit 0", "1/2"] in [row[:3] for row in rows(trials)]


def test_a_sweep_shows_its_trials(harmful):
    a_sweep(harmful.at("all"))
    found = look("bad:all")
    assert lines(found)[0] == "sweep bad:/all"
    assert re.match(r"  digits, 2 classes with 2 seeds, 4/4 done, mean AUROC 0\.6875, \d+ kB, \d{4}-", lines(found)[1])
    assert lines(found)[2:4] == ["", "runs (4)"]
    assert [row[0] for row in rows(found)[5:]] == [f"trials/{name}" for name in ("0-s0", "0-s1", "1-s0", "1-s1")]
    tree = found.as_json()
    assert (tree["sweep"]["cells_done"], len(tree["places"])) == (4, 4)
    assert [row[0] for row in rows(look("bad:all/trials"))[2:]] == ["0-s0", "0-s1", "1-s0", "1-s1"]


def test_a_sweep_without_a_table_that_can_be_read(harmful):
    sweep = a_sweep(harmful.at("all"))
    sweep.write("table.json", b'{"cells": [')
    assert rows(look("bad:"))[2][:5] == ["all", "digits", "2", "2", "?/4"]
    assert "  ! all: table.json is damaged: the same sweep, given again, writes it" in lines(look("bad:"))
    sweep.delete("table.json")
    assert rows(look("bad:"))[2][:5] == ["all", "digits", "2", "2", "0/4"]


def test_a_trial_that_failed_is_said_to_have_and_why(harmful):
    sweep = a_sweep(harmful.at("all"), done=2)
    a_run(harmful.at("all/trials/1-s0"), epochs=(), done=False)
    table = json.loads(sweep.read("table.json"))
    for cell, reason in zip(table["cells"][2:], ("no memory", "no data"), strict=True):
        cell |= {"state": "failed", "reason": reason}
    sweep.write("table.json", json.dumps(table).encode())
    text = lines(look("bad:all"))
    states = {row[0]: row[-1] for row in rows(look("bad:all")) if row[0].startswith("trials/")}
    assert states == {"trials/0-s0": "done", "trials/0-s1": "done", "trials/1-s0": "failed"}
    assert text[-1] == "  ! trials/1-s0: failed: no memory"
    assert text[2] == "  ! trials/1-s1: failed: no data"  # before there was a run
    assert "  ! all/trials/1-s0: failed: no memory" in lines(look("bad:", trials=True))
    told = {one["name"]: one.get("reason") for one in look("bad:all").as_json()["places"]}
    assert told == {"trials/0-s0": None, "trials/0-s1": None, "trials/1-s0": "no memory"}


def test_a_search_tells_how_far_it_is_and_each_trial_its_setting(harmful):
    this = making.sweep(["coat"], seeds=1, epochs=9, search=making.search(samples=9))
    plan, standings = Plan(this), {}
    for _ in range(2):  # up to the second rung
        for trial in plan.wanted(standings):
            standings[trial.name] = making.ended(trial)
            a_run(harmful.at(f"all/{trial.folder}"), done=False)
    harmful.write("all/sweep.json", this.to_json().encode())
    found = table(plan, standings)
    write_table(harmful.at("all"), found)
    text = lines(look("bad:all"))
    leads = min(found["search"]["settings"], key=lambda row: (-row["epochs"], row["figure"]))
    assert text[2].startswith("  no setting is selected of 9: 1 running after 3 epochs, ")
    assert "6 stopped after 1 epoch" in text[2]
    assert f"; setting {leads['number']} leads by holdout loss {leads['figure']:.4g} after 3 epochs: optim" in text[2]
    shown = {row[0]: row[-1] for row in rows(look("bad:all")) if row[0].startswith("trials/")}
    for row in found["search"]["settings"]:
        assert shown[row["cells"][0]["trial"]] == f"optimizer.lr={row['settings']['optimizer.lr']}"
    while wanted := plan.wanted(standings):
        standings |= {trial.name: making.ended(trial) for trial in wanted}
    write_table(harmful.at("all"), table(plan, standings))
    assert lines(look("bad:all"))[2].startswith(f"  selected setting {plan.search(standings).halving.selected} of 9 by")


@pytest.mark.parametrize("data", [b"", b'{"schema_version": 1, "expe', b'{"of": "another tool"}', b'{"classes": 3}'])
def test_a_sweep_whose_record_is_damaged_is_said_in_one_line_and_hides_no_run(harmful, data):
    sweep = a_sweep(harmful.at("all"), done=2)
    sweep.write("sweep.json", data)
    for url, name, count in (("bad:", "all", 2), ("bad:all", ".", 2)):
        text = lines(look(url))
        assert len([line for line in text if line.startswith(f"  ! {name}: sweep.json is damaged: ")]) == 1
        assert f"runs ({count})" in text


def test_columns_are_aligned(harmful):
    for name, auroc in (("a", 0.5), ("b-longer", 1.0)):
        a_run(harmful.at(name), auroc=auroc)
    _, head, *body = lines(look("bad:"))
    for title in ("AUROC", "size"):
        end = head.index(title) + len(title)
        assert all(line[end - 1] != " " and line[end] == " " for line in body)


def test_a_run_shows_its_checkpoints(harmful):
    run = a_run(harmful.at("run"), epochs=(1, 2, 3), losses=(0.3, 0.1, 0.2), of=3)
    a_checkpoint(run, 4, 0.05)
    harmful.delete("run/checkpoints/epoch-000004/checkpoint.json")
    found = look("bad:run")
    states = {row[0]: row[-1] for row in rows(found) if row[0].startswith("epoch-")}
    assert states == {"epoch-000001": "complete", "epoch-000002": "complete best", "epoch-000003": "complete last",
                      "epoch-000004": "incomplete"}
    assert "  ! checkpoints/epoch-000004: no checkpoint.json" in lines(found)
    tree = found.as_json()
    assert (tree["last"], tree["best"], tree["run"]["auroc"]) == ("epoch-000003", "epoch-000002", 0.9876)
    assert [one["holdout_loss"] for one in tree["places"][:3]] == [0.3, 0.1, 0.2]


@pytest.mark.parametrize(("key", "data"), [
    ("run/experiment.json", b"{"), ("run/experiment.json", b"[]"), ("run/experiment.json", b'{"experiment": 3}'),
    ("run/experiment.json", b"\xff\xfe"), ("run/result.json", b"nothing"), ("sweep/sweep.json", b"{"),
    ("run/experiment.json", b"[" * 200_000), ("run/result.json", b'{"a":' * 200_000),
    ("run/result.json", b'{"auroc": 1' + b"0" * 400 + b"}"), ("sweep/sweep.json", b"[" * 200_000),
    ("data/manifest.json", b"[" * 200_000), ("kept/checkpoint.json", b'{"a":' * 200_000),
    ("data/manifest.json", b"{}"), ("kept/checkpoint.json", b'{"schema_version": 99}')])
def test_what_is_damaged_is_said_to_be(harmful, key, data):
    a_run(harmful.at("run"))
    a_run(harmful.at("fine"))
    harmful.write(key, data)
    text = "\n".join(lines(look("bad:")))
    assert "damaged" in text or "update" in text
    assert f"! {key.partition('/')[0]}: {key.partition('/')[2]}" in text
    assert re.search(r"fine +digit 0 +2/2 +0\.9876", text)


def test_nothing_there_is_not_found(harmful):
    with pytest.raises(NotFound, match="nothing there"):
        look("bad:")
    harmful.write("notes.txt", b"")
    with pytest.raises(NotFound, match="only other files"):
        look("bad:")


def test_ten_thousand_objects_cost_one_listing_and_the_small_records(harmful):
    a_run(harmful.at("run"))
    for number in range(10_000):
        harmful.write(f"run/tensorboard/{number}", b"x" * 10)
    harmful.listed = [Entry("run/a//b", 1, 1.0), Entry("other/../x", 1, 1.0)]  # others may call theirs what they like
    harmful.asked.clear()
    found = look("bad:")
    assert sorted(harmful.asked) == ["run/experiment.json", "run/result.json"]
    assert found.places[0].bytes > 100_000


def test_exposure_sets_and_what_is_hidden_are_no_places_of_their_own(harmful, tiny_data):
    copy(tiny_data, harmful.at("data"))
    harmful.write("data/.ray/experiment.json", b"{}")
    assert [one.place.name for one in look("bad:").places] == ["data"]
    assert look("bad:").places[0].exposure == 40


def test_a_store_of_memory_has_no_checkpoints_without_a_record_elsewhere():
    from fcdd_dist.inventory.survey import survey

    store = MemoryStore()
    store.write("train/epoch-000001/000000.tar", b"")
    assert not list(survey(store.list()).all())


def test_numbers_that_are_none_are_left_out(harmful):
    a_run(harmful.at("run"))
    harmful.write("run/result.json", b'{"auroc": NaN, "epochs": true}')
    found = look("bad:")
    assert rows(found)[2][:3] == ["run", "digit 0", "2/2"]
    assert "NaN" not in json.dumps(found.as_json())


def test_names_can_not_write_to_the_terminal(harmful):
    a_run(harmful.at("evil\n\x1b[2J\udcff"))
    harmful.write("evil\n\x1b[2J\udcff/scores.csv", b"")
    key = "evil\n\x1b[2J\udcff/experiment.json"
    told = json.loads(harmful.read(key)) | {"class_name": "\x1b]0;gotcha\x07"}
    harmful.write(key, json.dumps(told).encode())
    harmful.write("other\x1b/manifest.json", b"{}")
    text = lines(look("bad:"))
    assert all(line.isprintable() for line in text)
    assert r"evil\n\x1b[2J\xff" in "".join(text)
    assert r"! other\x1b: manifest.json is damaged" in "".join(text)
    assert all(line.isprintable() for line in lines(look("bad:evil\n\x1b[2J\udcff")))


def test_columns_are_aligned_where_letters_are_wide_or_have_marks(harmful):
    for name in ("実験一二三", "e\u0301te\u0301", "run"):
        a_run(harmful.at(name))
    _, head, *body = lines(look("bad:"))
    at = head.index("class")
    assert {line.index("digit 0") for line in body} == {at, at - 5, at + 2}


def test_the_exposure_set_is_at_one_place_alone(harmful, tiny_data):
    copy(tiny_data, harmful.at("data"))
    copy(tiny_data.at("exposure"), harmful.at("data/more/exposure"))
    harmful.delete("data/exposure/manifest.json")
    by_name = {one.place.name: one for one in look("bad:").places}
    assert set(by_name) == {"data", "data/more/exposure"}
    assert by_name["data"].exposure is None


def test_places_below_a_data_set_are_places_of_their_own(tmp_path, tiny_data):
    """Somebody has sharded into the root of a bucket that holds more."""
    copy(tiny_data, FolderStore(tmp_path))
    copy(tiny_data, FolderStore(tmp_path / "data/digits"))
    found = {one.place.name: one for one in look(str(tmp_path)).places}
    assert {"", "data/digits"} <= set(found)
    assert found[""].bytes == found["data/digits"].bytes
