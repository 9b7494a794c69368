"""Train and test many detectors: classes x seeds, of one setting or of the best one of a search.

One command makes a table as the paper's: AUROC for each class, mean and spread over seeds, beside the published
numbers. A sweep is a folder STORAGE/NAME with the table and a run for each trial; the same command goes on where it
stopped, whatever stopped it, and a trial that failed is tried again.

A search compares settings on the hold-outs of the nominal classes and of the exposure set, never on test images, and
always trains on the rest; what it selects is then trained for all classes and seeds, and tested.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING

from ..errors import BadInput
from ..storage import open_store
from .options import RECIPES, add_cache, add_json, cache_of, names, place, share, show, whole
from .train import add_what, auto_precision, check_name, settings_of

if TYPE_CHECKING:
    from ..cluster.slots import TrialPlacement
    from ..cluster.sweep import Order
    from ..sweep.value import Search, Sweep

EXAMPLES = """\
examples:
  fcdd-dist sweep fmnist --data data/fmnist --nominal all --seeds 5 --protocol paper --storage runs --name table3
  fcdd-dist sweep cifar10 --data data/cifar10 --nominal ship,frog --storage runs --name short --epochs 40 \\
      --set schedule.shorten=15 --dry-run
  fcdd-dist sweep folder --data data/screws --nominal good --storage runs --name lr --search optimizer --samples 9
  fcdd-dist report runs/table3

a search space is a file such as
  {"optimizer.lr": {"loguniform": [1e-4, 0.1]}, "network.affine": {"grid": [true, false]}}
