"""``fcdd-dist ls``: what there is under a URL, as lines and as JSON."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass

from ..errors import NotFound
from ..storage import open_store
from ..words import amount
from .facts import Facts, day, facts, facts_of, in_parallel, shown
from .survey import Kind, Place, survey
from .unfinished import GOES_ON, Sharding, find_shardings

_WIDTH = 100  # that lines keep to; a name that is too long for it stands out of its column


@dataclass
class Found:
    """What there is under ``url``; where that is a run (``run``), ``places`` are its checkpoints, and where it is a
    sweep (``sweep``), its trials."""

    url: str
    places: list[Facts]
    run: Facts | None = None
    sweep: Facts | None = None
    last: str | None = None  # names of checkpoints
    best: str | None = None

    def as_json(self) -> dict:
        found = {"url": self.url, "places": [_json(one) for one in self.places]}
        if self.sweep:
            return found | {"sweep": _json(self.sweep)}
        return found | ({"run": _json(self.run), "last": self.last, "best": self.best} if self.run else {})


def look(url: str, *, trials: bool = False) -> Found:
    """Lists ``url`` once and reads the small records. Raises NotFound where there is nothing of ours.

    ``trials``: also those of sweeps, where ``url`` is not the sweep itself.
    """
    store = open_store(url)
    found = survey(store.list())
    begun = [_begun(sharding) for sharding in find_shardings(store, found) if not sharding.finished]
    if not (begun or any(True for _ in found.all())):
        raise NotFound(f"{store.url} holds no run, sweep, checkpoint or data set: "
                       + ("there are only other files" if found.others or found.hidden else "there is nothing there"))
    if found.root is None or found.root.kind not in ("run", "sweep"):
        return Found(store.url, facts_of(store, found, trials=trials) + begun)
    if found.root.kind == "sweep":
        own, *places = facts_of(store, found, trials=True)
        return Found(store.url, places + begun, sweep=own)
    run = found.root
    checkpoints = in_parallel(lambda place: facts(store, place), run.checkpoints)
    whole = [one for one in checkpoints if not one.missing and not one.damaged]
    losses = {one.place.base: one.holdout_loss for one in whole if one.holdout_loss is not None}
    return Found(store.url, checkpoints, facts(store, run), last=whole[-1].place.base if whole else None,
                 best=min(losses, key=losses.get, default=None))


def lines(found: Found) -> list[str]:
    """For a person, in groups."""
    if found.run is not None:
        return _of_run(found)
    out = [] if found.sweep is None else _of_sweep(found.url, found.sweep, found.places)
    for kind, title, columns in _GROUPS:
        group = [one for one in found.places if one.place.kind == kind]
        if kind == "run":
            columns = columns + [column for column in _OF_TRIALS if any(column[1](one) for one in group)]
        if group:
            out += [*([""] if out else []), f"{title} ({len(group):,})",
                    *_table([name for name, *_ in columns], [[cell(one) for _, cell in columns] for one in group])]
            out += _notes(group)
            if kind == "unfinished sharding":
                out.append(f"  ! {GOES_ON}")
    return out


def _of_sweep(url: str, sweep: Facts, runs: list[Facts]) -> list[str]:
    """``runs``: those that its trials have come to be; others failed before that."""
    told = [shown(sweep.recipe or ""), f"{_counted(sweep.classes, 'class', 'classes')} with "
            f"{_counted(sweep.seeds, 'seed', 'seeds')}, {_done(sweep)} done" if sweep.cells else "",
            f"mean AUROC {_auroc(sweep)}" if sweep.auroc is not None else "", amount(sweep.bytes), day(sweep.modified)]
    there = {one.place.name for one in runs}
    return [shown(f"sweep {url}"), "  " + ", ".join(part for part in told if part),
            *([shown(f"  {sweep.search}")] if sweep.search else []), *_notes([sweep]),
            *(_failed(name, trial.reason) for name, trial in sweep.trials.items()
              if trial.reason and name not in there)]


def _begun(sharding: Sharding) -> Facts:
    place = Place("unfinished sharding", sharding.prefix, {entry.key: entry for entry in sharding.entries})
    out = Facts(place, sum(entry.size for entry in place.entries), max(entry.modified for entry in place.entries),
                recipe=sharding.recipe, missing=sharding.state)
    if not sharding.newer:
        out.tasks, out.tasks_done = len(sharding.tasks), sharding.done
    return out


def _of_run(found: Found) -> list[str]:
    run = found.run
    told = [shown(run.recipe or ""), run.class_name and shown(f"class {run.class_name}"),
            f"epoch {_epochs(run)}" if run.epochs else "",
            f"AUROC {_auroc(run)}" if run.auroc is not None else "", amount(run.bytes), day(run.modified)]
    out = [shown(f"run {found.url}"), "  " + ", ".join(part for part in told if part), *_notes([run])]
    if not found.places:
        return [*out, "", "no checkpoint yet"]

    def state(one: Facts) -> str:
        marks = [mark for mark, name in (("last", found.last), ("best", found.best)) if name == one.place.base]
        return "damaged" if one.damaged else "incomplete" if one.missing else " ".join(["complete", *marks])

    rows = [[one.place.base, _epochs(one), _loss(one), amount(one.bytes), day(one.modified), state(one)]
            for one in found.places]
    out += ["", f"checkpoints ({len(rows):,})",
            *_table(["name", "epoch", "hold-out loss", "size", "date", "state"], rows)]
    return out + _notes(found.places)


def _table(titles: list[str], rows: list[list[str]]) -> list[str]:
    """Aligned: numbers to the right, as their titles tell."""
    widths = [max(_width(cell) for cell in column) for column in zip(titles, *rows, strict=True)]
    others = sum(width + 2 for title, width in zip(titles[1:], widths[1:], strict=True) if title != "setting")
    widths[0] = max(len(titles[0]), min(widths[0], _WIDTH - others - 2))
    rights = {"epoch", "AUROC", "size", "images", "exposure", "classes", "seeds", "done", "mean AUROC",
              "hold-out loss"}

    def line(cells: list[str]) -> str:
        gaps = [" " * (width - _width(cell)) for cell, width in zip(cells, widths, strict=True)]
        return "  " + "  ".join(gap + cell if title in rights else cell + gap
                                for title, cell, gap in zip(titles, cells, gaps, strict=True)).rstrip()

    return [line(titles), *(line(row) for row in rows)]


def _notes(group: list[Facts]) -> list[str]:
    return [shown(f"  ! {_name(one)}: {one.damaged or one.missing}") for one in group
            if one.damaged or (one.missing and one.place.kind != "unfinished sharding")] + [
                _failed(_name(one), one.trial.reason) for one in group if one.trial.reason]


def _failed(name: str, reason: str) -> str:
    return shown(f"  ! {name}: failed: {reason}")


def _width(text: str) -> int:
    """Columns of a terminal: letters of East Asia take two, and marks on others none."""
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def _name(one: Facts) -> str:
    return shown(one.place.name or ".")


def _class(one: Facts) -> str:
    return "damaged" if one.damaged else _short(one.class_name or "")


def _short(text: str) -> str:
    text = shown(text)
    if _width(text) <= 16:
        return text
    while _width(text) > 15:
        text = text[:-1]
    return text + "…"


def _epochs(one: Facts) -> str:
    if one.epochs is None and one.epoch is None:
        return ""
    step = f" +{one.step}" if one.step else ""
    return f"{one.epoch or 0}{step}" + (f"/{one.epochs}" if one.epochs is not None else "")


def _auroc(one: Facts) -> str:
    return "" if one.auroc is None else f"{one.auroc:.4f}"


def _loss(one: Facts) -> str:
    return "" if one.holdout_loss is None else f"{one.holdout_loss:.4g}"


def _done(one: Facts) -> str:
    return "" if one.cells is None else f"{'?' if one.cells_done is None else one.cells_done}/{one.cells}"


def _counted(count: int | None, one: str, more: str) -> str:
    return f"{count:,} {one if count == 1 else more}"


def _number(value: int | None) -> str:
    return "" if value is None else f"{value:,}"


_SIZE = ("size", lambda one: amount(one.bytes))
_DATE = ("date", lambda one: day(one.modified))
_OF_TRIALS = [("state", lambda one: shown(one.trial.state or "")),
              ("setting", lambda one: shown(one.trial.setting or ""))]  # the last: it may be long
_GROUPS: list[tuple[Kind, str, list]] = [
    ("sweep", "sweeps", [
        ("name", _name), ("recipe", lambda one: "damaged" if one.damaged else _short(one.recipe or "")),
        ("classes", lambda one: _number(one.classes)), ("seeds", lambda one: _number(one.seeds)), ("done", _done),
        ("mean AUROC", _auroc), _SIZE, _DATE]),
    ("run", "runs", [("name", _name), ("class", _class), ("epoch", _epochs), ("AUROC", _auroc), _SIZE, _DATE]),
    ("checkpoint", "checkpoints", [("name", _name), ("class", lambda one: "incomplete" if one.missing else _class(one)),
                                   ("epoch", _epochs), ("hold-out loss", _loss), _SIZE, _DATE]),
    ("data set", "data sets", [
        ("name", _name), ("recipe", lambda one: "damaged" if one.damaged else _short(one.recipe or "")),
        ("classes", lambda one: _short(one.class_name or "") or _number(one.classes)),
        ("images", lambda one: _number(one.images)), ("exposure", lambda one: _number(one.exposure)), _SIZE, _DATE]),
    ("unfinished sharding", "unfinished shardings", [
        ("name", _name), ("recipe", lambda one: _short(one.recipe or "")), ("state", lambda one: one.missing or ""),
        _SIZE, _DATE]),
]


def _json(one: Facts) -> dict:
    values = {name: getattr(one, name) for name in ("class_name", "recipe", "epoch", "step", "epochs", "auroc",
                                                    "holdout_loss", "classes", "seeds", "cells", "cells_done",
                                                    "images", "exposure", "tasks", "tasks_done", "search")}
    values |= {name: getattr(one.trial, name) for name in ("state", "reason", "setting")}
    return {"name": one.place.name, "kind": one.place.kind, **{k: v for k, v in values.items() if v is not None},
            "bytes": one.bytes, "modified": one.modified, "damaged": one.damaged, "incomplete": one.missing}
