"""A search space: for fields of an experiment, the values that are to be tried.

A space maps the dotted path of a field to an ``Axis``. In JSON and TOML an axis has one key, its kind:

    {"grid": [VALUE, ...]}            every value, in all combinations with the other grids
    {"choice": [VALUE, ...]}          one of the values, drawn
    {"uniform": [LOW, HIGH]}          a number of the range, drawn
    {"loguniform": [LOW, HIGH]}       the same, uniform in its logarithm

A VALUE is any JSON value that the field takes, such as a whole ``schedule``. Where the field takes whole numbers alone,
so does the axis (``batch_size``); other numbers are rounded to four digits, which people can read and type.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal, get_args

import numpy as np
from pydantic import BaseModel, model_serializer, model_validator

from .. import chance
from ..errors import nearest
from ..experiment import Experiment, Value

Kind = Literal["grid", "choice", "uniform", "loguniform"]
Settings = dict[str, Any]  # a value for each path of a space
KINDS: tuple[str, ...] = get_args(Kind)
MOST_VALUES = 1000  # of an axis


class Axis(Value):
    """What is tried for one field. ``values``: those of a grid or a choice, or (low, high) of a range."""

    kind: Kind
    values: tuple[Any, ...]

    @property
    def is_range(self) -> bool:
        return self.kind in ("uniform", "loguniform")

    @model_validator(mode="before")
    @classmethod
    def _read(cls, tree: Any) -> Any:
        if isinstance(tree, cls):
            return tree
        if not isinstance(tree, dict) or len(tree) != 1:
            raise ValueError('an axis has one key, its kind, for example {"grid": [0.1, 0.01]}')
        (kind, values), = tree.items()
        if kind not in KINDS:
            raise ValueError(f"there is no kind of axis {kind!r}{nearest(kind, KINDS)}; there are: {', '.join(KINDS)}")
        if not isinstance(values, list | tuple):
            raise ValueError(f"a {kind} takes a list, not {values!r}")
        return {"kind": kind, "values": tuple(values)}

    @model_validator(mode="after")
    def _is_sound(self) -> Axis:
        (_check_range if self.is_range else _check_list)(self.kind, self.values)
        return self

    @model_serializer
    def _as_written(self) -> dict[str, list[Any]]:
        return {self.kind: list(self.values)}


Space = Mapping[str, Axis]


def is_grid(space: Space) -> bool:
    """Whether nothing is drawn, so that a number of samples would mean nothing."""
    return all(axis.kind == "grid" for axis in space.values())


def count(space: Space, samples: int) -> int:
    """How many settings ``draw`` gives, before equal ones are left out."""
    return samples * math.prod(len(axis.values) for axis in space.values() if axis.kind == "grid")


def draw(space: Space, samples: int, seed: int) -> tuple[Settings, ...]:
    """The settings to be tried: ``samples`` draws, each with every point of the grids. Equal ones appear once.

    More samples begin with the same settings. The draws are spread out: see ``places``. The last grid changes quickest.
    A space of grids alone gives their product, whatever ``samples`` is.
    """
    grids = {path: axis.values for path, axis in space.items() if axis.kind == "grid"}
    draws = {path: places(samples, space[path].is_range, "search", seed, path) for path in space if path not in grids}
    found: list[Settings] = []
    for sample in range(samples):
        drawn = {path: place(path, space[path], float(there[sample])) for path, there in draws.items()}
        for point in itertools.product(*grids.values()):
            values = drawn | dict(zip(grids, point, strict=True))
            found.append({path: values[path] for path in space})
    return distinct(found)


def places(samples: int, inside: bool, *key: chance.Key) -> np.ndarray:
    """Where ``samples`` draws lie on an axis: float64 in [0, 1), shape (samples,), of chance, and yet spread out.

    The first 2 ** k of them have one in each 2 ** k-th part of the axis. For that the parts are halved again and again,
    and each time the empty halves get one each, in an order of chance: so the first are the same for any number, and
    several axes, of different keys, together make a Latin hypercube at each power of two (McKay et al., "A Comparison
    of Three Methods for Selecting Values of Input Variables", 1979). ``inside``: in the middle half of their part, so
    that few draws don't lie at the very ends of a range.
    """
    found, parts = np.empty(0), 1
    while found.size < samples:
        empty = np.setdiff1d(np.arange(parts), (found * parts).astype(np.int64))
        within = chance.uniforms(empty.size, *key, "within", parts)
        within = 0.25 + within / 2 if inside else within
        found = np.append(found, (empty[chance.permutation(empty.size, *key, "order", parts)] + within) / parts)
        parts *= 2
    return found[:samples]


def place(path: str, axis: Axis, u: float) -> Any:
    """The value at ``u`` in [0, 1] of the axis of the field ``path``: the inverse of its distribution function."""
    if not axis.is_range:
        return axis.values[min(int(u * len(axis.values)), len(axis.values) - 1)]
    low, high = axis.values
    whole = not _takes_fractions(path, Experiment)
    end = high + 1 if whole else high  # each whole number stands for the unit that begins with it
    x = low ** (1 - u) * end ** u if axis.kind == "loguniform" else low * (1 - u) + end * u
    return min(max(math.floor(x), low), high) if whole else float(min(max(float(f"{x:.4g}"), low), high))


def distinct(settings: Iterable[Settings]) -> tuple[Settings, ...]:
    """Without those that came before."""
    found: dict[str, Settings] = {}
    for one in settings:
        found.setdefault(json.dumps(one, sort_keys=True), one)
    return tuple(found.values())


def shown(settings: Settings) -> str:
    """For a person: ``optimizer.lr=0.01, network.bias=true``."""
    return ", ".join(f"{path}={json.dumps(value)}" for path, value in settings.items())


def _check_list(kind: str, values: tuple[Any, ...]) -> None:
    if not values:
        raise ValueError(f"the {kind} is empty")
    if len(values) > MOST_VALUES:
        raise ValueError(f"the {kind} has {len(values):,} values: write at most {MOST_VALUES:,}, or a range")
    for number, value in enumerate(values):
        try:
            text = json.dumps(value, allow_nan=False)
        except (TypeError, ValueError):
            raise ValueError(f"the {kind} has {value!r}, which is no JSON value") from None
        if value in values[:number]:
            raise ValueError(f"the {kind} has {text} twice")


def _check_range(kind: str, ends: tuple[Any, ...]) -> None:
    # Finite ones: no comparison holds for NaN.
    if len(ends) != 2 or not all(type(end) in (int, float) and -1e300 < end < 1e300 for end in ends):
        raise ValueError(f"a {kind} takes two numbers, [low, high], not {json.dumps(ends, default=str)}")
    low, high = ends
    if low >= high:
        raise ValueError(f"the range goes from {low:g} to {high:g}: write [low, high]")
    if kind == "loguniform" and low <= 0:
        raise ValueError(f"the range begins at {low:g}, which has no logarithm: begin above 0")


def _takes_fractions(path: str, model: type[BaseModel]) -> bool:
    """Whether the field takes numbers that are not whole, in any of the forms that it may have."""
    name, _, rest = path.partition(".")
    forms = list(_forms(model.model_fields[name].annotation))
    if not rest:
        return float in forms
    return any(_takes_fractions(rest, form) for form in forms if isinstance(form, type) and issubclass(form, BaseModel)
               and rest.partition(".")[0] in form.model_fields)


def _forms(annotation: Any) -> Iterator[Any]:
    """What a union is of, and what is within other types that have arguments."""
    if not (arguments := get_args(annotation)):
        yield annotation
    for argument in arguments:
        yield from _forms(argument)
