"""The one seam for storage: five verbs on keys below a URL.

A key is a relative path with ``/`` between its parts. A write is atomic: readers see the old bytes, the new bytes or
nothing. Several keys are committed by order, the record that names the others last; nothing is ever renamed as a
whole. ``create`` writes only where nothing is yet, which is how two writers settle who is first.
"""

from __future__ import annotations

import errno
import os
import stat
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Protocol
from urllib.parse import unquote, urlsplit

from ..errors import BadInput, Fault, FcddError, NotFound

_TEMPORARY = ".part-"  # prefix of the names under which a folder store writes; never listed


@dataclass(frozen=True)
class Entry:
    """An object of a store: its key, its size in bytes, and when it was last written (seconds since 1970)."""

    key: str
    size: int
    modified: float


class Store(Protocol):
    """What holds bytes under keys. Every implementation passes ``tests/contracts/test_stores.py``."""

    url: str

    def read(self, key: str, start: int = 0, end: int | None = None) -> bytes:
        """The bytes ``start`` to ``end`` (exclusive; None for the rest). Raises NotFound."""
        ...

    def write(self, key: str, data: bytes) -> None:
        """Replaces the object as a whole."""
        ...

    def create(self, key: str, data: bytes) -> bool:
        """Writes only where no object is yet; whether it did. Of several at once exactly one does."""
        ...

    def list(self, prefix: str = "") -> Iterator[Entry]:
        """All objects whose key begins with ``prefix``, in order of their keys."""
        ...

    def size(self, key: str) -> int:
        """Bytes of an object. Raises NotFound."""
        ...

    def delete(self, key: str) -> None:
        """Removes an object; one that is not there is no error."""
        ...

    def at(self, prefix: str) -> Store:
        """The store of everything below ``prefix``."""
        ...


def check_key(key: str) -> str:
    """``key`` itself. Raises ValueError where it is empty, absolute, or could leave the store."""
    parts = PurePosixPath(key).parts
    if not parts or key.startswith("/") or ".." in parts or "\0" in key or str(PurePosixPath(*parts)) != key:
        raise ValueError(f"{key!r} is no key of a store")
    return key


