"""What the report of a sweep says of its table, as plain sentences and rows; for the page and the Markdown file."""

from __future__ import annotations

from collections.abc import Sequence

from ...published import MEAN, PROTOCOLS, columns
from ..words import number, protocol_rows, signed
from ..words import reading as heatmap_reading
from .facts import Cell, Facts, Row

_SUPERVISION = {"none": "no OE"}
Rows = list[tuple[str, ...]]
ABSENT = ("Class", "Seeds", "What", "Why")  # the head of ``absent``
SHEETS_NOTE = ("Of the first seed that is done: test images evenly spaced in the rank of their scores, each with its "
               "heatmap and the overlay of both. In full size, beside those with the extreme scores, they are in the "
               "heatmaps/ of each run.")


def name(facts: Facts) -> str:
    """The last part of where the sweep is."""
    return facts.url.rstrip("/").rpartition("/")[2] or facts.url


def class_table(facts: Facts) -> tuple[Sequence[str], Rows]:
    """Head and rows: ours, the paper's FCDD, the difference, and every other column of the paper's table.

    The last row has the means where there are several classes.
    """
    recipe, seeds, mean = facts.sweep.recipe, facts.sweep.seeds, facts.table.mean
    known = next((found for row in facts.table.classes if (found := columns(recipe, row.class_id))), ())
    others = [row for row in known if row.method != "FCDD"]
    theirs, ours = (f" after {epochs:,} epochs" for epochs in apart) if (apart := epochs_apart(facts)) else ("", "")
    head = ["Class", f"AUROC, here{ours}", *([f"FCDD, paper{theirs}", "Difference"] if known else []), "Seeds"]
    head += [f"{row.method}{'*' * row.from_literature} ({_SUPERVISION.get(row.supervision, row.supervision)})"
             for row in others]
    head.append("Average precision")

    def published(class_id: str) -> dict[tuple[str, str], float | None]:
        return {(row.method, row.supervision): row.auc for row in columns(recipe, class_id)}

    def line(title: str, ours: str, done: str, difference: float | None, precision: float | None,
             entries: dict[tuple[str, str], float | None]) -> tuple[str, ...]:
        fcdd = next((auc for (method, _), auc in entries.items() if method == "FCDD"), None)
        theirs = [number(fcdd, ".2f"), "-" if difference is None else signed(difference)] if known else []
        return (title, ours, *theirs, done,
                *(number(entries.get((row.method, row.supervision)), ".2f") for row in others), number(precision))

    rows = [line(row.name, spread(row), f"{row.done}" if row.done == seeds else f"{row.done} of {seeds}",
                 row.difference, row.average_precision_mean, published(row.class_id)) for row in facts.table.classes]
    if len(rows) > 1:
        rows.append(line("Mean", number(mean.auroc_mean), "", mean.difference, None,
                         published(MEAN) if mean.published is not None else {}))
    return head, rows


def epochs_apart(facts: Facts) -> tuple[int, int] | None:
    """(the paper's epochs, those here) where they differ and the paper has a number of any of the classes."""
    if all(row.published is None for row in facts.table.classes):
        return None
    theirs, ours = PROTOCOLS[facts.sweep.recipe].epochs, facts.sweep.epochs
    return None if theirs == ours else (theirs, ours)


def table_notes(facts: Facts) -> list[str]:
    """What the columns of the table mean."""
    found = ["AUROC, here: the mean over the seeds that are done, ± the sample standard deviation over them."
             if facts.sweep.seeds > 1 else "AUROC, here: of one training."]
    if apart := epochs_apart(facts):
        found.append(f"Not the paper's schedule: its figures are of {apart[0]:,} epochs, those here of {apart[1]:,}. "
                     f"The difference is of both, detector and schedule.")
    if facts.sweep.recipe in PROTOCOLS:
        sources = {row.source for one in facts.table.classes for row in columns(facts.sweep.recipe, one.class_id)}
        found += [f"All other columns: {', '.join(sorted(sources))}, printed with two decimals and without spread. OE: "
                  "with outlier exposure; no OE: without. A dash: there is none.",
                  "*: copied by the paper's authors from other papers, with other networks, other exposure sets and "
                  "sometimes other test images. FCDD and what has no * they trained themselves."]
    return found


