"""Pieces of a page of HTML that needs nothing else: no script, no font, no file beside it."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from html import escape

from .style import STYLE


def document(title: str, body: Iterable[str], style: str = STYLE) -> str:
    """The page of the parts of ``body``, each markup or empty."""
    return (f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
            f'<meta name="viewport" content="width=device-width, initial-scale=1">'
            f"<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; img-src data:; "
            f"style-src 'unsafe-inline'\"><style>{style}</style></head>\n<body><main>\n"
            + "\n".join(part for part in body if part) + "\n</main></body></html>\n")


def section(title: str, inner: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{inner}</section>"


def folded(title: str, inner: str, aside: str = "") -> str:
    """A section that opens on request."""
    small = f" <small>{escape(aside, quote=False)}</small>" if aside else ""
    return f"<section><details><summary>{escape(title)}{small}</summary>{inner}</details></section>"


def bullets(lines: Iterable[str]) -> str:
    return "<ul>" + "".join(f"<li>{escape(line)}</li>" for line in lines) + "</ul>"


def tiles(rows: Iterable[tuple[str, str, str]]) -> str:
    """Figures to be seen first: (name, value, what to know of it)."""
    return '<div class="tiles">' + "".join(
        f'<div class="tile"><span>{escape(name)}</span><b>{escape(value)}</b><span>{escape(below)}</span></div>'
        for name, value, below in rows) + "</div>"


def picture(jpeg: bytes, size: tuple[int, int], alt: str, caption: str) -> str:
    """A JPEG of ``size`` (width, height), which scrolls in its own box where there is no room for it."""
    above = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    width, height = size
    return (f'<figure>{above}<div class="scroll" tabindex="0">'
            f'<img alt="{escape(alt)}" width="{width}" height="{height}" style="--w: {width}px" loading="lazy" '
            f'src="data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"></div></figure>')


def pairs(pairs: Iterable[tuple[str, str]], *, path: bool = False) -> str:
    kind = ' class="path"' if path else ""
    return table((), [f"<tr><th>{escape(name)}</th><td{kind}>{escape(value)}</td></tr>" for name, value in pairs])


def table(head: Sequence[str], rows: Iterable[str], numbers_from: int | None = None) -> str:
    cells = "".join(f'<th scope="col"{" class=n" if numbers_from is not None and place >= numbers_from else ""}>'
                    f"{escape(name)}</th>" for place, name in enumerate(head))
    top = f"<thead><tr>{cells}</tr></thead>" if head else ""
    return (f'<div class="scroll"><table{"" if head else " class=facts"}>{top}<tbody>{"".join(rows)}</tbody></table>'
            f"</div>")
