"""What all tests share: the folder of real image sets, and images made up on the spot."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


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
