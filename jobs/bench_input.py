"""From stored photographs to what a step is given: the work of a core, resuming, qualities, decoding on a GPU."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from bench_data import DataSets
from bench_script import AddNoise
from bench_timing import Bench, Row, Skip, in_turn, one_core
from bench_training import imagenet, one_pass, opened
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from fcdd_dist.data.images import decode_stored, encode, load_image, to_form
from fcdd_dist.data.native import torchvision
from fcdd_dist.data.order import Cursor, Order
from fcdd_dist.errors import BadInput
from fcdd_dist.experiment import Exposure
from fcdd_dist.model.normalization import Preprocessing
from fcdd_dist.run import Prepared
from fcdd_dist.run.rank import measured_preprocessing
from fcdd_dist.stream.budget import default_threads
from fcdd_dist.stream.nvjpeg import Decoder
from fcdd_dist.stream.streamed import Streamed

_IMAGENET22K = 14_200_000
_SHARD = 512  # samples at most


class PlainFiles(Dataset):
    """Photographs as they are, each decoded and transformed by itself."""

    def __init__(self, files: list[Path], how: Preprocessing) -> None:
        try:
            from torchvision import transforms as T
        except ImportError as error:
            raise Skip(f"the plain way needs torchvision ({error})") from None
        self._files = files
        self._transform = T.Compose([
            T.Resize(256), T.ColorJitter(0.01, 0.01, 0.01, 0.01), T.RandomHorizontalFlip(), T.RandomCrop(how.side),
            T.ToTensor(), AddNoise(0.001), T.Normalize(how.shift, how.scale)])

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> torch.Tensor:
        return self._transform(Image.open(self._files[index]).convert("RGB"))


def host(bench: Bench, data: DataSets) -> list[Row]:
    """The work of the host for an image of a training on a GPU, and of one on the CPU, without the net."""
    checked = imagenet(bench, data, 0)
    e, cpu = checked.experiment, torch.device("cpu")
    shards, requests = checked.shards("exposure", *checked.trained_on), one_pass(checked)
    steps = 2 if bench.quick else 20
    loader = DataLoader(PlainFiles(data.full_size, measured_preprocessing(checked)), batch_size=128, shuffle=True)

    def handed_over() -> int:
        pixels = Streamed(checked.exposure_store, shards, e.data.form, cpu, 1)
        return sum(len(images) for images in pixels.walk(requests))

    def augmented() -> int:
        batches = opened(checked, cpu).batches(Cursor(), steps)
        done = sum(len(batch.images) for _, batch in islice(batches, steps))
        batches.close()
        return done

    def plain() -> int:
        return sum(len(images) for images in loader)

    with one_core():
        return [in_turn(bench, f"host work on one core, {what}, against Pillow and torchvision's transforms on "
                        f"photographs of full size", ours, plain, aim=aim, pairs=5)
                for what, ours, aim in ((f"{e.data.form} read, checked, decoded and handed over as uint8", handed_over,
                                         12.0), ("the same with all augmentation on the CPU", augmented, 4.0))]


class _Watched:
    """A store that remembers which shards were asked for."""

    def __init__(self, store) -> None:
        self._store, self.keys = store, set()

    def verified(self, key: str, *arguments, **named):
        self.keys.add(key)
        return self._store.verified(key, *arguments, **named)

    def __getattr__(self, name: str):
        return getattr(self._store, name)


def resume(bench: Bench, data: DataSets) -> list[Row]:
    """A training that goes on at 90 % of a pass over the exposure images, all of it streamed."""
    checked = imagenet(bench, data, 0)
    e = checked.experiment
    exposed = e.batch_size * e.exposure.probability
    at = int(0.9 * sum(part.samples for part in checked.parts("exposure", *checked.trained_on)) / exposed)
    seconds: dict[str, list[float]] = {"start": [], "resumed": []}
    shards: dict[str, int] = {}
    for turn in range(bench.pairs(9) + 1):
        for name, step in (("start", 0), ("resumed", at)):
            store = _Watched(checked.exposure_store)
            began = time.perf_counter()
            stream = opened(replace(checked, exposure_store=store), bench.device)
            cursor = Cursor(*divmod(step, stream.steps_per_epoch))
            batches = stream.batches(cursor, cursor.epoch + 1)
            next(batches)
            if turn:  # the first one warms up
                seconds[name].append(time.perf_counter() - began)
            shards[name] = len(store.keys)
            batches.close()
    ratios = [resumed / start for start, resumed in zip(seconds["start"], seconds["resumed"], strict=True)]
    began = time.perf_counter()
    _first_rows_of_imagenet22k(checked)
    order_s = time.perf_counter() - began
    return [
        Row("first batch of a training resumed at 90 % of a pass over the exposure images, against from the start",
            float(np.median(ratios)), "x", 1.5, at_least=False, figures={
                "resumed_s": float(np.median(seconds["resumed"])), "start_s": float(np.median(seconds["start"])),
                "step": at, "shards_asked_for_resumed": shards["resumed"], "shards_asked_for_start": shards["start"],
                "shards": len(checked.shards("exposure", *checked.trained_on))}),
        Row(f"which samples are in the batch at 90 % of a pass over {_IMAGENET22K:,} exposure images", order_s, "s",
            1.0, at_least=False)]


def _first_rows_of_imagenet22k(checked: Prepared) -> None:
    e = checked.experiment
    order = Order(batch_size=e.batch_size, lanes=e.lanes, seed=e.seed, window=e.data.window, repeats=1,
                  nominal=(_SHARD, _SHARD, 276), exposure=(_SHARD,) * (_IMAGENET22K // _SHARD), settings=Exposure())
    cursor = Cursor(*divmod(int(0.9 * _IMAGENET22K / e.batch_size / 0.5), order.steps_per_epoch))
    for lane in range(e.lanes):
        order.rows(cursor, lane)


def quality(bench: Bench, data: DataSets) -> list[Row]:
    """What the quality of the stored form costs and what it keeps, on one core."""
    form, rows = imagenet(bench, data, 0).experiment.data.form, []
    pixels = [to_form(load_image(path.read_bytes()), form) for path in data.full_size]
    with one_core():
        for percent in (80, 85, 90, 95):
            stored = form.model_copy(update={"quality": percent})
            began = time.perf_counter()
            encoded = [encode(image, stored) for image in pixels]
            encoding_s = time.perf_counter() - began
            rates = []
            for _ in range(bench.pairs(5)):
                began = time.perf_counter()
                decoded = [decode_stored(image, stored) for image in encoded]
                rates.append(len(decoded) / (time.perf_counter() - began))
            error = np.mean([np.abs(after.astype(int) - before.transpose(2, 0, 1)).mean()
                             for before, after in zip(pixels, decoded, strict=True)])
            chroma = {2: "4:2:0", 0: "4:4:4"}[_subsampling(encoded[0])]
            rows.append(Row(f"images/s of a core that decodes {stored} ({chroma}; error in 8-bit values)",
                            float(np.median(rates)), "", figures={
                                "bytes_per_image": sum(map(len, encoded)) / len(encoded), "mean_absolute_error":
                                float(error), "encoded_per_s": len(encoded) / encoding_s}))
    return rows


def _subsampling(jpeg: bytes) -> int:
    """0 for 4:4:4, 2 for 4:2:0, as Pillow counts."""
    import io

    from PIL.JpegImagePlugin import get_sampling

    return get_sampling(Image.open(io.BytesIO(jpeg)))


def decode_gpu(bench: Bench, data: DataSets) -> list[Row]:
    """Streaming with nvJPEG against streaming with all threads of the host: which should decode beside this GPU?"""
    if bench.device.type != "cuda":
        raise Skip("nvJPEG needs a GPU: --device cuda")
    try:
        torchvision()
    except BadInput as error:
        raise Skip(f"nvJPEG is used through torchvision: {error}") from None
    checked = imagenet(bench, data, 0)
    form, threads, requests = checked.experiment.data.form, default_threads(), one_pass(checked)
    shards = checked.shards("exposure", *checked.trained_on)

    def streamed(decode: Decoder) -> int:
        pixels = Streamed(checked.exposure_store, shards, form, bench.device, threads, decode=decode)
        return sum(len(images) for images in pixels.walk(requests))

    row = in_turn(bench, f"streaming {form} to the GPU, decoded by nvJPEG, against simplejpeg in {threads} threads of "
                  f"the host", partial(streamed, "cuda"), partial(streamed, "cpu"), aim=None, pairs=5)
    return [replace(row, what=f"{row.what}: {'nvJPEG pays' if row.value > 1 else 'the host decodes faster'}")]
