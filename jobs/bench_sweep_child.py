"""What ``bench_sweep`` measures in a process of its own.

    bench_sweep_child.py train DATA RUN CLASS EPOCHS     a training without Ray, as a loop in a shell would have it
    bench_sweep_child.py memory DATA FOLDER TRIALS       the memory of a driver whose trials end at once, in MB
"""

from __future__ import annotations

import resource
import sys

from fcdd_dist.recipes import recipe
from fcdd_dist.run import Job, claim, prepare, run_rank
from fcdd_dist.world import World


def train(data: str, run: str, nominal: str, epochs: str) -> None:
    experiment = recipe("digits").experiment(nominal, 0).override([f"epochs={epochs}"])
    prepared = prepare(Job(experiment=experiment, data=data, run=run, threads=1))
    claim(prepared)
    run_rank(prepared.job, World())


def memory(data: str, folder: str, trials: str) -> None:
    from pathlib import Path

    from fcdd_dist.cluster import local, tuning
    from fcdd_dist.cluster.desk import Desk
    from fcdd_dist.cluster.placement import Placement
    from fcdd_dist.cluster.slots import TrialPlacement
    from fcdd_dist.cluster.sweep import Order
    from fcdd_dist.sweep.checks import prepare_first
    from fcdd_dist.sweep.plan import Plan
    from fcdd_dist.sweep.value import Sweep

    experiment = recipe("digits").experiment("0", 0).override(["epochs=1"])
    prepared, classes = prepare_first(experiment, data, None, folder, nominal=("all",))
    sweep = Sweep(experiment=prepared.experiment, settings=("epochs=1",), classes=classes, names=dict.fromkeys(
        classes, "digit"), seeds=-(-int(trials) // len(classes)), protocol="holdout", data=data, exposure=None,
        data_id=prepared.data.id, exposure_id=prepared.exposure.id)
    kinds = {class_id: {"name": "digit", "images": 36, "auroc": 0.9, "average_precision": 0.9} for class_id in classes}
    result = {"epochs": 1, "auroc": 0.9, "average_precision": 0.9, "per_kind": kinds, "threshold": {"value": 0.1}}

    def at_once(config: dict) -> None:
        from ray import tune

        tune.report({"state": "done", "result": result, "reason": None, "diverged": False, "said": []})

    tuning.run_trial = at_once
    order, desk = Order(sweep=sweep, run=folder), Desk(Plan(sweep), {})
    with local.own_folder() as own, local.environment(tuning.ENVIRONMENT), local.session(
            None, Placement(), lambda line: None):
        work = tuning.Tuning(desk, order.job, TrialPlacement(), 2, 2, Path(own))
        work.start()
        work.join()
    if work.error is not None:
        raise work.error
    assert len(desk.ended()) == len(classes) * sweep.seeds
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


if __name__ == "__main__":
    {"train": train, "memory": memory}[sys.argv[1]](*sys.argv[2:])
