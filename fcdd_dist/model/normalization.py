"""The constants of preprocessing, as a value that travels with the weights."""

from __future__ import annotations

from typing import Literal

from ..experiment import Value


class Preprocessing(Value):
    """How stored pixels become the input of a net; it travels with the weights.

    ``(lcn(x) - shift) / scale`` or ``(x - shift) / scale``, by channel, for x in [0, 1].
    """

    normalization: Literal["lcn-minmax", "mean-std"]
    side: int  # pixels of the net's square input; stored images of another side are scaled to it
    shift: tuple[float, ...]
    scale: tuple[float, ...]

    @classmethod
    def measured(cls, normalization: str, side: int, *, mean: tuple[float, ...], std: tuple[float, ...],
                 lcn_minimum: tuple[float, ...], lcn_maximum: tuple[float, ...]) -> Preprocessing:
        """From the statistics of the nominal class. A channel that never varies is shifted and not scaled."""
        if normalization == "mean-std":
            shift, scale = mean, std
        else:
            shift, scale = lcn_minimum, tuple(high - low for low, high in zip(lcn_minimum, lcn_maximum, strict=True))
        return cls(normalization=normalization, side=side, shift=shift, scale=tuple(s or 1.0 for s in scale))
