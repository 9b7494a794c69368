"""One function a data set: what the paper does with it, as an Experiment.

A new recipe is one file with a function and one line in ``RECIPES``; the contract tests come by themselves.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..errors import BadInput, nearest
from ..experiment import Experiment, Form
from . import cifar10, digits, fmnist, folder, imagenet30


@dataclass(frozen=True)
class Recipe:
    """A data set that we know how to train on.

    ``classes`` maps ids (``[a-z0-9_-]+``) to display names in the canonical order; empty where the user's folders
    decide. A source may have more classes than these where it names its own. ``experiment(nominal, seed)`` is the
    paper's experiment, or ours where the paper has none. ``exclude`` names the list of classes (``exclusions.NAMED``)
    that exposure of this recipe leaves out where nothing else is asked for.
    """

    name: str
    summary: str
    classes: dict[str, str]
    form: Form
    experiment: Callable[[str, int], Experiment]
    exclude: str | None = None


RECIPES: dict[str, Recipe] = {
    "digits": Recipe("digits", "scikit-learn's bundled handwritten digits, a toy set of 1,797 images",
                     digits.CLASSES, digits.FORM, digits.experiment),
    "fmnist": Recipe("fmnist", "Fashion-MNIST (paper, Table 3)", fmnist.CLASSES, fmnist.FORM, fmnist.experiment),
    "cifar10": Recipe("cifar10", "CIFAR-10 (paper, Table 4)", cifar10.CLASSES, cifar10.FORM, cifar10.experiment),
    "imagenet30": Recipe("imagenet30", "30 classes of ImageNet (paper, Table 5)", imagenet30.CLASSES, imagenet30.FORM,
                         imagenet30.experiment, exclude="imagenet1k"),
    "folder": Recipe("folder", "your own images in folders", folder.CLASSES, folder.FORM, folder.experiment),
}


def recipe(name: str) -> Recipe:
    """Raises BadInput with the known names."""
    if name not in RECIPES:
        raise BadInput(f"there is no recipe {name!r}{nearest(name, RECIPES)}; there are: {', '.join(RECIPES)}")
    return RECIPES[name]
