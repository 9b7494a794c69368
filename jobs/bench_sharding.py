"""Photographs of full size into shards: how many a core does, where its time goes, and how long ImageNet22k takes."""

from __future__ import annotations

import hashlib
import shutil
import statistics
import time
from itertools import pairwise

from bench_data import DataSets
from bench_timing import Bench, Row, Skip, one_core
from PIL import Image

from fcdd_dist.data.images import decode_stored, encode, load_image, to_form
from fcdd_dist.data.shards.statistics import measure
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
    shares["share_all_else"] = 1 - sum(shares.values())  # listing, spilling, sorting, tars and their checksums, files
    hours = _IMAGES / rate / _CORES / 3600
    pixels = statistics.mean(width * height for width, height in map(_size, data.full_size))
    return [Row(f"images/s of a core that shards photographs of full size as {form}", rate, "", figures={
                "images": len(data.full_size), "kB_per_image":
                sum(path.stat().st_size for path in data.full_size) / len(data.full_size) / 1000, "pixels_per_image":
                pixels, **shares}),
            Row(f"hours for {_IMAGES:,} such images on {_CORES} cores", hours, "", figures={"per_core_hours":
                                                                                          hours * _CORES})]


def _pieces(paths, form) -> dict[str, float]:
    """Seconds of each step that all of them take, by themselves."""
    spent = dict.fromkeys(("reading_and_decoding", "scaling", "encoding", "decoding_what_was_stored",
                           "hashing_the_pixels", "statistics"), 0.0)
    for path in paths:
        times = [time.perf_counter()]
        image = load_image(path.read_bytes())
        times.append(time.perf_counter())
        scaled = to_form(image, form)
        times.append(time.perf_counter())
        encoded = encode(scaled, form)
        times.append(time.perf_counter())
        pixels = decode_stored(encoded, form)
        times.append(time.perf_counter())
        hashlib.sha256(pixels.tobytes()).digest()
        times.append(time.perf_counter())
        measure(pixels)
        times.append(time.perf_counter())
        for name, (began, ended) in zip(spent, pairwise(times), strict=True):
            spent[name] += ended - began
    return spent


def _size(path) -> tuple[int, int]:
    with Image.open(path) as image:
        return image.size
