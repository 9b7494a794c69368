"""Who writes a data set: at most one at a time.

While a data set is written, ``lease.json`` in it names the writer. It is gone once that ends, however it ends; of a
writer that was killed it is taken over. Whatever two writers do, of one that was held up for long and then goes on,
too: both have the same plan, or one is refused; a shard is only ever created, never written over; and the manifest
comes last, from the holder of the lease. So shards of two writers never become one data set.
"""

from __future__ import annotations

import re
import tarfile
from collections.abc import Callable, Collection
from functools import partial
from typing import get_args

from ...errors import Conflict, Damaged, FcddError, NotFound
from ...storage import Store
from ...storage.lease import LEASE, Lease
from ...threads import ahead
from ..manifest import CLASS_ID, MANIFEST, Manifest, Split
from ..sources.folders import printable

_AT_ONCE = 8  # looks at shards
SHARD = re.compile(rf"(?:{'|'.join(get_args(Split))})/{CLASS_ID.pattern}/\d{{6,}}\.tar")  # keys of shards


class Claim:
    """The right to write the data set in ``store``. A context manager.

    Entering raises Conflict where somebody else writes there, and names who.
    """

    def __init__(self, store: Store, say: Callable[[str], None]) -> None:
        self.store = store
        self._say = say

    def __enter__(self) -> Claim:
        self._lease = Lease.acquire(self.store, say=self._say)
        return self

    def __exit__(self, *_exception: object) -> None:
        try:
            self._lease.release(forget=True)
        except FcddError as error:  # all that counts is written, or another error is on its way
            self._say(f"{LEASE} stays behind: {error}")

    def check(self) -> None:
        """Raises Conflict where somebody else has taken over."""
        self._lease.check()

    def commit(self, manifest: Manifest) -> Manifest:
        """Writes the manifest, when all shards are there. Raises Conflict where another has come before."""
        self._lease.check()
        if not self._lease.held():
            raise self._overtaken()
        if (lost := missing(self.store, manifest)) is not None:
            raise Conflict(f"{self.store.url}/{lost} was removed or changed while the rest was written: shard again, "
                           f"and it is written anew")
        data = manifest.to_json().encode()
        if not self.store.create(MANIFEST, data) and self.store.read(MANIFEST) != data:
            raise Conflict(f"{self.store.url} has become another data set meanwhile: choose another place")
        if not self._lease.held() and not self._whole(manifest):
            # The manifest was on its way for so long that another took over, and cleared ours away.
            self.store.delete(MANIFEST)
            raise self._overtaken()
        return manifest

    def clear(self, keep: Collection[str] = ()) -> None:
        """Removes shards but for those in ``keep``: no record and no manifest vouches for them.

        Raises Conflict, and removes nothing, where somebody else's file has the name of a shard.
        """
        left = [entry.key for split in get_args(Split) for entry in self.store.list(f"{split}/")
                if SHARD.fullmatch(entry.key) and entry.key not in keep]
        looks = ahead(partial(is_shard, self.store), left, _AT_ONCE, "look")
        for key, ours in zip(left, looks, strict=True):
            if ours is False:
                raise Conflict(f"{self.store.url} holds other files, such as {printable(key)}, which is no shard of "
                               f"ours: choose another place")
        list(ahead(self.store.delete, left, _AT_ONCE, "delete"))

    def _overtaken(self) -> Conflict:
        return Conflict(f"another process has written to {self.store.url} meanwhile: shard again, one at a time")

    def _whole(self, manifest: Manifest) -> bool:
        try:
            for parts in manifest.splits.values():
                for part in parts.values():
                    for shard in part.shards:
                        self.store.verified(shard.key, shard.bytes, shard.sha256)
        except (Damaged, NotFound):
            return False
        return True


def sizes(store: Store) -> dict[str, int]:
    """Bytes by key of what lies where shards do."""
    return {entry.key: entry.size for split in get_args(Split) for entry in store.list(f"{split}/")}


def missing(store: Store, manifest: Manifest) -> str | None:
    """The key of a shard that is not there, or has another size."""
    there = sizes(store)
    return next((shard.key for parts in manifest.splits.values() for part in parts.values() for shard in part.shards
                 if there.get(shard.key) != shard.bytes), None)


def is_shard(store: Store, key: str) -> bool | None:
    """Whether a tar with the key of a shard is one that we write, by its first header; None where it is gone.

    Others, too, have tar files with numbers in folders of such names.
    """
    try:
        first = tarfile.TarInfo.frombuf(store.read(key, 0, tarfile.BLOCKSIZE), "utf-8", "surrogateescape")
    except NotFound:
        return None
    except (tarfile.TarError, ValueError):  # by what it stumbles over
        return False
    member = rf"{re.escape(key.split('/')[-2])}-\d{{8,}}\.(?:png|jpg|json)"
    return ((first.mtime, first.mode, first.uname, first.gname) == (0, 0o444, "", "")
            and re.fullmatch(member, first.name) is not None)
