"""The charts of a sweep: the classes beside the paper's, and what each field of a search did."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ...evaluation.pages import printable
from ...published import columns
from ...sweep.space import Axis
from ..drawing import COLOURS, Chart, draw, draw_panels
from ..words import listed
from .facts import Facts
from .search import figure_name, shown
from .words import epochs_apart

if TYPE_CHECKING:
    from matplotlib.axes import Axes

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
    """One a searched field, with a panel for each rung: after different epochs figures are not comparable.

    None where no setting has a finite figure yet.
    """
    rungs, found = [rung for rung, figures in facts.figures.items() if figures], []
    if not rungs:
        return []
    for path in facts.sweep.search.space:
        shows = f"The {figure_name(facts)} of the settings against {path}"
        if len(rungs) > 1:
            shows += f", in a panel each after {listed([f'{rung:,}' for rung in rungs])} epochs"
        found.append(draw_panels(
            f"search-{path.replace('.', '-')}", path, shows,
            lambda panels, path=path: _field(panels, facts, path, rungs), len(rungs), height=1.2 + 1.8 * len(rungs)))
    return found


def _classes(axes: Axes, facts: Facts) -> None:
    rows = facts.table.classes
    places = np.arange(len(rows))
    fcdd, best = [], []
    for row in rows:
        entries = columns(facts.sweep.recipe, row.class_id)
        fcdd.append(next((entry.auc for entry in entries if entry.method == "FCDD"), None))
        best.append(max((entry.auc for entry in entries if entry.method != "FCDD" and entry.auc is not None),
                        default=None))
    means, stds = (_floats([getattr(row, name) for row in rows], absent)
                   for name, absent in (("auroc_mean", np.nan), ("auroc_std", 0.0)))
    above = [min(std, max(0.0, 1 - mean)) for mean, std in zip(means, stds, strict=True)]  # no AUROC is beyond 1
    apart = epochs_apart(facts)
    axes.errorbar(means, places, xerr=[stds, above], fmt="o", color=COLOURS["nominal"], markersize=5.5,
                  elinewidth=1.8, zorder=3, label="here" + (f" ({apart[1]:,} epochs)" if apart else "")
                  + (", ± std" if any(stds) else ""))
    for values, mark, colour, label in ((fcdd, "D", "threshold", "FCDD, paper" + (f" ({apart[0]:,})" if apart else "")),
                                        (best, "|", "muted", "best other, paper")):
        if any(value is not None for value in values):
            axes.plot(_floats(values), places, mark, color=COLOURS[colour], label=label, markersize=9 if mark == "|"
                      else 6, markerfacecolor="none", markeredgewidth=1.8 if mark == "|" else 1.3)
    place_of = {row.class_id: place for place, row in enumerate(rows)}
    singles = [cell for cell in facts.done if cell.auroc is not None] if any(stds) else []
    if singles:  # above the bar, which would hide them
        axes.plot([cell.auroc for cell in singles], [place_of[cell.class_id] - 0.27 for cell in singles], "o",
                  color=COLOURS["ink"], markersize=3, markeredgewidth=0, alpha=0.8, zorder=4, label="single seeds")
    axes.set_yticks(places, [_label(row.name) for row in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlim(right=min(1.01, axes.get_xlim()[1]) if axes.get_xlim()[1] > 0.97 else None)
    axes.set_xlabel("AUROC")


def _field(panels: Sequence[Axes], facts: Facts, path: str, rungs: Sequence[int]) -> None:
    """A panel for each of the ``rungs``, with all settings that are known there: those that stopped, and the others."""
    search = facts.table.search
    for axes, rung in zip(panels, rungs, strict=True):
        there = [one for one in search.settings if one.number in facts.figures[rung] and path in one.settings]
        figures = np.array([facts.figures[rung][one.number] for one in there])
        across = np.array(_across(axes, facts.sweep.search.space[path], [one.settings[path] for one in there]))
        last = rung == search.rungs[-1]
        for mark, colour, filled, label, chosen in (
                ("o", "muted", False, "stopped or undecided", [one.epochs == rung and not last for one in there]),
                ("o", "nominal", True, "went on or finished",
                 [(one.epochs > rung or last) and one != facts.selected for one in there]),
                ("*", "anomalous", True, "selected", [one == facts.selected for one in there])):
            if any(chosen):
                axes.plot(across[chosen], figures[chosen], mark, color=COLOURS[colour], label=label,
                          markersize=13 if mark == "*" else 5.5,
                          markerfacecolor=COLOURS[colour] if filled else "none")
        if figures.size and figures.min() > 0 and figures.max() / figures.min() > 30:
            axes.set_yscale("log")
            axes.yaxis.set_minor_formatter("")
        axes.margins(y=0.12)
        axes.set_title(f"after {rung:,} epoch{'s' * (rung != 1)}: {len(there):,} setting{'s' * (len(there) != 1)}",
                       loc="left", fontsize=9)
        axes.set_ylabel(figure_name(facts))
    panels[-1].set_xlabel(path)


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
