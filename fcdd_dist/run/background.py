"""What rank 0 does beside the training, so that no step waits for storage, however slow it is.

Threads here see stores and bytes that they are given, and never a tensor that the training changes. They end with the
process, which they don't keep alive.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from ..storage import Store, exists


class Background:
    """Does one piece of work at a time in a thread, while its owner goes on.

    What fails there is raised in the owner's thread by whichever of ``check``, ``start`` and ``wait`` comes next: once,
    and as it is. The methods are for one owner.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    @property
    def busy(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def start(self, work: Callable[[], None]) -> None:
        """To be called where it is not ``busy``: there is no queue."""
        if self.busy:
            raise RuntimeError(f"{self._name} is busy")
        self.check()
        self._thread = threading.Thread(target=self._do, args=(work,), name=self._name, daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Raises what has failed; nothing where the work is done or goes on."""
        if not self.busy and (error := self._take_error()) is not None:
            raise error

    def wait(self) -> None:
        """Until the work is done. Raises what has failed."""
        if self._thread is not None:
            self._thread.join()
        self.check()

    def close(self) -> BaseException | None:
        """Waits as ``wait`` does, and gives back what has failed: for an owner that has failed itself."""
        if self._thread is not None:
            self._thread.join()
        return self._take_error()

    def _take_error(self) -> BaseException | None:
        error, self._error = self._error, None
        return error

    def _do(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - the owner raises it
            self._error = error


class Lookout:
    """Looks for ``key`` in ``store``, at once and every ``store.look_every`` seconds, until it is there or closed."""

    def __init__(self, store: Store, key: str) -> None:
        self._store, self._key = store, key
        self._found, self._end = threading.Event(), threading.Event()
        self._background = Background("lookout")
        self._background.start(self._look)

    def found(self) -> bool:
        """Whether the key was there once. Raises what a look has failed with."""
        self._background.check()
        return self._found.is_set()

    def close(self) -> None:
        """Ends it, without waiting for a look that is under way: nobody asks for its answer any more."""
        self._end.set()

    def _look(self) -> None:
        while not self._end.is_set():
            if exists(self._store, self._key):
                self._found.set()
                return
            self._end.wait(self._store.look_every)
