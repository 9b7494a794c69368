"""What a report says, as plain sentences and rows; how it looks is for the page and the Markdown file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ...evaluation.metrics import collapsed
from ...published import PROTOCOLS, published
from ...recipes import RECIPES
from .facts import Facts


@dataclass(frozen=True)
class Comparison:
    """Our AUROC beside the paper's. ``rows`` are (aspect, in the paper, here, whether they differ)."""

    source: str
    theirs: float
    ours: float | None
    rows: list[tuple[str, str, str, bool]]

    @property
    def difference(self) -> str:
        return "" if self.ours is None else f"{self.ours - self.theirs:+.2f}".replace("-0.00", "+0.00")


def percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f} %"


def number(value: float | None, form: str = ".4f") -> str:
    return "-" if value is None else format(value, form)


def verdict(facts: Facts) -> str:
    """What came out, in one or two plain sentences."""
    result, asked = facts.result, facts.experiment.epochs
    if result is None:
        return (f"Unfinished: {facts.epochs:,} of {asked:,} epochs are trained, and there are no test scores, because "
                f"there is no result.json yet. The same command goes on from the last checkpoint.")
    if result.auroc is None:
        said = f"There is no AUROC: {result.why_null or 'the reason was not recorded'}."
    else:
        said = f"In {percent(result.auroc)} of all pairs, an anomalous test image scores higher than a nominal one."
    if facts.scores is not None and facts.threshold() is not None:
        shares = [f"{percent(facts.flagged(facts.scores.labels == label))} of the {name} images"
                  for label, name in ((0, "nominal"), (1, "anomalous")) if (facts.scores.labels == label).any()]
        if shares:
            said += f" Its threshold flags {' and '.join(shares)}."
    return said


def warnings(facts: Facts) -> list[str]:
    """What a reader must know before using the detector."""
    found = []
    result = facts.result
    if result is None:
        return found
    means = result.mean_score
    if means.nominal is not None and means.anomalous is not None and collapsed(means.nominal, means.anomalous):
        found.append(f"This detector has collapsed: the mean scores of nominal ({means.nominal:.4g}) and anomalous "
                     f"({means.anomalous:.4g}) test images differ by less than 10 %. Its heatmaps mean nothing. "
                     f"Train longer, or look at the exposure set and at the learning rate.")
    if result.auroc is not None and result.auroc < 0.5:
        found.append("The ranking is worse than chance: anomalous test images tend to score lower than nominal ones. "
                     "Look whether the nominal class is the one that was meant.")
    trained = max([result.epochs, *(line.epoch for line in facts.history[-1:])])
    if trained > result.epochs or facts.experiment.epochs > result.epochs:
        found.append(f"The test scores are of epoch {result.epochs:,}. The run has since been asked for "
                     f"{facts.experiment.epochs:,} epochs and has trained {trained:,}.")
    return found


def comparison(facts: Facts) -> Comparison | None:
    """The paper's number and what differs from its protocol; None where the paper has none for this class."""
    experiment = facts.experiment
    row = published(experiment.data.recipe, experiment.data.nominal)
    if row is None or row.auc is None:
        return None
    protocol = PROTOCOLS[experiment.data.recipe]
    counts = facts.result.counts if facts.result else {}
    aside = experiment.data.train_on == "train" and counts.get("holdout") != 0
    exposure = facts.record.exposure or f"the default one of {facts.record.data}"
    if "exposure" in counts:
        exposure += f" ({counts['exposure']:,} images)"
    trained = f"{counts.get('holdout', 'a part')} set aside for threshold and curve" if aside else "all of the class"
    rows = [
        ("Epochs", f"{protocol.epochs:,}", f"{facts.epochs:,}", facts.epochs != protocol.epochs),
        ("Exposure set", protocol.exposure, exposure, True),
        ("Nominal training images", "all of the class", trained, aside),
        ("Trainings", f"mean of {protocol.repetitions}", f"1, seed {experiment.seed}", True),
        ("Last batch of an epoch", "smaller", "completed with images from the epoch's start", True)]
    rows += [(path, recipes, ours, True) for path, ours, recipes in settings(facts)
             if recipes is not None and path not in ("epochs", "data.train_on")]
    return Comparison(row.source, row.auc, facts.result.auroc if facts.result else None, rows)


def no_comparison(facts: Facts) -> str:
    return f"The paper has no number for {facts.record.class_name} of recipe {facts.experiment.data.recipe}."