class FolderStore:
    """A folder. A key is written under a temporary name beside its own, synced to disk, and renamed."""

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        self.url = str(self.root)

    def read(self, key: str, start: int = 0, end: int | None = None) -> bytes:
        try:
            with open(self.root / check_key(key), "rb") as file:
                file.seek(start)
                return file.read() if end is None else file.read(max(0, end - start))
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            raise NotFound(f"there is no {self.root / key}") from None
        except OSError as error:
            raise _error("read", self.root / key, error) from None

    def write(self, key: str, data: bytes) -> None:
        path = self.root / check_key(key)
        temporary = self._write_temporary(path, data)
        os.replace(temporary, path)
        _sync_folder(path.parent)

    def create(self, key: str, data: bytes) -> bool:
        path = self.root / check_key(key)
        temporary = self._write_temporary(path, data)
        try:
            os.link(temporary, path)  # unlike a rename, fails where the name is taken
        except FileExistsError:
            return False
        finally:
            os.unlink(temporary)
        _sync_folder(path.parent)
        return True

    def list(self, prefix: str = "") -> Iterator[Entry]:
        # Walk only the deepest folder that the prefix names whole.
        folder = self.root / prefix.rpartition("/")[0]
        found = []
        def refuse(error: OSError) -> None:
            if not isinstance(error, FileNotFoundError | NotADirectoryError):
                raise _error("list", folder, error)

        for parent, folders, files in os.walk(folder, onerror=refuse):
            folders.sort()
            for name in files:
                path = Path(parent, name)
                key = path.relative_to(self.root).as_posix()
                if key.startswith(prefix) and not name.startswith(_TEMPORARY):
                    try:
                        status = path.stat()
                    except FileNotFoundError:  # deleted since
                        continue
                    found.append(Entry(key, status.st_size, status.st_mtime))
        yield from sorted(found, key=lambda entry: entry.key)

    def size(self, key: str) -> int:
        path = self.root / check_key(key)
        try:
            status = path.stat()
        except (FileNotFoundError, NotADirectoryError):
            raise NotFound(f"there is no {path}") from None
        except OSError as error:
            raise _error("read", path, error) from None
        if not stat.S_ISREG(status.st_mode):
            raise NotFound(f"there is no {path}")
        return status.st_size

    def delete(self, key: str) -> None:
        (self.root / check_key(key)).unlink(missing_ok=True)
        for folder in (self.root / key).parents:  # an object store has no empty folders
            if folder == self.root:
                break
            try:
                folder.rmdir()
            except OSError:
                break

    def at(self, prefix: str) -> FolderStore:
        return FolderStore(self.root / check_key(prefix))

    def _write_temporary(self, path: Path, data: bytes) -> str:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor, temporary = tempfile.mkstemp(prefix=_TEMPORARY, dir=path.parent)
        except OSError as error:
            raise _error("write", path, error) from None
        try:
            with open(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
                os.fchmod(file.fileno(), 0o666 & ~_umask())
        except BaseException:
            os.unlink(temporary)
            raise
        return temporary


class MemoryStore:
    """A dictionary: for tests, and for whoever wants to train without leaving a trace."""

    def __init__(self, url: str = "memory:", objects: dict | None = None, prefix: str = "",
                 lock: threading.Lock | None = None) -> None:
        self.url = url
        self._objects: dict[str, tuple[bytes, float]] = {} if objects is None else objects
        self._prefix = prefix
        self._lock = lock or threading.Lock()

    def read(self, key: str, start: int = 0, end: int | None = None) -> bytes:
        return self._get(key)[0][start:end]

    def write(self, key: str, data: bytes) -> None:
        with self._lock:
            self._objects[self._prefix + check_key(key)] = (bytes(data), time.time())

    def create(self, key: str, data: bytes) -> bool:
        with self._lock:
            value = (bytes(data), time.time())
            return self._objects.setdefault(self._prefix + check_key(key), value) is value

    def list(self, prefix: str = "") -> Iterator[Entry]:
        with self._lock:
            items = sorted(self._objects.items())
        for key, (data, modified) in items:
            if key.startswith(self._prefix + prefix):
                yield Entry(key.removeprefix(self._prefix), len(data), modified)

    def size(self, key: str) -> int:
        return len(self._get(key)[0])

    def delete(self, key: str) -> None:
        with self._lock:
            self._objects.pop(self._prefix + check_key(key), None)

    def at(self, prefix: str) -> MemoryStore:
        check_key(prefix)
        return MemoryStore(f"{self.url}/{prefix}", self._objects, f"{self._prefix}{prefix}/", self._lock)

    def _get(self, key: str) -> tuple[bytes, float]:
        try:
            return self._objects[self._prefix + check_key(key)]
        except KeyError:
            raise NotFound(f"there is no {self.url}/{key}") from None


def absolute(url: str) -> str:
    """``url`` with a local path made absolute, so that workers elsewhere mean the same place. Raises BadInput."""
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise BadInput(f"{url} is no URL ({error}): give a folder or file:///path") from None
    if parts.scheme == "file":
        if parts.netloc not in ("", "localhost"):
            raise BadInput(f"{url}: a file URL names no host; write file:///path or a plain path")
        return os.path.abspath(unquote(parts.path))
    if "://" in url:
        raise BadInput(f"{url}: storage of kind {parts.scheme}:// is not supported; give a folder or file:///path")
    if not url:
        raise BadInput("an empty path is no place; give a folder")
    return os.path.abspath(os.path.expanduser(url))


def open_store(url: str) -> Store:
    """The store at ``url``, a folder's path or ``file://`` URL. Opening touches nothing. Raises BadInput."""
    return FolderStore(absolute(url))


def exists(store: Store, key: str) -> bool:
    """Whether there is an object under ``key``."""
    try:
        store.size(key)
    except NotFound:
        return False
    return True


def probe(store: Store) -> None:
    """Raises BadInput where nothing can be written into ``store``: better now than after an hour's work."""
    store.write(".probe", b"")
    store.delete(".probe")


def _error(what: str, path: Path, error: OSError) -> FcddError:
    """A full or broken disk is a fault; everything else is for the person to put right."""
    kind = Fault if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO) else BadInput
    return kind(f"can't {what} {path if len(str(path)) < 200 else str(path)[:200] + '...'}: {error.strerror}")


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@cache  # reading it means setting it, which other threads had better not see again and again
def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
