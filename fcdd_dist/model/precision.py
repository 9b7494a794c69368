"""Where half precision ends: maps, losses and statistics are computed in float32 at least."""

from __future__ import annotations

import torch
from torch import Tensor


def widened(tensor: Tensor) -> Tensor:
    """``tensor`` in float32, or in float64 where it is float64 already; the same object where nothing changes.

    bfloat16 rounds sqrt(phi^2 + 1) - 1 to zero for |phi| below 0.1, so nothing that leaves the network stays in it.
    """
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))
