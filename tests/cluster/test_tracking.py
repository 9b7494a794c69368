"""What trackers are told of a sweep: beginnings, epochs once each, and ends."""

from __future__ import annotations

import json

import pytest

from fcdd_dist.cluster.desk import Desk
from fcdd_dist.cluster.tracking import Tracking
from fcdd_dist.errors import Fault
from fcdd_dist.storage import MemoryStore
from fcdd_dist.sweep.plan import Plan
from fcdd_dist.sweep.trials import parameters
from tests.sweep.making import history, result, search, sweep


class Notes:
    """A tracker that writes down what it is told."""

    def __init__(self):
        self.told = []

    def start(self, trial, values):
        self.told.append(("start", trial, values))

    def epochs(self, trial, lines):
        self.told.append(("epochs", trial, [line["epoch"] for line in lines]))

    def finish(self, trial, state, figures, reason):
        self.told.append(("finish", trial, state, figures, reason))

    def close(self):
        self.told.append(("close",))


class Scene:
    def __init__(self, this):
        self.desk, self.store, self.notes = Desk(Plan(this), {}), MemoryStore(), Notes()
        self.tracking = Tracking([self.notes], self.store)

    def metrics(self, trial, epochs):
        lines = history(trial, epochs)
        self.store.write(f"{trial.folder}/metrics.jsonl", "".join(json.dumps(line) + "\n" for line in lines).encode())
        return lines

    def look(self, metrics=None):
        self.tracking.tell(self.desk.ended())
        self.tracking.look(self.desk.running(), metrics or {})
        told, self.notes.told = self.notes.told, []
        return told


NOTHING = {"auroc": None, "average_precision": None}


def test_a_run_from_its_beginning_to_its_end():
    scene = Scene(sweep(["coat"], seeds=1))
    trial = scene.desk.take()
    assert scene.look() == [("start", "coat-s0", parameters(trial))]
    assert scene.look() == []
    assert scene.look({trial.name: scene.metrics(trial, 2)}) == [("epochs", "coat-s0", [1, 2])]
    assert scene.look({trial.name: scene.metrics(trial, 2)}) == []
    assert scene.look({trial.name: scene.metrics(trial, 4)}) == [("epochs", "coat-s0", [3, 4])]
    scene.metrics(trial, 9)
    found = result(trial)
    scene.desk.done(trial.name, found)
    assert scene.look() == [
        ("epochs", "coat-s0", [5, 6, 7, 8, 9]),
        ("finish", "coat-s0", "done", {name: found[name] for name in ("auroc", "average_precision")}, None)]


def test_what_failed_and_what_was_stopped():
    scene = Scene(sweep(["coat"], seeds=2))
    first, second = scene.desk.take(), scene.desk.take()
    scene.desk.failed(first.name, "no memory", False)
    scene.desk.interrupted(second.name, [])
    assert scene.look() == [
        ("start", "coat-s0", parameters(first)), ("finish", "coat-s0", "failed", NOTHING, "no memory"),
        ("start", "coat-s1", parameters(second)), ("finish", "coat-s1", "unfinished", NOTHING, None)]


def test_a_setting_that_comes_further_starts_once_more_and_goes_on_with_its_epochs():
    scene = Scene(sweep(["coat"], seeds=1, search=search(samples=3)))
    assert scene.desk.plan.rungs == (3, 9)
    trials = [scene.desk.take() for _ in range(3)]
    for trial in trials:
        scene.desk.done(trial.name, {"history": scene.metrics(trial, 3)})
    scene.look()
    again = scene.desk.take()
    assert again.name in {trial.name for trial in trials}
    assert scene.look() == [("start", again.name, parameters(again))]
    scene.desk.done(again.name, {"history": scene.metrics(again, 9)})
    assert scene.look() == [("epochs", again.name, [4, 5, 6, 7, 8, 9]), ("finish", again.name, "done", NOTHING, None)]


def test_the_last_ends_are_told_before_it_closes():
    scene = Scene(sweep(["coat"], seeds=1))
    trial = scene.desk.take()
    scene.desk.interrupted(trial.name, [])
    scene.tracking.tell(scene.desk.ended())
    scene.tracking.close()
    assert [told[0] for told in scene.notes.told] == ["start", "finish", "close"]


def test_trackers_are_closed_even_where_the_storage_fails():
    class Broken(MemoryStore):
        def at(self, prefix):
            raise Fault("no answer")

    scene = Scene(sweep(["coat"], seeds=1))
    scene.tracking = Tracking([scene.notes], Broken())
    scene.desk.interrupted(scene.desk.take().name, [])
    scene.tracking.tell(scene.desk.ended())
    with pytest.raises(Fault, match="no answer"):
        scene.tracking.close()
    assert scene.notes.told[-1] == ("close",)


def test_without_trackers_nothing_is_read_and_nothing_kept():
    scene = Scene(sweep(["coat"], seeds=1))
    scene.tracking = Tracking([], scene.store)
    scene.desk.interrupted(scene.desk.take().name, [])
    assert scene.look() == []
    scene.tracking.close()
