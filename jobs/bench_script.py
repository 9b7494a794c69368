"""The yardstick: the script that one would write for this, with a Dataset, a DataLoader and torchvision's transforms.

It is a fair one: it runs in as many threads as ours, its workers are kept from epoch to epoch, its files lie in the
page cache and are as quick to decode as ours, and the best number of workers counts.
"""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import torch
from bench_data import DataSets, unpack
from bench_steps import PlainTraining
from bench_timing import Bench, Row, Skip, in_turn
from bench_training import Training, opened, prepared
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from fcdd_dist.model.normalization import Preprocessing
from fcdd_dist.run.rank import measured_preprocessing


class Images(Dataset):
    """Nominal images, each replaced by one of the others with probability 1/2."""

    def __init__(self, nominal: list[Path], exposure: list[Path], transform) -> None:
        self.nominal, self.exposure, self.transform = nominal, exposure, transform

    def __len__(self) -> int:
        return len(self.nominal)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, float]:
        anomalous = random.random() < 0.5
        path = random.choice(self.exposure) if anomalous else self.nominal[index]
        return self.transform(Image.open(path).convert("RGB")), float(anomalous)


class AddNoise:
    def __init__(self, std: float) -> None:
        self.std = std

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        return image + self.std * torch.randn_like(image)


class AddRelativeNoise:
    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        if random.random() < 0.5:
            image = (image + 0.1 * image.std() * torch.randn_like(image)).clamp(0, 1)
        return image


class LocalContrast:
    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        image = image - image.mean()
        return image / image.abs().mean()


def small_transform(how: Preprocessing):
    from torchvision import transforms as T

    return T.Compose([T.ColorJitter(0.01, 0.01, 0.01, 0.01), T.RandomCrop(32, padding=4), T.RandomHorizontalFlip(),
                      T.ToTensor(), AddNoise(0.001), T.Normalize(how.shift, how.scale)])


def large_transform(how: Preprocessing):
    from torchvision import transforms as T

    return T.Compose([T.RandomChoice([T.ColorJitter(0.04, 0.04, 0.04, 0.04),
                                      T.ColorJitter(0.005, 0.0005, 0.0005, 0.0005)]),
                      T.RandomChoice([T.RandomCrop(224), T.Resize((224, 224))]), T.ToTensor(), AddRelativeNoise(),
                      LocalContrast(), T.Normalize(how.shift, how.scale)])


class Script:
    def __init__(self, images: Images, batch_size: int, workers: int, training: PlainTraining,
                 device: torch.device) -> None:
        self._loader = DataLoader(images, batch_size=batch_size, shuffle=True, num_workers=workers,
                                  persistent_workers=workers > 0, pin_memory=device.type == "cuda")
        self._training, self._device = training, device

    def epoch(self) -> int:
        seen, total = 0, 0.0
        for images, labels in self._loader:
            loss = self._training.step(images.to(self._device), labels.to(self._device))
            seen, total = seen + len(images), total + loss.item()
        return seen


def script(bench: Bench, data: DataSets) -> list[Row]:
    return [_against_ours(bench, data, data.small, small_transform, pairs=3, aim=3.0)]


def script224(bench: Bench, data: DataSets) -> list[Row]:
    return [_against_ours(bench, data, data.large, large_transform, pairs=2, aim=2.5)]


def _against_ours(bench: Bench, data: DataSets, url: str, transform, pairs: int, aim: float) -> Row:
    try:
        import torchvision  # noqa: F401
    except ImportError as error:
        raise Skip(f"the script needs torchvision ({error})") from None
    checked = prepared(url, bench, None)
    experiment, how = checked.experiment, measured_preprocessing(checked)
    images = Images(*unpack(checked, data.folder / "files" / experiment.data.recipe), transform(how))
    ours = Training(experiment, opened(checked, bench.device), bench.device)
    rows = {}
    for workers in (0, 1, 2):
        theirs = Script(images, experiment.batch_size, workers, PlainTraining(experiment, bench.device), bench.device)
        rows[workers] = in_turn(bench, f"whole training at {how.side} px, {experiment.precision}, resident, against "
                                f"the obvious script with {workers} workers, its best number", ours.advance,
                                theirs.epoch, aim=bench.goal(aim), pairs=pairs)
    best = min(rows.values(), key=lambda row: row.value)
    each = {f"ratio_{workers}_workers": row.value for workers, row in rows.items()}
    return replace(best, figures=best.figures | each)
