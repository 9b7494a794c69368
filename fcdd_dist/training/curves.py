"""metrics.jsonl and TensorBoard's event file, both written whole from the history of a run."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from ..errors import Damaged, NotFound
from ..storage import Store

if TYPE_CHECKING:
    from tensorboard.compat.proto.event_pb2 import Event

METRICS = "metrics.jsonl"
EVENTS = "tensorboard/events.out.tfevents.0000000000.run"  # one name, so that a resumed run goes on in one curve
HOLDOUT_LOSS, HOLDOUT_AUROC = "loss/holdout", "auroc/holdout"


def write_metrics(run: Store, history: Sequence[dict]) -> None:
    run.write(METRICS, "".join(json.dumps(line, allow_nan=False) + "\n" for line in history).encode())


def read_metrics(run: Store) -> list[dict]:
    """The lines so far; none where nothing is written yet. Raises Damaged."""
    try:
        return [json.loads(line) for line in run.read(METRICS).splitlines()]
    except NotFound:
        return []
    except ValueError as error:
        raise Damaged(f"{run.url}/{METRICS} is damaged: {error}") from None


def write_tensorboard(run: Store, history: Sequence[dict], began: float) -> None:
    """``began``: seconds since 1970 at the start of the first epoch, for TensorBoard's axis of wall time.

    The file is replaced as it grows, which a TensorBoard that is open sees when it runs with ``--load_fast=false``.
    """
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary

    events, when = [], began
    for line in history:
        when += line["seconds"]
        values = [Summary.Value(tag=tag, simple_value=line[name]) for tag, name in (
            ("loss/all", "loss"), ("loss/nominal", "loss_nominal"), ("loss/anomalous", "loss_anomalous"),
            (HOLDOUT_LOSS, "holdout_loss"), (HOLDOUT_AUROC, "holdout_auroc"), ("learning_rate", "lr"),
            ("images_per_second", "images_per_s"), ("input_wait_seconds", "input_wait_s"),
            ("storage/retries", "storage_retries"),
        ) if line.get(name) is not None]  # some are not in lines of earlier versions
        events.append(Event(wall_time=when, step=line["epoch"], summary=Summary(value=values)))
    run.write(EVENTS, event_file(events, began))


def event_file(events: Iterable[Event], began: float) -> bytes:
    """The bytes of a file of TensorBoard's that holds ``events``; the same for the same."""
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.summary.writer.record_writer import RecordWriter

    file = io.BytesIO()
    writer = RecordWriter(file)
    for event in (Event(wall_time=began, file_version="brain.Event:2"), *events):
        writer.write(event.SerializeToString())
    return file.getvalue()
