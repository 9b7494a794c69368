"""Sections that the pages of runs and of sweeps have in common."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from ..experiment import Experiment
from .markup import folded, section, table
from .words import settings


def protocol_section(rows: Iterable[tuple[str, str, str, bool]], source: str) -> str:
    """``rows``: (aspect, in the paper, here, whether they differ); ``source``: a sentence."""
    lines = [f'<tr{" class=differs" if differs else ""}><th>{escape(aspect)}</th><td>{escape(theirs)}</td>'
             f"<td>{escape(here)}</td></tr>" for aspect, theirs, here, differs in rows]
    note = f'<p class="note">{escape(source)} What differs is in bold.</p>'
    return section("Beside the paper", table(("", "Paper", "Here"), lines) + note)


def settings_section(experiment: Experiment) -> str:
    rows, changed = [], 0
    for path, value, recipes in settings(experiment):
        changed += recipes is not None
        aside = f' <small class="over">(recipe: {escape(recipes)})</small>' if recipes is not None else ""
        rows.append(f'<tr{" class=differs" if recipes is not None else ""}><th class="path">{escape(path)}</th>'
                    f'<td class="path">{escape(value)}{aside}</td></tr>')
    return folded("Experiment", table((), rows), f"{len(rows)} settings, {changed} other than the recipe's")
