"""Pieces of a Markdown file."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence


def text(words: str) -> str:
    """``words`` on one line, with everything that Markdown or HTML would take for more than text escaped."""
    words = " ".join(words.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|#~$])", r"\\\1", words)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *([text(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def protocol_table(rows: Iterable[tuple[str, str, str, bool]]) -> str:
    """``rows``: (aspect, in the paper, here, whether they differ)."""
    return table(("", "paper", "here", "differs"), [(*row, "yes" if differs else "") for *row, differs in rows])
