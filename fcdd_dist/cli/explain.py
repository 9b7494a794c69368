"""Show where your own images look abnormal, and how much.

Writes a picture for every image, the image beside its heatmap, and scores.csv with path, score and label (1 where the
score is above the detector's threshold; empty where it has none). Images that can't be read are named, the others go
on, and the exit code is 1.
"""

from __future__ import annotations

import argparse

from .options import add_json, place, show

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

    failed = explain(checkpoint, given, out, raw=options.raw,
                     colour=options.colour, scale=options.scale, say=Console())
    show({"out": out, "failed": failed},
         [f"pictures and scores.csv are in {out}"] + ([f"{failed} images could not be read"] if failed else []),
         options.json)
    return 1 if failed else 0
