"""A run's report as Markdown, with report/*.png and heatmaps/*.png beside it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from urllib.parse import quote

from . import words
from .charts import Chart
from .facts import Facts
from .page import heatmap_title
from .words import number, percent


def markdown(facts: Facts, drawn: Sequence[Chart]) -> str:
    compared, result, experiment = words.comparison(facts), facts.result, facts.experiment
    parts = [f"# {_text(facts.record.class_name)}",
             f"FCDD, recipe {_text(experiment.data.recipe)}, seed {experiment.seed}, {facts.epochs:,} epochs.",
             _text(words.verdict(facts)),
             *(f"> **Warning.** {_text(line)}" for line in words.warnings(facts)),
             *(_text(line) for line in facts.missing)]
    if result:
        parts.append(_table(("AUROC", "average precision"), [(number(result.auroc), number(result.average_precision))]))
    for chart in drawn:
        parts += [f"## {chart.title}", f"![{_text(chart.alt)}](report/{chart.name}.png)"]
    if facts.heatmaps:
        parts += ["## Heatmaps", *(f"![{_text(heatmap_title(key))}]({quote(key)})" for key in facts.heatmaps),
                  "## How to read a heatmap", "\n".join(f"- {_text(line)}" for line in words.reading(facts))]
    rows = words.kinds(facts)
    if rows:
        parts += ["## Kinds of anomalies, the hardest first", _table(
            ("kind", "images", "AUROC", "average precision", "flagged"),
            [(name, f"{images:,}", number(area, ".3f"), number(precision, ".3f"), percent(flagged))
             for name, images, area, precision, flagged in rows])]
    if compared:
        ours = number(compared.ours) + (f" ({compared.difference})" if compared.difference else "")
        parts += ["## Beside the paper", _table(("", "paper", "here"), [
            ("AUROC", f"{compared.theirs:.2f}", ours), *(row[:3] for row in compared.rows)]), f"{compared.source}."]
    else:
        parts.append(_text(words.no_comparison(facts)))
    if result:
        parts += ["## Numbers", _table(("what", "value"), words.figures(facts))]
    parts += ["## Experiment", _table(("setting", "value", "recipe, where it differs"), [
        (path, value, recipes or "") for path, value, recipes in words.settings(facts)]),
        "## Provenance", _table(("what", "value"), words.provenance(facts))]
    return "\n\n".join(parts) + "\n"


def _text(text: str) -> str:
    """``text`` on one line, with everything that Markdown or HTML would take for more than text escaped."""
    text = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|#~$])", r"\\\1", text)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *([_text(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
