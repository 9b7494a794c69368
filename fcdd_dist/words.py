"""Numbers as people read them."""

from __future__ import annotations


def duration(seconds: float) -> str:
    """``42 s``, ``3:07 min`` or ``2:05 h``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    return f"{whole // 60}:{whole % 60:02} min" if whole < 3600 else f"{whole // 3600}:{whole % 3600 // 60:02} h"


def amount(size: float) -> str:
    """Bytes for a person, in decimal units."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < (1000 if unit == "bytes" else 999.5):
            return f"{size:.0f} {unit}" if unit == "bytes" or size >= 99.5 else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"
