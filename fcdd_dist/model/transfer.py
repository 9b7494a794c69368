"""From the host to where a net is."""

from __future__ import annotations

import numpy as np
import torch


def to_device(values: np.ndarray | torch.Tensor, device: torch.device) -> torch.Tensor:
    """``values``, which are in the host's memory, on ``device``: the very same memory on a CPU, else a copy.

    The host does not wait for a GPU, as it does where it copies from memory that is not pinned: CUDA may then first
    finish all that is queued.
    """
    tensor = torch.as_tensor(values)
    if device.type == "cuda":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)
