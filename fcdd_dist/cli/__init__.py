"""``fcdd-dist``: parses strictly, makes paths absolute, builds the values, makes one call. A file a verb.

Results go to stdout, everything else to stderr. Exit code 0: done; 1: failed while running; 2: bad input; 130 or 143:
interrupted, with everything committed.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from ..errors import FcddError, Interrupted
from ..storage import abandon
from .parser import parse

PROGRAM = "fcdd-dist"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command, by default that of ``sys.argv``, and returns its exit code.

    Errors of ours become one line; others keep their traceback.
    """
    abandon(False)
    try:
        options = parse(sys.argv[1:] if arguments is None else list(arguments))
        return options.run(options)
    except FcddError as error:
        abandon(isinstance(error, Interrupted))  # threads that wait for storage would keep the process
        kind = "" if isinstance(error, Interrupted) else "error: "
        print(f"{PROGRAM}: {kind}{' '.join(str(error).split())}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        if isinstance(error, BrokenPipeError):  # who read our results has had enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 1
        print(f"{PROGRAM}: error: {error.filename or 'the machine'}: {error.strerror or error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        abandon()
        print(f"{PROGRAM}: interrupted", file=sys.stderr)
        return 130
