"""Search spaces by name, and those in files of the user's own."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ..errors import BadInput, NotFound, nearest
from ..experiment import explain
from .space import Axis


@dataclass(frozen=True)
class NamedSpace:
    """One that comes along. ``axes``: by path, as in a file. Every recipe can take what it gives."""

    summary: str
    axes: dict[str, dict[str, list[Any]]]


SPACES: dict[str, NamedSpace] = {
    "optimizer": NamedSpace("learning rate and weight decay, drawn", {
        "optimizer.lr": {"loguniform": [1e-4, 0.1]},
        "optimizer.weight_decay": {"loguniform": [1e-7, 1e-3]}}),
    "learning-rate": NamedSpace("learning rates, about threefold apart", {
        "optimizer.lr": {"grid": [1e-4, 3e-4, 1e-3, 3e-3, 0.01, 0.03]}}),
    "batch-norm": NamedSpace("biases and affine batch norm, of which the paper's counts of weights have none", {
        "network.bias": {"grid": [True, False]},
        "network.affine": {"grid": [True, False]}}),
    "augmentation": NamedSpace("strength of colour jitter, flips, and noise, drawn", {
        "augmentation.jitter": {"choice": [[], [[0.01, 0.01, 0.01, 0.01]], [[0.04, 0.04, 0.04, 0.04]]]},
        "augmentation.flip": {"choice": [0.0, 0.5]},
        "augmentation.noise": {"choice": [None, {"std": 0.001}, {"std": 0.01}, {"std": 0.05}]}}),
    "exposure": NamedSpace("how often outlier exposure replaces nominal images, and from how many of its images", {
        "exposure.probability": {"grid": [0.25, 0.5, 0.75]},
        "exposure.limit": {"grid": [10, 100, 1000, None]}}),
}


def read_space(text: str) -> dict[str, Axis]:
    """The space of a name in ``SPACES``, or of a .json or .toml file. Raises BadInput in one line.

    In a file paths may be written as keys, ``"optimizer.lr"``, or as tables within tables, ``[optimizer]``.
    """
    if text in SPACES:
        return _axes(SPACES[text].axes, text)
    suffix = Path(text).suffix
    if suffix not in (".json", ".toml"):
        raise BadInput(f"there is no search space {text!r}{nearest(text, SPACES)}; there are: {', '.join(SPACES)}; or "
                       f"give a .json or .toml file")
    try:
        content = Path(text).read_bytes().decode()
    except FileNotFoundError:
        raise NotFound(f"there is no file {text}, which should have a search space") from None
    except OSError as error:
        raise BadInput(f"{text} can't be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise BadInput(f"{text} is damaged: it is not UTF-8 text") from None
    try:
        return _axes(_parse(content, suffix, text), text)
    except RecursionError:
        raise BadInput(f"{text} is no search space: it is nested too deeply") from None


def _parse(content: str, suffix: str, where: str) -> Any:
    try:
        if suffix == ".toml":
            return tomllib.loads(content)
        return json.loads(content, object_pairs_hook=lambda pairs: _once(pairs, where))
    except json.JSONDecodeError as error:
        raise BadInput(f"{where} is damaged: line {error.lineno}, column {error.colno}: {error.msg}") from None
    except tomllib.TOMLDecodeError as error:  # its text says the line
        raise BadInput(f"{where} is damaged: {error}") from None
    except ValueError:  # of Python's own limit, which is there since reading them takes so long
        raise BadInput(f"{where} is no search space: it has a whole number of thousands of digits") from None


def _once(pairs: list[tuple[str, Any]], where: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise BadInput(f"{where} has {key} twice: write it once")
        found[key] = value
    return found


def _axes(tree: Any, where: str) -> dict[str, Axis]:
    if not isinstance(tree, dict):
        raise BadInput(f'{where} is no search space: write axes by their paths, for example '
                       f'{{"optimizer.lr": {{"grid": [0.1, 0.01]}}}}')
    axes: dict[str, Axis] = {}
    for path, axis in _flat(tree):
        if path in axes:
            raise BadInput(f"{where} has {path} twice: write it once")
        try:
            axes[path] = Axis.model_validate(axis)
        except ValidationError as error:
            raise BadInput(f"{where}: {path}: {explain(error, Axis)}") from None
    if not axes:
        raise BadInput(f"{where} is an empty search space: there is nothing to choose from")
    return axes


def _flat(tree: dict[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Axes by their paths. A table of nothing but tables is a part of a path."""
    for key, value in tree.items():
        if isinstance(value, dict) and value and all(isinstance(inner, dict) for inner in value.values()):
            yield from _flat(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value
