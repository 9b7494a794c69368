"""JPEG decoded by the GPU, for machines with few cores beside it. A job asks for it; nothing ever needs it.

nvJPEG's pixels differ a little from those of the CPU's decoder, since its inverse transform rounds elsewhere. So a run
records which one it had, and test and hold-out images are always decoded by the CPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch

from ..data.images import encode
from ..data.manifest import Shard
from ..data.native import torchvision
from ..data.shards.decode import decode_sample, size_of
from ..data.shards.read import Sample
from ..errors import BadInput
from ..experiment import Form
from ..model.transfer import to_device
from ..storage import Store

Decoder = Literal["cpu", "cuda"]  # of JPEG
_TINY = Form(side=16, channels=3, quality=90)


def check_decoder(device: torch.device) -> None:
    """Raises BadInput where nvJPEG can't be used: to be called once, before what it refuses is left to the CPU."""
    if device.type != "cuda":
        raise BadInput(f"decode=cuda needs a GPU, and this worker has none (its device is {device}): leave it out")
    try:
        probe(device)
    except RuntimeError as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise BadInput(f"decode=cuda: this GPU, or this torchvision, can't decode JPEG ({reason}): leave it out"
                       ) from error


def probe(device: torch.device) -> None:
    """Decodes a tiny JPEG. Raises RuntimeError, of torch or torchvision, where that can't be done."""
    (image,) = _decode([memoryview(encode(np.full((16, 16, 3), 200, np.uint8), _TINY))], 3, device)
    if image.shape != (3, 16, 16) or not (image.float() - 200).abs().max() < 8:
        raise RuntimeError("a grey image came out as another one")


def decode_on_device(samples: Sequence[tuple[Sample, Shard]], form: Form, store: Store, device: torch.device
                     ) -> list[torch.Tensor]:
    """Stored JPEGs, each with its shard, as (C, H, W) uint8 on ``device``. Raises Damaged with shard and key.

    All at once and, where that fails, one by one, since one image can spoil it for all. The CPU decodes what nvJPEG
    refuses by itself; where nvJPEG no longer works at all, or memory is out, that error goes on to the caller.
    """
    for sample, shard in samples:
        size_of(sample, form, store, shard)  # no claim of another size is ever believed
    if not samples:
        return []
    try:
        return _decode([sample.image for sample, _ in samples], form.channels, device)
    except torch.OutOfMemoryError:
        raise
    except RuntimeError:
        if len(samples) > 1:
            return [decode_on_device([each], form, store, device)[0] for each in samples]
        probe(device)
        (sample, shard), = samples
        return [to_device(decode_sample(sample, form, store, shard), device)]


def _decode(images: Sequence[memoryview], channels: int, device: torch.device) -> list[torch.Tensor]:
    io = torchvision().io
    mode = io.ImageReadMode.RGB if channels == 3 else io.ImageReadMode.GRAY
    return io.decode_jpeg([torch.frombuffer(bytearray(image), dtype=torch.uint8) for image in images], mode, device)
