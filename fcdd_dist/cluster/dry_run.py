"""What a sweep would do, checked as far as that goes without beginning it: nothing is written but a probe."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from ..data.manifest import Manifest, load_manifest
from ..errors import BadInput
from ..storage import FolderStore, Store, open_store, probe
from ..sweep.progress import progress
from ..sweep.rendering import search_line
from ..sweep.table import table
from ..sweep.value import Sweep
from ..training.estimate import step_seconds
from ..words import duration
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
    found, left = table(plan, standings), progress(plan, standings).epochs_left
    on_cluster, cpus = bool(address or os.environ.get("RAY_ADDRESS")), placement.cpus * placement.workers
    crowded = not on_cluster and cpus > cores()
    if on_cluster:
        with local.session(address, Placement(cpus=placement.cpus), say):
            local.check_reach(*(open_store(url) for url in (sweep.data, sweep.exposure, order.run) if url))
            nodes = local.resources()
            at_once = trials_at_once(nodes, placement)
            say("measuring a step on the cluster ...")
            seconds = _on_cluster(sweep, placement)
    else:
        nodes = [{"CPU": max(cores(), cpus), "GPU": local_gpus()}]
        at_once = trials_at_once(nodes, placement)
        say("measuring a step ...")
        threads = min(placement.cpus, cores())
        seconds = _measure(sweep.experiment.to_json(), placement.gpus > 0, threads, placement.workers)
    steps = _steps(sweep, load_manifest(open_store(sweep.data)))
    total = None if seconds is None else seconds * steps * left / at_once
    states = [cell["state"] for cell in found["cells"]]
    counts = {state: states.count(state) for state in ("done", "unfinished", "failed", "waiting")}
    result = {"sweep": order.run, "complete": found["complete"], "runs": counts, "search": found["search"],
              "at_once": at_once, "nodes": len(nodes), "epochs_left": left,
              "step_seconds": seconds, "seconds": total, "crowded": crowded}
    return result, [f"sweep {order.run}", *_what(sweep, plan.rungs, found), _counted(counts, len(states)),
                    f"{at_once} trial{'s' * (at_once > 1)} at once, each with {placement}, on {len(nodes)} "
                    f"node{'s' * (len(nodes) > 1)}", _how_long(seconds, steps, left, total),
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


def _how_long(seconds: float | None, steps: float, epochs: int, total: float | None) -> str:
    if not epochs:
        return "nothing is left to do"
    if seconds is None or total is None:
        return f"{epochs:,} epochs to go; no place was free within {_WAIT_S:.0f} s to measure a step"
    return (f"about {duration(total)}: {epochs:,} epochs to go of {steps:,.0f} steps of {1000 * seconds:,.1f} ms, "
            f"without starting, input and testing")


def _crowded(cpus: int) -> str:
    return (f"a trial takes {cpus} CPUs and this machine has {cores()}: they would be shared, and trials take longer "
            f"than that; give fewer --cpus-per-trial or --workers-per-trial")


def _steps(sweep: Sweep, data: Manifest) -> float:
    """Of an epoch, the mean over classes."""
    batch, repeats = sweep.experiment.batch_size, sweep.experiment.data.repeats
    splits = ("train", "holdout") if sweep.protocol == "paper" else ("train",)
    images = [sum(part.samples for split in splits if (part := data.part(split, class_id)) is not None) * repeats
              for class_id in sweep.classes]
    return sum(-(-count // batch) for count in images) / len(images)


def _on_cluster(sweep: Sweep, placement: TrialPlacement) -> float | None:
    import ray

    work = ray.remote(num_cpus=placement.cpus, num_gpus=placement.gpus, max_retries=0)(_measure)
    running = work.remote(sweep.experiment.to_json(), placement.gpus > 0, placement.cpus, placement.workers)
    done, _ = ray.wait([running], timeout=_WAIT_S)
    if not done:
        ray.cancel(running, force=True)
        return None
    return ray.get(running)


def _measure(experiment: str, gpu: bool, threads: int, workers: int) -> float:
    from ..experiment import Experiment

    return step_seconds(Experiment.from_json(experiment), "cuda" if gpu else "cpu", threads, share=workers)
