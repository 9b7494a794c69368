"""Classes of images in tars: a tar a class, or tars of folders of which each is a class. All are listed when asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice

from PIL import Image

from ...errors import BadInput
from .archive import Region, holds_image, images, members, reads
from .source import LEVELS, Files, is_wnid

_SAMPLE_TARS, _SAMPLE_MEMBERS = 16, 50  # by which images are weighed, and by which it is told what a tar holds
_USUAL = 110_000  # bytes an image where the sample has none; of ImageNet22k
_RUNS = 200_000  # of members of one class; ImageNet22k has 21,841 if packed folder by folder

Images = Iterator[tuple[str, Callable[[], Image.Image]]]


class Tars:
    """Images in one tar for each class."""

    exact = False

    def __init__(self, tars: Mapping[str, Region], before: str = "", *, empty: bool = True) -> None:
        """``before``: what item names begin with. ``empty``: whether a class may be without images."""
        self._tars, self._before, self._empty = tars, before, empty

    def images(self, class_id: str) -> Images:
        if class_id not in self._tars:
            return
        found = images(self._tars[class_id])
        if not found and not self._empty:
            raise BadInput(f"{self._tars[class_id].name} has no images: leave the class out, or get it again")
        for name, read in found.items():
            yield f"{self._before}{class_id}/{name}", read

    def about(self, class_id: str) -> int:
        """An estimate by the bytes: the headers of all of ImageNet22k are 14 million reads."""
        return max(1, self._tars[class_id].size // self._bytes_per_image) if class_id in self._tars else 0

    @cached_property
    def _bytes_per_image(self) -> int:
        """With headers and padding, in the first members of some of the tars, evenly spread."""
        names = sorted(self._tars)
        some = min(_SAMPLE_TARS, len(names))
        count, filled = 0, 0
        for place in range(some):
            end = 0
            for member in islice(members(self._tars[names[place * len(names) // some]]), _SAMPLE_MEMBERS):
                count, end = count + holds_image(member), member.end
            filled += end
        return max(1, filled // count) if count else _USUAL


@dataclass
class _Class:
    count: int = 0
    runs: list[tuple[int, int]] = field(default_factory=list)  # bytes of the tar, from header to header


class TarOfFolders:
    """Images in a tar whose classes are the folders with WordNet ids for names; others are of the class ``rest``.

    All headers are read once; held are the stretches of the tar in which a class's members lie together, and a class's
    headers are read again when it is asked for. Raises BadInput where classes are mixed, which is too much to hold.
    """

    exact = True

    def __init__(self, tar: Region, before: str, rest: str) -> None:
        self._tar, self._before, self._rest = tar, before, rest
        self._classes: dict[str, _Class] = {}
        last, runs = None, 0
        for member in members(tar):
            if not holds_image(member):
                continue
            name = class_folder(member.name) or rest
            found = self._classes.setdefault(name, _Class())
            found.count += 1
            if name == last:
                found.runs[-1] = (found.runs[-1][0], member.end)
                continue
            found.runs.append((member.start, member.end))
            last, runs = name, runs + 1
            if runs > _RUNS:
                raise BadInput(f"{tar.name} has its classes mixed: unpack it into folders, and give their folder")

    @property
    def classes(self) -> list[str]:
        return sorted(self._classes)

    def images(self, class_id: str) -> Images:
        if class_id not in self._classes:
            return
        tar, found = self._tar, {}
        for start, end in self._classes[class_id].runs:
            run = Region(tar.path, tar.stamp, tar.start + start, end - start, f"{class_id}/")
            for member in members(run):
                if holds_image(member) and (class_folder(member.name) or self._rest) == class_id:
                    found[member.name] = reads(member)
        for name in sorted(found):
            yield f"{self._before}{name}", found[name]

    def about(self, class_id: str) -> int:
        return self._classes[class_id].count if class_id in self._classes else 0


class Together:
    """The files of several: each may have some of a class."""

    def __init__(self, parts: Sequence[Files]) -> None:
        self._parts = parts
        self.exact = all(part.exact for part in parts)

    def images(self, class_id: str) -> Images:
        found = [image for part in self._parts for image in part.images(class_id)]
        yield from sorted(found, key=lambda image: image[0])

    def about(self, class_id: str) -> int:
        return sum(part.about(class_id) for part in self._parts)


def class_folder(name: str) -> str | None:
    """The WordNet id among the first folders of a member's name; None where there is none."""
    return next((part for part in name.split("/")[:-1][:LEVELS + 1] if is_wnid(part)), None)


def holds(tar: Region) -> str:
    """"tars", "folders" (of WordNet ids) or "images", by the first members. Raises BadInput as ``members``."""
    for member in islice(members(tar), _SAMPLE_MEMBERS):
        if member.plain and member.name.lower().endswith(".tar"):
            return "tars"
        if holds_image(member) and class_folder(member.name):
            return "folders"
    return "images"
