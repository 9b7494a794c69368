"""A shard decoded at once gives what its members give one by one, and whatever is odd goes to the careful reader."""

import hashlib
import json

import numpy as np
import pytest

from fcdd_dist.data import stored_png
from fcdd_dist.data.images import encode
from fcdd_dist.data.manifest import Shard
from fcdd_dist.data.shards import decode
from fcdd_dist.data.shards.decode import decode_samples, decode_shard
from fcdd_dist.data.shards.read import fetch, read_shard
from fcdd_dist.errors import Damaged
from fcdd_dist.experiment import Form
from fcdd_dist.storage import MemoryStore

FORMS = ["png-5-grey", "png-28-grey", "png-32-rgb", "png-200-rgb", "jpeg95-32-rgb"]  # 200 px need two deflate blocks


def write(form, names=("a", "b" * 600, "c"), spoil=lambda data: data):
    """A store with one shard of random images; source names of several lengths move the members about."""
    import io

    from webdataset import TarWriter

    random = np.random.default_rng(0)
    file = io.BytesIO()
    with TarWriter(file, user="", group="", mode=0o444, mtime=0, encoder=False) as tar:
        for number, name in enumerate(names):
            pixels = random.integers(0, 256, (form.side, form.side, form.channels), dtype=np.uint8)
            tar.write({"__key__": f"x-{number:08d}", form.extension: encode(pixels, form),
                       "json": json.dumps({"source": name}).encode()})
    data = spoil(file.getvalue())
    store = MemoryStore()
    store.write("x.tar", data)
    return store, Shard(key="x.tar", samples=len(names), bytes=len(data), sha256=hashlib.sha256(data).hexdigest())


@pytest.mark.parametrize("names", [("a",), ("a", "b", "c"), ("a", "b" * 600, "c")])
@pytest.mark.parametrize("text", FORMS)
def test_at_once_is_one_by_one(text, names):
    form = Form.parse(text)
    store, shard = write(form, names)
    want = decode_samples(read_shard(store, shard), form, store, shard)
    assert np.array_equal(decode_shard(fetch(store, shard), form, store, shard), want)
    at_once = decode._all_at_once(store.read("x.tar"), shard, form)
    assert np.array_equal(at_once, want) if form.quality is None else at_once is None


@pytest.mark.parametrize("spoil", [
    lambda data: data.replace(b"IHDR", b"XHDR", 1),
    lambda data: data.replace(b".png", b".pkl", 1),
    lambda data: data.rstrip(b"\0") + bytes(600),
    lambda data: data[:512] + b"\xff" * 512,
])
def test_what_is_odd_is_refused_though_the_manifest_vouches_for_it(spoil):
    form = Form.parse("png-28-grey")
    store, shard = write(form, spoil=spoil)
    with pytest.raises(Damaged, match=r"x\.tar"):
        decode_shard(fetch(store, shard), form, store, shard)


def test_another_writers_png_is_decoded_by_the_careful_reader():
    import io

    from PIL import Image

    form = Form.parse("png-28-grey")
    pixels = np.arange(784, dtype=np.uint8).reshape(28, 28)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    compressed = file.getvalue()
    assert stored_png.decode(compressed, 28, 1) is None
    import webdataset

    tar_file = io.BytesIO()
    with webdataset.TarWriter(tar_file, user="", group="", mode=0o444, mtime=0, encoder=False) as tar:
        tar.write({"__key__": "x-00000000", "png": compressed, "json": b'{"source": "y"}'})
    data, store = tar_file.getvalue(), MemoryStore()
    store.write("x.tar", data)
    shard = Shard(key="x.tar", samples=1, bytes=len(data), sha256=hashlib.sha256(data).hexdigest())
    assert np.array_equal(decode_shard(fetch(store, shard), form, store, shard)[0, 0], pixels)
