"""Heatmaps as pictures: colours, overlays, and sheets of images with their heatmaps.

Pure functions of arrays.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import BadInput, nearest
from ..model.heatmap_scale import HeatmapScale
from .pages import LINE, MARGIN, MUTED, Page

# The two sheets of a run, by the names of their files in its heatmaps/.
SHEETS = {"by-score": "Test images by increasing score, evenly spaced in rank",
          "extremes": "The least and the most anomalous of both kinds"}

OUTCOMES = {(1, True): ("found", "#0b7a4b"), (1, False): ("missed", "#c4232b"),
            (0, True): ("false alarm", "#b35c00"), (0, False): ("passed", MUTED),
            (None, True): ("flagged", "#c4232b"), (None, False): ("not flagged", MUTED)}


@dataclass(frozen=True)
class Cell:
    """One image of a sheet: ``image`` uint8 (H, W, 1 or 3), ``heatmap`` (H, W) in [0, 1], and what is known of it.

    The heatmap is NaN around the rectangle that the detector looked at; there pictures are hatched.
    """

    image: np.ndarray
    heatmap: np.ndarray
    caption: str  # its class or kind
    score: float
    truth: int | None  # 0 nominal, 1 anomalous
    flagged: bool | None  # whether the score is above the threshold; None without one


@dataclass(frozen=True)
class Block:
    """Cells of a sheet under a heading of their own."""

    heading: str
    cells: Sequence[Cell]


def colour(heatmap: np.ndarray, colormap: str = "jet") -> np.ndarray:
    """``heatmap`` (H, W) in [0, 1] in the colours of a matplotlib colour map, uint8 (H, W, 3); jet as in the paper."""
    import matplotlib

    heatmap = np.asarray(heatmap, dtype=np.float64)
    if heatmap.ndim != 2 or not ((heatmap >= 0) & (heatmap <= 1)).all():
        raise ValueError("a heatmap to be coloured has two axes and values from 0 to 1")
    return matplotlib.colormaps[colormap](heatmap, bytes=True)[..., :3]


def check_colours(name: str) -> None:
    """Raises BadInput where matplotlib has no colour map of that name."""
    import matplotlib

    if name not in matplotlib.colormaps:
        raise BadInput(f"matplotlib has no colours {name!r}{nearest(name, matplotlib.colormaps)}: jet, viridis, "
                       f"inferno and cividis are some that it has")


def overlay(image: np.ndarray, heatmap: np.ndarray, colormap: str = "jet") -> np.ndarray:
    """The heatmap over ``image`` in grey, denser where it is higher: what is not anomalous stays visible as it is.

    ``image`` is uint8 (H, W, 1 or 3), ``heatmap`` (H, W) in [0, 1]; uint8 (H, W, 3).
    """
    if image.shape[:2] != np.shape(heatmap):
        raise ValueError(f"a heatmap of {np.shape(heatmap)} pixels over an image of {image.shape[:2]}")
    grey = _rgb(image) @ np.array([0.299, 0.587, 0.114])
    density = 0.15 + 0.6 * np.asarray(heatmap, dtype=np.float64)[..., None]
    return np.rint((1 - density) * grey[..., None] + density * colour(heatmap, colormap)).astype(np.uint8)


def evenly_spaced(scores: np.ndarray, count: int) -> list[int]:
    """Indices of ``count`` (or all) images by increasing score, equidistant in rank, the two extremes among them."""
    order = np.argsort(scores, kind="stable")
    places = np.linspace(0, order.size - 1, min(count, order.size)).round().astype(int)
    return [int(index) for index in order[places]]


def extremes(labels: np.ndarray, scores: np.ndarray, count: int) -> dict[str, list[int]]:
    """Indices of the ``count`` least and most anomalous images of both kinds, by heading, each by increasing score.

    A kind without images is left out; one with fewer than two times ``count`` images is shown once and whole.
    """
    labels, order = np.asarray(labels), np.argsort(scores, kind="stable")
    found = {}
    for label, name in ((0, "Nominal"), (1, "Anomalous")):
        mine = [int(index) for index in order if labels[index] == label]
        if len(mine) <= 2 * count:
            found |= {f"{name}, all {len(mine)}": mine} if mine else {}
        else:
            found |= {f"{name}, lowest scores": mine[:count], f"{name}, highest scores": mine[-count:]}
    return found


def sheet(cells: Sequence[Cell | Block], columns: int, title: str, subtitle: str = "", *,
          scale: HeatmapScale | None = None, colormap: str = "jet", overlays: bool = True) -> bytes:
    """A PNG of images, each above its heatmap (and overlay), with caption, score and, by frame and word, its outcome.

    ``cells`` are cells, or blocks of them; rows are filled up to ``columns``. ``scale`` names what the colours mean.
    """
    blocks = [item if isinstance(item, Block) else Block("", [item]) for item in cells]
    if not any(isinstance(item, Block) for item in cells):
        blocks = [Block("", list(cells))]
    stacks = [[np.vstack(_panels(cell.image, cell.heatmap, colormap, (112, 192))[:2 + overlays])
               for cell in block.cells] for block in blocks]
    height = max((stack.shape[0] for row in stacks for stack in row), default=0)
    width = max((stack.shape[1] for row in stacks for stack in row), default=112)
    page = Page(max(480, 2 * MARGIN + columns * (width + 16) - 16))
    page.text(title, 18, bold=True)
    page.text(subtitle, 12, ink=MUTED)
    for block, row in zip(blocks, stacks, strict=True):
        page.skip(10)
        page.text(block.heading, 14, bold=True)
        for first in range(0, len(row), columns):
            page.skip(8)
            for place in range(first, min(first + columns, len(row))):
                cell, x = block.cells[place], MARGIN + (place - first) * (width + 16)
                word, ink = OUTCOMES[cell.truth, cell.flagged] if cell.flagged is not None else ("", LINE)
                page.paste(row[place], x, ink if word not in ("", "passed", "not flagged") else LINE, height, width)
                page.label(cell.caption, x, height + 17, width, bold=True)
                page.label(f"{cell.score:.4g}", x, height + 33, width)
                page.label(word, x, height + 49, width, ink=ink, bold=True)
            page.skip(height + 62)
    _legend(page, scale, colormap, [cell.heatmap for block in blocks for cell in block.cells])
    return page.png()


def explanation(image: np.ndarray, heatmap: np.ndarray, caption: str, *, scale: HeatmapScale | None = None,
                colormap: str = "jet") -> bytes:
    """A PNG of ``image``, its heatmap and the overlay side by side, ``caption`` above.

    ``image`` uint8 (H, W, 1 or 3), ``heatmap`` (H, W) in [0, 1], NaN around the rectangle that was looked at, where the
    picture is hatched. One pixel is one pixel; sides below 128 are enlarged by a whole number, sides above 2048 reduced
    to it.
    """
    panels = _panels(image, heatmap, colormap, (192, 2048))
    height, width = panels[0].shape[:2]
    step = max(width, 130) + 16
    page = Page(2 * MARGIN + 3 * step - 16)
    page.text(caption, 14, bold=True)
    page.skip(8)
    for place, (panel, name) in enumerate(zip(panels, ("image", "heatmap", "overlay"), strict=True)):
        page.paste(panel, MARGIN + place * step, LINE, height, width)
        page.label(name, MARGIN + place * step, height + 17, step)
    page.skip(height + 30)
    _legend(page, scale, colormap, [heatmap])
    page.text("The score is the mean over all places, and no probability. An image is flagged where it is above the "
              "threshold.", 12, ink=MUTED)
    return page.png()


def _rgb(image: np.ndarray) -> np.ndarray:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] not in (1, 3):
        raise ValueError(f"an image is uint8 (H, W, 1 or 3), not {image.dtype} {image.shape}")
    return np.broadcast_to(image, (*image.shape[:2], 3))


def _panels(image: np.ndarray, heatmap: np.ndarray, colormap: str, sides: tuple[int, int]) -> list[np.ndarray]:
    """Image, heatmap and overlay, uint8 (h, w, 3), the longer side between about the two of ``sides``."""
    from PIL import Image

    if image.shape[:2] != np.shape(heatmap):
        raise ValueError(f"a heatmap of {np.shape(heatmap)} pixels beside an image of {image.shape[:2]}")
    longest = max(image.shape[:2])
    zoom = -(-sides[0] // longest) if longest < 128 else min(1.0, sides[1] / longest)
    size = tuple(max(1, round(side * zoom)) for side in (image.shape[1], image.shape[0]))
    # Enlarged pixels of the image stay squares; the map, smooth by nature, is interpolated before it is coloured.
    shown = Image.fromarray(np.ascontiguousarray(_rgb(image))).resize(
        size, Image.Resampling.NEAREST if zoom >= 1 else Image.Resampling.BOX)
    pixels, values = np.asarray(shown), np.asarray(heatmap, dtype=np.float32)
    seen = ~np.isnan(values)
    if seen.all():
        smooth = _scaled(values, size)
        return [pixels, colour(smooth, colormap), overlay(pixels, smooth, colormap)]
    rows, columns = (_extent(seen, axis) for axis in (1, 0))
    top, bottom = (round(place * size[1] / values.shape[0]) for place in rows)
    left, right = (round(place * size[0] / values.shape[1]) for place in columns)
    panels = [pixels, _hatched(np.full_like(pixels, 255)), _hatched(pixels)]
    if bottom > top and right > left:
        smooth = _scaled(values[slice(*rows), slice(*columns)], (right - left, bottom - top))
        inside = np.s_[top: bottom, left: right]
        panels[1][inside], panels[2][inside] = colour(smooth, colormap), overlay(pixels[inside], smooth, colormap)
    return panels


def _scaled(heatmap: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """In another ``size`` (width, height), within [0, 1]."""
    from PIL import Image

    return np.clip(np.asarray(Image.fromarray(heatmap).resize(size, Image.Resampling.BILINEAR)), 0, 1)


def _extent(seen: np.ndarray, axis: int) -> tuple[int, int]:
    """The first place along the other axis where anything was looked at, and the one after the last; 0, 0 if none."""
    places = np.flatnonzero(seen.any(axis))
    return (int(places[0]), int(places[-1]) + 1) if places.size else (0, 0)


def _hatched(picture: np.ndarray) -> np.ndarray:
    """A pale and grey copy of ``picture``, uint8 (h, w, 3), with slanted lines over it."""
    grey = picture @ np.array([0.299, 0.587, 0.114])
    down, across = np.indices(grey.shape)
    pale = np.where((down + across) % 8 < 2, 130, 190 + 0.25 * grey)
    return np.repeat(np.rint(pale).astype(np.uint8)[..., None], 3, axis=2)


def _legend(page: Page, scale: HeatmapScale | None, colormap: str, heatmaps: Sequence[np.ndarray]) -> None:
    """What the colours mean, for a person who knows nothing of quantiles."""
    one = "the top of reference maps"
    if scale is not None:
        share = f"top {100 * (1 - scale.eta):.3g} % of places" if scale.eta < 1 else "highest place"
        one = f"the {share} in {scale.reference}"
    page.colour_bar(
        colour(np.tile(np.linspace(0, 1, 280), (12, 1)), colormap), ("0: looks normal", "1: looks abnormal"),
        f"The colours say how much a place raised the anomaly score: 0 the least, 1 as much as {one}.")
    if any(np.isnan(heatmap).any() for heatmap in heatmaps):
        page.text("hatched = outside the centre, where the detector has not looked", 12, ink=MUTED)
