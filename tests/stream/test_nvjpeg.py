"""Decoding on a device, with a decoder of the CPU in the place of nvJPEG: what is refused, and where pixels go."""

import numpy as np
import pytest
import torch

from fcdd_dist.errors import BadInput, Damaged
from fcdd_dist.experiment import Form
from fcdd_dist.run import Job, prepare
from fcdd_dist.run.rank import measured_preprocessing, open_stream
from fcdd_dist.storage import MemoryStore
from fcdd_dist.stream import nvjpeg
from fcdd_dist.stream.augment import parameters
from fcdd_dist.stream.resident import Resident
from fcdd_dist.stream.streamed import Streamed
from fcdd_dist.stream.windows import Windows
from fcdd_dist.world import World
from tests.support.photographs import cropping, write_photographs
from tests.support.shards import write_shards

CPU = torch.device("cpu")
FORMS = [Form.parse(text) for text in ("jpeg90-20-rgb", "jpeg90-short20-rgb", "jpeg90-20-grey")]


class FakeIo:
    """Decodes by Pillow and, as nvJPEG may, refuses all images together where one is odd: those of an even length."""

    class ImageReadMode:
        RGB, GRAY = "RGB", "L"

    def __init__(self):
        self.calls = []

    def decode_jpeg(self, data, mode, device):
        import io

        from PIL import Image

        self.calls.append(len(data))
        if any(len(image) % 2 == 0 for image in data):
            raise RuntimeError("nvjpegDecode failed")
        images = [np.asarray(Image.open(io.BytesIO(image.numpy().tobytes())).convert(mode)) for image in data]
        return [torch.from_numpy(image.reshape(*image.shape[:2], -1).transpose(2, 0, 1).copy()) for image in images]


@pytest.fixture
def fake(monkeypatch):
    fake = FakeIo()
    monkeypatch.setattr(nvjpeg, "torchvision", lambda: type("module", (), {"io": fake}))
    return fake


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_the_same_windows_whoever_decodes(form, fake):
    store = MemoryStore()
    shards = write_shards(store, form, [5, 9, 30])
    asked = [(np.random.default_rng(n).integers(0, 44, 20), Windows.drawn(parameters(20, 0, n), 0.5, 16))
             for n in range(4)]
    want = list(Streamed(store, shards, form, CPU, 1).views(asked))
    for opened in (Streamed(store, shards, form, CPU, 2, decode="cuda"),
                   Resident(store, shards, form, CPU, 2, means=True, decode="cuda")):
        for ours, theirs in zip(opened.views(asked), want, strict=True):
            assert torch.equal(ours.images, theirs.images)
            assert torch.equal(ours.means, theirs.means)
    assert 1 in fake.calls  # one by one, where all together are refused
    if form.fit == "square":
        ids = [asked[0][0]]
        (ours,), (theirs,) = (Streamed(store, shards, form, CPU, 1, decode=decode).walk(ids)
                              for decode in ("cpu", "cuda"))
        assert torch.equal(ours, theirs)


def test_a_stored_image_of_another_size_never_reaches_it(fake):
    store = MemoryStore()
    shards = write_shards(store, FORMS[0], [2])
    with pytest.raises(Damaged, match=r"0\.tar: sample x-0000000\d is not a stored jpeg90-16-rgb: its header"):
        list(Streamed(store, shards, Form.parse("jpeg90-16-rgb"), CPU, 1, decode="cuda").walk([np.array([0, 1])]))
    assert fake.calls == []


def test_without_a_gpu_it_is_refused(tmp_path):
    write_photographs(tmp_path, Form.parse("jpeg90-40-rgb"))
    prepared = prepare(Job(experiment=cropping(), data=str(tmp_path), run=str(tmp_path / "run"), decode="cuda"))
    with pytest.raises(BadInput, match="decode=cuda needs a GPU"):
        open_stream(prepared, measured_preprocessing(prepared), World(), CPU)
