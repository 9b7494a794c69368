"""Decoding on a device, with a decoder of the CPU in the place of nvJPEG: what is refused, and where pixels go."""

import numpy as np
import pytest
import torch

from fcdd_dist import checkpoint
from fcdd_dist.detector import Detector, build_network
from fcdd_dist.errors import BadInput, Damaged
from fcdd_dist.experiment import Form
from fcdd_dist.recipes import recipe
from fcdd_dist.run import Job, claim, prepare, run_rank
from fcdd_dist.run.commit import Commits
from fcdd_dist.run.rank import measured_preprocessing, open_stream, versions
from fcdd_dist.storage import FolderStore, MemoryStore
from fcdd_dist.stream import nvjpeg
from fcdd_dist.stream.augment import parameters
from fcdd_dist.stream.nvjpeg import check_decoder
from fcdd_dist.stream.resident import Resident
from fcdd_dist.stream.streamed import Streamed
from fcdd_dist.stream.windows import Windows
from fcdd_dist.training.fit import State
from fcdd_dist.world import World
from tests.support.photographs import cropping, write_photographs
from tests.support.shards import write_shards

CPU = torch.device("cpu")
FORMS = [Form.parse(text) for text in ("jpeg90-20-rgb", "jpeg90-short20-rgb", "jpeg90-20-grey")]


class FakeIo:
    """Decodes by Pillow and, as nvJPEG may, refuses all images together where one is odd: those of an even length.

    But for the tiny one that it is tried with.
    """

    class ImageReadMode:
        RGB, GRAY = "RGB", "L"

    def __init__(self):
        self.calls, self.broken = [], None

    def decode_jpeg(self, data, mode, device):
        import io

        from PIL import Image

        self.calls.append(len(data))
        if self.broken is not None:
            raise self.broken
        images = [np.asarray(Image.open(io.BytesIO(image.numpy().tobytes())).convert(mode)) for image in data]
        if any(len(file) % 2 == 0 for file, image in zip(data, images, strict=True) if len(image) != 16):
            raise RuntimeError("nvjpegDecode failed")
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
    assert 20 in fake.calls  # a whole request
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


class Ill(RuntimeError):
    pass


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), Ill("CUDA error: unspecified")])
def test_a_device_that_fails_is_no_image_that_is_refused(error, fake):
    store = MemoryStore()
    shards = write_shards(store, FORMS[0], [9])
    fake.broken = error
    with pytest.raises(type(error), match="CUDA"):
        list(Streamed(store, shards, FORMS[0], CPU, 1, decode="cuda").walk([np.arange(9)]))
    with pytest.raises(type(error), match="CUDA"):
        Resident(store, shards, FORMS[0], CPU, 1, decode="cuda")


def test_it_is_tried_before_anything_is_left_to_the_cpu(fake):
    cuda = torch.device("cuda")
    check_decoder(cuda)
    fake.broken = RuntimeError("decode_jpegs_cuda: torchvision not compiled with nvJPEG support\nmore")
    with pytest.raises(BadInput, match=r"can't decode JPEG \(decode_.* with nvJPEG support\): leave it out$"):
        check_decoder(cuda)


def test_png_is_refused(tmp_path, digits_data):
    digits = recipe("digits").experiment("0", 0)
    with pytest.raises(BadInput, match=r"decode=cuda is for JPEG, and .* is stored as png-"):
        prepare(Job(experiment=digits, data=digits_data, run=str(tmp_path), decode="cuda"))


def test_a_run_that_goes_on_with_another_decoder_says_so_and_keeps_both(tmp_path, monkeypatch):
    # Pictures take longer than all the rest, and nobody looks at them here.
    monkeypatch.setattr("fcdd_dist.evaluation.pictures.write_heatmaps", lambda *arguments: None)
    write_photographs(tmp_path, Form.parse("jpeg90-40-rgb"))
    job = Job(experiment=cropping(epochs=1), data=str(tmp_path), run=str(tmp_path / "run"))
    prepared = prepare(job)
    claim(prepared)
    assert run_rank(job, World())["decode"] == "cpu"
    name = checkpoint.names(FolderStore(job.run))[-1]
    record = checkpoint.read_record(FolderStore(job.run).at(f"checkpoints/{name}"))
    assert record.versions["decode"] == "cpu"
    said, e = [], prepared.experiment
    network = build_network(e)
    for decode, kept, lines in (("cuda", "cpu, then cuda", 1), ("cpu", "cpu", 0)):
        changed = prepare(job.model_copy(update={"decode": decode}))
        commits = Commits(changed, World(), Detector(e, network, measured_preprocessing(changed)), versions(),
                          said.append, lambda state: None)
        said.clear()
        commits.restore(State.initial(network, e))
        assert commits.decode == kept
        assert sum("this run was begun with decode=cpu and goes on with decode=cuda" in line for line in said) == lines
        assert not any("may differ" in line for line in said)


def test_without_a_gpu_it_is_refused(tmp_path):
    write_photographs(tmp_path, Form.parse("jpeg90-40-rgb"))
    prepared = prepare(Job(experiment=cropping(), data=str(tmp_path), run=str(tmp_path / "run"), decode="cuda"))
    with pytest.raises(BadInput, match="decode=cuda needs a GPU"):
        open_stream(prepared, measured_preprocessing(prepared), World(), CPU)
