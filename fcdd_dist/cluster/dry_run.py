"""What a sweep would do, checked as far as that goes without beginning it: nothing is written but a probe."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from ..data.manifest import Manifest, load_manifest
from ..errors import BadInput
from ..storage import FolderStore, Store, open_store, probe
from ..sweep import forecast
from ..sweep.progress import Progress, progress
from ..sweep.rendering import search_line
from ..sweep.table import table
from ..sweep.value import Sweep
from ..training.estimate import Pace, pace
from ..words import counted, duration
from . import local
from .placement import Placement, cores, local_gpus
from .slots import TrialPlacement, trials_at_once
from .sweep import Order, refuse_early, survey

_WAIT_S = 30.0  # for a free place on the cluster to measure a step


def dry_run(order: Order, placement: TrialPlacement, address: str | None,
            say: Callable[[str], None]) -> tuple[dict[str, Any], list[str]]:
    """The plan as JSON, and as lines for a person. Raises BadInput for all that ``sweep`` would refuse.

    ``crowded`` in the JSON: a trial takes more CPUs than this machine has, and longer than was measured.
    """
    sweep, store = order.sweep, open_store(order.run)
    plan, standings = survey(order, say)
    refuse_early(placement, address)
    probe(_nearest(store))
    found, left = table(plan, standings), progress(plan, standings)
    on_cluster, cpus = bool(address or os.environ.get("RAY_ADDRESS")), placement.cpus * placement.workers
    crowded = not on_cluster and cpus > cores()
    if on_cluster:
        with local.session(address, Placement(cpus=placement.cpus), say):
            local.check_reach(*(open_store(url) for url in (sweep.data, sweep.exposure, order.run) if url))
            nodes = local.resources()
            at_once = trials_at_once(nodes, placement)
            say(f"measuring a step on the cluster, once it has a place free for a trial: waiting up to {_WAIT_S:.0f} s "
                f"for that")
            measured = _on_cluster(sweep, placement)
    else:
        nodes = [{"CPU": max(cores(), cpus), "GPU": local_gpus()}]
        at_once = trials_at_once(nodes, placement)
        say("measuring a step ...")
        threads = min(placement.cpus, cores())
        measured = _measure(sweep.experiment.to_json(), placement.gpus > 0, threads, placement.workers)
    data = load_manifest(open_store(sweep.data))
    total = None if measured is None else forecast.seconds(sweep, data, left, measured, at_once=at_once,
                                                           workers=placement.workers)
    states = [cell["state"] for cell in found["cells"]]
    counts = {state: states.count(state) for state in ("done", "unfinished", "failed", "waiting")}
    result = {"sweep": order.run, "complete": found["complete"], "runs": counts, "search": found["search"],
              "at_once": at_once, "nodes": len(nodes), "epochs_left": left.epochs_left,
              "trainings_left": left.trainings_left, "tests_left": left.tests_left,
              "step_seconds": measured and measured.step, "seconds": total, "crowded": crowded}
    return result, [f"sweep {order.run}", *_what(sweep, plan.rungs, found), _counted(counts, len(states)),
                    f"{at_once} trial{'s' * (at_once > 1)} at once, each with {placement}, on {len(nodes)} "
                    f"node{'s' * (len(nodes) > 1)}", _how_long(sweep, data, left, measured, total),
                    *([_crowded(cpus)] if crowded else [])]


def _nearest(store: Store) -> Store:
    """The folder itself or the nearest one above it that is there: one that is not is left so. Raises BadInput."""
    if not isinstance(store, FolderStore):
        return store
    nearest = next(path for path in (store.root, *store.root.parents) if os.path.lexists(path))
    if not nearest.is_dir():
        raise BadInput(f"{nearest} is no folder, and {store.url} would be in it: give another --storage or --name")
    return FolderStore(nearest)


def _what(sweep: Sweep, rungs: tuple[int, ...], found: dict[str, Any]) -> list[str]:
    classes, search = len(sweep.classes), sweep.search
    lines = [f"{sweep.recipe}: {classes} class{'es' * (classes > 1)} ({', '.join(sweep.names.values())})",
             f"{sweep.seeds} seed{'s' * (sweep.seeds > 1)} each, {sweep.epochs} epochs, protocol {sweep.protocol}, "
             f"{sweep.experiment.precision}"]
    if search is not None:
        known = len(found["search"]["settings"])
        count = f"{known} settings" if search.searcher != "optuna" else f"up to {search.samples} settings"
        many = search.seeds > 1
        lines += [f"search ({search.searcher}) over {', '.join(search.space)}: {count}, each with every class and "
                  f"{search.seeds} seed{'s' * many}",
                  f"compared after {', '.join(str(rung) for rung in rungs)} epochs by "
                  f"{search.select.replace('_', ' ')}, never by test images", search_line(found["search"])]
    return lines


def _counted(counts: dict[str, int], runs: int) -> str:
    shown = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
    return f"{runs} tested run{'s' * (runs > 1)}: {shown}"


def _how_long(sweep: Sweep, data: Manifest, left: Progress, measured: Pace | None, total: float | None) -> str:
    if not left.trainings_left:
        return "nothing is left to do"
    if measured is None or total is None:
        return (f"{counted(left.epochs_left, 'epoch')} to go; for {_WAIT_S:.0f} s the cluster had no place free for a "
                f"trial, to measure a step in")
    steps = forecast.steps_an_epoch(sweep, data)
    return (f"about {duration(total)}: {counted(left.epochs_left, 'epoch')} to go of {steps:,.0f} steps of "
            f"{1000 * measured.step:,.1f} ms, {counted(left.trainings_left, 'training')} to begin, "
            f"{counted(left.tests_left, 'test')} of {forecast.test_images(data):,} images, and "
            f"{forecast.START_S:.0f} s to start")


def _crowded(cpus: int) -> str:
    return (f"a trial takes {cpus} CPUs and this machine has {cores()}: they would be shared, and trials take longer "
            f"than that; give fewer --cpus-per-trial or --workers-per-trial")


def _on_cluster(sweep: Sweep, placement: TrialPlacement) -> Pace | None:
    import ray

    work = ray.remote(num_cpus=placement.cpus, num_gpus=placement.gpus, max_retries=0)(_measure)
    running = work.remote(sweep.experiment.to_json(), placement.gpus > 0, placement.cpus, placement.workers)
    done, _ = ray.wait([running], timeout=_WAIT_S)
    if not done:
        ray.cancel(running, force=True)
        return None
    return ray.get(running)


def _measure(experiment: str, gpu: bool, threads: int, workers: int) -> Pace:
    from ..experiment import Experiment

    return pace(Experiment.from_json(experiment), "cuda" if gpu else "cpu", threads, share=workers)
