"""Objects into files, several at once, each in pieces that are written in order.

A file grows under a hidden name, so that what is there is always its true beginning, and gets its own name when it is
whole, verified and on disk. Files that belong together are a ``Unit``; its records, which vouch for them,
come last.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from ..errors import Damaged, Fault, NotFound
from ..storage import Entry, Store

PART = ".part-pull-"  # prefix of the names of files that are not whole yet, all in the folder that is pulled into
PIECE = 8 << 20
THREADS = 8
_HELD = 12  # pieces in memory, being read or waiting for those before them


@dataclass(eq=False)
class File:
    """An object, and where it goes. Without ``sha256`` nobody vouches for it but the size and time of the listing."""

    entry: Entry
    sha256: str | None
    target: Path
    unit: Unit
    tries: int = 0

    @property
    def part(self) -> str:
        of = f"{self.entry.key}\0{self.entry.size}\0{self.sha256 or self.entry.modified}"
        return PART + hashlib.sha256(of.encode()).hexdigest()[:16]

    def is_here(self) -> bool:
        """Whether it need not be fetched."""
        try:
            status = self.target.stat()
        except (FileNotFoundError, NotADirectoryError):
            return False
        if status.st_size != self.entry.size:
            return False
        if self.sha256 is None:
            return abs(status.st_mtime - self.entry.modified) < 0.01
        with self.target.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == self.sha256


@dataclass(eq=False)
class Unit:
    """Files and then ``records`` (name, bytes), in order; after those of the units within, which count as files.

    ``replaces``: other records are there already. They stand until all is here to take their place.
    ``confirm``: asked when the files are here; where it says no, the records that it names are old by now.
    """

    name: str
    folder: Path
    records: list[tuple[str, bytes]]
    outer: Unit | None = None
    confirm: Callable[[], bool] | None = None
    files: list[File] = field(default_factory=list)
    waiting: list[tuple[Path, Path]] = field(default_factory=list)  # to be renamed when the old records are gone
    left: int = 0
    vanished: str | None = None  # an object that was listed and then gone or changed: look again
    damaged: str | None = None
    complete: bool = False

    @cached_property
    def replaces(self) -> bool:
        return any((self.folder / name).exists() and (self.folder / name).read_bytes() != data
                   for name, data in self.records)

    @property
    def failed(self) -> bool:
        return bool(self.vanished or self.damaged)


class _Attempt:
    """One way through an object. ``put`` takes pieces in any order and writes them in theirs."""

    def __init__(self, file: File, folder: Path) -> None:
        self.file, self.path = file, folder / file.part
        self.size = file.entry.size
        self.hash = hashlib.sha256()
        self.lock = threading.Lock()
        self.pieces: dict[int, bytes] = {}
        self.writing = self.over = False
        # Only what a checksum vouches for goes on: after a power cut the beginning need not be what was written.
        mode = "r+b" if file.sha256 and self.path.exists() else "w+b"
        self.output = open(self.path, mode)  # noqa: SIM115 - closed by finish or give_up
        while self.output.tell() < self.size and (data := self.output.read(min(PIECE, self.size))):
            self.hash.update(data)
        self.written = self.issued = self.output.tell()
        if self.written > self.size:
            self.written = self.issued = 0
            self.hash = hashlib.sha256()
        self.output.seek(self.written)
        self.output.truncate()


class Fetcher:
    """Fetches units from ``store`` into ``folder``. ``run`` starts threads; the caller looks at ``done`` meanwhile."""

    def __init__(self, store: Store, folder: Path, units: list[Unit]) -> None:
        self._store, self._folder = store, folder
        self._lock = threading.Condition()
        self._pending: deque[File] = deque()
        self._active: deque[_Attempt] = deque()
        self._held = 0
        self.files = self.bytes = 0  # done
        self.fetched = self.already = 0  # bytes
        self.error: BaseException | None = None
        self.stopped = False
        self._left = len(units)
        for unit in units:
            unit.left += len(unit.files)
            if unit.outer:
                unit.outer.left += 1
            self._pending.extend(unit.files)
        self._empty = [unit for unit in units if not unit.left]
        self._threads = [threading.Thread(target=self._work, name=f"pull-{n}", daemon=True) for n in range(THREADS)]

    def start(self) -> None:
        for unit in self._empty:
            self._commit(unit)
        for thread in self._threads:
            thread.start()

    def wait(self, seconds: float) -> bool:
        """Whether all is done or has failed, at the latest after ``seconds``."""
        with self._lock:
            return self._lock.wait_for(lambda: not self._left or self.stopped, seconds)

    def stop(self, *, wait: bool) -> None:
        """Nothing is written any more; ``wait``: until the threads have noticed."""
        with self._lock:
            self.stopped = True
            self._lock.notify_all()
        for thread in self._threads if wait else ():
            thread.join()
        for attempt in list(self._active):
            with attempt.lock:
                if wait or not attempt.writing:
                    attempt.output.close()

    # Threads

    def _work(self) -> None:
        try:
            while (task := self._next()) is not None:
                task()
        except BaseException as error:  # noqa: BLE001 - raised by whoever waits
            with self._lock:
                self.error = self.error or error
                self.stopped = True
                self._lock.notify_all()

    def _next(self) -> Callable[[], None] | None:
        """What to do next: a piece of a file that was begun, or another file. None: nothing any more."""
        with self._lock:
            while not self.stopped and self._left:
                if self._held < _HELD:
                    for attempt in self._active:
                        if attempt.issued < attempt.size and not attempt.over:
                            start, attempt.issued = attempt.issued, min(attempt.size, attempt.issued + PIECE)
                            end = attempt.issued
                            self._held += 1
                            return lambda: self._piece(attempt, start, end)
                    if self._pending:
                        file = self._pending.popleft()
                        return lambda: self._begin(file)
                self._lock.wait()
            return None

    def _begin(self, file: File) -> None:
        if file.unit.failed:
            return self._done(file)
        if file.is_here():
            self._count(file.entry.size, already=file.entry.size)
            return self._done(file)
        attempt = _Attempt(file, self._folder)
        self._count(attempt.written, already=attempt.written)
        if attempt.written == attempt.size:
            return self._finish(attempt)
        with self._lock:
            self._active.append(attempt)
            self._lock.notify_all()
            if self.stopped:
                attempt.output.close()
        return None

    def _piece(self, attempt: _Attempt, start: int, end: int) -> None:
        """Where nothing before it is missing it goes straight into the file; else it waits for what is."""
        with attempt.lock:
            direct = not attempt.writing and not attempt.over and start == attempt.written
            attempt.writing |= direct
        held: list[bytes] = []
        trouble: Callable[[], None] | None = None
        try:
            self._store.pour(attempt.file.entry.key, start, end,
                             (lambda data: self._write(attempt, data)) if direct else held.append)
        except NotFound:
            trouble = lambda: self._vanish(attempt.file, "is gone")
        except Damaged:
            trouble = lambda: self._again(attempt.file, "it changes all the time")
        data = b"".join(held)
        if trouble is None and (attempt.written != end if direct else len(data) != end - start):
            trouble = lambda: self._again(attempt.file, "its size differs from the listing's")
        with attempt.lock:
            late = attempt.over
            keep = not (direct or late or trouble)
            if keep:
                attempt.pieces[start] = data
            if direct and trouble:
                attempt.writing = False
            if direct and late:
                attempt.output.close()
            writer = not trouble and not late and (direct or not attempt.writing)
            attempt.writing |= writer
        if not keep:
            self._release(1)
        if trouble:
            self._abandon(attempt, trouble)
        elif writer:
            self._drain(attempt)

    def _drain(self, attempt: _Attempt) -> None:
        """Writes what waits, as long as nothing before it is missing; by one thread at a time."""
        while attempt.written < attempt.size:
            with attempt.lock:
                piece = None if attempt.over or self.stopped else attempt.pieces.pop(attempt.written, None)
                if piece is None:
                    attempt.writing = False
                    if attempt.over or self.stopped:
                        attempt.output.close()
                    return
            self._write(attempt, piece)
            self._release(1)
        with self._lock:
            self._active.remove(attempt)
        self._finish(attempt)

    def _write(self, attempt: _Attempt, data: bytes) -> None:
        if self.stopped:
            raise Fault("stopped")
        try:
            attempt.output.write(data)
        except OSError as error:
            raise Fault(f"can't write {attempt.path}: {error.strerror}") from None
        attempt.hash.update(data)
        attempt.written += len(data)
        self._count(len(data), fetched=len(data))

    def _finish(self, attempt: _Attempt) -> None:
        file = attempt.file
        if file.sha256 is not None and attempt.hash.hexdigest() != file.sha256:
            return self._abandon(attempt, lambda: self._again(file, "its SHA-256 differs from what its record says"))
        if file.sha256 is None and file.entry.size > PIECE and self._look(file) != file.entry:
            return self._abandon(attempt, lambda: self._again(file, "it changes all the time"))
        attempt.output.flush()
        os.fsync(attempt.output.fileno())
        attempt.output.close()
        os.utime(attempt.path, (file.entry.modified, file.entry.modified))
        if file.unit.replaces:
            with self._lock:
                file.unit.waiting.append((attempt.path, file.target))
        else:
            _rename(attempt.path, file.target)
        return self._done(file)

    # What goes wrong

    def _abandon(self, attempt: _Attempt, then: Callable[[], None]) -> None:
        """Ends an attempt once, whoever is first; the bytes are not counted any more."""
        with attempt.lock:
            if attempt.over:
                return
            attempt.over = True
            held = len(attempt.pieces)
            attempt.pieces.clear()
            if not attempt.writing or attempt.written == attempt.size:
                attempt.output.close()
        self._release(held)
        with self._lock:
            if attempt in self._active:
                self._active.remove(attempt)
        self._count(-attempt.written)
        attempt.path.unlink(missing_ok=True)
        then()

    def _again(self, file: File, why: str) -> None:
        """Once more from the beginning, as it is now; the second time that it is the same it is damaged."""
        now = self._look(file)
        if now is None:
            return self._vanish(file, "is gone")
        if now != file.entry and file.sha256 is not None:  # its record speaks of another one
            return self._vanish(file, "was replaced")
        if file.tries >= (1 if now == file.entry else 3):
            file.unit.damaged = f"{self._store.url}/{file.entry.key} does not verify: {why}"
            return self._done(file)
        file.tries += 1
        file.entry = now
        with self._lock:
            self._pending.appendleft(file)
            self._lock.notify_all()
        return None

    def _vanish(self, file: File, what: str) -> None:
        file.unit.vanished = f"{self._store.url}/{file.entry.key} {what}"
        self._done(file)

    def _look(self, file: File) -> Entry | None:
        return next((entry for entry in self._store.list(file.entry.key) if entry.key == file.entry.key), None)

    # Accounts

    def _count(self, size: int, *, fetched: int = 0, already: int = 0) -> None:
        with self._lock:
            self.bytes += size
            self.fetched += fetched
            self.already += already

    def _release(self, pieces: int) -> None:
        with self._lock:
            self._held -= pieces
            self._lock.notify_all()

    def _done(self, file: File) -> None:
        with self._lock:
            self.files += 1
            file.unit.left -= 1
            last = not file.unit.left
        if last:
            self._commit(file.unit)

    def _commit(self, unit: Unit) -> None:
        """The files of a unit are here, or will never be."""
        if unit.confirm and not unit.failed and not unit.confirm():
            unit.vanished = f"{unit.name} changed while it was copied"
        if not unit.failed:
            self._write_records(unit)
        with self._lock:
            self._left -= 1
            self._lock.notify_all()
            outer = unit.outer
            if outer:
                outer.left -= 1
            last = outer is not None and not outer.left
        if last:
            self._commit(outer)

    def _write_records(self, unit: Unit) -> None:
        if unit.replaces:
            for name, data in reversed(unit.records):
                path = unit.folder / name
                if path.exists() and path.read_bytes() != data:
                    path.unlink()
            for part, target in unit.waiting:
                _rename(part, target)
        for folder in {file.target.parent for file in unit.files}:
            _sync(folder)
        for name, data in unit.records:
            path = unit.folder / name
            if not path.exists() or path.read_bytes() != data:
                part = self._folder / (PART + hashlib.sha256(str(path).encode()).hexdigest()[:16])
                with part.open("wb") as output:
                    output.write(data)
                    output.flush()
                    os.fsync(output.fileno())
                _rename(part, path)
                _sync(path.parent)
        unit.complete = True
        self._count(sum(len(data) for _, data in unit.records))
        with self._lock:
            self.files += len(unit.records)


def _rename(part: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    os.replace(part, target)


def _sync(folder: Path) -> None:
    if folder.exists():
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
