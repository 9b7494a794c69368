"""The report of a run, from the files of its folder alone.

    report.html     one page that stands by itself
    report.md       the same for places that show Markdown, with report/*.png and heatmaps/*.png
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from urllib.parse import quote

from ..storage import Store
from . import report_words as words
from .report_charts import Chart, charts
from .report_facts import Facts, read_facts
from .report_page import heatmap_title, page
from .report_words import number, percent


def write_report(run: Store) -> None:
    """Writes report.html and report.md into ``run``, over earlier ones. Says what is missing of an unfinished run.

    Raises NotFound where ``run`` is no run folder, and Damaged, naming file and place, for what can't be read.
    """
    facts = read_facts(run)
    drawn = charts(facts)
    for chart in drawn:
        run.write(f"report/{chart.name}.png", chart.png)
    run.write("report.md", markdown(facts, drawn).encode())
    run.write("report.html", page(facts, drawn).encode())
    current = {f"report/{chart.name}.png" for chart in drawn}
    for entry in list(run.list("report/")):
        if entry.key not in current:  # a chart of an earlier report that there are no numbers for any more
            run.delete(entry.key)


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
