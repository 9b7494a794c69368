"""How the table of a sweep looks: CSV a cell, Markdown a class, and plain lines for a terminal."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from .space import shown


def cells_csv(cells: Sequence[Mapping[str, Any]]) -> bytes:
    """A line a cell."""
    text = io.StringIO()
    names = ["class", "name", "seed", "state", "epochs", "auroc", "average_precision", "trial", "reason"]
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(cells)
    return text.getvalue().encode()


def markdown(found: Mapping[str, Any]) -> str:
    """A line a class, and the mean over them where all are there."""
    head = ["class", "seeds", "AUROC", "average precision", "paper", "difference"]
    rows = [[row["name"], f"{row['done']}/{found['seeds']}", _spread(row["auroc_mean"], row["auroc_std"]),
             _number(row["average_precision_mean"]), _number(row["published"], ".2f"),
             _number(row["difference"], "+.3f")] for row in found["classes"]]
    if len(rows) > 1:
        mean = found["mean"]
        rows.append(["mean", "", _number(mean["auroc_mean"]), "", _number(mean["published"], ".2f"),
                     _number(mean["difference"], "+.3f")])
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(_escaped(cell) for cell in line)} |" for line in lines) + "\n"


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
    if found["search"] is not None:
        lines = [*_search_lines(found["search"]), *lines]
    lines += [f"failed {cell['trial']}: {cell['reason']}" for cell in found["cells"] if cell["state"] == "failed"]
    missing = sum(cell["state"] != "done" for cell in found["cells"])
    if missing:
        lines.append(f"{missing} of {len(found['cells'])} runs are missing; {_what_helps(found['search'])}")
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


def _search_lines(search: Mapping[str, Any]) -> list[str]:
    settings = search["settings"]
    if search["selected"] is not None:
        best = settings[search["selected"]]
        return [f"selected setting {best['number']} of {len(settings)} by {search['select'].replace('_', ' ')} "
                f"{best['figure']:.4g}, never by test: {shown(best['settings'])}"]
    counts = Counter(row["state"] for row in settings)
    states = ", ".join(f"{counts[state]} {state}" for state in sorted(counts))
    failed = {cell["trial"]: cell["reason"] for row in settings for cell in row["cells"] if cell["reason"]}
    return [f"no setting is selected of {len(settings)}: {states}",
            *(f"failed {trial}: {reason}" for trial, reason in failed.items())]


def _spread(mean: float | None, std: float | None) -> str:
    return _number(mean) + ("" if std is None else f" ± {std:.4f}")


def _number(value: float | None, form: str = ".4f") -> str:
    return "-" if value is None else format(value, form)


def _escaped(text: str) -> str:
    return " ".join(text.split()).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")
