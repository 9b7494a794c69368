"""Writes the report of a run or of a sweep into its folder.

    report.html     one page that stands by itself
    report.md       the same for places that show Markdown, with report/*.png and heatmaps/*.png
"""

from __future__ import annotations

from ..errors import NotFound
from ..run import EXPERIMENT
from ..storage import Store, exists
from ..sweep.value import SWEEP
from . import run, sweep


def write_report(folder: Store) -> None:
    """Writes report.html and report.md into ``folder``, over earlier ones. Says what is missing of what is unfinished.

    Raises NotFound where ``folder`` is of no run and no sweep, and Damaged, naming file and place, for what can't be
    read.
    """
    if exists(folder, EXPERIMENT):
        pages = run.report(folder)
    elif exists(folder, SWEEP):
        pages = sweep.report(folder)
    else:
        next(iter(folder.list()), None)  # raises where there is no bucket, which looks for single keys can't tell
        raise NotFound(f"{folder.url} is no folder of a run or of a sweep: it has neither {EXPERIMENT} nor {SWEEP}")
    for chart in pages.charts:
        folder.write(f"report/{chart.name}.png", chart.png)
    folder.write("report.md", pages.markdown.encode())
    folder.write("report.html", pages.html.encode())
    current = {f"report/{chart.name}.png" for chart in pages.charts}
    for entry in list(folder.list("report/")):
        if entry.key not in current:  # a chart of an earlier report that there are no numbers for any more
            folder.delete(entry.key)
