"""What a sweep came to, in plain sentences."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..run.words import doubts
from ..words import listed, signed
from .facts import Facts, Row

_SHOWN = 6  # of what may be many


def verdict(facts: Facts) -> list[str]:
    """What came out, what of it is missing, and why."""
    said = [_standing(facts)]
    mean, rows = facts.table.mean, facts.table.classes
    if len(rows) > 1:
        if mean.auroc_mean is not None:
            beside = "" if mean.published is None else _beside(mean.auroc_mean - mean.published, mean.published)
            said.append(f"The mean AUROC over {len(rows):,} classes is {mean.auroc_mean:.4f}{beside}.")
        elif facts.done:
            without = [row.name for row in rows if row.auroc_mean is None]
            said.append(f"There is no mean over the classes yet: {_some(without)} {_have(without)} no test score.")
        said += _compared(rows)
    else:
        said += [f"The AUROC of {row.name} is {row.auroc_mean:.4f}"
                 f"{'' if row.difference is None else _beside(row.difference, row.published)}."
                 for row in rows if row.auroc_mean is not None]
    failed = [cell for cell in facts.table.cells if cell.state == "failed"]
    if failed:
        said.append("Failed: " + "; ".join(f"{cell.name}, seed {cell.seed} ({cell.reason or 'no reason recorded'})"
                                           for cell in failed[:3])
                    + (f"; and {len(failed) - 3:,} more, named below." if failed[3:] else "."))
    return said


def warnings(facts: Facts) -> list[str]:
    """What a reader must know before using one of the detectors."""
    found = [f"{cell.name}, seed {cell.seed}: {doubt}" for cell in facts.done
             if cell.trial in facts.results for doubt in doubts(facts.results[cell.trial])]
    more = [f"{len(found) - _SHOWN:,} more such warnings are in the reports of the runs."] if found[_SHOWN:] else []
    return found[:_SHOWN] + more


def _standing(facts: Facts) -> str:
    cells, seeds = facts.table.cells, facts.sweep.seeds
    of = f"{_count(len(facts.table.classes), 'class', 'classes')}, {_count(seeds, 'seed', 'seeds')} each"
    if len(facts.done) == len(cells):
        return f"All {len(cells):,} trainings are done: {of}." if len(cells) > 1 else "The training is done."
    counts = {state: sum(cell.state == state for cell in cells) for state in ("failed", "unfinished", "waiting")}
    rest = [f"{count:,} {word}" for count, word in ((counts["failed"], "failed"), (counts["unfinished"], "unfinished"),
                                                   (counts["waiting"], "not begun")) if count]
    said = f"{len(facts.done):,} of {len(cells):,} trainings are done ({of}): {', '.join(rest)}."
    if facts.sweep.search and facts.selected is None:
        said += " The search has not selected a setting yet, and only what it selects is tested."
    return f"{said} The same command goes on from there."


def _compared(rows: Iterable[Row]) -> list[str]:
    """Which classes are above and below the paper, the largest differences first."""
    known = [(row.name, row.difference) for row in rows if row.difference is not None]
    same = [who for who, by in known if signed(by) == "+0.00"]
    said = []
    for name, sign in (("Above the paper", 1), ("Below the paper", -1)):
        side = [(who, by) for who, by in known if who not in same and sign * by > 0]
        side.sort(key=lambda one: -abs(one[1]))
        said += [f"{name}: {_some([f'{who} ({signed(by)})' for who, by in side])}."] if side else []
    return said + ([f"The same to two decimals: {_some(same)}."] if same else [])


def _beside(difference: float, theirs: float) -> str:
    if signed(difference) == "+0.00":
        return f", the same to two decimals as the paper's {theirs:.2f}"
    return f", {abs(difference):.2f} {'above' if difference > 0 else 'below'} the paper's {theirs:.2f}"


def _count(count: int, one: str, many: str) -> str:
    return f"{count:,} {one if count == 1 else many}"


def _some(names: Sequence[str]) -> str:
    more = len(names) - _SHOWN
    return listed(names if more <= 1 else [*names[:_SHOWN], f"{more:,} more"])


def _have(names: Sequence[str]) -> str:
    return "has" if len(names) == 1 else "have"
