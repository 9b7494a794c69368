"""A range of an object on its way here: it goes on where it broke off, and never mixes two versions of the object."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import closing
from typing import Any

_CHUNK = 1 << 20
_POURED = 256 << 10  # so small that its memory is used again and again
_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")


class Replaced(Exception):
    """The object is another version than the one of which something was read already."""


class Reading:
    """A range on its way: what has come stays when the rest does not."""

    def __init__(self, start: int, end: int, etag: str | None, sink: Callable[[bytes], object] | None) -> None:
        self._start, self._end, self.etag = start, end, etag
        self.chunks: list[bytes] = []
        self._sink, self._chunk = (sink, _POURED) if sink else (self.chunks.append, _CHUNK)
        self.got = self.total = 0

    def go_on(self, client: Any, name: dict[str, str]) -> None:
        from .problems import Cut

        same = {"IfMatch": self.etag} if self.etag else {}
        at = self._start + self.got
        answer = client.get_object(**name, Range=f"bytes={at}-{self._end - 1}", **same)
        with closing(answer["Body"]) as body:  # one that is read to its end gives its connection back for the next
            of_s3(answer, "ETag")
            if self.etag and answer["ETag"] != self.etag:  # a store that passes over the condition
                raise Replaced
            self.etag = answer["ETag"]
            there = _RANGE.fullmatch(answer.get("ContentRange", ""))
            if there is not None and int(there[1]) == at:
                self.total, until = int(there[3]), min(self._end, int(there[3]))
            elif at == answer["ContentLength"] == 0:  # of an empty object there is no range, however that is put
                return
            else:
                raise Cut("the store does not answer with the range that was asked for")
            while chunk := body.read(self._chunk):
                self._sink(chunk)
                self.got += len(chunk)
        if self._start + self.got != until:  # whatever Content-Length said
            raise Cut(f"{self._start + self.got} of {until} bytes came")


def of_s3(answer: dict[str, Any], sign: str) -> dict[str, Any]:
    """``answer``, which has what no store leaves out: a web page that answers everything with 200 has not."""
    from .problems import NoStore

    if sign not in answer:
        raise NoStore
    return answer
