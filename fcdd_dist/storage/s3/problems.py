"""What went wrong between us and an S3 store: whether to try again, and how to say it in one line."""

from __future__ import annotations

import builtins
import os
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError,
    CredentialRetrievalError,
    HTTPClientError,
    IncompleteReadError,
    NoCredentialsError,
    PartialCredentialsError,
    ResponseStreamingError,
    SSLError,
)
from botocore.parsers import ResponseParserError
from urllib3.exceptions import HTTPError

from .settings import origin

_TRANSIENT_CODES = {
    "SlowDown", "InternalError", "ServiceUnavailable", "RequestTimeout", "RequestTimeoutException", "Throttling",
    "ThrottlingException", "TooManyRequests", "OperationAborted", "ConditionalRequestConflict",
    "BadDigest", "XAmzContentSHA256Mismatch", "IncompleteBody"}  # the last three: bytes that changed on their way
_TRANSIENT_STATUS = {408, 429, 500, 502, 503, 504}
_EXPIRED = {"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired", "RequestExpired"}
_UNKNOWN_KEY = {"InvalidAccessKeyId", "InvalidClientTokenId", "UnrecognizedClientException", "InvalidToken"}
_WRONG_REGION = {"PermanentRedirect", "TemporaryRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraint",
                 "IllegalLocationConstraintException", "301", "307"}
_NO_STORE = "{} does not answer as an S3 store does: is {} right?"
_VERBS = {"GetObject": "read", "HeadObject": "read", "PutObject": "write", "ListObjectsV2": "list",
          "DeleteObject": "delete", "CreateMultipartUpload": "write", "UploadPart": "write",
          "CompleteMultipartUpload": "write", "AbortMultipartUpload": "delete",
          "ListMultipartUploads": "list unfinished uploads", "ListParts": "list unfinished uploads"}


class NoStore(Exception):
    """Something answered, and not as S3 does: a web page, another service."""


class Cut(Exception):
    """A body that ended too early, though its headers looked right."""


_NETWORK = (Cut, IncompleteReadError, ResponseStreamingError, ResponseParserError, ConnectionError, HTTPClientError,
            HTTPError, builtins.ConnectionError, TimeoutError)  # HTTPError: what comes bare out of a body


@dataclass(frozen=True)
class Problem:
    """``code`` of S3 or "", ``status`` of HTTP or 0."""

    code: str
    status: int
    transient: bool  # may pass by itself
    credentials: bool  # may pass once there are others
    line: str  # what is wrong and what would be right
    retry_after_s: float = 0.0
    absent: bool = False  # there are no credentials at all


def problem(error: Exception, bucket: str, endpoint: str, method: str) -> Problem | None:
    """What ``error`` means; None where it is none of storage's. ``method``: where the credentials came from."""
    if isinstance(error, NoStore):
        return _plain(_NO_STORE.format(endpoint, origin("endpoint")))
    if isinstance(error, ClientError):
        return _answer(error, bucket, endpoint, method)
    if isinstance(error, SSLError) and "WRONG_VERSION_NUMBER" in str(error):
        return _plain(f"{endpoint} speaks no TLS: write http:// in {origin('endpoint')}")
    if isinstance(error, SSLError) and "CERTIFICATE_VERIFY_FAILED" in str(error):
        return _plain(f"the certificate of {endpoint} is not trusted ({_last(error)}): set AWS_CA_BUNDLE to the file "
                      f"of your certificate authority")
    if isinstance(error, NoCredentialsError):
        return _plain("there are no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or "
                      "run where a role is attached", absent=True)
    if isinstance(error, PartialCredentialsError):
        return _plain(f"the credentials are incomplete: {_last(error)}; set AWS_ACCESS_KEY_ID and "
                      f"AWS_SECRET_ACCESS_KEY", absent=True)
    if isinstance(error, _NETWORK):
        return Problem("", 0, True, False, _silence(error, endpoint))
    if isinstance(error, CredentialRetrievalError | OSError):  # such as a token's file that is not there
        return Problem("", 0, True, True, f"the credentials can't be had: {_last(error)}")
    if isinstance(error, BotoCoreError):
        return _plain(f"{_last(error)}; see {origin('endpoint')}, AWS_PROFILE and ~/.aws")
    return None


