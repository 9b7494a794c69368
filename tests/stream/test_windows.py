"""Windows: cut first and jittered then, they are what jittering first and cutting then gives; however they are cut."""

import numpy as np
import pytest
import torch

from fcdd_dist.data.shards.decode import decode_sample
from fcdd_dist.data.shards.read import read_shard
from fcdd_dist.errors import Damaged
from fcdd_dist.experiment import Augmentation, Form
from fcdd_dist.storage import MemoryStore
from fcdd_dist.stream import streamed
from fcdd_dist.stream.augment import _jitter, augment, parameters
from fcdd_dist.stream.pixels import open_pixels
from fcdd_dist.stream.resident import Resident
from fcdd_dist.stream.streamed import Streamed
from fcdd_dist.stream.windows import Windows, mean_colour
from tests.support.shards import SlowStore, no_thread_is_left, until, write_shards

CPU = torch.device("cpu")
FORMS = [Form.parse(text) for text in ("jpeg90-20-rgb", "jpeg90-short20-rgb", "jpeg90-short20-grey", "png-20-rgb")]


@pytest.fixture(autouse=True)
def threads_end():
    yield
    until(no_thread_is_left)


def decoded(store, shards, form):
    return [decode_sample(sample, form, store, shard) for shard in shards for sample in read_shard(store, shard)]


def requests(samples, count=12, size=9, side=16):
    random = np.random.default_rng(1)
    for step in range(count):
        n = int(random.integers(0, size + 1))
        yield random.integers(0, samples, n), Windows.drawn(parameters(n, 0, step), 0.5, side)


@pytest.mark.parametrize("form", FORMS, ids=str)
@pytest.mark.parametrize("room", [1, 100])
def test_resident_and_streamed_give_the_windows_that_are_asked_for(form, room, monkeypatch):
    store = MemoryStore()
    shards = write_shards(store, form, [3, 1, 4, 7, 2, 5, 3])
    monkeypatch.setattr(streamed, "STREAM_BYTES", room * max(shard.bytes for shard in shards))
    monkeypatch.setattr(streamed, "_TOGETHER", 2)
    images = decoded(store, shards, form)
    asked = list(requests(25))
    for opened in (Resident(store, shards, form, CPU, 2, means=True), Streamed(store, shards, form, CPU, 2)):
        given = list(opened.views(iter(asked)))
        assert len(given) == len(asked)
        for (ids, windows), (squares, means) in zip(asked, given, strict=True):
            assert squares.shape == (len(ids), form.channels, 16, 16)
            for row, sample in enumerate(ids):
                image = images[sample]
                top, left = (int(drawn[row] * (extent - 15)) for drawn, extent in
                             ((windows.down, image.shape[1]), (windows.across, image.shape[2])))
                want = image[:, top: top + 16, left: left + 16]
                assert np.array_equal(squares[row].numpy(), want[:, :, ::-1] if windows.mirrored[row] else want)
                assert np.allclose(means[row], image.mean((1, 2)) / 255, atol=1e-6)


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_a_gather_gives_what_slices_give(form):
    store = MemoryStore()
    shards = write_shards(store, form, [5, 9])
    resident = Resident(store, shards, form, CPU, 1, means=True)
    assert resident.resident_bytes == sum(image.size for image in decoded(store, shards, form))
    for ids, windows in requests(14):
        assert torch.equal(resident._gather(ids, windows), resident._slices(ids, windows))


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_jitter_of_a_window_is_the_window_of_the_jittered_image(form):
    """Contrast with the mean of the whole image, as the paper's pipeline has it."""
    store = MemoryStore()
    (shard,) = write_shards(store, form, [12])
    how = Augmentation(jitter=((0.4, 0.4, 0.4, 0.1),), crop="random", flip=0.5)
    ids, draws = np.arange(12), parameters(12, 3, 0)
    windows = Windows.drawn(draws, how.flip, 16)
    ((squares, means),) = Resident(store, (shard,), form, CPU, 1, means=True).views([(ids, windows)])
    ours = augment(squares, how, draws, 16, None, means)
    for row, image in enumerate(decoded(store, (shard,), form)):
        x = torch.from_numpy(image.copy()).float()[None] / 255
        whole = _jitter(x, how.jitter, draws[row: row + 1], x.mean((2, 3)))[0].numpy()
        want = np.empty_like(ours[row])
        windows.cut(row, whole, want)
        assert np.allclose(ours[row], want, atol=2e-6)
    wrong = augment(squares, how, draws, 16, None)  # with the mean of the window
    assert not torch.allclose(wrong, ours, atol=1e-3)


