"""The memory of sharding a corpus of very many images.

Of many images, what grows with their number: they are tiny, so that many pass; the cuts are scaled, so that the small
corpus is cut into as few spills and buckets as it would be, and the large one into as many as ImageNet22k. Of a few
thousand images of full size, what doesn't: a spill and a bucket as large as they ever are.
"""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tarfile
from pathlib import Path

from bench_data import DataSets
from bench_timing import Bench, Row, Skip

from fcdd_dist.data.images import encode
from fcdd_dist.recipes import recipe

_SCRIPT = Path(__file__).with_name("bench_worker.py")
_ALL = 14_200_000
_FEW, _MANY = 20_000, 200_000
_PER_SYNSET = 60  # so that there are as many spills; in ImageNet22k one has about six synsets of 650
_SIDE = 8
_CLASSES, _PER_CLASS = 14, 540  # two spills full of images of recipe imagenet30, of seven classes each


def corpus(bench: Bench, data: DataSets) -> list[Row]:
    if not Path("/proc/self/status").exists():
        raise Skip("peaks are read from /proc")
    return [_many_images(bench, data), _full_spills(bench, data)]


def _many_images(bench: Bench, data: DataSets) -> Row:
    """What ten times the images, cut as finely as 14.2 million, add to the peak of the process that shards them all."""
    few, many = (count // (100 if bench.quick else 1) for count in (_FEW, _MANY))
    made = {count: write_corpus(data.folder / f"corpus-{count}.tar", count) for count in (few, many)}
    found = {count: _child(path, data.folder / f"corpus-{count}", f"png-{_SIDE}-rgb", count, _ALL if count == many
                           else count) for count, path in made.items()}
    small, large = found[few], found[many]
    return Row(f"memory to shard {many:,} images in {large['spills']:,} spills, {large['buckets']:,} buckets, beyond "
               f"that of {few:,} in {small['spills']:,} and {small['buckets']:,}", large["peak_mb"] - small["peak_mb"],
               "MB", 250, at_least=False, figures={
                   "peak_mb": large["peak_mb"], "few_peak_mb": small["peak_mb"], "idle_mb": large["idle_mb"],
                   "images_per_s": large["images_per_s"]})


def _full_spills(bench: Bench, data: DataSets) -> Row:
    """What a process that shards images of full size, one task after another, takes beyond what it takes idle."""
    form, each = recipe("imagenet30").form, 4 if bench.quick else _PER_CLASS
    source, copies = data.folder / "corpus-full", data.copies(form)
    for number in range(_CLASSES):
        (source / f"class-{number:02}").mkdir(parents=True)
        for image in range(each):
            (source / f"class-{number:02}" / f"{image:06}.jpg").write_bytes(encode(next(copies), form))
    count = _CLASSES * each
    stored = sum(path.stat().st_size for path in source.glob("*/*")) / 1e6
    found = _child(source, data.folder / "corpus-full-out", str(form), count, count)
    return Row(f"memory of a worker that shards {count:,} photographs as {form}, {stored:.0f} MB, in {found['spills']} "
               f"full spills, beyond idle", found["peak_mb"] - found["idle_mb"], "MB", 400, at_least=False, figures={
                   "peak_mb": found["peak_mb"], "idle_mb": found["idle_mb"], "images_per_s": found["images_per_s"],
                   "spills": found["spills"], "buckets": found["buckets"], "kB_per_image": stored * 1000 / count})


def write_corpus(path: Path, count: int) -> Path:
    """A tar of synset tars of tiny images, each of its own pixels."""
    with tarfile.open(path, "w") as whole:
        for synset, first in enumerate(range(0, count, _PER_SYNSET)):
            inner = io.BytesIO()
            with tarfile.open(fileobj=inner, mode="w") as tar:
                for number in range(first, min(first + _PER_SYNSET, count)):
                    pixels = (number.to_bytes(4, "little") * (_SIDE * _SIDE * 3 // 4))
                    _add(tar, f"n{synset:08}_{number}.ppm", b"P6 %d %d 255\n" % (_SIDE, _SIDE) + pixels)
            _add(whole, f"n{synset:08}.tar", inner.getvalue())
    return path


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))


def _child(path: Path, out: Path, form: str, count: int, as_many_as: int) -> dict:
    """Of sharding ``count`` images that are cut as if they were others."""
    done = subprocess.run([sys.executable, str(_SCRIPT), str(path), str(out), form, str(count), str(as_many_as)],
                          capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"the process that shards failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])
