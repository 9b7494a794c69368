"""The paper's tables as data."""

from __future__ import annotations

import subprocess
import sys
from collections import defaultdict
from statistics import fmean, stdev

import pytest

from fcdd_dist.errors import BadInput
from fcdd_dist.published import MEAN, PROTOCOLS, Row, columns, published, rows
from fcdd_dist.recipes import RECIPES


def whole_columns() -> dict[tuple, list[Row]]:
    """The columns of the tables that list classes, but for those of which some classes are printed as "x"."""
    found = defaultdict(list)
    for row in rows():
        if row.table != 1:
            found[row.table, row.dataset, row.method, row.supervision].append(row)
    return {key: column for key, column in found.items() if all(row.auc is not None for row in column)}


def test_all_entries_are_there():
    assert len(rows()) == 500
    assert [sum(row.table == table for row in rows()) for table in range(1, 6)] == [27, 144, 44, 99, 186]
    assert all(row.auc is None or 0 <= row.auc <= 1 for row in rows())


@pytest.mark.parametrize("column", whole_columns().items(), ids=lambda item: "-".join(map(str, item[0])))
def test_class_means_agree_with_the_stated_means(column):
    entries = column[1]
    values = [row.auc for row in entries if row.class_name != MEAN]
    stated = [row for row in entries if row.class_name == MEAN]
    assert len(stated) == 1
    assert fmean(values) == pytest.approx(stated[0].auc, abs=0.0101)
    if stated[0].std is not None:
        assert stdev(values) == pytest.approx(stated[0].std, abs=0.0051)


@pytest.mark.parametrize("recipe", sorted(PROTOCOLS))
def test_every_class_of_a_published_recipe_has_its_number(recipe):
    found = [published(recipe, class_id) for class_id in RECIPES[recipe].classes]
    assert None not in found
    assert len({row.class_name for row in found}) == len(RECIPES[recipe].classes)
    assert all(row.method == "FCDD" and not row.from_literature and row.auc is not None for row in found)


@pytest.mark.parametrize(("recipe", "class_id", "auc", "source"), [
    ("fmnist", "t-shirt_top", 0.82, "arXiv 2007.01760v1, Table 3"),
    ("fmnist", "ankle_boot", 0.93, "arXiv 2007.01760v1, Table 3"),
    ("fmnist", "mean", 0.88, "arXiv 2007.01760v1, Table 3"),
    ("cifar10", "frog", 0.96, "arXiv 2007.01760v1, Table 4"),
    ("cifar10", "mean", 0.92, "arXiv 2007.01760v1, Table 4"),
    ("imagenet30", "n04442312", 0.78, "arXiv 2007.01760v1, Table 5"),  # toaster
    ("imagenet30", "mean", 0.91, "arXiv 2007.01760v1, Table 5"),
])
def test_known_numbers(recipe, class_id, auc, source):
    row = published(recipe, class_id)
    assert (row.auc, row.source) == (auc, source)


@pytest.mark.parametrize(("recipe", "methods"), [
    ("fmnist", ["AE", "DSVDD*", "GEO*", "FCDD"]),
    ("cifar10", ["AE*", "DSVDD*", "GEO*", "GEO+*", "Focal*", "GEO+*", "Deep SAD*", "HSC*", "FCDD"]),
    ("imagenet30", ["AE", "Focal*", "GEO+*", "Deep SAD*", "HSC*", "FCDD"])])
def test_every_class_has_all_columns_of_its_table(recipe, methods):
    for class_id in (*RECIPES[recipe].classes, MEAN):
        found = columns(recipe, class_id)
        assert [row.method + "*" * row.from_literature for row in found] == methods
        assert len({row.class_name for row in found}) == 1
        assert len({(row.method, row.supervision) for row in found}) == len(methods)


def test_the_classes_of_imagenet_are_those_of_the_recipe():
    names = {class_id: columns("imagenet30", class_id)[0].class_name for class_id in RECIPES["imagenet30"].classes}
    assert {class_id: name.lower() for class_id, name in names.items()} == {
        class_id: name.lower() for class_id, name in RECIPES["imagenet30"].classes.items()}


@pytest.mark.parametrize(("recipe", "class_id"), [("digits", "3"), ("folder", "screws"), ("fmnist", "hat")])
def test_what_the_paper_does_not_have_is_none(recipe, class_id):
    assert published(recipe, class_id) is None
    assert columns(recipe, class_id) == ()


@pytest.mark.parametrize("recipe", sorted(PROTOCOLS))
def test_protocols_agree_with_the_recipes(recipe):
    nominal = next(iter(RECIPES[recipe].classes))
    assert RECIPES[recipe].experiment(nominal, 0).epochs == PROTOCOLS[recipe].epochs


def test_rows_are_selected_by_every_field():
    assert {row.class_name for row in rows("MVTec-AD", method="FCDD")} >= {"Bottle", "Zipper", MEAN}
    assert [row.auc for row in rows("CIFAR-10", "Bird", "FCDD")] == [0.87]
    assert any(row.from_literature for row in rows("CIFAR-10", "Bird"))


@pytest.mark.parametrize("wrong", [{"dataset": "CIFAR10"}, {"class_name": "birds"}, {"method": "fcdd"}])
def test_an_unknown_name_is_refused(wrong):
    with pytest.raises(BadInput, match="the paper's tables have no"):
        rows(**wrong)


def test_only_the_standard_library_is_loaded():
    code = ("import sys, fcdd_dist.published as p; p.published('fmnist', 'bag'); "
            "sys.exit(any(name in sys.modules for name in ('numpy', 'torch', 'pydantic', 'ray')))")
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
