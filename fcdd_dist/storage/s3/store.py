"""A prefix of a bucket as a store.

Objects are read in ranges, several at once where they are large; a range that breaks off goes on at its byte, of the
same version of the object. Large objects are written in parts, which become the object all at once. ``create`` is a
conditional write (``If-None-Match``) where the store knows it.
"""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from ...errors import BadInput, Damaged, Fault, FcddError, NotFound
from ..counts import count
from ..stores import Entry, Leftover, Store, check_key
from .connection import Connection, connection
from .reading import Reading, Replaced, of_s3

if TYPE_CHECKING:
    from .problems import Problem

PIECE = 8 << 20  # bytes of a range, and of a part: S3 wants at least 5 MiB of all but the last
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_TOKEN = "fcdd-upload"  # in an object's metadata: which upload made it


def check_url(url: str) -> tuple[str, str]:
    """Bucket and prefix of ``s3://bucket/prefix``; the prefix without a slash at its end. Raises BadInput."""
    bucket, _, prefix = url.removeprefix("s3://").partition("/")
    if "@" in bucket:
        raise BadInput("s3://...@...: credentials don't belong into a URL, where logs would show them: set "
                       "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE")
    if not _BUCKET.fullmatch(bucket) or ".." in bucket:
        raise BadInput(f"{url}: {bucket!r} can't be a bucket: its name has 3 to 63 lower-case letters, digits, dots "
                       f"and hyphens; write s3://BUCKET/PREFIX")
    prefix = prefix.rstrip("/")
    try:
        return bucket, prefix and check_key(prefix)
    except ValueError:
        raise BadInput(f"{url}: no part of the prefix may be empty, '.' or '..'; write s3://BUCKET/PREFIX") from None


def open_s3(url: str) -> S3Store:
    """The store at ``s3://bucket/prefix``. Asks nobody yet. Raises BadInput."""
    bucket, prefix = check_url(url)
    return S3Store(bucket, f"{prefix}/" if prefix else "", connection())


