"""List the runs, sweeps, checkpoints and data sets under a URL.

One listing, and then only the small records are read. A sweep is one line; with its own URL, its trials. With a run's
URL: its checkpoints, which of them are the last and the best, and what is incomplete. What can't be read is listed as
damaged. Times are local.
"""

from __future__ import annotations

import argparse

from .options import add_json, place, show

EXAMPLES = """\
examples:
  fcdd-dist ls s3://bucket
  fcdd-dist ls runs/screws
  fcdd-dist ls s3://bucket/fmnist-all
  fcdd-dist ls s3://bucket/runs --json
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("url", metavar="URL", help="where to look: a bucket, a folder, a run, a sweep, a data set")
    parser.add_argument("--trials", action="store_true", help="list the trials of sweeps among the runs, too")
    add_json(parser)


def run(options: argparse.Namespace) -> int:
    from ..inventory.listing import lines, look

    found = look(place(options.url), trials=options.trials)
    show(found.as_json(), lines(found), options.json)
    return 0
