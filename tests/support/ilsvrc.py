"""ILSVRC2012 and ImageNet22k in miniature, in the layouts that people have them in.

``images`` are bytes of image files by WordNet id: ``{"n01440764": [jpeg, jpeg], ...}``.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

Images = Mapping[str, Sequence[bytes]]

TRUTH = "ILSVRC2012_validation_ground_truth.txt"
KIT = "ILSVRC2012_devkit_t12"


def tar_bytes(members: Iterable[tuple[str | tarfile.TarInfo, bytes]], format: int = tarfile.USTAR_FORMAT) -> bytes:
    """A tar of the given names, or headers, and contents."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=format) as tar:
        for name, data in members:
            info = name if isinstance(name, tarfile.TarInfo) else tarfile.TarInfo(name)
            if info.isreg():
                info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return file.getvalue()


def named(wnid: str, files: Sequence[bytes]) -> list[tuple[str, bytes]]:
    return [(f"{wnid}_{number}.JPEG", data) for number, data in enumerate(files, 1)]


def synset_tar(wnid: str, files: Sequence[bytes]) -> bytes:
    return tar_bytes(named(wnid, files))


def write_train_tar(path: Path, images: Images) -> None:
    """``ILSVRC2012_img_train.tar``: a tar of a tar a class."""
    path.write_bytes(tar_bytes((f"{wnid}.tar", synset_tar(wnid, files)) for wnid, files in images.items()))


def val_name(number: int) -> str:
    return f"ILSVRC2012_val_{number:08d}.JPEG"


def write_val_tar(path: Path, images_in_order: Sequence[bytes]) -> None:
    """``ILSVRC2012_img_val.tar``: images in one heap, from number 1."""
    path.write_bytes(tar_bytes((val_name(number), data) for number, data in enumerate(images_in_order, 1)))


def write_val_heap(folder: Path, images_in_order: Sequence[bytes]) -> None:
    """What the tar of validation images is unpacked into."""
    folder.mkdir(parents=True)
    for number, data in enumerate(images_in_order, 1):
        (folder / val_name(number)).write_bytes(data)


def meta_mat(wnids: Sequence[str]) -> bytes:
    """The devkit's table: the classes in an order of its own, numbered from 1, then synsets that have children."""
    from scipy.io import savemat

    fields = ("ILSVRC2012_ID", "WNID", "words", "gloss", "num_children", "children", "wordnet_height",
              "num_train_images")
    rows = [(float(number), wnid, f"{wnid}, word", "a gloss", 0.0, np.zeros((1, 0)), 0.0, 1300.0)
            for number, wnid in enumerate(wnids, 1)]
    rows += [(float(number), f"n0000{number:04d}", "group", "a gloss", 2.0, np.array([1.0, 2.0]), 1.0, 0.0)
             for number in range(len(wnids) + 1, len(wnids) + 4)]
    table = np.empty((len(rows), 1), dtype=[(field, object) for field in fields])
    for place, row in enumerate(rows):
        table[place, 0] = row
    file = io.BytesIO()
    savemat(file, {"synsets": table})
    return file.getvalue()


def devkit_files(wnids: Sequence[str], labels: Sequence[str]) -> dict[str, bytes]:
    """The two files that matter. ``labels``: the WordNet id of each validation image, in the order of their numbers."""
    numbers = {wnid: number for number, wnid in enumerate(wnids, 1)}
    return {"meta.mat": meta_mat(wnids), TRUTH: "".join(f"{numbers[wnid]}\n" for wnid in labels).encode()}


def write_devkit(path: Path, wnids: Sequence[str], labels: Sequence[str]) -> None:
    """``path``: ``ILSVRC2012_devkit_t12.tar.gz``, or the folder that it is unpacked into."""
    files = {"readme.txt": b"about the devkit", **{f"data/{name}": data for name, data in
                                                  devkit_files(wnids, labels).items()}}
    if path.name.endswith(".gz"):
        with tarfile.open(path, "w:gz") as tar:
            for name, data in files.items():
                info = tarfile.TarInfo(f"{KIT}/{name}")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
        return
    (path / "data").mkdir(parents=True)
    for name, data in files.items():
        (path / name).write_bytes(data)


def write_kaggle_csv(path: Path, labels: Sequence[str]) -> None:
    rows = [f"{Path(val_name(number)).stem},{wnid} 1 2 3 4 {wnid} 5 6 7 8" for number, wnid in enumerate(labels, 1)]
    path.write_text("\n".join(["ImageId,PredictionString", *reversed(rows)]) + "\n")  # Kaggle's rows have no order


def write_csv(path: Path, labels: Sequence[str]) -> None:
    path.write_text("".join(f"{val_name(number)},{wnid}\n" for number, wnid in enumerate(labels, 1)))


def write_lines(path: Path, labels: Sequence[str]) -> None:
    path.write_text("".join(f"{wnid}\n" for wnid in labels))


def write_folders(folder: Path, images: Images) -> None:
    """A folder a class, as in ``train``, ``val`` or ImageNet22k unpacked."""
    for wnid, files in images.items():
        (folder / wnid).mkdir(parents=True)
        for name, data in named(wnid, files):
            (folder / wnid / name).write_bytes(data)


def write_whole_tar(path: Path, images: Images, prefix: str = "") -> None:
    """``fall11_whole.tar``; winter21 has the prefix ``winter21_whole/``."""
    folder = tarfile.TarInfo(prefix.rstrip("/"))
    folder.type = tarfile.DIRTYPE
    path.write_bytes(tar_bytes([*([(folder, b"")] if prefix else []), *(
        (f"{prefix}{wnid}.tar", synset_tar(wnid, files)) for wnid, files in images.items())]))


def write_synset_tars(folder: Path, images: Images) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for wnid, files in images.items():
        (folder / f"{wnid}.tar").write_bytes(synset_tar(wnid, files))
