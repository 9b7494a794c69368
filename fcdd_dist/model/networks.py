"""The networks of ``architectures`` as modules of torch, as the authors' code of July 2020 builds them."""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import nn
from torch.nn.utils import skip_init

from .. import chance
from .architectures import MaxPool, info
from .batch_norm import BatchNorm2d, Scope


def build(name: str, *, bias: bool = True, affine: bool = True, batch_norm: Scope = "world") -> nn.Sequential:
    """Network ``name``, (B, C, H, W) -> (B, 1, u, v): float32, CPU, training mode, with the weights of seed 0.

    ``bias`` of all convolutions; ``affine`` batch normalisation; ``batch_norm`` statistics over the "world" or over the
    "rank". No generator of torch is touched. Raises BadInput for an unknown name.
    """
    description = info(name)
    norm = partial(BatchNorm2d, eps=1e-4, momentum=0.1, affine=affine, scope=batch_norm)
    network = nn.Sequential()
    channels, convs, pools = description.channels, 0, 0
    activation: str | None = None  # that is still to come
    for layer, following in zip(description.layers, (*description.layers[1:], None), strict=True):
        if isinstance(layer, MaxPool):
            pools += 1
            network.add_module(f"pool{pools}", nn.MaxPool2d(layer.kernel, stride=2, padding=layer.padding))
        else:
            convs += 1
            # torch's own initialisation would draw from its global generator
            conv = skip_init(nn.Conv2d, channels, layer.channels, layer.kernel, padding=layer.kernel // 2, bias=bias)
            network.add_module(f"conv{convs}", conv)
            channels = layer.channels
            if layer.activated:
                network.add_module(f"norm{convs}", norm(channels))
                activation = f"act{convs}"
        # Leaky ReLU increases, so that it gives the same before and after a max-pool: after it, on a quarter of the
        # values.
        if activation and not isinstance(following, MaxPool):
            network.add_module(activation, nn.LeakyReLU(inplace=True))
            activation = None
    return initialise(network, 0)


@torch.no_grad()
def initialise(network: nn.Module, seed: int) -> nn.Module:
    """Gives ``network`` the weights of ``seed``, in place, and returns it; the same on every rank and device.

    Convolutions as PyTorch does by default: weights and biases uniform in +-1/sqrt(fan_in). A parameter's numbers
    depend on the seed and its name alone, so that leaving out the biases leaves the weights as they are. Batch
    normalisation starts at 1 and 0. Raises TypeError for a module with parameters that it doesn't know.
    """
    for path, module in network.named_modules():
        if isinstance(module, nn.Conv2d):
            bound = 1 / math.sqrt(module.weight[0].numel())
            for name, parameter in module.named_parameters(path, recurse=False):
                draws = torch.from_numpy(chance.uniforms(parameter.numel(), seed, "init", name))
                parameter.copy_((draws * (2 * bound) - bound).view_as(parameter))
        elif isinstance(module, BatchNorm2d):
            for name, tensor in module.state_dict().items():
                tensor.fill_(1.0 if name in ("weight", "running_var") else 0.0)
        elif any(True for _ in module.parameters(recurse=False)):
            raise TypeError(f"no initialisation for {path}, a {type(module).__name__}")
    return network
