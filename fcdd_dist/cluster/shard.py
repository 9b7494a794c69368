"""Sharding by Ray: the tasks of ``fcdd_dist.data.shards.tasks``, as many at once as there are workers.

What a task does, and that it may be done again anywhere, is written there. Here it is only sent out.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from itertools import chain
from typing import TYPE_CHECKING, Any

from ..data.shards.plan import Plan
from ..data.shards.tasks import NotBegun, Record, Task, perform
from ..errors import BadInput, Fault, FcddError, NotFound
from ..storage import MemoryStore, Store, expect_up, open_store
from . import local
from .placement import Placement, cores
from .signals import Signals

if TYPE_CHECKING:
    from ray import ObjectRef

Say = Callable[[str], None]
_RETRIES = 3  # of a task whose process or node was lost
_WAITING = 2  # tasks a worker that are handed over, so that none is idle
_SILENT_S = 60.0  # without progress, after which it is looked for a reason
_HEAR_EVERY_S = 0.25  # signals are heard between waits


class RayTasks:
    """A runner of tasks on a Ray cluster, or on a private Ray of this machine. A context manager.

    Ray is started when the first tasks come: whatever is wrong with sources and settings has been said by then.
    """

    def __init__(self, workers: int | None, address: str | None, say: Say) -> None:
        """``workers``: None for as many as the cluster has CPUs, or this machine has cores."""
        self._address = address or os.environ.get("RAY_ADDRESS") or None
        self._workers, self._say = workers, say
        self._stack = contextlib.ExitStack()
        self._started, self._moved = False, time.monotonic()

    def __enter__(self) -> RayTasks:
        self._signals = self._stack.enter_context(Signals())
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    def __call__(self, plan: Plan, tasks: Iterable[Task], out: Store) -> Iterator[tuple[Task, Record] | None]:
        """Raises what a task raised, NotBegun where there can be no workers, Interrupted after SIGINT or SIGTERM, and
        Fault where workers are lost too often.
        """
        tasks = iter(tasks)
        if (first := next(tasks, None)) is None:
            return
        if isinstance(out, MemoryStore):
            raise NotBegun("workers can't write into the memory of this process: give a folder or s3://bucket/prefix")
        try:
            self._start(plan, out)
        except BadInput as error:
            raise NotBegun(str(error)) from error
        yield from self._run(plan, chain([first], tasks), out)

    def _start(self, plan: Plan, out: Store) -> None:
        if self._started:
            return
        at_least = Placement(cpus=1) if self._address else Placement(1, self._workers or cores(), cpus=1)
        self._stack.enter_context(local.session(self._address, at_least, self._say))
        import ray  # not before: it reads its environment when it is imported

        self._signals.install()
        self._signals.check()
        room = int(ray.cluster_resources().get("CPU", 0))
        self._workers = min(self._workers or room, room)
        _check_reach(plan, out)
        self._signals.patient = self._started = True
        self._say(f"{self._workers} worker{'s' * (self._workers > 1)} on {local.nodes()} "
                  f"node{'s' * (local.nodes() > 1)}")

    def _run(self, plan: Plan, coming: Iterator[Task], out: Store) -> Iterator[tuple[Task, Record] | None]:
        import ray

        work = ray.remote(num_cpus=1, max_retries=_RETRIES, scheduling_strategy="SPREAD")(_work)
        shared = ray.put(plan)
        running: dict[ObjectRef, Task] = {}
        # What still runs when this ends early is not cancelled: a cancel that meets a task's reply ends this process
        # ("Tried to complete task that was not pending"; Ray 2.60, 1 of 5 interrupts). Tasks end with the session, or
        # soon by themselves, and what they write is right whoever waits for it.
        while True:
            while len(running) < _WAITING * self._workers and (task := next(coming, None)) is not None:
                running[work.remote(shared, task, out.url)] = task
            if not running:
                return
            done, _ = ray.wait(list(running), timeout=_HEAR_EVERY_S)
            if self._signals.first:
                raise self._signals.interrupted("; what is finished stands, and the same command goes on from there")
            self._tell_of_nodes(bool(done))
            for one in done:
                yield running.pop(one), _result(one)
            yield None

    def _tell_of_nodes(self, progress: bool) -> None:
        """Says once where nothing moves since no node is left."""
        now = time.monotonic()
        if progress:
            self._moved = now
        elif now > self._moved + _SILENT_S:
            self._moved = now
            if not any(node["Resources"].get("CPU") for node in _nodes()):
                self._say("no node with CPUs is left in the cluster: waiting for one; Ctrl-C ends it")


def _work(plan: Plan, task: Task, url: str) -> Record:
    """In a worker."""
    expect_up()
    try:
        return perform(plan, task, _store(url))
    except NotFound as error:
        raise NotFound(f"{error} (on {socket.gethostname()})") from None
    except Fault as error:
        raise type(error)(f"{error} (on {socket.gethostname()})") from None
    except OSError as error:
        raise Fault(f"{error} (on {socket.gethostname()})") from None


@lru_cache(maxsize=4)
def _store(url: str) -> Store:
    return open_store(url)


def _result(done: ObjectRef) -> Any:
    import ray

    try:
        return ray.get(done)
    except ray.exceptions.RayTaskError as error:
        cause = error.cause
        if isinstance(cause, FcddError):
            raise cause from None
        raise
    except ray.exceptions.RayError as error:
        last = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise Fault(f"a worker was lost {_RETRIES + 1} times over ({last}): is there too little memory? What is "
                    f"finished stands, and the same command goes on from there") from error


def _check_reach(plan: Plan, out: Store) -> None:
    """Raises BadInput where a node does not see the sources, or writes to another folder than this process does."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    nodes = [node for node in _nodes() if node["Resources"].get("CPU")]
    paths = [part.source for part in (plan.nominal, plan.exposure) if part and part.source]
    looks = {node["NodeManagerAddress"]: ray.remote(num_cpus=0, scheduling_strategy=NodeAffinitySchedulingStrategy(
        node["NodeID"], soft=False))(_look).remote(paths, out.url) for node in nodes}
    for node, look in looks.items():
        if (missing := ray.get(look)) is not None:
            raise BadInput(f"the node {node} does not see {missing}: put it where all nodes and this process see it "
                           f"(a shared folder; for the data set also s3://bucket/prefix), or use a cluster of one node")


def _nodes() -> list[dict]:
    import ray

    return [node for node in ray.nodes() if node["Alive"]]


def _look(paths: list[str], url: str) -> str | None:
    """On a node: what is not there."""
    from ..data.shards.unfinished import standing_plan

    for path in paths:
        if not os.path.exists(path):
            return path
    for _ in range(3):  # a shared folder may show late what another node has just written
        if standing_plan(open_store(url)) is not None:
            return None
        time.sleep(1)
    return f"what this process writes to {url}"
