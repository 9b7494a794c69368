"""A training step and the upsampling of heatmaps, against what one would write without thinking of speed."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from bench_timing import Bench, Row, in_turn
from bench_training import SameBatch, Training
from torch import nn

from fcdd_dist.detector import build_network
from fcdd_dist.experiment import Adam, Experiment
from fcdd_dist.model.architectures import MaxPool, info
from fcdd_dist.model.receptive_field import output_side, receptive_field
from fcdd_dist.model.upsampling import KERNELS, sigma_for, upsample, upsampling_matrix
from fcdd_dist.recipes import recipe
from fcdd_dist.stream.batches import Batch


class PlainTraining:
    """The same net, objective and optimizer in float32 and with PyTorch's defaults."""

    def __init__(self, experiment: Experiment, device: torch.device) -> None:
        self.network = plain_network(experiment).to(device)
        how = experiment.optimizer
        if isinstance(how, Adam):
            self._optimizer = torch.optim.Adam(self.network.parameters(), lr=how.lr, weight_decay=how.weight_decay)
        else:
            self._optimizer = torch.optim.SGD(self.network.parameters(), lr=how.lr, momentum=how.momentum,
                                              nesterov=how.nesterov, weight_decay=how.weight_decay)

    def step(self, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        self._optimizer.zero_grad()
        scores = (torch.sqrt(self.network(images) ** 2 + 1) - 1).mean(dim=(1, 2, 3))
        losses = torch.where(labels == 1, -torch.log(1 - torch.exp(-scores) + 1e-31), scores)
        loss = losses.mean()
        loss.backward()
        self._optimizer.step()
        return loss.detach()


def plain_network(experiment: Experiment) -> nn.Sequential:
    """The experiment's net of PyTorch's own layers, with the same weights."""
    description = info(experiment.network.name)
    layers, channels = [], description.channels
    for layer in description.layers:
        if isinstance(layer, MaxPool):
            layers.append(nn.MaxPool2d(layer.kernel, 2, layer.padding))
            continue
        layers.append(nn.Conv2d(channels, layer.channels, layer.kernel, padding=layer.kernel // 2))
        if layer.activated:
            layers += [nn.BatchNorm2d(layer.channels, eps=1e-4), nn.LeakyReLU()]
        channels = layer.channels
    network, ours = nn.Sequential(*layers), build_network(experiment)
    with torch.no_grad():
        for mine, theirs in zip(network.parameters(), ours.parameters(), strict=True):
            mine.copy_(theirs)
        probe = torch.randn(4, description.channels, description.image_size, description.image_size)
        torch.testing.assert_close(network(probe), ours(probe), rtol=1e-3, atol=1e-4)
    return network


def step32(bench: Bench, _) -> list[Row]:
    return [_step(bench, "cifar10", 200, steps=10, pairs=11, aim=2.3)]


def step224(bench: Bench, _) -> list[Row]:
    return [_step(bench, "folder", 64 if bench.quick else 200, steps=1, pairs=7, aim=2.7)]


def _step(bench: Bench, name: str, batch_size: int, steps: int, pairs: int, aim: float) -> Row:
    experiment = recipe(name).experiment("any", 0).override([f"precision={bench.precision}",
                                                             f"batch_size={batch_size}"])
    side = info(experiment.network.name).image_size
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(batch_size, 3, side, side, generator=generator).to(bench.device)
    labels = (torch.arange(batch_size) % 2).float().to(bench.device)
    steps = 1 if bench.quick else 20 * steps if bench.device.type == "cuda" else steps
    ours = Training(experiment, SameBatch(Batch(images, labels), steps), bench.device)
    plain = PlainTraining(experiment, bench.device)

    def theirs() -> int:
        for _ in range(steps):
            plain.step(images, labels)
        return steps * batch_size

    return in_turn(bench, f"training step at {side} px, batches of {batch_size}, {bench.precision}, against a plain "
                   f"one in float32", ours.advance, theirs, aim=bench.goal(aim), pairs=pairs)


def upsampling(bench: Bench, _) -> list[Row]:
    return [_upsampling(bench, name) for name in ("fmnist", "cifar10", "folder")]


def _upsampling(bench: Bench, name: str, count: int = 32) -> Row:
    experiment = recipe(name).experiment("any", 0)
    network, side = build_network(experiment), info(experiment.network.name).image_size
    field, cells = receptive_field(network), output_side(network, side)
    sigma = sigma_for(field.size)
    maps = torch.rand(count, 1, cells, cells, generator=torch.Generator().manual_seed(0)).to(bench.device)
    matrix = upsampling_matrix(side, cells, field, sigma).float().to(bench.device)
    distance = torch.arange(field.size, dtype=torch.float64) - (field.size - 1) / 2
    profile = KERNELS["code"](distance, field.size, sigma).float().to(bench.device)
    kernel = torch.outer(profile, profile)[None, None]
    first = round((field.size - 1) / 2 - field.centre)  # the transposed convolution begins at the first field's edge
    times = 200 if bench.device.type == "cuda" else 1 if bench.quick or side > 64 else 10

    def products() -> torch.Tensor:
        return upsample(maps, matrix, matrix)

    def transposed() -> torch.Tensor:
        whole = F.conv_transpose2d(maps, kernel, stride=field.stride)
        missing = max(0, first + side - whole.shape[-1])
        return F.pad(whole, (0, missing, 0, missing))[:, :, first:first + side, first:first + side]

    torch.testing.assert_close(products(), transposed(), rtol=1e-2, atol=1e-3)  # cuDNN may use TF32

    def repeat(work, times: int) -> int:
        for _ in range(times):
            work()
        return times * count

    more = 1 if bench.quick else 20  # the products are so much faster that one round of them is too short to time
    return in_turn(bench, f"upsampling to {side} px by two matrix products against a transposed convolution",
                   lambda: repeat(products, more * times), lambda: repeat(transposed, times),
                   aim=30 if bench.device.type == "cpu" else None, pairs=7)


