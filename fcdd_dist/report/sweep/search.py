"""What the report of a sweep says of its search: how settings were compared, which one was selected, and on what."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from ..words import listed, number
from .facts import Facts, Setting

_FIGURES = {"holdout_loss": ("mean hold-out loss", "the smaller the better"),
            "holdout_auroc": ("hold-out AUROC", "the larger the better")}
_WAYS = {"grid": "all combinations of the values that were given", "random": "drawn at random",
         "optuna": "proposed by Optuna"}
FAILED = ("Setting", "Class", "Seed", "Why")  # the head of ``failures``


def figure_name(facts: Facts) -> str:
    return _FIGURES[facts.sweep.search.select][0]


def account(facts: Facts) -> list[str]:
    """How the search went, in plain sentences."""
    search, table = facts.sweep.search, facts.table.search
    name, better = _FIGURES[search.select]
    drawn = "" if search.searcher == "grid" else f" (search seed {search.seed})"
    tried = table.settings if table else ()
    said = [selection(facts),
            f"{len(tried):,} settings are known, {_WAYS[search.searcher]}{drawn}. They are compared by the {name}, "
            f"{better}: the mean over {len(facts.sweep.classes):,} classes and {search.seeds:,} "
            f"{'seed' if search.seeds == 1 else 'seeds'}.",
            "The hold-out are nominal training images and exposure images that were set aside and that no training of "
            "the search has seen. Test images played no part: a training of the search is never tested."]
    if table and len(table.rungs) > 1:
        rungs = listed([f"{rung:,}" for rung in table.rungs[:-1]])
        said.append(f"Successive halving: after {rungs} epochs the best of every {search.reduction} settings goes on; "
                    f"the last are trained for {table.rungs[-1]:,}. Figures after different numbers of epochs are not "
                    f"comparable.")
    else:
        said.append(f"Every setting is trained for all {facts.sweep.epochs:,} epochs.")
    return said


def selection(facts: Facts) -> str:
    chosen = facts.selected
    if chosen is None:
        return "No setting is selected yet: figures are still missing, or none of them is finite."
    values = ", ".join(f"{path} = {shown(value)}" for path, value in chosen.settings.items())
    return (f"Selected was setting {chosen.number} ({values}) by its {figure_name(facts)} of "
            f"{number(chosen.figure, '.4g')} after {chosen.epochs:,} epochs. It was then trained for every class and "
            f"seed and tested: these are the figures of the table.")


def setting_table(facts: Facts) -> tuple[Sequence[str], list[tuple[Setting, tuple[str, ...]]]]:
    """Head and rows: the selected setting first, then those that came furthest, the best of them first."""
    fields = list(facts.sweep.search.space)
    head = ("Setting", *fields, "State", "Epochs", figure_name(facts).capitalize())
    settings = sorted(facts.table.search.settings if facts.table.search else (), key=lambda one: _rank(facts, one))
    return head, [(one, (f"{one.number}", *(shown(one.settings[path]) if path in one.settings else "-"
                                            for path in fields),
                         "selected" if one == facts.selected else one.state, f"{one.epochs:,}",
                         number(one.figure, ".4g"))) for one in settings]


def failures(facts: Facts) -> list[tuple[str, ...]]:
    """(setting, class, seed, why) of the trainings of the search that failed."""
    names = facts.sweep.names
    return [(f"{one.number}", names.get(cell.class_id, cell.class_id), f"{cell.seed}", cell.reason)
            for one in (facts.table.search.settings if facts.table.search else ())
            for cell in one.cells if cell.reason]


def shown(value: Any) -> str:
    """A value of a setting; of a group of fields its kind and their own."""
    if isinstance(value, Mapping):
        return ", ".join(shown(inner) if key == "kind" else f"{key} {shown(inner)}" for key, inner in value.items())
    return value if isinstance(value, str) else json.dumps(value)


def _rank(facts: Facts, one: Setting) -> tuple:
    sign = 1 if facts.sweep.search.select == "holdout_loss" else -1
    return (one != facts.selected, -one.epochs, one.figure is None, sign * (one.figure or 0), one.number)
