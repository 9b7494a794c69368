"""What a person sees of a sweep while it runs, on a terminal and elsewhere."""

from __future__ import annotations

import io
import json
import re
import time
from dataclasses import replace

import pytest

from fcdd_dist.cluster.desk import Desk
from fcdd_dist.cluster.sweep_view import SweepView
from fcdd_dist.storage import MemoryStore
from fcdd_dist.sweep.plan import Plan
from fcdd_dist.sweep.standing import Standing
from fcdd_dist.training.progress import Console
from tests.sweep.making import history, result, search, sweep


class Stream(io.StringIO):
    def __init__(self, terminal: bool) -> None:
        super().__init__()
        self.isatty = lambda: terminal


class Scene:
    """A sweep that runs, and all that a person sees of it."""

    def __init__(self, this, standings=None):
        self.desk, self.store = Desk(Plan(this), standings or {}), MemoryStore()
        self.live, self.said = [], []
        self.view = SweepView(self.desk, self.store, lambda *lines: self.live.append(lines), self.said.append)

    def take(self, count):
        return [self.desk.take() for _ in range(count)]

    def write(self, trial, epoch, *, seconds=2.0, images_per_s=1000.0, waited=0.0):
        self.store.write(f"{trial.folder}/metrics.jsonl", "".join(json.dumps(
            {"epoch": number, "seconds": seconds, "images_per_s": images_per_s, "input_wait_s": waited}) + "\n"
            for number in range(1, epoch + 1)).encode())

    def show(self):
        self.view.show(self.desk.standings())
        return self.live[-1]


@pytest.fixture
def minutes(monkeypatch):
    """A clock that is told the minutes since the start."""
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])

    def later(to):
        now[0] = 60.0 * to

    return later


def test_before_anything_is_known(minutes):
    scene = Scene(sweep(["coat"], seeds=3))
    assert scene.show() == ("0/3 done  0 running",)
    scene.take(2)
    minutes(0.5)
    assert scene.view.look(scene.desk.running()) == {}
    assert scene.show() == ("0/3 done  2 running", f"  {'coat-s0':<24} starting, 30 s",
                            f"  {'coat-s1':<24} starting, 30 s")


def test_paces_come_from_the_metrics_of_the_runs(minutes):
    scene = Scene(sweep(["coat"], seeds=2))
    first, second = scene.take(2)
    scene.write(first, 3)
    scene.view.look(scene.desk.running())
    minutes(4)  # Ray's start and the first epochs: it is not known when those began
    assert "eta" not in scene.show()[0]
    scene.write(first, 6, waited=0.02)
    scene.write(second, 6, images_per_s=2345.6, waited=0.5)
    found = scene.view.look(scene.desk.running())
    assert {name: len(lines) for name, lines in found.items()} == {"coat-s0": 6, "coat-s1": 6}
    minutes(13)  # 9 epochs in 9 minutes, 6 to go
    assert scene.show() == (
        "0/2 done  2 running  eta 6:00 min  3,346 images/s  waits up to 25 % for input",
        f"  {'coat-s0':<24} epoch 6/9  1,000 images/s",
        f"  {'coat-s1':<24} epoch 6/9  2,346 images/s  waits 25 % for input")


def test_the_eta_counts_what_this_attempt_has_done(minutes):
    this = sweep(["coat"], seeds=3)
    scene = Scene(this, {"coat-s0": Standing(epochs=6)})
    first, second = scene.take(2)
    scene.write(first, 6)
    scene.view.look(scene.desk.running())
    assert "eta" not in scene.show()[0]  # of what was there before nothing follows
    scene.write(first, 7)
    scene.view.look(scene.desk.running())
    assert "eta" not in scene.show()[0]
    minutes(2)
    scene.desk.done(first.name, result(first))
    scene.view.tell(scene.desk.ended())
    assert "eta 18:00 min" in scene.show()[0]  # 2 epochs in 2 minutes, 18 to go
    scene.write(second, 6)
    scene.view.look(scene.desk.running())
    minutes(8)
    assert "eta 12:00 min" in scene.show()[0]  # 8 in 8 minutes, 12 to go
    scene.desk.failed(second.name, "no memory", False)
    scene.view.tell(scene.desk.ended())
    assert scene.show()[0].startswith("1/3 done  0 running  1 failed  eta ")
    scene.desk.close()
    assert "eta" not in scene.show()[0]  # the rest is for another attempt


@pytest.mark.parametrize("seconds", [0.0, None])
def test_an_epoch_without_a_time_is_no_trouble(seconds):
    scene = Scene(sweep(["coat"], seeds=1))
    trial, = scene.take(1)
    scene.write(trial, 1, seconds=seconds, images_per_s=0.0)
    scene.view.look(scene.desk.running())
    assert scene.show()[1] == f"  {'coat-s0':<24} epoch 1/9  0 images/s"


