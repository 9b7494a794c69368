"""Each fault of the tests' proxy really happens as it says: seen with a plain client, before a real server."""

import contextlib
import hashlib
import http.client
import socket
import socketserver
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
from botocore.exceptions import ClientError, ConnectionClosedError, ReadTimeoutError

from tests.support.bucket import new_bucket
from tests.support.proxy import FaultProxy, Rule

pytestmark = pytest.mark.s3
ROOT = Path(__file__).parents[2]
SIZE = 1_000_000
DATA = np.random.default_rng(0).bytes(SIZE)
KEY = "a folder/ünïcode + 100%.bin"


@pytest.fixture(scope="module")
def stored(s3_server):
    with new_bucket(s3_server) as bucket:
        bucket.put(KEY, DATA)
        yield bucket


@pytest.fixture
def proxy(stored):
    with FaultProxy(*stored.server.address) as proxy:
        yield proxy


@pytest.fixture
def client(stored, proxy):
    with contextlib.closing(stored.server.client(endpoint=proxy.endpoint)) as client:
        yield client


@dataclass
class Seen:
    status: int
    headers: dict[str, str]
    body: bytes
    error: type[Exception] | None
    first_byte_s: float
    seconds: float


@pytest.fixture
def get(client, stored):
    """``get(method="GET", **headers)``: the object through the proxy, every byte of it that came."""

    def get(method: str = "GET", **headers: str) -> Seen:
        url = client.generate_presigned_url(f"{method.lower()}_object", {"Bucket": stored.name, "Key": KEY})
        parts = urlsplit(url)
        connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=20)
        began = time.monotonic()
        body, error = b"", None
        with contextlib.closing(connection):
            connection.request(method, f"{parts.path}?{parts.query}", headers=headers)
            response = connection.getresponse()
            first_byte_s = time.monotonic() - began
            try:
                while piece := response.read1(SIZE):
                    body += piece
            except OSError as raised:
                error = type(raised)
            return Seen(response.status, dict(response.headers), body, error, first_byte_s, time.monotonic() - began)

    return get


def test_without_a_rule_all_passes_unchanged_and_is_logged(client, proxy, stored):
    name = {"Bucket": stored.name}
    whole = client.get_object(**name, Key=KEY)
    assert whole["Body"].read() == DATA
    part = client.get_object(**name, Key=KEY, Range="bytes=10-19")
    assert part["Body"].read() == DATA[10:20]
    assert client.head_object(**name, Key=KEY)["ContentLength"] == SIZE
    with pytest.raises(ClientError, match="304"):
        client.get_object(**name, Key=KEY, IfNoneMatch=whole["ETag"])
    with pytest.raises(ClientError, match="NoSuchKey"):
        client.get_object(**name, Key="nothing")
    client.put_object(**name, Key="new", Body=DATA[:1000])
    client.put_object(**name, Key="empty", Body=b"")
    assert sorted(each["Key"] for each in client.list_objects_v2(**name)["Contents"]) == sorted([KEY, "new", "empty"])
    client.delete_object(**name, Key="new")
    client.delete_object(**name, Key="empty")
    entries = [(each.method, each.status, each.received, each.sent) for each in proxy.log[:5]]
    assert entries[:2] == [("GET", 200, 0, SIZE), ("GET", 206, 0, 10)]
    assert entries[2:4] == [("HEAD", 200, 0, 0), ("GET", 304, 0, 0)]
    assert [each.range for each in proxy.log[:3]] == [None, "bytes=10-19", None]
    assert proxy.log[0].path == f"/{stored.name}/{KEY}"
    assert [each.received for each in proxy.requests("PUT", "/new$")] == [1000]
    assert [each.status for each in proxy.requests("DELETE")] == [204, 204]
    assert len(proxy.requests("GET", "list-type=2")) == 1
    assert proxy.connections == 1  # kept alive over all of them
    assert all(each.rule is None for each in proxy.log)


