"""S3 as a store, on a real server: what only it can do wrong, and how it says so. The contract is tested for all."""

from __future__ import annotations

import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from fcdd_dist.errors import BadInput, Damaged
from fcdd_dist.storage import absolute, counts, open_store, probe
from fcdd_dist.storage.s3.store import PIECE

pytestmark = pytest.mark.s3
BIG = 2 * PIECE + 12_345


def content(size: int, seed: int = 0) -> bytes:
    """Bytes without a pattern that a wrong order would keep."""
    import numpy as np

    return np.random.default_rng(seed).bytes(size)


def test_large_objects_go_in_parts_and_come_in_pieces(bucket):
    store, data = open_store(f"{bucket.url}/deep/er"), content(BIG)
    before = counts()
    store.write("large.bin", data)
    assert store.read("large.bin") == data
    asked = counts() - before
    assert asked.requests == 1 + 3 + 1 + 3  # start, parts, completion; pieces
    assert asked.bytes_read == asked.bytes_written == BIG
    assert store.read("large.bin", 100, PIECE + 200) == data[100: PIECE + 200]
    assert store.read("large.bin", PIECE, PIECE + 1) == data[PIECE: PIECE + 1]
    assert store.read("large.bin", BIG - 3) == data[-3:]
    assert store.read("large.bin", BIG) == b""
    assert bucket.client.head_object(Bucket=bucket.name, Key="deep/er/large.bin")["ETag"].endswith('-3"')


def test_small_objects_cost_one_request(bucket):
    store = open_store(bucket.url)
    before = counts()
    store.write("a", b"x" * 1000)
    store.read("a")
    store.size("a")
    list(store.list())
    assert (counts() - before).requests == 4


def test_lists_beyond_a_page(bucket):
    from concurrent.futures import ThreadPoolExecutor

    store = open_store(f"{bucket.url}/many")
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda number: store.write(f"{number:05}/ä b+%20&.txt", b""), range(1_050)))
    assert [entry.key for entry in store.list()] == [f"{number:05}/ä b+%20&.txt" for number in range(1_050)]
    bucket.client.put_object(Bucket=bucket.name, Key="many/00001/", Body=b"")  # a "folder", as consoles make them
    assert sum(1 for _ in store.list()) == 1_050


def test_an_unfinished_upload_is_no_object_but_a_leftover(bucket):
    store = open_store(f"{bucket.url}/runs")
    name = {"Bucket": bucket.name, "Key": "runs/a/large.bin"}
    upload = bucket.client.create_multipart_upload(**name)["UploadId"]
    bucket.client.upload_part(**name, UploadId=upload, PartNumber=1, Body=b"x" * 1000)
    other = {"Bucket": bucket.name, "Key": "elsewhere"}
    elsewhere = bucket.client.create_multipart_upload(**other)["UploadId"]
    assert list(store.list()) == []
    (left,) = store.leftovers()
    assert (left.key, left.size, left.handle) == ("a/large.bin", 1000, upload)
    assert left.modified > 1e9
    store.discard(left)
    store.discard(left)
    assert list(store.leftovers()) == []
    assert len(list(open_store(bucket.url).leftovers())) == 1
    bucket.client.abort_multipart_upload(**other, UploadId=elsewhere)


def test_a_damaged_object_is_named(bucket):
    store = open_store(f"{bucket.url}/data")
    store.write("shard.tar", b"0123456789")
    with pytest.raises(Damaged, match=rf"{bucket.url}/data/shard.tar has 10 bytes and should have 11"):
        store.verified("shard.tar", 11, "0" * 64)
    with pytest.raises(Damaged, match=rf"{bucket.url}/data/shard.tar has other bytes"):
        store.verified("shard.tar", 10, "0" * 64)


