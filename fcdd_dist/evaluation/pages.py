"""A picture that is composed downwards: titles, framed pictures with labels, a colour bar; written as one PNG.

Pictures are pasted into an array, pixel by pixel; matplotlib draws the text alone, without pyplot and its global state.
"""

from __future__ import annotations

import io
import textwrap

import numpy as np

BACKGROUND, INK, MUTED, LINE = "#ffffff", "#1f2328", "#59636e", "#d0d7de"
MARGIN = 20


class Page:
    """A canvas of ``width`` pixels; ``y`` is where the next thing begins, counted from the top."""

    def __init__(self, width: int) -> None:
        self.width, self.y = width, MARGIN
        self._pictures: list[tuple[int, int, np.ndarray]] = []
        self._texts: list[tuple[float, float, str, dict]] = []

    def skip(self, pixels: int) -> None:
        self.y += pixels

    def text(self, text: str, size: int, *, ink: str = INK, bold: bool = False) -> None:
        """Lines over the whole width."""
        for line in textwrap.wrap(printable(text), int((self.width - 2 * MARGIN) / (0.6 * size))):
            self.skip(size)
            self._draw(line, MARGIN, 0, size, ink, bold, "left")
            self.skip(round(0.45 * size))

    def label(self, text: str, x: int, dy: int, width: int, *, ink: str = INK, bold: bool = False) -> None:
        """One line below a picture, cut off where it is too long."""
        line, room = printable(text), int(width / (0.6 * 12))
        self._draw(line if len(line) <= room else line[:room - 1] + "…", x, dy, 12, ink, bold, "left")

    def paste(self, picture: np.ndarray, x: int, frame: str, height: int, width: int) -> None:
        """A framed picture, in the middle of its place of ``height`` and ``width``."""
        border = 1 if frame == LINE else 4
        framed = np.empty((picture.shape[0] + 2 * border, picture.shape[1] + 2 * border, 3), np.uint8)
        framed[:] = [int(frame[i:i + 2], 16) for i in (1, 3, 5)]
        framed[border:-border, border:-border] = picture
        self._pictures.append((x + (width - picture.shape[1]) // 2 - border,
                               self.y + (height - picture.shape[0]) // 2 - border, framed))

    def colour_bar(self, bar: np.ndarray, ends: tuple[str, str], meaning: str) -> None:
        """``bar`` uint8 (h, w, 3) with words below its two ``ends``, and what they mean."""
        height, width = bar.shape[:2]
        self.skip(8)
        self.paste(bar, MARGIN, LINE, height, width)
        self._draw(ends[0], MARGIN, height + 16, 12, INK, True, "left")
        self._draw(ends[1], MARGIN + width, height + 16, 12, INK, True, "right")
        self.skip(height + 24)
        self.text(meaning, 12, ink=MUTED)

    def png(self) -> bytes:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from PIL import Image

        height = self.y + MARGIN // 2
        figure = Figure(figsize=(self.width / 100, height / 100), dpi=100, facecolor=BACKGROUND)
        for x, y, text, style in self._texts:
            figure.text(x / self.width, 1 - y / height, text, parse_math=False, family="DejaVu Sans", **style)
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        page = np.array(canvas.buffer_rgba())[..., :3]
        for x, y, picture in self._pictures:
            page[y:y + picture.shape[0], x:x + picture.shape[1]] = picture
        file = io.BytesIO()
        Image.fromarray(page).save(file, "PNG", dpi=(100, 100))
        return file.getvalue()

    def _draw(self, text: str, x: float, dy: float, size: int, ink: str, bold: bool, align: str) -> None:
        self._texts.append((x, self.y + dy, text, {"fontsize": size * 0.72, "color": ink, "ha": align,
                                                   "weight": "bold" if bold else "normal"}))


def printable(text: str) -> str:
    """``text`` on one line, with a mark for every character that the font lacks (matplotlib would warn of each)."""
    from matplotlib.font_manager import FontProperties, findfont, get_font

    font = get_font(findfont(FontProperties(family="DejaVu Sans")))
    return "".join(letter if font.get_char_index(ord(letter)) else "\N{REPLACEMENT CHARACTER}"
                   for letter in " ".join(text.split()))
