"""The two sheets of heatmaps of a run, of its test images."""

from __future__ import annotations

import numpy as np

from ..data.images import decode_stored
from ..data.manifest import Manifest
from ..data.shards.read import read_shard
from ..detector import Detector
from ..model.heatmap_scale import heatmap_scale, looked_at, normalise_heatmap
from ..storage import Store
from .evaluate import Scores
from .figures import SHEETS, Block, Cell, evenly_spaced, extremes, sheet

_COLUMNS = 8


def write_heatmaps(run: Store, detector: Detector, store: Store, manifest: Manifest, scores: Scores) -> None:
    """Writes ``heatmaps/by-score.png`` and ``heatmaps/extremes.png``; nothing where there are no test images."""
    if not scores.scores.size:
        return
    by_score = evenly_spaced(scores.scores, 2 * _COLUMNS)
    blocks = extremes(scores.labels, scores.scores, _COLUMNS // 2)
    wanted = sorted({*by_score, *(index for indices in blocks.values() for index in indices)})
    images = _images(wanted, store, manifest, scores)
    outputs = detector.outputs_of_stored(images)
    maps = [detector.map_in(output, image.shape[1::-1]) for output, image in zip(outputs, images, strict=True)]
    # As in the paper's figures of whole test sets, what is shown as 1 is set by the maps of the figure itself. Exposure
    # images, which set the detector's own scale, may be so anomalous that everything else is blue.
    scale = heatmap_scale(np.concatenate([looked_at(map_) for map_ in maps]), detector.experiment.heatmap.eta,
                          "the maps of this run's sheets")
    flagged = detector.flagged(scores.scores)
    cells = {index: Cell(image, normalise_heatmap(map_, scale), manifest.class_name(scores.classes[index]),
                         float(scores.scores[index]), int(scores.labels[index]),
                         None if flagged is None else bool(flagged[index]))
             for index, image, map_ in zip(wanted, images, maps, strict=True)}
    subtitle = f"{manifest.class_name(detector.experiment.data.nominal)} is nominal; the number is the score"
    for name, content in (
            ("by-score", [cells[index] for index in by_score]),
            ("extremes", [Block(heading, [cells[index] for index in indices]) for heading, indices in blocks.items()])):
        columns = _COLUMNS if name == "by-score" else _COLUMNS // 2
        run.write(f"heatmaps/{name}.png", sheet(content, columns, SHEETS[name], subtitle, scale=scale))


def _images(wanted: list[int], store: Store, manifest: Manifest, scores: Scores) -> list[np.ndarray]:
    """The stored images of some of the scores, by index: uint8 (height, width, channels) each."""
    shards = {shard.key: shard for part in manifest.splits["test"].values() for shard in part.shards}
    stored = {}
    for key in sorted({scores.places[index][0] for index in wanted}):
        samples = read_shard(store, shards[key])
        for index in wanted:
            if scores.places[index][0] == key:
                stored[index] = decode_stored(samples[scores.places[index][1]].image, manifest.form)
    return [np.ascontiguousarray(stored[index].transpose(1, 2, 0)) for index in wanted]
