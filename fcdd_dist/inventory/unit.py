"""What arrives: files, in units that are whole when their records are there, and how they get their names."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from ..errors import Fault
from ..storage import Entry
from .marker import PART, Marker


@dataclass(eq=False)
class File:
    """An object, and where it goes. Without ``sha256`` nobody vouches for it but the size and time of the listing."""

    entry: Entry
    sha256: str | None
    target: Path
    unit: Unit
    tries: int = 0
    counted: int = 0  # bytes that are told as done

    @property
    def name(self) -> str:
        """That it has before it is whole; another one for another object of this key."""
        return _hidden(f"{self.entry.key}\0{self.entry.size}\0{self.sha256 or self.entry.modified}")

    def is_here(self, marker: Marker) -> bool:
        """Whether it need not be fetched."""
        with telling(self.target, "read"):
            try:
                status = self.target.stat()
            except (FileNotFoundError, NotADirectoryError):
                return False
            if status.st_size != self.entry.size:
                return False
            if self.sha256 is None:
                return abs(status.st_mtime - self.entry.modified) < 0.01 or marker.knows(self.name, status)
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
    waiting: dict[Path, Path] = field(default_factory=dict)  # target: part, renamed when the old records are gone
    left: int = 0
    vanished: str | None = None  # an object that was listed and then gone or changed: look again
    damaged: str | None = None
    complete: bool = False

    @cached_property
    def replaces(self) -> bool:
        return any((self.folder / name).exists() and not self.has(name, data) for name, data in self.records)

    def has(self, name: str, data: bytes) -> bool:
        path = self.folder / name
        with telling(path, "read"):
            return path.exists() and path.read_bytes() == data

    @property
    def failed(self) -> bool:
        return bool(self.vanished or self.damaged)

    def commit(self, parts: Path) -> None:
        """Writes the records, when all else is here; under hidden names in ``parts`` first."""
        if gone := [file.target for file in self.files if not self.waiting.get(file.target, file.target).exists()]:
            self.vanished = f"{gone[0]} is gone"  # somebody tidies up where we write
            return
        if self.replaces:
            for name, data in reversed(self.records):
                if not self.has(name, data):
                    with telling(self.folder / name):
                        (self.folder / name).unlink(missing_ok=True)
            for target, part in self.waiting.items():
                rename(part, target)
        for file in self.files:
            if file.sha256 is None:  # by which it is known again; not before, as what is old and has no record may go
                with telling(file.target):
                    os.utime(file.target, (file.entry.modified, file.entry.modified))
        for folder in {file.target.parent for file in self.files}:
            _sync(folder)
        for name, data in self.records:
            if not self.has(name, data):
                path = self.folder / name
                part = parts / _hidden(str(path))
                with telling(path):
                    with part.open("wb") as output:
                        output.write(data)
                        output.flush()
                        os.fsync(output.fileno())
                    rename(part, path)
                    _sync(path.parent)
        self.complete = True


@contextmanager
def telling(path: Path, verb: str = "write") -> Iterator[None]:
    """Says what can't be done with which file, as a Fault."""
    try:
        yield
    except OSError as error:
        raise Fault(f"can't {verb} {path}: {error.strerror or error}") from None


def rename(part: Path, target: Path) -> None:
    with telling(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(part, target)


def _sync(folder: Path) -> None:
    with telling(folder):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _hidden(of: str) -> str:
    return PART + hashlib.sha256(of.encode(errors="surrogateescape")).hexdigest()[:16]
