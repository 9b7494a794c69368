"""Train a first detector in two minutes, from images that come along.

Takes scikit-learn's handwritten digits the whole way: shards, two Ray workers, evaluation, heatmaps, report. One digit
is normal, the others are to be found. A toy set: it shows that everything works and how it looks, not how good it is.
"""

from __future__ import annotations

import argparse

from .options import add_json, place, show

EXAMPLES = """\
examples:
  fcdd-dist quickstart
  fcdd-dist quickstart --digit 8 --out /tmp/eights
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", metavar="URL", default="quickstart",
                        help="where everything goes, a folder or s3://bucket/prefix (default: quickstart); what is "
                        "there already is not done again")
    parser.add_argument("--digit", metavar="D", type=int, choices=range(10), default=0,
                        help="the digit that is normal, 0 to 9 (default: 0)")
    add_json(parser)


def run(options: argparse.Namespace) -> int:
    from ..cluster.quickstart import explanation, quickstart
    from ..training.progress import Console

    console = Console()
    try:
        result = quickstart(place(options.out), options.digit, console, console.live)
    finally:
        console.close()
    show(result, explanation(result), options.json)
    return 0
