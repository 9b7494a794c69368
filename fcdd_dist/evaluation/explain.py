"""Scores and heatmaps of a person's own images."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np

from ..data.images import BadImage
from ..data.sources.folders import printable, read_file
from ..errors import BadInput, Conflict
from ..model.heatmap_scale import heatmap_scale, normalise_heatmap
from ..storage import Store, open_store
from .evaluate import load_detector
from .figures import check_colours, explanation
from .given import find_images

SCORES = "scores.csv"
MARKER = "explanation.json"  # written first; names the files of the explanation


def explain(checkpoint: str, images: list[str], out: str, *, raw: bool = False, colour: str = "jet",
            scale: Literal["reference", "each"] = "reference", say: Callable[[str], None] = lambda line: None) -> int:
    """Writes ``scores.csv`` (path, score, label, picture) and a picture an image into the folder ``out``.

    ``images``: files, folders (searched for images) and globs. ``raw`` writes the upsampled map beside, as a .npy
    file of float32 in the image's own pixel grid. ``scale``: 1 in a heatmap is the eta quantile of the detector's
    reference images, so that pictures compare, or of each map alone, so that even its faintest spots show. Images
    that can't be read are named, and the others go on; returns how many they were. ``label`` is 1 where the score is
    above the detector's threshold, and empty where it has none.
    Raises BadInput where nothing matches or ``out`` holds anything but an earlier explanation, which is replaced.
    """
    check_colours(colour)
    detector, store = load_detector(checkpoint), open_store(out)
    paths = find_images(images, out)
    names = _names(paths)
    _make_room(store, out, paths, [SCORES, *(f"{name}{ending}" for name in names for ending in (".png", ".npy"))])
    threshold = detector.threshold.value if detector.threshold else None
    if threshold is None:
        why = detector.threshold.how if detector.threshold else "the checkpoint has none"
        say(f"no threshold, labels stay empty: {why}")
    rows, failed = [], 0
    for path, name in zip(paths, names, strict=True):
        try:
            image = read_file(str(path))
        except BadImage as error:
            failed += 1
            say(f"left out {printable(str(path))}: {error}")
            continue
        # One image at a time: a folder may hold more than memory does.
        scores, (map_,) = detector.scores_and_maps([image])
        score = float(scores[0])
        flagged = None if threshold is None else score > threshold
        verdict = "" if flagged is None else ", flagged" if flagged else ", not flagged"
        pixels = np.asarray(image) if image.mode == "RGB" else np.asarray(image)[:, :, None]
        shown = detector.heatmap_scale if scale == "reference" else None
        shown = shown or heatmap_scale(map_, detector.experiment.heatmap.eta, "this map alone")
        store.write(f"{name}.png", explanation(pixels, normalise_heatmap(map_, shown), scale=shown, colormap=colour,
                                               caption=f"{printable(path.name)}: score {score:.4g}{verdict}"))
        if raw:
            file = io.BytesIO()
            np.save(file, map_, allow_pickle=False)
            store.write(f"{name}.npy", file.getvalue())
        rows.append((printable(str(path)), f"{score:.9g}", "" if flagged is None else int(flagged), f"{name}.png"))
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([("path", "score", "label", "picture"), *rows])
    store.write(SCORES, text.getvalue().encode())
    return failed


def _make_room(store: Store, out: str, paths: list[Path], planned: list[str]) -> None:
    """Removes an earlier explanation. Its first file says which ones are its own: nothing else is ever removed."""
    there = {entry.key for entry in store.list()}
    try:
        own = {MARKER, *json.loads(store.read(MARKER))["files"]} if MARKER in there else set()
    except (ValueError, KeyError, TypeError):
        own = set()
    if strange := sorted(there - own):
        raise Conflict(f"{out} holds other files, such as {printable(strange[0])}: give an empty folder with --out")
    for path in paths:
        if path.resolve().is_relative_to(Path(out).resolve()):
            raise BadInput(f"{printable(str(path))} lies in {out}, which is about to be written: give another --out")
    for key in sorted(there - {MARKER}):
        store.delete(key)
    store.write(MARKER, json.dumps({"schema_version": 1, "files": planned}).encode())


def _names(paths: list[Path]) -> list[str]:
    """A plain and distinct file name for each path, its own where possible."""
    names: list[str] = []
    taken: set[str] = set()
    for path in paths:
        plain = re.sub(r"[^\w.-]+", "_", path.stem).strip(".") or "image"
        name, number = plain, 1
        while name.lower() in taken:
            number += 1
            name = f"{plain}-{number}"
        taken.add(name.lower())
        names.append(name)
    return names
