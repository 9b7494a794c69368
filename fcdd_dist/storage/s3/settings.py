"""How S3 is reached: what AWS users have set where they set it, and a little of our own, in one value.

    AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL    another store than AWS's; also `endpoint_url` in ~/.aws/config
    AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, AWS_PROFILE, ~/.aws, roles of instance and container
    AWS_REGION, AWS_DEFAULT_REGION           also `region` in ~/.aws/config
    AWS_CA_BUNDLE                            the certificates of one's own authority
    FCDD_S3_ADDRESSING                       path, virtual or auto; also `s3.addressing_style` in ~/.aws/config
    FCDD_S3_RETRY_S                          seconds without any success until a request is given up (120)
    FCDD_S3_TIMEOUT_S                        seconds without a byte until a request is tried again (20)

Credentials are not in it: the client asks boto3's providers for them, again and again, so that long runs outlive them.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...errors import BadInput

if TYPE_CHECKING:
    from botocore.client import BaseClient

CONNECTIONS = 32  # at a time, of one process
_OURS = ("FCDD_S3_ADDRESSING", "FCDD_S3_RETRY_S", "FCDD_S3_TIMEOUT_S")
_ADDRESSING = ("auto", "path", "virtual")


@dataclass(frozen=True)
class S3Settings:
    """See the module. ``region`` and ``addressing`` None: as ~/.aws/config says."""

    region: str | None = None
    addressing: str | None = None
    retry_s: float = 120.0
    timeout_s: float = 20.0

    @classmethod
    def of_environment(cls) -> S3Settings:
        """Raises BadInput that names the variable."""
        for name in os.environ:
            if name.startswith("FCDD_S3_") and name not in _OURS:
                raise BadInput(f"there is no setting {name}; there are: {', '.join(_OURS)}")
        addressing = os.environ.get("FCDD_S3_ADDRESSING") or None
        if addressing not in (None, *_ADDRESSING):
            raise BadInput(f"FCDD_S3_ADDRESSING={addressing}: give one of {', '.join(_ADDRESSING)}")
        # boto3 itself reads the second alone, and all other tools of AWS the first.
        region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or None
        return cls(region, addressing, _seconds("FCDD_S3_RETRY_S", cls.retry_s),
                   _seconds("FCDD_S3_TIMEOUT_S", cls.timeout_s))

    def client(self) -> BaseClient:
        """A new client, with credentials as they are found now. Raises BadInput."""
        import boto3
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError

        # Retries are ours (``connection``). Checksums only where S3 wants them: other stores don't know the new
        # default ones; what is written is vouched for by its MD5, what is read by the SHA-256 of our own records.
        config = Config(
            retries={"total_max_attempts": 1}, max_pool_connections=CONNECTIONS,
            connect_timeout=min(10.0, self.timeout_s), read_timeout=self.timeout_s, tcp_keepalive=True,
            request_checksum_calculation="when_required", response_checksum_validation="when_required",
            **({"s3": {"addressing_style": self.addressing}} if self.addressing else {}))
        if any("@" in os.environ.get(name, "") for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")):
            raise BadInput(f"{origin('endpoint')}: an endpoint has no user and password in it, which every message "
                           f"would show: give http://HOST:PORT")
        authority = os.environ.get("AWS_CA_BUNDLE")
        if authority and not os.path.exists(authority):
            raise BadInput(f"AWS_CA_BUNDLE={authority}: there is no such file")
        try:
            session = boto3.session.Session(region_name=self.region)
            region = session.region_name or "us-east-1"
            return session.client("s3", region_name=region, config=config)
        except (BotoCoreError, ValueError, OSError) as error:  # no such profile, program or token; no file, no URL
            raise BadInput(f"the settings of AWS are wrong: {' '.join(str(error).split())}; see {origin('endpoint')}, "
                           f"AWS_PROFILE and ~/.aws") from None


def origin(what: str) -> str:
    """Where a person finds the setting that is in force: of ``endpoint`` or ``region``."""
    names = {"endpoint": ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"), "region": ("AWS_REGION", "AWS_DEFAULT_REGION")}
    return next((name for name in names[what] if os.environ.get(name)), names[what][0])


def _seconds(name: str, default: float) -> float:
    text = os.environ.get(name)
    if not text:
        return default
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise BadInput(f"{name}={text}: give seconds, more than 0")
    return value
