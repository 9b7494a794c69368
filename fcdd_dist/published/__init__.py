"""The paper's tables as data, so that a result can stand beside the number it is measured against.

``tables.csv`` holds all 500 entries of Tables 1 to 5 of "Explainable Deep One-Class Classification",
arXiv 2007.01760v1. ``published("fmnist", "t-shirt_top")`` is FCDD's own entry for a class of one of our recipes,
``columns("fmnist", "t-shirt_top")`` those of all methods.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from ..errors import BadInput, nearest
from .synsets import SYNSETS

PAPER = "arXiv 2007.01760v1"
MEAN = "mean"  # the class name of the rows that state the mean over a table's classes


@dataclass(frozen=True)
class Row:
    """One entry of a table: the AUROC of a method on a class of a data set.

    ``auc`` is in [0, 1] with two decimals as printed, or None where the paper prints "x". ``std`` is the sample
    standard deviation over the classes and stands on the mean rows of Table 2 alone. An entry ``from_literature`` was
    copied by the authors from other papers, with other networks, exposure sets and sometimes other test images.
    """

    table: int
    dataset: str
    class_name: str
    method: str
    supervision: str  # "none", "OE", "unsupervised" or "semi-supervised"
    auc: float | None
    std: float | None
    from_literature: bool

    @property
    def source(self) -> str:
        return f"{PAPER}, Table {self.table}"


@dataclass(frozen=True)
class Protocol:
    """What the paper did for a table, as far as a reader must know it to compare numbers."""

    dataset: str
    table: int
    epochs: int
    exposure: str
    repetitions: int = 5  # trainings a class; the table has their mean, and no spread over them


# By recipe. Table 3 does not say which of the two exposure sets it is of; the text has CIFAR-100 about 3 points better.
PROTOCOLS = {
    "fmnist": Protocol("Fashion-MNIST", table=3, epochs=400, exposure="grey CIFAR-100, or EMNIST letters"),
    "cifar10": Protocol("CIFAR-10", table=4, epochs=600, exposure="CIFAR-100"),
    "imagenet30": Protocol("ImageNet", table=5, epochs=600, exposure="ImageNet22k without the classes of ImageNet-1k"),
}


def rows(dataset: str | None = None, class_name: str | None = None, method: str | None = None) -> tuple[Row, ...]:
    """The entries with the given data set, class and method, in the tables' order; all 500 without any.

    Raises BadInput for a name that occurs nowhere in the tables.
    """
    found = _table()
    for field, value in (("dataset", dataset), ("class_name", class_name), ("method", method)):
        if value is not None:
            known = {getattr(row, field) for row in _table()}
            if value not in known:
                what = {"dataset": "data set", "class_name": "class"}.get(field, field)
                raise BadInput(f"the paper's tables have no {what} {value!r}{nearest(value, known)}")
            found = tuple(row for row in found if getattr(row, field) == value)
    return found


def published(recipe: str, class_id: str) -> Row | None:
    """FCDD's own entry for a class of a recipe, or for the mean over its classes with class_id "mean".

    None where the paper has no such class, or no table for the recipe.
    """
    return next((row for row in columns(recipe, class_id) if row.method == "FCDD"), None)


def columns(recipe: str, class_id: str) -> tuple[Row, ...]:
    """The entries of all methods for a class of a recipe, or for the mean with class_id "mean", in the table's order.

    They are of the table that lists the recipe's classes. Empty where the paper has no such class or table.
    """
    protocol = PROTOCOLS.get(recipe)
    if protocol is None:
        return ()
    return tuple(row for row in rows(protocol.dataset)
                 if row.table == protocol.table and _class_id(row.class_name) == class_id)


def _class_id(name: str) -> str:
    """As our recipes write it: ``t-shirt_top`` for "T-Shirt/Top", the id of WordNet for a class of ImageNet."""
    return SYNSETS.get(name) or name.lower().replace(" ", "_").replace("/", "_")


@cache
def _table() -> tuple[Row, ...]:
    with files(__package__).joinpath("tables.csv").open(encoding="utf-8", newline="") as file:
        return tuple(
            Row(table=int(line["table"]), dataset=line["dataset"], class_name=line["class"], method=line["method"],
                supervision=line["supervision"], auc=_number(line["auc"]), std=_number(line["std"]),
                from_literature=line["from_literature"] == "1")
            for line in csv.DictReader(file))


def _number(text: str) -> float | None:
    return float(text) if text else None