with grid, choice, uniform and loguniform over fields that --set takes, but for epochs, precision and heatmap
"""
_SPACES = ("optimizer", "learning-rate", "batch-norm", "augmentation", "exposure")  # those of sweep.spaces
_SELECT = ("holdout_loss", "holdout_auroc")


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("recipe", metavar="RECIPE", help=RECIPES)
    parser.add_argument("--data", metavar="URL", required=True, help="the data set, a folder or s3://bucket/prefix")
    parser.add_argument("--nominal", metavar="all|A,B", type=names, required=True,
                        help="the classes that are normal in turn, by id or name")
    parser.add_argument("--storage", metavar="URL", required=True,
                        help="where sweeps are kept, a folder or s3://bucket/prefix")
    parser.add_argument("--name", metavar="NAME", required=True, help="of the sweep")
    parser.add_argument("--exposure", metavar="URL", help="another exposure set than DATA/exposure")
    parser.add_argument("--dry-run", action="store_true",
                        help="check everything, say what would run, what is done, how many trials at once and for how "
                             "long; start nothing")
    parser.add_argument("--track", metavar="mlflow|wandb", action="append", default=[],
                        help="tell this tracker of every trial, too; may be repeated")
    add_json(parser)

    what = parser.add_argument_group("what is computed (but for --seeds and --epochs, all trials of a name share it)")
    what.add_argument("--seeds", metavar="N", type=whole(1), default=1, help="of each class: 0 to N-1 (default: 1)")
    add_what(what)

    search = parser.add_argument_group("a search")
    search.add_argument("--search", metavar="NAME|FILE",
                        help=f"a search space: {', '.join(_SPACES)}, or a .json or .toml file")
    search.add_argument("--samples", metavar="N", type=whole(1),
                        help="random draws, each with every point of the grids; for optuna, settings")
    search.add_argument("--searcher", metavar="grid|random|optuna",
                        help="default: grid for a space of grids, else random")
    search.add_argument("--scheduler", choices=("asha", "none"), default=None,
                        help="asha: bad settings stop early (default); none: all are trained to the end")
    search.add_argument("--reduction", metavar="N", type=whole(2), default=None,
                        help="of N settings one goes on to N times the epochs (default: 3)")
    search.add_argument("--select", choices=_SELECT, default=None,
                        help="figure of the hold-out that settings are compared by (default: holdout_loss)")
    search.add_argument("--search-seeds", metavar="N", type=whole(1), default=None,
                        help="seeds of each class that a setting is tried with, whatever --seeds is (default: 1)")
    search.add_argument("--search-seed", metavar="S", type=whole(0), default=None,
                        help="of what is drawn, spread out over the space: another one draws other settings "
                        "(default: 0)")

    where = parser.add_argument_group("where it runs (no part of the result)")
    where.add_argument("--cpus-per-trial", metavar="N", type=whole(1), default=1,
                       help="and threads; of each worker, where there are several (default: 1)")
    where.add_argument("--gpus-per-trial", metavar="F", type=float, default=None,
                       help="of each worker; a fraction lets trials share a GPU: 0.1 is ten on each (default: 1 where "
                       "this machine has GPUs, else 0)")
    where.add_argument("--workers-per-trial", metavar="N", type=whole(1), default=1,
                       help="Ray Train workers that share a training (default: 1)")
    where.add_argument("--at-once", metavar="N", type=whole(1),
                       help="no more trials than that (default: all there is room for)")
    where.add_argument("--address", metavar="ADDRESS", help="of a Ray cluster (default: RAY_ADDRESS, or a private Ray)")
    where.add_argument("--max-failures", metavar="N", type=whole(0), default=3,
                       help="crashes of a trial that are survived (default: 3)")
    where.add_argument("--checkpoint-every", metavar="SECONDS", type=whole(1), default=60,
                       help="at least so often, and at the end (default: 60)")
    where.add_argument("--budget", metavar="SHARE", type=share, default=0.05,
                       help="of held-out normal images that a threshold may flag (default: 0.05)")
    add_cache(where)


def run(options: argparse.Namespace) -> int:
    from ..cluster.placement import local_gpus
    from ..cluster.slots import TrialPlacement
    from ..cluster.sweep import sweep
    from ..cluster.trackers import check_known, open_trackers
    from ..sweep.rendering import summary
    from ..training.progress import Console

    console = Console(every=10.0)  # hours of it
    gpus = float(local_gpus() > 0) if options.gpus_per_trial is None else options.gpus_per_trial
    placement = TrialPlacement(options.workers_per_trial, options.cpus_per_trial, gpus, options.at_once,
                               options.max_failures)
    wanted = order(options, placement, console.later)
    if options.dry_run:
        from ..cluster.dry_run import dry_run

        check_known(options.track)
        found, lines = dry_run(wanted, placement, options.address, console)
        show(found, lines, options.json)
        return 0
    trackers = open_trackers(options.track, options.name, console)
    try:
        found = sweep(wanted, placement, options.address, console, console.live, trackers)
    finally:
        console.close()
    show({"sweep": wanted.run, **found}, [f"sweep {wanted.run}", *summary(found)], options.json)
    return 0 if found["complete"] else 1


def order(options: argparse.Namespace, placement: TrialPlacement, say: Callable[[str], None]) -> Order:
    """The sweep that the options mean, and how it is to run. Raises BadInput."""
    from ..cluster.sweep import Order

    check_name(options.name)
    if "/" in options.name:
        raise BadInput(f"--name {options.name!r}: a sweep is a folder of --storage, not of another run or sweep: give "
                       f"all but the last part to --storage")
    url = f"{place(options.storage)}/{options.name}"
    return Order(sweep=_sweep(options, url, placement, say), run=url,
                 checkpoint_every_s=float(options.checkpoint_every), threshold_budget=options.budget,
                 **cache_of(options))


def _sweep(options: argparse.Namespace, url: str, placement: TrialPlacement, say: Callable[[str], None]) -> Sweep:
    from ..cluster.sweep import standing_sweep
    from ..recipes import recipe
    from ..sweep.checks import check_search, check_size, check_tried, prepare_first
    from ..sweep.fields import check_given
    from ..sweep.value import Sweep
    from ..world import World

    search = _search(options)
    settings = settings_of(options)
    check_given(options.settings, search.space if search else {})
    there = standing_sweep(open_store(url))
    if not any(setting.partition("=")[0].strip() == "precision" for setting in settings):
        if there is not None:  # going on never answers again
            answer, why = there.experiment.precision, "as the sweep has it that is there"
        else:
            answer, why = auto_precision(placement.gpus > 0)
        say(f"precision {answer}: {why}")
        settings.append(f"precision={answer}")
    # Any class will do: which there are is for the data set to say.
    base = recipe(options.recipe).experiment(options.nominal[0], 0).override(settings)
    World(0, placement.workers).lanes(base.lanes)
    data, exposure = place(options.data), options.exposure and place(options.exposure)
    prepared, classes = prepare_first(base, data, exposure, url, nominal=options.nominal)
    sweep = Sweep(experiment=prepared.experiment, settings=tuple(settings), classes=classes,
                  names={class_id: prepared.data.class_name(class_id) for class_id in classes}, seeds=options.seeds,
                  protocol=options.protocol, search=search, data=data, exposure=exposure, data_id=prepared.data.id,
                  exposure_id=prepared.exposure.id if prepared.exposure else None)
    check_size(sweep)
    if search is not None:
        check_tried(search, sweep.experiment, placement.workers)
        check_search(prepared, classes)
    return sweep


def _search(options: argparse.Namespace) -> Search | None:
    from ..sweep.searchers import choose, optuna_version
    from ..sweep.spaces import read_space
    from ..sweep.value import Search

    given = {name: value for name in ("samples", "searcher", "scheduler", "reduction", "select", "search_seeds",
                                      "search_seed") if (value := getattr(options, name)) is not None}
    if options.search is None:
        if given:
            raise BadInput(f"--{next(iter(given)).replace('_', '-')} goes with --search SPACE: without one there is "
                           f"nothing to search")
        return None
    if options.scheduler == "none" and options.reduction is not None:
        raise BadInput("--reduction goes with --scheduler asha: with none, no setting stops before the end")
    space = read_space(options.search)
    searcher, samples = choose(options.searcher, space, options.samples)
    if searcher == "grid" and options.search_seed is not None:
        raise BadInput("--search-seed does nothing for a space of grids alone, from which nothing is drawn: leave it "
                       "out")
    given = {name: value for name, value in given.items() if name in ("scheduler", "reduction", "select")}
    return Search(space=space, searcher=searcher, samples=samples, seeds=options.search_seeds or 1,
                  seed=options.search_seed or 0, draws="spread" if searcher == "random" else "independent",
                  optuna_version=optuna_version() if searcher == "optuna" else None, **given)
