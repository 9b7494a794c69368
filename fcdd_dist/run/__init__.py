"""A run without Ray: ``prepare``, ``check`` and ``claim`` on the driver, ``run_rank`` on every rank."""

from .job import EXPERIMENT, RESULT, STOP, Job, Prepared, check, claim, fingerprint, load_data, prepare
from .rank import run_rank

__all__ = ["EXPERIMENT", "RESULT", "STOP", "Job", "Prepared", "check", "claim", "fingerprint", "load_data", "prepare",
           "run_rank"]
