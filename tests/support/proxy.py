"""A proxy before a real HTTP server, which breaks what it is told to break and passes everything else on unchanged.

    with FaultProxy("127.0.0.1", port) as proxy:
        proxy.add(Rule(method="GET", path=r"shard-0003", reset_at=1_000_000))
        ...                                           # the client talks to proxy.endpoint
        assert [entry.status for entry in proxy.log] == [206, 206]

Bytes pass as they are, the Host header included: it is signed, and the server verifies against the one that it gets.
One thread and one connection upstream for each connection of a client; plain HTTP/1.1 only. As a process of its own,
for measuring: ``python -m tests.support.proxy PORT --delay 0.05`` prints its endpoint, and ends with its stdin.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import re
import select
import socket
import struct
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from urllib.parse import unquote

CHUNK = 256 * 1024
HEAD_END = b"\r\n\r\n"


@dataclass
class Rule:
    """What to do to requests of ``method`` (None: any) whose decoded path and query hold the regex ``path``: not to
    the first ``skip`` of them, to the next ``times`` (None: to all). ``hits`` counts those.

    The first rule of the proxy that takes a request is the only one for it; its actions combine where that makes sense.
    N counts bytes of the body without chunk framing; with fewer bytes in the body than N nothing happens at N.
    """

    method: str | None = None
    path: str = ""
    times: int | None = 1
    skip: int = 0
    # before the request reaches the server
    call: Callable[[Request], object] | None = None  # called, before all else
    refuse: bool = False  # the client's connection is reset; the server sees nothing
    status: int | None = None  # the proxy answers so, with an S3 error; the server sees nothing
    code: str = "SlowDown"
    retry_after: int | None = None  # seconds, as the answer's header
    upload_reset_at: int | None = None  # N bytes of the request's body go on, then both sides are reset
    upload_flip_at: int | None = None  # byte N of the request's body is inverted
    # between the server and the client
    drop_response: bool = False  # the server does it, and the client is reset instead of told so
    delay: float = 0  # seconds, before the first byte of the response
    stall: float = 0  # seconds, there or where stall_at says; the response goes on after them
    stall_at: int | None = None  # in the body, after N bytes
    reset_at: int | None = None  # N bytes of the body, then RST
    cut_at: int | None = None  # N bytes of the body, then FIN, under the Content-Length of all
    lie_at: int | None = None  # N bytes of a body under a Content-Length of N: right-looking, and short
    flip_at: int | None = None  # byte N of the body is inverted
    hits: int = field(default=0, init=False)
    passed: int = field(default=0, init=False)

    def takes(self, request: Request) -> bool:
        """Counts; the proxy's lock is held."""
        if self.times is not None and self.hits >= self.times:
            return False
        if self.method not in (None, request.method) or not re.search(self.path, request.path):
            return False
        if self.passed < self.skip:
            self.passed += 1
            return False
        self.hits += 1
        return True


@dataclass
class Request:
    """One entry of the log; it is there as soon as the request's head is, and fills up."""

    method: str
    path: str  # decoded, with the query
    range: str | None
    started: float  # time.monotonic()
    headers: dict[str, str] = field(repr=False)  # names in lower case
    head: bytes = field(repr=False)
    status: int | None = None  # as the client got it; None: it got none
    received: int = 0  # bytes of the request's body from the client
    sent: int = 0  # bytes of the response's body to the client, without chunk framing
    seconds: float | None = None  # None: not over
    rule: Rule | None = None


