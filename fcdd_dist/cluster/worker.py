"""What runs in every Ray Train worker: the rank's whole job, and how its end reaches the driver."""

from __future__ import annotations

import traceback

from ..errors import Fault, FcddError, Interrupted
from ..run import Job, run_rank
from ..storage import expect_up, open_store
from ..world import World
from .board import Board

_CRASHES = (RuntimeError, OSError, MemoryError)  # torch, CUDA, gloo and NCCL raise RuntimeErrors
_WAIT_FOR_REASON_S = 5.0


def train_loop(config: dict) -> dict | None:
    """The result on every rank, or None where an error of ours ended the run: the board says which.

    Crashes are raised: Ray replaces all workers, and they go on from the last checkpoint.
    """
    import ray.train
    import ray.train.torch

    expect_up()  # the driver has reached it: a worker that starts in an outage waits for its end
    job = Job.from_json(config["job"])
    context = ray.train.get_context()
    world = World(context.get_world_rank(), context.get_world_size())
    board = Board(open_store(job.run), job.attempt)
    if world.is_main:
        board.start()
    result = None
    try:
        result = run_rank(job, world, str(ray.train.torch.get_device()), board.say if world.is_main else _ignore)
    except Interrupted as interrupted:
        if world.is_main:  # the others may be here before it has committed
            board.fail(interrupted)
    except FcddError as error:
        _end_run(board, error)
    except _CRASHES:
        # A rank that waits for one that has left fails with its connection. The one that left says why.
        if world.size == 1 or not board.failed_within(_WAIT_FOR_REASON_S):
            raise
    except Exception as error:  # noqa: BLE001 - a bug: it would strike again, so it ends the run, with its traceback
        _end_run(board, Fault(f"{type(error).__name__}: {error}"), traceback.format_exc())
    figures = {name: result.get(name) for name in ("auroc", "average_precision")} if result else {}
    ray.train.report(figures)  # by every rank, once: it is a barrier
    return result


def _end_run(board: Board, error: FcddError, its_traceback: str | None = None) -> None:
    """Tells the driver why, and lets go of the other ranks.

    Where the storage is away nobody can be told, and ``error`` is raised: to Ray a crash. The driver does not see the
    storage either and ends the run by its own error; if it is back before that, the run goes on.
    """
    try:
        board.fail(error, its_traceback)
    except FcddError:
        raise error from None
    finally:
        _leave_group()


def _leave_group() -> None:
    """Closes this rank's connections, so that ranks that wait for it fail at once and not after minutes."""
    import torch.distributed

    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def _ignore(line: str) -> None:
    """Every rank would say the same."""
