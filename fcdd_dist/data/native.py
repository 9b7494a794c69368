"""The one place that imports torchvision, whose import fails beside a torch of another build."""

from __future__ import annotations

from functools import lru_cache
from types import ModuleType

from ..errors import BadInput


@lru_cache(maxsize=1)
def torchvision() -> ModuleType:
    """torchvision with its ``datasets``. Raises BadInput that says what to install where it can't be imported.

    pip may put torchvision's CUDA build beside a CPU-only torch; the import then ends in ``operator torchvision::nms
    does not exist``, or in a missing library, which tells a user nothing.
    """
    try:
        import torchvision
        import torchvision.datasets
    except (ImportError, RuntimeError, OSError, AttributeError) as error:
        raise BadInput(f"torchvision can't be imported beside this torch ({_first_line(error)}): install both from one "
                       f"index, for example pip install --force-reinstall torch torchvision "
                       f"--index-url https://download.pytorch.org/whl/cpu") from error
    return torchvision


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