def test_uploads_in_parts_pass_unchanged(client, proxy, stored):
    name = {"Bucket": stored.name, "Key": "in parts"}
    upload = client.create_multipart_upload(**name)["UploadId"]
    halves = [DATA * 6, DATA * 2]
    parts = [{"PartNumber": number, "ETag": client.upload_part(**name, UploadId=upload, PartNumber=number,
                                                               Body=half)["ETag"]}
             for number, half in enumerate(halves, 1)]
    client.complete_multipart_upload(**name, UploadId=upload, MultipartUpload={"Parts": parts})
    assert hashlib.sha256(stored.get("in parts")).digest() == hashlib.sha256(b"".join(halves)).digest()
    assert [each.received for each in proxy.requests("PUT", "partNumber")] == [len(half) for half in halves]


@pytest.mark.parametrize("at", [0, 1, 700_001])
def test_reset(get, proxy, at):
    proxy.add(Rule(reset_at=at))
    seen = get()
    assert (seen.status, len(seen.body), seen.error) == (200, at, ConnectionResetError)
    assert seen.body == DATA[:at]
    assert proxy.log[0].sent == at
    assert get().body == DATA  # once only


@pytest.mark.parametrize("at", [0, 300_000])
def test_cut(get, proxy, at):
    proxy.add(Rule(cut_at=at))
    seen = get()
    assert (seen.status, seen.headers["Content-Length"], seen.error) == (200, str(SIZE), None)
    assert seen.body == DATA[:at]


def test_lie(get, proxy):
    proxy.add(Rule(lie_at=400_000))
    seen = get(Range="bytes=100000-899999")
    assert (seen.status, seen.headers["Content-Length"], seen.error) == (206, "400000", None)
    assert seen.headers["Content-Range"] == f"bytes 100000-899999/{SIZE}"
    assert seen.body == DATA[100_000:500_000]


def test_after_a_lie_the_connection_goes_on(client, proxy, stored):
    proxy.add(Rule(lie_at=5))
    pieces = [client.get_object(Bucket=stored.name, Key=KEY, Range="bytes=0-999")["Body"].read() for _ in range(2)]
    assert pieces == [DATA[:5], DATA[:1000]]
    assert proxy.connections == 1


@pytest.mark.parametrize("at", [0, 524_287, SIZE - 1])
def test_flip(get, proxy, at):
    proxy.add(Rule(flip_at=at))
    seen = get()
    assert [n for n, (a, b) in enumerate(zip(seen.body, DATA, strict=True)) if a != b] == [at]


def test_an_error_of_its_own_does_not_reach_the_server(client, get, proxy, stored):
    proxy.add(Rule(status=503, times=3, retry_after=7))
    with pytest.raises(ClientError) as caught:
        client.put_object(Bucket=stored.name, Key="refused", Body=DATA)
    response = caught.value.response
    assert response["Error"]["Code"] == "SlowDown"
    assert response["ResponseMetadata"]["HTTPStatusCode"] == 503
    assert response["ResponseMetadata"]["HTTPHeaders"]["retry-after"] == "7"
    assert get("HEAD").status == 503
    assert get().status == 503
    assert get().body == DATA
    assert proxy.requests("PUT")[0].received == SIZE
    assert "refused" not in stored.list()
    proxy.add(Rule(status=500, code="InternalError", method="GET"))
    with pytest.raises(ClientError, match="InternalError"):
        client.get_object(Bucket=stored.name, Key=KEY)
    assert client.get_object(Bucket=stored.name, Key=KEY)["Body"].read() == DATA  # over the same connection