class TestBadInput:
    """One line that names the URL and the setting to change, and no secret."""

    @pytest.fixture
    def refused(self, bucket, monkeypatch):
        secrets = (os.environ["AWS_SECRET_ACCESS_KEY"], "guessed-secret")

        def refused(message: str, url: str | None = None, ask=probe, **environment: str | None) -> None:
            for name, value in environment.items():
                monkeypatch.delenv(name) if value is None else monkeypatch.setenv(name, value)
            with pytest.raises(BadInput, match=message) as caught:
                ask(open_store(url or f"{bucket.url}/runs"))
            text = str(caught.value)
            assert text.count("\n") == 0
            assert not [secret for secret in secrets if secret in text]
            if url is None and "AWS_CA_BUNDLE" not in environment:
                assert text.startswith((f"{bucket.url}/runs: ", "the settings of AWS are wrong: "))

        return refused

    def test_no_credentials(self, refused):
        refused("no credentials: set AWS_ACCESS_KEY_ID", AWS_ACCESS_KEY_ID=None, AWS_SECRET_ACCESS_KEY=None)

    def test_half_of_the_credentials(self, refused):
        refused("missing: AWS_SECRET_ACCESS_KEY", AWS_SECRET_ACCESS_KEY=None)

    def test_an_unknown_key(self, refused):
        refused(r"does not know the access key \(from the environment\): set AWS_ACCESS_KEY_ID",
                AWS_ACCESS_KEY_ID="who")

    def test_a_wrong_secret(self, refused):
        refused("is not that of the access key: set AWS_SECRET_ACCESS_KEY", AWS_SECRET_ACCESS_KEY="guessed-secret")

    def test_no_permission_to_write(self, refused, bucket):
        server = bucket.server
        refused("may not write there", AWS_ACCESS_KEY_ID=server.reader_key, AWS_SECRET_ACCESS_KEY=server.reader_secret)

    def test_no_such_profile(self, refused):
        refused(r"profile \(nobody\) could not be found.*AWS_PROFILE", AWS_PROFILE="nobody")

    def test_no_such_bucket(self, refused):
        for ask in (probe, lambda store: list(store.list()), lambda store: store.read("x")):
            refused("there is no bucket 'no-such-bucket' at http.*set AWS_ENDPOINT_URL_S3", "s3://no-such-bucket/a",
                    ask)

    def test_nobody_at_the_endpoint(self, refused):
        refused("http://127.0.0.1:1 does not answer .*refused.*is AWS_ENDPOINT_URL_S3 right",
                AWS_ENDPOINT_URL_S3="http://127.0.0.1:1")

    def test_an_endpoint_that_is_no_url(self, refused):
        refused("Invalid endpoint: here; see AWS_ENDPOINT_URL_S3", AWS_ENDPOINT_URL_S3="here")

    def test_a_store_without_tls(self, refused, bucket):
        refused("speaks no TLS: write http://", AWS_ENDPOINT_URL_S3=bucket.server.endpoint.replace("http:", "https:"))

    def test_a_web_server_that_answers_everything(self, refused):
        class Page(BaseHTTPRequestHandler):
            def answer(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                self.send_response(200)
                self.end_headers()
                self.wfile.write(b"" if self.command == "HEAD" else b"<html></html>")

            do_GET = do_PUT = do_HEAD = do_DELETE = answer

            def log_message(self, *_of: object) -> None:
                pass

        with ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            try:
                for ask in (probe, lambda store: list(store.list()), lambda store: store.size("x"),
                            lambda store: store.read("x")):
                    refused("does not answer as an S3 store does: is AWS_ENDPOINT_URL_S3 right", "s3://bucket/runs",
                            ask, AWS_ENDPOINT_URL_S3=f"http://127.0.0.1:{server.server_port}")
            finally:
                server.shutdown()

    def test_a_bucket_in_the_endpoint(self, refused, bucket):
        refused("does not answer as an S3 store does: is AWS_ENDPOINT_URL_S3 right",
                ask=lambda store: list(store.list()), AWS_ENDPOINT_URL_S3=f"{bucket.server.endpoint}/{bucket.name}",
                url=f"{bucket.url}/runs")

    def test_certificates_that_are_not_there(self, refused):
        refused("AWS_CA_BUNDLE=/no/such.pem: there is no such file", AWS_CA_BUNDLE="/no/such.pem")

    def test_settings_that_are_none(self, refused):
        refused("there is no setting FCDD_S3_RETRIES; there are: FCDD_S3_ADDRESSING", "s3://bucket/a",
                FCDD_S3_RETRIES="3")
        refused("FCDD_S3_RETRY_S=soon: give seconds", "s3://bucket/a", FCDD_S3_RETRIES=None, FCDD_S3_RETRY_S="soon")
        refused("FCDD_S3_ADDRESSING=any: give one of auto, path, virtual", "s3://bucket/a", FCDD_S3_RETRY_S=None,
                FCDD_S3_ADDRESSING="any")


@pytest.mark.parametrize(("url", "message"), [
    ("s3:/bucket/x", "two slashes"), ("s3:bucket", "two slashes"), ("s3://", "can't be a bucket"),
    ("s3://Bucket/x", "'Bucket' can't be a bucket"), ("s3://a/x", "can't be"), ("s3://under_score/x", "can't be"),
    ("s3://bucket/a//b", "no part of the prefix may be empty"), ("s3://bucket/../b", "'..'"),
    ("gs://bucket/x", "no storage of this kind"), ("https://bucket/x", "no storage of this kind")])
def test_urls_that_are_none(url, message):
    with pytest.raises(BadInput, match=message):
        absolute(url)


def test_a_secret_in_a_url_is_refused_and_not_repeated():
    with pytest.raises(BadInput, match="don't belong into a URL") as caught:
        absolute("s3://KEY:geheim@bucket/x")
    assert "geheim" not in str(caught.value)


def test_urls():
    assert absolute("s3://bucket/") == absolute("s3://bucket") == "s3://bucket"
    assert absolute("s3://bucket/a b/ü/") == "s3://bucket/a b/ü"
    assert open_store("s3://bucket/runs").at("one").url == "s3://bucket/runs/one"


def test_opening_a_store_loads_no_boto3():
    import subprocess
    import sys

    code = ("import sys; from fcdd_dist.storage import absolute, open_store; open_store('s3://bucket/x').at('y'); "
            "print([name for name in sys.modules if name.startswith('boto')])")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