def test_many_trials_have_twelve_lines_and_are_looked_at_in_turn():
    scene = Scene(sweep(["coat", "bag"], seeds=10))
    trials = scene.take(20)
    for trial in trials:
        scene.write(trial, 1)
    looked = [set(scene.view.look(scene.desk.running())) for _ in range(3)]
    assert [len(names) for names in looked] == [8, 8, 8]
    assert set.union(*looked) == {trial.name for trial in trials}
    shown = scene.show()
    assert shown[0] == "0/20 done  20 running  " + shown[0].partition("running  ")[2]
    assert len(shown) == 1 + 12 + 1
    assert shown[-1] == "  and 8 more"


def test_what_has_ended_counts_no_more_even_where_its_metrics_are_read_late():
    scene = Scene(sweep(["coat"], seeds=2))
    first, second = scene.take(2)
    scene.write(first, 9)
    scene.write(second, 2)
    scene.view.look(scene.desk.running())
    assert "2,000 images/s" in scene.show()[0]
    scene.desk.done(first.name, result(first))
    scene.view.tell(scene.desk.ended())
    assert "1,000 images/s" in scene.show()[0]
    assert set(scene.view.look(scene.desk.running())) == {second.name}


def test_each_that_ends_has_a_line(minutes):
    scene = Scene(sweep(["coat"], seeds=4))
    best, none, failed, stopped = scene.take(4)
    minutes(1)
    scene.desk.done(best.name, result(best, auroc=0.98765))
    scene.desk.done(none.name, result(none, auroc=None))
    scene.desk.failed(failed.name, "no memory", False)
    scene.desk.interrupted(stopped.name, [])
    scene.view.tell(scene.desk.ended())
    assert scene.said == [
        "coat-s0: AUROC 0.9877 in 1:00 min", "coat-s1: AUROC none in 1:00 min",
        "coat-s2: failed: no memory", "coat-s3: stopped, with everything committed"]


def test_of_a_search_it_tells_figures_of_the_hold_out(minutes):
    scene = Scene(sweep(["coat"], search=search(samples=9)))
    trial, other = scene.take(2)
    line = history(trial, 1)[0] | {"holdout_loss": 0.123456}
    scene.desk.done(trial.name, {"history": [line]})
    scene.desk.done(other.name, {"history": [line | {"holdout_loss": None, "holdout_auroc": None}]})
    scene.view.tell(scene.desk.ended())
    assert scene.said == [f"{trial.name}: epoch 1, holdout loss 0.1235, holdout auroc {line['holdout_auroc']} in 0 s",
                          f"{other.name}: epoch 1 in 0 s"]
    scene.show()
    third, = scene.take(1)
    scene.desk.done(third.name, {"history": history(third, 1)})
    scene.view.tell(scene.desk.ended())
    minutes(1)
    # In one minute 1, of 9 + 3 * 2 + 6 epochs 3 are done; and two runs are to be tested.
    assert scene.show()[0] == ("search: 1/9 settings decided  0 running  eta 36:00 min  "
                               "best setting 0: holdout loss 0.1235 after 1 epoch")


def test_on_a_terminal_of_80_columns_the_eta_is_seen(minutes, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("LINES", "24")
    stream = Stream(terminal=True)
    scene = Scene(sweep(["t-shirt_top"], seeds=99, epochs=400, search=search(samples=300)))
    console = Console(stream)
    scene.view = SweepView(scene.desk, scene.store, console.live, console)
    trials = scene.take(30)
    for trial in trials[:16]:  # of which eight are looked at in turn
        scene.write(trial, 1, images_per_s=99999.0, waited=1.9)
    scene.desk.failed(trials[-1].name, "no memory", False)
    scene.view.tell(scene.desk.ended())
    scene.view.look(scene.desk.running())
    scene.view.show(scene.desk.standings())
    minutes(700)
    drawn = len(stream.getvalue())
    scene.view.look(scene.desk.running())
    scene.view.show(scene.desk.standings())
    lines = re.sub(r"\x1b\[\d*[A-Za-z]|\r", "", stream.getvalue()[drawn:]).split("\n")  # drawn over the first ones
    head, = [line for line in lines if line.startswith("search")]
    assert "eta" in head
    assert max(len(line) for line in lines) < 80
    assert len(lines) <= 24
    assert any("epoch 1/1  99,999 images/s  waits 95 % for" in line for line in lines)


def test_elsewhere_there_is_a_line_of_the_whole_now_and_then(minutes):
    stream, scene = Stream(terminal=False), Scene(sweep(["coat"], seeds=3))
    console = Console(stream, clock=time.monotonic)
    scene.view = SweepView(scene.desk, scene.store, console.live, console)
    first, *_ = scene.take(3)
    for second in range(5):
        minutes(second / 60)
        scene.view.show(scene.desk.standings())
    scene.desk.failed(first.name, "no memory", False)
    scene.view.tell(scene.desk.ended())
    assert stream.getvalue().splitlines() == ["0/3 done  3 running", "coat-s0: failed: no memory"]


def test_a_trial_that_goes_on_begins_where_it_was():
    scene = Scene(sweep(["coat"], seeds=1), {"coat-s0": replace(Standing(), epochs=4)})
    assert scene.desk.take().name == "coat-s0"
    assert scene.desk.running()[0].epochs == 4
