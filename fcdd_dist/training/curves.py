"""metrics.jsonl and TensorBoard's event file, both written whole from the history of a run."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence

from ..storage import Store

METRICS = "metrics.jsonl"
EVENTS = "tensorboard/events.out.tfevents.0000000000.run"  # one name, so that a resumed run goes on in one curve


def write_metrics(run: Store, history: Sequence[dict]) -> None:
    run.write(METRICS, "".join(json.dumps(line, allow_nan=False) + "\n" for line in history).encode())


def write_tensorboard(run: Store, history: Sequence[dict], began: float) -> None:
    """``began``: seconds since 1970 at the start of the first epoch, for TensorBoard's axis of wall time."""
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.record_writer import RecordWriter

    file = io.BytesIO()
    writer = RecordWriter(file)
    writer.write(Event(wall_time=began, file_version="brain.Event:2").SerializeToString())
    when = began
    for line in history:
        when += line["seconds"]
        values = [Summary.Value(tag=tag, simple_value=line[name]) for tag, name in (
            ("loss/all", "loss"), ("loss/nominal", "loss_nominal"), ("loss/anomalous", "loss_anomalous"),
            ("loss/holdout", "holdout_loss"), ("learning_rate", "lr"), ("images_per_second", "images_per_s"),
            ("input_wait_seconds", "input_wait_s"), ("storage/retries", "storage_retries"),  # not of earlier versions
        ) if line.get(name) is not None]
        event = Event(wall_time=when, step=line["epoch"], summary=Summary(value=values))
        writer.write(event.SerializeToString())
    run.write(EVENTS, file.getvalue())
