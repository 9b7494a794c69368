"""The 1,000 classes of ILSVRC2012 (ImageNet-1k): WordNet ids and names, from the text file beside this one."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.resources import files

from ..errors import Damaged

FILE = "imagenet1k.txt"
SHA256 = "7b23e3e648bd3533e5ea66c90eca89cf01b99d159785d7ed0828bae673cc98a4"


@cache
def names() -> dict[str, str]:
    """WordNet id -> name, in the order of the ids, which is that of the usual indices 0 to 999.

    Raises Damaged where the file is not the one that came with this version.
    """
    try:
        data = files(__package__).joinpath(FILE).read_bytes()
    except OSError as error:
        raise Damaged(f"{FILE} of fcdd_dist can't be read: {error.strerror}; install fcdd_dist again") from None
    if hashlib.sha256(data).hexdigest() != SHA256:
        raise Damaged(f"{FILE} of fcdd_dist was altered (its SHA-256 sum differs); install fcdd_dist again")
    lines = (line for line in data.decode().splitlines() if not line.startswith("#"))
    return dict(line.split("\t") for line in lines)
