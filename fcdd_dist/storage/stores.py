"""The one seam for storage: a few verbs on keys below a URL.

A key is a relative path with ``/`` between its parts. A write is atomic: readers see the old bytes, the new bytes or
nothing. Several keys are committed by order, the record that names the others last; nothing is ever renamed as a
whole. ``create`` writes only where nothing is yet, which is how two writers settle who is first.
"""

from __future__ import annotations

import hashlib
import secrets
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import PurePosixPath

from ..errors import Damaged, FcddError, NotFound


@dataclass(frozen=True)
class Entry:
    """An object of a store: its key, its size in bytes, and when it was last written (seconds since 1970)."""

    key: str
    size: int
    modified: float


@dataclass(frozen=True)
class Leftover:
    """What a writer that was killed has left behind: no object, and in nobody's way, but it takes space."""

    key: str  # of the object that it was to become, or the name of the temporary file
    size: int  # bytes
    modified: float  # seconds since 1970
    handle: str  # by which the store finds it again


class Store(ABC):
    """What holds bytes under keys. Every implementation passes ``tests/contracts/test_stores.py``.

    Every method may raise BadInput where the person has to put something right (no permission, no such bucket), and
    Fault where the storage failed beyond what was retried. ``url`` is what a person gave, made absolute.
    """

    url: str
    look_every = 0.25  # seconds between looks for what others may have written; more where each look costs money

    @abstractmethod
    def read(self, key: str, start: int = 0, end: int | None = None) -> bytes:
        """The bytes ``start`` to ``end`` (exclusive; None for the rest). Raises NotFound."""

    def pour(self, key: str, start: int, end: int, sink: Callable[[bytes], object]) -> None:
        """As ``read``, but gives the bytes to ``sink`` as they come, in order, each once: nothing large is held.

        Raises Damaged, too, where the object became another one in between. ``sink`` may raise errors of ours.
        """
        sink(self.read(key, start, end))

    @abstractmethod
    def write(self, key: str, data: bytes) -> None:
        """Replaces the object as a whole."""

    @abstractmethod
    def create(self, key: str, data: bytes) -> bool:
        """Writes only where no object is yet; whether it did. Of several at once exactly one does."""

    @abstractmethod
    def list(self, prefix: str = "") -> Iterator[Entry]:
        """All objects whose key begins with ``prefix``, in order of their keys."""

    @abstractmethod
    def size(self, key: str) -> int:
        """Bytes of an object. Raises NotFound."""

    @abstractmethod
    def delete(self, key: str) -> None:
        """Removes an object; one that is not there is no error."""

    @abstractmethod
    def at(self, prefix: str) -> Store:
        """The store of everything below ``prefix``."""

    @abstractmethod
    def leftovers(self) -> Iterator[Leftover]:
        """What killed writers have left below this store; what is being written just now is among it, too."""

    @abstractmethod
    def discard(self, leftover: Leftover) -> None:
        """Removes a leftover; one that is gone is no error."""

    def without_traces(self) -> AbstractContextManager:
        """What is written within and deleted again leaves nothing: no empty folder that was not there before."""
        return nullcontext()

    def verified(self, key: str, size: int, sha256: str) -> bytes:
        """The object, which is that of a record. A read may fail: it is read once more before Damaged is raised.

        Raises NotFound, and Damaged that names the object and says what is wrong with it.
        """
        data = self.read(key)
        if mismatch(data, size, sha256) and (reason := mismatch(data := self.read(key), size, sha256)):
            raise Damaged(f"{self.url}/{key} {reason}")
        return data


def mismatch(data: bytes, size: int, sha256: str) -> str | None:
    """How ``data`` differs from what a record says of it, for a person; None where it does not."""
    if len(data) != size:
        return f"has {len(data)} bytes and should have {size}"
    if hashlib.sha256(data).hexdigest() != sha256:
        return "has other bytes than those that were written (its SHA-256 differs)"
    return None


def check_key(key: str) -> str:
    """``key`` itself. Raises ValueError where it is empty, absolute, or could leave the store."""
    parts = PurePosixPath(key).parts
    if not parts or key.startswith("/") or ".." in parts or "\0" in key or str(PurePosixPath(*parts)) != key:
        raise ValueError(f"{key!r} is no key of a store")
    return key


def exists(store: Store, key: str) -> bool:
    """Whether there is an object under ``key``."""
    try:
        store.size(key)
    except NotFound:
        return False
    return True


def probe(store: Store) -> None:
    """Raises BadInput where ``store`` can't be written or listed: better now than after an hour's work.

    Nothing stays behind.
    """
    key = f".probe-{secrets.token_hex(4)}"
    try:
        with store.without_traces():
            store.write(key, b"")
            for _ in store.list(key):
                pass
            store.delete(key)
    except FcddError as error:
        error.args = (str(error).replace(key, ""),)  # it is the place that can't be written
        raise
