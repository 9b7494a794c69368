"""Make a page that shows a run: curves, scores, heatmaps, figures.

Writes report.html, one page that needs nothing beside it, and report.md into the run, from what is there.
"""

from __future__ import annotations

import argparse

from .options import add_json, place, show

EXAMPLES = """\
examples:
  fcdd-dist report runs/fmnist-trouser-s0-0123abcd
  fcdd-dist report s3://team/runs/screws
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("target", metavar="RUN", help="a run, a folder or s3://bucket/prefix")
    add_json(parser)


def run(options: argparse.Namespace) -> int:
    from ..report.write import write_report
    from ..storage import open_store

    run_ = open_store(place(options.target))
    write_report(run_)
    pages = [f"{run_.url}/report.html", f"{run_.url}/report.md"]
    show({"pages": pages}, pages, options.json)
    return 0
