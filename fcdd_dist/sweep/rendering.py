"""How the table of a sweep looks: CSV a cell, Markdown a class, and plain lines for a terminal."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Mapping
from typing import Any

from ..words import counted
from .plan import signed
from .space import shown

_SHOWN = 6  # of what may be many


def cells_csv(found: Mapping[str, Any]) -> bytes:
    """A line a cell; of a search with the setting, once one is selected, and what it was selected by."""
    text, search = io.StringIO(), found["search"]
    names = ["class", "name", "seed", "state", "epochs", "auroc", "average_precision", "trial", "reason", "doubts"]
    selected = {}
    if search is not None:
        names += ["setting", "selected_by"]
        if search["selected"] is not None:
            best = search["settings"][search["selected"]]
            selected = {"setting": shown(best["settings"]), "selected_by": _by(search, best)}
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows({**cell, "doubts": ", ".join(cell["doubts"]), **selected} for cell in found["cells"])
    return text.getvalue().encode()


def markdown(found: Mapping[str, Any]) -> str:
    """A line a class, and the mean over them where all are there; below it what must be known of it."""
    head = ["class", "seeds", "AUROC", "average precision", "paper", "difference"]
    rows = [[row["name"], f"{row['done']}/{found['seeds']}", _spread(row["auroc_mean"], row["auroc_std"]),
             _number(row["average_precision_mean"]), _number(row["published"], ".2f"),
             _number(row["difference"], "+.3f")] for row in found["classes"]]
    if len(rows) > 1:
        mean = found["mean"]
        rows.append(["mean", "", _number(mean["auroc_mean"]), "", _number(mean["published"], ".2f"),
                     _number(mean["difference"], "+.3f")])
    lines = [head, ["---"] * len(head), *rows]
    text = [f"| {' | '.join(_escaped(cell) for cell in line)} |" for line in lines]
    if notes := [*_search_lines(found["search"]), *_notes(found)]:
        text += ["", *(f"- {_escaped(note)}" for note in notes)]
    return "\n".join(text) + "\n"


def summary(found: Mapping[str, Any]) -> list[str]:
    """The table in plain lines, and what is not in it, for a person at a terminal."""
    head = ("class", "seeds", "AUROC", "paper", "difference")
    rows = [(row["name"], f"{row['done']}/{found['seeds']}", _spread(row["auroc_mean"], row["auroc_std"]),
             _number(row["published"], ".2f"), _number(row["difference"], "+.3f")) for row in found["classes"]]
    if len(rows) > 1:
        mean = found["mean"]
        rows.append(("mean", "", _number(mean["auroc_mean"]), _number(mean["published"], ".2f"),
                     _number(mean["difference"], "+.3f")))
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
             for row in (head, *rows)]
    return [*_search_lines(found["search"]), *lines, *_notes(found)]


def search_line(search: Mapping[str, Any]) -> str:
    """What a search has come to: how many settings stand where, and which leads; or which is selected, and by what."""
    settings = search["settings"]
    if search["selected"] is not None:
        best = settings[search["selected"]]
        return (f"selected setting {best['number']} of {len(settings)} by {_by(search, best)}, never by test: "
                f"{shown(best['settings'])}")
    counts = Counter((row["state"], row["epochs"]) for row in settings)
    states = ", ".join(f"{counts[state, epochs]} {state}" + (f" after {counted(epochs, 'epoch')}" if epochs else "")
                       for state, epochs in sorted(counts))
    known = [row for row in settings if row["figure"] is not None]
    leads = min(known, default=None, key=lambda row: (-row["epochs"], signed(row["figure"], search["select"])))
    best = f"; setting {leads['number']} leads by {_by(search, leads)}: {shown(leads['settings'])}" if leads else ""
    return f"no setting is selected of {len(settings)}: {states}{best}"


def _notes(found: Mapping[str, Any]) -> list[str]:
    """What must be known of the table, the most urgent last."""
    cells, lines = found["cells"], []
    if found["departures"]:
        lines.append(f"not the paper's protocol: {', '.join(found['departures'])}")
    lines += [f"failed {cell['trial']}: {cell['reason']}" for cell in cells if cell["state"] == "failed"]
    if missing := sum(cell["state"] != "done" for cell in cells):
        lines.append(f"{missing} of {len(cells)} runs are missing; {_what_helps(found['search'])}")
    if broken := [f"{cell['name']} seed {cell['seed']} ({', '.join(cell['doubts'])})" for cell in cells
                  if cell["doubts"]]:
        more = f" and {len(broken) - _SHOWN} more" if len(broken) > _SHOWN else ""
        lines.append(f"warning: {len(broken)} of {len(cells)} detectors {'are' if len(broken) > 1 else 'is'} broken: "
                     f"{', '.join(broken[:_SHOWN])}{more}; train with more --epochs, or look at the exposure set and "
                     f"at the learning rate")
    return lines


def _what_helps(search: Mapping[str, Any] | None) -> str:
    """Against runs that are missing."""
    if search is None or search["selected"] is not None:
        return "the same command tries them again"
    if all(row["state"] == "stopped" or _diverged(row) for row in search["settings"]):
        return "all settings that went on have diverged: give other values, and another --name"
    blocking = [cell["trial"] for row in search["settings"] if not _diverged(row) for cell in row["cells"]
                if cell["reason"]]
    if not blocking:
        return "the same command goes on with the search that they wait for"
    more = f" and {len(blocking) - 1} more" if len(blocking) > 1 else ""
    return f"they wait for a search that lacks {blocking[0]}{more}; the same command tries again"


def _diverged(row: Mapping[str, Any]) -> bool:
    """Whether it is certain, for a setting, which then waits for nothing any more."""
    return row["epochs"] > 0 and row["figure"] is None


def _search_lines(search: Mapping[str, Any] | None) -> list[str]:
    if search is None:
        return []
    failed = {} if search["selected"] is not None else {
        cell["trial"]: cell["reason"] for row in search["settings"] for cell in row["cells"] if cell["reason"]}
    return [search_line(search), *(f"failed {trial}: {reason}" for trial, reason in failed.items())]


def _by(search: Mapping[str, Any], row: Mapping[str, Any]) -> str:
    return f"{search['select'].replace('_', ' ')} {row['figure']:.4g} after {counted(row['epochs'], 'epoch')}"


def _spread(mean: float | None, std: float | None) -> str:
    return _number(mean) + ("" if std is None else f" ± {std:.4f}")


def _number(value: float | None, form: str = ".4f") -> str:
    return "-" if value is None else format(value, form)


def _escaped(text: str) -> str:
    return " ".join(text.split()).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")
