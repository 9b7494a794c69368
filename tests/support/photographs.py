"""A data set of made-up photographs of many sizes, stored in any form of JPEG, and an experiment that crops them."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import numpy as np
from PIL import Image

from fcdd_dist.data.images import to_form
from fcdd_dist.data.manifest import EXPOSURE, MANIFEST, ClassName, Manifest, Part, Statistics
from fcdd_dist.experiment import Experiment, Form
from fcdd_dist.recipes import recipe
from fcdd_dist.storage import FolderStore, Store
from tests.support.shards import write_shard

FORMS = ("jpeg90-40-rgb", "jpeg90-short40-rgb")
_COUNTS = {"nominal": {("train", "church"): 57, ("holdout", "church"): 20,
                       ("test", "church"): 12, ("test", "other"): 12},
           "exposure": {("train", EXPOSURE): 45, ("holdout", EXPOSURE): 20}}
_IN_A_SHARD = 10


def photograph(class_id: str, seed: int) -> Image.Image:
    """Churches are smooth and bluish, all else is checkered in some way; 40 to 150 pixels wide and high."""
    random = np.random.default_rng([seed, len(class_id)])
    size = tuple(random.integers(40, 150, 2).tolist())
    corners = random.integers(0, 256, (4, 4, 3), dtype=np.uint8)
    if class_id == "church":
        corners[..., :2] //= 3
    image = np.asarray(Image.fromarray(corners).resize(size, Image.Resampling.BICUBIC)).copy()
    if class_id != "church":
        across, down = random.integers(4, 12, 2)
        image[np.indices(image.shape[:2])[0] // down % 2 == np.indices(image.shape[:2])[1] // across % 2] //= 3
    return Image.fromarray(image)


def write_photographs(folder: Path, form: Form) -> dict[str, Image.Image]:
    """Writes a data set of recipe imagenet30, with its exposure set; returns the originals of the test split by source.
    """
    originals = {}
    for kind, counts in _COUNTS.items():
        store = FolderStore(folder if kind == "nominal" else folder / EXPOSURE)
        splits: dict[str, dict[str, Part]] = {}
        for (split, class_id), count in counts.items():
            images = {f"{split}/{class_id}/{number}.jpg": photograph(class_id, number + 1000 * len(split))
                      for number in range(count)}
            splits.setdefault(split, {})[class_id] = _part(store, f"{split}/{class_id}", form, images)
            if split == "test":
                originals |= images
        classes = sorted({class_id for _, class_id in counts})
        store.write(MANIFEST, Manifest(
            kind=kind, recipe="imagenet30", form=form, classes=tuple(ClassName(id=name, name=name) for name in classes),
            splits=splits, content=hashlib.sha256(b"").hexdigest(), versions={}).to_json().encode())
    return originals


def cropping(**settings: object) -> Experiment:
    """The recipe on a net of 32 pixels, in lanes of uneven rows."""
    return recipe("imagenet30").experiment("church", 0).override([
        "network.name=fcdd32", "batch_size=26", "lanes=4", "data.window=8", "epochs=2", "augmentation.jitter="
        "[[0.3,0.3,0.3,0.05]]", *(f"{path.replace('__', '.')}={value}" for path, value in settings.items())])


def file_of(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def _part(store: Store, prefix: str, form: Form, images: dict[str, Image.Image]) -> Part:
    entries, shards = list(images.items()), []
    for first in range(0, len(entries), _IN_A_SHARD):
        shards.append(write_shard(store, f"{prefix}/{len(shards):06d}.tar", form, {
            source: to_form(image, form) for source, image in entries[first: first + _IN_A_SHARD]}))
    half = (0.5,) * form.channels  # what is measured takes no part in the normalisation of ImageNet
    return Part(shards=tuple(shards), statistics=Statistics(
        pixels=1, sum=half, sum_of_squares=half, minimum=half, maximum=half, lcn_minimum=half, lcn_maximum=half))