class FaultProxy:
    """``endpoint`` is its URL, ``log`` the list of requests in the order in which they came, ``connections`` the number
    of connections that clients made."""

    def __init__(self, upstream_host: str, upstream_port: int) -> None:
        self.upstream = (upstream_host, upstream_port)
        self.log: list[Request] = []
        self.connections = 0
        self.delay = 0.0
        self.closing = threading.Event()
        self._rules: list[Rule] = []
        self._lock = threading.Lock()
        self._sockets: set[socket.socket] = set()
        self._threads: set[threading.Thread] = set()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.port = self._listener.getsockname()[1]
        self.endpoint = f"http://127.0.0.1:{self.port}"
        self._accepting = threading.Thread(target=self._accept, name="proxy accept", daemon=True)
        self._accepting.start()

    def add(self, rule: Rule) -> Rule:
        with self._lock:
            self._rules.append(rule)
        return rule

    def clear(self) -> None:
        """No rules, no delay and an empty log."""
        with self._lock:
            self._rules.clear()
            self.log.clear()
            self.delay = 0.0

    def delay_all(self, seconds: float) -> None:
        """Before the first byte of every response, whatever the rules say."""
        self.delay = seconds

    def requests(self, method: str | None = None, path: str = "") -> list[Request]:
        """Those of the log of that method whose decoded path and query hold the regex."""
        return [entry for entry in list(self.log) if method in (None, entry.method) and re.search(path, entry.path)]

    def close(self) -> None:
        self.closing.set()
        with self._lock:
            for each in (self._listener, *self._sockets):  # wakes the threads that read from them
                with contextlib.suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)
            threads = list(self._threads)
        for thread in (self._accepting, *threads):
            thread.join(10)
        self._listener.close()

    def __enter__(self) -> FaultProxy:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def note(self, request: Request) -> Rule:
        """Puts it into the log, and gives the rule that takes it (an empty one where none does)."""
        with self._lock:
            self.log.append(request)
            request.rule = next((rule for rule in self._rules if rule.takes(request)), None)
        return request.rule or Rule()

    def _accept(self) -> None:
        while not self.closing.is_set():
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(client,), name="proxy connection", daemon=True)
            with self._lock:
                self.connections += 1
                self._sockets.add(client)
                self._threads.add(thread)
            thread.start()

    def _serve(self, client: socket.socket) -> None:
        upstream = None
        try:
            try:
                upstream = socket.create_connection(self.upstream, timeout=30)
            except OSError:
                _reset(client)
                return
            upstream.settimeout(None)
            with self._lock:
                self._sockets.add(upstream)
            _Connection(self, client, upstream).run()
        finally:
            with self._lock:
                self._sockets -= {client, upstream}
                self._threads.discard(threading.current_thread())
            client.close()
            if upstream is not None:
                upstream.close()


class _Over(Exception):
    """The connection ends here; ``reset`` says how the client sees it."""

    def __init__(self, reset: bool) -> None:
        self.reset = reset


