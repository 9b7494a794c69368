"""Score a data set's test images with a trained detector.

Takes a run (its last checkpoint) or a checkpoint, and the data set that it was trained on or another of the same
recipe and form. Prints AUROC and average precision, exact and from all scores, also per kind of anomaly.
"""

from __future__ import annotations

import argparse

from ..storage import open_store
from .options import add_json, figures, place, show, warnings

EXAMPLES = """\
examples:
  fcdd-dist evaluate runs/fmnist-trouser-s0-0123abcd --data data/fmnist
  fcdd-dist evaluate runs/screws/checkpoints/epoch-000120 --data data/screws --json
  fcdd-dist evaluate s3://team/runs/screws/best --data s3://team/data/screws
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("target", metavar="RUN|CHECKPOINT",
                        help="a run, or one of its checkpoints: a folder or s3://bucket/prefix")
    parser.add_argument("--data", metavar="URL", required=True, help="the data set, a folder or s3://bucket/prefix")
    add_json(parser)


def run(options: argparse.Namespace) -> int:
    from ..checkpoint import locate
    from ..data.manifest import load_manifest

    locate(place(options.target))  # both are looked at once more; these refusals don't wait for torch
    load_manifest(open_store(place(options.data)))
    from ..evaluation.evaluate import evaluate
    from ..training.progress import Console

    result = evaluate(place(options.target), place(options.data), say=Console())
    flagged = [f"flagged            {portion:.1%} of {name} images" for name, portion in
               result.get("flagged", {}).items()]
    show(result, figures(result) + flagged + warnings(result), options.json)
    return 0
