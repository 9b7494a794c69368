"""A run's report as one page of HTML that needs nothing else: no script, no font, no file beside it."""

from __future__ import annotations

import base64
import struct
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import PurePosixPath

from ...evaluation.figures import SHEETS
from ..style import STYLE
from . import words
from .charts import Chart
from .facts import Facts
from .words import Comparison, number, percent

EMBEDDED = 12  # pictures in the page; more of them are named


def heatmap_title(key: str) -> str:
    stem = PurePosixPath(key).stem
    return SHEETS.get(stem, stem.replace("-", " ").replace("_", " "))


def page(facts: Facts, charts: Sequence[Chart]) -> str:
    experiment, compared = facts.experiment, words.comparison(facts)
    state = "finished" if facts.result and facts.epochs >= experiment.epochs else "unfinished"
    over = f"FCDD · {experiment.data.recipe} · seed {experiment.seed} · {facts.epochs:,} epochs · {state}"
    body = [
        f'<header><p class="over">{escape(over)}</p><h1>{escape(facts.record.class_name)}</h1>'
        f'<p class="verdict">{escape(words.verdict(facts))}</p></header>',
        _tiles(facts, compared),
        *(f'<div class="warn" role="alert">{escape(line)}</div>' for line in words.warnings(facts)),
        *(f'<p class="note">{escape(line)}</p>' for line in facts.missing),
        '<div class="grid charts">' + "".join(
            f"<section><h2>{escape(chart.title)}</h2>{chart.svg}</section>" for chart in charts) + "</div>",
        _heatmaps(facts),
        _section("How to read a heatmap", "<ul>" + "".join(
            f"<li>{escape(line)}</li>" for line in words.reading(facts)) + "</ul>") if facts.heatmaps else "",
        _kinds(facts), _comparison(compared, facts),
        _section("Numbers", _pairs(words.figures(facts))) if facts.result else "",
        _settings(facts),
        f"<section><details><summary>Provenance</summary>{_pairs(words.provenance(facts), path=True)}"
        f"</details></section>"]
    title = f"{facts.record.class_name} · {experiment.data.recipe} · FCDD"
    return (f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
            f'<meta name="viewport" content="width=device-width, initial-scale=1">'
            f"<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; img-src data:; "
            f"style-src 'unsafe-inline'\"><style>{STYLE}</style></head>\n<body><main>\n"
            + "\n".join(part for part in body if part) + "\n</main></body></html>\n")


