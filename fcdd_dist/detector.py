"""What users hold: net, objective, preprocessing, heatmap scale and threshold, in one checkpoint.

    detector = Detector.load("runs/cifar10-ship-s0-1a2b3c4d")
    scores = detector.score(images)         # higher is more anomalous
    heatmaps = detector.explain(images)     # one an image, in that image's own pixel grid
"""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from . import checkpoint
from .data.images import as_stored, central, plain
from .errors import BadInput, Damaged
from .experiment import Experiment
from .model import networks
from .model.architectures import check_fit
from .model.heatmap_scale import HeatmapScale, heatmap_scale, looked_at, normalise_heatmap
from .model.normalization import Preprocessing
from .model.objectives import OBJECTIVES
from .model.preprocessing import prepare
from .model.receptive_field import output_side, receptive_field
from .model.upsampling import sigma_for, upsample, upsampling_matrix
from .model.view import into_image, seen

if TYPE_CHECKING:
    from PIL.Image import Image

    from .checkpoint import Record, Threshold

CHUNK = 128  # images that go through the net together; fixed, so that a score depends on no budget


class Detector:
    """A trained detector. It never trains; a training looks at its own net through one."""

    def __init__(self, experiment: Experiment, network: nn.Module, preprocessing: Preprocessing,
                 heatmap_scale: HeatmapScale | None = None, threshold: Threshold | None = None,
                 record: Record | None = None) -> None:
        self.experiment, self.network, self.preprocessing = experiment, network, preprocessing
        self.heatmap_scale, self.threshold, self.record = heatmap_scale, threshold, record
        self.objective = OBJECTIVES[experiment.objective.kind]()
        self.field = receptive_field(network)

    @classmethod
    def load(cls, url: str | PathLike[str], device: str = "cpu") -> Detector:
        """The detector at ``url``: a checkpoint, a run (its last checkpoint), ``RUN/best`` or ``RUN/last``.

        Every byte is verified; nothing is unpickled. Raises BadInput or Damaged.
        """
        store = checkpoint.locate(url)
        record, tensors = checkpoint.read(store, checkpoint.DETECTOR)
        network = build_network(record.experiment)
        try:
            network.load_state_dict(tensors[checkpoint.DETECTOR])
        except RuntimeError as error:
            raise Damaged(f"{store.url} holds another net than its record says: {str(error).splitlines()[-1].strip()}"
                          ) from None
        network.to(device).requires_grad_(False)
        return cls(record.experiment, network, record.preprocessing, record.heatmap_scale, record.threshold, record)

    def score(self, images: Sequence[np.ndarray | Image] | np.ndarray) -> np.ndarray:
        """The mean of each image's low-resolution map: (n,) float32, >= 0, higher is more anomalous.

        ``images``: as people have them, uint8 arrays (H, W), (H, W, 1) or (H, W, 3), or PIL images, of any sizes.
        """
        return self.scores_and_maps(images, maps=False)[0]

    def maps(self, images: Sequence[np.ndarray | Image] | np.ndarray) -> list[np.ndarray]:
        """The upsampled map of each image in its own pixel grid: (H, W) float32, >= 0, in units of the objective.

        NaN where the detector has never looked: one that was trained on random crops sees the centre of an image, see
        ``seen``.
        """
        return self.scores_and_maps(images)[1]

    def scores_and_maps(self, images: Sequence[np.ndarray | Image] | np.ndarray, *, maps: bool = True
                        ) -> tuple[np.ndarray, list[np.ndarray]]:
        """``score`` and ``maps`` of the same images in one pass; without ``maps`` the list stays empty."""
        scores, found = [np.empty(0, np.float32)], []
        images = [_pil(image) for image in _several(images)]
        for start in range(0, len(images), CHUNK):
            chunk = images[start: start + CHUNK]
            outputs = self.outputs_of(chunk)
            scores.append(self.objective.score(outputs).cpu().numpy())
            if maps:
                found += [self.map_in(output, image.size) for image, output in zip(chunk, outputs, strict=True)]
        return np.concatenate(scores), found

    def outputs_of(self, images: Sequence[np.ndarray | Image]) -> torch.Tensor:
        """What the net gives for a few images as people have them: (n, 1, u, v) float32 on its device."""
        return self.outputs_of_stored([as_stored(_pil(image), self.experiment.data.form) for image in images])

    def outputs_of_stored(self, images: Sequence[np.ndarray]) -> torch.Tensor:
        """What the net gives for a few stored images (H, W, C), maybe of several sizes: (n, 1, u, v) float32."""
        if (centre := self.preprocessing.centre) is not None:
            images = [central(image.transpose(2, 0, 1), centre).transpose(1, 2, 0) for image in images]
        return self.outputs(torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2))

    def seen(self, size: tuple[int, int]) -> tuple[int, int, int, int]:
        """(left, top, right, bottom) of what the detector looks at in an image of ``size`` (width, height), in pixels.

        Pixels that it sees in part are among them. All of the image, unless it was trained on random crops.
        """
        return seen(size, self.experiment.data.form, self.preprocessing)

    def map_in(self, output: torch.Tensor, size: tuple[int, int]) -> np.ndarray:
        """The upsampled map of one output (1, u, v) in an image's grid of ``size`` (width, height): (H, W) float32.

        NaN where the detector has not looked.
        """
        return into_image(self.upsampled(output[None]).cpu(), size, self.experiment.data.form, self.preprocessing)

    @property
    def level_of_threshold(self) -> float:
        """The mean of an upsampled map that is the same everywhere and whose score is the threshold; 0 without one."""
        if self.threshold is None or self.threshold.value is None:
            return 0.0
        cells = output_side(self.network, self.preprocessing.side)
        rows, columns = self._matrices(cells, cells)
        return self.threshold.value * float(rows.sum(1).mean() * columns.sum(1).mean())

    def explain(self, images: Sequence[np.ndarray | Image] | np.ndarray) -> list[np.ndarray]:
        """The heatmap of each image in its own pixel grid: (H, W) float32 in [0, 1], NaN as in ``maps``.

        In the normalisation of the paper's Appendix A over the detector's reference images; 1 is anomalous. A
        detector without such a scale takes each map's own minimum and quantile, so that maps don't compare.
        """
        return [self.normalise(map_) for map_ in self.maps(images)]

    def normalise(self, map_: np.ndarray) -> np.ndarray:
        """A map in the scale of the detector, or in its own where the detector has none: float32 in [0, 1] or NaN."""
        scale = self.heatmap_scale or heatmap_scale(looked_at(map_), self.experiment.heatmap.eta, "the map itself")
        return normalise_heatmap(map_, scale)

    def flagged(self, scores: np.ndarray) -> np.ndarray | None:
        """Which scores are above the threshold, (n,) bool; None where the detector has no threshold."""
        value = self.threshold.value if self.threshold else None
        return None if value is None else scores > value

    def outputs(self, stored: torch.Tensor) -> torch.Tensor:
        """What the net gives for stored pixels (n, C, side, side) uint8: (n, 1, u, v) float32 on its device.

        Where it looks at their centre, what has been cut to it is as good.
        In float32 whatever the training's precision, evaluation mode, fixed chunks.
        """
        device = next(self.network.parameters()).device
        was_training = self.network.training
        self.network.eval()
        with torch.inference_mode():
            parts = [self._forward(prepare(chunk.to(device), self.preprocessing)) for chunk in stored.split(CHUNK)]
        self.network.train(was_training)
        return torch.cat(parts)

    def _forward(self, x: torch.Tensor) -> torch.Tensor:
        """The net, its last layer as a plain sum over channels: as a convolution it is added up in an order that
        depends on the number of threads, and so would the last bits of scores."""
        *body, last = self.network
        x = x.contiguous(memory_format=torch.channels_last)
        for layer in body:
            x = layer(x)
        x = (x * last.weight.view(1, -1, 1, 1)).sum(dim=1, keepdim=True)
        return x if last.bias is None else x + last.bias

    def upsampled(self, outputs: torch.Tensor) -> torch.Tensor:
        """Algorithm 1 on outputs (n, 1, u, v) -> maps (n, 1, side, side) in the net's input grid."""
        rows, columns = self._matrices(*outputs.shape[-2:])
        with torch.inference_mode():
            return upsample(self.objective.anomaly_map(outputs), rows, columns)

    def _matrices(self, *cells: int) -> list[torch.Tensor]:
        heatmap, side = self.experiment.heatmap, self.preprocessing.side
        sigma = heatmap.sigma or sigma_for(self.field.size)
        return [upsampling_matrix(side, count, self.field, sigma, heatmap.kernel) for count in cells]