def test_stall_and_delay(client, get, proxy, stored):
    proxy.add(Rule(stall=0.3))
    proxy.add(Rule(stall=0.3, stall_at=500_000))
    proxy.add(Rule(delay=0.3))
    at_once, midway, delayed, free = (get() for _ in range(4))
    assert all(seen.body == DATA for seen in (at_once, midway, delayed, free))
    assert at_once.first_byte_s >= 0.3
    assert delayed.first_byte_s >= 0.3
    assert midway.first_byte_s < 0.3 <= midway.seconds
    assert free.seconds < 0.3
    impatient = stored.server.client(endpoint=proxy.endpoint, read_timeout=0.2)
    proxy.add(Rule(stall=60))
    with contextlib.closing(impatient), pytest.raises(ReadTimeoutError):
        impatient.head_object(Bucket=stored.name, Key=KEY)
    proxy.delay_all(0.1)
    assert all(get().first_byte_s >= 0.1 for _ in range(2))
    proxy.clear()
    assert get().first_byte_s < 0.1  # and nothing waits for the minute above when the proxy closes


def test_an_upload_reset_midway_leaves_nothing(client, proxy, stored):
    for at in (0, 1, 600_000):
        proxy.add(Rule(method="PUT", upload_reset_at=at))
        with pytest.raises(ConnectionClosedError):
            client.put_object(Bucket=stored.name, Key="half", Body=DATA)
        assert proxy.log[-1].received == at
        assert proxy.log[-1].status is None
    assert "half" not in stored.list()
    client.put_object(Bucket=stored.name, Key="half", Body=DATA)
    assert stored.get("half") == DATA


def test_a_dropped_response_is_of_a_request_that_was_done(client, proxy, stored):
    proxy.add(Rule(method="PUT", path="ambiguous", drop_response=True))
    with pytest.raises(ConnectionClosedError):
        client.put_object(Bucket=stored.name, Key="ambiguous", Body=b"done")
    assert stored.get("ambiguous") == b"done"
    with pytest.raises(ClientError, match="PreconditionFailed"):
        client.put_object(Bucket=stored.name, Key="ambiguous", Body=b"again", IfNoneMatch="*")


def test_a_refused_request_is_not_done(client, proxy, stored):
    proxy.add(Rule(refuse=True))
    with pytest.raises(ConnectionClosedError):
        client.delete_object(Bucket=stored.name, Key=KEY)
    assert stored.get(KEY) == DATA


def test_which_requests_a_rule_takes(client, proxy, stored):
    called = []
    rule = proxy.add(Rule(method="GET", path=r"ünïcode \+ 100%", skip=1, times=2, status=503, call=called.append))
    always = proxy.add(Rule(path="list-type=2", times=None, status=500))
    head = proxy.add(Rule(method="HEAD", status=400))

    def status(operation: str, **options: str) -> int:
        try:
            reply = getattr(client, operation)(Bucket=stored.name, **options)
        except ClientError as error:
            reply = error.response
        return reply["ResponseMetadata"]["HTTPStatusCode"]

    assert status("head_object", Key=KEY) == 400
    for expected in (200, 503, 503, 200):
        reply = status("get_object", Key=KEY)
        assert reply == expected
        assert status("list_objects_v2") == 500
    assert (rule.hits, always.hits, head.hits) == (2, 4, 1)
    assert [request.method for request in called] == ["GET", "GET"]
    assert [each.rule for each in proxy.requests("GET", "ünïcode")] == [None, rule, rule, None]


def test_the_first_rule_that_takes_a_request_is_the_only_one(get, proxy):
    proxy.add(Rule(status=503, times=2))
    proxy.add(Rule(reset_at=10))
    assert [get().status for _ in range(2)] == [503, 503]
    assert len(get().body) == 10
    assert get().body == DATA


def test_many_connections_at_once(client, stored, proxy):
    def read(begin: int) -> bool:
        body = client.get_object(Bucket=stored.name, Key=KEY, Range=f"bytes={begin}-{begin + 99_999}")["Body"]
        return body.read() == DATA[begin:begin + 100_000]

    proxy.add(Rule(delay=0.5, times=None))
    began = time.monotonic()
    with ThreadPoolExecutor(32) as pool:
        assert all(pool.map(read, range(0, 32_000, 1000)))
    assert time.monotonic() - began < 8  # in turn: 16 s
    assert 20 <= proxy.connections <= 32


