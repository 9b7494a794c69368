"""The house: a module imports only from lower floors and from its own room."""

import ast
import functools
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "fcdd_dist"

FLOORS = [  # rooms on one floor do not see each other
    {"errors", "chance", "world", "threads", "words", "experiment"},
    {"recipes", "published", "storage"},
    {"data"},
    {"model"},
    {"checkpoint"},
    {"detector", "stream"},
    {"training", "evaluation"},
    {"run"},
    {"sweep"},
    {"report"},
    {"cluster", "inventory"},
    {"cli"},
]
# experiment, world and chance may use errors, which uses nothing.
WITHIN_FLOOR_0 = {"errors": set(), "chance": set(), "world": {"errors"}, "experiment": {"errors"}}
ONLY_IN = {"ray": {"cluster"}, "torch": {"data", "model", "checkpoint", "detector", "stream", "training", "evaluation",
                                         "run", "report", "cluster"},
           "pickle": set(), "shelve": set(), "marshal": set(), "dill": set()}


def room(path: Path) -> str:
    relative = path.relative_to(PACKAGE)
    return relative.parts[0].removesuffix(".py")


def floor(name: str) -> int:
    for number, rooms in enumerate(FLOORS):
        if name in rooms:
            return number
    raise AssertionError(f"{name} stands on no floor: give it one in FLOORS")


@functools.cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def imports(path: Path):
    """(line, module, is ours) of every import, wherever it stands in the file."""
    package = ["fcdd_dist", *path.relative_to(PACKAGE).parent.parts]
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            if module == "fcdd_dist":
                for alias in node.names:
                    yield node.lineno, f"fcdd_dist.{alias.name}"
            else:
                yield node.lineno, module


MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path.parent != PACKAGE or path.name != "__init__.py")


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_imports_only_from_lower_floors_and_its_own_room(path):
    here = room(path)
    for line, module in imports(path):
        if module.startswith("fcdd_dist."):
            there = module.split(".")[1]
            if there == "__version__" or there == here:
                continue
            allowed = floor(there) < floor(here) or there in WITHIN_FLOOR_0.get(here, set())
            assert allowed, f"{path.relative_to(ROOT)}:{line}: {here} (floor {floor(here)}) imports {module}"
        else:
            top = module.split(".")[0]
            where = f"{path.relative_to(ROOT)}:{line}"
            assert top not in ONLY_IN or here in ONLY_IN[top], f"{where}: {here} imports {module}"


def test_nothing_is_swallowed():
    for path in MODULES:
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.ExceptHandler):
                where = f"{path.relative_to(ROOT)}:{node.lineno}"
                assert node.type is not None, f"{where}: a bare except"
                broad = isinstance(node.type, ast.Name) and node.type.id in ("Exception", "BaseException")
                assert not broad or not all(isinstance(n, ast.Pass | ast.Continue) for n in node.body), (
                    f"{where}: swallows every exception")


def test_importing_the_package_and_asking_for_help_loads_nothing_heavy():
    code = ("import sys, fcdd_dist, fcdd_dist.recipes, fcdd_dist.run.job, fcdd_dist.cli; "
            "print([m for m in ('torch', 'ray', 'torchvision', 'matplotlib', 'sklearn', 'webdataset', 'PIL') "
            "if m in sys.modules])")
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert out.stdout.strip() == "[]"


def test_the_public_face_is_sorted_and_complete():
    import fcdd_dist

    assert fcdd_dist.__all__ == sorted(fcdd_dist.__all__)
    for name in fcdd_dist.__all__:
        assert getattr(fcdd_dist, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = fcdd_dist.Nothing


def test_top_level_is_what_the_design_says():
    tracked = subprocess.run(["git", "ls-files"], capture_output=True, text=True, check=True, cwd=ROOT).stdout
    tops = {name.split("/")[0] for name in tracked.splitlines()}
    assert tops <= {"fcdd_dist", "jobs", "infra", "tests", "docs", ".ci", "pyproject.toml", "README.md", "LICENSE",
                    ".gitignore", ".rayignore"}
