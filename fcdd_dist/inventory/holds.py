"""What is in use below a URL: what a driver or a sharding holds by its lease, and what a pull is filling.

A lease holds all that lies below it, so one in a folder above the URL counts, too. Whatever can't be read holds.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass

from ..checkpoint import FOLDER
from ..data.manifest import EXPOSURE
from ..errors import BadInput, NotFound
from ..storage import Entry, FolderStore, Leftover, Store, exists
from ..storage.lease import LEASE
from ..storage.owner import Owner
from ..sweep.value import TRIALS
from .facts import UNREADABLE, in_parallel
from .marker import MARKER
from .orphan import Orphan
from .standing import UNJUDGED, Above
from .survey import BOARD, Survey

_WITHIN = re.compile(rf"(?:(?:{TRIALS}/[^/]+/)?(?:{FOLDER}(?:/.*)?|{BOARD[:-1]})|{TRIALS}(?:/[^/]+)?|"
                     rf"(?:{EXPOSURE}/)?(?:train|holdout|test)(?:/.*)?|{EXPOSURE})")
_PULLED = f"in use: a pull fills it, or goes on there ({MARKER})"


@dataclass(frozen=True)
class _Spot:
    """Where a lease is, or may come to be; it holds what is below ``prefix``."""

    prefix: str
    store: Store
    key: str = LEASE
    written: float = 0.0  # by the listing
    above: Above | None = None  # where it is above the URL

    def read(self) -> bytes | None:
        try:
            return self.store.read(self.key)
        except NotFound:
            return None
        except BadInput:
            # Whoever may only see a part of a bucket is not kept from cleaning it; but what looks like the inside of
            # a run, sweep or data set is in use until the lease shows that it is not.
            if self.above and not _WITHIN.fullmatch(self.above.tail):
                return None
            return b""

    def holder(self, data: bytes | None, now: float, limit: float) -> str | None:
        """Why what is below is in use; None where it is not: the owner is dead on this machine, or nobody has renewed
        the lease for the ``limit``."""
        if data is None:
            return None
        try:
            tree = json.loads(data)
            owner = tree["owner"] and Owner(**tree["owner"])
            renewed = max(self.written, float(tree["renewed"]))
        except UNREADABLE:
            return f"{UNJUDGED}{self.store.url}/{self.key} can't be read"
        if owner is None or owner.is_dead_here() or now - renewed > limit:
            return None
        return f"in use: held by process {owner.pid} on {owner.host}"


class Holds:
    """What holds any of the ``orphans``, as it is now. Reads the leases above them."""

    def __init__(self, store: Store, found: Survey, leftovers: Iterable[Leftover], above: list[Above],
                 orphans: Iterable[Orphan]) -> None:
        leases = {f"{place.prefix}{LEASE}": 0.0 for place in found.all() if place.kind != "checkpoint"}
        leases |= {entry.key: entry.modified for entry in found.entries() if _name(entry) == LEASE}
        keys = [key for orphan in orphans for key in orphan.keys]
        spots = [_Spot(key.removesuffix(LEASE), store, key, written) for key, written in leases.items()]
        spots = [spot for spot in spots if _below(keys, spot.prefix)]
        if keys:
            spots += [_Spot("", one.store, above=one) for one in above]
        self._store, self._above = store, above
        self._seen = dict(zip(spots, in_parallel(_Spot.read, spots), strict=True))
        markers = [one for one in [*found.hidden, *leftovers] if _name(one) == MARKER]
        self._pulls = [one.key.removesuffix(MARKER) for one in markers]

    def why(self, keys: list[str], now: float, limit: float) -> str | None:
        """Why any of the ``keys`` is in use; None where none is."""
        if any(_below(keys, prefix) for prefix in self._pulls) or self._is_pulled([]):
            return _PULLED
        reasons = (spot.holder(data, now, limit) for spot, data in self._seen.items() if _below(keys, spot.prefix))
        return next(filter(None, reasons), None)

    def since(self, keys: list[str]) -> str | None:
        """Why any of the ``keys`` has come into use since; None where none has. No clock is asked: who holds a lease
        renews it.

        To be asked right before something is removed.
        """
        if self._is_pulled(keys):
            return _PULLED
        for spot, seen in self._seen.items():
            if _below(keys, spot.prefix) and (data := spot.read()) != seen and data is not None:
                reason = spot.holder(data, 0.0, float("inf"))
                if reason:
                    return reason
        return None

    def _is_pulled(self, keys: list[str]) -> bool:
        """Whether a pull fills a folder that one of the ``keys`` is in, or one above. Only folders are pulled into."""
        if not isinstance(self._store, FolderStore):
            return False
        prefixes = {"", *(key[:at + 1] for key in keys for at, letter in enumerate(key) if letter == "/")}
        return any(exists(self._store, f"{prefix}{MARKER}") for prefix in prefixes) or any(
            exists(one.store, MARKER) for one in self._above)


def _below(keys: list[str], prefix: str) -> bool:
    return any(key.startswith(prefix) for key in keys)


def _name(entry: Entry | Leftover) -> str:
    return entry.key.rpartition("/")[2]
