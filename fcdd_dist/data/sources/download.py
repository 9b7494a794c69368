"""Published sets by torchvision's own downloads, only where the user asks for it."""

from __future__ import annotations

from pathlib import Path

from ...errors import BadInput
from ..native import torchvision

_NOMINAL = {"fmnist": "FashionMNIST", "cifar10": "CIFAR10"}
_EXPOSURE = {"fmnist": "CIFAR100", "cifar10": "CIFAR100"}  # what the paper took
_BELOW = {"FashionMNIST": "FashionMNIST/raw", "CIFAR10": "cifar-10-batches-py", "CIFAR100": "cifar-100-python"}


def download(root: Path, recipe: str, *, exposure: bool) -> Path:
    """Fetches the recipe's data, or its exposure set, below ``root``; where it lies then. Raises BadInput."""
    table = _EXPOSURE if exposure else _NOMINAL
    if recipe not in table:
        raise BadInput(f"there is nothing to download for recipe {recipe!r}; there is for {', '.join(table)}")
    name = table[recipe]
    try:
        getattr(torchvision().datasets, name)(root, download=True)
    except (OSError, RuntimeError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[-1]
        raise BadInput(f"{name} can't be downloaded to {root}: {reason}; get it by hand and give its folder") from error
    return root / _BELOW[name]
