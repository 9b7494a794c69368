"""What all reports say, as plain sentences and rows; how it looks is for the pages and the Markdown files."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..experiment import Experiment
from ..published import PROTOCOLS
from ..recipes import RECIPES


@dataclass(frozen=True)
class Comparison:
    """Our AUROC beside the paper's. ``rows`` are (aspect, in the paper, here, whether they differ)."""

    source: str
    theirs: float
    ours: float | None
    rows: list[tuple[str, str, str, bool]]

    @property
    def difference(self) -> str:
        return "" if self.ours is None else signed(self.ours - self.theirs)


def percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f} %"


def number(value: float | None, form: str = ".4f") -> str:
    return "-" if value is None else format(value, form)


def listed(names: Sequence[str]) -> str:
    """``a, b and c``."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def signed(difference: float) -> str:
    """From the paper's AUROC, which is printed with two decimals."""
    return f"{difference:+.2f}".replace("-0.00", "+0.00")


def protocol_rows(experiment: Experiment, *, epochs: int, exposure: str, counts: Mapping[str, int],
                  trainings: tuple[str, bool]) -> list[tuple[str, str, str, bool]]:
    """(aspect, in the paper, here, whether they differ) of what was done for a recipe that the paper has a table of.

    ``epochs`` are those trained, ``counts`` those of a result, if there is one; ``trainings``: (here, whether it
    differs).
    """
    protocol = PROTOCOLS[experiment.data.recipe]
    aside = experiment.data.train_on == "train" and counts.get("holdout") != 0
    if "exposure" in counts:
        exposure += f" ({counts['exposure']:,} images)"
    trained = f"{counts.get('holdout', 'a part')} set aside for threshold and curve" if aside else "all of the class"
    rows = [
        ("Epochs", f"{protocol.epochs:,}", f"{epochs:,}", epochs != protocol.epochs),
        ("Exposure set", protocol.exposure, exposure, True),
        ("Nominal training images", "all of the class", trained, aside),
        ("Trainings", f"mean of {protocol.repetitions}", *trainings),
        ("Last batch of an epoch", "smaller", "completed with images from the epoch's start", True)]
    rows += [(path, recipes, ours, True) for path, ours, recipes in settings(experiment)
             if recipes is not None and path not in ("epochs", "data.train_on")]
    return rows


def settings(experiment: Experiment) -> list[tuple[str, str, str | None]]:
    """(dotted path, value, the recipe's value where it differs) of the experiment."""
    ours = dict(_leaves(experiment.model_dump(mode="json")))
    recipe = RECIPES.get(experiment.data.recipe)
    theirs = ours if recipe is None else dict(_leaves(
        recipe.experiment(experiment.data.nominal, experiment.seed).model_dump(mode="json")))
    return [(path, value, None if theirs.get(path) == value else theirs.get(path, "absent"))
            for path, value in ours.items()]


def reading(experiment: Experiment) -> list[str]:
    """How to read a heatmap, and what it can't say."""
    from ..model.architectures import info
    from ..model.networks import build
    from ..model.receptive_field import output_side, receptive_field

    name, eta = experiment.network.name, experiment.heatmap.eta
    network = build(name)
    field, side = receptive_field(network), info(name).image_size
    cells = output_side(network, side)
    form, looks = experiment.data.form, []
    if experiment.augmentation.crop == "random":
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
