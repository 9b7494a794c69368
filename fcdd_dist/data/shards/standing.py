"""What lies already where a data set is to be written: the very same, another one, or somebody's files."""

from __future__ import annotations

import re

from ...errors import Conflict
from ...storage import Store, exists
from ...storage.lease import CLAIMS, LEASE
from ..manifest import EXPOSURE, MANIFEST, Manifest, load_manifest
from ..sources.folders import printable
from .claim import SHARD, missing
from .plan import Plan
from .unfinished import OURS, PLAN, different, listed

# What a sharding may have left that was killed before it had a plan, or an earlier version.
_LEFT = re.compile(rf"(?:{EXPOSURE}/)?(?:{SHARD.pattern}|{re.escape(LEASE)}|{CLAIMS}\d{{6,}}\.json)|{OURS.pattern}")


def finished(out: Store, plan: Plan) -> Manifest | None:
    """The manifest of the data set in ``out``, where that is what ``plan`` comes to; None where there is none.

    Settings and numbers of images are compared, and the sizes of all shards. Raises Conflict where they differ, or
    where the data set doesn't say what it was made from, and BadInput where its manifest is damaged.
    """
    if not exists(out, MANIFEST):
        return None
    manifest = _same(out, plan)
    if plan.nominal and plan.exposure:
        beside = out.at(EXPOSURE)
        if not exists(beside, MANIFEST):
            raise _taken(out, f"whose exposure set, {beside.url}, is gone")
        _same(beside, plan)
    return manifest


def _same(store: Store, plan: Plan) -> Manifest:
    manifest = load_manifest(store)
    if manifest.made_from is None:
        raise _taken(store, "of an older version, which didn't note what it was made from: so it can't be compared")
    if differing := [f"{name}: {given} given, {there} there"
                     for name, there, given in different(manifest.made_from, plan.made_from)]:
        raise _taken(store, f"made from something else ({listed(differing)})")
    if (lost := missing(store, manifest)) is not None:
        raise _taken(store, f"but its {lost} is gone or has another size")
    return manifest


def _taken(store: Store, why: str) -> Conflict:
    return Conflict(f"{store.url} is a data set already, {why}; choose another place, or delete it first")


def refuse_others(out: Store) -> None:
    """Raises Conflict where a data set would begin among other files: they would be hard to tell apart.

    Hidden files may be there, what killed shardings have left, and the exposure set of the data set to come.
    """
    if exists(out, MANIFEST) or exists(out, PLAN):
        return
    has_exposure = exists(out.at(EXPOSURE), MANIFEST)
    for entry in out.list():
        ours = _LEFT.fullmatch(entry.key) or (has_exposure and entry.key.startswith(f"{EXPOSURE}/"))
        if not ours and not any(part.startswith(".") for part in entry.key.split("/")):
            raise Conflict(f"{out.url} holds other files, such as {printable(entry.key)}: choose another place, or an "
                           f"empty one")
