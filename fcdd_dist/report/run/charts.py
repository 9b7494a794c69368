"""The charts of a report: each is drawn once and written as an SVG that follows the page's colours, and as a PNG."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .facts import Facts

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Light colours, and the variables of the page's style sheet that take their place in the SVG.
COLOURS = {"ink": "#1f2328", "muted": "#59636e", "line": "#d8dee4", "nominal": "#0b69c7", "anomalous": "#d1441a",
           "holdout": "#00856f", "threshold": "#7c3aed"}


@dataclass(frozen=True)
class Chart:
    """``svg`` is markup for a page that defines the variables of COLOURS, ``png`` a file, ``alt`` what it shows."""

    name: str
    title: str
    alt: str
    svg: str
    png: bytes


def charts(facts: Facts) -> list[Chart]:
    """Those that the run has the numbers for: losses, scores, ROC."""
    found = []
    if facts.history:
        found.append(_chart("losses", "Losses by epoch", "Curves of the mean loss of nominal and anomalous training "
                            "images and of the hold-out, by epoch", _losses, facts))
    if facts.scores is not None and facts.scores.scores.size:
        found.append(_chart("scores", "Scores of the test images", "Histograms of the anomaly scores of nominal and "
                            "anomalous test images, with the threshold", _histograms, facts))
        if 0 < facts.scores.labels.sum() < facts.scores.labels.size:
            found.append(_chart("roc", "ROC curve", "Share of anomalous images flagged against share of nominal images "
                                "flagged, over all thresholds", _roc, facts))
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


def _chart(name: str, title: str, alt: str, draw, facts: Facts) -> Chart:
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    style = {"font.family": ["DejaVu Sans"], "font.size": 9.5, "legend.fontsize": 8.5, "svg.fonttype": "none",
             "svg.hashsalt": name,
             "axes.edgecolor": COLOURS["muted"], "axes.labelcolor": COLOURS["ink"], "text.color": COLOURS["ink"],
             "xtick.color": COLOURS["muted"], "ytick.color": COLOURS["muted"], "grid.color": COLOURS["line"],
             "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "axes.axisbelow": True,
             "legend.frameon": False, "axes.facecolor": "none", "grid.linewidth": 0.7}
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(4.0, 3.0), layout="constrained")
        FigureCanvasAgg(figure)
        draw(figure.add_subplot(), facts)
        figure.legend(loc="outside upper left", ncols=2, handlelength=1.6, columnspacing=1.2, borderaxespad=0.2)
        figure.draw_without_rendering()  # lays it out, once for both files
        figure.set_layout_engine("none")
        svg, png = io.StringIO(), io.BytesIO()
        figure.savefig(svg, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
        figure.savefig(png, format="png", dpi=180, facecolor="white", metadata={"Software": None})
    return Chart(name, title, alt, _inline(svg.getvalue(), name, alt), png.getvalue())


def _inline(svg: str, name: str, alt: str) -> str:
    """The drawing as part of a page: ids of its own, no size but its shape, the page's colours and font."""
    svg = svg[svg.index("<svg"):]
    svg = re.sub(r"<(metadata|style).*?</\1>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", svg)
    svg = re.sub(r'^<svg([^>]*?) width="[^"]*"', r"<svg\1", svg)
    svg = re.sub(r'^<svg([^>]*?) height="[^"]*"', r"<svg\1", svg)
    svg = svg.replace("<svg", f'<svg role="img" aria-label="{alt}"', 1)
    svg = re.sub(r"font: ([\d.]+px) [^;\"]*", r"font-size: \1", svg)
    for variable, colour in COLOURS.items():
        svg = svg.replace(colour, f"var(--{variable})")
    return svg
