"""ImageNet22k as people have it, for exposure: a tar of synset tars (fall11, winter21), or a folder of these.

    fall11_whole.tar         with n00004475.tar, n00005787.tar, ...: the file itself, or the folder that it lies in
    n00004475.tar, ...       or other tars of images in a folder
    imagenet21k_resized.tar  with folders <wnid>/ of images, up to three folders deep: the file, or its folder

Unpacked into ``<wnid>/`` folders it is "images". Opening reads one header and the end of each synset, and of a tar of
folders all headers; a synset is listed when asked for.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from ...errors import BadInput
from .archive import UNPACK, Region, refuse_truncated, tars_in, whole
from .classes_in_tars import TarOfFolders, Tars, Together, holds
from .folders import has_images, names_in, printable
from .source import FileSource, is_wnid, name_classes

_ZIPPED = (".tar.gz", ".tgz")


def detect(path: Path) -> bool:
    if path.is_file():
        return path.name.lower().endswith((".tar", *_ZIPPED))
    tars = _tars(path)
    # Somebody's images may have the tar beside them that they came in; synsets may not be left out in silence.
    return any(_synset(name) or _is_whole(name) for name in tars) or (bool(tars) and not has_images(path))


def open_synsets(path: Path, known: Mapping[str, str]) -> FileSource:
    """Raises BadInput for what can't be read at places, and where it isn't clear which tars are meant."""
    if path.is_file():
        return _in_tar(path)
    tars = _tars(path)
    wholes = [name for name in tars if _is_whole(name)]
    if wholes and (len(tars) > 1 or has_images(path)):
        raise BadInput(f"{path} has {printable(wholes[0])} and other images: give the path of the one to be read")
    if wholes:
        return _in_tar(path / wholes[0])
    if has_images(path):
        raise BadInput(f"{path} has both tars, such as {printable(tars[0])}, and images outside of tars: keep one")
    if len(tars) == 1 and not _synset(tars[0]) and holds(whole(_plain(path / tars[0]))) == "tars":
        return _in_tar(path / tars[0])
    return _source(path, {name: whole(_plain(path / name)) for name in tars})


def _in_tar(path: Path) -> FileSource:
    tar = whole(_plain(path))
    if found := tars_in(tar):
        return _source(path, found)
    if holds(tar) == "folders":
        return _source(path, {path.name: tar})
    raise BadInput(f"{path} holds no tars of synsets (n00004475.tar, ...) and no folders of them")


def _source(path: Path, tars: Mapping[str, Region]) -> FileSource:
    refuse_truncated(tars.values())
    stems = {name: printable(os.path.basename(name)[:-len(".tar")]) for name in sorted(tars)}
    ids = name_classes(stems.values(), {}, str(path))
    regions: dict[str, Region] = {}
    folders: list[TarOfFolders] = []
    for name, stem in stems.items():
        kind = "images" if _synset(stem) else holds(tars[name])
        if kind == "tars":
            raise BadInput(f"{tars[name].name} holds tars, unlike those beside it: give its path, or move it away")
        if kind == "folders":
            folders.append(TarOfFolders(tars[name], f"{stem}/", ids[stem]))
        else:
            regions[ids[stem]] = tars[name]
    classes = {class_id: stem for stem, class_id in ids.items() if class_id in regions}
    for class_id in sorted({class_id for tar in folders for class_id in tar.classes}):
        classes.setdefault(class_id, class_id)
    return FileSource(str(path), classes, {"train": Together([Tars(regions), *folders])})


def _tars(path: Path) -> list[str]:
    """The names of the tars right in a folder, sorted."""
    return sorted(name for name in names_in(path) if not name.startswith(".")
                  and name.lower().endswith((".tar", *_ZIPPED)) and (path / name).is_file())


def _plain(path: Path) -> Path:
    if path.name.lower().endswith(_ZIPPED):
        raise BadInput(f"{path} is gzipped; {UNPACK}")
    return path


def _synset(name: str) -> bool:
    return is_wnid(name.partition(".")[0])


def _is_whole(name: str) -> bool:
    return "whole" in name.lower()
