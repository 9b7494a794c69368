"""Samples into tar files of a bounded size, byte for byte the same each time: those that webdataset's writer makes.

That one is not used, since importing webdataset imports torch, which takes half a gigabyte in each process that shards.
"""

from __future__ import annotations

import hashlib
import io
import tarfile

from ...errors import Fault
from ..manifest import Part, Shard
from .spool import Spooled
from .statistics import Tally
from .uploads import Uploads

MAX_SAMPLES = 512
MAX_BYTES = 8 << 20  # so that the shards that all lanes read at a time fit the memory of streaming
NUMBERS = 10_000  # of shards that a bucket may have, so that they need not be known to number those of the next
_TAR_BLOCK, _TAR_RECORD = 512, 10240


class PartWriter:
    """Writes the shards of one class of one split, or those of its parts whose turn is ``bucket``."""

    def __init__(self, uploads: Uploads, folder: str, extension: str, bucket: int | None = None) -> None:
        """``folder``: ``<split>/<class>``. ``bucket``: None where nobody else writes shards there."""
        self._uploads, self._folder, self._extension, self._bucket = uploads, folder, extension, bucket
        self._tally = Tally()
        self._shards: list[Shard] = []
        self._begin()

    def add(self, key: str, sample: Spooled) -> None:
        size = sum(_TAR_BLOCK + _padded(len(member)) for member in (sample.image, sample.meta))
        if self._samples == MAX_SAMPLES or (self._samples and self._size + size > MAX_BYTES):
            self._finish()
            self._begin()
        for extension, data in sorted({self._extension: sample.image, "json": sample.meta}.items()):
            self._member(f"{key}.{extension}", data)
        self._tally.add(sample.row)
        self._samples += 1
        self._size += size

    def close(self) -> Part | None:
        """The record of all shards, or None where no sample was added."""
        if self._samples:
            self._finish()
        return Part(shards=tuple(self._shards), statistics=self._tally.statistics()) if self._shards else None

    def _begin(self) -> None:
        self._file = io.BytesIO()
        self._tar = tarfile.open(fileobj=self._file, mode="w", format=tarfile.USTAR_FORMAT)  # noqa: SIM115
        self._samples, self._size = 0, _TAR_RECORD

    def _member(self, name: str, data: bytes) -> None:
        info = tarfile.TarInfo(name)
        info.size, info.mode, info.mtime = len(data), 0o444, 0  # the same bytes each time
        self._tar.addfile(info, io.BytesIO(data))

    def _finish(self) -> None:
        self._tar.close()
        data = self._file.getvalue()
        number = len(self._shards)
        if self._bucket is not None and number >= NUMBERS:
            raise Fault(f"{self._folder}: bucket {self._bucket} has more than {NUMBERS} shards")
        key = f"{self._folder}/{(self._bucket or 0) * NUMBERS + number:06d}.tar"
        self._uploads.put(key, data)
        self._shards.append(Shard(key=key, samples=self._samples, bytes=len(data),
                                  sha256=hashlib.sha256(data).hexdigest()))


def _padded(size: int) -> int:
    return -(-size // _TAR_BLOCK) * _TAR_BLOCK
