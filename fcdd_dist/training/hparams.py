"""The file by which TensorBoard's HParams tab shows a trial of a sweep among the others, and its figures on test."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..storage import Store
from .curves import HOLDOUT_AUROC, HOLDOUT_LOSS, event_file

if TYPE_CHECKING:
    from tensorboard.plugins.hparams.api_pb2 import Experiment
    from tensorboard.plugins.hparams.plugin_data_pb2 import SessionStartInfo

HPARAMS = "tensorboard/events.out.tfevents.0000000001.trial"  # after the curves: they are read in this order
TEST = {"auroc": "auroc/test", "average_precision": "average_precision/test"}
_COLUMNS = [(TEST["auroc"], "AUROC"), (TEST["average_precision"], "average precision"),
            (HOLDOUT_AUROC, "hold-out AUROC"), (HOLDOUT_LOSS, "hold-out loss")]


def write_hparams(run: Store, parameters: Mapping[str, Any], figures: Mapping[str, Any], epoch: int) -> None:
    """To be called when a trial is done; nothing in it tells of when that was.

    ``parameters``: the class, the seed and the fields that differ between the trials of the sweep, the same names for
    all of them. ``figures``: "auroc" and "average_precision" on test, where there are any (others are not looked at),
    after ``epoch`` epochs.
    """
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
    from tensorboard.plugins.hparams import api_pb2, metadata
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionEndInfo

    values = {name: value if isinstance(value, bool | int | float | str) else str(value)
              for name, value in parameters.items()}
    told = []
    for tag, data in ((metadata.EXPERIMENT_TAG, HParamsPluginData(experiment=_columns(values))),
                      (metadata.SESSION_START_INFO_TAG, HParamsPluginData(session_start_info=_session(run, values))),
                      (metadata.SESSION_END_INFO_TAG, HParamsPluginData(
                          session_end_info=SessionEndInfo(status=api_pb2.STATUS_SUCCESS)))):
        # Its own ``create_summary_metadata`` would do, but that its bytes are others in every process.
        content = SummaryMetadata.PluginData(plugin_name=metadata.PLUGIN_NAME,
                                             content=data.SerializeToString(deterministic=True))
        told.append(Summary.Value(tag=tag, tensor=metadata.NULL_TENSOR, metadata=SummaryMetadata(plugin_data=content)))
    test = [Summary.Value(tag=tag, simple_value=figures[name]) for name, tag in TEST.items()
            if figures.get(name) is not None]
    run.write(HPARAMS, event_file([Event(summary=Summary(value=told)),
                                   Event(step=epoch, summary=Summary(value=test))], 0.0))


def _columns(values: Mapping[str, bool | float | str]) -> Experiment:
    """What the tab shows: without it that would be all curves."""
    from tensorboard.plugins.hparams import api_pb2

    types = {bool: api_pb2.DATA_TYPE_BOOL, str: api_pb2.DATA_TYPE_STRING}
    return api_pb2.Experiment(
        hparam_infos=[api_pb2.HParamInfo(name=name, differs=True,
                                         type=types.get(type(value), api_pb2.DATA_TYPE_FLOAT64))
                      for name, value in values.items()],
        metric_infos=[api_pb2.MetricInfo(name=api_pb2.MetricName(tag=tag), display_name=title)
                      for tag, title in _COLUMNS])


def _session(run: Store, values: Mapping[str, bool | float | str]) -> SessionStartInfo:
    from tensorboard.plugins.hparams.plugin_data_pb2 import SessionStartInfo

    session = SessionStartInfo(group_name=run.url.rpartition("/")[2])
    for name, value in values.items():
        kind = "bool_value" if isinstance(value, bool) else "string_value" if isinstance(value, str) else "number_value"
        setattr(session.hparams[name], kind, value)
    return session
