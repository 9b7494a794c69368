"""Kinds of options that several verbs share."""

from __future__ import annotations

import argparse
import json
import os
import re
from collections.abc import Callable

from ..errors import BadInput
from ..storage import absolute

RECIPES = "digits, fmnist, cifar10, imagenet30 or folder"  # for --help, which should be there before they are imported


def in_job() -> bool:
    """Whether this is the entry point of a submitted Ray job, which runs in a folder of its own."""
    return "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ


def place(text: str) -> str:
    """A URL or a path, made absolute. Raises BadInput for a relative path inside a submitted job."""
    if in_job() and "://" not in text and not os.path.isabs(os.path.expanduser(text)):
        raise BadInput(f"{text!r} is relative, and a submitted job runs in a folder that goes when it ends: give an "
                       f"absolute path")
    return absolute(text)


def whole(least: int) -> Callable[[str], int]:
    """A whole number from ``least``."""

    def read(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is no whole number") from None
        if number < least:
            raise argparse.ArgumentTypeError(f"{number} is less than {least}")
        return number

    return read


def share(text: str) -> float:
    """A number from 0 up to, but not including, 1."""
    try:
        number = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no number") from None
    if not 0 <= number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not at least 0 and below 1")
    return number


def size(text: str) -> int:
    """``50GB``: a number of bytes, at least 1."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kMGT])(i?)B", text.strip(), re.IGNORECASE)
    step = 1024 if found and found[3] else 1000
    number = round(float(found[1]) * step ** (1 + "kmgt".index(found[2].lower()))) if found else 0
    if not number:
        raise argparse.ArgumentTypeError(f"{text!r} is no size: write it like 50GB, 500MB or 1.5TB")
    return number


def add_cache(parser: argparse._ActionsContainer) -> None:
    """``--cache`` and ``--cache-size``."""
    parser.add_argument("--cache", metavar="DIR",
                        help="keep shards of object storage in this folder of each machine, for the next epoch and "
                             "other runs")
    parser.add_argument("--cache-size", metavar="SIZE", type=size, default=None,
                        help="that the folder may grow to; what was used longest ago goes first (default: 50GB)")


def cache_of(options: argparse.Namespace) -> dict[str, str | int]:
    """What the two say, as fields of a job. Raises BadInput where the cache is no folder of this machine."""
    if options.cache is None:
        if options.cache_size is not None:
            raise BadInput("--cache-size goes with --cache DIR: without it nothing is kept")
        return {}
    folder = place(options.cache)
    if "://" in folder:
        raise BadInput(f"--cache {options.cache}: a cache is a folder of this machine")
    return {"cache": folder, **({} if options.cache_size is None else {"cache_bytes": options.cache_size})}


def names(text: str) -> tuple[str, ...]:
    """``A,B``: names between commas."""
    found = tuple(name.strip() for name in text.split(",") if name.strip())
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r} names nothing")
    return found


def add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="write the result to stdout as JSON")


def show(result: dict, lines: list[str], as_json: bool) -> None:
    """The result of a verb, on stdout."""
    print(json.dumps(result, indent=1) if as_json else "\n".join(lines))


def figure(value: float | None, why: str | None = None) -> str:
    """A figure of a result, or why there is none."""
    return f"{value:.4f}" if value is not None else f"none ({why})" if why else "none"


def figures(result: dict) -> list[str]:
    """The lines of a result that people look for first."""
    lines = [f"AUROC              {figure(result['auroc'], result.get('why_null'))}",
             f"average precision  {figure(result['average_precision'])}"]
    kinds = result.get("per_kind") or {}
    if len(kinds) > 1:
        width = max(len(kind["name"]) for kind in kinds.values())
        lines += [f"  against {kind['name']:{width}}  AUROC {figure(kind['auroc'])}  ({kind['images']} images)"
                  for kind in kinds.values()]
    threshold = result.get("threshold")
    if threshold and threshold["value"] is not None:
        lines.append(f"threshold          {threshold['value']:.4g} ({threshold['how']})")
    elif threshold:
        lines.append(f"threshold          none ({threshold['how']})")
    return lines


def warnings(result: dict) -> list[str]:
    """Lines of what a result says against its detector, to come last."""
    from ..evaluation.verdict import doubts_of

    return [f"warning            {doubt.said}" for doubt in doubts_of(result)]
