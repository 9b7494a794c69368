"""Make a page that shows a run or a sweep: curves, tables, heatmaps, figures.

Writes report.html, one page that needs nothing beside it, and report.md into the folder, from what is there.
"""

from __future__ import annotations

import argparse

from .options import add_json, place, show

EXAMPLES = """\
examples:
  fcdd-dist report runs/fmnist-trouser-s0-0123abcd
  fcdd-dist report s3://team/runs/screws
  fcdd-dist report s3://team/sweeps/fmnist
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("target", metavar="RUN|SWEEP", help="a run or a sweep, a folder or s3://bucket/prefix")
    add_json(parser)


def run(options: argparse.Namespace) -> int:
    from ..report.write import write_report
    from ..storage import open_store

    folder = open_store(place(options.target))
    write_report(folder)
    pages = [f"{folder.url}/report.html", f"{folder.url}/report.md"]
    show({"pages": pages}, pages, options.json)
    return 0
