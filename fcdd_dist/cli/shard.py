"""Turn images into a data set: checked, scaled and stored in shards.

Reads what you have (idx files, class folders, CIFAR batches, ...), does once what need not be done in every epoch, and
writes webdataset shards with a manifest that vouches for every byte. Images that can't be read are left out and named.

RECIPE is a data set we know (digits, fmnist, cifar10, imagenet30), or folder for your own images. Outlier exposure,
the other images that the objective needs, comes from --exposure and goes into OUT/exposure; `shard exposure` writes an
exposure set by itself, to be shared by many data sets of one recipe.

Killed anywhere, the same command goes on from what is finished, and ends with the same bytes, on any number of workers.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import BadInput, Interrupted
from .options import RECIPES, add_json, names, place, show, whole

if TYPE_CHECKING:
    from ..experiment import Form

EXAMPLES = """\
examples:
  fcdd-dist shard digits --out data/digits
  fcdd-dist shard fmnist --source fashion-mnist --exposure emnist --out data/fmnist
  fcdd-dist shard cifar10 --source cifar-10-batches-py --exposure cifar100 --download --out data/cifar10
  fcdd-dist shard folder --source screws --exposure ~/Pictures --form jpeg95-240-rgb --out data/screws
  fcdd-dist shard folder --source screws --exposure ~/Pictures --out s3://team/data/screws
  fcdd-dist shard imagenet30 --source ILSVRC2012 --exposure fall11_whole.tar --workers 16 --out data/imagenet30
  fcdd-dist shard exposure --like fmnist --source other-images --out data/exposure
