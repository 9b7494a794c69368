"""Whose a run is, by its record: others, too, have an ``experiment.json`` and folders of checkpoints."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cache

from ..checkpoint import FOLDER
from ..errors import BadInput, NotFound
from ..experiment import Experiment, newer_schema
from ..run.job import EXPERIMENT
from ..storage import Store
from .facts import UNREADABLE
from .survey import Survey

UNJUDGED = "not to be judged: "
_CHECKPOINT = re.compile(rf"(?P<run>|.*/){FOLDER}/epoch-\d{{6}}(?:-step-\d{{6}})?/[^/]+")
_RECORD = ("experiment", "fingerprint", "data_id", "class_name")


@dataclass(frozen=True)
class Above:
    """A place above the URL; ``tail``: the way from there to the URL."""

    store: Store
    tail: str


@dataclass(frozen=True)
class Standing:
    """Whether a run is ours."""

    ours: bool
    doubt: str | None = None  # why it can't be judged


class Runs:
    """Which runs are ours, by their records."""

    def __init__(self, store: Store, found: Survey, above: list[Above]) -> None:
        self._store, self._above = store, above
        self._prefixes = {place.prefix for place in found.all() if place.kind == "run"}
        self.of = cache(self._of)
        self._from_above = cache(self._judge_above)

    def around(self, key: str) -> Standing:
        """The run that has ``key`` in one of its checkpoints."""
        match = _CHECKPOINT.fullmatch(key)
        if match and match["run"] in self._prefixes:
            return self.of(match["run"])
        for one in self._above:
            match = _CHECKPOINT.fullmatch(f"{one.tail}/{key}")
            if match and not match["run"]:
                return self._from_above(one)
        return Standing(False)

    def _of(self, prefix: str) -> Standing:
        return _judge_run(at(self._store, prefix))

    def _judge_above(self, one: Above) -> Standing:
        try:
            return _judge_run(one.store)
        except BadInput:  # not ours to see
            return Standing(False)


def _judge_run(run: Store) -> Standing:
    try:
        text = run.read(EXPERIMENT)
    except NotFound:
        return Standing(False)
    if newer_schema(text, 1):
        return Standing(True, f"{UNJUDGED}{EXPERIMENT} was written by a newer fcdd_dist")
    damaged = Standing(True, f"{UNJUDGED}{EXPERIMENT} is damaged")
    try:
        tree = json.loads(text)
    except UNREADABLE:
        return damaged
    if not isinstance(tree, dict) or not all(key in tree for key in _RECORD):
        return Standing(False)
    try:
        Experiment.from_json(json.dumps(tree["experiment"]))
    except (BadInput, *UNREADABLE):
        return damaged
    return Standing(True)


def at(store: Store, prefix: str) -> Store:
    """The store of what is below ``prefix``, which ends with a slash or is empty."""
    return store.at(prefix.rstrip("/")) if prefix else store
