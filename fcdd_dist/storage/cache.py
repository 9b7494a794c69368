"""A folder of this machine that keeps what was fetched, so that a shard crosses the network once.

Objects lie under their SHA-256: data sets that share shards share them here, nothing is ever stale, and what was
damaged is noticed, removed and fetched again. Any number of processes use one folder at once; together they keep to
the limit, and what was used longest ago goes first. The cache is only ever a help: what goes wrong with it while it
is in use is said once, and the store is read instead.
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import stat
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..errors import BadInput
from .stores import mismatch

_TOTAL = ".total"  # the bytes that the folder holds, as text; locked by whoever changes it, or any size or name
_PART = ".part-"  # prefix of what is just being written
_SHELF, _SHA256 = re.compile(r"[0-9a-f]{2}"), re.compile(r"[0-9a-f]{64}")
_ABANDONED_S = 3600  # an object is written in seconds: the writer of an older part was killed
_LOCK_S = 10.0  # the lock is held for milliseconds, unless its holder is stopped
_REST_S = 60.0  # without filling, after filling failed: a full disk may be so for hours
_NEVER_FOLLOW = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # whatever was planted: no links, no waiting for pipes
_said: set[tuple[str, str]] = set()  # what this process has told of which folder


class Cache:
    """At most ``limit`` bytes of objects in ``folder``, which is made, private to its user, where it is not there.

    ``hits`` and ``misses`` count this object's reads; ``trouble`` is the last thing that went wrong, or None. Safe for
    threads. Raises BadInput where the folder can't be made or written.
    """

    def __init__(self, folder: str | Path, limit: int) -> None:
        self.folder, self.limit = Path(folder), limit
        self.hits = self.misses = 0
        self.trouble: str | None = None
        self._thread_lock, self._counting = threading.Lock(), threading.Lock()
        self._rests_until = 0.0
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with self._total() as total:
                total.write(self._make_room(0))
            probe = self.folder / f"{_PART}{secrets.token_hex(8)}"
            probe.touch(mode=0o600, exist_ok=False)
            probe.unlink()
        except OSError as error:
            why = "it is no folder" if isinstance(error, FileExistsError | NotADirectoryError) else error.strerror
            raise BadInput(f"--cache {self.folder}: no cache can be there ({why}): give a folder of this machine that "
                           f"you may write to") from None

    def get(self, size: int, sha256: str) -> bytes | None:
        """The object, verified, or None. One that is damaged is removed."""
        data = None
        try:
            data = self._read(size, sha256)
        except FileNotFoundError:  # the usual miss; also one that was evicted just now
            pass
        except OSError as error:
            self._tell("read", error)
        with self._counting:
            self.hits, self.misses = self.hits + (data is not None), self.misses + (data is None)
        return data

    def put(self, data: bytes, sha256: str) -> None:
        """Keeps an object that has been verified, where there is room for it once older ones are gone."""
        if len(data) > self.limit or time.monotonic() < self._rests_until:
            return
        try:
            self._write(data, sha256)
        except OSError as error:
            self._rests_until = time.monotonic() + _REST_S
            self._tell("write to", error)

    def _read(self, size: int, sha256: str) -> bytes | None:
        with self._shelf(sha256) as shelf:
            if not stat.S_ISREG(os.stat(sha256, dir_fd=shelf, follow_symlinks=False).st_mode):
                os.unlink(sha256, dir_fd=shelf)  # a link or a pipe: none of ours
                return None
            file = os.open(sha256, os.O_RDONLY | _NEVER_FOLLOW, dir_fd=shelf)
            with open(file, "rb") as opened:
                data = opened.read(size + 1)
                if mismatch(data, size, sha256):
                    self._remove(shelf, sha256)
                    self._say("damaged", f"the cache {self.folder} has damaged objects, which are fetched again")
                    return None
                try:
                    os.utime(file)  # the newest is the last to go
                except OSError as error:
                    self._tell("write to", error)
        return data

    def _write(self, data: bytes, sha256: str) -> None:
        with self._shelf(sha256, make=True) as shelf:
            part = f"{_PART}{secrets.token_hex(8)}"
            file = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NEVER_FOLLOW, 0o600, dir_fd=shelf)
            try:
                with open(file, "wb") as opened:
                    with self._total() as total:
                        held = total.read()
                        if held is None or held + len(data) > self.limit:
                            held = self._make_room(len(data))
                        opened.truncate(len(data))  # the room is taken, for whoever counts next
                        total.write(held + len(data))
                    opened.write(data)
                with self._total() as total:
                    doubled = _size(shelf, sha256)  # another may have written it meanwhile
                    os.rename(part, sha256, src_dir_fd=shelf, dst_dir_fd=shelf)
                    total.less(doubled)
            except BaseException:
                with suppress(OSError):  # the first error counts
                    self._remove(shelf, part)
                raise

    def _remove(self, shelf: int, name: str) -> None:
        if _size(shelf, name):
            with self._total() as total, suppress(FileNotFoundError):  # another has done so
                size = _size(shelf, name)
                os.unlink(name, dir_fd=shelf)
                total.less(size)
        else:  # also where the lock is not to be had
            with suppress(FileNotFoundError):
                os.unlink(name, dir_fd=shelf)

    def _make_room(self, wanted: int) -> int:
        """Removes what was used longest ago until ``wanted`` bytes more fit; the bytes that are left.

        Counts anew, so that no killed process leaves a wrong total for long. The caller holds the lock.
        """
        found, held, now = [], 0, time.time()
        for path, status in self._files():
            if path.name.startswith(_PART) and now - status.st_mtime > _ABANDONED_S:
                path.unlink(missing_ok=True)
                continue
            held += status.st_size
            if not path.name.startswith(_PART):
                found.append((status.st_mtime_ns, path, status.st_size))
        if held + wanted > self.limit:
            room = self.limit - wanted - self.limit // 64  # a little more, so that not every object looks anew
            for _, path, size in sorted(found):
                if held <= room:
                    break
                path.unlink(missing_ok=True)
                held -= size
        return held

    def _files(self) -> Iterator[tuple[Path, os.stat_result]]:
        """What is ours in the folder: it may hold other things, too."""
        with os.scandir(self.folder) as shelves:
            for shelf in shelves:
                if _SHELF.fullmatch(shelf.name) and shelf.is_dir(follow_symlinks=False):
                    with os.scandir(shelf) as files:
                        for file in files:
                            if _SHA256.fullmatch(file.name) or file.name.startswith(_PART):
                                with suppress(FileNotFoundError):  # it has become an object, or was damaged
                                    yield Path(file.path), file.stat(follow_symlinks=False)

    @contextmanager
    def _shelf(self, sha256: str, *, make: bool = False) -> Iterator[int]:
        """The folder of an object, open. Raises OSError also where it is a link."""
        path = self.folder / sha256[:2]
        if make:  # never the cache's own folder: the disk that held it may be gone
            with suppress(FileExistsError):
                path.mkdir(mode=0o700)
        shelf = os.open(path, os.O_RDONLY | os.O_DIRECTORY | _NEVER_FOLLOW)
        try:
            yield shelf
        finally:
            os.close(shelf)

    @contextmanager
    def _total(self) -> Iterator[_Total]:
        """The folder's total, locked. Raises OSError, also where the lock is not to be had."""
        with self._thread_lock:
            file = os.open(self.folder / _TOTAL, os.O_RDWR | os.O_CREAT | _NEVER_FOLLOW, 0o600)
            try:
                _lock(file)
                yield _Total(file)
            finally:
                os.close(file)

    def _tell(self, what: str, error: OSError) -> None:
        self.trouble = f"can't {what} the cache {self.folder} ({error.strerror}): going on without it"
        self._say("trouble", self.trouble)

    def _say(self, what: str, line: str) -> None:
        if (what, str(self.folder)) not in _said:
            _said.add((what, str(self.folder)))
            print(line, file=sys.stderr, flush=True)


class _Total:
    """The number in the locked file."""

    def __init__(self, file: int) -> None:
        self._file = file

    def read(self) -> int | None:
        """None where there is no number: someone has to count."""
        text = os.pread(self._file, 32, 0)
        return int(text) if text.strip().isdigit() else None

    def write(self, held: int) -> None:
        os.pwrite(self._file, b"%020d\n" % held, 0)  # always as long, so that none is ever half there

    def less(self, size: int) -> None:
        held = self.read()
        if held is not None:
            self.write(max(0, held - size))


def _size(shelf: int, name: str) -> int:
    """0 where it is not there."""
    try:
        return os.stat(name, dir_fd=shelf, follow_symlinks=False).st_size
    except FileNotFoundError:
        return 0


def _lock(file: int) -> None:
    until = time.monotonic() + _LOCK_S
    while True:
        try:
            return fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > until:
                raise TimeoutError(None, f"another process has kept it locked for {_LOCK_S:g} s") from None
            time.sleep(0.005)
