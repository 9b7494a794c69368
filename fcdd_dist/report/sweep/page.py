"""The report of a sweep as one page of HTML."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from html import escape

from ..drawing import Chart
from ..markup import bullets, document, folded, pairs, picture, section, table, tiles
from ..sections import protocol_section, settings_section
from ..sheets import embedded
from ..style import STYLE, WIDE
from ..words import number, signed
from . import search, words
from .facts import Facts
from .verdict import verdict, warnings

_LONG = 24  # letters of a cell that is broken into lines
# Of a sheet of heatmaps: pixels across at most, which eight columns of small images stay below, and JPEG's quality.
# There are many of them, and the run's own page shows each better.
_WIDTH, _QUALITY = 1200, 60


def page(facts: Facts, classes: Sequence[Chart], fields: Sequence[Chart]) -> str:
    """``classes`` and ``fields``: the charts of the table and of the search."""
    sweep = facts.sweep
    state = "finished" if len(facts.done) == len(facts.table.cells) else "unfinished"
    over = f"FCDD · {sweep.recipe} · {len(sweep.classes):,} classes · {sweep.seeds:,} " \
           f"{'seed' if sweep.seeds == 1 else 'seeds'} · {sweep.epochs:,} epochs · protocol {sweep.protocol} · {state}"
    name = words.name(facts)
    said = "".join(f'<p class="verdict">{escape(line)}</p>' for line in verdict(facts))
    return document(f"{name} · {sweep.recipe} · FCDD", [
        f'<header><p class="over">{escape(over)}</p><h1>{escape(name)}</h1>{said}</header>',
        _tiles(facts),
        *(f'<div class="warn" role="alert">{escape(line)}</div>' for line in warnings(facts)),
        *(f'<p class="note">{escape(line)}</p>' for line in facts.missing),
        _classes(facts),
        *(section(chart.title, f'<div class="chart">{chart.svg}</div>') for chart in classes),
        _protocol(facts),
        _search(facts, fields) if sweep.search else "",
        _sheets(facts),
        _absent(facts),
        section("How to read it", bullets(words.reading(facts))),
        settings_section(facts.experiment),
        folded("Provenance", pairs(words.provenance(facts), path=True))], STYLE + WIDE)


def _tiles(facts: Facts) -> str:
    mean, done = facts.table.mean, f"{len(facts.done):,} of {len(facts.table.cells):,}"
    rows = [("Mean AUROC", number(mean.auroc_mean), f"over {len(facts.table.classes):,} classes")]
    if mean.published is not None:
        below = "" if mean.difference is None else f"difference {signed(mean.difference)}"
        if apart := words.epochs_apart(facts):
            below = "; ".join(part for part in (below, f"after {apart[0]:,} epochs") if part)
        rows.append(("The paper's mean", f"{mean.published:.2f}", below))
    rows.append(("Trainings done", done, f"each of {facts.sweep.epochs:,} epochs"))
    if facts.sweep.search and facts.table.search:
        chosen = facts.selected
        rows.append(("Selected setting", "-" if chosen is None else f"{chosen.number}",
                     f"of {len(facts.table.search.settings):,}, by its {search.figure_name(facts)}"))
    return tiles(rows)


def _classes(facts: Facts) -> str:
    head, rows = words.class_table(facts)
    notes = "".join(f'<p class="note">{escape(line)}</p>' for line in words.table_notes(facts))
    mean = rows[len(facts.table.classes):]
    return section("Classes", _wide(head, rows, mean) + notes)


def _protocol(facts: Facts) -> str:
    rows = words.protocol(facts)
    if rows:
        return protocol_section(rows, "The paper's Appendix B and C.")
    return section("Protocol", pairs(words.protocol_here(facts)) +
                   f'<p class="note">{escape(words.no_comparison(facts))}</p>')


def _search(facts: Facts, fields: Sequence[Chart]) -> str:
    head, rows = search.setting_table(facts)
    said = "".join(f"<p>{escape(line)}</p>" for line in search.account(facts))
    marked = {cells for one, cells in rows if one == facts.selected}
    charts = "".join(f"<section><h2>{escape(chart.title)}</h2>{chart.svg}</section>" for chart in fields)
    return (section("Search", said + (_wide(head, [cells for _, cells in rows], marked) if rows else ""))
            + (f'<div class="grid charts">{charts}</div>' if charts else ""))


def _sheets(facts: Facts) -> str:
    found = []
    for row in facts.table.classes:
        if row.class_id in facts.sheets:
            cell, _, data = facts.sheets[row.class_id]
            title = f"{row.name}, seed {cell.seed}"
            jpeg, size = embedded(data, _WIDTH, _QUALITY)
            found.append(f"<details{'' if found else ' open'}><summary>{escape(title)} <small>AUROC "
                         f"{number(cell.auroc)}</small></summary>"
                         f"{picture(jpeg, size, f'Heatmaps of test images, {title}', '')}</details>")
    note = f'<p class="note">{escape(words.SHEETS_NOTE)}</p>'
    return section("Heatmaps", f'<div class="folds">{"".join(found)}</div>{note}') if found else ""


def _absent(facts: Facts) -> str:
    rows, lost = words.absent(facts), search.failures(facts) if facts.sweep.search else []
    found = _wide(words.ABSENT, rows) if rows else ""
    found += ("<p>Trainings of the search:</p>" + _wide(search.FAILED, lost)) if lost else ""
    return section("What is missing", found) if found else ""


def _wide(head: Sequence[str], rows: Sequence[Sequence[str]], marked: Collection = ()) -> str:
    """A table that scrolls in its own box, its first column standing; ``marked`` rows stand out."""
    lines = []
    for row in rows:
        cells = "".join(f'<td{" class=long" if len(cell) > _LONG else ""}>{escape(cell)}</td>' for cell in row[1:])
        lines.append(f'<tr{" class=marked" if row in marked else ""}><th scope="row">{escape(row[0])}</th>{cells}</tr>')
    return f'<div class="wide">{table(head, lines)}</div>'
