"""The command line as a whole: argparse, made strict, with errors of one line that name the nearest flag."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import NoReturn

from .. import __version__
from ..errors import BadInput, nearest

_DESCRIPTION = """\
Explainable one-class classification (FCDD): trains a small fully convolutional net on normal images only, with other
images as outlier exposure, and shows for every image where it looks abnormal, and how much.
"""
_EPILOG = """\
a first look, in two minutes and without any data:
  fcdd-dist quickstart

the whole way:
  fcdd-dist shard fmnist --source fashion-mnist --exposure emnist --out data/fmnist
  fcdd-dist train fmnist --data data/fmnist --nominal trouser --storage runs --workers 2
  fcdd-dist report runs/fmnist-trouser-s0-0123abcd
  fcdd-dist explain runs/fmnist-trouser-s0-0123abcd photo.png --out explained

Every verb has its own --help. Results go to stdout (--json for machines), progress to stderr.
Exit code 0: done, 1: failed while running, 2: bad input, 130 or 143: interrupted; the same command goes on.
"""


class Parser(argparse.ArgumentParser):
    """Raises BadInput where argparse would print its usage and exit; knows no abbreviations."""

    def __init__(self, **settings: object) -> None:
        super().__init__(formatter_class=_Formatter, allow_abbrev=False, **settings)

    def error(self, message: str) -> NoReturn:
        raise BadInput(f"{message.removeprefix('argument ')}; see `{self.prog} --help`")

    @property
    def flags(self) -> list[str]:
        return [flag for action in self._actions for flag in action.option_strings]


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """Descriptions as written, options in a column that leaves their text room."""

    def __init__(self, prog: str, **settings: object) -> None:
        super().__init__(prog, max_help_position=26, **settings)


def build() -> tuple[Parser, dict[str, Parser]]:
    """The parser, and those of its verbs."""
    from . import clean, evaluate, explain, ls, pull, quickstart, report, shard, sweep, train

    parser = Parser(prog="fcdd-dist", description=_DESCRIPTION, epilog=_EPILOG)
    parser.add_argument("--version", action="version", version=f"fcdd-dist {__version__}")
    verbs = parser.add_subparsers(metavar="VERB", required=True, parser_class=Parser)
    parsers = {}
    for verb in (quickstart, shard, train, sweep, evaluate, explain, report, pull, ls, clean):
        name = verb.__name__.rpartition(".")[2]
        summary, _, details = (verb.__doc__ or "").partition("\n")
        parsers[name] = verbs.add_parser(name, help=summary[0].lower() + summary[1:].rstrip("."), epilog=verb.EXAMPLES,
                                         description=f"{summary}\n{details.rstrip()}")
        verb.add_options(parsers[name])
        parsers[name].set_defaults(run=verb.run)
    return parser, parsers


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The options of a command; its function is ``run``. Raises BadInput, and SystemExit after help or version."""
    parser, verbs = build()
    if not arguments:
        parser.print_help()
        raise SystemExit(0)
    verb = arguments[0]
    if not verb.startswith("-"):
        if verb not in verbs:
            raise BadInput(f"there is no verb {verb!r}{nearest(verb, verbs)}; there are: {', '.join(verbs)}")
        _refuse_unknown_flags(arguments[1:], verbs[verb])
    else:
        _refuse_unknown_flags(arguments[:1], parser)
    return parser.parse_args(arguments)


def _refuse_unknown_flags(arguments: Sequence[str], parser: Parser) -> None:
    """First of all: argparse would rather complain of a required option that the misspelt one was meant to be."""
    for argument in arguments:
        if argument == "--":
            return
        flag = argument.partition("=")[0]
        if (flag.startswith("--") or parser.prog == "fcdd-dist") and flag not in parser.flags:
            raise BadInput(f"there is no option {flag}{nearest(flag, parser.flags)}; see `{parser.prog} --help`")
