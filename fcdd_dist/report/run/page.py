"""A run's report as one page of HTML that needs nothing else: no script, no font, no file beside it."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import PurePosixPath

from ...evaluation.figures import SHEETS
from ..drawing import Chart
from ..markup import bullets, document, folded, pairs, picture, section, table, tiles
from ..sections import protocol_section, settings_section
from ..sheets import embedded
from ..words import Comparison, number, percent, reading
from . import words
from .facts import Facts

EMBEDDED = 12  # pictures in the page; more of them are named
# Of a picture: pixels across at most, twice those of the page for screens that have so many, and JPEG's quality.
_WIDTH, _QUALITY = 2 * 1048, 75


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
        section("How to read a heatmap", bullets(reading(facts.experiment))) if facts.heatmaps else "",
        _kinds(facts), _comparison(compared, facts),
        section("Numbers", pairs(words.figures(facts))) if facts.result else "",
        settings_section(facts.experiment),
        folded("Provenance", pairs(words.provenance(facts), path=True))]
    title = f"{facts.record.class_name} · {experiment.data.recipe} · FCDD"
    return document(title, body)


def _tiles(facts: Facts, compared: Comparison | None) -> str:
    result = facts.result
    if result is None:
        return ""
    rows = [("AUROC", number(result.auroc), "undefined" if result.auroc is None else "0.5 is chance, 1 perfect")]
    if compared and compared.ours is not None:
        rows.append(("The paper's AUROC", f"{compared.theirs:.2f}", f"difference {compared.difference}"))
    nominal, anomalous = (result.counts.get(f"test_{kind}", 0) for kind in ("nominal", "anomalous"))
    chance = f"{anomalous / (nominal + anomalous):.2f} is chance, 1 perfect" if nominal and anomalous else "undefined"
    rows.append(("Average precision", number(result.average_precision), chance))
    if facts.scores is not None and facts.threshold() is not None:
        labels = facts.scores.labels
        rows += [("Nominal flagged", percent(facts.flagged(labels == 0)),
                  f"aim: at most {100 * result.threshold.budget:.4g} %"),
                  ("Anomalous flagged", percent(facts.flagged(labels == 1)), f"above {facts.threshold():.4g}")]
    return tiles(rows)


def _comparison(compared: Comparison | None, facts: Facts) -> str:
    if compared is None:
        return f'<p class="note">{escape(words.no_comparison(facts))}</p>'
    ours = f"{number(compared.ours)}" + (f" ({compared.difference})" if compared.difference else "")
    rows = [("AUROC", f"{compared.theirs:.2f}", ours, False), *compared.rows]
    return protocol_section(rows, f"{compared.source}, printed with two decimals.")


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
    return section("Kinds of anomalies, the hardest first", table(head, rows, numbers_from=1) +
                    '<p class="note">Each kind against all nominal test images.</p>')


def _heatmaps(facts: Facts) -> str:
    keys = list(facts.heatmaps)
    pictures = []
    for key in keys[:EMBEDDED]:
        title = heatmap_title(key)
        jpeg, size = embedded(facts.heatmaps[key], _WIDTH, _QUALITY)
        caption = "" if PurePosixPath(key).stem in SHEETS else title  # it has its title
        pictures.append(picture(jpeg, size, title, caption))
    more = f", and {len(keys) - EMBEDDED:,} more pictures" if keys[EMBEDDED:] else ""
    note = f'<p class="note">Copies as JPEG. The exact ones{more} are in the run\'s heatmaps/.</p>'
    return section("Heatmaps", "".join(pictures) + note) if pictures else ""
