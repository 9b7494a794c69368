"""Batches: cut into pieces that fit a core's cache, they are what they are at once."""

import numpy as np
import pytest
import torch

from fcdd_dist.data.order import Order
from fcdd_dist.experiment import Form
from fcdd_dist.model.normalization import Preprocessing
from fcdd_dist.recipes import recipe
from fcdd_dist.storage import MemoryStore
from fcdd_dist.stream import batches
from fcdd_dist.stream.batches import Cursor, Stream
from fcdd_dist.stream.pixels import open_pixels
from fcdd_dist.world import World
from tests.support.shards import write_shards

CPU = torch.device("cpu")


def batch(name, form, settings=(), world=World()):  # noqa: B008  (frozen)
    """The first batch of 18 rows in 4 lanes, half of them exposure."""
    experiment = recipe(name).experiment("x", 0).override([
        "batch_size=18", "lanes=4", "data.window=4", *settings])
    nominal, exposure = (open_pixels(store, write_shards(store, form, [7, 5, 9]), form, CPU, budget=10**9, lanes=4,
                                     window=4, threads=1, means=experiment.augmentation.crop == "random")
                         for store in (MemoryStore(), MemoryStore()))
    order = Order(batch_size=18, lanes=4, seed=0, window=4, repeats=1, nominal=(7, 5, 9), exposure=(7, 5, 9),
                  settings=experiment.exposure)
    how = Preprocessing.measured(experiment.data.normalization, 16, mean=(0.4,) * 3, std=(0.2,) * 3,
                                 lcn_minimum=(-2.0,) * 3, lcn_maximum=(2.0,) * 3,
                                 view="centre" if experiment.augmentation.crop == "random" else "whole")
    stream = Stream(experiment, world, order, nominal, exposure, how, CPU)
    return next(stream.batches(Cursor(), 1))[1]


@pytest.mark.parametrize(("name", "form"), [("imagenet30", "jpeg90-20-rgb"), ("imagenet30", "jpeg90-short20-rgb"),
                                            ("folder", "jpeg95-18-rgb")])
@pytest.mark.parametrize("bytes_together", [1, 2 * 4 * 3 * 16 * 16])
def test_a_few_at_a_time_are_what_all_are_at_once(name, form, bytes_together, monkeypatch):
    form = Form.parse(form)
    whole = batch(name, form)
    monkeypatch.setattr(batches, "_IN_CACHE", bytes_together)
    pieces = batch(name, form)
    assert pieces.images.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(pieces.labels, whole.labels)
    torch.testing.assert_close(pieces.images, whole.images, rtol=1e-5, atol=1e-5)
    ranks = [batch(name, form, world=World(rank, 3)) for rank in range(3)]
    assert torch.equal(torch.cat([part.images for part in ranks]), pieces.images)


def test_the_noise_is_the_same_in_pieces(monkeypatch):
    """Where noise is all that is random: bit for bit."""
    settings = ["augmentation.jitter=[]", "augmentation.noise.std=0.1"]
    whole = batch("imagenet30", Form.parse("jpeg90-20-rgb"), settings)
    monkeypatch.setattr(batches, "_IN_CACHE", 1)
    pieces = batch("imagenet30", Form.parse("jpeg90-20-rgb"), settings)
    assert torch.equal(pieces.images, whole.images)
    assert np.unique(pieces.images).size > 1000
