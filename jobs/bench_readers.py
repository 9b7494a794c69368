"""The ways of reading images into decoded batches that are compared, each written as its documentation advises.

Each is shuffled as it usually is, without augmentation. Nothing of the bench or the project is imported but by "ours":
the others may run in environments of their own.
"""

from __future__ import annotations

import json
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from PIL import Image

WINDOW = 1_000  # samples in the shuffle buffers of those that have one
Batches = Iterator[torch.Tensor]  # (n, 3, side, side) uint8


class Ours:
    def __init__(self, spec: dict, workers: int) -> None:
        from fcdd_dist.data import order
        from fcdd_dist.data.manifest import load_manifest
        from fcdd_dist.experiment import Exposure
        from fcdd_dist.storage import open_store
        from fcdd_dist.stream.streamed import Streamed

        self._classes, self._spec, self._threads = (order, load_manifest, Exposure, open_store, Streamed), spec, workers

    def epochs(self, first: int = 0) -> Iterator[Batches]:
        order, load_manifest, Exposure, open_store, Streamed = self._classes
        store = open_store(self._spec["ours"])
        manifest = load_manifest(store)
        shards = tuple(shard for parts in manifest.splits.values() for part in parts.values() for shard in part.shards)
        plan = order.Order(batch_size=self._spec["batch"], lanes=8, seed=0, window=256, repeats=1,
                           nominal=tuple(shard.samples for shard in shards), exposure=(),
                           settings=Exposure(probability=0.0))
        cursors = (order.Cursor(epoch, step) for epoch in range(10**6) for step in range(plan.steps_per_epoch))
        requests = (np.concatenate([plan.rows(cursor, lane).ids for lane in range(8)])
                    for cursor in islice(cursors, first, None))
        batches = Streamed(store, shards, manifest.form, torch.device("cpu"), max(1, self._threads)).walk(requests)
        yield islice(batches, plan.steps_per_epoch - first)
        while True:
            yield islice(batches, plan.steps_per_epoch)

    resumed = epochs


class Loader(ABC):
    """What those that use a DataLoader have in common; ``make`` gives one whose batches start at batch ``first``."""

    def __init__(self, spec: dict, workers: int) -> None:
        self.spec, self.workers = spec, workers
        self.loading = {"num_workers": workers, "persistent_workers": workers > 0}
        self.prepare()

    def prepare(self) -> None:  # noqa: B027 - most have nothing to prepare
        pass

    @abstractmethod
    def make(self, first: int = 0):
        """A loader whose batches start at batch ``first``."""

    def epochs(self) -> Iterator[Batches]:
        loader = self.make()
        while True:
            yield iter(loader)

    def resumed(self, first: int) -> Iterator[Batches]:
        yield islice(self.make(), first, None)  # who has no other way skips what was seen


class Webdataset(Loader):
    def prepare(self) -> None:
        import webdataset

        self.wds = webdataset

    def make(self, first: int = 0):
        images = (self.wds.WebDataset(self.spec["tars"], shardshuffle=len(self.spec["tars"]), seed=0)
                  .shuffle(WINDOW).decode("torchrgb8").to_tuple("jpg"))
        return self.wds.WebLoader(images.batched(self.spec["batch"]).map(_first), batch_size=None, **self.loading)


def _first(sample):
    return sample[0]


class ImageFolder(Loader):
    """Its order is that of a sampler, so that who resumes skips indices and no images, as Accelerate does."""

    def prepare(self) -> None:
        from torch.utils.data import BatchSampler, DataLoader, RandomSampler
        from torchvision import datasets, transforms

        self.classes = datasets.ImageFolder, transforms.PILToTensor(), DataLoader, RandomSampler, BatchSampler

    def make(self, first: int = 0):
        Folder, transform, DataLoader, RandomSampler, BatchSampler = self.classes
        images = Folder(self.spec["files"], transform)
        sampler = BatchSampler(RandomSampler(images), self.spec["batch"], drop_last=False)
        if first:
            sampler = list(islice(sampler, first, None))
        return DataLoader(images, batch_sampler=sampler, collate_fn=_images, **self.loading)

    def resumed(self, first: int) -> Iterator[Batches]:
        yield iter(self.make(first))


