"""Optimizer, learning rate, and the one buffer through which ranks agree."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import nn

from ..experiment import Adam, Experiment, Sgd


def build_optimizer(network: nn.Module, experiment: Experiment) -> torch.optim.Optimizer:
    """Plain SGD or Adam with L2 weight decay on all parameters, batch norm's too (paper, Appendix C)."""
    how, parameters = experiment.optimizer, list(network.parameters())
    if isinstance(how, Sgd):
        return torch.optim.SGD(parameters, lr=how.lr, momentum=how.momentum, nesterov=how.nesterov,
                               weight_decay=how.weight_decay, fused=True)
    assert isinstance(how, Adam)
    return torch.optim.Adam(parameters, lr=how.lr, betas=how.betas, eps=how.eps, weight_decay=how.weight_decay,
                            fused=True)


def set_learning_rate(optimizer: torch.optim.Optimizer, experiment: Experiment, epoch: int) -> float:
    """The learning rate of ``epoch``, from 0, is a function of the epoch alone."""
    lr = experiment.optimizer.lr * experiment.schedule.scale(epoch)
    for group in optimizer.param_groups:
        group["lr"] = lr
    return lr


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """The optimizer's state as tensors by name, ``<parameter number>.<name>``."""
    return {f"{number}.{name}": value for number, state in optimizer.state_dict()["state"].items()
            for name, value in state.items() if value is not None}


def load_optimizer_tensors(optimizer: torch.optim.Optimizer, tensors: dict[str, torch.Tensor]) -> None:
    """Each tensor takes the strides of its parameter: fused optimizers walk memory and never look at strides."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, torch.Tensor]] = {}
    for key, value in tensors.items():
        number, name = key.split(".", 1)
        parameter = parameters[int(number)]
        if value.shape == parameter.shape:
            value = torch.empty_like(parameter, requires_grad=False).copy_(value)
        state.setdefault(int(number), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


class Shared:
    """All gradients in one buffer, in the order of the parameters, with a few more numbers behind them.

    The ranks add it up in one all-reduce a step, whose order of additions is the same in every step, resumed or not
    (DDP re-orders its buckets after its first backward, so that a resumed run differs in the last bits). The numbers
    behind the gradients cost no collective of their own: each rank's sums of losses, and whether rank 0 wants to stop.
    """

    def __init__(self, network: nn.Module, extras: int, world_size: int) -> None:
        parameters = list(network.parameters())
        count = sum(parameter.numel() for parameter in parameters)
        device = parameters[0].device
        self.buffer = torch.zeros(count + extras, device=device)
        self.extras = self.buffer[count:]
        self._world_size = world_size
        start = 0
        for parameter in parameters:
            # Strides as the parameter's own, so that channels-last gradients are written where they lie.
            parameter.grad = self.buffer.as_strided(parameter.size(), parameter.stride(), start)
            start += parameter.numel()

    def clear(self) -> None:
        self.buffer.zero_()

    def add_up(self) -> None:
        """The buffer becomes the sum over the ranks."""
        if self._world_size > 1:
            dist.all_reduce(self.buffer)
