"""An S3 store behind a bad line: what breaks is gone on with, what is lost is told, nothing is ever half."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import socket
import ssl
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import pytest

from fcdd_dist.errors import BadInput, Damaged, Fault, NotFound
from fcdd_dist.storage import counts, open_store, probe
from fcdd_dist.storage.s3.connection import connection
from fcdd_dist.storage.s3.store import PIECE
from tests.support.proxy import Rule

pytestmark = pytest.mark.s3
KEY = "shard.tar"


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setenv("FCDD_S3_RETRY_S", "15")
    monkeypatch.setenv("FCDD_S3_TIMEOUT_S", "1")


@pytest.fixture
def data():
    import numpy as np

    return np.random.default_rng(1).bytes(3_000_000)


@pytest.fixture
def store(bucket, faulty, data):
    store = open_store(f"{bucket.url}/data")
    store.write(KEY, data)
    return store


def ranges(faulty) -> list[str]:
    return [request.range for request in faulty.log if request.method == "GET"]


@pytest.mark.parametrize("fault", [{"reset_at": 1_500_000}, {"cut_at": 1_500_000}, {"lie_at": 1_500_000},
                                   {"stall_at": 1_500_000, "stall": 30.0}], ids=lambda fault: next(iter(fault)))
def test_a_read_that_breaks_in_the_middle_goes_on_at_its_byte(store, faulty, data, fault):
    faulty.add(Rule(method="GET", path=KEY, **fault))
    before = counts()
    assert store.read(KEY) == data
    assert (counts() - before).retries == 1
    first, second = ranges(faulty)
    assert first.startswith("bytes=0-")
    at = int(second.removeprefix("bytes=").split("-")[0])
    assert 0 < at <= 1_500_000


def test_pieces_of_large_objects_go_on_by_themselves(bucket, faulty):
    import numpy as np

    store, large = open_store(bucket.url), np.random.default_rng(2).bytes(2 * PIECE + 5)
    store.write(KEY, large)
    for skip in range(3):
        faulty.add(Rule(method="GET", path=KEY, skip=skip, reset_at=4))
    assert store.read(KEY) == large
    assert len(ranges(faulty)) == 6


@pytest.mark.parametrize(("status", "code"), [(503, "SlowDown"), (500, "InternalError"), (429, "TooManyRequests"),
                                              (502, "BadGateway"), (400, "RequestTimeout")])
def test_what_may_pass_is_tried_again(store, faulty, data, status, code):
    faulty.add(Rule(method=None, path=KEY, times=3, status=status, code=code))
    before = counts()
    assert store.read(KEY) == data
    faulty.add(Rule(method=None, path=KEY, times=2, status=status, code=code))
    store.write(KEY, b"new")
    assert (counts() - before).retries == 5
    assert store.read(KEY) == b"new"


def test_a_connection_that_stalls_is_given_up_and_taken_anew(store, faulty, data):
    faulty.add(Rule(method="GET", path=KEY, stall=30.0))
    began = time.monotonic()
    assert store.read(KEY) == data
    assert time.monotonic() - began < 10


def test_a_flipped_byte_is_fetched_once_more_and_then_told(store, faulty, data):
    import hashlib

    sha256 = hashlib.sha256(data).hexdigest()
    faulty.add(Rule(method="GET", path=KEY, flip_at=1_000_000))
    assert store.verified(KEY, len(data), sha256) == data
    faulty.add(Rule(method="GET", path=KEY, flip_at=1_000_000, times=None))
    with pytest.raises(Damaged, match=f"{store.url}/{KEY} has other bytes"):
        store.verified(KEY, len(data), sha256)
    assert len(ranges(faulty)) == 4


def test_bytes_that_change_on_their_way_there_are_refused(store, faulty, data):
    """The MD5 goes along, and the store compares."""
    faulty.add(Rule(method="PUT", path=KEY, upload_flip_at=1_000))
    store.write(KEY, data)
    assert store.read(KEY) == data
    assert [request.status for request in faulty.log if request.method == "PUT"][-2:] == [400, 200]


def test_an_object_that_is_replaced_while_it_is_read_is_read_anew(store, faulty, data, bucket):
    def replace(_request) -> None:
        bucket.client.put_object(Bucket=bucket.name, Key=f"data/{KEY}", Body=b"the new one")

    faulty.add(Rule(method="GET", path=KEY, reset_at=1_500_000))
    faulty.add(Rule(method="GET", path=KEY, call=replace))
    assert store.read(KEY) == b"the new one"


def test_nothing_is_half_written(store, faulty, data, monkeypatch):
    monkeypatch.setenv("FCDD_S3_RETRY_S", "2")
    store = open_store(store.url)
    faulty.add(Rule(method="PUT", path=KEY, upload_reset_at=100_000))
    before = counts()
    store.write(KEY, b"x" * 500_000)
    assert (counts() - before).retries == 1
    assert store.read(KEY) == b"x" * 500_000
    faulty.add(Rule(method="PUT", path=KEY, upload_reset_at=100_000, times=None))
    with pytest.raises(Fault, match=f"{store.url}/{KEY}: nothing worked for"):
        store.write(KEY, data)
    assert store.read(KEY) == b"x" * 500_000


def test_a_write_whose_answer_is_lost_has_been_done(store, faulty, bucket):
    """The second try of a conditional write sees its own first one."""
    faulty.add(Rule(method="PUT", path="lease.json", drop_response=True))
    assert store.create("lease.json", b"mine")
    assert not store.create("lease.json", b"another's")
    assert store.read("lease.json") == b"mine"


def test_an_upload_whose_completion_is_lost_has_been_done(store, faulty):
    large = b"y" * (2 * PIECE + 1)
    faulty.add(Rule(method="POST", path=r"large.*uploadId", drop_response=True))
    store.write("large", large)
    assert store.read("large") == large
    assert list(store.leftovers()) == []


def test_an_upload_that_fails_leaves_nothing(store, faulty):
    faulty.add(Rule(method="PUT", path=r"large.*partNumber=2", status=403, code="AccessDenied", times=None))
    with pytest.raises(BadInput, match="may not write there"):
        store.write("large", b"y" * (2 * PIECE + 1))
    assert list(store.leftovers()) == []
    with pytest.raises(NotFound):
        store.size("large")


@pytest.mark.parametrize("how", ["refuses", "passes over"])
def test_stores_without_conditional_writes(bucket, faulty, how):
    """Creating is then looking first; of two that are not at once one wins all the same."""
    store = open_store(f"{bucket.url}/old")
    if how == "refuses":
        faulty.add(Rule(method="PUT", path=r"\.probe-", skip=1, status=501, code="NotImplemented"))
    else:
        connection()._get().meta.events.register(
            "before-sign.s3.PutObject", lambda request, **_: request.headers.__delitem__("If-None-Match"))
    assert store.create("key", b"first")
    assert not store.create("key", b"second")
    assert store.read("key") == b"first"
    assert [entry.key for entry in store.list()] == ["key"]


def test_the_budget_of_time_ends(store, faulty, monkeypatch, caplog):
    monkeypatch.setenv("FCDD_S3_RETRY_S", "1.5")
    store = open_store(store.url)
    probe(store)
    faulty.add(Rule(method="GET", path=KEY, times=None, status=503, code="SlowDown"))
    with pytest.raises(Fault, match=rf"{store.url}/{KEY}: nothing worked for \d s: .*SlowDown.*same command goes on"):
        store.read(KEY)


def test_long_trouble_is_told_while_it_lasts(store, faulty, data, caplog, monkeypatch):
    monkeypatch.setattr("fcdd_dist.storage.s3.connection._TELL_AFTER_S", 0.1)
    faulty.add(Rule(method="GET", path=KEY, times=5, status=503, code="SlowDown"))
    with caplog.at_level(logging.WARNING):
        assert store.read(KEY) == data
    trouble, end = (record.getMessage() for record in caplog.records)
    assert "SlowDown" in trouble
    assert "trying for another" in trouble
    assert "it works again" in end


def test_credentials_that_expire_are_looked_for_anew(bucket, faulty, monkeypatch, tmp_path):
    """As where a tool writes new ones into ~/.aws: a long run outlives those that it began with."""
    good = [f"aws_access_key_id = {os.environ['AWS_ACCESS_KEY_ID']}",
            f"aws_secret_access_key = {os.environ['AWS_SECRET_ACCESS_KEY']}"]
    file = tmp_path / "credentials"
    file.write_text("\n".join(["[default]", *good, ""]))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    store = open_store(bucket.url)
    store.write("a", b"1")

    # The server forgets the first pair, as it seems; another one is there by then.
    server = bucket.server
    reader = [f"aws_access_key_id = {server.reader_key}", f"aws_secret_access_key = {server.reader_secret}"]
    file.write_text("\n".join(["[default]", *reader, ""]))
    faulty.add(Rule(method="GET", path="/a", status=400, code="ExpiredToken"))
    before = counts()
    assert store.read("a") == b"1"
    assert (counts() - before).retries == 1
    with pytest.raises(BadInput, match=r"credentials \(from profile default in ~/.aws\) may not write"):
        store.write("a", b"2")

    file.write_text("\n".join(["[default]", *good, ""]))
    store.write("a", b"2")  # the refusal made it look again
    faulty.add(Rule(method="GET", path="/a", times=2, status=400, code="ExpiredToken"))
    assert store.read("a") == b"2"  # the same ones, until somebody renews them


def test_a_server_that_is_killed_and_comes_back(store, faulty, data, bucket):
    bucket.server.kill()
    restart = threading.Timer(1.0, bucket.server.start)
    restart.start()
    try:
        assert store.read(KEY) == data
        store.write("after", b"1")
    finally:
        restart.join()
    assert store.read("after") == b"1"


def test_an_authority_of_ones_own(bucket, tmp_path, monkeypatch):
    pem = _certificate(tmp_path)
    with _tls_before(bucket.server, pem) as endpoint:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", endpoint)
        with pytest.raises(BadInput, match=r"is not trusted .*set AWS_CA_BUNDLE"):
            probe(open_store(bucket.url))
        monkeypatch.setenv("AWS_CA_BUNDLE", str(pem))
        store = open_store(bucket.url)
        store.write("a", b"1")
        assert store.read("a") == b"1"


def test_virtual_hosts(bucket, faulty, monkeypatch):
    """The bucket in the name of the host, as AWS has it."""
    resolve = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, *more: resolve(
        "127.0.0.1" if str(host).endswith(".localhost") else host, *more))
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", faulty.endpoint.replace("127.0.0.1", "s3.localhost"))
    for style, host, path in (("path", "s3.localhost", f"/{bucket.name}/a"),
                              ("virtual", f"{bucket.name}.s3.localhost", "/a")):
        monkeypatch.setenv("FCDD_S3_ADDRESSING", style)
        store = open_store(bucket.url)
        store.write("a", style.encode())
        assert store.read("a") == style.encode()
        assert faulty.log[-1].headers["host"].partition(":")[0] == host
        assert faulty.log[-1].path == path


def _certificate(folder):
    pem = folder / "own.pem"
    try:
        subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=own",
                        "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(folder / "key.pem"), "-out",
                        str(pem)], check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("needs the openssl command for a certificate")
    return pem


def _tls_before(server, pem):
    """A server that speaks TLS and hands everything on."""
    host, port = server.endpoint.removeprefix("http://").split(":")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem, pem.parent / "key.pem")

    def copy(source, target) -> None:
        with contextlib.suppress(OSError, ssl.SSLError):
            while data := source.recv(65536):
                target.sendall(data)
        for side in (source, target):
            with contextlib.suppress(OSError):
                side.shutdown(socket.SHUT_RDWR)

    @contextlib.contextmanager
    def running():
        with socket.create_server(("127.0.0.1", 0)) as listener:
            def serve() -> None:
                with contextlib.suppress(OSError):
                    while True:
                        raw, _ = listener.accept()
                        threading.Thread(target=answer, args=(raw,), daemon=True).start()

            def answer(raw) -> None:
                with contextlib.suppress(OSError, ssl.SSLError):
                    client, upstream = context.wrap_socket(raw, server_side=True), socket.create_connection(
                        (host, int(port)))
                    back = threading.Thread(target=copy, args=(upstream, client), daemon=True)
                    back.start()
                    copy(client, upstream)
                    back.join()
                    client.close()
                    upstream.close()

            threading.Thread(target=serve, daemon=True).start()
            yield f"https://127.0.0.1:{listener.getsockname()[1]}"
            listener.shutdown(socket.SHUT_RDWR)

    return running()


def test_an_empty_object_however_a_store_puts_it():
    """Ceph answers with a range of none, others with all of nothing."""
    from fcdd_dist.storage.s3.reading import Reading

    for head in ({"ContentRange": "bytes */0"}, {}):
        reading, answer = Reading(0, PIECE, None, None), {
            "ETag": "e", "ContentLength": 0, "Body": io.BytesIO(), **head}
        reading.go_on(SimpleNamespace(get_object=lambda answer=answer, **_: answer), {})
        assert (reading.got, reading.total) == (0, 0)


class TestCredentials:
    """Those of roles and programs are new at every look; those of files may be away while they are written."""

    @pytest.fixture
    def program(self, bucket, tmp_path, monkeypatch):
        """A ``credential_process``; ``says(key, secret)`` sets what it gives, or with None lets it fail."""
        answer, script = tmp_path / "answer.json", tmp_path / "credentials.py"
        script.write_text(f"import json, sys, secrets\n"
                          f"told = json.load(open({str(answer)!r}))\n"
                          f"if told is None: sys.exit('none now')\n"
                          f"print(json.dumps(told))\n")
        config = tmp_path / "config"
        config.write_text(f"[default]\ncredential_process = {sys.executable} {script}\n")
        monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.delenv(name)

        def says(pair) -> None:
            answer.write_text(json.dumps(pair and {
                "Version": 1, "AccessKeyId": pair[0], "SecretAccessKey": pair[1]}))

        return says

    def test_a_refusal_is_final_after_one_more_look(self, program, bucket, monkeypatch):
        calls = iter(range(1000))
        monkeypatch.setattr("fcdd_dist.storage.s3.connection._keys", lambda client: next(calls))  # others at each look
        program((bucket.server.reader_key, bucket.server.reader_secret))
        store, before = open_store(bucket.url), counts()
        with pytest.raises(BadInput, match="may not write there"):
            store.write("a", b"1")
        assert (counts() - before).requests == 2

    def test_none_for_a_moment_is_waited_for(self, program, bucket, faulty):
        good = bucket.server.access_key, bucket.server.secret_key
        program(good)
        store = open_store(bucket.url)
        store.write("a", b"1")
        faulty.add(Rule(method="GET", path="/a", times=3, status=400, code="ExpiredToken"))
        program(None)
        back = threading.Timer(1.0, program, [good])
        back.start()
        assert store.read("a") == b"1"
        back.join()

    def test_a_program_that_is_not_there_is_one_line(self, bucket, tmp_path, monkeypatch):
        (tmp_path / "config").write_text("[default]\ncredential_process = /no/such/program\n")
        monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.delenv(name)
        with pytest.raises(BadInput, match=r"settings of AWS are wrong.*/no/such/program"):
            probe(open_store(bucket.url))


def test_an_endpoint_with_a_password_is_refused_and_not_repeated(bucket, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://someone:hunter2@127.0.0.1:9")
    with pytest.raises(BadInput, match="no user and password") as caught:
        probe(open_store(bucket.url))
    assert "hunter2" not in str(caught.value)


def test_another_region_is_named(bucket, faulty):
    store = open_store(bucket.url)
    store.write("a", b"1")
    faulty.add(Rule(method="GET", path="/a", times=None, status=400, code="IllegalLocationConstraintException"))
    with pytest.raises(BadInput, match=f"bucket '{bucket.name}' is in another region: set AWS_REGION"):
        store.read("a")


def test_how_long_to_wait_is_heeded_as_far_as_there_is_time(store, faulty, data, monkeypatch):
    faulty.add(Rule(method="GET", path=KEY, status=503, retry_after=1))
    began = time.monotonic()
    assert store.read(KEY) == data
    assert time.monotonic() - began >= 1.0
    monkeypatch.setenv("FCDD_S3_RETRY_S", "1")
    store = open_store(store.url)
    assert store.read(KEY, 0, 1) == data[:1]
    faulty.add(Rule(method="GET", path=KEY, status=503, retry_after=3600))
    assert store.read(KEY) == data  # tried once more when the time is over


def test_an_upload_that_somebody_aborts_is_not_taken_for_done(store, faulty, bucket):
    old, new = b"a" * (2 * PIECE + 1), b"b" * (2 * PIECE + 1)
    store.write("large", old)

    def abort(_request) -> None:
        for key, upload in bucket.uploads():
            bucket.client.abort_multipart_upload(Bucket=bucket.name, Key=key, UploadId=upload)

    faulty.add(Rule(method="POST", path=r"large.*uploadId", call=abort))
    with pytest.raises(Fault, match=f"{store.url}/large: somebody has aborted its upload"):
        store.write("large", new)
    assert store.read("large") == old


def test_a_writer_killed_in_mid_upload_leaves_the_old_object_and_a_leftover(store, faulty):
    old = b"a" * (2 * PIECE + 1)
    store.write("large", old)
    code = (f"from fcdd_dist.storage import open_store\n"
            f"open_store({store.url!r}).write('large', b'b' * {2 * PIECE + 1})")
    with subprocess.Popen([sys.executable, "-c", code]) as writer:
        faulty.add(Rule(method="PUT", path=r"large.*partNumber=3", call=lambda _request: writer.kill()))
        assert writer.wait(60) == -9
    assert store.read("large") == old
    (left,) = store.leftovers()
    assert left.key == "large"
    store.discard(left)
    assert list(store.leftovers()) == []


def test_an_upload_that_ends_while_leftovers_are_looked_at_is_none(store, faulty, bucket):
    name = {"Bucket": bucket.name, "Key": "data/a"}
    upload = bucket.client.create_multipart_upload(**name)["UploadId"]
    faulty.add(Rule(method="GET", path=rf"data/a.*{upload}", status=404, code="NoSuchUpload"))
    assert list(store.leftovers()) == []
    assert len(list(store.leftovers())) == 1


def test_the_end_of_the_process_ends_all_waiting(store, faulty):
    from fcdd_dist.storage import abandon

    faulty.add(Rule(method="GET", path=KEY, times=None, status=503))
    threading.Timer(0.5, abandon).start()
    began = time.monotonic()
    try:
        with pytest.raises(Fault, match="not tried again, since this process ends"):
            store.read(KEY)
        assert time.monotonic() - began < 5
    finally:
        abandon(False)


def test_tls_that_breaks_is_tried_again(bucket, tmp_path, monkeypatch):
    """A handshake that is cut off is no certificate that is not trusted; a flipped bit on the wire is no bug."""
    pem = _certificate(tmp_path)
    monkeypatch.setenv("AWS_CA_BUNDLE", str(pem))
    with _tls_before(bucket.server, pem) as endpoint:
        with FaultyWire("127.0.0.1", int(endpoint.rpartition(":")[2])) as wire:
            monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"https://127.0.0.1:{wire.port}")
            store = open_store(bucket.url)
            store.write("a", b"x" * 200_000)
            wire.cut_next_handshake = True
            wire.flip_next_after = 100_000
            wire.hang_up()
            before = counts()
            assert store.read("a") == b"x" * 200_000
            assert (counts() - before).retries >= 2


class FaultyWire:
    """Hands bytes on without knowing what they mean; cuts off a connection at once, or flips a bit of an answer."""

    def __init__(self, host: str, port: int) -> None:
        self._upstream = host, port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.cut_next_handshake, self.flip_next_after = False, None
        self._open: list[socket.socket] = []

    def __enter__(self) -> FaultyWire:
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self.hang_up()
        self._listener.close()

    def hang_up(self) -> None:
        """Ends all connections: the next request begins with a handshake."""
        while self._open:
            self._open.pop().close()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                if self.cut_next_handshake:
                    self.cut_next_handshake = False
                    client.recv(1)
                    client.close()
                    continue
                upstream = socket.create_connection(self._upstream)
                self._open += [client, upstream]
                for source, target, answers in ((client, upstream, False), (upstream, client, True)):
                    threading.Thread(target=self._copy, args=(source, target, answers), daemon=True).start()

    def _copy(self, source: socket.socket, target: socket.socket, answers: bool) -> None:
        passed = 0
        with contextlib.suppress(OSError):
            while piece := bytearray(source.recv(65536)):
                passed += len(piece)
                if answers and self.flip_next_after is not None and passed > self.flip_next_after:
                    self.flip_next_after = None
                    piece[len(piece) // 2] ^= 1
                target.sendall(piece)
