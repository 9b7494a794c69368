"""What is kept of a training while it goes on: metrics, checkpoints, and the answer to a request to stop.

A checkpoint is taken by rank 0 alone, whenever one is due: every rank holds the same weights, and the running sums
are those of the whole batch. So no rank waits for another, and a stop is the only thing that they have to agree on.

The training thread takes the snapshot, which must be of these very weights; all that touches storage goes on beside
the training, one thing at a time. What comes due meanwhile is left out, and nothing piles up where storage is slow.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import astuple
from functools import partial

import numpy as np
import torch
import torch.distributed as dist
from safetensors.torch import save

from .. import checkpoint
from ..checkpoint import Position, Record
from ..data.order import Cursor
from ..data.shards.decode import decode_samples
from ..data.shards.read import read_each
from ..detector import CHUNK, Detector
from ..errors import Fault, FcddError, NonFiniteLoss
from ..evaluation.evaluate import sum_over_ranks
from ..evaluation.metrics import Threshold, auroc, choose_threshold
from ..model.heatmap_scale import heatmap_scale
from ..storage import Counts, counts, open_store
from ..storage.lease import still_current
from ..training.curves import write_metrics, write_tensorboard
from ..training.fit import State
from ..training.optimization import load_optimizer_tensors, optimizer_tensors
from ..world import World
from .background import Background, Lookout
from .job import STOP, Prepared

_METRICS_S = 0.5  # between writes of metrics.jsonl at least, where epochs are shorter
_REFERENCE = 500  # images of each kind whose maps set the scale of heatmaps, at most


class Commits:
    """The watcher of a run's training; see ``training.fit.Watcher``. A context manager around it, after ``restore``.

    What fails beside the training is raised at the next step.
    """

    def __init__(self, prepared: Prepared, world: World, detector: Detector, versions: dict[str, str],
                 say: Callable[[str], None], on_step: Callable[[State], None]) -> None:
        self.detector, self.threads = detector, torch.get_num_threads()
        self.decode = prepared.job.decode  # of all attempts, such as "cpu, then cuda"
        self._prepared, self._world, self._versions, self._say, self._on_step = prepared, world, versions, say, on_step
        self._job, self._run = prepared.job, open_store(prepared.job.run)
        self._reference = _Reference(prepared, detector.preprocessing.centre)
        self._upload = Background("upload")
        self._lookout: Lookout | None = None
        self._taken = self._wrote = time.monotonic()
        self._unwritten: tuple[dict, ...] | None = None  # the history, where metrics.jsonl is behind it
        self._counted = counts()
        self._began = time.time()
        self._at: Cursor | None = None  # of the newest checkpoint

    def __enter__(self) -> Commits:
        if self._world.is_main:
            self._lookout = Lookout(self._run, STOP)
        self._counted = counts()
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        """What is in flight ends or fails before the run does."""
        if self._lookout is not None:
            self._lookout.close()
        if (failed := self._upload.close()) is None:
            return
        if error is None:
            raise failed
        with contextlib.suppress(FcddError):  # what is said goes by way of the storage, and the first error counts
            self._say(f"the last upload failed, too: {type(failed).__name__}: {failed}")

    def restore(self, state: State) -> None:
        """Puts ``state`` where the newest checkpoint that verifies left it; without one it stays as it is.

        Collective. Raises Damaged where this rank can't read the checkpoint that rank 0 can.
        """
        name = self._newest()
        if name is None:
            if self._world.is_main:
                write_metrics(self._run, [])
            return
        store = self._run.at(f"{checkpoint.FOLDER}/{name}")
        record, tensors = checkpoint.read(store, checkpoint.DETECTOR, checkpoint.OPTIMIZER)
        if record.fingerprint != self._prepared.fingerprint:
            raise Fault(f"{store.url} is of another experiment than {self._run.url}/experiment.json says")
        state.network.load_state_dict(tensors[checkpoint.DETECTOR])
        load_optimizer_tensors(state.optimizer, tensors[checkpoint.OPTIMIZER])
        state.cursor = Cursor(record.cursor.epoch, record.cursor.step)
        state.restore_sums(record.sums)
        state.history = [dict(line) for line in record.history]
        self._at = state.cursor
        self._began -= sum(line["seconds"] for line in state.history)
        self._take_over_decoder(record)
        if self._world.is_main:
            write_metrics(self._run, state.history)
            self._say(f"going on from checkpoint {name}")
            changed = [f"{what} {before} -> {now}" for what, before, now in (
                *((key, value, self._versions.get(key)) for key, value in record.versions.items() if key != "decode"),
                ("threads", record.threads, self.threads), ("workers", record.workers, self._world.size))
                if before != now]
            if changed:
                self._say(f"the last bits may differ from an undisturbed run: {', '.join(changed)}")

    def _take_over_decoder(self, record: Record) -> None:
        before = record.versions.get("decode", "cpu")
        if before.split(", then ")[-1] == self.decode:
            self.decode = before
            return
        if self._world.is_main:
            self._say(f"this run was begun with decode={before} and goes on with decode={self.decode}: they differ in "
                      f"the last bits of pixels")
        self.decode = f"{before}, then {self.decode}"

    def _newest(self) -> str | None:
        """What rank 0 finds, on all ranks: if each chose for itself, they might go on from different positions."""
        found = torch.zeros(2, dtype=torch.int64)
        if self._world.is_main:
            self.check_lease()
            name = checkpoint.last(self._run, self._say)
            checkpoint.remove_after(self._run, name)  # what does not verify is of no use, and would be in the way
            found[:] = torch.tensor(astuple(checkpoint.position(name)) if name else (-1, -1))
        epoch, step = sum_over_ranks(found, self._world, self.detector).tolist()
        return checkpoint.name_of(Cursor(epoch, step)) if epoch >= 0 else None

    def wants_stop(self) -> bool:
        return self._lookout is not None and self._lookout.found()

    def holdout_figures(self) -> tuple[float | None, float | None]:
        if not self._reference.held_out:
            return None, None
        self.share_statistics()
        chunks, labels = self._reference.images, self._reference.labels
        figures = torch.zeros(2, len(labels))  # losses and scores
        for number, first in enumerate(range(0, len(labels), CHUNK)):
            if number % self._world.size == self._world.rank:
                part = slice(first, first + CHUNK)
                outputs = self.detector.outputs(chunks[part])
                objective = self.detector.objective
                figures[0, part] = objective.loss(outputs, labels[part].to(outputs.device)).cpu()
                figures[1, part] = objective.score(outputs).cpu()
        losses, scores = sum_over_ranks(figures, self._world, self.detector)
        return float(losses.double().mean()), auroc(labels.numpy(), scores.numpy()) if scores.isfinite().all() else None

    def share_statistics(self) -> None:
        """Where each rank has running statistics of its own, all evaluate with those of rank 0, which are kept."""
        if self._world.size > 1 and self._prepared.experiment.network.batch_norm == "rank":
            for buffer in self.detector.network.buffers():
                dist.broadcast(buffer, 0)

    def epoch_figures(self, waited_s: float) -> dict[str, float]:
        now = counts()
        spent, self._counted = self.over_ranks(now - self._counted), now
        waits = torch.zeros(self._world.size, dtype=torch.float64)
        waits[self._world.rank] = waited_s
        waits = sum_over_ranks(waits, self._world, self.detector)
        return {"input_wait_s": float(waits.max()),  # the others wait for the rank that waits longest
                "storage_requests": spent.requests, "storage_retries": spent.retries}

    def over_ranks(self, mine: Counts) -> Counts:
        """The sum of what each rank gives, on all of them. Collective."""
        return Counts(*sum_over_ranks(torch.tensor(astuple(mine)), self._world, self.detector).tolist())

    def after_epoch(self, state: State) -> None:
        self._unwritten = tuple(state.history)

    def after_step(self, state: State) -> None:
        if self._world.is_main:
            self._upload.check()
            if not self._upload.busy:
                self._hand_over(state)
        self._on_step(state)

    def write(self, state: State) -> None:
        """Commits a checkpoint of ``state``, with threshold and heatmap scale of its weights: on return it is there.

        Where the newest checkpoint is of this very position, only its threshold and scale are taken over. For rank 0.
        """
        self._upload.wait()
        if state.cursor == self._at:
            record = checkpoint.read_record(self._run.at(f"{checkpoint.FOLDER}/{checkpoint.name_of(self._at)}"))
            self.detector.threshold, self.detector.heatmap_scale = record.threshold, record.heatmap_scale
            return
        self._take(state)
        self._upload.wait()

    def _hand_over(self, state: State) -> None:
        """Whatever is due by now: a checkpoint, or else metrics."""
        now = time.monotonic()
        if now - self._taken >= self._job.checkpoint_every_s:
            self._take(state)
        elif self._unwritten is not None and now - self._wrote >= max(_METRICS_S, self._run.look_every):
            self._upload.start(partial(write_metrics, self._run, self._unwritten))
            self._wrote, self._unwritten = now, None

    def _take(self, state: State) -> None:
        """Hands over a checkpoint of ``state``: what is handed over shares no memory with what is trained."""
        self._calibrate(state)
        prepared = self._prepared
        record = Record(
            experiment=prepared.experiment, experiment_id=prepared.experiment.id, fingerprint=prepared.fingerprint,
            data_id=prepared.data.id, exposure_id=prepared.exposure.id if prepared.exposure else None,
            class_name=prepared.class_name, cursor=Position(epoch=state.cursor.epoch, step=state.cursor.step),
            sums=state.sums_by_name(), history=tuple(state.history), preprocessing=self.detector.preprocessing,
            heatmap_scale=self.detector.heatmap_scale, threshold=self.detector.threshold,
            versions=self._versions | {"decode": self.decode},
            threads=self.threads, workers=self._world.size, files={})
        files = {name: save({key: tensor.contiguous() for key, tensor in tensors.items()}) for name, tensors in (
            (checkpoint.DETECTOR, state.network.state_dict()),
            (checkpoint.OPTIMIZER, optimizer_tensors(state.optimizer)))}
        self._upload.start(partial(self._commit, record, files))
        self._at, self._unwritten = state.cursor, None
        self._taken = self._wrote = time.monotonic()

    def _commit(self, record: Record, files: dict[str, bytes]) -> None:
        """In the background. Each step may hang in an outage until another driver has taken over: so each checks."""
        self.check_lease()
        write_metrics(self._run, record.history)
        checkpoint.write(self._run, record, files, self.check_lease)
        self.check_lease()
        checkpoint.retain(self._run, self._job.keep)
        write_tensorboard(self._run, record.history, self._began)

    def check_lease(self) -> None:
        """Raises Fault where another driver has the run by now."""
        if self._job.attempt is not None and not still_current(self._run, self._job.attempt):
            raise Fault(f"another driver has taken over {self._run.url}: this one commits nothing more")

    def _calibrate(self, state: State) -> None:
        """Gives the detector the threshold and the heatmap scale that its present weights ask for."""
        reference, detector = self._reference, self.detector
        outputs = detector.outputs(reference.images)
        if not outputs.isfinite().all():
            raise NonFiniteLoss(f"the net gives values that are not finite in epoch {state.cursor.epoch + 1}: lower "
                                f"optimizer.lr, or look at the data; the last good checkpoint stands")
        # Maps of large images are smooth: every fourth pixel says the same as all, in a sixteenth of the memory.
        every = 4 if detector.preprocessing.side > 64 else 1
        maps = [detector.upsampled(chunk)[..., ::every, ::every].cpu().numpy() for chunk in outputs.split(CHUNK)]
        detector.heatmap_scale = heatmap_scale(np.concatenate(maps), detector.experiment.heatmap.eta,
                                               reference.described)
        budget = self._job.threshold_budget
        if reference.held_out:
            scores = detector.objective.score(outputs).cpu().numpy()
            detector.threshold = choose_threshold(scores[reference.labels.numpy() == 0], budget)
        else:
            detector.threshold = Threshold(value=None, budget=budget, images=0, how=reference.why_no_threshold)


class _Reference:
    """The hold-out and equally many exposure images; where nothing is held out, training images, for maps alone."""

    def __init__(self, prepared: Prepared, centre: int | None) -> None:
        self.held_out = prepared.has_holdout
        split = "holdout" if self.held_out else "train"
        nominal = _first(prepared, "nominal", split, _REFERENCE, centre)
        exposure = _first(prepared, "exposure", split, len(nominal), centre) if prepared.exposure else nominal[:0]
        self.images = torch.from_numpy(np.concatenate([nominal, exposure]))
        self.labels = torch.cat([torch.zeros(len(nominal)), torch.ones(len(exposure))])
        which = "hold-out" if self.held_out else "training"
        self.described = f"{len(nominal)} nominal and {len(exposure)} exposure images of the {which} split"
        self.why_no_threshold = (
            "no images were held out (protocol paper)" if prepared.experiment.data.train_on != "train"
            else "the data set has no hold-out images of this class")


def _first(prepared: Prepared, which: str, split: str, limit: int, centre: int | None) -> np.ndarray:
    """The first ``limit`` stored images of a split, or what is looked at of them, (n, C, side, side) uint8."""
    store = prepared.data_store if which == "nominal" else prepared.exposure_store
    form = prepared.experiment.data.form
    shards = prepared.shards(which, split)
    firsts = np.cumsum([0, *(shard.samples for shard in shards)])[:-1]
    wanted = [shard for shard, first in zip(shards, firsts, strict=True) if first < limit]
    side, left = form.side if centre is None else centre, limit
    images = [np.empty((0, form.channels, side, side), np.uint8)]
    for shard, samples in zip(wanted, read_each(store, wanted), strict=True):
        images.append(decode_samples(samples[:left], form, store, shard, centre))
        left -= shard.samples
    return np.concatenate(images)
