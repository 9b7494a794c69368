"""Batches: cut into pieces that fit a core's cache, they are what they are at once."""

import weakref
from itertools import islice

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

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
    return next(stream(name, form, settings, world).batches(Cursor(), 1))[1]


def stream(name, form, settings=(), world=World(), device=CPU, exposed=True, side=16):  # noqa: B008  (frozen)
    e = recipe(name).experiment("x", 0).override([
        "batch_size=18", "lanes=4", "data.window=4", *settings])
    nominal, exposure = (open_pixels(store, write_shards(store, form, [7, 5, 9]), form, device, budget=10**9, lanes=4,
                                     window=4, threads=1, means=e.augmentation.crop == "random")
                         for store in (MemoryStore(), MemoryStore()))
    order = Order(batch_size=e.batch_size, lanes=e.lanes, seed=0, window=4, repeats=e.data.repeats, nominal=(7, 5, 9),
                  exposure=(7, 5, 9) if exposed else (), settings=e.exposure)
    how = Preprocessing.measured(e.data.normalization, side, mean=(0.4,) * 3, std=(0.2,) * 3,
                                 lcn_minimum=(-2.0,) * 3, lcn_maximum=(2.0,) * 3,
                                 view="centre" if e.augmentation.crop == "random" else "whole")
    return Stream(e, world, order, nominal, exposure if exposed else None, how, device)


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


@pytest.mark.slow
@pytest.mark.parametrize(("rows", "lanes"), [(57, 8), (8, 8), (3, 2)])
def test_the_number_of_threads_changes_nothing(rows, lanes):
    """Sums over a whole image that is alone would be shared by the threads: pieces never have one image alone."""
    threads, found = torch.get_num_threads(), []
    opened = stream("folder", Form.parse("jpeg95-232-rgb"), [f"batch_size={rows}", f"lanes={lanes}"], side=224)
    parts = [stream("folder", Form.parse("jpeg95-232-rgb"), [f"batch_size={rows}", f"lanes={lanes}"], World(rank, 2),
                    side=224) for rank in range(2)]
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            of_world, *of_ranks = ([batch.images for _, batch in islice(each.batches(Cursor(), 9), 1 + 60 // rows)]
                                   for each in (opened, *parts))
            found += [torch.cat(of_world), torch.cat([torch.cat(both) for both in zip(*of_ranks, strict=True)])]
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(images, found[0]) for images in found)


@pytest.mark.parametrize("exposed", [False, True])
def test_steps_that_are_over_are_forgotten(exposed, monkeypatch):
    draws = []

    def drawn(*arguments, parameters=batches.parameters):
        made = parameters(*arguments).copy()  # which the rows of a step, a view, keep alive
        draws.append(weakref.ref(made))
        return made

    monkeypatch.setattr(batches, "parameters", drawn)
    probability = 0.5 if exposed else 0
    opened = stream("folder", Form.parse("jpeg95-18-rgb"), [f"exposure.probability={probability}", "batch_size=4"],
                    exposed=exposed)
    epochs = -(-200 // opened.steps_per_epoch)
    for _ in opened.batches(Cursor(), epochs):
        assert sum(made() is not None for made in draws) < 130  # tee lets go of many at a time
    assert len(draws) >= 200


class Waits(TorchDispatchMode):
    """Fails where the host would wait for a device: at copies that block, and at reading values."""

    def __torch_dispatch__(self, function, types, arguments=(), more=None):
        more = more or {}
        name = function.overloadpacket.__name__
        assert name != "_local_scalar_dense"
        if name == "_to_copy" and arguments[0].device.type != (more.get("device") or arguments[0].device).type:
            assert more.get("non_blocking"), "a copy that the host waits for"
        return function(*arguments, **more)


@pytest.mark.parametrize(("name", "form"), [("imagenet30", "jpeg90-20-rgb"), ("folder", "jpeg95-18-rgb"),
                                            ("cifar10", "png-16-rgb")])
def test_the_host_does_not_wait_for_the_device(name, form):
    """Seen on a device that computes nothing; noise is drawn where the device has a generator."""
    opened = stream(name, Form.parse(form), ["augmentation.noise=null"], device=torch.device("meta"))
    steps = opened.batches(Cursor(), 1)
    with Waits():
        assert next(steps)[1].images.device.type == "meta"
    with pytest.raises(AssertionError), Waits():  # what it would see
        torch.ones(3).to("meta")
