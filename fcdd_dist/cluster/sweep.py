"""A sweep: the driver's side, from the checks to the table.

What is to be done, and what it means, is in ``fcdd_dist.sweep``; a trial is a run as any other. Here are the lease, the
cluster, what a person sees, and how it all ends. Nothing is remembered between two attempts but in the run folders.
"""

from __future__ import annotations

import contextlib
import math
import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from ..errors import BadInput, Conflict, FcddError, NotFound
from ..experiment import Count, Fraction, Positive, Value
from ..run import EXPERIMENT, STOP, Job
from ..run.background import Background
from ..storage import Store, exists, open_store, probe
from ..storage.lease import LEASE, Lease
from ..sweep.plan import Plan
from ..sweep.standing import Standing, look
from ..sweep.table import table, write_table
from ..sweep.trials import Trial
from ..sweep.value import SWEEP, Sweep
from . import local
from .desk import Desk
from .placement import Placement, local_gpus
from .signals import BEFORE_START, Signals
from .slots import TrialPlacement, sharers, trials_at_once
from .sweep_view import SweepView
from .trackers import Tracker
from .tracking import Tracking
from .tuning import ENVIRONMENT, Tuning

Say = Callable[[str], None]
_HEAR_EVERY_S = 0.25  # signals are heard between waits
_NO_SWEEP_YET = (".probe-", "lease/", LEASE)  # what may be there before a sweep is
_SHOW_EVERY_S = 1.0
_ASK_AGAIN_S = 2.0  # a trial that begins takes away a request to stop that stood there before


class Order(Value):
    """A sweep, where it goes, and how its trials run; but for ``sweep`` nothing here is part of the result."""

    sweep: Sweep
    run: str
    checkpoint_every_s: Positive = 60.0
    threshold_budget: Fraction = 0.05
    cache: str | None = None
    cache_bytes: Count = 50 * 10**9

    def job(self, trial: Trial) -> Job:
        return Job(experiment=trial.experiment, data=self.sweep.data, exposure=self.sweep.exposure,
                   run=f"{self.run}/{trial.folder}", evaluate=trial.tested, checkpoint_every_s=self.checkpoint_every_s,
                   threshold_budget=self.threshold_budget, cache=self.cache, cache_bytes=self.cache_bytes)


def standing_sweep(store: Store) -> Sweep | None:
    """The sweep that is in a folder. Raises BadInput where it is damaged."""
    try:
        return Sweep.from_json(store.read(SWEEP), f"{store.url}/{SWEEP}")
    except NotFound:
        return None


def survey(order: Order, say: Say, finished: Mapping[str, Standing] | None = None,
           ) -> tuple[Plan, dict[str, Standing]]:
    """What is to be done, and how far it is, by the run folders, but for those that are known to be ``finished``.

    Raises BadInput and Conflict; changes nothing.
    """
    store = open_store(order.run)
    there, plan = standing_sweep(store), Plan(order.sweep)
    standings = dict(finished or {})
    if there is None:
        if exists(store, EXPERIMENT):
            raise Conflict(f"{store.url} is a run and no sweep: give another --name, or go on with the run by "
                           f"`fcdd-dist train`")
        if any(True for entry in store.list() if not entry.key.startswith(_NO_SWEEP_YET)):
            raise Conflict(f"{store.url} holds other files and no sweep: give another --name or --storage")
        return plan, standings
    order.sweep.going_on_from(there, store.url)
    while asked := [trial for trial in plan.known(standings) if trial.name not in standings]:
        say(f"looking at {len(asked)} trial{'s' * (len(asked) > 1)} in {store.url}")
        standings |= {trial.name: found for trial, found in look(store, order.sweep, asked)}
    return plan, standings


def refuse_early(placement: TrialPlacement, address: str | None) -> None:
    """What can be known without Ray. Raises BadInput."""
    if address or os.environ.get("RAY_ADDRESS"):
        local.refuse_early(Placement(), address)
        return
    wanted, there = placement.gpus * placement.workers, local_gpus()
    if wanted > there:
        raise BadInput(f"a trial takes {placement}, and this machine has {there} GPU{'s' * (there != 1)}: give "
                       f"--gpus-per-trial {'a smaller number' if there else '0'}, or the --address of a cluster")


def sweep(order: Order, placement: TrialPlacement, address: str | None, say: Say, live: Callable[..., None],
          trackers: Sequence[Tracker] = ()) -> dict[str, Any]:
    """Runs what is left of a sweep and returns its table, ``complete`` or not.

    A trial that fails stands in the table with its reason, and the next call tries it again. Raises BadInput before
    anything expensive starts, Conflict where another driver has the sweep, Interrupted with everything committed after
    SIGINT or SIGTERM.
    """
    store = open_store(order.run)
    plan, standings = survey(order, say)
    found = table(plan, standings)
    if found["complete"]:
        return _finished(store, order.sweep, found, say)
    if standings and not plan.wanted(standings):  # of a search all settings have diverged
        return found
    refuse_early(placement, address)
    probe(store)
    with Signals() as signals, Lease.acquire(store, say=say) as lease:
        # Once more: whoever was waited for may have gone on.
        settled = {name: standing for name, standing in standings.items() if standing.result or standing.diverged}
        plan, standings = survey(order, lambda line: None, settled)
        desk = Desk(plan, standings)
        driver = _Driver(order, placement, desk, store, lease, signals, say, live, trackers)
        try:
            driver.run(address)
        finally:
            driver.close()
        found = table(plan, desk.standings())
        write_table(store, found)
        return found


