"""Train a detector for one normal class, on any number of Ray workers.

Needs a data set that `fcdd-dist shard` wrote. Without --address a private Ray starts on this machine and leaves nothing
behind. A run is a folder STORAGE/NAME; the same command goes on where it stopped, whatever stopped it, and says so
when there is nothing left to do. The number of workers is no part of the result.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import BadInput, NotFound
from ..storage import CachedStore, open_store
from ..words import counted, duration
from ..world import World
from .options import RECIPES, add_cache, add_json, cache_of, figures, place, share, show, warnings, whole

if TYPE_CHECKING:
    from ..cluster.placement import Placement
    from ..experiment import Experiment
    from ..run import Job

EXAMPLES = """\
examples:
  fcdd-dist train fmnist --data data/fmnist --nominal trouser --storage runs
  fcdd-dist train cifar10 --data data/cifar10 --nominal ship --storage runs --workers 2 --epochs 40 \\
      --set schedule.shorten=15
  fcdd-dist train folder --data data/screws --nominal good --storage runs --name screws --set optimizer.lr=0.0005
  ray job submit --working-dir . -- python jobs/train.py fmnist --data /data/fmnist --nominal trouser --storage /runs
"""
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)*")
_CPU_FLAGS = ("avx512_bf16", "amx_bf16")


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("recipe", metavar="RECIPE", help=RECIPES)
    parser.add_argument("--data", metavar="URL", required=True, help="the data set, a folder or s3://bucket/prefix")
    parser.add_argument("--nominal", metavar="CLASS", required=True, help="the class that is normal, by id or name")
    parser.add_argument("--storage", metavar="URL", required=True,
                        help="where runs are kept, a folder or s3://bucket/prefix")
    parser.add_argument("--name", metavar="NAME", help="of the run (default: RECIPE-CLASS-sSEED-HASH)")
    parser.add_argument("--exposure", metavar="URL", help="another exposure set than DATA/exposure")
    add_json(parser)

    what = parser.add_argument_group("what is computed (part of the run's identity, but for --epochs)")
    what.add_argument("--seed", metavar="S", type=int, default=0,
                      help="of weights, order and augmentation (default: 0)")
    add_what(what)

    where = parser.add_argument_group("where it runs (no part of the result)")
    where.add_argument("--workers", metavar="N|N-M", default="1",
                       help="how many; a range takes what a cluster has and grows (default: 1)")
    where.add_argument("--threads", metavar="N", type=whole(1),
                       help="CPUs of a worker (default: an equal share of this machine; 1 on a cluster)")
    where.add_argument("--gpus-per-worker", metavar="N", type=whole(0),
                       help="default: 1 where this machine has GPUs, else 0")
    where.add_argument("--address", metavar="ADDRESS", help="of a Ray cluster (default: RAY_ADDRESS, or a private Ray)")
    where.add_argument("--max-failures", metavar="N", type=whole(0), default=3,
                       help="crashes of workers that are survived (default: 3)")
    where.add_argument("--checkpoint-every", metavar="SECONDS", type=whole(1), default=60,
                       help="at least so often, and at the end (default: 60)")
    where.add_argument("--budget", metavar="SHARE", type=share, default=0.05,
                       help="of held-out normal images that the threshold may flag (default: 0.05)")
    where.add_argument("--decode", choices=("cpu", "cuda"), default="cpu",
                       help="who decodes the JPEGs that are trained on; cuda, by nvJPEG, pays where many GPUs have few "
                       "CPU cores beside them; pixels differ in the last bits, and the result says which it was "
                       "(default: cpu)")
    add_cache(where)


def add_what(what: argparse._ActionsContainer) -> None:
    """What makes an experiment another one than the recipe's."""
    what.add_argument("--epochs", metavar="N", type=whole(1),
                      help="to train (default: the recipe's); the schedule stays as it is, so that 3 and then 6 are 6")
    what.add_argument("--precision", choices=("auto", "bf16", "float32"), default="auto",
                      help="of the net; auto: bf16 where GPUs or this CPU are fast at it (default: auto)")
    what.add_argument("--protocol", choices=("holdout", "paper"), default="holdout",
                      help="paper: train on all images, as published; then no threshold can be chosen (default: "
                      "holdout)")
    what.add_argument("--set", metavar="PATH=VALUE", action="append", default=[], dest="settings",
                      help="any other field of the experiment, such as optimizer.lr=0.001; may be repeated")


