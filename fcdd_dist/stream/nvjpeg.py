"""JPEG decoded by the GPU, for machines with few cores beside it. A job asks for it; nothing ever needs it.

nvJPEG's pixels differ a little from those of the CPU's decoder, since its inverse transform rounds elsewhere. So a run
records which one it had, and test and hold-out images are always decoded by the CPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch

from ..data.manifest import Shard
from ..data.native import torchvision
from ..data.shards.decode import decode_sample, size_of
from ..data.shards.read import Sample
from ..experiment import Form
from ..storage import Store

Decoder = Literal["cpu", "cuda"]  # of JPEG


def decode_on_device(samples: Sequence[Sample], form: Form, store: Store, shard: Shard, device: torch.device
                     ) -> list[torch.Tensor]:
    """Stored JPEGs as (C, H, W) uint8 on ``device``; the CPU decodes what nvJPEG refuses. Raises Damaged with key."""
    for sample in samples:
        size_of(sample, form, store, shard)  # no claim of another size is ever believed
    found = _decode([sample.image for sample in samples], form.channels, device)
    return [torch.from_numpy(decode_sample(sample, form, store, shard).copy()).to(device) if image is None else image
            for sample, image in zip(samples, found, strict=True)]


def _decode(images: Sequence[memoryview], channels: int, device: torch.device) -> list[torch.Tensor | None]:
    """All at once, and one by one where that fails: one image can spoil it for all. None for what is refused."""
    io = torchvision().io
    mode = io.ImageReadMode.RGB if channels == 3 else io.ImageReadMode.GRAY
    try:
        return io.decode_jpeg([torch.frombuffer(bytearray(image), dtype=torch.uint8) for image in images], mode, device)
    except RuntimeError:
        return [None] if len(images) == 1 else [_decode([image], channels, device)[0] for image in images]
