"""scikit-learn's bundled digits, and an exposure set made of what else it bundles: nothing to fetch."""

from __future__ import annotations

import numpy as np
from PIL import Image

from ... import chance
from .source import TRAIN_AND_TEST, ArraySource

_TRAIN_SHARE = 0.8
_PATCH = 28  # pixels


def open_digits() -> ArraySource:
    """1,797 digits of 8 x 8 pixels; a fixed 80 % of each class for training, the rest for testing."""
    images, labels = _digits()
    training = np.zeros(len(labels), bool)
    for digit in range(10):
        members = np.flatnonzero(labels == digit)
        order = chance.permutation(len(members), "digits", "train or test", digit)
        training[members[order[:round(_TRAIN_SHARE * len(members))]]] = True
    classes = {str(digit): f"digit {digit}" for digit in range(10)}
    arrays = {split: (images[part], labels[part]) for split, part in (("train", training), ("test", ~training))}
    return ArraySource("scikit-learn's digits", classes, arrays, {split: f"{split}/" for split in TRAIN_AND_TEST})


def open_exposure() -> ArraySource:
    """The training digits of all classes turned a quarter left or right, and as many patches of two photographs.

    Digits are not mirrored: a mirrored 0 or 8 is a digit.
    """
    digits = open_digits()
    upright = np.stack([np.asarray(item.read()) for name in digits.classes for item in digits.items("train", name)])
    left = chance.uniforms(len(upright), "digits", "turn") < 0.5
    turned = np.where(left[:, None, None], np.rot90(upright, 1, axes=(1, 2)), np.rot90(upright, -1, axes=(1, 2)))
    patches = _patches(len(turned))
    side = np.full((len(turned), _PATCH, _PATCH), 0, np.uint8)
    for number, image in enumerate(turned):
        side[number] = np.asarray(Image.fromarray(image).resize((_PATCH, _PATCH), Image.Resampling.BILINEAR))
    images = np.concatenate([side, patches])
    labels = np.repeat([0, 1], [len(turned), len(patches)])
    classes = {"turned": "digits turned by a quarter", "photographs": "patches of photographs"}
    return ArraySource("scikit-learn's digits and photographs", classes, {"train": (images, labels)},
                       {"train": "exposure/"})


def _digits() -> tuple[np.ndarray, np.ndarray]:
    """(1797, 8, 8) uint8 in 0 to 255, and (1797,) labels."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    return np.round(bunch.images * (255 / 16)).astype(np.uint8), bunch.target.astype(np.int64)


def _patches(count: int) -> np.ndarray:
    """(count, 28, 28) uint8: grey patches at random places of the two photographs in turn."""
    from sklearn.datasets import load_sample_images

    photographs = [np.asarray(Image.fromarray(photograph).convert("L")) for photograph in load_sample_images().images]
    draws = chance.uniforms(2 * count, "digits", "patches").reshape(count, 2)
    patches = np.empty((count, _PATCH, _PATCH), np.uint8)
    for number, draw in enumerate(draws):
        photograph = photographs[number % len(photographs)]
        top, left = (int(u * (extent - _PATCH + 1)) for u, extent in zip(draw, photograph.shape, strict=True))
        patches[number] = photograph[top: top + _PATCH, left: left + _PATCH]
    return patches
