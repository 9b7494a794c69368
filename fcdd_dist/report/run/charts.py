"""The charts of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..drawing import COLOURS, Chart, draw
from .facts import Facts

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def charts(facts: Facts) -> list[Chart]:
    """Those that the run has the numbers for: losses, scores, ROC."""
    found = []
    if facts.history:
        found.append(draw("losses", "Losses by epoch", "Curves of the mean loss of nominal and anomalous training "
                            "images and of the hold-out, by epoch", lambda axes: _losses(axes, facts)))
    if facts.scores is not None and facts.scores.scores.size:
        found.append(draw("scores", "Scores of the test images", "Histograms of the anomaly scores of nominal and "
                            "anomalous test images, with the threshold", lambda axes: _histograms(axes, facts)))
        if 0 < facts.scores.labels.sum() < facts.scores.labels.size:
            found.append(draw("roc", "ROC curve", "Share of anomalous images flagged against share of nominal images "
                                "flagged, over all thresholds", lambda axes: _roc(axes, facts)))
    return found


def _losses(axes: Axes, facts: Facts) -> None:
    epochs = [line.epoch for line in facts.history]
    lowest, highest = np.inf, 0.0
    for field, label, colour, dash in (("loss", "all", "muted", ":"), ("loss_nominal", "nominal", "nominal", "-"),
                                       ("loss_anomalous", "anomalous (exposure)", "anomalous", "-"),
                                       ("holdout_loss", "hold-out", "holdout", "--")):
        values = [getattr(line, field) for line in facts.history]
        known = [value for value in values if value is not None]
        if known:
            # A curve of one or two points is none without marks.
            axes.plot(epochs, [np.nan if value is None else value for value in values], dash, label=label,
                      color=COLOURS[colour], linewidth=1.6, marker="o" if len(known) < 3 else "", markersize=4)
            lowest, highest = min(lowest, *known), max(highest, *known)
    if lowest > 0 and highest / lowest > 30:
        axes.set_yscale("log")
        axes.yaxis.set_minor_formatter("")
    else:
        axes.set_ylim(bottom=min(0.0, lowest))
    margin = 0.5 if len(epochs) < 3 else 0
    axes.set_xlim(epochs[0] - margin, epochs[-1] + margin)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_xlabel("epoch")
    axes.set_ylabel("mean loss")


def _histograms(axes: Axes, facts: Facts) -> None:
    scores, labels, threshold = facts.scores.scores, facts.scores.labels, facts.threshold()
    # Scores of FCDD are means of non-negative maps, often over several powers of ten.
    spread = scores.min() > 0 and scores.max() / scores.min() > 20
    low, high = (np.log10(scores.min()), np.log10(scores.max())) if spread else (scores.min(), scores.max())
    high = high if high > low else low + max(1e-9, abs(low) * 0.1)
    edges = np.linspace(low, high, min(40, max(8, round(scores.size ** 0.5))) + 1)
    edges = 10 ** edges if spread else edges
    # The ends must not lose the extreme images to rounding.
    edges[0], edges[-1] = min(edges[0], scores.min()), max(edges[-1], scores.max())
    for label, name in ((0, "nominal"), (1, "anomalous")):
        mine = scores[labels == label]
        if mine.size:
            axes.hist(mine, edges, weights=np.full(mine.size, 100 / mine.size), histtype="stepfilled", alpha=0.35,
                      color=COLOURS[name])
            axes.hist(mine, edges, weights=np.full(mine.size, 100 / mine.size), histtype="step", linewidth=1.4,
                      color=COLOURS[name], label=f"{name} ({mine.size:,})")
    if threshold is not None:
        axes.axvline(threshold, color=COLOURS["threshold"], linewidth=1.6, linestyle="--",
                     label=f"threshold {threshold:.4g}")
    if spread:
        axes.set_xscale("log")
        axes.xaxis.set_minor_formatter("")
    axes.set_xlabel("anomaly score" + (" (log scale)" if spread else ""))
    axes.set_ylabel("% of the images of a kind")


def _roc(axes: Axes, facts: Facts) -> None:
    from sklearn.metrics import roc_curve

    labels = facts.scores.labels
    false, true, _ = roc_curve(labels, facts.scores.scores)
    axes.plot([0, 100], [0, 100], color=COLOURS["muted"], linewidth=1, linestyle=":", label="chance")
    axes.plot(100 * false, 100 * true, color=COLOURS["anomalous"], linewidth=1.8, label="detector")
    if facts.threshold() is not None:
        axes.plot(100 * facts.flagged(labels == 0), 100 * facts.flagged(labels == 1), "o", markersize=7,
                  color=COLOURS["threshold"], label="at the threshold")
    axes.set_xlim(-2, 102)
    axes.set_ylim(-2, 102)
    axes.set_xlabel("% of nominal images flagged")
    axes.set_ylabel("% of anomalous images flagged")
