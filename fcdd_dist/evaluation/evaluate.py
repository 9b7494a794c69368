"""Scores of a whole test split, exact and equal bit for bit for any number of workers."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.distributed as dist

from .. import checkpoint
from ..data.manifest import Manifest, Shard, check_sizes, load_manifest
from ..data.shards.decode import decode_samples
from ..data.shards.read import Sample, read_each
from ..detector import Detector
from ..errors import BadInput, Damaged
from ..storage import Store, open_store
from ..world import World
from .metrics import auroc, average_precision, per_kind, why_undefined


@dataclass(frozen=True)
class Scores:
    """One entry an image of the test split, in the order of the manifest."""

    paths: list[str]  # where the image came from; of rank 0 alone, and empty elsewhere
    classes: list[str]  # class ids
    labels: np.ndarray  # (n,) int8: 1 = anomalous
    scores: np.ndarray  # (n,) float32
    places: list[tuple[str, int]]  # shard and index in it

    def csv(self, threshold: float | None) -> bytes:
        """``path,class,label,score,flagged``; flagged stays empty without a threshold."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["path", "class", "label", "score", "flagged"])
        for path, class_id, label, score in zip(self.paths, self.classes, self.labels, self.scores, strict=True):
            flagged = "" if threshold is None else int(score > threshold)
            writer.writerow([path, class_id, int(label), f"{score:.9g}", flagged])
        return text.getvalue().encode()


def score_test(detector: Detector, store: Store, manifest: Manifest, world: World) -> Scores:
    """Scores the test split. Shards are dealt to ranks; chunks are cut a shard at a time, never by rank.

    A rank reads its own shards, and rank 0 all of them: it alone says where the images came from.
    """
    nominal = detector.experiment.data.nominal
    parts = sorted(manifest.splits.get("test", {}).items())
    shards = [(class_id, shard) for class_id, part in parts for shard in part.shards]
    ends = np.cumsum([shard.samples for _, shard in shards])
    scores = torch.zeros(sum(shard.samples for _, shard in shards), dtype=torch.float32)
    paths: list[str] = []
    numbers = range(len(shards)) if world.is_main else range(world.rank, len(shards), world.size)
    wanted = [shards[number][1] for number in numbers]
    for number, shard, samples in zip(numbers, wanted, read_each(store, wanted), strict=True):
        if world.is_main:
            paths += _sources(samples, store, shard)
        if number % world.size == world.rank:
            images = torch.from_numpy(decode_samples(samples, manifest.form, store, shard,
                                                     detector.preprocessing.centre))
            scores[ends[number] - shard.samples: ends[number]] = detector.objective.score(
                detector.outputs(images)).cpu()
    scores = sum_over_ranks(scores, world, detector)
    classes = [class_id for class_id, shard in shards for _ in range(shard.samples)]
    labels = np.array([class_id != nominal for class_id in classes], np.int8)
    places = [(shard.key, index) for _, shard in shards for index in range(shard.samples)]
    return Scores(paths, classes, labels, scores.numpy(), places)


def _sources(samples: list[Sample], store: Store, shard: Shard) -> list[str]:
    try:
        return [sample.source for sample in samples]
    except Damaged as error:
        raise Damaged(f"{store.url}/{shard.key}: {error}") from None


def sum_over_ranks(values: torch.Tensor, world: World, detector: Detector) -> torch.Tensor:
    """Values that one rank each has computed, the others having zeros: adding zeros is exact."""
    if world.size > 1:
        device = next(detector.network.parameters()).device
        values = values.to(device)
        dist.all_reduce(values)
        values = values.cpu()
    return values


def summary(detector: Detector, manifest: Manifest, scores: Scores) -> dict:
    """The part of ``result.json`` that is about the test split."""
    labels, values = scores.labels, scores.scores.astype(np.float64)
    kinds = per_kind(scores.classes, labels, values, {entry.id: entry.name for entry in manifest.classes})
    return {
        "auroc": auroc(labels, values), "average_precision": average_precision(labels, values),
        "why_null": why_undefined(labels),
        "per_kind": kinds,
        "mean_score": {name: float(values[labels == label].mean()) if (labels == label).any() else None
                       for name, label in (("nominal", 0), ("anomalous", 1))},
    }


def load_detector(url: str) -> Detector:
    """The detector that a person named. Raises BadInput, also where its files don't verify."""
    try:
        return Detector.load(url)
    except Damaged as error:
        raise BadInput(f"{error}: take another checkpoint of the run, or copy this one again") from None


def evaluate(target: str, data: str, *, say: Callable[[str], None] = lambda line: None) -> dict:
    """Scores the test split of the data set ``data`` with the detector at ``target``: the figures of result.json.

    Raises BadInput where the data set is of another recipe or form, or lacks the class.
    """
    detector, store = load_detector(target), open_store(data)
    manifest, wanted = load_manifest(store), detector.experiment.data
    if manifest.kind != "nominal":
        raise BadInput(f"{store.url} is an exposure set: give the data set that it goes with")
    if manifest.recipe != wanted.recipe or manifest.form != wanted.form:
        raise BadInput(f"{store.url} holds {manifest.recipe} as {manifest.form} and the detector was trained on "
                       f"{wanted.recipe} as {wanted.form}: give the data set of that recipe")
    manifest.class_id(wanted.nominal)
    shards: list[Shard] = [shard for part in manifest.splits.get("test", {}).values() for shard in part.shards]
    if not shards:
        raise BadInput(f"{store.url} has no test split: there is nothing to evaluate")
    check_sizes(store, tuple(shards))
    say(f"scoring {sum(shard.samples for shard in shards)} test images")
    scores = score_test(detector, store, manifest, World())
    record, threshold = detector.record, detector.threshold
    value = threshold.value if threshold else None
    flagged = {} if value is None else {"flagged": {
        name: float((scores.scores[scores.labels == label] > value).mean())
        for name, label in (("nominal", 0), ("anomalous", 1)) if (scores.labels == label).any()}}
    return {"checkpoint": checkpoint.locate(target).url, "data": store.url, "recipe": wanted.recipe,
            "nominal": wanted.nominal, "class_name": record.class_name if record else wanted.nominal,
            "epochs": record.cursor.epoch if record else None, **summary(detector, manifest, scores),
            "counts": {"test_nominal": int((scores.labels == 0).sum()),
                       "test_anomalous": int((scores.labels == 1).sum())},
            "threshold": threshold.model_dump() if threshold else None, **flagged}
