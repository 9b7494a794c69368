"""What every rank of a run does: open the data, train from where the run stands, evaluate, leave the results.

The caller has initialised torch.distributed where there is more than one rank. Rank 0 alone writes.
"""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING

from ..errors import Fault, Interrupted
from ..storage import Counts, counts, open_store
from ..world import World
from .job import RESULT, Job, Prepared, prepare

if TYPE_CHECKING:
    import torch

    from ..model.normalization import Preprocessing
    from ..stream.batches import Stream
    from ..training.fit import State
    from .commit import Commits

Say = Callable[[str], None]


def run_rank(job: Job, world: World, device: str = "cpu", say: Say = lambda line: None,
             on_step: Callable[[State], None] = lambda state: None, *, prepared: Prepared | None = None) -> dict:
    """Trains and evaluates; returns the result. ``on_step`` looks on after every step. ``prepared``: where the caller
    has prepared this very job just now, which takes listings of the data.

    Without ``job.evaluate`` it opens no test image and leaves no result; it returns the lines of metrics, ``history``.
    When it returns, the last checkpoint is committed. Raises Interrupted, with the state committed, where a stop was
    requested by ``stop.json`` in the run folder; also what storage failed with beside the training.
    """
    import torch

    from ..detector import Detector, build_network
    from ..training.fit import State, fit
    from .commit import Commits

    if job.threads:
        torch.set_num_threads(job.threads)
    torch.backends.cudnn.allow_tf32 = False  # float32 means float32, on GPUs, too
    spent_before = counts()
    prepared, where = prepared or prepare(job), torch.device(device)
    e = prepared.experiment
    _agree(prepared, world, where)
    preprocessing = measured_preprocessing(prepared)
    stream = open_stream(prepared, preprocessing, world, where)
    network = build_network(e).to(where)
    state = State.initial(network, e)
    commits = Commits(prepared, world, Detector(e, network, preprocessing), versions(), say, on_step)
    commits.restore(state)
    began = time.perf_counter()
    with commits:
        finished = fit(e, world, stream, state, commits)
        if world.is_main:
            commits.write(state)
    if not finished:
        raise Interrupted(f"stopped after epoch {state.cursor.epoch} of {e.epochs}, step {state.cursor.step}, "
                          f"with a checkpoint committed")
    if not job.evaluate:
        return {"history": state.history}
    return _finish(prepared, world, commits, state, time.perf_counter() - began, spent_before)


def versions() -> dict[str, str]:
    """What must be equal for a bit-exact repetition, beside the kind of machine and the number of threads."""
    import numpy
    import torch

    from .. import __version__

    return {"fcdd_dist": __version__, "torch": torch.__version__, "numpy": numpy.__version__,
            "python": platform.python_version()}


def _agree(prepared: Prepared, world: World, device: torch.device) -> None:
    """Raises Fault on every rank where the ranks would not compute the same thing."""
    import torch
    import torch.distributed as dist

    from ..chance import seed64

    if world.size == 1:
        return
    mine = torch.tensor([seed64(prepared.fingerprint), seed64(json.dumps(versions(), sort_keys=True))], device=device)
    parts = [torch.empty_like(mine) for _ in range(world.size)]
    dist.all_gather(parts, mine)
    for rank, part in enumerate(parts):
        for ours, theirs, what in zip(parts[0].tolist(), part.tolist(), (
                "see other data or another experiment", "run other versions of fcdd_dist, torch, numpy or Python"),
                strict=True):
            if ours != theirs:
                raise Fault(f"worker {rank} and worker 0 {what}: make their nodes alike")


