"""Writes the report of a run into its folder.

    report.html     one page that stands by itself
    report.md       the same for places that show Markdown, with report/*.png and heatmaps/*.png
"""

from __future__ import annotations

from ..storage import Store
from .run.charts import charts
from .run.facts import read_facts
from .run.markdown import markdown
from .run.page import page


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
