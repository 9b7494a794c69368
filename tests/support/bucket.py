"""A real S3 server for tests, started by ``infra/local-bucket``, and new buckets in it.

``with S3Server() as server, new_bucket(server) as bucket:`` works without pytest, too: ``bucket.environment`` is what a
process needs to reach it.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import secrets
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import boto3
import botocore.session
import pytest
from botocore.config import Config

SCRIPT = Path(__file__).parents[2] / "infra" / "local-bucket"
REGION = "us-east-1"


def weed() -> str | None:
    """The server's program: beside this Python or on PATH, where the script looks, too."""
    return shutil.which("weed", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")


class S3Server:
    """A server in a folder of its own. ``endpoint``; ``access_key`` and ``secret_key`` may do everything,
    ``reader_key`` and ``reader_secret`` may read and list. It keeps its port and its data through kill and start."""

    def __init__(self) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="fcdd-s3-"))
        try:
            exported = self._script("up")
        except BaseException:
            self._script("down")
            shutil.rmtree(self.home, ignore_errors=True)  # where there was no server yet to be taken down
            raise
        self.endpoint = exported["AWS_ENDPOINT_URL_S3"]
        self.access_key, self.secret_key = exported["AWS_ACCESS_KEY_ID"], exported["AWS_SECRET_ACCESS_KEY"]
        identities = json.loads((self.home / "s3.json").read_text())["identities"]
        reader = next(each["credentials"][0] for each in identities if each["name"] == "reader")
        self.reader_key, self.reader_secret = reader["accessKey"], reader["secretKey"]

    @property
    def address(self) -> tuple[str, int]:
        parts = urlsplit(self.endpoint)
        return parts.hostname, parts.port

    @property
    def pid(self) -> int:
        return json.loads((self.home / "state.json").read_text())["pid"]

    def kill(self) -> None:
        """As a machine that loses power: SIGKILL, and gone on return."""
        pid = self.pid
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        while _lives(pid):
            time.sleep(0.01)

    def start(self) -> None:
        """Up again, with what was stored and on the same port; ready for requests on return (3 s). Nothing if up."""
        if not _lives(self.pid):
            endpoint = self._script("up")["AWS_ENDPOINT_URL_S3"]
            assert endpoint == self.endpoint, f"the server came back at {endpoint}, not at {self.endpoint}"

    def restart(self) -> None:
        self.kill()
        self.start()

    def client(self, access_key: str | None = None, secret_key: str | None = None, endpoint: str | None = None,
               **settings: object):
        """A plain boto3 client with the rights of ``access_key`` (default: all); ``settings`` are of botocore's Config.

        It takes nothing from the environment, whatever a test has put there, and retries nothing.
        """
        nowhere = {name: (None, None, default, convert)
                   for name, (_, _, default, convert) in botocore.session.Session.SESSION_VARIABLES.items()}
        nowhere |= dict.fromkeys(("config_file", "credentials_file"), (None, None, os.devnull, None))
        session = boto3.session.Session(access_key or self.access_key, secret_key or self.secret_key,
                                        botocore_session=botocore.session.Session(session_vars=nowhere),
                                        region_name=REGION)
        plain = {"retries": {"total_max_attempts": 1}, "s3": {"addressing_style": "path"}, "max_pool_connections": 50,
                 "proxies": {}}
        return session.client("s3", endpoint_url=endpoint or self.endpoint, config=Config(**plain | settings))

    def close(self) -> None:
        self._script("down")

    def __enter__(self) -> S3Server:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _script(self, verb: str) -> dict[str, str]:
        done = subprocess.run([sys.executable, str(SCRIPT), verb, "--home", str(self.home)], capture_output=True,
                              text=True, check=False, timeout=120)
        if done.returncode:
            raise RuntimeError(f"{SCRIPT} {verb} failed:\n{done.stderr}")
        return dict(shlex.split(line)[1].split("=", 1) for line in done.stdout.splitlines())


class Bucket:
    """``name``, ``url`` (s3://name), ``client`` (plain boto3, straight to the server), ``server``."""

    def __init__(self, server: S3Server) -> None:
        self.server = server
        self.name = f"test-{secrets.token_hex(6)}"
        self.url = f"s3://{self.name}"
        self.client = server.client()
        self.client.create_bucket(Bucket=self.name)

    @property
    def environment(self) -> dict[str, str]:
        """With these, and without ``unset``, AWS clients find this server and nothing of the user's own."""
        return {"AWS_ENDPOINT_URL_S3": self.server.endpoint, "AWS_ACCESS_KEY_ID": self.server.access_key,
                "AWS_SECRET_ACCESS_KEY": self.server.secret_key, "AWS_REGION": REGION,
                "AWS_EC2_METADATA_DISABLED": "true", "AWS_CONFIG_FILE": str(self.server.home / "no-config"),
                "AWS_SHARED_CREDENTIALS_FILE": str(self.server.home / "no-credentials")}

    @property
    def unset(self) -> list[str]:
        """The other AWS settings of this process's environment: a child must not get them."""
        return [name for name in os.environ if name.startswith("AWS_") and name not in self.environment]

    def use(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Makes ``environment`` this process's own, and so its children's."""
        for name in self.unset:
            monkeypatch.delenv(name)
        for name, value in self.environment.items():
            monkeypatch.setenv(name, value)

    def put(self, key: str, data: bytes) -> None:
        self.client.put_object(Bucket=self.name, Key=key, Body=data)

    def get(self, key: str) -> bytes:
        return self.client.get_object(Bucket=self.name, Key=key)["Body"].read()

    def list(self, prefix: str = "") -> list[str]:
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix=prefix)
        return [entry["Key"] for page in pages for entry in page.get("Contents", [])]

    def uploads(self) -> list[tuple[str, str]]:
        """(key, id) of the multipart uploads that were begun and neither completed nor aborted."""
        pages = self.client.get_paginator("list_multipart_uploads").paginate(Bucket=self.name)
        return [(upload["Key"], upload["UploadId"]) for page in pages for upload in page.get("Uploads", [])]

    def remove(self) -> None:
        """With all that is in it; a server that a test left dead is started for that."""
        self.server.start()
        for key, upload in self.uploads():
            self.client.abort_multipart_upload(Bucket=self.name, Key=key, UploadId=upload)
        keys = self.list()
        for begin in range(0, len(keys), 1000):
            self.client.delete_objects(Bucket=self.name, Delete={
                "Objects": [{"Key": key} for key in keys[begin:begin + 1000]], "Quiet": True})
        self.client.delete_bucket(Bucket=self.name)
        self.client.close()


@contextlib.contextmanager
def new_bucket(server: S3Server) -> Iterator[Bucket]:
    bucket = Bucket(server)
    try:
        yield bucket
    finally:
        bucket.remove()


def _lives(pid: int) -> bool:
    return _service.started(pid) is not None


def _load_service():
    """infra/ is no package: its scripts run as they stand."""
    spec = importlib.util.spec_from_file_location("local_service", SCRIPT.with_name("local_service.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_service = _load_service()
