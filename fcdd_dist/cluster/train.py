"""Training a job by Ray Train workers: the driver's side, from the checks to the result.

What is computed, and every commit, is in ``fcdd_dist.run`` and below. Here are the lease, the workers, what a person
sees, and how it all ends.
"""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from ..errors import FcddError, NotFound
from ..run import STOP, Job, Prepared, check, claim, prepare
from ..storage import FolderStore, Store, open_store, probe
from ..storage.lease import Lease
from ..training.progress import Follower
from ..words import counted
from ..world import World
from . import local
from .board import FOLDER as BOARD
from .board import Board
from .placement import Placement
from .signals import BEFORE_START, Signals
from .watch import Fitting, View, stop_by, wait

if TYPE_CHECKING:
    from ray.train.torch import TorchTrainer

Say = Callable[[str], None]
_RAYS_STATE = ".ray"  # in the run, where workers may be on several nodes
# Helpers of Ray Train that would do nothing here, each a process that imports half of Ray: 2 s of a core a training.
_DATASETS = "DatasetsCallback"  # deals out datasets of Ray
_CLEANER = "PlacementGroupCleanerCallback"  # asks Ray's dashboard who is alive, which a private Ray does not have
_COLLECTIVE_TIMEOUT_S = 900  # a rank waits so long for one that neither answers nor is dead


def train(job: Job, placement: Placement, address: str | None, say: Say, live: Say | None = None) -> dict:
    """Trains ``job`` to its end and returns its result; goes on where an earlier run of it stopped.

    ``say`` takes lines, ``live`` (by default ``say``) the newest state of the training. Raises BadInput before
    anything expensive starts, Conflict where another driver has the run, Interrupted with everything committed after
    SIGINT or SIGTERM, Fault where workers crashed more often than ``placement`` allows.
    """
    World(0, placement.most).lanes(job.experiment.lanes)
    prepared = prepare(job)
    check(prepared)
    if prepared.done:
        return _finished(prepared, say)
    local.refuse_early(placement, address)
    run = open_store(job.run)
    probe(run)  # a permission that is missing would show at the first checkpoint
    with Signals() as signals, Lease.acquire(run, say=say) as lease:
        claim(prepared)
        if prepared.done:  # by whoever was waited for
            return _finished(prepared, say)
        for line in prepared.summary:
            say(line)
        board = Board(run, lease.attempt)
        _clear(run)
        try:
            result = _with_ray(prepared, placement, address, lease, board, signals, say, live or say)
        except BaseException:
            with contextlib.suppress(FcddError):  # the first error counts, which may be that the storage is away
                _clear_own(run, board, lease.attempt)
            raise
        _clear_own(run, board, lease.attempt)
        return result


def _finished(prepared: Prepared, say: Say) -> dict:
    result = prepared.result
    say(f"run {prepared.job.run} is finished: {counted(result['epochs'], 'epoch')}; nothing to do")
    return result


def _with_ray(prepared: Prepared, placement: Placement, address: str | None, lease: Lease, board: Board,
              signals: Signals, say: Say, live: Say) -> dict:
    began = time.monotonic()
    try:
        with local.own_folder() as folder, local.session(address, placement, say) as cpus:
            signals.install()
            signals.check()
            local.check_reach(*(store for store in (prepared.data_store, prepared.exposure_store, open_store(
                prepared.job.run)) if store is not None))
            job = prepared.job.model_copy(update={"attempt": lease.attempt, "threads": cpus})
            run = open_store(job.run)
            trainer = _trainer(job, placement, cpus, _place_of_rays_state(run, folder, placement))
            say(f"starting {placement}, {cpus} thread{'s' * (cpus > 1)} each ...")
            signals.check()
            fitting = Fitting(trainer)
            fitting.start()
            return wait(fitting, View(board, Follower(run, job.experiment.epochs), began, say, live),
                         prepared, run, lease, signals)
    except SystemExit as exit_:  # what Ray's own handler raises where SIGTERM strikes while Ray starts
        signals.first = signal.SIGTERM
        raise signals.interrupted(BEFORE_START) from exit_


def _place_of_rays_state(run: Store, folder: Path, placement: Placement) -> str:
    """``folder``, which goes with the session, or one beside the run where workers may be on several nodes.

    Nothing is ever resumed from what Ray writes, and Ray gives up where its place does not answer for some seconds: so
    it gets one of its own wherever a folder of this machine will do. Several nodes must share it. As a URL: then each
    node's pyarrow takes endpoint and credentials from the node's own environment, and Ray passes on none.
    """
    may_spread = local.nodes() > 1 or (placement.least < placement.most and not local.on_loopback())
    if may_spread and not isinstance(run, FolderStore):
        scheme, _, place = run.url.partition("://")
        return f"{scheme}://{quote(place)}/{_RAYS_STATE}"
    return str(folder)


def _trainer(job: Job, placement: Placement, cpus: int, state: str) -> TorchTrainer:
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer
    from ray.train.v2.api.config import LoggingConfig

    from .worker import train_loop

    idle = (_DATASETS, _CLEANER) if local.on_loopback() else (_DATASETS,)

    class Trainer(TorchTrainer):
        def _create_default_callbacks(self) -> list:
            return [one for one in super()._create_default_callbacks() if type(one).__name__ not in idle]

    return Trainer(
        train_loop, train_loop_config={"job": job.to_json()},
        torch_config=TorchConfig(backend="nccl" if placement.gpus else "gloo", timeout_s=_COLLECTIVE_TIMEOUT_S),
        scaling_config=ScalingConfig(num_workers=placement.workers, use_gpu=bool(placement.gpus),
                                     resources_per_worker=placement.resources(cpus)),
        run_config=RunConfig(name=_name(job.attempt), storage_path=state,
                             failure_config=FailureConfig(max_failures=placement.max_failures,
                                                          controller_failure_limit=2),
                             logging_config=LoggingConfig(log_level="ERROR")))


def _clear(run: Store) -> None:
    """Removes what drivers before this one have left, which holds the lease and has not yet begun."""
    for folder in (BOARD, f"{_RAYS_STATE}/"):
        _remove_below(run, folder)
    run.delete(STOP)


def _clear_own(run: Store, board: Board, attempt: int) -> None:
    """Removes what this attempt has left. The run may be another driver's by now, whose notes stay."""
    board.clear()
    _remove_below(run, f"{_RAYS_STATE}/{_name(attempt)}/")
    with contextlib.suppress(NotFound):
        if run.read(STOP) == stop_by(attempt):
            run.delete(STOP)


def _remove_below(run: Store, folder: str) -> None:
    for entry in list(run.list(folder)):
        run.delete(entry.key)


def _name(attempt: int) -> str:
    """Of the folder that Ray makes for an attempt in the place for its state."""
    return f"attempt-{attempt:06}"
