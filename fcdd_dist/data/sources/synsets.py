"""ImageNet22k as people have it, for exposure: a tar of synset tars (fall11, winter21), or a folder of these.

    fall11_whole.tar         with n00004475.tar, n00005787.tar, ...: the file itself, or the folder that it lies in
    n00004475.tar, ...       or other tars of images in a folder

Unpacked into ``<wnid>/`` folders it is "images". Opening reads one header a synset; a synset is listed when asked for.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from ...errors import BadInput
from .archive import UNPACK, Region, Tars, members, whole
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
    return _source(path, {name: whole(_plain(path / name)) for name in tars})


def _in_tar(path: Path) -> FileSource:
    found = {member.name: member.data for member in members(whole(_plain(path)))
             if member.plain and member.name.lower().endswith(".tar")}
    if not found:
        raise BadInput(f"{path} holds no tars of synsets (n00004475.tar, ...)")
    return _source(path, found)


def _source(path: Path, tars: Mapping[str, Region]) -> FileSource:
    stems = {name: printable(os.path.basename(name)[:-len(".tar")]) for name in sorted(tars)}
    ids = name_classes(stems.values(), {}, str(path))
    regions = {ids[stem]: tars[name] for name, stem in stems.items()}
    return FileSource(str(path), {class_id: stem for stem, class_id in ids.items()}, {"train": Tars(regions)})


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