def test_as_a_process_of_its_own(stored):
    process = subprocess.Popen([sys.executable, "-m", "tests.support.proxy", str(stored.server.address[1]),
                                "--delay", "0.2"], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with process:
        endpoint = process.stdout.readline().strip()
        with contextlib.closing(stored.server.client(endpoint=endpoint)) as client:
            began = time.monotonic()
            assert client.get_object(Bucket=stored.name, Key=KEY)["Body"].read() == DATA
            assert time.monotonic() - began >= 0.2
        process.stdin.close()
        assert process.wait(10) == 0


def test_a_server_that_hangs_up_is_seen_at_once():
    """As without the proxy: an idle connection ends with the server, and a new one is reset."""
    with _Scripted([]) as server, FaultProxy(*server.address) as proxy:
        with socket.create_connection(("127.0.0.1", proxy.port), timeout=5) as idle:
            server.hang_up()
            assert idle.recv(1) == b""
        server.close()
        with pytest.raises(ConnectionResetError):
            _first_byte(proxy.port)


def _first_byte(port: int) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=5) as late:
        return late.recv(1)


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n3;x=1\r\n, w\r\n0\r\nSum: 1\r\n\r\n"
ENDLESS = b"HTTP/1.1 200 OK\r\n\r\nuntil the end"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
EARLY = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno"
SENT = b"PUT /x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n"


@pytest.mark.parametrize(("reply", "rule", "expected"), [
    (CHUNKED, None, CHUNKED),
    (CONTINUE + CHUNKED, None, CONTINUE + CHUNKED),
    (CHUNKED, Rule(flip_at=5), CHUNKED.replace(b", w", b"\xd3 w")),
    (CHUNKED, Rule(cut_at=6), CHUNKED[:CHUNKED.index(b" w")]),
    (CHUNKED, Rule(lie_at=3), CHUNKED),  # there is no Content-Length to lie about
    (ENDLESS, None, ENDLESS),
    (ENDLESS, Rule(cut_at=5), ENDLESS[:-8]),
])
def test_bodies_without_a_length(reply, rule, expected):
    with _Scripted([reply]) as server, FaultProxy(*server.address) as proxy:
        if rule is not None:
            proxy.add(rule)
        with socket.create_connection(("127.0.0.1", proxy.port), timeout=5) as client:
            client.sendall(SENT)
            seen = b""
            while expected != seen and (more := client.recv(1000)):
                seen += more
        assert seen == expected
        assert server.got == SENT  # byte for byte
        assert proxy.log[0].received == 4


def test_a_refusal_before_the_body_reaches_a_client_that_waits_to_be_asked_for_it():
    with _Scripted([EARLY]) as server, FaultProxy(*server.address) as proxy:
        with socket.create_connection(("127.0.0.1", proxy.port), timeout=5) as client:
            client.sendall(b"PUT /x HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n")
            seen = b""
            while more := client.recv(1000):
                seen += more
        assert seen == EARLY
        assert (proxy.log[0].status, proxy.log[0].received) == (403, 0)


class _Scripted:
    """A server that answers with these bytes whatever it gets; ``got`` is that."""

    def __init__(self, replies: list[bytes]) -> None:
        scripted = self
        self.got = b""
        self.open: list[socket.socket] = []

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                scripted.open.append(self.request)
                for reply in replies:
                    while not scripted.got.endswith((b"0\r\n\r\n", b"4\r\n\r\n")):
                        scripted.got += self.request.recv(1000)
                    self.request.sendall(reply)
                    if reply is ENDLESS:
                        return
                with contextlib.suppress(OSError):
                    self.request.recv(1)

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = True

        self._server = Server(("127.0.0.1", 0), Handler)
        self.address = self._server.server_address
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def hang_up(self) -> None:
        deadline = time.monotonic() + 5
        while not self.open and time.monotonic() < deadline:
            time.sleep(0.01)
        self.open[0].shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
            self._server.server_close()

    def __enter__(self):
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
