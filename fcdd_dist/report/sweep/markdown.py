"""The report of a sweep as Markdown, with report/*.png and the heatmaps of its trials beside it."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import quote

from ..drawing import Chart
from ..markdown import protocol_table, table, text
from ..words import settings
from . import search, words
from .facts import Facts
from .verdict import verdict, warnings


def markdown(facts: Facts, classes: Sequence[Chart], fields: Sequence[Chart]) -> str:
    """``classes`` and ``fields``: the charts of the table and of the search."""
    sweep, rows = facts.sweep, words.protocol(facts)
    parts = [f"# {text(words.name(facts))}",
             f"FCDD, recipe {text(sweep.recipe)}, {sweep.epochs:,} epochs, protocol {sweep.protocol}.",
             *map(text, verdict(facts)),
             *(f"> **Warning.** {text(line)}" for line in warnings(facts)),
             *map(text, facts.missing),
             "## Classes", table(*words.class_table(facts)), *map(text, words.table_notes(facts)),
             *(part for chart in classes for part in _shown(chart))]
    if rows:
        parts += ["## Beside the paper", protocol_table(rows)]
    else:
        parts += ["## Protocol", table(("what", "value"), words.protocol_here(facts)), text(words.no_comparison(facts))]
    if sweep.search:
        head, tried = search.setting_table(facts)
        parts += ["## Search", *map(text, search.account(facts)), table(head, [cells for _, cells in tried]),
                  *(part for chart in fields for part in _shown(chart))]
    if facts.sheets:
        parts += ["## Heatmaps", text(words.SHEETS_NOTE)]
        for row in facts.table.classes:
            if row.class_id in facts.sheets:
                cell, key, _ = facts.sheets[row.class_id]
                title = text(f"{row.name}, seed {cell.seed}")
                parts += [f"### {title}", f"![Heatmaps of test images, {title}]({quote(f'{cell.trial}/{key}')})"]
    if absent := words.absent(facts):
        parts += ["## What is missing", table(words.ABSENT, absent)]
    if sweep.search and (lost := search.failures(facts)):
        parts += ["## Trainings of the search that failed", table(search.FAILED, lost)]
    parts += ["## How to read it", "\n".join(f"- {text(line)}" for line in words.reading(facts)),
              "## Experiment", table(("setting", "value", "recipe, where it differs"), [
                  (path, value, recipes or "") for path, value, recipes in settings(facts.experiment)]),
              "## Provenance", table(("what", "value"), words.provenance(facts))]
    return "\n\n".join(parts) + "\n"


def _shown(chart: Chart) -> list[str]:
    return [f"### {text(chart.title)}", f"![{text(chart.alt)}](report/{chart.name}.png)"]