def _answer(error: ClientError, bucket: str, endpoint: str, method: str) -> Problem:
    answer: dict[str, Any] = error.response.get("ResponseMetadata", {})
    status, headers = answer.get("HTTPStatusCode", 0), answer.get("HTTPHeaders", {})
    code, message = error.response.get("Error", {}).get("Code", ""), error.response.get("Error", {}).get("Message", "")
    verb = _VERBS.get(error.operation_name, error.operation_name)
    transient = code in _TRANSIENT_CODES or status in _TRANSIENT_STATUS
    credentials = False
    line = f"{endpoint} refuses to {verb} ({code or status}: {message.strip() or 'no reason given'})"
    if code in _EXPIRED:
        # Whoever made them makes new ones, as a rule, and writes them where we look again.
        transient, credentials = True, True
        line = f"the credentials (from {_source(method)}) have expired: renew them"
    elif code in _UNKNOWN_KEY:
        credentials = True
        token = " and AWS_SESSION_TOKEN" if os.environ.get("AWS_SESSION_TOKEN") else ""
        line = (f"{endpoint} does not know the access key (from {_source(method)}): set AWS_ACCESS_KEY_ID{token} to "
                f"one of its keys, or {origin('endpoint')} to its store")
    elif code == "SignatureDoesNotMatch":
        credentials = True
        line = f"the secret key (from {_source(method)}) is not that of the access key: set AWS_SECRET_ACCESS_KEY"
    elif code == "NoSuchBucket":
        line = (f"there is no bucket {bucket!r} at {endpoint}: create it, or set {origin('endpoint')} to the store "
                f"that has it")
    elif status == 501 or (status == 404 and (code not in ("NoSuchKey", "NoSuchUpload") or verb == "list")):
        line = _NO_STORE.format(endpoint, origin("endpoint"))
    elif code in _WRONG_REGION:
        there = headers.get("x-amz-bucket-region") or error.response.get("Error", {}).get("Region")
        line = f"bucket {bucket!r} is in another region: set {origin('region')}" + (f"={there}" if there else "")
    elif code == "RequestTimeTooSkewed":
        line = f"the clock of this machine is not that of {endpoint}: set it right"
    elif code == "InvalidBucketName":
        line = f"{endpoint} does not take {bucket!r} for the name of a bucket"
    elif code == "AccessDenied" or status == 403:
        credentials = True
        line = (f"the credentials (from {_source(method)}) may not {verb} there: give them the permission, or use "
                f"others (AWS_PROFILE, AWS_ACCESS_KEY_ID)")
    after = headers.get("retry-after", "")
    return Problem(code, status, transient, credentials, line, float(after) if after.isdecimal() else 0.0)


def _plain(line: str, absent: bool = False) -> Problem:
    return Problem("", 0, False, absent, line, absent=absent)


def _silence(error: Exception, endpoint: str) -> str:
    if isinstance(error, ResponseParserError):
        return _NO_STORE.format(endpoint, origin("endpoint"))
    if isinstance(error, Cut | IncompleteReadError | ResponseStreamingError):
        return f"answers of {endpoint} break off ({_last(error)})"
    return f"{endpoint} does not answer ({_last(error)}): is {origin('endpoint')} right, and the store up?"


def _source(method: str) -> str:
    """Where credentials came from, in a person's words."""
    if method == "env":
        return "the environment"
    if method in ("shared-credentials-file", "config-file"):
        profile = os.environ.get("AWS_PROFILE") or "default"
        return f"profile {profile} in ~/.aws"
    return method or "nowhere"


def _last(error: BaseException) -> str:
    """The innermost reason in few words, without addresses of objects and without the URL."""
    while error.__cause__ is not None or error.__context__ is not None:
        error = error.__cause__ or error.__context__
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 160 else text[:160] + "..."
