"""Our training as the product runs it, without anything around it; against its own step, and against decoding.

Run as a program it is a process that does nothing but steps.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from bench_data import DataSets
from bench_timing import Bench, Row, Skip, in_turn

from fcdd_dist.data.order import Cursor, Order
from fcdd_dist.data.shards.decode import decode_samples
from fcdd_dist.data.shards.read import read_shard
from fcdd_dist.detector import build_network
from fcdd_dist.experiment import Experiment
from fcdd_dist.run import Job, Prepared, prepare
from fcdd_dist.run.rank import measured_preprocessing, open_stream
from fcdd_dist.stream.batches import Batch
from fcdd_dist.stream.budget import default_threads
from fcdd_dist.stream.streamed import Streamed
from fcdd_dist.training.fit import State, fit
from fcdd_dist.world import World

_SAME = 0.02  # by which two measurements of one thing may well differ


class Nobody:
    """A watcher that neither evaluates nor keeps anything."""

    def wants_stop(self) -> bool:
        return False

    def holdout_figures(self) -> tuple[None, None]:
        return None, None

    def epoch_figures(self, waited_s: float) -> dict[str, float]:
        return {}

    def after_step(self, state: State) -> None:
        pass

    def after_epoch(self, state: State) -> None:
        pass


class SameBatch:
    """A stream that gives one batch again and again: what is left of a training is its step."""

    waited_s = 0.0

    def __init__(self, batch: Batch, steps_per_epoch: int) -> None:
        self._batch, self.steps_per_epoch = batch, steps_per_epoch

    def batches(self, start: Cursor, epochs: int) -> Iterator[tuple[Cursor, Batch]]:
        for epoch in range(start.epoch, epochs):
            for step in range(self.steps_per_epoch):
                yield Cursor(epoch, step), self._batch


class Training:
    """A training that goes on for some epochs whenever it is asked to."""

    def __init__(self, experiment: Experiment, stream, device: torch.device) -> None:
        self._experiment, self._stream = experiment, stream
        self._state = State.initial(build_network(experiment).to(device), experiment)

    def advance(self, epochs: int = 1) -> int:
        """The images that were trained on."""
        until = self._experiment.model_copy(update={"epochs": self._state.cursor.epoch + epochs})
        fit(until, World(), self._stream, self._state, Nobody())
        return epochs * self._stream.steps_per_epoch * until.batch_size


def prepared(data: str, bench: Bench, budget: int | None, *settings: str) -> Prepared:
    """All images of the first class and of the exposure set; ``budget`` 0 streams them, None keeps them resident."""
    experiment = DataSets.experiment(data, bench.precision).override(settings)
    return prepare(Job(experiment=experiment, data=data, run=f"{data}/no-run", budget_bytes=budget))


def imagenet(bench: Bench, data: DataSets, budget: int | None) -> Prepared:
    """A training of recipe imagenet30."""
    return prepared(data.imagenet, bench, budget, *(["batch_size=16"] if bench.quick else []))


def opened(checked: Prepared, device: torch.device):
    return open_stream(checked, measured_preprocessing(checked), World(), device)


def whole(bench: Bench, data: DataSets) -> list[Row]:
    """Stream and step together against the step alone."""
    epochs = 1 if bench.quick else 2
    return [_whole(bench, data, prepared(data.small, bench, budget), f"whole training, {name}", epochs, 7, 0.85)
            for name, budget in (("resident", None), ("streamed", 0))]


def whole224(bench: Bench, data: DataSets) -> list[Row]:
    """The same of recipe imagenet30: everything streamed; and the nominal images resident, the others streamed."""
    epochs = 20 if bench.device.type == "cuda" and not bench.quick else 1
    checked = imagenet(bench, data, 0)
    form = checked.experiment.data.form
    room = sum(part.samples for part in checked.parts("nominal", *checked.trained_on)) * (
        form.channels * form.side * form.longest)  # what is kept is reckoned as large as its form allows
    return [_whole(bench, data, imagenet(bench, data, budget), f"whole training of recipe imagenet30, {name}", epochs,
                   3, 0.9) for name, budget in (("streamed", 0), ("nominal resident, exposure streamed", room))]


def _whole(bench: Bench, data: DataSets, checked: Prepared, what: str, epochs: int, pairs: int, aim: float) -> Row:
    experiment, stream = checked.experiment, opened(checked, bench.device)
    batches = stream.batches(Cursor(), 1)
    _, batch = next(batches)
    batches.close()
    training = Training(experiment, stream, bench.device)
    alone = Training(experiment, SameBatch(batch, stream.steps_per_epoch), bench.device)
    row = in_turn(bench, f"{what}, against its step", partial(training.advance, epochs),
                  partial(alone.advance, epochs), aim=bench.goal(aim), pairs=pairs, unit="%")
    if bench.device.type != "cpu":
        return row
    # A process that streams has told the C library to give memory back, which may slow its steps down, and make
    # streaming look the better for it. So the step is also measured in a process that never streamed anything.
    with _step_elsewhere(data.folder / "step.pt", experiment, batch, stream.steps_per_epoch) as advance:
        slowed = in_turn(bench, "the step", partial(alone.advance, epochs), partial(advance, epochs), aim=None,
                         pairs=pairs)
    elsewhere = row.value * slowed.value
    differs = (f"; against that of a process that never streamed: {elsewhere:.1%}" if abs(slowed.value - 1) > _SAME
               else "")
    return replace(row, what=row.what + differs, figures=row.figures | {
        "step_elsewhere_images_per_s": slowed.figures["theirs_images_per_s"], "against_step_elsewhere": elsewhere})


@contextlib.contextmanager
def _step_elsewhere(file: Path, experiment: Experiment, batch: Batch, steps: int) -> Iterator[Callable[[int], int]]:
    """``Training.advance`` with ``SameBatch``, in a process of its own that waits between its turns."""
    torch.save({"experiment": experiment.to_json(), "batch": tuple(batch), "steps": steps,
                "threads": torch.get_num_threads()}, file)
    with subprocess.Popen([sys.executable, __file__, str(file)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          text=True) as process:

        def advance(epochs: int) -> int:
            print(epochs, file=process.stdin, flush=True)
            if not (answer := process.stdout.readline()):
                raise RuntimeError(f"the process of the step ended with {process.wait()}")
            return int(answer)

        try:
            yield advance
        finally:
            process.kill()


def _only_steps(file: str) -> None:
    given = torch.load(file)
    torch.set_num_threads(given["threads"])
    training = Training(Experiment.from_json(given["experiment"]), SameBatch(Batch(*given["batch"]), given["steps"]),
                        torch.device("cpu"))
    for line in sys.stdin:
        print(training.advance(int(line)), flush=True)


def streaming(bench: Bench, data: DataSets) -> list[Row]:
    """Reading shards, checking, unpacking and decoding in the order of a training, against decoding alone."""
    threads, rows = default_threads(), []
    for url in (data.small, data.large, data.imagenet):
        checked = prepared(url, bench, 0)
        store, form = checked.exposure_store, checked.experiment.data.form
        shards = checked.shards("exposure", *checked.trained_on)
        requests = one_pass(checked)
        in_memory = [(read_shard(store, shard), shard) for shard in shards]

        def stream(store=store, shards=shards, form=form, requests=requests) -> int:
            # A new one each time: it has read nothing yet.
            return sum(len(images) for images in Streamed(store, shards, form, bench.device, threads).walk(requests))

        def decode(store=store, form=form, in_memory=in_memory) -> int:
            with ThreadPoolExecutor(threads) as pool:
                done = pool.map(lambda pair: decode_samples(pair[0], form, store, pair[1]), in_memory)
                return sum(len(images) for images in done)

        row = in_turn(bench, f"streaming {form} from disk against decoding it from memory, {threads} threads", stream,
                      decode, aim=0.85, pairs=7, unit="%")
        rows.append(replace(row, what=f"{row.what}: you reach {row.value:.0%} of what your cores can decode"))
    return rows


def one_pass(checked: Prepared) -> list[np.ndarray]:
    """The exposure samples of each step, until all were asked for about once."""
    e = checked.experiment
    if e.data.form.fit != "square":
        raise Skip(f"whole images of {e.data.form} have several sizes, and are never streamed")
    counts = {which: tuple(shard.samples for shard in checked.shards(which, *checked.trained_on))
              for which in ("nominal", "exposure")}
    order = Order(batch_size=e.batch_size, lanes=e.lanes, seed=e.seed, window=e.data.window, repeats=e.data.repeats,
                  nominal=counts["nominal"], exposure=counts["exposure"], settings=e.exposure)
    requests, asked, step = [], 0, 0
    while asked < sum(counts["exposure"]):
        cursor = Cursor(*divmod(step, order.steps_per_epoch))
        lanes = [order.rows(cursor, lane) for lane in range(e.lanes)]
        requests.append(np.concatenate([lane.ids[lane.exposed] for lane in lanes]))
        asked, step = asked + len(requests[-1]), step + 1
    return requests


if __name__ == "__main__":
    _only_steps(sys.argv[1])
