"""Take a run, a sweep, a checkpoint or a data set along: into a folder, verified, and never wrong on the way."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

from ..errors import BadInput, Conflict, Damaged, Fault, Interrupted, NotFound
from ..storage import FolderStore, absolute
from ..storage.lease import CLAIMS, LEASE
from ..words import amount, duration
from .facts import brief, shown
from .fetch import Fetcher
from .marker import MARKER, PART, Marker, told
from .plan import Plan, Source, Which, find, identity, make_plan
from .survey import survey
from .unit import telling

_LONGEST_NAME = 255  # bytes, of most file systems
_RECENT_S = 5.0  # by which the speed is reckoned
Line = Callable[[str], None]


def pull(url: str, folder: str, *, which: Which = "all", say: Line = lambda line: None,
         live: Line = lambda line: None) -> dict:
    """Copies what ``url`` means into ``folder``; what was pulled, as a dictionary.

    What is there already and verifies is not fetched again, and what was broken off goes on. Raises BadInput where
    there is nothing to pull, Conflict where ``folder`` holds something else, Damaged (after all the rest was pulled)
    where something does not verify, and Interrupted.
    """
    began, into = time.monotonic(), Path(absolute(folder))
    try:
        source, plan = _look(url, into, which)
        total, earlier = {"files": 0, "bytes": 0, "fetched": 0, "already": 0}, Plan()
        what = _what(source, into, plan)
        _refuse_others(into, source, what)
        _check_names(plan)
        with Marker(into, what, source.store.url) as marker:
            for last in (False, True):
                _check_names(plan, blind=(into / MARKER.upper()).exists())
                _fetch(Fetcher(source.store, into, plan.units, marker), plan, total, live)
                gone = [unit.vanished for unit in plan.units if unit.vanished]
                if not gone or last:
                    break
                earlier = plan
                say(shown(f"{gone[0]} while it was copied: looking again"))
                source, plan = _look(url, into, which)
            if _tidy(into, plan, earlier):
                marker.remove()
    except KeyboardInterrupt:
        raise Interrupted(f"stopped: what {into} holds by now stays, and the same command goes on") from None
    left_out = plan.left_out + gone
    for line in left_out:
        say(shown(f"left out: {line}"))
    damaged = plan.damaged + [unit.damaged for unit in plan.units if unit.damaged]
    if damaged:
        more = f" (and {len(damaged) - 1} more)" if len(damaged) > 1 else ""
        raise Damaged(f"{damaged[0]}{more}; what does verify is in {into}")
    if not any(unit.complete and unit.outer is None for unit in plan.units):
        raise Fault(f"{gone[0]} while it was copied, twice: try again when it is left in peace")
    return {"url": source.store.url, "folder": str(into), "kind": source.kind, **total,
            "seconds": time.monotonic() - began, "left_out": left_out}


def _look(url: str, into: Path, which: Which) -> tuple[Source, Plan]:
    """What is to be pulled. Where it goes while it is looked at, as retention makes it, it is looked for once more."""
    source = find(url)
    _refuse_overlap(source, into)
    try:
        plan = make_plan(source, into, which)
    except NotFound:
        plan = Plan()
    if not (plan.units or plan.damaged):
        source = find(url)
        plan = make_plan(source, into, which)
    if not (plan.units or plan.damaged):
        raise NotFound(plan.left_out[0] if plan.left_out else f"{url} went while it was looked at, twice: try again "
                                                              f"when it is left in peace")
    return source, plan


def _fetch(fetcher: Fetcher, plan: Plan, total: dict[str, int], live: Line) -> None:
    files = sum(len(unit.files) + len(unit.records) for unit in plan.units)
    size = sum(file.entry.size for unit in plan.units for file in unit.files) + sum(
        len(data) for unit in plan.units for _, data in unit.records)
    recent = deque([(time.monotonic(), 0)])
    fetcher.start()
    try:
        while not fetcher.wait(0.2):
            now = time.monotonic()
            recent.append((now, fetcher.fetched))
            while now - recent[0][0] > _RECENT_S and len(recent) > 2:
                recent.popleft()
            live(_progress(fetcher, files, size, (fetcher.fetched - recent[0][1]) / (now - recent[0][0])))
    finally:
        fetcher.stop()
    if fetcher.error is not None:
        raise fetcher.error
    live(_progress(fetcher, files, size, None))
    total.update(files=fetcher.files, bytes=fetcher.bytes, fetched=total["fetched"] + fetcher.fetched,
                 already=total["already"] or fetcher.already)


def _progress(fetcher: Fetcher, files: int, size: int, speed: float | None) -> str:
    line = f"{fetcher.files:,} of {files:,} files  {fetcher.bytes / 1e6:,.1f} of {size / 1e6:,.1f} MB"
    if speed:
        line += f"  {speed / 1e6:,.1f} MB/s  {duration((size - fetcher.bytes) / speed)} left"
    return line


def _what(source: Source, into: Path, plan: Plan) -> str:
    """By which a later pull knows that it goes on with this one."""
    root = source.found.root
    record = next((unit.records[-1][1] for unit in plan.units if root and unit.folder == into), None)
    return (record and identity(root.kind, record, fixed=source.fixed)) or source.store.url


def _refuse_others(into: Path, source: Source, what: str) -> None:
    if not into.exists():
        return
    if not into.is_dir():
        raise Conflict(f"{into} is a file: give a folder that is empty or new")
    here = survey(FolderStore(into).list())
    for place in here.all():
        for key in place.live:
            if key == LEASE or key.startswith(CLAIMS):  # which is never copied
                raise Conflict(f"{into} holds a {place.kind} that was made there and is no copy ({place.prefix}{key}): "
                               f"give another folder")
    if (there := told(into)) is not None:
        if there.get("what", what) != what:
            raise Conflict(f"{into} holds the beginning of another pull, of {there['url']}: give another folder, or "
                           f"delete this one")
        return
    root = source.found.root
    if root is not None and here.root is not None and here.root.kind == root.kind:
        return  # the same or another: told when the records are read
    ours = {place.prefix for place in source.found.places}
    others = [entry.key for entry in here.others] + [
        place.name for place in here.places if root is not None or place.prefix not in ours]
    if others:
        raise Conflict(f"{into} holds other files, such as {others[0]!r}: give a folder that is empty or new")


def _refuse_overlap(source: Source, into: Path) -> None:
    if isinstance(source.store, FolderStore):
        there, here = source.store.root.resolve(), into.resolve()
        if there == here or there in here.parents or here in there.parents:
            raise BadInput(f"{into} and {source.store.url} lie within each other: give a folder elsewhere")


def _check_names(plan: Plan, blind: bool = False) -> None:
    """Raises BadInput where the names of objects can't be those of files; ``blind``: to upper and lower case.

    Raises Conflict where a folder has the place of a file, or a file that of a folder.
    """
    targets = [file.target for unit in plan.units for file in unit.files] + [
        unit.folder / name for unit in plan.units for name, _ in unit.records]
    seen: dict[str, Path] = {}
    for target in targets:
        name = str(target).casefold() if blind else str(target)
        if name in seen:
            raise BadInput(f"{seen[name]} and {target} would be one file on this file system: give a folder elsewhere")
        seen[name] = target
        if any(len(os.fsencode(part)) > _LONGEST_NAME for part in target.parts):
            raise BadInput(f"{str(target)[:100]}... is too long a name for a file")
        if target.is_dir():
            raise Conflict(f"{target} is a folder, and a file belongs there: remove it, or give another folder")
    for parent in {target.parent for target in targets}:
        if parent.is_file():
            raise Conflict(f"{parent} is a file, and a folder belongs there: remove it, or give another folder")
    for target in targets:
        for parent in target.parents:
            name = str(parent).casefold() if blind else str(parent)
            if name in seen:
                raise BadInput(f"{parent} is an object and has objects below it, which no folder can hold")


def _tidy(into: Path, plan: Plan, earlier: Plan) -> bool:
    """Removes parts that nothing will go on from, and files of what vanished before it was whole.

    Whether what is in the folder tells by itself what it is.
    """
    for unit in earlier.units + plan.units:
        if unit.vanished and not (unit.folder / unit.records[-1][0]).exists():
            for file in unit.files:
                with telling(file.target):
                    file.target.unlink(missing_ok=True)
    whole = all(unit.complete for unit in plan.units if unit.outer is None)
    if whole:
        for path in into.glob(f"{PART}*"):
            with telling(path):
                path.unlink()
    return whole


def summary(result: dict) -> list[str]:
    """The lines for a person."""
    seconds, fetched = result["seconds"], result["fetched"]
    lines = [shown(f"{result['kind']} {result['url']}"),
             f"is in {shown(result['folder'])}: {result['files']:,} files, {amount(result['bytes'])}, verified"]
    if not fetched:
        return [*lines, f"all of it was here already; looked through in {brief(seconds)}"]
    speed = f", {fetched / seconds / 1e6:,.0f} MB/s" if fetched > 1e7 else ""
    here = f"; {amount(already)} were here already" if (already := result["already"]) else ""
    return [*lines, f"{amount(fetched)} fetched in {brief(seconds)}{speed}{here}"]
