"""Who reads what of the test split, and what comes of it."""

import hashlib
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from fcdd_dist.errors import Damaged
from fcdd_dist.evaluation import evaluate
from fcdd_dist.experiment import Form
from fcdd_dist.world import World
from tests.support.shards import SlowStore, write_shards

FORM = Form.parse("png-5-grey")
CLASSES, COUNTS = ["a", "b", "b", "c", "c"], [3, 4, 2, 5, 1]


@pytest.fixture
def store():
    return SlowStore(wait_s=0.01)


@pytest.fixture
def manifest(store):
    shards = write_shards(store, FORM, COUNTS)
    parts = {class_id: SimpleNamespace(shards=[s for s, c in zip(shards, CLASSES, strict=True) if c == class_id])
             for class_id in ("c", "b", "a")}
    return SimpleNamespace(splits={"test": parts}, form=FORM)


def score(store, manifest, world):
    detector = SimpleNamespace(
        experiment=SimpleNamespace(data=SimpleNamespace(nominal="b")), preprocessing=SimpleNamespace(centre=None),
        outputs=lambda images: images.float(),
        objective=SimpleNamespace(score=lambda outputs: outputs.mean((1, 2, 3))))
    return evaluate.score_test(detector, store, manifest, world)


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_a_rank_reads_its_own_shards_and_rank_0_all(store, manifest, size, monkeypatch):
    alone = score(store, manifest, World())
    assert alone.paths == [f"{shard}/{index}" for shard, count in enumerate(COUNTS) for index in range(count)]
    assert alone.classes == [c for c, count in zip(CLASSES, COUNTS, strict=True) for _ in range(count)]
    assert alone.labels.tolist() == [int(c != "b") for c in alone.classes]
    assert (alone.scores > 0).all()
    monkeypatch.setattr(evaluate, "sum_over_ranks", lambda values, *_: values)
    total = torch.zeros(len(alone.scores))
    for rank in range(size):
        store.asked.clear()
        mine = score(store, manifest, World(rank, size))
        total += torch.from_numpy(mine.scores)
        assert sorted(store.asked) == [f"{n}.tar" for n in (range(5) if rank == 0 else range(rank, 5, size))]
        assert mine.paths == (alone.paths if rank == 0 else [])
        assert (mine.classes, mine.places) == (alone.classes, alone.places)
    assert np.array_equal(total.numpy(), alone.scores)


def test_shards_are_fetched_ahead(store, manifest):
    store.most_at_once = 0
    score(store, manifest, World())
    assert store.most_at_once >= 3  # of 5, if the machine is quick


def test_a_sample_without_a_source_is_named_with_its_shard(store, manifest, monkeypatch):
    data = store.read("2.tar").replace(b'{"source": "2/1"}', b'{"sauce!": "2/1"}')
    store.write("2.tar", data)
    shard = manifest.splits["test"]["b"].shards[1]
    changed = shard.model_copy(update={"sha256": hashlib.sha256(data).hexdigest()})
    manifest.splits["test"]["b"].shards[1] = changed
    with pytest.raises(Damaged, match=r"^slow:/2\.tar: x-00000001\.json does not say what the source is$"):
        score(store, manifest, World())


def test_without_a_test_split(store):
    scores = score(store, SimpleNamespace(splits={}, form=FORM), World())
    assert (scores.paths, scores.places, scores.scores.size) == ([], [], 0)
