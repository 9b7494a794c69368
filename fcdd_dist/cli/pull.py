"""Take a run, a sweep, a checkpoint or a data set along, into a folder.

Fetches several files at once and verifies every size and SHA-256. Broken off, the same command goes on where it was;
given again, it fetches what is new. Nothing half is ever under its final name, and the records that vouch for files
come last. What belongs to a driver at work stays; a run that is being trained is taken as far as it is committed.
"""

from __future__ import annotations

import argparse

from ..errors import BadInput
from .options import add_json, place, show

EXAMPLES = """\
examples:
  fcdd-dist pull s3://bucket/runs/screws screws
  fcdd-dist pull s3://bucket/runs/screws/best detector
  fcdd-dist pull s3://bucket/runs/screws screws --checkpoints best
  fcdd-dist pull s3://bucket/data/fmnist data/fmnist
  fcdd-dist pull s3://bucket/fmnist-all fmnist-all --checkpoints last
  fcdd-dist pull s3://bucket/fmnist-all/trials/trouser-s0 trouser
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("url", metavar="URL",
                        help="a run, RUN/best, RUN/last, a checkpoint, a data set, a sweep, or what holds several runs")
    parser.add_argument("folder", metavar="DIR", help="where it goes: empty, new, or an earlier copy of the same")
    parser.add_argument("--checkpoints", choices=("all", "last", "best"), default="all",
                        help="of each run; best: the last one where no images were held out (default: all)")
    add_json(parser)


def run(options: argparse.Namespace) -> int:
    from ..inventory.pull import pull, summary
    from ..training.progress import Console

    console, folder = Console(), place(options.folder)
    if "://" in folder:
        raise BadInput(f"{folder}: pull writes into a folder of this machine; copies between buckets are other tools' "
                       f"work")
    try:
        result = pull(place(options.url), folder, which=options.checkpoints, say=console,
                      live=console.live)
    finally:
        console.close()
    show(result, summary(result), options.json)
    return 0
