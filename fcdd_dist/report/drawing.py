"""Charts: each is drawn once and written as an SVG that follows the page's colours, and as a PNG."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

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


def draw(name: str, title: str, alt: str, paint: Callable[[Axes], None], *, height: float = 3.0) -> Chart:
    """A chart of 4 by ``height`` inches with its legend above; ``paint`` puts everything else onto its axes."""
    return draw_panels(name, title, alt, lambda panels: paint(panels[0]), 1, height=height)


def draw_panels(name: str, title: str, alt: str, paint: Callable[[Sequence[Axes]], None], panels: int, *,
                height: float) -> Chart:
    """The same with ``panels`` one above the other, which share what is across; their labels make one legend."""
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
        figure = Figure(figsize=(4.0, height), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots(panels, 1, sharex=True, squeeze=False)[:, 0]
        paint(axes)
        labelled = {label: mark for one in axes for mark, label in zip(*one.get_legend_handles_labels(), strict=True)}
        figure.legend(labelled.values(), labelled.keys(), loc="outside upper left", ncols=2,
                      handlelength=1.6, columnspacing=1.2, borderaxespad=0.2)
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
    svg = svg.replace("<svg", f'<svg role="img" aria-label="{escape(alt)}"', 1)
    svg = re.sub(r"font: ([\d.]+px) [^;\"]*", r"font-size: \1", svg)
    for variable, colour in COLOURS.items():
        svg = svg.replace(colour, f"var(--{variable})")
    return svg
