"""Lists of classes that are left out of outlier exposure, by name: what is nominal or anomalous at test time."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from . import imagenet1k, imagenet30

# Read when asked for. "imagenet1k" is what the paper says, "benchmark30" what the authors' published code does.
NAMED: dict[str, Callable[[], Iterable[str]]] = {
    "imagenet1k": imagenet1k.names,
    "benchmark30": lambda: imagenet30.CLASSES,
}
NONE = "none"  # the name of the list that leaves out nothing


def exclusion(name: str) -> frozenset[str] | None:
    """The class ids of a list; None where no list has this name. Raises Damaged as ``imagenet1k.names``."""
    return frozenset(NAMED[name]()) if name in NAMED else None
