"""Objects into files, several at once, each written and hashed from beginning to end by one thread.

A file grows under a hidden name, so that what is there is always its true beginning, and gets its own name when it is
whole, verified and on disk. The records of a unit, which vouch for its files, come last.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path

from ..errors import Damaged, Fault, NotFound
from ..storage import Entry, Store
from ..threads import Threads
from .marker import Marker
from .unit import File, Unit, rename, telling

PIECE = 8 << 20
THREADS = 8
_HELD = 12  # pieces of large files in memory, of all together
_STOP_S = 0.5  # that threads have to notice; those that wait for the storage write nothing afterwards


class Fetcher:
    """Fetches units from ``store`` into ``folder``, in threads that ``start`` starts."""

    def __init__(self, store: Store, folder: Path, units: list[Unit], marker: Marker) -> None:
        self._store, self._folder, self._units, self._marker = store, folder, units, marker
        self._lock = threading.Condition()
        self._workers, self._readers = Threads(THREADS, "pull"), Threads(THREADS, "pull-ahead")
        self._room = threading.Semaphore(_HELD)
        self.files = self.bytes = 0  # done
        self.fetched = self.already = 0  # bytes
        self.error: BaseException | None = None
        self.stopped = False
        self._left = len(units)

    def start(self) -> None:
        for unit in self._units:
            unit.left += len(unit.files) + 1  # the one: that all was handed out
            if unit.outer:
                unit.outer.left += 1
        for unit in self._units:
            for file in [*unit.files, None]:
                self._workers.submit(self._do, unit, file)

    def wait(self, seconds: float) -> bool:
        """Whether all is done or has failed, at the latest after ``seconds``."""
        with self._lock:
            return self._lock.wait_for(lambda: not self._left or self.stopped, seconds)

    def stop(self) -> None:
        """Nothing is written any more."""
        self.stopped = True
        self._readers.close()
        self._workers.close(_STOP_S)

    def _do(self, unit: Unit, file: File | None) -> None:
        try:
            if file is not None:
                self._bring(file)
            self._done(unit)
        except BaseException as error:  # noqa: BLE001 - raised by whoever waits
            with self._lock:
                self.error = self.error or error  # those that follow are for being stopped
                self.stopped = True
                self._lock.notify_all()

    def _bring(self, file: File) -> None:
        """Until the file is here, or its unit says why it won't be."""
        while not file.unit.failed:
            self._check()
            if file.is_here(self._marker):
                self._count(file, file.entry.size, already=file.entry.size)
                why = None
            else:
                try:
                    why = self._copy(file)
                except Damaged:
                    why = "it changes all the time"
                except NotFound:
                    why = "it is gone"
            if why is None:
                with self._lock:
                    self.files += 1
                return
            self._count(file, -file.counted)
            with telling(part := self._folder / file.name):
                part.unlink(missing_ok=True)
            self._look_again(file, why)

    def _copy(self, file: File) -> str | None:
        """Once through an object, and into its place; or in what it is not the one that was listed.

        Raises NotFound, and Damaged where it changes meanwhile.
        """
        key, size, path = file.entry.key, file.entry.size, self._folder / file.name
        digest, written = hashlib.sha256(), 0
        # Only what a checksum vouches for goes on: after a power cut the beginning need not be what was written.
        with telling(path), open(path, "r+b" if file.sha256 and path.exists() else "w+b", buffering=0) as output:
            while data := output.read(1 << 20):
                digest.update(data)
                written += len(data)
            if written > size:
                output.seek(written := 0)
                output.truncate()
                digest = hashlib.sha256()
            self._count(file, written, already=written)

            def write(data: bytes) -> None:
                nonlocal written
                self._check()
                rest = memoryview(data)
                with telling(path):
                    while rest:
                        rest = rest[output.write(rest):]
                if file.sha256:
                    digest.update(data)
                written += len(data)
                self._count(file, len(data), fetched=len(data))

            if size > PIECE:
                for piece in self._pieces(key, written, size):
                    for data in piece:
                        write(data)
            elif written < size or not file.sha256:
                self._store.pour(key, written, size + 1, write)  # one more: a longer one must not seem to be this one
            if written != size:
                return "its size differs from the listing's"
            if file.sha256 and digest.hexdigest() != file.sha256:
                return "its SHA-256 differs from what its record says"
            if not file.sha256 and size > PIECE and self._look(file) != file.entry:
                return "it changes all the time"
            os.fsync(output.fileno())
        if file.unit.replaces:
            file.unit.waiting[file.target] = path
        else:
            rename(path, file.target)
            if not file.sha256:
                self._marker.note(file.name, file.target)
        return None

    def _pieces(self, key: str, start: int, end: int) -> Iterator[list[bytes]]:
        """In their order, and read ahead, as far as there is room for more than the next one."""
        ahead: deque[Future[list[bytes]]] = deque()
        try:
            while start < end or ahead:
                while start < end and self._room.acquire(blocking=not ahead):
                    ahead.append(self._readers.submit(self._piece, key, start, min(end, start + PIECE)))
                    start += PIECE
                yield ahead[0].result()
                ahead.popleft()
                self._room.release()
        finally:
            for future in ahead:
                future.cancel()
                self._room.release()

    def _piece(self, key: str, start: int, end: int) -> list[bytes]:
        data: list[bytes] = []
        self._store.pour(key, start, end, data.append)
        if sum(map(len, data)) != end - start:
            raise Damaged(f"{self._store.url}/{key} is shorter than it was")
        return data

    def _look_again(self, file: File, why: str) -> None:
        """The file as it is now; the second time that it is the same, and does not verify, it is damaged."""
        now, name = self._look(file), f"{self._store.url}/{file.entry.key}"
        if now is None or why == "it is gone":
            file.unit.vanished = f"{name} is gone"
        elif now != file.entry and file.sha256 is not None:  # its record speaks of another one
            file.unit.vanished = f"{name} was replaced"
        elif file.tries >= (1 if now == file.entry else 3):
            file.unit.damaged = f"{name} does not verify: {why}"
        else:
            file.tries += 1
            file.entry = now

    def _look(self, file: File) -> Entry | None:
        return next((entry for entry in self._store.list(file.entry.key) if entry.key == file.entry.key), None)

    def _count(self, file: File, size: int, *, fetched: int = 0, already: int = 0) -> None:
        file.counted += size
        with self._lock:
            self.bytes += size
            self.fetched += fetched
            self.already += already

    def _check(self) -> None:
        if self.stopped:
            raise Fault("stopped")  # nobody is told: there is an error before it, or an interrupt

    def _done(self, unit: Unit | None) -> None:
        """Something of a unit is here, or will never be. With the last of it come the records, unless it failed."""
        while unit is not None:
            with self._lock:
                unit.left -= 1
                if unit.left:
                    return
            if not unit.failed and unit.confirm and not unit.confirm():
                unit.vanished = f"{unit.name} changed"
            if not unit.failed:
                self._check()
                unit.commit(self._folder)
            with self._lock:
                if unit.complete:
                    self.files += len(unit.records)
                    self.bytes += sum(len(data) for _, data in unit.records)
                self._left -= 1
                self._lock.notify_all()
            unit = unit.outer