"""

_LONGEST_LIST = 16 << 20  # characters


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("recipe", metavar="RECIPE",
                        help=f"{RECIPES}; or exposure, with --like")
    parser.add_argument("--source", metavar="PATH",
                        help="the images as you have them, on this machine (digits need none)")
    parser.add_argument("--exposure", metavar="PATH",
                        help="images for outlier exposure, on this machine, not of any class to be found")
    parser.add_argument("--like", metavar="RECIPE", help="with `shard exposure`: the recipe that it is for")
    parser.add_argument("--out", metavar="URL", required=True,
                        help="where the data set goes, a folder or s3://bucket/prefix, with no other files in it")
    parser.add_argument("--classes", metavar="all|A,B", type=names, default=None,
                        help="only these classes (default: the recipe's that are there; of a folder all)")
    parser.add_argument("--exclude", metavar="LIST|A,B|FILE", default=None,
                        help="classes to leave out of the exposure: ids or names, the lists imagenet1k (the default of "
                             "imagenet30) and benchmark30, a file with one of these a line, or none: nothing")
    parser.add_argument("--form", metavar="FORM", default=None,
                        help="how images are stored: square-SIDE (the whole image scaled), short-side-SIDE (its aspect "
                             "kept), or all of it, such as png-32-rgb or jpeg95-240-rgb (default: the recipe's)")
    parser.add_argument("--allow-bad", metavar="N", type=whole(0), default=None,
                        help="images of a split that may be unreadable (default: 0.1 %%, at least 3)")
    parser.add_argument("--workers", metavar="N", type=whole(1), default=None,
                        help="Ray tasks at once (default: none, this process does it; on a cluster all of its CPUs)")
    parser.add_argument("--address", metavar="ADDRESS", default=None,
                        help="of a Ray cluster (default: RAY_ADDRESS, or with --workers a private Ray on this machine)")
    parser.add_argument("--download", action="store_true",
                        help="let torchvision download what --source or --exposure lacks")
    add_json(parser)


def run(options: argparse.Namespace) -> int:
    from ..data.manifest import EXPOSURE, MANIFEST, load_manifest
    from ..data.shards.write import shard, shard_exposure
    from ..data.sources import on_this_machine
    from ..recipes import recipe
    from ..storage import exists, open_store, probe
    from ..training.progress import Console

    exposure_only = options.recipe == "exposure"
    _check(options, exposure_only)
    like = recipe(options.like if exposure_only else options.recipe).name
    console = Console()
    settings = {"form": _form(options.form, like, console) if options.form else None,
                "exclude": _excluded(options.exclude), "allow_bad": options.allow_bad, "download": options.download,
                "progress": console.live, "say": console}
    source, exposure = (path and str(on_this_machine(place(path))) for path in (options.source, options.exposure))
    out = open_store(place(options.out))
    if not exists(out, MANIFEST):
        probe(out)
    try:
        with _runner(options, console) as runner:
            if runner is not None:
                settings["runner"] = runner
            if exposure_only:
                manifest = shard_exposure(like, source, out, **settings)
            else:
                manifest = shard(like, source, out, exposure=exposure, classes=options.classes, **settings)
    except KeyboardInterrupt:  # with workers they end in order, and say as much
        raise Interrupted("stopped by SIGINT; what is finished stands, and the same command goes on from there"
                          ) from None
    finally:
        console.close()
    outliers = load_manifest(out.at(EXPOSURE)) if not exposure_only and exists(out.at(EXPOSURE), MANIFEST) else None
    left_out = (*manifest.left_out, *(outliers.left_out if outliers else ()))
    counts = {split: sum(part.samples for part in parts.values()) for split, parts in manifest.splits.items()}
    if outliers:
        counts[EXPOSURE] = sum(part.samples for parts in outliers.splits.values() for part in parts.values())
    result = {"out": out.url, "id": manifest.id, "form": str(manifest.form), "counts": counts,
              "classes": [entry.id for entry in manifest.classes],
              "left_out": [entry.model_dump() for entry in left_out]}
    lines = [f"data set {out.url}",
             f"{len(manifest.classes)} class{'es' * (len(manifest.classes) != 1)}, stored as {manifest.form}",
             *(f"{count:>9,} images in {split}" for split, count in counts.items()),
             *([f"{len(left_out):>9,} left out"] if left_out else []),
             *(f"left out {entry.source}: {entry.reason}" for entry in left_out[:10])]
    if len(left_out) > 10:
        lines.append(f"left out {len(left_out) - 10} more; the manifests name them")
    show(result, lines, options.json)
    return 0


def _check(options: argparse.Namespace, exposure_only: bool) -> None:
    if exposure_only:
        if options.like is None:
            raise BadInput("`shard exposure` needs --like RECIPE: the recipe whose nominal images it goes with")
        for flag in ("exposure", "classes"):
            if getattr(options, flag) is not None:
                raise BadInput(f"--{flag} has no meaning with `shard exposure`: its images come from --source")
    elif options.like is not None:
        raise BadInput("--like goes with `shard exposure`")


def _runner(options: argparse.Namespace, say: Callable[[str], None]) -> AbstractContextManager:
    """Of Ray tasks where workers or a cluster are asked for; None where this process does it all."""
    if options.workers is None and not options.address and not os.environ.get("RAY_ADDRESS"):
        return nullcontext()
    from ..cluster.local import refuse_early
    from ..cluster.placement import Placement
    from ..cluster.shard import RayTasks

    refuse_early(Placement(cpus=1), options.address)
    return RayTasks(options.workers, options.address, say)


def _form(text: str, like: str, say: Callable[[str], None]) -> Form:
    """What --form asks for. Raises BadInput where the recipe's random crops are larger; whatever else training would
    refuse is only said, since training may have other settings."""
    from ..experiment import Form
    from ..model.architectures import check_fit, info
    from ..recipes import recipe

    base = recipe(like).form
    form = Form.parse(text, base)
    experiment = recipe(like).experiment("", 0)
    crop = info(experiment.network.name).image_size
    if experiment.augmentation.crop == "random" and form.side < crop:
        raise BadInput(f"--form {text}: recipe {like} trains on crops of {crop} px, which don't fit into images of "
                       f"{form.side}: give square-{base.side} (as the recipe has it), short-side-{base.side}, or "
                       f"another side from {crop}")
    try:
        check_fit(experiment.model_copy(update={"data": experiment.data.model_copy(update={"form": form})}))
    except BadInput as error:
        say(f"to train on this form takes other settings than recipe {like} has: {error}")
    return form


def _excluded(text: str | None) -> tuple[str, ...] | None:
    from ..recipes.exclusions import NAMED, NONE

    if text is None:
        return None
    if text == NONE:
        return ()
    try:
        if text not in NAMED and "," not in text and (path := Path(text).expanduser()).is_file():
            return _lines(path)
        found = names(text)
    except argparse.ArgumentTypeError as error:
        raise BadInput(f"--exclude: {error}") from None
    if NONE in found:
        raise BadInput(f"--exclude {text}: {NONE} leaves out nothing, so it goes alone")
    return found


def _lines(path: Path) -> tuple[str, ...]:
    """The classes in a file: of a line its first word where that is a WordNet id, as in lists that have both ids and
    names (n01440764 tench, Tinca tinca), else all of it."""
    from ..data.sources.source import is_wnid

    try:
        with open(path, encoding="utf-8-sig") as file:
            text = file.read(_LONGEST_LIST + 1)
    except OSError as error:
        raise BadInput(f"--exclude: {path} can't be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise BadInput(f"--exclude: {path} is no text in UTF-8, with the name of a class a line") from None
    if len(text) > _LONGEST_LIST:
        raise BadInput(f"--exclude: {path} has more than {_LONGEST_LIST:,} characters, which no list of classes has")
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    if not lines:
        raise BadInput(f"--exclude: {path} names nothing: it should have the name of a class a line")
    return tuple(first if is_wnid(first := line.split()[0]) else line for line in lines)
