"""A run's report as Markdown, with report/*.png and heatmaps/*.png beside it."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import quote

from ..drawing import Chart
from ..markdown import protocol_table, table, text
from ..words import number, percent, reading, settings
from . import words
from .facts import Facts
from .page import heatmap_title


def markdown(facts: Facts, drawn: Sequence[Chart]) -> str:
    compared, result, experiment = words.comparison(facts), facts.result, facts.experiment
    parts = [f"# {text(facts.record.class_name)}",
             f"FCDD, recipe {text(experiment.data.recipe)}, seed {experiment.seed}, {facts.epochs:,} epochs.",
             text(words.verdict(facts)),
             *(f"> **Warning.** {text(line)}" for line in words.warnings(facts)),
             *(text(line) for line in facts.missing)]
    if result:
        parts.append(table(("AUROC", "average precision"), [(number(result.auroc), number(result.average_precision))]))
    for chart in drawn:
        parts += [f"## {chart.title}", f"![{text(chart.alt)}](report/{chart.name}.png)"]
    if facts.heatmaps:
        parts += ["## Heatmaps", *(f"![{text(heatmap_title(key))}]({quote(key)})" for key in facts.heatmaps),
                  "## How to read a heatmap", "\n".join(f"- {text(line)}" for line in reading(facts.experiment))]
    rows = words.kinds(facts)
    if rows:
        parts += ["## Kinds of anomalies, the hardest first", table(
            ("kind", "images", "AUROC", "average precision", "flagged"),
            [(name, f"{images:,}", number(area, ".3f"), number(precision, ".3f"), percent(flagged))
             for name, images, area, precision, flagged in rows])]
    if compared:
        ours = number(compared.ours) + (f" ({compared.difference})" if compared.difference else "")
        parts += ["## Beside the paper", protocol_table([
            ("AUROC", f"{compared.theirs:.2f}", ours, False), *compared.rows]), f"{compared.source}."]
    else:
        parts.append(text(words.no_comparison(facts)))
    if result:
        parts += ["## Numbers", table(("what", "value"), words.figures(facts))]
    parts += ["## Experiment", table(("setting", "value", "recipe, where it differs"), [
        (path, value, recipes or "") for path, value, recipes in settings(facts.experiment)]),
        "## Provenance", table(("what", "value"), words.provenance(facts))]
    return "\n\n".join(parts) + "\n"