class _Connection:
    """One client and its connection to the server, request after request."""

    def __init__(self, proxy: FaultProxy, client: socket.socket, upstream: socket.socket) -> None:
        self.proxy = proxy
        self.client, self.upstream = _Stream(client), _Stream(upstream)

    def run(self) -> None:
        try:
            while self._idle():
                if (request := self._request()) is None:
                    return
                try:
                    if not self._exchange(request, self.proxy.note(request)):
                        return
                finally:
                    request.seconds = time.monotonic() - request.started
        except _Over as over:
            if over.reset:
                _reset(self.client.socket)
                _reset(self.upstream.socket)
        except OSError:  # either side has gone: so does the other, as it would without a proxy
            _reset(self.client.socket)
            _reset(self.upstream.socket)

    def _idle(self) -> bool:
        """Until the next request; False where either side hangs up: a client must see that its server is gone."""
        return bool(self.client.rest) or self.client.socket in _readable(self.client.socket, self.upstream.socket)

    def _request(self) -> Request | None:
        head = self.client.head()
        if head is None:
            return None
        line, headers = _parse(head)
        method, target, _ = line.split(" ", 2)
        return Request(method, unquote(target), headers.get("range"), time.monotonic(), headers, head)

    def _exchange(self, request: Request, rule: Rule) -> bool:
        """Whether the connection goes on."""
        if rule.call is not None:
            rule.call(request)
        if rule.refuse:
            raise _Over(reset=True)
        if rule.status is not None:
            self._answer(request, rule)
            return True
        complete, head = self._upload(request, rule)
        return self._respond(request, rule, head) and complete

    def _upload(self, request: Request, rule: Rule) -> tuple[bool, bytes]:
        """Passes the request on; whether its body was wanted, and the head of the final response."""
        self.upstream.socket.sendall(request.head)
        if rule.upload_reset_at == 0:
            self.upstream.drain()
            raise _Over(reset=True)
        if request.headers.get("expect", "").lower() == "100-continue" and not self.client.rest and (
                self.client.socket not in _readable(self.upstream.socket, self.client.socket)):
            head = self._final_head(stop_at_100=True)
            if head is not None:  # refused unseen; whether the client sends its body all the same is its choice
                return request.headers.get("content-length") == "0", head
        for piece, payload in self._request_body(request):
            room = None if rule.upload_reset_at is None else rule.upload_reset_at - request.received
            if payload and room is not None and room < len(piece):
                request.received += room
                self.upstream.socket.sendall(piece[:room])
                self.upstream.drain()
                raise _Over(reset=True)
            place = -1 if rule.upload_flip_at is None else rule.upload_flip_at - request.received
            if payload and 0 <= place < len(piece):
                piece[place] ^= 0xFF
            request.received += len(piece) if payload else 0
            try:
                self.upstream.socket.sendall(piece)
            except (BrokenPipeError, ConnectionResetError):
                return False, self._final_head()  # the server has answered early, and hung up
        return True, self._final_head()

    def _request_body(self, request: Request) -> Iterator[tuple[memoryview, bool]]:
        if "chunked" in request.headers.get("transfer-encoding", "").lower():
            return self.client.chunked()
        return self.client.counted(int(request.headers.get("content-length", 0)))

    def _final_head(self, stop_at_100: bool = False) -> bytes | None:
        """The head of the final response; interim ones go on to the client. None after 100 where that is asked for."""
        while True:
            head = self.upstream.head()
            if head is None:
                raise _Over(reset=True)
            status = _status(head)
            if not 100 <= status < 200:
                return head
            self.client.socket.sendall(head)
            if stop_at_100 and status == 100:
                return None

    def _answer(self, request: Request, rule: Rule) -> None:
        if request.headers.get("expect", "").lower() == "100-continue" and not self.client.rest:
            self.client.socket.sendall(b"HTTP/1.1 100 Continue" + HEAD_END)
        for piece, payload in self._request_body(request):
            request.received += len(piece) if payload else 0
        body = (f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{rule.code}</Code><Message>made by the proxy'
                f"</Message><Resource>/</Resource><RequestId>0</RequestId></Error>").encode()
        head = f"HTTP/1.1 {rule.status} {rule.code}\r\nContent-Type: application/xml\r\nContent-Length: {len(body)}\r\n"
        if rule.retry_after is not None:
            head += f"Retry-After: {rule.retry_after}\r\n"
        self._sleep(self.proxy.delay + rule.delay + rule.stall)
        request.status = rule.status
        request.sent = 0 if request.method == "HEAD" else len(body)
        self.client.socket.sendall(head.encode() + b"\r\n" + body[:request.sent])

    def _respond(self, request: Request, rule: Rule, head: bytes) -> bool:
        """Passes the response on, or what the rule leaves of it; whether the connection goes on."""
        status, (_, headers) = _status(head), _parse(head)
        length = headers.get("content-length")
        endless = False
        if request.method == "HEAD" or status in (204, 304):
            pieces = iter(())
        elif "chunked" in headers.get("transfer-encoding", "").lower():
            pieces = self.upstream.chunked()
        elif length is not None:
            pieces = self.upstream.counted(int(length))
        else:
            pieces, endless = self.upstream.counted(None), True
        if rule.drop_response:
            for _ in pieces:
                pass
            raise _Over(reset=True)
        lie_at = rule.lie_at
        if lie_at is not None and (length is None or int(length) <= lie_at or request.method == "HEAD"):
            lie_at = None
        if lie_at is not None:
            head = re.sub(rb"(?im)^content-length:[^\r]*", b"Content-Length: %d" % lie_at, head)
        self._sleep(self.proxy.delay + rule.delay + (rule.stall if rule.stall_at is None else 0))
        request.status = status
        self.client.socket.sendall(head)
        for piece, payload in pieces:
            if payload:
                self._pass(request, rule, piece, lie_at)
            else:
                self.client.socket.sendall(piece)
        if endless:
            return False
        return headers.get("connection", "").lower() != "close"

    def _pass(self, request: Request, rule: Rule, piece: memoryview, lie_at: int | None) -> None:
        """A piece of the response's body, split where something happens to it."""
        while piece:
            offset = request.sent
            if offset == rule.stall_at:
                self.client.drain()
                self._sleep(rule.stall)
            if offset in (rule.reset_at, rule.cut_at):
                self.client.drain()
                raise _Over(reset=offset == rule.reset_at)
            if lie_at is not None and offset >= lie_at:
                return
            if offset == rule.flip_at:
                piece[0] ^= 0xFF
            marks = (rule.stall_at, rule.reset_at, rule.cut_at, lie_at, rule.flip_at)
            ahead = [mark - offset for mark in marks if mark is not None and mark > offset]
            part = piece[:min([len(piece), *ahead])]
            request.sent += len(part)
            self.client.socket.sendall(part)
            piece = piece[len(part):]

    def _sleep(self, seconds: float) -> None:
        if seconds and self.proxy.closing.wait(seconds):
            raise _Over(reset=True)


