"""The errors of fcdd_dist, one tree:

    FcddError                    every error that we raise on purpose; its text is one line for a person
    |-- BadInput                 what was asked for can't be done: exit code 2, before anything expensive starts
    |   |-- NotFound             a file, key, class, run or checkpoint that is not there
    |   `-- Conflict             somebody or something else has the place: another run, owner or experiment
    `-- Fault                    something broke while running: exit code 1
        |-- Damaged              bytes that don't verify: truncated, altered, undecodable
        |-- NonFiniteLoss        the loss became NaN or infinite
        `-- Interrupted          stopped by a signal or by a request, with the last checkpoint committed

A message says what is wrong, where, and what would be right.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class FcddError(Exception):
    """Base of all errors raised on purpose."""

    exit_code = 1


class BadInput(FcddError):
    """What was asked for can't be done."""

    exit_code = 2


class NotFound(BadInput):
    """Something that was named does not exist."""


class Conflict(BadInput):
    """The place is taken by something else."""


class Fault(FcddError):
    """Something broke while running."""

    exit_code = 1


class Damaged(Fault):
    """Bytes that don't verify."""


class NonFiniteLoss(Fault):
    """The loss became NaN or infinite; the last good checkpoint stands."""


class Interrupted(Fault):
    """Stopped on request; the state is committed and the same command goes on from it."""

    exit_code = 130


def nearest(word: str, known: Iterable[str]) -> str:
    """`` (did you mean 'x'?)`` for the closest of ``known``, or an empty string where nothing is close."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f" (did you mean {close[0]!r}?)" if close else ""
