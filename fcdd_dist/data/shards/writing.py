"""Images in, shards out, and the account of what was left out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from importlib.metadata import version

import numpy as np
from PIL import features

from ... import __version__
from ...errors import BadInput
from ...experiment import Form
from ..images import BadImage, decode_stored, encode, to_form
from ..manifest import LeftOut, Part
from ..sources import Item
from .claim import Claim
from .spool import Spool, Spooled
from .statistics import measure
from .tars import PartWriter

Progress = Callable[[str], None]
_SHOWN = 3  # bad images that a message names


class Writing:
    """What a sharding keeps account of."""

    def __init__(self, claim: Claim, form: Form, allow_bad: int | None) -> None:
        self._claim, self._form, self._allow_bad = claim, form, allow_bad
        self._content = 0
        self.left_out: list[LeftOut] = []

    @property
    def content(self) -> str:
        """A digest of all decoded images with their split and class that does not depend on their order."""
        return f"{self._content:064x}"

    def fill(self, spool: Spool, items: Iterable[Item], split: str, class_id: str, total: int) -> int:
        """Decodes and encodes ``items``; how many there were, with those that are left out.

        Raises BadInput when more are left out than are allowed of the ``total`` of the split.
        """
        found = 0
        for item in items:
            found += 1
            try:
                data = encode(to_form(item.read(), self._form), self._form)
            except BadImage as error:
                self.left_out.append(LeftOut(source=item.name, split=split, class_id=class_id, reason=str(error)))
                self._check_bad(split, total)
                continue
            pixels = decode_stored(data, self._form)  # what training will see: JPEG has changed it
            meta = json.dumps({"source": item.name}).encode()
            spool.add(Spooled(hashlib.sha256(pixels).digest(), data, meta, measure(pixels)))
        return found

    def part(self, spool: Spool, numbers: np.ndarray, split: str, class_id: str, key_numbers: Iterable[int]
             ) -> Part | None:
        """Writes the samples ``numbers`` in this order; ``key_numbers[i]`` stands in the key of sample i."""
        writer = PartWriter(self._claim, f"{split}/{class_id}", self._form.extension, self._form.side**2)
        role = f"{split}/{class_id}\0".encode()
        for number in numbers.tolist():
            sample = spool.get(number)
            writer.add(f"{class_id}-{key_numbers[number]:08d}", sample)
            self._content += int.from_bytes(hashlib.sha256(role + sample.digest).digest())
        self._content %= 1 << 256
        return writer.close()

    def _check_bad(self, split: str, total: int) -> None:
        bad = [entry for entry in self.left_out if entry.split == split]
        allowed = max(3, total // 1000) if self._allow_bad is None else self._allow_bad
        if len(bad) > allowed:
            shown = "; ".join(f"{entry.source!r}: {entry.reason}" for entry in bad[:_SHOWN])
            more = f"; and {len(bad) - _SHOWN} more" if len(bad) > _SHOWN else ""
            raise BadInput(f"more than {allowed} of the {total} {split} images can't be used: {shown}{more}. Repair or "
                           f"remove them, or allow more (--allow-bad N)")


def versions() -> dict[str, str]:
    """Of what decoded, scaled and encoded the images."""
    return {"fcdd_dist": __version__, "pillow": version("pillow"), "jpeg": str(features.version("jpg")),
            "numpy": np.__version__, "webdataset": version("webdataset")}