def open_stream(prepared: Prepared, preprocessing: Preprocessing, world: World, device: torch.device) -> Stream:
    """The batches of this rank, their images resident on the device or streamed, by the job's budget."""
    from ..data.order import Order
    from ..stream.batches import Stream
    from ..stream.budget import default_budget, default_threads
    from ..stream.nvjpeg import check_decoder
    from ..stream.pixels import Pixels, open_pixels

    job, e = prepared.job, prepared.experiment
    if job.decode == "cuda":
        check_decoder(device)
    budget = default_budget(device, world.size, job.sharers) if job.budget_bytes is None else job.budget_bytes
    threads = max(job.threads or 1, default_threads() // job.sharers)
    shards = {which: prepared.shards(which, *prepared.trained_on) for which in ("nominal", "exposure")}
    opened: dict[str, Pixels | None] = {"nominal": None, "exposure": None}
    for which, store in (("nominal", prepared.data_store), ("exposure", prepared.exposure_store)):
        if shards[which]:
            opened[which] = open_pixels(store, shards[which], e.data.form, device, budget=budget, lanes=e.lanes,
                                        window=e.data.window, threads=threads,
                                        means=e.augmentation.crop == "random", decode=job.decode)
            budget -= opened[which].resident_bytes
    counts = {which: tuple(shard.samples for shard in found) for which, found in shards.items()}
    order = Order(batch_size=e.batch_size, lanes=e.lanes, seed=e.seed, window=e.data.window, repeats=e.data.repeats,
                  nominal=counts["nominal"], exposure=counts["exposure"], settings=e.exposure)
    return Stream(e, world, order, opened["nominal"], opened["exposure"], preprocessing, device)


def measured_preprocessing(prepared: Prepared) -> Preprocessing:
    """From the statistics of the nominal images that are trained on, as the manifest has them."""
    from ..model.architectures import info
    from ..model.normalization import Preprocessing

    first, *others = (part.statistics for part in prepared.parts("nominal", *prepared.trained_on))
    for other in others:
        first = first.merge(other)
    e = prepared.experiment
    return Preprocessing.measured(
        e.data.normalization, info(e.network.name).image_size, mean=first.mean, std=first.std,
        lcn_minimum=first.lcn_minimum, lcn_maximum=first.lcn_maximum,
        view="centre" if e.augmentation.crop == "random" else "whole")


def _finish(prepared: Prepared, world: World, commits: Commits, state: State, seconds: float,
            spent_before: Counts) -> dict:
    from ..evaluation.evaluate import score_test, summary
    from ..evaluation.pictures import write_heatmaps

    e, run, detector = prepared.experiment, open_store(prepared.job.run), commits.detector
    commits.share_statistics()
    scores = score_test(detector, prepared.data_store, prepared.data, world)
    result = {"fingerprint": prepared.fingerprint, "epochs": e.epochs, **summary(detector, prepared.data, scores)}
    others = commits.over_ranks(Counts() if world.is_main else counts() - spent_before)
    if not world.is_main:
        return result
    samples = {which: sum(part.samples for part in prepared.parts("nominal", which)) for which in ("train", "holdout")}
    seconds_trained, waited = (sum(line.get(key, 0.0) for line in state.history) for key in ("seconds", "input_wait_s"))
    result = {
        "schema_version": 1, **result,
        "threshold": detector.threshold.model_dump(),
        "counts": {**samples, "exposure": sum(p.samples for p in prepared.parts("exposure", *prepared.trained_on)),
                   "test_nominal": int((scores.labels == 0).sum()), "test_anomalous": int((scores.labels == 1).sum())},
        "recipe": e.data.recipe, "nominal": e.data.nominal, "class_name": prepared.class_name, "seed": e.seed,
        "protocol": "holdout" if e.data.train_on == "train" else "paper",
        "seconds": seconds_trained, "seconds_of_this_attempt": seconds,
        "images_per_s": sum(line["images_per_s"] * line["seconds"] for line in state.history) / seconds_trained,
        "input_wait_s": waited, "input_wait_share": waited / seconds_trained,
        "workers": world.size, "threads": commits.threads, "decode": commits.decode, "versions": versions(),
    }
    commits.check_lease()
    run.write("scores.csv", scores.csv(detector.threshold.value))
    write_heatmaps(run, detector, prepared.data_store, prepared.data, scores)
    commits.check_lease()  # once more: heatmaps are many
    # Of this attempt, until here: all but the write of the result itself.
    result["storage"] = {name: value + getattr(others, name) for name, value in
                         asdict(counts() - spent_before).items()}
    run.write(RESULT, json.dumps(result, indent=1, allow_nan=False).encode())
    return result
