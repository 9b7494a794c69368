"""Take a run, a sweep, a checkpoint or a data set along: into a folder, verified, and never wrong on the way."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import BadInput, Conflict, Damaged, Fault, Interrupted
from ..storage import FolderStore, absolute
from ..training.progress import duration
from .facts import amount, brief
from .fetch import PART, Fetcher
from .plan import Plan, Source, Which, find, identity, make_plan
from .survey import survey

MARKER = f"{PART[:-1]}.json"  # in the folder while it is being filled: of what
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
        source = find(url)
        _refuse_overlap(source, into)
        total = {"files": 0, "bytes": 0, "fetched": 0, "already": 0}
        what, earlier = _what(source), Plan()
        _refuse_others(into, source, what)
        plan = make_plan(source, into, which)
        _check_names(plan)
        with _marked(into, source, what) as finished:
            for last in (False, True):
                _check_names(plan, blind=(into / MARKER.upper()).exists())
                _fetch(source, into, plan, total, live)
                gone = [unit.vanished for unit in plan.units if unit.vanished]
                if not gone or last:
                    break
                earlier = plan
                say(f"{gone[0]} while it was copied: looking again")
                source = find(url)
                plan = make_plan(source, into, which)
            if _tidy(into, plan, earlier):
                finished()
    except KeyboardInterrupt:
        raise Interrupted(f"stopped: what {into} holds by now stays, and the same command goes on") from None
    left_out = plan.left_out + gone
    for line in left_out:
        say(f"left out: {line}")
    damaged = plan.damaged + [unit.damaged for unit in plan.units if unit.damaged]
    if damaged:
        more = f" (and {len(damaged) - 1} more)" if len(damaged) > 1 else ""
        raise Damaged(f"{damaged[0]}{more}; what does verify is in {into}")
    if not any(unit.complete and unit.outer is None for unit in plan.units):
        raise Fault(f"{(gone or [url])[0]} while it was copied, twice: try again when it is left in peace")
    return {"url": source.store.url, "folder": str(into), "kind": source.kind, **total,
            "seconds": time.monotonic() - began, "left_out": left_out}


def _fetch(source: Source, into: Path, plan: Plan, total: dict[str, int], live: Line) -> None:
    fetcher = Fetcher(source.store, into, plan.units)
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
    except BaseException:
        fetcher.stop(wait=False)
        raise
    fetcher.stop(wait=True)
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


def _what(source: Source) -> str:
    """By which a later pull knows that it goes on with this one."""
    root = source.found.root
    try:
        told = root and identity(root.kind, source.store.read(root.record), fixed=source.fixed)
    except (ValueError, KeyError, TypeError) as error:
        raise Damaged(f"{source.store.url}/{root.record} is damaged: {error}") from None
    return told or source.store.url


@contextmanager
def _marked(into: Path, source: Source, what: str) -> Iterator[Callable[[], None]]:
    """Makes ``into`` this pull's alone, and says so in it until the function that is given is called."""
    into.mkdir(parents=True, exist_ok=True)
    marker = into / MARKER
    with open(marker, "a+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Conflict(f"{into} is being filled by another pull just now: wait for it, or give another folder"
                           ) from None
        file.truncate(0)
        file.write(json.dumps({"what": what, "url": source.store.url}).encode())
        file.flush()
        yield lambda: marker.unlink(missing_ok=True)


def _refuse_others(into: Path, source: Source, what: str) -> None:
    if not into.exists():
        return
    if not into.is_dir():
        raise Conflict(f"{into} is a file: give a folder that is empty or new")
    try:
        told = json.loads((into / MARKER).read_bytes())
        there = told["what"]
    except FileNotFoundError:
        there = None
    except (ValueError, KeyError, TypeError):  # killed before it was written, so before anything else was
        there = what
    if there is not None:
        if there != what:
            raise Conflict(f"{into} holds the beginning of another pull, of {told['url']}: give another folder, or "
                           f"delete this one")
        return
    here = survey(FolderStore(into).list())
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
    """Raises BadInput where the names of objects can't be those of files; ``blind``: to upper and lower case."""
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
                file.target.unlink(missing_ok=True)
    whole = all(unit.complete for unit in plan.units if unit.outer is None)
    if whole:
        for path in into.glob(f"{PART}*"):
            path.unlink()
    return whole


def summary(result: dict) -> list[str]:
    """The lines for a person."""
    seconds, fetched = result["seconds"], result["fetched"]
    lines = [f"{result['kind']} {result['url']}",
             f"is in {result['folder']}: {result['files']:,} files, {amount(result['bytes'])}, verified"]
    if not fetched:
        return [*lines, f"all of it was here already; looked through in {brief(seconds)}"]
    speed = f", {fetched / seconds / 1e6:,.0f} MB/s" if fetched > 1e7 else ""
    here = f"; {amount(already)} were here already" if (already := result["already"]) else ""
    return [*lines, f"{amount(fetched)} fetched in {brief(seconds)}{speed}{here}"]
