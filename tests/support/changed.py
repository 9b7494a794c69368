"""Copies of documents with one thing changed, for tests that see a check complain."""

import copy
from typing import Any

GONE = object()


def changed(document: Any, path: str, value: Any) -> Any:
    """A copy with ``value`` at ``path``, whose keys and indices stand apart by spaces; GONE takes it away."""
    made = copy.deepcopy(document)
    *above, last = (int(key) if key.isdigit() else key for key in path.split(" "))
    place = made
    for key in above:
        place = place[key]
    if value is GONE:
        del place[last]
    else:
        place[last] = value
    return made
