"""Scores and heatmaps of a person's own images."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal

import numpy as np
import torch
from PIL.Image import Image
from pydantic import ValidationError

from ..checkpoint import DETECTOR
from ..data.images import BadImage
from ..data.sources.folders import printable
from ..detector import Detector
from ..errors import BadInput, Conflict
from ..experiment import Value
from ..model.heatmap_scale import HeatmapScale, heatmap_scale, looked_at, normalise_heatmap
from ..storage import Store, open_store
from .evaluate import load_detector
from .figures import check_colours, explanation
from .given import Given, find_images, read_images

SCORES = "scores.csv"
MARKER = "explanation.json"  # written first: whose and of what the explanation is, and the names of its files


# What is shown as 1, in the normalisation of Appendix A: the eta quantile over the maps of the images that are given,
# as in the paper's figures, but at least the level of an anomaly that fills a third of an image at the threshold, so
# that normal images stay blue; or over the detector's reference images, so that pictures of several calls compare,
# though exposure may be so anomalous that all else is blue; or over each map alone.
Scale = Literal["given", "reference", "each"]
_THIRD = 3.0  # times the level of a map that is the same everywhere
_REFERENCE = 1000  # images that set the scale of "given", at most


@dataclass(frozen=True)
class Explained:
    """An image that was read. ``flagged``: whether its score is above the threshold; None without one."""

    path: str
    score: float
    flagged: bool | None
    picture: str  # the name of its file


@dataclass(frozen=True)
class Explanation:
    """``threshold``: the detector's; None where it has none. ``failed``: images that could not be read."""

    threshold: float | None
    images: tuple[Explained, ...]
    failed: int


class _Marker(Value):
    """``explanation.json``. ``detector``: the checksum of its weights; ``images``: where they are."""

    schema_version: Literal[1] = 1
    detector: str
    images: tuple[str, ...]
    files: tuple[str, ...]

    def write(self, store: Store) -> None:
        store.write(MARKER, self.model_dump_json(indent=1).encode())


@dataclass(frozen=True)
class _Seen:
    given: Given
    name: str  # of its picture, without the ending
    score: float
    output: torch.Tensor  # (1, u, v)


def explain(checkpoint: str, images: Sequence[str | Given], out: str, *, raw: bool = False, colour: str = "jet",
            scale: Scale = "given", say: Callable[[str], None] = lambda line: None) -> Explanation:
    """Writes ``scores.csv`` (path, score, label, picture) and a picture an image into ``out``, a folder or a URL.

    ``images``: files, folders (searched for images) and globs, on this machine or in object storage. ``raw`` writes
    the upsampled map beside, as a .npy file of float32 in the image's own pixel grid, NaN where the detector has not
    looked. ``scale``: what is red, see ``Scale``. Images that can't be read are named, and the others go on. ``label``
    is 1 where the score is above the detector's threshold, and empty where it has none.

    An earlier explanation in ``out`` is written over, and that is said, where nothing is lost by it: where it is by the
    same detector, and all its images are among these. Raises BadInput where nothing matches, and Conflict where ``out``
    holds anything else.
    """
    check_colours(colour)
    detector, store = load_detector(checkpoint), open_store(out)
    given = find_images(images, out)
    name_of = dict(zip(given, _names(given), strict=True))
    endings = (".png", ".npy") if raw else (".png",)

    def marker(images: Iterable[Given]) -> _Marker:
        return _Marker(
            detector=detector.record.files[DETECTOR].sha256, images=tuple(each.where for each in images),
            files=(SCORES, *(f"{name_of[each]}{ending}" for each in images for ending in endings)))

    _make_room(store, out, given, marker(given), say)
    threshold = detector.threshold.value if detector.threshold else None
    if threshold is None:
        why = detector.threshold.how if detector.threshold else "the checkpoint has none"
        say(f"no threshold, labels stay empty: {why}")
    kept: dict[Given, _Seen] = {}
    # One image at a time: a folder may hold more than memory does, while the net's outputs are small.
    for each, image in _readable(given, say):
        output = detector.outputs_of([image])
        kept[each] = _Seen(each, name_of[each], float(detector.objective.score(output)[0]), output[0])
    common = _common_scale(detector, list(kept.values()), scale)
    found = []
    for each, image in _readable(kept, say):
        seen = kept[each]
        flagged = None if threshold is None else seen.score > threshold
        pixels = np.asarray(image) if image.mode == "RGB" else np.asarray(image)[:, :, None]
        map_ = detector.map_in(seen.output, image.size)
        shown = common or heatmap_scale(looked_at(map_), detector.experiment.heatmap.eta, "this map alone")
        store.write(f"{seen.name}.png", explanation(
            pixels, normalise_heatmap(map_, shown), scale=shown, colormap=colour,
            caption=f"{printable(each.name)}: anomaly score {seen.score:.4g}{_verdict(flagged, threshold)}"))
        if raw:
            file = io.BytesIO()
            np.save(file, map_, allow_pickle=False)
            store.write(f"{seen.name}.npy", file.getvalue())
        found.append(Explained(printable(each.where), seen.score, flagged, f"{seen.name}.png"))
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([("path", "score", "label", "picture"), *(
        (one.path, f"{one.score:.9g}", "" if one.flagged is None else int(one.flagged), one.picture)
        for one in found)])
    store.write(SCORES, text.getvalue().encode())
    marker(kept).write(store)  # what could not be read would be no loss
    return Explanation(threshold, tuple(found), len(given) - len(found))


