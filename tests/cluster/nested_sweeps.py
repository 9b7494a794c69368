"""Sweeps of which every trial has workers of its own, one after the other in one Ray: what each of them leaves behind.

``python -m tests.cluster.nested_sweeps DATA FOLDER 20`` makes twenty, and ends with 1 where anything is left.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

from fcdd_dist.cluster import local
from fcdd_dist.cluster.placement import Placement

CPUS = 2
RATES = (0.001, 0.01)  # two trials of one epoch, of which one stops; the other's second epoch; and its test
_RAYS_OWN = "_AutoscalingCoordinatorActor"  # one for all of Ray Train, and for as long as Ray lives
_WITHIN_S = 10  # Ray gives back what a trial had a little after its end


def nested_sweep(data: str, folder: Path, name: str) -> int:
    """The exit code of a sweep of four trials that compete for room for one, each with two workers."""
    from fcdd_dist.cli import main

    space = folder / f"{name}.json"
    space.write_text(json.dumps({"optimizer.lr": {"grid": RATES}}))
    return main(["sweep", "digits", "--data", data, "--nominal", "0", "--storage", str(folder), "--name", name,
                 "--epochs", "2", "--search", str(space), "--reduction", "2", "--workers-per-trial", "2",
                 "--precision", "float32", "--gpus-per-trial", "0"])


def left() -> dict[str, object]:
    """What is not as in a Ray that nobody has used; empty where all is, at the latest after some seconds."""
    deadline = time.monotonic() + _WITHIN_S
    while (found := _left()) and time.monotonic() < deadline:
        time.sleep(0.2)
    return found


def _left() -> dict[str, object]:
    import ray
    from ray._private import state
    from ray.util import placement_group_table

    groups = [group["placement_group_id"] for group in placement_group_table().values() if group["state"] != "REMOVED"]
    actors = [actor["ActorClassName"] for actor in state.actors().values()
              if actor["State"] != "DEAD" and actor["ActorClassName"] != _RAYS_OWN]
    taken = CPUS - ray.available_resources().get("CPU", 0)
    return {name: found for name, found in (("groups", groups), ("actors", actors), ("CPUs", taken)) if found}


@contextlib.contextmanager
def small_ray() -> Iterator[None]:
    """One for all sweeps within, of two CPUs, however many this machine has."""
    with mock.patch.object(local, "cores", return_value=CPUS), local.session(None, Placement(cpus=1), [].append):
        yield


def main(data: str, folder: str, count: str, say: Callable[[str], None] = print) -> int:
    failed = 0
    with small_ray():
        for number in range(int(count)):
            began = time.monotonic()
            code, found = nested_sweep(data, Path(folder), f"n{number}"), left()
            failed += bool(code or found)
            say(f"sweep {number}: exit code {code} after {time.monotonic() - began:.0f} s, left: {found or 'nothing'}")
    say(f"{count} sweeps, {failed} of them not as they should be")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
