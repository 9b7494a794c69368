"""One way to an S3 store for a whole process: its client, its patience, and its threads.

A request that fails for a reason that may pass is tried again after a while that grows and is not the same for all,
until there was no success for the time of the settings. Before the first success of a process patience is short: then
the address is more likely wrong than the store down. Nothing else in the project tries anything again.
"""

from __future__ import annotations

import hashlib
import logging
import os
import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from ...errors import BadInput, Fault
from ..counts import count
from .settings import S3Settings

if TYPE_CHECKING:
    from botocore.client import BaseClient

    from .problems import Problem

T = TypeVar("T")
_FIRST_CONTACT_S = 2.0
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.1, 10.0
_TELL_AFTER_S = 5.0
_READS_AT_ONCE, _WRITES_AT_ONCE = 8, 4  # pieces of objects
_LOOK_EVERY_S = 1.0  # for new credentials, where the old ones have expired
_say = logging.getLogger("fcdd_dist.storage").warning

_lock = threading.Lock()
_connections: dict[tuple, Connection] = {}
_expect_up = False
_abandoned = threading.Event()


def abandon(now: bool = True) -> None:
    """Whoever waits to try again gives up at once, since the process is about to end; ``now`` False: no more."""
    _abandoned.set() if now else _abandoned.clear()


def expect_up() -> None:
    """This process need not ask whether the address is right, since another one has been there: be patient at once."""
    global _expect_up
    _expect_up = True


def connection() -> Connection:
    """The one of this process under the settings of its environment. Raises BadInput where these are wrong."""
    seen = sorted((name, os.environ[name]) for name in os.environ if name.startswith(("AWS_", "FCDD_S3_")))
    key = os.getpid(), hashlib.sha256(repr(seen).encode()).digest()  # sockets don't survive a fork
    with _lock:
        if key not in _connections:
            _connections[key] = Connection(S3Settings.of_environment())
        return _connections[key]


class Connection:
    """See the module. Safe for threads."""

    def __init__(self, settings: S3Settings) -> None:
        self._settings, self._lock = settings, threading.Lock()
        self._client: BaseClient | None = None
        self._proven = self._given_up = False
        self._looked = 0.0  # for credentials, the last time
        self.conditional: dict[str, bool] = {}  # by bucket: whether it knows If-None-Match
        # For pieces of objects; what runs in them must not wait for others of them, nor a read for an upload.
        self.readers = ThreadPoolExecutor(_READS_AT_ONCE, "s3-read")
        self.writers = ThreadPoolExecutor(_WRITES_AT_ONCE, "s3-write")

    def call(self, url: str, bucket: str, request: Callable[[BaseClient], T], moved: Callable[[], int] = lambda: 0,
             expected: Callable[[Problem], bool] = lambda problem: False) -> T:
        """What ``request`` gives, tried again where that is right.

        ``moved``: bytes that it has got so far; any progress is a success. ``expected``: of a problem that is an
        answer to the caller, who gets the original exception. Everything else raises BadInput or Fault.
        """
        began, tries, at, told, renewed = time.monotonic(), 0, moved(), False, False
        while True:
            client = self._get()
            try:
                count(requests=1)
                result = request(client)
            except Exception as error:
                found = self._problem(error, bucket, client)
                if found is None or expected(found):
                    raise
                now = time.monotonic()
                self._proven |= found.code.isalpha()  # an S3 store is there, whatever it says
                if moved() != at:
                    began, tries, at = now, 0, moved()
                anew = found.credentials and (found.transient or not renewed) and self._renew(client, found.transient)
                renewed |= anew
                if not (found.transient or anew):
                    raise BadInput(f"{url}: {found.line}") from None
                left = self._patience() - (now - began)
                if left <= 0:
                    raise self._give_up(url, found, now - began) from None
                if now - began > _TELL_AFTER_S and not told:
                    told = True
                    _say(f"{url}: {found.line}; trying for another {left:.0f} s")
                count(retries=1)
                # Jitter over all of the pause but a floor: workers that failed together must not come back together.
                pause = min(_LONGEST_WAIT_S, _FIRST_WAIT_S * 2**min(tries, 16)) * (0.25 + 0.75 * random.random())
                if _abandoned.wait(min(max(pause, found.retry_after_s), left)):
                    raise Fault(f"{url}: {found.line}; not tried again, since this process ends") from None
                tries += 1
            else:
                if told:
                    _say(f"{url}: it works again, after {time.monotonic() - began:.0f} s")
                self._proven, self._given_up = True, False
                return result

    def _patience(self) -> float:
        """Seconds. Who has given up once tidies up without waiting as long for each thing."""
        expected_up = (self._proven or _expect_up) and not self._given_up
        return self._settings.retry_s if expected_up else min(_FIRST_CONTACT_S, self._settings.retry_s)

    def _give_up(self, url: str, found: Problem, seconds: float) -> Exception:
        if not (self._proven or _expect_up):
            return BadInput(f"{url}: {found.line}")
        self._given_up = True
        return Fault(f"{url}: nothing worked for {seconds:.0f} s: {found.line}; the same command goes on once it does")

    def _get(self) -> BaseClient:
        with self._lock:
            if self._client is None:
                self._client = self._settings.client()
            return self._client

    def _problem(self, error: Exception, bucket: str, client: BaseClient) -> Problem | None:
        from .problems import problem

        held = client._request_signer._credentials
        found = problem(error, bucket, client.meta.endpoint_url, held.method if held else "")
        if found is not None and found.absent and (self._proven or _expect_up):
            found = replace(found, transient=True)  # they were there: whoever writes them is at it
        return found

    def _renew(self, used: BaseClient, now_and_then: bool) -> bool:
        """Looks for credentials once more; whether there are others than ``used`` had."""
        with self._lock:
            if self._client is not used:  # another thread did
                return True
            if now_and_then and time.monotonic() - self._looked < _LOOK_EVERY_S:
                return False
            self._looked = time.monotonic()
            try:
                fresh = self._settings.client()
            except BadInput:  # a file that is half written, a program that fails: as long as there are none, the old
                return False
            if _keys(fresh) in (None, _keys(used)):
                return False
            self._client = fresh
            return True


def _keys(client: BaseClient) -> tuple | None:
    """What a client signs with, to be compared and never kept. boto3 has no public way to ask a client."""
    from botocore.exceptions import BotoCoreError

    held = client._request_signer._credentials
    try:
        frozen = held.get_frozen_credentials() if held else None
    except BotoCoreError:  # a provider that has nothing to give now
        return None
    return frozen and (frozen.access_key, frozen.secret_key, frozen.token)
