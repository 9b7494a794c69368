"""Objectives: what is trained, and what map and score come of it.

An objective is an object with three functions of tensors. Labels are 1 for anomalous and 0 for nominal, everywhere.

    loss(output, labels, masks=None) -> (B,)     one loss a sample, which depends on that sample alone
    anomaly_map(output) -> (B, 1, u, v)          >= 0, higher is more anomalous
    score(output) -> (B,)                        of the image, higher is more anomalous

Output is what the network gives, (B, 1, u, v), bfloat16, float32 or float64; results are float32, or float64 for
float64. Nothing waits for the device, nor depends on data for its control flow: a training step can be captured as a
graph. Adding one is a file and a line here; its contract tests come by themselves.
"""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from .fcdd import Fcdd


class Objective(Protocol):
    """See the head of this module."""

    def loss(self, output: Tensor, labels: Tensor, masks: Tensor | None = None) -> Tensor: ...

    def anomaly_map(self, output: Tensor) -> Tensor: ...

    def score(self, output: Tensor) -> Tensor: ...


OBJECTIVES: dict[str, type[Objective]] = {"fcdd": Fcdd}
