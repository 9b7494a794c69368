"""The file that says that a folder is being filled, and with what. It is there until the folder tells by itself."""

from __future__ import annotations

import fcntl
import json
import os
import threading
from pathlib import Path
from types import TracebackType

from ..errors import Conflict, Fault

PART = ".part-pull-"  # prefix of the names of files that are not whole yet, all in the folder that is pulled into
MARKER = f"{PART[:-1]}.json"


def told(folder: Path) -> dict | None:
    """``what`` a pull that was broken off fills the folder with, and its ``url``; None where there was none.

    Nothing, where it was killed while it wrote just that.
    """
    try:
        tree = json.loads((folder / MARKER).read_bytes().partition(b"\n")[0])
        return {"what": str(tree["what"]), "url": str(tree["url"])}
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):
        return {}
    except OSError as error:
        raise Fault(f"can't read {folder / MARKER}: {error.strerror}") from None


class Marker:
    """A line of what it is, and one for each file that has arrived and that no checksum vouches for.

    Raises Conflict where another pull has the folder. Whoever holds it holds the folder.
    """

    def __init__(self, folder: Path, what: str, url: str) -> None:
        self._path, self._lock = folder / MARKER, threading.Lock()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = open(self._path, "a+b", buffering=0)  # noqa: SIM115 - closed by __exit__
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self._file.seek(0)
                arrived = self._file.read().splitlines()[1:]
                self._file.truncate(0)
                self._file.write(b"\n".join([json.dumps({"what": what, "url": url}).encode(), *arrived, b""]))
            except BaseException:
                self._file.close()
                raise
        except BlockingIOError:
            raise Conflict(f"{folder} is being filled by another pull just now: wait for it, or give another folder"
                           ) from None
        except OSError as error:
            raise Fault(f"can't write {self._path}: {error.strerror}") from None
        self._arrived = set(arrived)

    def __enter__(self) -> Marker:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._file.close()

    def note(self, name: str, file: Path) -> None:
        """The object that is known by ``name`` has become ``file``."""
        try:
            with self._lock:
                self._file.write(_line(name, file.stat()) + b"\n")
        except OSError as error:
            raise Fault(f"can't write {self._path}: {error.strerror}") from None

    def knows(self, name: str, status: os.stat_result) -> bool:
        """Whether an earlier pull has noted a file of this name and status."""
        return _line(name, status) in self._arrived

    def remove(self) -> None:
        self._path.unlink(missing_ok=True)


def _line(name: str, status: os.stat_result) -> bytes:
    return f"{name} {status.st_size} {status.st_mtime_ns}".encode()