def protocol(facts: Facts) -> list[tuple[str, str, str, bool]]:
    """(aspect, in the paper, here, whether they differ); none where the paper has no table for the recipe."""
    if facts.sweep.recipe not in PROTOCOLS:
        return []
    seeds = facts.sweep.seeds
    return protocol_rows(
        facts.experiment, epochs=facts.sweep.epochs, exposure=_exposure(facts), counts=_counts(facts),
        trainings=(_seeds(seeds), seeds != PROTOCOLS[facts.sweep.recipe].repetitions))


def protocol_here(facts: Facts) -> Rows:
    """(aspect, value) of what was done, for a recipe that the paper has no table of."""
    return [("Epochs", f"{facts.sweep.epochs:,}"), ("Exposure set", _exposure(facts)),
            ("Nominal training images", "a part set aside for threshold and curve"
             if facts.experiment.data.train_on == "train" else "all of the class"),
            ("Trainings", _seeds(facts.sweep.seeds))]


def no_comparison(facts: Facts) -> str:
    return f"The paper has no table for recipe {facts.sweep.recipe}."


def reading(facts: Facts) -> list[str]:
    """How to read the table and the heatmaps, and what they can't say."""
    return [
        "A detector is trained for one class as nominal and tested against all other classes. AUROC is the share of "
        "pairs of a nominal and an anomalous test image in which the anomalous one scores higher: 0.5 is chance, 1 is "
        "perfect. Average precision is of the anomalous images, and chance is their share.",
        "The spread over seeds is that of training again. It says nothing of other test images.",
        *(["The paper prints two decimals and means of five trainings: below half a hundredth there is nothing to "
           "compare."] if facts.sweep.recipe in PROTOCOLS else []),
        *(heatmap_reading(facts.experiment) if facts.sheets else ())]


def absent(facts: Facts) -> Rows:
    """(class, seeds, what is the matter, why) of the trainings that are not done, or have no AUROC."""
    groups: dict[tuple[str, str, str], list[int]] = {}
    for cell in facts.table.cells:
        if cell.state != "done" or cell.auroc is None:
            groups.setdefault((cell.name, *_matter(facts, cell)), []).append(cell.seed)
    return [(name, ", ".join(map(str, seeds)), matter, why) for (name, matter, why), seeds in groups.items()]


def provenance(facts: Facts) -> Rows:
    """(what, value): where the data are, identities, time, versions."""
    sweep, results = facts.sweep, list(facts.results.values())
    rows: Rows = [("Sweep", facts.url), ("Data set", f"{sweep.data} ({sweep.data_id})"),
                  ("Exposure set",
                   f"{sweep.exposure or 'the default one of the data set'} ({sweep.exposure_id or '-'})"),
                  ("Experiment of the first class", facts.experiment.id)]
    seconds = [result.seconds for result in results if result.seconds is not None]
    if seconds:
        rows.append(("Training time, all that are done", f"{sum(seconds):,.1f} s"))
    versions: dict[str, dict[str, None]] = {}
    for result in results:
        for name, version in result.versions.items():
            versions.setdefault(name, {})[version] = None
    return rows + [(name, ", ".join(found)) for name, found in versions.items()]


def spread(row: Row) -> str:
    return number(row.auroc_mean) + ("" if row.auroc_std is None else f" ± {row.auroc_std:.4f}")


def _matter(facts: Facts, cell: Cell) -> tuple[str, str]:
    if cell.state == "done":
        result = facts.results.get(cell.trial)
        return "no AUROC", (result.why_null if result else None) or "no reason recorded"
    after = f", {cell.epochs:,} of {facts.sweep.epochs:,} epochs trained" if cell.epochs else ""
    word = {"failed": "failed", "unfinished": "unfinished", "waiting": "not begun"}[cell.state]
    return word + after, cell.reason or ("no reason recorded" if cell.state == "failed" else "-")


def _exposure(facts: Facts) -> str:
    return facts.sweep.exposure or f"the default one of {facts.sweep.data}"


def _counts(facts: Facts) -> dict[str, int]:
    """Numbers of images that are the same for all that is done."""
    found = [result.counts for result in facts.results.values()]
    return {name: count for name, count in found[0].items() if all(one.get(name) == count for one in found)} \
        if found else {}


def _seeds(seeds: int) -> str:
    return "1, seed 0" if seeds == 1 else f"mean of {seeds}, seeds 0 to {seeds - 1}"