def kinds(facts: Facts) -> list[tuple[str, int, float | None, float | None, float | None]]:
    """(name, images, AUROC, average precision, share flagged) of each kind of anomaly, the hardest first."""
    if facts.result is None:
        return []
    found = []
    for class_id, kind in facts.result.per_kind.items():
        share = None
        if facts.scores is not None:
            share = facts.flagged((facts.scores.labels == 1) & [name == class_id for name in facts.scores.classes])
        found.append((kind.name, kind.images, kind.auroc, kind.average_precision, share))
    return sorted(found, key=lambda row: (row[2] is None, row[2], row[0]))


def settings(facts: Facts) -> list[tuple[str, str, str | None]]:
    """(dotted path, value, the recipe's value where it differs) of the experiment."""
    experiment = facts.experiment
    ours = dict(_leaves(experiment.model_dump(mode="json")))
    recipe = RECIPES.get(experiment.data.recipe)
    theirs = ours if recipe is None else dict(_leaves(
        recipe.experiment(experiment.data.nominal, experiment.seed).model_dump(mode="json")))
    return [(path, value, None if theirs.get(path) == value else theirs.get(path, "absent"))
            for path, value in ours.items()]


def figures(facts: Facts) -> list[tuple[str, str]]:
    """(what, how much): counts, scores, threshold, time."""
    result, rows = facts.result, []
    if result is not None:
        aside = facts.experiment.data.train_on == "train"
        names = {"train": "Nominal training images",
                 "holdout": "Nominal images set aside" if aside else "Nominal hold-out images, trained on too",
                 "exposure": "Exposure images", "test_nominal": "Nominal test images",
                 "test_anomalous": "Anomalous test images"}
        rows += [(names.get(key, key), f"{count:,}") for key, count in result.counts.items()]
        rows += [(f"Mean score, {name}", number(value, ".4g")) for name, value in
                 (("nominal", result.mean_score.nominal), ("anomalous", result.mean_score.anomalous))]
        if result.threshold is not None:
            rows.append(("Threshold", f"{number(result.threshold.value, '.4g')} ({result.threshold.how})"))
        rows += [("Epochs", f"{result.epochs:,}"), ("Training time", f"{number(result.seconds, ',.1f')} s"),
                 ("Training rate", f"{number(result.images_per_s, ',.0f')} images/s")]
        if result.input_wait_share is not None:
            rows.append(("Waiting for input", f"{percent(result.input_wait_share)} of the training time"))
        if result.workers is not None:
            rows.append(("Workers", f"{result.workers:,}"))
    return rows


def provenance(facts: Facts) -> list[tuple[str, str]]:
    """(what, value): where the data are, identities, versions."""
    record = facts.record
    rows = [("Run", facts.url), ("Data set", f"{record.data} ({record.data_id})"),
            ("Exposure set", f"{record.exposure or 'the default one of the data set'} ({record.exposure_id or '-'})"),
            ("Experiment", record.experiment_id), ("Fingerprint", record.fingerprint)]
    return rows + list(facts.result.versions.items() if facts.result else [])


def reading(facts: Facts) -> list[str]:
    """How to read a heatmap, and what it can't say."""
    from ...model.architectures import info
    from ...model.networks import build
    from ...model.receptive_field import output_side, receptive_field

    name, eta = facts.experiment.network.name, facts.experiment.heatmap.eta
    network = build(name)
    field, side = receptive_field(network), info(name).image_size
    cells = output_side(network, side)
    form, looks = facts.experiment.data.form, []
    if facts.experiment.augmentation.crop == "random":
        scaled = "images are scaled to" if form.fit == "square" else "the short sides of images are scaled to"
        looks = [f"The network looks at the centre of an image: {scaled} {form.side} pixels, of which it sees the "
                 f"central {side}. What is hatched it has not looked at, and the score knows nothing of it."]
    return [
        f"Red marks what raised the anomaly score, blue what looked nominal. The colours run from the minimum (0) to "
        f"the {eta:g} quantile (1) of reference maps; what is above is the same dark red. A colour is no probability.",
        f"The network sees an image as {cells} by {cells} cells. A cell looks at {field.size} by {field.size} of the "
        f"{side} by {side} pixels, and the next one begins {field.stride} pixels on: a red spot says that something "
        f"within about {field.size // 2} pixels of it is unusual. What is unusual only in a larger context goes "
        f"unseen, and cells at an edge also look at the padding beyond it.",
        *looks,
        "The anomaly score is the mean of the map before it is enlarged to the image: a large, faintly unusual area "
        "can score as high as a small, glaring one.",
        "A heatmap shows where something looks unusual to this detector, not what it is nor whether it matters. Look "
        "at false alarms and missed images before trusting a threshold."]


def _leaves(tree: dict[str, Any], path: str = "") -> Iterator[tuple[str, str]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{path}{key}.")
        else:
            yield f"{path}{key}", value if isinstance(value, str) else json.dumps(value)