class _Stream:
    """A socket to read heads and bodies from; ``rest`` is what came with the last head and is not read yet."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket = sock
        self.rest = b""
        self.buffer = memoryview(bytearray(CHUNK))

    def head(self) -> bytes | None:
        """Up to the empty line; None at the end of the stream."""
        return self._until(HEAD_END)

    def counted(self, length: int | None) -> Iterator[tuple[memoryview, bool]]:
        """(piece, True) of so many bytes in all, or up to the end for None; a piece holds until the next one."""
        while length is None or length > 0:
            piece = self._some(CHUNK if length is None else min(length, CHUNK))
            if not piece:
                if length is None:
                    return
                raise ConnectionResetError("the peer ended in the middle of a body")
            if length is not None:
                length -= len(piece)
            yield piece, True

    def chunked(self) -> Iterator[tuple[memoryview, bool]]:
        """(piece, whether it is payload) of a chunked body with its framing, trailers included."""
        while True:
            line = self._line()
            yield memoryview(line), False
            size = int(line.split(b";")[0], 16)
            if size == 0:
                break
            yield from self.counted(size)
            yield memoryview(self._line()), False
        while True:
            line = self._line()
            yield memoryview(line), False
            if line == b"\r\n":
                return

    def drain(self, within_s: float = 5) -> None:
        """Until the peer has all that was sent: a reset throws away what still waits in this socket."""
        deadline = time.monotonic() + within_s
        while struct.unpack("i", fcntl.ioctl(self.socket, termios.TIOCOUTQ, b"\0" * 4))[0]:
            if time.monotonic() > deadline:
                return
            time.sleep(0.001)

    def _line(self) -> bytes:
        line = self._until(b"\r\n")
        if line is None:
            raise ConnectionResetError("the peer ended in the middle of a body")
        return line

    def _until(self, end: bytes) -> bytes | None:
        data = self.rest
        while end not in data:
            more = self.socket.recv(CHUNK)
            if not more:
                return None
            data += more
        found, end, self.rest = data.partition(end)
        return found + end

    def _some(self, limit: int) -> memoryview:
        if self.rest:
            count = min(limit, len(self.rest), CHUNK)
            self.buffer[:count] = self.rest[:count]
            self.rest = self.rest[count:]
        else:
            count = self.socket.recv_into(self.buffer, limit)
        return self.buffer[:count]


def _parse(head: bytes) -> tuple[str, dict[str, str]]:
    first, *lines = head.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
    pairs = (line.partition(":") for line in lines)
    return first, {name.strip().lower(): value.strip() for name, _, value in pairs}


def _status(head: bytes) -> int:
    return int(head.split(b" ", 2)[1])


def _readable(*sockets: socket.socket) -> list[socket.socket]:
    """Those of them that have something to read, or have ended; waits for one, however many files are open."""
    poll = select.poll()
    for each in sockets:
        poll.register(each, select.POLLIN)
    ready = {number for number, _ in poll.poll()}
    return [each for each in sockets if each.fileno() in ready]


def _reset(sock: socket.socket) -> None:
    """Closes it so that the peer gets a RST."""
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("port", type=int, help="of the server, on 127.0.0.1")
    parser.add_argument("--delay", type=float, default=0, help="seconds before the first byte of every response")
    options = parser.parse_args()
    with FaultProxy("127.0.0.1", options.port) as proxy:
        proxy.delay_all(options.delay)
        print(proxy.endpoint, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
