"""Name what killed writers have left behind, and remove it with --yes.

Incomplete checkpoints of runs, shards that no manifest names, temporary files, abandoned multipart uploads, stale notes
of drivers. Only named, never removed: what is younger than --older-than, what a driver, a sharding or a pull has in use
or may go on with, and what can't be judged. Files of others are neither named nor touched.
"""

from __future__ import annotations

import argparse
import sys

from .options import add_json, place, show

EXAMPLES = """\
examples:
  fcdd-dist clean s3://bucket/runs
  fcdd-dist clean s3://bucket/runs --yes
  fcdd-dist clean data/fmnist --older-than 2 --yes
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("url", metavar="URL", help="where to look: a bucket, a folder, a run, a sweep, a data set")
    parser.add_argument("--yes", action="store_true", help="remove what is named; without it nothing is removed")
    parser.add_argument("--older-than", metavar="HOURS", type=hours, default=24.0,
                        help="what has been left alone for so long (default: 24)")
    add_json(parser)


def hours(text: str) -> float:
    """A number of hours, not below 0."""
    try:
        number = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no number") from None
    if not 0 <= number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is no number of hours from 0")
    return number


def run(options: argparse.Namespace) -> int:
    from ..inventory.clean import clean, lines

    result = clean(place(options.url), older_than_s=options.older_than * 3600, remove=options.yes,
                   say=lambda line: print(line, file=sys.stderr))
    show(result.as_json(), lines(result), options.json)
    return 0
