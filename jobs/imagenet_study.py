"""How good is the imagenet30 recipe on what can be had: three classes of ImageNet, each against the other two.

    python jobs/imagenet_study.py --imagenette imagenette-3 --photographs imagenet-sample --out study

IMAGENETTE holds train/WNID and val/WNID (https://github.com/fastai/imagenette, here scaled to 224 x 224), PHOTOGRAPHS
folders of other ImageNet photographs (https://github.com/EliSchwartz/imagenet-sample-images), a limited exposure set.

A detector that tells the two sources apart learns nothing of what is in a picture. So the photographs are first brought
to 224 x 224 as those of the other source were, by a filter and a JPEG encoding like theirs, and both then go through
`shard`. How well that worked is measured by one number, the power at the highest frequencies, whose AUROC stands beside
the detector's. It can be interrupted, and goes on by the same command.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from fcdd_dist.cli import main as fcdd_dist
from fcdd_dist.data.images import central
from fcdd_dist.data.manifest import EXPOSURE, MANIFEST, load_manifest
from fcdd_dist.data.shards.read import read_each
from fcdd_dist.evaluation.metrics import auroc
from fcdd_dist.storage import open_store

_QUALITY = 75  # whose tables the other source's files have
_SIDE = 224


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--imagenette", metavar="DIR", type=Path, required=True)
    parser.add_argument("--photographs", metavar="DIR", type=Path, required=True)
    parser.add_argument("--out", metavar="DIR", type=Path, required=True)
    parser.add_argument("--epochs", metavar="N", type=int, default=60, help="the schedule is shortened to them")
    parser.add_argument("--forms", metavar="A,B", default="square-256", help="stored forms (default: square-256)")
    parser.add_argument("--classes", metavar="A,B", help="WordNet ids (default: all that are there)")
    parser.add_argument("--seeds", metavar="N", type=int, default=1, help="0 to N - 1 (default: 1)")
    parser.add_argument("--threads", metavar="N", help="as of `fcdd-dist train`")
    parser.add_argument("--set", metavar="PATH=VALUE", action="append", default=[], help="as of `fcdd-dist train`")
    options = parser.parse_args()
    exposure = alike(options.photographs, options.out / "photographs-224")
    classes = options.classes.split(",") if options.classes else sorted(
        path.name for path in (options.imagenette / "train").iterdir())
    lines = []
    for form in options.forms.split(","):
        data = options.out / f"data-{form}"
        if not (data / MANIFEST).exists():
            run(["shard", "imagenet30", "--source", str(options.imagenette), "--exposure", str(exposure), "--classes",
                 "all", "--exclude", "none", "--form", form, "--out", str(data)])
        for class_id in classes:
            name = f"{class_id}-{form}-{options.epochs}" + "".join(f"-{each}" for each in options.set).replace("=", "")
            settings = [word for setting in (f"schedule.shorten={600 / options.epochs}", *options.set)
                        for word in ("--set", setting)] + (["--threads", options.threads] if options.threads else [])
            runs = options.out / "runs"
            figures = []
            for seed in range(options.seeds):
                run(["train", "imagenet30", "--data", str(data), "--nominal", class_id, "--storage", str(runs),
                     "--name", f"{name}-s{seed}", "--seed", str(seed), "--epochs", str(options.epochs), *settings])
                result = json.loads((runs / f"{name}-s{seed}" / "result.json").read_text())
                figures.append(result["auroc"])
            number = frequencies(data, class_id)
            lines.append(f"{result['class_name']:<16} {form:<16} AUROC {', '.join(f'{each:.3f}' for each in figures)}, "
                         f"mean {np.mean(figures):.3f}   the one number: {number['test']:.3f} on the same test, "
                         f"{number['exposure']:.3f} nominal against exposure")
    print("\n".join(lines))
    return 0


def run(words: list[str]) -> None:
    if code := fcdd_dist(words):
        sys.exit(code)


def alike(photographs: Path, out: Path) -> Path:
    """The photographs as the other source has its own: short side 320, bilinear to 224 x 224 without antialiasing."""
    for path in sorted(photographs.glob("*/*")):
        target = out / path.parent.name / f"{path.stem}.jpg"
        if target.exists():
            continue
        image = Image.open(path).convert("RGB")
        if (scale := 320 / min(image.size)) < 1:
            image = image.resize([round(scale * extent) for extent in image.size], Image.Resampling.BICUBIC)
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float()
        small = F.interpolate(pixels, (_SIDE, _SIDE), mode="bilinear").round().byte()[0].permute(1, 2, 0)
        file = io.BytesIO()
        Image.fromarray(small.numpy()).save(file, "JPEG", quality=_QUALITY)
        target.parent.mkdir(parents=True, exist_ok=True)
        unfinished = target.with_suffix(".part")
        unfinished.write_bytes(file.getvalue())
        os.replace(unfinished, target)  # what is there under its own name is whole, whenever this was killed
    return out


def frequencies(data: Path, class_id: str) -> dict[str, float]:
    """The AUROC of the power at the highest frequencies as a score, whichever way it points."""
    store = open_store(str(data))
    manifest, outliers = load_manifest(store), load_manifest(store.at(EXPOSURE))
    of = {name: powers(store, part.shards) for name, part in manifest.splits["test"].items()}
    nominal, others = of[class_id], np.concatenate([values for name, values in of.items() if name != class_id])
    exposure = powers(store.at(EXPOSURE), outliers.part("train", EXPOSURE).shards)
    train = powers(store, manifest.part("train", class_id).shards)
    return {"test": _either_way(nominal, others), "exposure": _either_way(train, exposure)}


def powers(store, shards) -> np.ndarray:
    """Of the central square that the net is tested on, (n,)."""
    found = []
    for samples in read_each(store, shards):
        for sample in samples:
            grey = central(np.asarray(Image.open(io.BytesIO(sample.image)).convert("L"), float), _SIDE)
            power = np.abs(np.fft.fftshift(np.fft.fft2(grey - grey.mean()))) ** 2
            rows, columns = np.abs(np.indices(power.shape) - _SIDE // 2)
            found.append(np.log(power[np.maximum(rows, columns) > 0.45 * _SIDE].mean() + 1e-9))
    return np.asarray(found)


def _either_way(nominal: np.ndarray, others: np.ndarray) -> float:
    labels = np.repeat([0, 1], [len(nominal), len(others)])
    value = auroc(labels, np.concatenate([nominal, others]))
    return max(value, 1 - value)


if __name__ == "__main__":
    sys.exit(main())