def build_network(experiment: Experiment) -> nn.Module:
    """The experiment's net with its initial weights, channels last. Raises BadInput where it doesn't fit the data."""
    check_fit(experiment)
    network = networks.build(experiment.network.name, bias=experiment.network.bias, affine=experiment.network.affine,
                             batch_norm=experiment.network.batch_norm)
    networks.initialise(network, experiment.seed)
    return network.to(memory_format=torch.channels_last)


def _several(images: object) -> Sequence[np.ndarray | Image]:
    if isinstance(images, np.ndarray) and images.ndim < 4 and not (images.ndim == 3 and images.shape[2] > 3):
        raise BadInput(f"give a list of images, even of one, not an array {images.shape}")
    if not hasattr(images, "__len__"):
        raise BadInput(f"give a list of images, even of one, not {type(images).__name__}")
    return images


def _pil(image: np.ndarray | Image) -> Image:
    from PIL import Image as pil

    if isinstance(image, pil.Image):
        return plain(image, image.format)
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim not in (2, 3):
        raise BadInput("an image is a uint8 array (H, W), (H, W, 1) or (H, W, 3), or a PIL image, "
                       f"not {getattr(image, 'dtype', type(image).__name__)} {getattr(image, 'shape', '')}")
    if not image.size:
        raise BadInput(f"an image has pixels; {image.shape} has none")
    if image.ndim == 3 and image.shape[2] == 1:
        image = image[:, :, 0]
    if image.ndim == 3 and image.shape[2] != 3:
        raise BadInput(f"an image has 1 or 3 channels in its last axis, not {image.shape[2]}")
    return pil.fromarray(image)