def _verdict(flagged: bool | None, threshold: float | None) -> str:
    if flagged is None:
        return ""
    no = "" if flagged else "not "
    return f", {no}above the threshold of {threshold:.4g}: {no}flagged"


def _readable(images: Iterable[Given], say: Callable[[str], None]) -> Iterator[tuple[Given, Image]]:
    """Those that can be read, one after another; the others are named."""
    for given, image in read_images(images):
        if isinstance(image, BadImage):
            say(f"left out {printable(given.where)}: {image}")
        else:
            yield given, image


def _common_scale(detector: Detector, kept: list[_Seen], scale: Scale) -> HeatmapScale | None:
    """The scale of all pictures, or None where each has its own."""
    if scale == "each" or not kept:
        return None
    if scale == "reference" and detector.heatmap_scale is not None:
        return detector.heatmap_scale
    chosen = kept[:: max(1, len(kept) // _REFERENCE)]
    every = 4 if detector.preprocessing.side > 64 else 1  # smooth maps: every fourth pixel says the same
    maps = np.concatenate([detector.upsampled(seen.output[None])[..., ::every, ::every].cpu().numpy().ravel()
                           for seen in chosen])
    images = "this image" if len(chosen) == 1 else f"these {len(chosen)} images"
    found = heatmap_scale(maps, detector.experiment.heatmap.eta, images)
    least = _THIRD * detector.level_of_threshold - found.minimum
    if found.quantile >= least:
        return found
    return found.model_copy(update={"quantile": least, "reference": f"{images}, or rather, since they are low, what an "
                                    "anomaly has that fills a third of an image which is at the threshold"})


def _make_room(store: Store, out: str, images: list[Given], mine: _Marker, say: Callable[[str], None]) -> None:
    """Removes an earlier explanation that this one replaces, and leaves the marker of what is ``mine``.

    A marker says which files are its explanation's own: nothing else is ever removed.
    """
    there, earlier = {entry.key for entry in store.list()}, None
    if MARKER in there:
        with suppress(ValidationError):  # then it is a file like any other
            earlier = _Marker.model_validate_json(store.read(MARKER))
    if strange := sorted(there - {MARKER, *earlier.files} if earlier else there):
        raise Conflict(f"{out} holds other files, such as {printable(strange[0])}: give an empty folder with --out")
    for image in images:
        if image.lies_in(store.url):
            raise BadInput(f"{printable(image.where)} lies in {out}, which is about to be written: give another --out")
    if earlier:
        lost = sorted({*earlier.images} - {*mine.images})
        if lost or earlier.detector != mine.detector:
            other = f"of other images, such as {printable(lost[0])}" if lost else "by another detector"
            raise Conflict(f"{out} holds an explanation {other}: give another --out, or delete that one first")
        say(f"writing over the earlier explanation in {out}, by the same detector, whose images are all among these")
    for key in sorted(there - {MARKER}):
        store.delete(key)
    mine.write(store)


def _names(images: list[Given]) -> list[str]:
    """A plain and distinct file name for each image, its own where possible."""
    names: list[str] = []
    taken: set[str] = set()
    for image in images:
        plain = re.sub(r"[^\w.-]+", "_", PurePosixPath(image.name).stem).strip(".") or "image"
        name, number = plain, 1
        while name.lower() in taken:
            number += 1
            name = f"{plain}-{number}"
        taken.add(name.lower())
        names.append(name)
    return names