def _section(title: str, inner: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{inner}</section>"


def _tiles(facts: Facts, compared: Comparison | None) -> str:
    result = facts.result
    if result is None:
        return ""
    tiles = [("AUROC", number(result.auroc), "undefined" if result.auroc is None else "0.5 is chance, 1 perfect")]
    if compared and compared.ours is not None:
        tiles.append(("The paper's AUROC", f"{compared.theirs:.2f}", f"difference {compared.difference}"))
    nominal, anomalous = (result.counts.get(f"test_{kind}", 0) for kind in ("nominal", "anomalous"))
    chance = f"{anomalous / (nominal + anomalous):.2f} is chance, 1 perfect" if nominal and anomalous else "undefined"
    tiles.append(("Average precision", number(result.average_precision), chance))
    if facts.scores is not None and facts.threshold() is not None:
        labels = facts.scores.labels
        tiles += [("Nominal flagged", percent(facts.flagged(labels == 0)),
                   f"aim: at most {100 * result.threshold.budget:.4g} %"),
                  ("Anomalous flagged", percent(facts.flagged(labels == 1)), f"above {facts.threshold():.4g}")]
    return '<div class="tiles">' + "".join(
        f'<div class="tile"><span>{escape(name)}</span><b>{escape(value)}</b><span>{escape(below)}</span></div>'
        for name, value, below in tiles) + "</div>"


def _comparison(compared: Comparison | None, facts: Facts) -> str:
    if compared is None:
        return f'<p class="note">{escape(words.no_comparison(facts))}</p>'
    ours = f"{number(compared.ours)}" + (f" ({compared.difference})" if compared.difference else "")
    rows = [f"<tr><th>AUROC</th><td>{compared.theirs:.2f}</td><td>{escape(ours)}</td></tr>"]
    rows += [f'<tr{" class=differs" if differs else ""}><th>{escape(aspect)}</th><td>{escape(theirs)}</td>'
             f"<td>{escape(here)}</td></tr>" for aspect, theirs, here, differs in compared.rows]
    note = f'<p class="note">{escape(compared.source)}, printed with two decimals. What differs is in bold.</p>'
    return _section("Beside the paper", _table(("", "Paper", "Here"), rows) + note)


def _kinds(facts: Facts) -> str:
    rows = []
    for name, images, auroc, precision, flagged in words.kinds(facts):
        meter = "" if auroc is None else f' style="--v: {100 * auroc:.1f}"'
        rows.append(f'<tr><th>{escape(name)}</th><td class="n">{images:,}</td>'
                    f'<td class="n{" meter" if meter else ""}"{meter}>{number(auroc, ".3f")}</td>'
                    f'<td class="n">{number(precision, ".3f")}</td><td class="n">{percent(flagged)}</td></tr>')
    if not rows:
        return ""
    head = ("Kind", "Images", "AUROC", "Avg. prec.", "Flagged")
    return _section("Kinds of anomalies, the hardest first", _table(head, rows, numbers_from=1) +
                    '<p class="note">Each kind against all nominal test images.</p>')


def _heatmaps(facts: Facts) -> str:
    keys = list(facts.heatmaps)
    pictures = []
    for key in keys[:EMBEDDED]:
        data = facts.heatmaps[key]
        width, height = struct.unpack(">II", data[16:24])  # of the PNG's header
        title = escape(heatmap_title(key), quote=True)
        caption = "" if PurePosixPath(key).stem in SHEETS else f"<figcaption>{title}</figcaption>"  # it has its title
        pictures.append(f'<figure>{caption}<div class="scroll" tabindex="0">'
                        f'<img alt="{title}" width="{width}" height="{height}" style="--w: {width}px" loading="lazy" '
                        f'src="data:image/png;base64,{base64.b64encode(data).decode()}"></div></figure>')
    if keys[EMBEDDED:]:
        pictures.append(f'<p class="note">{len(keys) - EMBEDDED:,} more pictures are in the run\'s heatmaps/.</p>')
    return _section("Heatmaps", "".join(pictures)) if pictures else ""


def _settings(facts: Facts) -> str:
    rows, changed = [], 0
    for path, value, recipes in words.settings(facts):
        changed += recipes is not None
        aside = f' <small class="over">(recipe: {escape(recipes)})</small>' if recipes is not None else ""
        rows.append(f'<tr{" class=differs" if recipes is not None else ""}><th class="path">{escape(path)}</th>'
                    f'<td class="path">{escape(value)}{aside}</td></tr>')
    return (f"<section><details><summary>Experiment <small>{len(rows)} settings, {changed} other than the recipe's"
            f"</small></summary>{_table((), rows)}</details></section>")


def _pairs(pairs: Iterable[tuple[str, str]], *, path: bool = False) -> str:
    kind = ' class="path"' if path else ""
    return _table((), [f"<tr><th>{escape(name)}</th><td{kind}>{escape(value)}</td></tr>" for name, value in pairs])


def _table(head: Sequence[str], rows: Iterable[str], numbers_from: int | None = None) -> str:
    cells = "".join(f'<th scope="col"{" class=n" if numbers_from is not None and place >= numbers_from else ""}>'
                    f"{escape(name)}</th>" for place, name in enumerate(head))
    top = f"<thead><tr>{cells}</tr></thead>" if head else ""
    return (f'<div class="scroll"><table{"" if head else " class=facts"}>{top}<tbody>{"".join(rows)}</tbody></table>'
            f"</div>")
