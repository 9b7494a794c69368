"""Images in, encoded samples and shards out, and the account of what was left out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable
from functools import cache
from importlib.metadata import version

import numpy as np
from PIL import features

from ... import __version__
from ...errors import BadInput
from ...experiment import Form, Value
from ..images import BadImage, decode_stored, encode, to_form
from ..manifest import LeftOut, Part
from ..sources import Item
from .spool import Spool, Spooled
from .statistics import measure
from .tars import PartWriter
from .uploads import Uploads

_SHOWN = 3  # bad images that a message names


class Allowance(Value):
    """How many images of a split may be left out."""

    split: str
    total: int  # images that it has, more or less
    bad: int

    @classmethod
    def of(cls, split: str, total: int, allow_bad: int | None) -> Allowance:
        return cls(split=split, total=total, bad=max(3, total // 1000) if allow_bad is None else allow_bad)

    def check(self, left_out: Iterable[LeftOut]) -> None:
        """Raises BadInput where more are left out, and names some."""
        bad = [entry for entry in left_out if entry.split == self.split]
        if len(bad) > self.bad:
            shown = "; ".join(f"{entry.source!r}: {entry.reason}" for entry in bad[:_SHOWN])
            more = f"; and {len(bad) - _SHOWN} more" if len(bad) > _SHOWN else ""
            raise BadInput(f"more than {self.bad} of the {self.total} {self.split} images can't be used: {shown}{more}."
                           f" Repair or remove them, or allow more (--allow-bad N)")


class Writing:
    """What one task keeps account of."""

    def __init__(self, form: Form, avoid: Collection[bytes] = frozenset()) -> None:
        """``avoid``: digests of images that must not be among those that are written."""
        self._form, self._avoid = form, avoid
        self._content = 0
        self.left_out: list[LeftOut] = []

    @property
    def content(self) -> str:
        """A digest of all images that were written, with split and class, which does not depend on their order."""
        return f"{self._content:064x}"

    def fill(self, spool: Spool, items: Iterable[Item], class_id: str, allowance: Allowance) -> int:
        """Decodes and encodes ``items``; how many there were, with those that are left out. Raises BadInput."""
        found = 0
        for item in items:
            found += 1
            try:
                spool.add(self._sample(item))
            except BadImage as error:
                self.left_out.append(LeftOut(source=item.name, split=allowance.split, class_id=class_id,
                                             reason=str(error)))
                allowance.check(self.left_out)
        return found

    def part(self, uploads: Uploads, spool: Spool, numbers: np.ndarray, split: str, class_id: str,
             key_numbers: np.ndarray, bucket: int | None = None) -> Part | None:
        """Writes the samples ``numbers`` in this order; ``key_numbers[i]`` stands in the key of sample i."""
        writer = PartWriter(uploads, f"{split}/{class_id}", self._form.extension, bucket)
        role = f"{split}/{class_id}\0".encode()
        for number in numbers.tolist():
            sample = spool.get(number)
            writer.add(f"{class_id}-{key_numbers[number]:08d}", sample)
            self._content += int.from_bytes(hashlib.sha256(role + sample.digest).digest())
        self._content %= 1 << 256
        return writer.close()

    def _sample(self, item: Item) -> Spooled:
        data = encode(to_form(item.read(), self._form), self._form)
        pixels = decode_stored(data, self._form)  # what training will see: JPEG has changed it
        digest = hashlib.sha256(_shape(pixels) + pixels.tobytes()).digest()
        if digest in self._avoid:
            raise BadImage("it is one of the test or held-out images of the nominal classes, or of their anomalies")
        return Spooled(digest, data, json.dumps({"source": item.name}).encode(), measure(pixels))


def _shape(pixels: np.ndarray) -> bytes:
    """What tells apart images of the same bytes; nothing for squares, whose digests stay what they were."""
    return b"" if pixels.shape[1] == pixels.shape[2] else repr(pixels.shape).encode()


def add_contents(contents: Iterable[str]) -> str:
    """The digest of what was written in several pieces."""
    return f"{sum(int(content, 16) for content in contents) % (1 << 256):064x}"


@cache
def versions() -> dict[str, str]:
    """Of what decoded, scaled and encoded the images."""
    return {"fcdd_dist": __version__, "pillow": version("pillow"), "jpeg": str(features.version("jpg")),
            "libjpeg_turbo": str(features.version("libjpeg_turbo")), "simplejpeg": version("simplejpeg"),
            "numpy": np.__version__}
