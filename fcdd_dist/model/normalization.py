"""The constants of preprocessing, as a value that travels with the weights."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import SerializerFunctionWrapHandler, model_serializer

from ..experiment import Value

# Of ImageNet's training images, as Soumith Chintala's fb.resnet.torch measured them and everybody has used since; the
# published code of FCDD, too.
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Preprocessing(Value):
    """How stored pixels become the input of a net; it travels with the weights.

    ``(lcn(x) - shift) / scale`` or ``(x - shift) / scale``, by channel, for x in [0, 1].
    """

    normalization: Literal["lcn-minmax", "mean-std"]
    side: int  # pixels of the net's square input; stored images of another side are scaled to it
    shift: tuple[float, ...]
    scale: tuple[float, ...]
    # What is looked at where no chance is wanted: the whole stored image, scaled to ``side``, or its central square of
    # ``side`` pixels.
    view: Literal["whole", "centre"] = "whole"

    @model_serializer(mode="wrap")
    def _as_before_there_was_a_choice(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without the default view, so that records that don't need it stay what they were."""
        fields = serialize(self)
        if self.view == "whole":
            fields.pop("view", None)
        return fields

    @property
    def centre(self) -> int | None:
        """The side of the central square that is looked at; None for the whole image."""
        return self.side if self.view == "centre" else None

    @classmethod
    def measured(cls, normalization: str, side: int, *, mean: tuple[float, ...], std: tuple[float, ...],
                 lcn_minimum: tuple[float, ...], lcn_maximum: tuple[float, ...],
                 view: Literal["whole", "centre"] = "whole") -> Preprocessing:
        """From the statistics of the nominal class. A channel that never varies is shifted and not scaled.

        "imagenet" is "mean-std" with the constants of ImageNet, and takes nothing from the statistics.
        """
        if normalization == "lcn-minmax":
            shift, scale = lcn_minimum, tuple(high - low for low, high in zip(lcn_minimum, lcn_maximum, strict=True))
        else:
            shift, scale = (IMAGENET_MEAN, IMAGENET_STD) if normalization == "imagenet" else (mean, std)
            normalization = "mean-std"
        return cls(normalization=normalization, side=side, shift=shift, scale=tuple(s or 1.0 for s in scale),
                   view=view)
