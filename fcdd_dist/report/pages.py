"""What a report is made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .drawing import Chart


@dataclass(frozen=True)
class Pages:
    html: str
    markdown: str
    charts: Sequence[Chart]  # of which the Markdown shows the PNGs