class S3Store(Store):
    """See the module. Safe for threads; opened anew by its URL in every process."""

    look_every = 2.0  # a request a second of every run would cost more than the storage

    def __init__(self, bucket: str, prefix: str, connection: Connection) -> None:
        self._bucket, self._prefix, self._connection = bucket, prefix, connection
        self.url = f"s3://{bucket}/{prefix}".rstrip("/")

    def read(self, key: str, start: int = 0, end: int | None = None) -> bytes:
        if end is not None and end <= start:
            self.size(key)
            return b""
        while True:
            try:
                return self._read(key, start, end)
            except Replaced:  # by another version while we read: from the start, of the new one
                continue

    def pour(self, key: str, start: int, end: int, sink: Callable[[bytes], object]) -> None:
        try:
            self._range(key, start, end, sink=sink)
        except Replaced:
            raise Damaged(f"{self.url}/{key} became another object while it was read") from None

    def write(self, key: str, data: bytes) -> None:
        check_key(key)
        if not isinstance(data, bytes | bytearray):
            raise TypeError(f"an object is bytes, not {type(data).__name__}")
        if len(data) > 2 * PIECE:
            self._write_parts(key, data)
        else:
            self._call(key, lambda client: of_s3(client.put_object(**self._name(key), **_body(data)), "ETag"))
            count(bytes_written=len(data))

    def create(self, key: str, data: bytes) -> bool:
        check_key(key)
        if not self._knows_conditions():
            if any(entry.key == key for entry in self.list(key)):
                return False
            self.write(key, data)
            return True
        return self._create(key, data)

    def list(self, prefix: str = "") -> Iterator[Entry]:
        more: dict[str, Any] = {}
        while True:
            page = self._call("", lambda client, more=more: of_s3(client.list_objects_v2(
                Bucket=self._bucket, Prefix=self._prefix + prefix, **more), "IsTruncated"))
            for found in page.get("Contents", ()):
                key = found["Key"].removeprefix(self._prefix)
                if not key.endswith("/"):  # some tools write empty objects that look like folders
                    yield Entry(key, found["Size"], found["LastModified"].timestamp())
            if not page.get("IsTruncated"):
                return
            more = {"ContinuationToken": page["NextContinuationToken"]}

    def size(self, key: str) -> int:
        from botocore.exceptions import ClientError

        try:
            return self._call(check_key(key), lambda client: of_s3(client.head_object(**self._name(key)), "ETag"),
                              expected=lambda problem: problem.status in (400, 403, 404))["ContentLength"]
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] == 404:
                raise self._missing(key) from None
        return self._range(key, 0, 1)[1]  # an answer to HEAD has no body that would say what is wrong

    def delete(self, key: str) -> None:
        self._call(check_key(key), lambda client: client.delete_object(**self._name(key)))

    def at(self, prefix: str) -> S3Store:
        return S3Store(self._bucket, f"{self._prefix}{check_key(prefix)}/", self._connection)

    def leftovers(self) -> Iterator[Leftover]:
        more: dict[str, Any] = {}
        while True:
            page = self._call("", lambda client, more=more: client.list_multipart_uploads(
                Bucket=self._bucket, Prefix=self._prefix, **more))
            for upload in page.get("Uploads", ()):
                name = {"Bucket": self._bucket, "Key": upload["Key"], "UploadId": upload["UploadId"]}
                size = self._size_of_parts(name)
                if size is not None:  # else it has ended just now
                    yield Leftover(upload["Key"].removeprefix(self._prefix), size, upload["Initiated"].timestamp(),
                                   upload["UploadId"])
            if not page.get("IsTruncated"):
                return
            more = {marker: page[f"Next{marker}"] for marker in ("KeyMarker", "UploadIdMarker")
                    if page.get(f"Next{marker}")}

    def _size_of_parts(self, name: dict[str, str]) -> int | None:
        from botocore.exceptions import ClientError

        size, more = 0, {}
        while True:
            try:
                page = self._call("", lambda client, more=more: client.list_parts(**name, **more),
                                  expected=lambda problem: problem.code == "NoSuchUpload")
            except ClientError:
                return None
            size += sum(part["Size"] for part in page.get("Parts", ()))
            if not page.get("IsTruncated"):
                return size
            more = {"PartNumberMarker": page["NextPartNumberMarker"]}

    def discard(self, leftover: Leftover) -> None:
        self._abort(leftover.key, leftover.handle)

    def _read(self, key: str, start: int, end: int | None) -> bytes:
        last = start + PIECE if end is None else min(end, start + PIECE)
        first, total, etag = self._range(key, start, last)
        wanted = total if end is None else min(end, total)
        rest = [self._connection.readers.submit(self._range, key, at, min(at + PIECE, wanted), etag)
                for at in range(last, wanted, PIECE)]
        try:
            return b"".join([first, *(future.result()[0] for future in rest)])
        finally:
            for future in rest:
                future.cancel()

    def _range(self, key: str, start: int, end: int, etag: str | None = None,
               sink: Callable[[bytes], object] | None = None) -> tuple[bytes, int, str]:
        """The bytes ``start`` to ``end``, at most; the size of the object; its version. Raises Replaced.

        With a ``sink`` it gets the bytes, and none are returned.
        """
        from botocore.exceptions import ClientError

        reading, name = Reading(start, end, etag, sink), self._name(check_key(key))
        try:
            self._call(key, lambda client: reading.go_on(client, name), lambda: reading.got,
                       lambda problem: problem.code == "NoSuchKey" or problem.status in (412, 416))
        except ClientError as error:
            status = error.response["ResponseMetadata"]["HTTPStatusCode"]
            if status == 404:
                raise self._missing(key) from None
            if status == 412 or etag or reading.got:
                raise Replaced from None
            return b"", start, ""  # 416: it ends before ``start``
        count(bytes_read=reading.got)
        return b"".join(reading.chunks), reading.total, reading.etag or ""

    def _create(self, key: str, data: bytes) -> bool:
        from botocore.exceptions import ClientError

        tries = 0

        def put(client: Any) -> None:
            nonlocal tries
            tries += 1
            client.put_object(**self._name(key), **_body(data), IfNoneMatch="*")

        try:
            self._call(key, put, expected=lambda problem: problem.status == 412)
        except ClientError:
            # After a try that seemed to fail, and did not, the object is our own.
            try:
                return tries > 1 and self.read(key) == data
            except NotFound:  # it is gone again: whoever made it was first
                return False
        count(bytes_written=len(data))
        return True

    def _knows_conditions(self) -> bool:
        """Whether ``If-None-Match`` is heeded: seen once, since some stores don't know it, and some pass it over."""
        from botocore.exceptions import ClientError

        known = self._connection.conditional
        if self._bucket not in known:
            key = f".probe-{secrets.token_hex(8)}"
            self.write(key, b"")
            try:
                self._call(key, lambda client: client.put_object(**self._name(key), **_body(b""), IfNoneMatch="*"),
                           expected=lambda problem: problem.status in (412, 501))
                known[self._bucket] = False
            except ClientError as error:
                known[self._bucket] = error.response["ResponseMetadata"]["HTTPStatusCode"] == 412
            self.delete(key)
        return known[self._bucket]

    def _write_parts(self, key: str, data: bytes) -> None:
        token = secrets.token_hex(16)
        upload = self._call(key, lambda client: client.create_multipart_upload(
            **self._name(key), Metadata={_TOKEN: token}))["UploadId"]
        name = {**self._name(key), "UploadId": upload}

        def part(number: int) -> dict[str, Any]:
            body = data[(number - 1) * PIECE: number * PIECE]
            answer = self._call(key, lambda client: client.upload_part(**name, PartNumber=number, **_body(body)))
            count(bytes_written=len(body))
            return {"PartNumber": number, "ETag": answer["ETag"]}

        try:
            parts = list(self._connection.writers.map(part, range(1, -(-len(data) // PIECE) + 1)))
            self._complete(key, name, parts, token)
        except BaseException:
            with suppress(FcddError):  # the first error counts; `clean` finds what is left
                self._abort(key, upload)
            raise

    def _complete(self, key: str, name: dict[str, Any], parts: list[dict[str, Any]], token: str) -> None:
        from botocore.exceptions import ClientError

        from .problems import Cut

        tries = 0

        def complete(client: Any) -> None:
            nonlocal tries
            tries += 1
            # S3 answers 200 at once and may put an error into the body: then there is no ETag.
            if not client.complete_multipart_upload(**name, MultipartUpload={"Parts": parts}).get("ETag"):
                raise Cut("an upload was not completed")

        def there(client: Any) -> str | None:
            return client.head_object(**self._name(key))["Metadata"].get(_TOKEN)

        try:
            self._call(key, complete, expected=lambda problem: problem.code == "NoSuchUpload")
        except ClientError:
            # An earlier try did it, and its answer was lost: or somebody has aborted it.
            if tries == 1 or self._call(key, there) != token:
                raise Fault(f"{self.url}/{key}: somebody has aborted its upload: run the same command again") from None

    def _abort(self, key: str, upload: str) -> None:
        from botocore.exceptions import ClientError

        with suppress(ClientError):  # NoSuchUpload alone gets here: it is gone
            self._call(key, lambda client: client.abort_multipart_upload(**self._name(key), UploadId=upload),
                       expected=lambda problem: problem.code == "NoSuchUpload")

    def _call(self, key: str, request: Callable[[Any], Any], moved: Callable[[], int] = lambda: 0,
              expected: Callable[[Problem], bool] = lambda problem: False) -> Any:
        where = self.url if key.startswith(".probe-") else f"{self.url}/{key}".rstrip("/")
        return self._connection.call(where, self._bucket, request, moved, expected)

    def _name(self, key: str) -> dict[str, str]:
        return {"Bucket": self._bucket, "Key": self._prefix + key}

    def _missing(self, key: str) -> NotFound:
        return NotFound(f"there is no {self.url}/{key}")


def _body(data: bytes) -> dict[str, Any]:
    """Its MD5 goes along: every S3 store refuses bytes that changed on their way."""
    md5 = hashlib.md5(data, usedforsecurity=False).digest()
    return {"Body": bytes(data), "ContentMD5": base64.b64encode(md5).decode()}
