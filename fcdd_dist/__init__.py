"""FCDD detectors, trained at cluster scale: explainable deep one-class classification (arXiv 2007.01760).

``Detector.load(url)`` gives a trained detector that scores and explains images; ``Experiment`` says what is trained.
Importing this package loads neither torch nor ray.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .detector import Detector
    from .errors import FcddError
    from .experiment import Experiment

__version__ = "0.1.0"
__all__ = ["Detector", "Experiment", "FcddError", "__version__"]

_HOMES = {"Detector": "detector", "Experiment": "experiment", "FcddError": "errors"}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return __all__