def _images(samples) -> torch.Tensor:
    return torch.stack([image for image, _ in samples])


class WithState(Loader):
    """Loaders that know where they are: a state of batch ``first`` is written to a file, and loaded from it."""

    def epochs(self) -> Iterator[Batches]:
        self.loader = self.make()
        while True:
            yield iter(self.loader)

    def keep_state(self) -> None:
        self._state_file.write_text(json.dumps(self.loader.state_dict()))

    def resumed(self, first: int) -> Iterator[Batches]:
        loader = self.make()
        loader.load_state_dict(json.loads(self._state_file.read_text()))
        yield iter(loader)

    @property
    def _state_file(self) -> Path:
        return Path(self.spec[type(self).__name__.lower()]).with_suffix(f".{self.workers}.json")


class Litdata(WithState):
    def prepare(self) -> None:
        import litdata

        self.litdata = litdata

    def write(self) -> None:
        from litdata.processing import data_processor

        # It empties these folders first; where it would not be ours that it empties, nothing may begin.
        for folder in (data_processor._get_cache_dir(), data_processor._get_cache_data_dir()):
            assert Path(self.spec["litdata"]).parent in Path(folder).parents, f"litdata would empty {folder}"
        paths = sorted(map(str, Path(self.spec["files"]).rglob("*.jpg")))
        self.litdata.optimize(fn=_opened, inputs=paths, output_dir=self.spec["litdata"], chunk_bytes="8MB",
                              num_workers=1)

    def make(self, first: int = 0):
        images = self.litdata.StreamingDataset(self.spec["litdata"], shuffle=True, seed=0)
        return self.litdata.StreamingDataLoader(images, batch_size=self.spec["batch"], **self.loading)


def _opened(path: str):
    return Image.open(path)  # its bytes are stored as they are


class Mosaic(WithState):
    def prepare(self) -> None:
        import streaming

        class Images(streaming.StreamingDataset):
            def __getitem__(self, at: int) -> torch.Tensor:
                return torch.from_numpy(np.asarray(super().__getitem__(at)["image"]).transpose(2, 0, 1).copy())

        self.streaming, self.images = streaming, Images

    def write(self) -> None:
        with self.streaming.MDSWriter(out=self.spec["mosaic"], columns={"image": "jpeg"}, size_limit=8 << 20) as out:
            for path in sorted(Path(self.spec["files"]).rglob("*.jpg")):
                out.write({"image": Image.open(path)})

    def make(self, first: int = 0):
        images = self.images(local=self.spec["mosaic"], shuffle=True, batch_size=self.spec["batch"])
        return self.streaming.StreamingDataLoader(images, batch_size=self.spec["batch"], **self.loading)


class RayData:
    def __init__(self, spec: dict, workers: int) -> None:
        os.environ.pop("RAY_ADDRESS", None)
        os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
        import ray

        ray.init(num_cpus=max(1, workers), include_dashboard=False, _node_ip_address="127.0.0.1",
                 _temp_dir=spec["ray"], log_to_driver=False, logging_level="error")
        ray.data.DataContext.get_current().enable_progress_bars = False
        self.ray, self.spec = ray, spec

    def epochs(self) -> Iterator[Batches]:
        images = self.ray.data.read_webdataset(self.spec["tars"], suffixes=["jpg"], shuffle="files")
        images = images.select_columns(["jpg"])
        while True:
            yield (batch["jpg"].permute(0, 3, 1, 2).contiguous() for batch in images.iter_torch_batches(
                batch_size=self.spec["batch"], local_shuffle_buffer_size=WINDOW))

    def resumed(self, first: int) -> Iterator[Batches]:
        yield islice(next(self.epochs()), first, None)


RIVALS = {"ours": Ours, "webdataset": Webdataset, "ImageFolder": ImageFolder, "litdata": Litdata,
          "mosaicml-streaming": Mosaic, "Ray Data": RayData}
