"""Numbers and names as people read them."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice


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


def counted(count: int, what: str) -> str:
    """``1 epoch`` or ``2 epochs``."""
    return f"{count:,} {what}{'s' * (count != 1)}"


def class_name(class_id: str, name: str) -> str:
    """``church (n03028079)``, or the id alone where it says as much."""
    return class_id if name.lower() == class_id else f"{name} ({class_id})"


def class_names(classes: Mapping[str, str], most: int = 20) -> str:
    """The first of the classes (id -> name), and how many more there are."""
    shown = ", ".join(class_name(*entry) for entry in islice(classes.items(), most))
    return f"{shown} and {len(classes) - most:,} more" if len(classes) > most else shown
