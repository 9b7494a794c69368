"""Who writes a data set: at most one at a time, and what another has left unfinished goes before anything comes.

While a data set is written, ``lease.json`` in it names the writer. It is gone once that ends, however it ends; of a
writer that was killed it is taken over. Whatever two writers do, of one that was held up for long and then goes on,
too: a shard is only ever created, never written over, and the manifest comes last, from the holder of the lease. So
shards of two writers never become one data set.
"""

from __future__ import annotations

import re
import tarfile
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import get_args

from ...errors import Conflict, Damaged, FcddError, NotFound
from ...storage import Store, exists
from ...storage.lease import LEASE, Lease
from ..manifest import CLASS_ID, MANIFEST, Manifest, Split, load_manifest
from ..sources.folders import printable

AT_ONCE = 4  # shards on their way, so that memory is bounded
SHARD = re.compile(rf"(?:{'|'.join(get_args(Split))})/{CLASS_ID.pattern}/\d{{6,}}\.tar")  # keys of shards


class Claim:
    """The right to write the data set in ``store``. A context manager.

    ``standing``: it may be finished, and is then only compared with; else Conflict is raised where it is.
    Entering raises Conflict, too, where somebody else writes there, and names who.
    """

    def __init__(self, store: Store, say: Callable[[str], None], *, standing: bool = False) -> None:
        self.store = store
        self._say, self._may_stand = say, standing
        self._sums: dict[str, str] | None = None  # sha256 by key of what stands
        self._waiting: deque[tuple[str, bytes, Future[bool]]] = deque()

    def __enter__(self) -> Claim:
        self._lease = Lease.acquire(self.store, say=self._say)
        self._pool = ThreadPoolExecutor(AT_ONCE, "shards")
        try:
            if not self._may_stand:
                refuse_standing(self.store)
            if exists(self.store, MANIFEST):
                self._sums = {shard.key: shard.sha256 for parts in load_manifest(self.store).splits.values()
                              for part in parts.values() for shard in part.shards}
            else:
                self._clear()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *_exception: object) -> None:
        self._end()

    def put(self, key: str, data: bytes, sha256: str) -> None:
        """Takes a shard on its way. Raises what went wrong with an earlier one, in their order, or Conflict."""
        if self._sums is not None:
            if self._sums.get(key) != sha256:
                raise Conflict(f"{self.store.url} is a data set of other images or settings: delete it, or choose "
                               f"another place")
            return
        self._lease.check()
        while len(self._waiting) >= AT_ONCE:
            self._await_one()
        self._waiting.append((key, data, self._pool.submit(self.store.create, key, data)))

    def commit(self, manifest: Manifest) -> Manifest:
        """Waits for all shards and writes the manifest. Raises Conflict where another has come before."""
        while self._waiting:
            self._await_one()
        self._lease.check()
        if not self._lease.held():
            raise self._overtaken()
        data = manifest.to_json().encode()
        if not self.store.create(MANIFEST, data) and self.store.read(MANIFEST) != data:
            raise Conflict(f"{self.store.url} has become another data set meanwhile: choose another place")
        if not self._lease.held() and not self._whole(manifest):
            # The manifest was on its way for so long that another took over, and cleared ours away.
            self.store.delete(MANIFEST)
            raise self._overtaken()
        return manifest

    def _await_one(self) -> None:
        key, data, created = self._waiting.popleft()
        if not created.result() and self.store.read(key) != data:
            raise self._overtaken()

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

    def _clear(self) -> None:
        """Removes the shards of a sharding that never ended: no manifest vouches for them.

        Raises Conflict, and removes nothing, where somebody else's file has the name of a shard.
        """
        left = [entry.key for split in get_args(Split) for entry in self.store.list(f"{split}/")
                if SHARD.fullmatch(entry.key)]
        for key, ours in zip(left, self._pool.map(lambda key: is_shard(self.store, key), left), strict=True):
            if ours is False:
                raise Conflict(f"{self.store.url} holds other files, such as {printable(key)}, which is no shard of "
                               f"ours: choose another place")
        list(self._pool.map(self.store.delete, left))

    def _end(self) -> None:
        self._pool.shutdown(cancel_futures=True)  # waits for what is on its way: nothing is written once we are gone
        self._waiting.clear()
        try:
            self._lease.release(forget=True)
        except FcddError as error:  # all that counts is written, or another error is on its way
            self._say(f"{LEASE} stays behind: {error}")


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


def refuse_standing(store: Store) -> None:
    """Raises Conflict where ``store`` is a data set."""
    if exists(store, MANIFEST):
        raise Conflict(f"{store.url} is a data set already: choose another place, or delete it first")
