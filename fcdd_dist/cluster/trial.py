"""A trial of a sweep, in a process of Tune: a run as any other, with its lease, checkpoints and result.

It may be killed anywhere. Whoever tries again goes on from what the run folder vouches for.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

from ..errors import BadInput, Conflict, Damaged, Fault, FcddError, Interrupted, NonFiniteLoss
from ..run import STOP, Job, claim, prepare, run_rank
from ..storage import expect_up, open_store
from ..storage.lease import Lease
from ..sweep.standing import figures_of, note_divergence
from ..training.curves import read_metrics
from ..training.hparams import write_hparams
from ..world import World
from .placement import Placement

Say = Callable[[str], None]


def trial(config: dict[str, Any]) -> None:
    """Tells Tune ``state`` ("done", "failed" or "interrupted"), ``result`` and ``reason``; before that any number of
    lines as they come, each as ``said``.

    Raises what may go better another time: Tune then tries again, in a new process.
    """
    from ray import tune

    def say(line: str) -> None:
        tune.report({"said": line})

    job = Job.from_json(config["job"])
    told: dict[str, Any] = {"state": "failed", "result": None, "reason": None, "diverged": False}
    expect_up()  # the driver has reached it: a trial that starts in an outage waits for its end
    try:
        result = _nested(job, config, say) if config["workers"] > 1 else _alone(job, config, say)
        write_hparams(open_store(job.run), config["parameters"], result, job.experiment.epochs)
        told |= {"state": "done", "result": result if job.evaluate else {"history": figures_of(result["history"])}}
    except Interrupted as interrupted:
        told |= {"state": "interrupted", "reason": str(interrupted),
                 "result": {"history": figures_of(read_metrics(open_store(job.run)))}}
    except Conflict:  # somebody's who may just be dying
        raise
    except NonFiniteLoss as error:
        told |= {"reason": str(error), "diverged": True}
        if not job.evaluate:
            note_divergence(open_store(job.run), prepare(job).fingerprint, str(error))
    except (BadInput, Damaged) as error:  # what another try would not change
        told |= {"reason": str(error)}
    except Fault as error:
        if config["workers"] == 1:
            raise
        told |= {"reason": str(error)}  # its workers have tried again as often as they may, or its storage for long
    tune.report(told)


def _alone(job: Job, config: dict[str, Any], say: Say) -> dict:
    """In this very process, which has done other trials before and will do others."""
    import torch

    run = open_store(job.run)
    device = "cuda" if config["gpus"] else "cpu"
    with Lease.acquire(run, say=say) as lease:
        job = job.model_copy(update={"attempt": lease.attempt, "threads": config["cpus"]})
        prepared = prepare(job)
        claim(prepared)
        run.delete(STOP)
        if prepared.done:
            return prepared.result
        try:
            return run_rank(prepared.job, World(), device, say, prepared=prepared)
        finally:
            with contextlib.suppress(FcddError):  # the first error counts
                run.delete(STOP)
            if config["gpus"]:
                torch.cuda.empty_cache()  # for the others on this GPU


def _nested(job: Job, config: dict[str, Any], say: Say) -> dict:
    """By Ray Train workers of its own; this process only drives them."""
    import ray

    from .orphans import remove_orphans
    from .train import train

    remove_orphans()  # of a process that drove a trial and was killed, such as the one before this one
    placement = Placement(config["workers"], config["workers"], config["cpus"], int(config["gpus"]),
                          config["max_failures"])
    lines: list[str] = []
    try:
        return train(job, placement, ray.get_runtime_context().gcs_address, lines.append, lambda line: None)
    except Interrupted:
        raise
    except FcddError:  # else nobody needs to know
        for line in lines:
            say(line)
        raise