def test_every_place_and_both_sides_are_drawn():
    windows = Windows.drawn(parameters(2000, 0, 0), 0.5, 3)
    top, left = windows.corners(np.tile([4, 5], (2000, 1)))
    found, counts = np.unique(np.stack([top, left, windows.mirrored]), axis=1, return_counts=True)
    assert found.shape[1] == 2 * 3 * 2
    assert counts.min() > 100
    whole = Windows(np.array([0.999999]), np.array([0.5]), np.array([False]), 4)
    assert [int(corner[0]) for corner in whole.corners(np.array([[4, 4]]))] == [0, 0]


def test_the_mean_colour_of_the_brightest_and_largest_image():
    for height in (1, 256, 257, 258, 512):
        assert mean_colour(np.full((height, 256, 3), 255, np.uint8)).tolist() == [1, 1, 1]
    assert mean_colour(np.zeros((1, 1, 1), np.uint8)).tolist() == [0]


def test_mixed_sizes_are_resident_where_the_largest_would_fit():
    store, form = MemoryStore(), FORMS[1]
    shards = write_shards(store, form, [10, 10])
    common = {"lanes": 2, "window": 4, "threads": 1, "means": True}
    bound = 20 * 3 * 20 * 40
    assert isinstance(open_pixels(store, shards, form, CPU, budget=bound - 1, **common), Streamed)
    opened = open_pixels(store, shards, form, CPU, budget=bound, **common)
    assert isinstance(opened, Resident)
    assert 20 * 3 * 20 * 20 < opened.resident_bytes < bound


def test_waiting_is_measured_where_there_is_any():
    store, form = SlowStore(wait_s=0.5), FORMS[0]
    shards = write_shards(store, form, [2] * 4)
    slow = Streamed(store, shards, form, CPU, 1)
    list(slow.walk([np.array([0, 7])]))
    assert slow.waited_s >= 0.4  # threads of the walk may have begun before it waits
    before = slow.waited_s
    list(slow.walk([np.array([0, 7])]))  # its shards are there by now
    assert slow.waited_s - before < 0.4
    assert Resident(store, shards, form, CPU, 1).waited_s == 0


def test_many_threads_share_a_request(monkeypatch):
    """So that cores beyond the number of requests ahead are of use, and the first batch comes early."""
    import threading

    store, form = MemoryStore(), FORMS[0]
    shards = write_shards(store, form, [64])
    meet = threading.Barrier(4, timeout=20)
    decode, first = streamed.decode_pixels, threading.local()

    def meeting(*arguments):
        if not hasattr(first, "done"):
            first.done = True
            meet.wait()
        return decode(*arguments)

    monkeypatch.setattr(streamed, "decode_pixels", meeting)
    (images,) = Streamed(store, shards, form, CPU, 4).walk([np.arange(64)])
    assert len(images) == 64


def cut_short(data, form):
    return data[:-700]


def flip(data, form):
    return data[:900] + bytes([data[900] ^ 4]) + data[901:]


@pytest.mark.parametrize("form", FORMS[:2], ids=str)
@pytest.mark.parametrize("spoil", [cut_short, flip])
@pytest.mark.parametrize("once", [True, False])
def test_photographs_that_come_damaged_are_read_once_more(form, spoil, once):
    class Damaging(SlowStore):
        def read(self, key, start=0, end=None):
            data = super().read(key, start, end)
            damaged = key == "2.tar" and (not once or self.asked.count(key) == 1)
            return spoil(data, form) if damaged else data

    store = Damaging()
    shards = write_shards(store, form, [3] * 5)
    asked = [(np.array([2 * number, 14]), Windows.drawn(parameters(2, 0, number), 0.5, 16)) for number in range(7)]
    for open_ in (lambda: Streamed(store, shards, form, CPU, 2),
                  lambda: Resident(store, shards, form, CPU, 2, means=True)):
        store.asked.clear()
        if once:
            assert len(list(open_().views(asked))) == 7
        else:
            with pytest.raises(Damaged, match=r"slow:/2\.tar.*copy the data set again, or shard it anew"):
                list(open_().views(asked))
        assert store.asked.count("2.tar") == 2


@pytest.mark.parametrize("form", FORMS[:2], ids=str)
def test_shards_that_are_not_what_their_record_says(form):
    """Whose bytes are those of the record: then they were so when they were written."""
    store = MemoryStore()
    other = Form.parse("jpeg90-24-rgb")
    (larger,) = write_shards(store, other, [3])
    (shard,) = write_shards(MemoryStore("", store._objects), form, [3])
    asked = [(np.array([1]), Windows.drawn(parameters(1, 0, 0), 0.5, 16))]
    for wrong, message in ((shard.model_copy(update={"samples": 4}), r"0\.tar has 3 samples and should have 4"),
                           (larger, r"0\.tar: sample x-0000000\d is not a stored jpeg90-.*24 x 24")):
        if wrong is larger:
            write_shards(store, other, [3])
        for open_ in (Streamed, Resident):
            more = {"means": True} if open_ is Resident else {}
            with pytest.raises(Damaged, match=message):
                list(open_(store, (wrong,), form, CPU, 1, **more).views(asked))