def run(options: argparse.Namespace) -> int:
    from ..cluster.placement import Placement
    from ..cluster.train import train
    from ..training.progress import Console

    console = Console()
    placement = Placement.parse(options.workers, cpus=options.threads, gpus=options.gpus_per_worker,
                                max_failures=options.max_failures)
    wanted = job(options, placement, console.later)
    try:
        result = {"run": wanted.run, **train(wanted, placement, options.address, console, console.live)}
    finally:
        console.close()
    show(result, [f"run                {result['run']}", *figures(result),
                  f"trained            {counted(result['epochs'], 'epoch')} in {duration(result['seconds'])}, "
                  f"{result['images_per_s']:,.0f} images/s", *warnings(result)], options.json)
    return 0


def job(options: argparse.Namespace, placement: Placement, say: Callable[[str], None]) -> Job:
    """The job that the options mean, with its name. Raises BadInput."""
    from ..recipes import recipe
    from ..run import Job, prepare

    if options.name is not None:
        check_name(options.name)
    paper = ["data.train_on=train+holdout"] if options.protocol == "paper" else []
    experiment = recipe(options.recipe).experiment(options.nominal, options.seed).override(paper + settings_of(options))
    World(0, placement.most).lanes(experiment.lanes)
    if options.decode == "cuda" and not placement.gpus:
        raise BadInput("--decode cuda needs workers with GPUs, and these have none: leave it out, or give "
                       "--gpus-per-worker 1")
    storage = place(options.storage)
    prepared = prepare(Job(
        experiment=experiment, data=place(options.data), exposure=options.exposure and place(options.exposure),
        run=storage, checkpoint_every_s=float(options.checkpoint_every), threshold_budget=options.budget,
        decode=options.decode, **cache_of(options)))
    unnamed = prepared.job
    if options.cache and not any(isinstance(store, CachedStore) for store in (prepared.data_store,
                                                                              prepared.exposure_store)):
        say(f"--cache {options.cache} is not used: the images are in a folder already")

    def named(precision: str) -> Job:
        experiment = unnamed.experiment.override([f"precision={precision}"])
        name = options.name or default_name(experiment)
        return unnamed.model_copy(update={"experiment": experiment, "run": f"{storage}/{name}"})

    if options.precision != "auto" or _sets_precision(options.settings):
        return named(unnamed.experiment.precision)
    answer, why = auto_precision(placement.gpus > 0)
    for precision in (answer, "float32" if answer == "bf16" else "bf16"):
        if precision_of_run(named(precision).run) == precision:  # a resume never answers again
            answer, why = precision, "as the run has it that is there"
            break
    say(f"precision {answer}: {why}")
    return named(answer)


def check_name(name: str) -> None:
    """Of a run or a sweep. Raises BadInput."""
    if not _NAME.fullmatch(name):
        raise BadInput(f"--name {name!r}: write letters, digits, dots, dashes and underlines, with / between parts")


def settings_of(options: argparse.Namespace) -> list[str]:
    """What differs from the recipe, as overrides; those of --set come last and win."""
    flags = [] if options.precision == "auto" else [f"precision={options.precision}"]
    flags += [] if options.epochs is None else [f"epochs={options.epochs}"]
    for setting in options.settings:
        if setting.startswith(("data.form", "data.recipe", "data.nominal")):
            raise BadInput(f"--set {setting}: this follows from RECIPE, --nominal and the data set")
    return flags + options.settings


def _sets_precision(settings: list[str]) -> bool:
    return any(setting.partition("=")[0].strip() == "precision" for setting in settings)


def default_name(experiment: Experiment) -> str:
    """``<recipe>-<class>-s<seed>-<8 hex>``: without clock or chance, so that the same command finds its run."""
    return f"{experiment.data.recipe}-{experiment.data.nominal}-s{experiment.seed}-{experiment.id[:8]}"


def auto_precision(gpus: bool, cpuinfo: Path = Path("/proc/cpuinfo")) -> tuple[str, str]:
    """``bf16`` or ``float32``, and why, for a person."""
    if gpus:
        return "bf16", "GPUs are asked for"
    try:
        flags = set(cpuinfo.read_text().split())
    except OSError:
        return "float32", "this machine does not tell what its CPU can do"
    found = [flag for flag in _CPU_FLAGS if flag in flags]
    return ("bf16", f"this CPU has {found[0]}") if found else ("float32", "this CPU has neither avx512_bf16 nor amx")


def precision_of_run(run: str) -> str | None:
    """The precision of the run in a folder; None where there is none that can be read."""
    from ..run import EXPERIMENT

    try:
        return json.loads(open_store(run).read(EXPERIMENT))["experiment"]["precision"]
    except (NotFound, ValueError, KeyError, TypeError):  # a damaged one is refused when it is claimed
        return None
