"""Shards back into samples: fetched whole, verified, then indexed in memory.

The tar is parsed here: tarfile and webdataset end in silence at a damaged header, at a cut between two members and at
zero blocks in the middle, and are two to six times slower. Only what our writer writes is accepted: plain files of
known kinds. Nothing is extracted, nothing is unpickled.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from ...errors import Damaged
from ...storage import Store
from ...threads import ahead
from ..manifest import Shard

FETCHERS = 8  # threads that fetch shards: they cost little, since they wait
_BLOCK = 512
_MEMBER = re.compile(r"(?P<key>[a-z0-9_-]+)\.(?P<extension>jpg|png|mask\.png|json)")
_PLAIN = re.compile(rb"[a-z0-9_-]+\.(?:jpg|png)")
_KINDS = {b"1": "a hard link", b"2": "a symbolic link", b"3": "a device", b"4": "a device", b"5": "a folder",
          b"6": "a pipe", b"x": "a pax header", b"g": "a pax header", b"L": "a long name", b"K": "a long link"}


@dataclass(frozen=True, slots=True)
class Sample:
    """A stored image; all but the key are views into its shard."""

    key: str
    image: memoryview
    meta: memoryview  # JSON
    mask: memoryview | None = None

    @property
    def source(self) -> str:
        """Its name where it came from. Raises Damaged where the JSON does not say."""
        try:
            source = json.loads(bytes(self.meta))["source"]
        except (ValueError, TypeError, KeyError, RecursionError):
            source = None
        if not isinstance(source, str):
            raise Damaged(f"{self.key}.json does not say what the source is")
        return source


def read_shard(store: Store, shard: Shard) -> list[Sample]:
    """The samples of a shard in their order.

    Raises NotFound, and Damaged that names the shard and what is wrong where its bytes are not those of the record
    (after a second look: a read can fail), or where they are no shard.
    """
    return parse_shard(fetch(store, shard), store, shard)


def read_each(store: Store, shards: Sequence[Shard]) -> Iterator[list[Sample]]:
    """The samples of each shard, in order, while the next ones are fetched. Raises as ``read_shard`` does."""
    for shard, data in zip(shards, fetch_each(store, shards), strict=True):
        yield parse_shard(data, store, shard)


def fetch_each(store: Store, shards: Sequence[Shard]) -> Iterator[bytes]:
    """The bytes of each shard, in order; at most FETCHERS shards are on their way or wait to be taken.

    Raises as ``read_shard`` does, when it is the shard's turn. Closing it does not wait for what is on its way.
    """
    return ahead(partial(fetch, store), shards, FETCHERS, "fetch")


def fetch(store: Store, shard: Shard) -> bytes:
    """The bytes of a shard, which are those of its record. Raises as ``read_shard`` does."""
    try:
        return store.verified(shard.key, shard.bytes, shard.sha256)
    except Damaged as error:
        raise Damaged(f"{error}: copy the data set again, or shard it anew") from None


def parse_shard(data: bytes, store: Store, shard: Shard) -> list[Sample]:
    """The samples in the fetched bytes of a shard, which are those of its record. Raises as ``read_shard`` does."""
    where = f"{store.url}/{shard.key}"
    samples = _as_written(data, shard.samples) or parse(data, where)
    if len(samples) != shard.samples:
        raise Damaged(f"{where} has {len(samples)} samples and should have {shard.samples}")
    return samples


def parse(data: bytes, where: str) -> list[Sample]:
    """The samples in the tar ``data``. Raises Damaged; ``where`` names the shard in its message."""
    samples: list[Sample] = []
    keys: set[str] = set()
    key, members = "", {}
    for name, body in _members(memoryview(data), where):
        match = _MEMBER.fullmatch(name)
        if not match:
            raise Damaged(f"{where}: {name!r} is no name of a member: KEY.jpg, KEY.png, KEY.mask.png or KEY.json")
        if match["key"] != key:
            if members:
                samples.append(_sample(key, members, where))
            key, members = match["key"], {}
            if key in keys:
                raise Damaged(f"{where}: sample {key} is there twice")
            keys.add(key)
        if match["extension"] in members:
            raise Damaged(f"{where}: member {name} is there twice")
        members[match["extension"]] = body
    if members:
        samples.append(_sample(key, members, where))
    return samples


def _as_written(data: bytes, count: int) -> list[Sample] | None:
    """The samples of a shard that is laid out as our writer does it, without masks; None for any other.

    Its bytes are those that the manifest vouches for, so that nothing has to be checked for damage, in a third of the
    time; whatever looks odd is left to the careful reader.
    """
    view, place, end = memoryview(data), 0, len(data)
    samples: list[Sample] = []
    while place + _BLOCK <= end and data[place]:
        bodies = []
        for _ in range(2):  # the JSON and the image of a sample
            name = data[place: data.find(b"\0", place, place + 100)]
            size = data[place + 124: place + 135]
            if data[place + 156: place + 157] != b"0" or not size.isdigit() or b"8" in size or b"9" in size:
                return None
            bodies.append((name, view[place + _BLOCK: place + _BLOCK + int(size, 8)]))
            place += _BLOCK + -(-int(size, 8) // _BLOCK) * _BLOCK
        bodies.sort(key=lambda body: body[0].endswith(b".json"))  # the writer has them by their names
        (first, image), (second, meta) = bodies
        if not _PLAIN.fullmatch(first) or second != first[:-4] + b".json":
            return None
        samples.append(Sample(first[:-4].decode(), image, meta))
    whole = len(samples) == count and end - place >= 2 * _BLOCK and data.count(0, place) == end - place
    return samples if whole else None


def _sample(key: str, members: dict[str, memoryview], where: str) -> Sample:
    images = [members[extension] for extension in ("jpg", "png") if extension in members]
    if len(images) != 1:
        raise Damaged(f"{where}: sample {key} has {len(images)} images and should have one")
    if "json" not in members:
        raise Damaged(f"{where}: sample {key} has no {key}.json")
    return Sample(key, images[0], members["json"], members.get("mask.png"))


def _members(data: memoryview, where: str) -> Iterator[tuple[str, memoryview]]:
    """Name and body of each member of a plain ustar file."""
    place = 0
    while True:
        header = bytes(data[place: place + _BLOCK])
        if len(header) < _BLOCK:
            raise Damaged(f"{where} ends at byte {len(data)} without the end marker of a tar file: it is truncated")
        if not any(header):
            break
        at = f"{where}: the header at byte {place}"
        # The checksum counts its own field as spaces.
        if _octal(header[148:156], at) != sum(header) - sum(header[148:156]) + 8 * 0x20:
            raise Damaged(f"{at} has a wrong checksum")
        if header[257:265] != b"ustar\x0000":
            raise Damaged(f"{at} is not of the ustar format")
        prefix, name = _text(header[345:500]), _text(header[:100])
        name = f"{prefix}/{name}" if prefix else name
        if header[156:157] not in (b"0", b"\0"):
            kind = _KINDS.get(header[156:157], f"of type {header[156:157]!r}")
            raise Damaged(f"{where}: member {name!r} is {kind}, not a plain file")
        size = _octal(header[124:136], at)
        first = place + _BLOCK
        if first + size > len(data):
            raise Damaged(f"{where} ends within member {name!r}: it is truncated")
        yield name, data[first: first + size]
        place = first + -(-size // _BLOCK) * _BLOCK
    rest = bytes(data[place:])
    if len(rest) < 2 * _BLOCK:
        raise Damaged(f"{where} ends within the end marker of a tar file: it is truncated")
    if any(rest):
        raise Damaged(f"{where} has data behind the end marker at byte {place}")


def _octal(field: bytes, at: str) -> int:
    text = field.strip(b" \0")
    if not text or not all(0x30 <= digit <= 0x37 for digit in text):
        raise Damaged(f"{at} is damaged: {field!r} is no octal number")
    return int(text, 8)


def _text(field: bytes) -> str:
    return field.partition(b"\0")[0].decode("utf-8", "backslashreplace")
