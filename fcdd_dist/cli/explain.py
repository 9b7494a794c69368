"""Show where your own images look abnormal, and how much.

Tells every image's score and whether it is above the detector's threshold, and writes a picture of each, the image
beside its heatmap, and scores.csv with path, score and label (1 above the threshold; empty where the detector has
none). Images that can't be read are named, the others go on, and the exit code is 1.

An earlier explanation in --out is written over only by the same detector and where all its images are given again.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import TYPE_CHECKING

from .options import add_json, place, show

if TYPE_CHECKING:
    from ..evaluation.explain import Explanation

EXAMPLES = """\
examples:
  fcdd-dist explain runs/screws photo.jpg --out explained
  fcdd-dist explain runs/screws 'incoming/**/*.png' returned/ --out explained --raw
  fcdd-dist explain s3://team/runs/screws/best s3://team/incoming --out s3://team/explained
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("checkpoint", metavar="CHECKPOINT",
                        help="a checkpoint, or a run for its last one, RUN/best for its best: a folder or "
                        "s3://bucket/prefix")
    parser.add_argument("images", metavar="IMAGE|FOLDER|URL", nargs="+",
                        help="images, folders of images, or globs, here or at s3://bucket/...")
    parser.add_argument("--out", metavar="URL", required=True,
                        help="where pictures and scores.csv go, a folder or s3://bucket/prefix")
    parser.add_argument("--raw", action="store_true", help="write the maps, too, as float32 .npy files")
    parser.add_argument("--colour", metavar="MAP", default="jet",
                        help="matplotlib's name of the heatmap's colours (default: jet, as in the paper)")
    parser.add_argument("--scale", choices=("given", "reference", "each"), default="given",
                        help="what is red: what is high among the images of this call and not below the threshold, or "
                        "beside the detector's reference images (pictures of several calls compare), or within each "
                        "image (default: given)")
    add_json(parser)


def run(options: argparse.Namespace) -> int:
    from ..checkpoint import locate
    from ..evaluation.given import find_images

    out, checkpoint, images = place(options.out), place(options.checkpoint), [place(i) for i in options.images]
    locate(checkpoint)  # it is looked at once more; these refusals don't wait for torch
    given = find_images(images, out)
    from ..evaluation.explain import explain
    from ..training.progress import Console

    found = explain(checkpoint, given, out, raw=options.raw, colour=options.colour, scale=options.scale, say=Console())
    show({"out": out, **asdict(found)}, [*_table(found), f"pictures and scores.csv are in {out}", *(
        [f"{found.failed} image{'s' * (found.failed > 1)} could not be read"] if found.failed else [])], options.json)
    return 1 if found.failed else 0


def _table(found: Explanation) -> list[str]:
    """A line an image; the paths last, which may be long."""
    verdicts = {True: "flagged", False: "not flagged", None: "no threshold"}
    threshold = "-" if found.threshold is None else f"{found.threshold:.4g}"
    rows = [("score", "threshold", "verdict", "image"),
            *((f"{one.score:.4g}", threshold, verdicts[one.flagged], one.path) for one in found.images)]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    return ["  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[3]]) for row in rows]
