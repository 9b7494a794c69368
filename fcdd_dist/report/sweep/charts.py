"""The charts of a sweep: the classes beside the paper's, and what each field of a search did."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ...evaluation.pages import printable
from ...published import columns
from ...sweep.space import Axis
from ..drawing import COLOURS, Chart, draw
from .facts import Facts, Setting
from .search import figure_name, shown

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_STATES = {"nominal": "trained to the end", "muted": "trained for less", "anomalous": "selected"}
_LONGEST = 22  # letters of a label


def class_chart(facts: Facts) -> list[Chart]:
    """None while no class has a score."""
    rows = facts.table.classes
    if all(row.auroc_mean is None for row in rows):
        return []
    shows = "A dot a class with its AUROC"
    if any(row.auroc_std is not None for row in rows):
        shows += ", the mean over its seeds, and a bar with their standard deviation"
    if any(columns(facts.sweep.recipe, row.class_id) for row in rows):
        shows += ", beside the paper's FCDD and the best other method of its table"
    return [draw("classes", "AUROC by class", shows, lambda axes: _classes(axes, facts),
                 height=1.2 + 0.27 * len(rows))]


def search_charts(facts: Facts) -> list[Chart]:
    """One a searched field; none where no setting has a finite figure yet."""
    search = facts.table.search
    known = [one for one in search.settings if one.figure is not None] if search else []
    return [draw(f"search-{path.replace('.', '-')}", path, f"The {figure_name(facts)} of the settings against {path}",
                 lambda axes, path=path: _field(axes, facts, path, [one for one in known if path in one.settings]))
            for path in facts.sweep.search.space if any(path in one.settings for one in known)] if known else []


def _classes(axes: Axes, facts: Facts) -> None:
    rows = facts.table.classes
    places = np.arange(len(rows))
    fcdd, best = [], []
    for row in rows:
        entries = columns(facts.sweep.recipe, row.class_id)
        fcdd.append(next((entry.auc for entry in entries if entry.method == "FCDD"), None))
        best.append(max((entry.auc for entry in entries if entry.method != "FCDD" and entry.auc is not None),
                        default=None))
    axes.errorbar(_floats([row.auroc_mean for row in rows]), places, xerr=_floats([row.auroc_std for row in rows], 0.0),
                  fmt="o", color=COLOURS["nominal"], markersize=5.5, elinewidth=1.8, zorder=3,
                  label="here" + (", ± std" if any(row.auroc_std for row in rows) else ""))
    for values, mark, colour, label in ((fcdd, "D", "threshold", "FCDD, paper"),
                                        (best, "|", "muted", "best other, paper")):
        if any(value is not None for value in values):
            axes.plot(_floats(values), places, mark, color=COLOURS[colour], label=label, markersize=9 if mark == "|"
                      else 6, markerfacecolor="none", markeredgewidth=1.8 if mark == "|" else 1.3)
    for cell in facts.done if facts.sweep.seeds > 1 else ():
        if cell.auroc is not None:
            place = next(place for place, row in enumerate(rows) if row.class_id == cell.class_id)
            axes.plot(cell.auroc, place, "o", color=COLOURS["nominal"], markersize=3, alpha=0.35, markeredgewidth=0)
    axes.set_yticks(places, [_label(row.name) for row in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlim(right=min(1.01, axes.get_xlim()[1]) if axes.get_xlim()[1] > 0.97 else None)
    axes.set_xlabel("AUROC")


def _field(axes: Axes, facts: Facts, path: str, settings: Sequence[Setting]) -> None:
    across = _across(axes, facts.sweep.search.space[path], [one.settings[path] for one in settings])
    figures, last = [one.figure for one in settings], facts.table.search.rungs[-1]
    for colour, chosen in (("muted", [one.epochs < last for one in settings]),
                           ("nominal", [one.epochs == last and one != facts.selected for one in settings]),
                           ("anomalous", [one == facts.selected for one in settings])):
        if any(chosen):
            axes.plot(np.array(across)[chosen], np.array(figures)[chosen], "*" if colour == "anomalous" else "o",
                      color=COLOURS[colour], label=_STATES[colour], markersize=13 if colour == "anomalous" else 5.5,
                      markerfacecolor="none" if colour == "muted" else COLOURS[colour])
    if min(figures) > 0 and max(figures) / min(figures) > 30:
        axes.set_yscale("log")
        axes.yaxis.set_minor_formatter("")
    axes.set_xlabel(path)
    axes.set_ylabel(figure_name(facts))


def _across(axes: Axes, axis: Axis, values: Sequence[Any]) -> list[float]:
    """Where ``values`` lie on the axis, which gets its scale: numbers of a range, all others as strips."""
    if axis.is_range:
        low, high = axis.values
        is_log = axis.kind == "loguniform"
        axes.set_xscale("log" if is_log else "linear")
        margin = 0.05 * (high - low)
        axes.set_xlim(*((low / 1.15, high * 1.15) if is_log else (low - margin, high + margin)))
        return [float(value) for value in values]
    labels = list(dict.fromkeys(map(shown, (*axis.values, *values))))
    is_long = sum(map(len, labels)) > 36
    axes.set_xticks(range(len(labels)), map(_label, labels), rotation=30 if is_long else 0,
                    ha="right" if is_long else "center")
    axes.set_xlim(-0.5, len(labels) - 0.5)
    return _strips([labels.index(shown(value)) for value in values])


def _strips(places: Sequence[int]) -> list[float]:
    """Those of one place side by side, in their order."""
    found = []
    for number, place in enumerate(places):
        count, before = places.count(place), places[:number].count(place)
        found.append(place + (0.0 if count == 1 else 0.4 * before / (count - 1) - 0.2))
    return found


def _floats(values: Sequence[float | None], absent: float = np.nan) -> list[float]:
    return [absent if value is None else value for value in values]


def _label(text: str) -> str:
    text = printable(text)
    return (text if len(text) <= _LONGEST else text[:_LONGEST - 1] + "…").replace("$", r"\$")
