"""A folder as a store."""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from ..errors import BadInput, Fault, FcddError, NotFound
from .stores import Entry, Leftover, Store, check_key

_TEMPORARY = ".part-"  # prefix of the names under which a folder store writes; never listed


class FolderStore(Store):
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
        for path in self._files(prefix.rpartition("/")[0]):
            key = path.relative_to(self.root).as_posix()
            if key.startswith(prefix) and not path.name.startswith(_TEMPORARY):
                try:
                    status = path.stat()
                except FileNotFoundError:  # deleted since
                    continue
                yield Entry(key, status.st_size, status.st_mtime)

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

    @contextmanager
    def without_traces(self) -> Iterator[None]:
        made = [folder for folder in (self.root, *self.root.parents) if not os.path.lexists(folder)]
        try:
            yield
        finally:
            for folder in made:
                try:
                    folder.rmdir()
                except OSError:  # not empty, or not there
                    break

    def leftovers(self) -> Iterator[Leftover]:
        for path in self._files(""):
            if path.name.startswith(_TEMPORARY):
                try:
                    status = path.stat()
                except FileNotFoundError:  # it has become an object
                    continue
                key = path.relative_to(self.root).as_posix()
                yield Leftover(key, status.st_size, status.st_mtime, key)

    def discard(self, leftover: Leftover) -> None:
        self.delete(leftover.handle)

    def _files(self, below: str) -> list[Path]:
        """All files below a folder, in order of their keys."""
        folder = self.root / below

        def refuse(error: OSError) -> None:
            if not isinstance(error, FileNotFoundError | NotADirectoryError):
                raise _error("list", folder, error)

        found = [Path(parent, name) for parent, _, files in os.walk(folder, onerror=refuse) for name in files]
        return sorted(found, key=lambda path: path.relative_to(self.root).as_posix())

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
        except BaseException as error:
            os.unlink(temporary)
            if isinstance(error, OSError):
                raise _error("write", path, error) from None
            raise
        return temporary


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
