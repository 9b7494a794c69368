"""What the report of a run says, as plain sentences and rows; how it looks is for the page and the Markdown file."""

from __future__ import annotations

from ...evaluation import verdict as scores
from ...published import published
from ..words import Comparison, number, percent, protocol_rows
from .facts import Facts, Result


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
    result = facts.result
    if result is None:
        return []
    found = doubts(result)
    trained = max([result.epochs, *(line.epoch for line in facts.history[-1:])])
    if trained > result.epochs or facts.experiment.epochs > result.epochs:
        found.append(f"The test scores are of epoch {result.epochs:,}. The run has since been asked for "
                     f"{facts.experiment.epochs:,} epochs and has trained {trained:,}.")
    return found


def doubts(result: Result) -> list[str]:
    """What the test scores say against the detector."""
    means = result.mean_score
    return [doubt.said for doubt in scores.doubts(result.auroc, means.nominal, means.anomalous)]


def comparison(facts: Facts) -> Comparison | None:
    """The paper's number and what differs from its protocol; None where the paper has none for this class."""
    experiment = facts.experiment
    row = published(experiment.data.recipe, experiment.data.nominal)
    if row is None or row.auc is None:
        return None
    counts = facts.result.counts if facts.result else {}
    rows = protocol_rows(
        experiment, epochs=facts.epochs, exposure=facts.record.exposure or f"the default one of {facts.record.data}",
        counts=counts, trainings=(f"1, seed {experiment.seed}", True))
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
