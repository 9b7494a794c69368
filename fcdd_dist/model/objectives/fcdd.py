"""Fully Convolutional Data Description: equation (2) of arXiv 2007.01760v1."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..precision import widened

BARRIER_FLOOR = 1e-12  # the barrier is infinite at 0; below this it goes on with the value and slope that it has here


@dataclass(frozen=True)
class Fcdd:
    """The mean of the map for nominal samples, its log barrier for anomalous ones."""

    def loss(self, output: Tensor, labels: Tensor, masks: Tensor | None = None) -> Tensor:
        """Output (B, 1, u, v) and labels (B,), 1 = anomalous -> (B,), >= 0, finite: equation (2), mean over i left out.

        Also where all labels are equal: the authors' code took such a batch for nominal. Raises ValueError for masks,
        which belong to equation (3), and for labels of another shape.
        """
        if masks is not None:
            raise ValueError("this objective doesn't use masks")
        if labels.shape != output.shape[:1]:
            raise ValueError(f"labels {tuple(labels.shape)} don't fit an output of {tuple(output.shape)}")
        score = self.score(output)
        return torch.where(labels == 1, log_barrier(score), score)

    def anomaly_map(self, output: Tensor) -> Tensor:
        """Output (B, 1, u, v) -> A(X) of section 3, (B, 1, u, v), >= 0."""
        return pseudo_huber(output)

    def score(self, output: Tensor) -> Tensor:
        """Output (B, 1, u, v) -> (B,), >= 0: the mean of the map, which ranks as the paper's sum does."""
        return self.anomaly_map(output).mean(dim=(1, 2, 3))


def pseudo_huber(phi: Tensor) -> Tensor:
    """sqrt(phi^2 + 1) - 1, elementwise, in float32 at least, in a form that doesn't cancel near 0."""
    square = widened(phi).square()
    return square / (torch.sqrt(square + 1) + 1)


def log_barrier(x: Tensor) -> Tensor:
    """-log(1 - exp(-x)) for x >= 0, elementwise, in float32 at least; x below BARRIER_FLOOR counts as that."""
    return _LogBarrier.apply(widened(x))


class _LogBarrier(torch.autograd.Function):
    """Accurate to the last bits for tiny and for large x, which autograd through any of the usual forms is not."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        x = x.clamp(min=BARRIER_FLOOR)
        ctx.save_for_backward(x)
        return torch.where(x < math.log(2), -torch.log(-torch.expm1(-x)), -torch.log1p(-torch.exp(-x)))

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return -gradient / torch.expm1(x)
