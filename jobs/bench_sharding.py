"""Photographs of full size into shards: how many a core does, where its time goes, and how long ImageNet22k takes."""

from __future__ import annotations

import shutil
import statistics
import time

from bench_data import DataSets
from bench_timing import Bench, Row, Skip, one_core

from fcdd_dist.data.images import encode, load_image, to_form
from fcdd_dist.data.shards.write import shard_exposure
from fcdd_dist.recipes import recipe
from fcdd_dist.storage import open_store

_IMAGES, _CORES = 14_200_000, 16


def sharding(bench: Bench, data: DataSets) -> list[Row]:
    source, form = data.folder / "sharding-images", recipe("imagenet30").form
    (source / "all").mkdir(parents=True)
    for number, path in enumerate(data.full_size):
        shutil.copy(path, source / "all" / f"{number:06}.jpg")
    rates, each = [], []
    with one_core():
        for turn in range(bench.pairs(3) + 1):
            out = data.folder / "sharding-out"
            began = time.perf_counter()
            try:
                manifest = shard_exposure("folder", str(source), open_store(str(out)), form=form)
            except ModuleNotFoundError as error:
                raise Skip(f"writing shards needs {error.name}") from None
            seconds = time.perf_counter() - began
            shutil.rmtree(out)
            written = sum(part.samples for parts in manifest.splits.values() for part in parts.values())
            pieces = _pieces(sorted((source / "all").iterdir()), form)
            if turn:  # the first one warms up
                rates.append(written / seconds)
                each.append({name: spent / seconds for name, spent in pieces.items()})
    shutil.rmtree(source)
    rate = statistics.median(rates)
    shares = {f"share_{name}": statistics.median(turn[name] for turn in each) for name in each[0]}
    # What is left is everything but the pixels: the checks, hashes and statistics of images, tars, files.
    shares["share_hashes_statistics_and_writing"] = 1 - sum(shares.values())
    hours = _IMAGES / rate / _CORES / 3600
    return [Row(f"images/s of a core that shards photographs of full size as {form}", rate, "", figures={
                "images": len(data.full_size), "kB_per_image":
                sum(path.stat().st_size for path in data.full_size) / len(data.full_size) / 1000, **shares}),
            Row(f"hours for {_IMAGES:,} such images on {_CORES} cores", hours, "", figures={"per_core_hours":
                                                                                          hours * _CORES})]


def _pieces(paths, form) -> dict[str, float]:
    """Seconds to read and decode, to scale and to encode all of them, by themselves."""
    spent = {"reading_and_decoding": 0.0, "scaling": 0.0, "encoding": 0.0}
    for path in paths:
        began = time.perf_counter()
        image = load_image(path.read_bytes())
        decoded = time.perf_counter()
        pixels = to_form(image, form)
        scaled = time.perf_counter()
        encode(pixels, form)
        for name, seconds in zip(spent, (decoded - began, scaled - decoded, time.perf_counter() - scaled),
                                 strict=True):
            spent[name] += seconds
    return spent