def _finished(store: Store, sweep: Sweep, found: dict[str, Any], say: Say) -> dict[str, Any]:
    write_table(store, found)  # of a driver that was killed before it had
    cells = len(found["cells"])
    say(f"sweep {store.url} is finished: {cells} run{'s' * (cells > 1)}; nothing to do")
    return found


class _Driver:
    """One attempt at what is left of a sweep."""

    def __init__(self, order: Order, placement: TrialPlacement, desk: Desk, store: Store, lease: Lease,
                 signals: Signals, say: Say, live: Callable[..., None], trackers: Sequence[Tracker]) -> None:
        self._order, self._placement, self._desk, self._store = order, placement, desk, store
        self._lease, self._signals, self._say = lease, signals, say
        self._view = SweepView(desk, store, live, say)
        self._trackers = Tracking(trackers, store)
        self._looking, self._writing, self._asking = Background("look"), Background("table"), Background("ask to stop")
        self._look_at = self._ask_at = self._show_at = 0.0
        self._dirty, self._failed = False, 0  # of the trials that were asked to stop

    def run(self, address: str | None) -> None:
        try:
            with local.own_folder() as folder, local.environment(ENVIRONMENT), local.session(
                    address, self._room(), self._say):
                self._signals.install()
                self._signals.check()
                local.check_reach(open_store(self._order.sweep.data), self._store, *(
                    [open_store(self._order.sweep.exposure)] if self._order.sweep.exposure else []))
                nodes = local.resources()
                at_once = trials_at_once(nodes, self._placement)
                self._store.write(SWEEP, self._order.sweep.to_json().encode())  # what is refused leaves no sweep behind
                write_table(self._store, table(self._desk.plan, self._desk.standings()))
                self._say(f"{at_once} trial{'s' * (at_once > 1)} at once, each with {self._placement}")
                tuning = Tuning(self._desk, self._order.job, self._placement, at_once,
                                sharers(nodes, self._placement, at_once), folder)
                tuning.start()
                self._signals.patient = True
                self._wait(tuning)
        except SystemExit as exit_:  # what Ray's own handler raises where SIGTERM strikes while Ray starts
            self._signals.first = signal.SIGTERM
            raise self._signals.interrupted(BEFORE_START) from exit_

    def _room(self) -> Placement:
        """For a private Ray: as many CPUs as there are, and at least what one trial takes."""
        placement = self._placement
        return Placement(1, placement.workers, placement.cpus, math.ceil(placement.gpus))

    def _wait(self, tuning: Tuning) -> None:
        asked = False
        while tuning.is_alive():
            tuning.join(_HEAR_EVERY_S)
            self._lease.check()
            if self._signals.first and not asked:
                asked = True
                self._desk.close()
                self._say(f"{self._signals.first.name}: waiting for the trials to commit; once more ends at once")
            self._step(asked)
        self._step(asked)
        if tuning.error is not None:
            raise tuning.error
        if asked and self._desk.plan.wanted(self._desk.standings()):
            failed = self._failed and f", but for {self._failed} that failed"
            raise self._signals.interrupted(f" with everything committed{failed or ''}; the same command goes on from "
                                            f"there")

    def _step(self, asked: bool) -> None:
        """What is new is told, kept and shown. All that touches storage goes on beside this thread."""
        now = time.monotonic()
        for background in (self._looking, self._writing, self._asking):
            background.check()
        ended = self._desk.ended()
        self._dirty |= bool(ended)
        self._failed += asked and sum(one.state == "failed" for one in ended)
        standings = self._desk.standings()
        for line in self._desk.news():
            self._say(line)
        self._view.tell(ended)
        self._trackers.tell(ended)
        if not self._looking.busy and now >= self._look_at:
            self._looking.start(self._look)
            self._look_at = now + max(1.0, self._store.look_every)
        if self._dirty and not self._writing.busy:
            self._write_table(standings)
        if asked and not self._asking.busy and now >= self._ask_at:
            self._asking.start(self._ask)
            self._ask_at = now + _ASK_AGAIN_S
        if ended or now >= self._show_at:
            self._view.show(standings)
            self._show_at = now + _SHOW_EVERY_S

    def _look(self) -> None:
        running = self._desk.running()
        self._trackers.look(running, self._view.look(running))

    def _write_table(self, standings: dict[str, Standing]) -> None:
        self._writing.start(partial(write_table, self._store, table(self._desk.plan, standings)))
        self._dirty = False

    def _ask(self) -> None:
        for running in self._desk.running():
            self._store.write(f"{running.trial.folder}/{STOP}", b"{}")

    def close(self) -> None:
        """The first error counts, which may be that the storage is away, or that somebody else has the sweep."""
        for background in (self._looking, self._asking):
            background.close()  # an error of theirs has been raised, or comes too late
        failed = self._writing.close()
        with contextlib.suppress(FcddError):
            if failed is None and self._dirty and self._lease.held():
                self._write_table(self._desk.standings())
                failed = self._writing.close()
        if failed is not None:
            self._say(f"the table could not be written: {failed}")
        with contextlib.suppress(FcddError):
            self._trackers.close()
