"""How well scores tell anomalous images, label 1, from nominal ones, label 0. A high score means anomalous.

Everything is exact, computed from all scores at once; nothing depends on batches, ranks or the order of images.
scikit-learn has AUROC and average precision, too, but takes a second of each process that imports it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..checkpoint import Threshold
from ..errors import BadInput

__all__ = ["Threshold", "auroc", "average_precision", "choose_threshold", "per_kind", "why_undefined"]


def auroc(labels: np.ndarray | Sequence[int], scores: np.ndarray | Sequence[float]) -> float | None:
    """The chance that an anomalous image scores above a nominal one, ties counted as half; in [0, 1].

    None where ``labels`` (N,) are all equal or empty: see ``why_undefined``. Raises ValueError for other labels than 0
    and 1, and for scores (N,) that are not finite.
    """
    labels, scores = _checked(labels, scores)
    if why_undefined(labels):
        return None
    nominal, anomalous = np.sort(scores[labels == 0]), scores[labels == 1]
    lower, not_higher = (int(np.searchsorted(nominal, anomalous, side).sum()) for side in ("left", "right"))
    return (lower + not_higher) / (2 * nominal.size * anomalous.size)


def average_precision(labels: np.ndarray | Sequence[int], scores: np.ndarray | Sequence[float]) -> float | None:
    """The mean precision over the recall of anomalous images, as steps; in (0, 1]. None and errors as for ``auroc``.

    Unlike the AUROC it depends on the share of anomalous images: a detector without skill reaches that share.
    """
    labels, scores = _checked(labels, scores)
    if why_undefined(labels):
        return None
    _, rank = np.unique(-scores, return_inverse=True)  # equal scores enter together
    images, anomalous = np.bincount(rank), np.bincount(rank, labels)
    precision = np.cumsum(anomalous) / np.cumsum(images)
    return float(precision @ anomalous / anomalous.sum())


def why_undefined(labels: np.ndarray | Sequence[int]) -> str | None:
    """Why there is no AUROC and no average precision for these labels, in a sentence; None where there is."""
    labels = np.asarray(labels)
    if not labels.size:
        return "there are no test images"
    if not labels.any():
        return "all test images are nominal; AUROC and average precision compare them with anomalous ones"
    if labels.all():
        return "all test images are anomalous; AUROC and average precision compare them with nominal ones"
    return None


def per_kind(classes: Sequence[str], labels: np.ndarray | Sequence[int], scores: np.ndarray | Sequence[float],
             names: Mapping[str, str] | None = None) -> dict[str, dict[str, Any]]:
    """Each kind of anomaly against all nominal images, by class id, in order of first appearance.

    ``classes`` (N,) are class ids, ``names`` their display names where known. A value is {"name", "images",
    "auroc", "average_precision"}; the last two are None where there are no nominal images.
    """
    labels, scores = _checked(labels, scores)
    classes = np.asarray(classes, dtype=object)
    if classes.shape != labels.shape:
        raise ValueError(f"{classes.size} classes for {labels.size} labels")
    nominal = labels == 0
    table = {}
    for kind in dict.fromkeys(classes[~nominal]):
        mine = ~nominal & (classes == kind)
        chosen = nominal | mine
        table[str(kind)] = {
            "name": (names or {}).get(kind, str(kind)), "images": int(mine.sum()),
            "auroc": auroc(labels[chosen], scores[chosen]),
            "average_precision": average_precision(labels[chosen], scores[chosen])}
    return table


def choose_threshold(scores: np.ndarray | Sequence[float], budget: float = 0.05) -> Threshold:
    """The lowest threshold that flags at most the share ``budget`` of nominal hold-out images with these ``scores``.

    An image is flagged when its score is above the value. A budget needs 1 / budget images; with fewer, the value is
    their maximum, which ``how`` says; without any it is None. Raises BadInput for a budget outside [0, 1), ValueError
    for scores (N,) that are not finite.
    """
    if not 0 <= budget < 1:
        raise BadInput(f"a threshold's budget is a share of nominal images, at least 0 and below 1, not {budget}")
    scores = np.sort(_finite(scores))
    count = scores.size
    if not count:
        return Threshold(value=None, budget=budget, images=0, how="no nominal images were set aside to choose it on")
    allowed = math.floor(budget * count + 1e-9)  # 0.29 * 100 is 28.999999999999996
    value = float(scores[count - 1 - allowed])
    images, share = f"{count:,} nominal hold-out image{'s' * (count != 1)}", f"{100 * budget:.4g} %"
    if allowed:
        how = f"at most {share} of {images} score above it"
    elif budget:
        how = f"the maximum over {images}: {share} can't be told from fewer than {math.ceil(1 / budget - 1e-9):,}"
    else:
        how = f"the maximum over {images}"
    return Threshold(value=value, budget=budget, images=count, how=how)


def _checked(labels: np.ndarray | Sequence[int], scores: np.ndarray | Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    labels, scores = np.asarray(labels), _finite(scores)
    if labels.shape != scores.shape:
        raise ValueError(f"{labels.size} labels for {scores.size} scores")
    if labels.size and not np.isin(labels, (0, 1)).all():
        raise ValueError("labels are 0 for nominal and 1 for anomalous images")
    return labels.astype(np.int64), scores


def _finite(scores: np.ndarray | Sequence[float]) -> np.ndarray:
    scores = np.asarray(scores, dtype=np.float64)
    if scores.ndim != 1:
        raise ValueError(f"scores have one axis, not the shape {scores.shape}")
    if not np.isfinite(scores).all():
        raise ValueError(f"{np.count_nonzero(~np.isfinite(scores))} of {scores.size} scores are not finite")
    return scores
