"""Sheets of heatmaps as a page embeds them."""

from __future__ import annotations

import io


def embedded(png: bytes, most: int, quality: int) -> tuple[bytes, tuple[int, int]]:
    """A JPEG of the sheet, at most ``most`` pixels across, and its (width, height).

    Its colours keep their full resolution: halved, as is usual, the red of a heatmap would run into the picture beside
    it. Nor is there a palette of 256 colours, which draws edges into a smooth map and paints spots of other colours
    into overlays. And a sheet that is not too wide keeps its size, and so the sharp pixels of small images.
    """
    from PIL import Image

    with Image.open(io.BytesIO(png)) as image:
        shown = image.convert("RGB")
    if shown.width > most:
        shown = shown.resize((most, round(shown.height * most / shown.width)), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    shown.save(file, "JPEG", quality=quality, subsampling="4:4:4", optimize=True, progressive=True)
    return file.getvalue(), shown.size
