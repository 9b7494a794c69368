"""Batch normalisation over the rows of all ranks.

The only layer that sees the world. ``torch.nn.SyncBatchNorm`` refuses CPU tensors; this one works wherever
torch.distributed does, with one small collective forward and one backward. Each rank gives (count, mean, M2), M2 being
the sum of squared deviations; they are merged by the formula of Chan, Golub and LeVeque (1979), which, unlike sums of
squares, does not cancel. Ranks may have different numbers of rows, or none.

Gradients follow the trainer: a rank back-propagates the sum over its own rows of loss / global batch size, and the
gradients of parameters are then summed over the ranks. So the gradient of the input is that of the global loss, and
the gradients of weight and bias are this rank's part of the sum.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

Scope = Literal["world", "rank"]


class BatchNorm2d(nn.Module):
    """Batch normalisation of (B, C, H, W), equal on W ranks to what one rank computes on the whole batch.

    Outside torch.distributed, in a world of one, with ``scope`` "rank", and in evaluation mode, it is exactly
    ``torch.nn.functional.batch_norm``. Input may be float32, float64 or bfloat16, contiguous or channels_last, and the
    output is alike; statistics are float32 (float64 for float64 input). The running statistics, with the unbiased
    variance of the world, are equal on all ranks.

    In training mode with ``scope`` "world" every rank must take part in every forward and backward pass.
    """

    def __init__(
        self, num_features: int, eps: float = 1e-5, momentum: float = 0.1, affine: bool = True, scope: Scope = "world"
    ) -> None:
        super().__init__()
        if scope not in get_args(Scope):
            raise ValueError(f"the scope of batch normalisation is 'world' or 'rank', not {scope!r}")
        self.num_features, self.eps, self.momentum, self.scope = num_features, eps, momentum, scope
        self.register_parameter("weight", nn.Parameter(torch.ones(num_features)) if affine else None)
        self.register_parameter("bias", nn.Parameter(torch.zeros(num_features)) if affine else None)
        self.register_buffer("running_mean", torch.zeros(num_features))
        self.register_buffer("running_var", torch.ones(num_features))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W), same dtype and memory format."""
        if x.dim() != 4 or x.shape[1] != self.num_features:
            raise ValueError(f"expected (B, {self.num_features}, H, W), not {tuple(x.shape)}")
        if self.training and self.scope == "world" and _world_size() > 1:
            count, mean, m2 = world_statistics(x)
            self._remember(mean, m2 / (count - 1).clamp(min=1))
            return _Normalise.apply(x, self.weight, self.bias, count, mean, m2 / count, self.eps)
        return F.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, self.training, self.momentum, self.eps
        )

    @torch.no_grad()
    def _remember(self, mean: Tensor, unbiased: Tensor) -> None:
        for running, new in ((self.running_mean, mean), (self.running_var, unbiased)):
            running.mul_(1 - self.momentum).add_(new.to(running.dtype), alpha=self.momentum)

    def extra_repr(self) -> str:
        affine = self.weight is not None
        return f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={affine}, scope={self.scope!r}"


@torch.no_grad()
def world_statistics(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(count, mean, M2) per channel of the ``x`` (B, C, H, W) of all ranks: shapes (), (C,), (C,), equal on all ranks.

    One all-gather of 2C + 1 numbers. The parts are added in the order of the ranks, so that the result has one value.
    """
    count, mean, m2 = _statistics(x)
    mine = torch.cat([mean.new_full((1,), count), mean, m2])
    parts = mine.new_empty(_world_size(), mine.numel())
    dist.all_gather(list(parts.unbind()), mine)
    counts, means, m2s = parts[:, :1], parts[:, 1 : 1 + mean.numel()], parts[:, 1 + mean.numel() :]
    count = counts.sum()
    mean = (counts / count * means).sum(0)
    return count, mean, (m2s + counts * (means - mean).square()).sum(0)


class _Normalise(torch.autograd.Function):
    """(x - mean) / sqrt(var + eps) * weight + bias, where mean and var depend on the x of every rank."""

    @staticmethod
    def forward(ctx, x, weight, bias, count, mean, var, eps):
        ctx.save_for_backward(x, weight, count, mean, var)
        ctx.eps, ctx.has_bias = eps, bias is not None
        return F.batch_norm(x, mean, var, weight, bias, training=False, eps=eps)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, dy):
        x, weight, count, mean, var = ctx.saved_tensors
        # Convolutions hand back whatever layout they like; two operands of one layout are read in one sweep.
        dy = dy.contiguous(memory_format=_layout(x))
        dweight, dbias = _channel_sums(dy, x, mean, var, ctx.eps)  # sums of dy * normalised x, and of dy
        sums = torch.stack([dweight, dbias])  # a copy: the local sums are the gradients of weight and bias
        dist.all_reduce(sums)
        dx = None
        if ctx.needs_input_grad[0]:
            # dx = scale * (dy - mean of dy - normalised x * mean of (dy * normalised x)), as one line in dy and x
            inverse = (var + ctx.eps).rsqrt()
            scale = inverse if weight is None else inverse * weight
            slope = -scale * inverse * sums[0] / count
            dx = _line(x, slope, -scale * sums[1] / count - slope * mean)
            if dy.dtype == scale.dtype:
                dx.addcmul_(dy, scale.view(1, -1, 1, 1))
            else:  # rounding the scale to bfloat16 would bias the gradient of a whole channel
                dx.add_(_line(dy, scale, torch.zeros_like(scale)))
        return dx, dweight if weight is not None else None, dbias if ctx.has_bias else None, None, None, None, None


def _statistics(x: Tensor) -> tuple[int, Tensor, Tensor]:
    # The given running statistics are scratch: their dtype makes torch compute in it, whatever the input's.
    scratch = torch.zeros(2, x.shape[1], dtype=torch.promote_types(x.dtype, torch.float32), device=x.device)
    count = x.numel() // x.shape[1]
    if not count:  # torch has no kernel for a rank without rows
        return 0, scratch[0], scratch[1]
    mean, var = torch.batch_norm_update_stats(x, scratch[0], scratch[1], 0.0)
    return count, mean, var * count


def _channel_sums(dy: Tensor, x: Tensor, mean: Tensor, var: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    if not x.numel():
        return torch.zeros_like(mean), torch.zeros_like(mean)
    _, products, sums = torch.ops.aten.native_batch_norm_backward(
        dy, x, torch.ones_like(mean), mean, var, None, None, False, eps, [False, True, True]
    )
    return products, sums


def _line(x: Tensor, slope: Tensor, shift: Tensor) -> Tensor:
    """slope * x + shift per channel, in one sweep and rounded once to the dtype of ``x``."""
    return F.batch_norm(x, torch.zeros_like(slope), torch.ones_like(slope), slope, shift, training=False, eps=0.0)


def _layout(x: Tensor) -> torch.memory_format:
    channels_last = x.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if channels_last else torch.contiguous_format


def _world_size() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1
