"""What the test scores of a detector say against it: one rule for reports, the tables of sweeps and the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Doubt:
    """``word``: for a table. ``said``: for a reader, with what to do."""

    word: str
    said: str


def doubts(auroc: float | None, nominal: float | None, anomalous: float | None) -> list[Doubt]:
    """Of a detector with this AUROC and these mean scores of ``nominal`` and ``anomalous`` test images."""
    found = []
    if nominal is not None and anomalous is not None and collapsed(nominal, anomalous):
        found.append(Doubt("collapsed", (
            f"This detector has collapsed: the mean scores of nominal ({nominal:.4g}) and anomalous ({anomalous:.4g}) "
            f"test images differ by less than 10 %. Its heatmaps mean nothing. Train longer, or look at the exposure "
            f"set and at the learning rate.")))
    if auroc is not None and auroc < 0.5:
        found.append(Doubt("worse than chance", (
            "The ranking is worse than chance: anomalous test images tend to score lower than nominal ones. "
            "Train longer, or look whether the nominal class is the one that was meant.")))
    return found


def doubts_of(result: Mapping[str, Any]) -> list[Doubt]:
    """Of a detector with this ``result.json``."""
    means = result.get("mean_score") or {}
    return doubts(result["auroc"], means.get("nominal"), means.get("anomalous"))


def collapsed(mean_nominal: float, mean_anomalous: float) -> bool:
    """Whether the mean scores of the two kinds differ by less than a tenth of the larger one.

    Such a detector gives about the same score to everything, which the ranking in an AUROC can hide.
    """
    return abs(mean_anomalous - mean_nominal) < 0.1 * max(abs(mean_nominal), abs(mean_anomalous), 1e-12)
