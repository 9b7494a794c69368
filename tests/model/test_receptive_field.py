"""Fields against published numbers and against gradients."""

import pytest
import torch
from torch import nn

from fcdd_dist.model.architectures import NETWORKS, Conv, info
from fcdd_dist.model.networks import build
from fcdd_dist.model.receptive_field import ReceptiveField, output_side, receptive_field


def stack(*layers):
    """Layers as "c5" (conv, kernel 5, size kept), "p2" (pool 2x2) and "p3" (pool 3x3, stride 2, padding 1)."""
    made = {"p2": lambda: nn.MaxPool2d(2), "p3": lambda: nn.MaxPool2d(3, 2, 1)}
    return nn.Sequential(
        *(made[n]() if n in made else nn.Conv2d(1, 1, int(n[1:]), padding=int(n[1:]) // 2) for n in layers)
    )


KNOWN = {
    "fcdd28": (build("fcdd28"), 28, ReceptiveField(16, 4, 1.5), 7),
    "fcdd32": (build("fcdd32"), 32, ReceptiveField(18, 4, 1.5), 8),
    "fcdd224": (build("fcdd224"), 224, ReceptiveField(59, 8, 0), 28),
    "vgg cut before the fourth pool": (
        stack("c3", "p2", "c3", "p2", "c3", "c3", "p2", "c3", "c3", "c1"), 224, ReceptiveField(62, 8, 3.5), 28,
    ),
    "later, wider net for 32 px": (
        stack("c3", "p2", "c3", "c3", "p2", "c3", "c1"), 32, ReceptiveField(22, 4, 1.5), 8,
    ),
    "32 px with 5x5 kernels": (stack("c5", "p2", "c5", "p2", "c5", "c1"), 32, ReceptiveField(32, 4, 1.5), 8),
    "hsc 28": (stack("c5", "p2", "c5", "p2"), 28, ReceptiveField(16, 4, 1.5), 7),
    "hsc 32": (stack("c5", "p2", "c5", "p2", "c5", "p2"), 32, ReceptiveField(36, 8, 3.5), 4),
    "hsc 224": (
        stack("c5", "p3", "c5", "p3", "c3", "c3", "p3", "c3", "p3", "c3", "p3"), 224, ReceptiveField(139, 32, 0), 7,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", KNOWN)
def test_known_fields(name):
    network, side, field, cells = KNOWN[name]
    assert receptive_field(network) == field
    assert output_side(network, side) == cells


@pytest.mark.parametrize("name", NETWORKS)
def test_fields_are_where_gradients_come_from(name):
    network = nn.Sequential()
    for layer in info(name).layers:
        if isinstance(layer, Conv):
            conv = nn.Conv2d(1, 1, layer.kernel, padding=layer.kernel // 2, bias=False)
            nn.init.ones_(conv.weight)
            network.append(conv)
        else:
            network.append(nn.AvgPool2d(layer.kernel, 2, layer.padding))
    field, side = receptive_field(network), info(name).image_size
    assert field == receptive_field(build(name))
    x = torch.ones(1, 1, side, side, dtype=torch.float64, requires_grad=True)
    y = network.double()(x)
    assert y.shape[-1] == output_side(network, side)
    row = y.shape[-1] // 2
    for column in (row, 0):
        (gradient,) = torch.autograd.grad(y[0, 0, row, column], x, retain_graph=True)
        for axis, cell in ((1, row), (0, column)):
            seen = gradient[0, 0].sum(axis).nonzero().flatten()
            centre, reach = field.centre + cell * field.stride, (field.size - 1) / 2
            assert (seen[0], seen[-1]) == (max(centre - reach, 0), min(centre + reach, side - 1))


def test_strides_dilations_and_nesting():
    network = nn.Sequential(nn.Sequential(nn.Conv2d(1, 1, 3, stride=2, dilation=2)), nn.ReLU(), nn.AvgPool2d(2))
    assert receptive_field(network) == ReceptiveField(7, 4, 3.0)
    assert output_side(network, 20) == network(torch.zeros(1, 1, 20, 20)).shape[-1]


@pytest.mark.parametrize(
    ("module", "complaint"),
    [
        (nn.Linear(2, 2), r"network\.0: .*Linear"),
        (nn.AdaptiveAvgPool2d(1), r"network\.0: .*AdaptiveAvgPool2d"),
        (nn.Conv2d(1, 1, (3, 5)), r"network\.0\.kernel_size"),
        (nn.Conv2d(1, 1, 3, padding="same"), r"network\.0\.padding"),
        (nn.MaxPool2d(2, ceil_mode=True), r"network\.0: .*rounds up"),
    ],
)
def test_what_is_not_understood_is_named(module, complaint):
    with pytest.raises(ValueError, match=complaint):
        receptive_field(nn.Sequential(module))


def test_images_smaller_than_a_kernel_are_refused():
    with pytest.raises(ValueError, match="images of 1 pixels are too small"):
        output_side(build("fcdd28"), 1)
