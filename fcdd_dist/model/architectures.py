"""The three networks of FCDD (arXiv 2007.01760v1, Appendix B) as values, without torch.

Every convolution keeps the size. All but the last two are followed by batch normalisation (eps 1e-4, momentum 0.1) and
leaky ReLU (slope 0.01); the last but one is joined to the final 1x1 convolution without either, which the paper leaves
open and which makes another function. The paper's parameter counts contain neither biases nor affine batch
normalisation; the published runs had both.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import BadInput, nearest
from ..experiment import Experiment


@dataclass(frozen=True)
class Conv:
    """A convolution of stride 1 that keeps the size; ``activated``: batch normalisation and leaky ReLU follow."""

    channels: int
    kernel: int
    activated: bool = True


@dataclass(frozen=True)
class MaxPool:
    """A max-pool that halves an even size."""

    kernel: int = 2
    padding: int = 0


Layer = Conv | MaxPool


@dataclass(frozen=True)
class NetworkInfo:
    """A network as a value: channels and side of the images that it is made for, and its layers."""

    channels: int
    image_size: int
    layers: tuple[Layer, ...]


_LAST = (Conv(1, 1, activated=False),)

NETWORKS: dict[str, NetworkInfo] = {
    "fcdd28": NetworkInfo(1, 28, (Conv(8, 5), MaxPool(), Conv(16, 5, activated=False), MaxPool(), *_LAST)),
    "fcdd32": NetworkInfo(
        3, 32, (Conv(32, 3), MaxPool(), Conv(64, 3), MaxPool(), Conv(128, 3, activated=False), *_LAST)
    ),
    "fcdd224": NetworkInfo(
        3,
        224,
        (
            *(Conv(8, 5), MaxPool(3, 1)),
            *(Conv(32, 5), MaxPool(3, 1)),
            *(Conv(64, 3), Conv(128, 3), MaxPool(3, 1)),
            *(Conv(128, 3, activated=False), *_LAST),
        ),
    ),
}


def info(name: str) -> NetworkInfo:
    """The description of network ``name``. Raises BadInput for an unknown name."""
    if name not in NETWORKS:
        raise BadInput(f"no network {name!r}{nearest(name, NETWORKS)}: choose one of {', '.join(NETWORKS)}")
    return NETWORKS[name]


def check_fit(experiment: Experiment) -> None:
    """Raises BadInput where the experiment's network can't take the images as they are stored and augmented."""
    name, form = experiment.network.name, experiment.data.form
    wanted = info(name)
    remedy = f"(stored form {form}): set network.name to another, or shard in another form"
    if wanted.channels != form.channels:
        raise BadInput(f"network {name} takes {wanted.channels} channels and the data have {form.channels} {remedy}")
    if experiment.data.normalization == "imagenet" and form.channels != 3:
        raise BadInput(f"data.normalization=imagenet is for colour, and the data are grey {remedy}")
    crop = experiment.augmentation.crop
    if form.fit == "short-side" and crop != "random":
        raise BadInput(f"images of mixed sizes (stored form {form}) need augmentation.crop=random, not {crop}: set it, "
                       f"or shard with --form square-{form.side}")
    shrinks = crop in ("random", "random-or-resize")
    if form.side < wanted.image_size or (form.side > wanted.image_size and not shrinks):
        raise BadInput(f"network {name} takes images of {wanted.image_size} px and the data have {form.side} {remedy}")
