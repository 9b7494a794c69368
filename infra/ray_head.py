"""What the scripts of this folder that start Ray share: a token of its own, and the questions to its dashboard."""

from __future__ import annotations

import json
import os
import secrets
import sys
import urllib.error
import urllib.request
from pathlib import Path

import local_service

# Of heads and drivers: Ray binds every port to loopback, and takes 127.0.0.1 for an address.
LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "GLOO_SOCKET_IFNAME": "lo0" if sys.platform == "darwin" else "lo"}


def make_token(home: Path) -> Path:
    """A new token that only its owner can read."""
    token = home / "token"
    token.touch(mode=0o600)
    token.write_text(secrets.token_hex(32))
    return token


def environment(token: Path, **more: str) -> dict[str, str]:
    """Of this process, for a Ray of its own: without another Ray's address and token."""
    made = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",  # the `python` of jobs
        "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token), "RAY_USAGE_STATS_ENABLED": "0", **more}
    for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS", "RAY_AUTH_TOKEN"):
        made.pop(name, None)
    return made


def exports(dashboard: str, token: Path | str, **more: str) -> str:
    """What `ray job` needs. RAY_ADDRESS is left alone: it would send every other command of this shell here, too."""
    return local_service.exports({"RAY_API_SERVER_ADDRESS": dashboard, "RAY_AUTH_MODE": "token",
                                  "RAY_AUTH_TOKEN_PATH": str(token), **more})


def takes_jobs(dashboard: str, token: Path | str) -> bool:
    """Whether the job server answers, and knows the token."""
    return _ask(f"{dashboard}/api/jobs/", token) is not None


def living(dashboard: str, token: Path | str) -> set[str]:
    """The names of the nodes that the head holds for alive; none where it does not answer."""
    answer = _ask(f"{dashboard}/api/v0/nodes", token)
    nodes = answer["data"]["result"]["result"] if answer else []
    return {node["node_name"] for node in nodes if node["state"] == "ALIVE"}


def _ask(url: str, token: Path | str) -> dict | list | None:
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {Path(token).read_text()}"})
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # no proxy reaches this machine's networks
    try:
        with direct.open(request, timeout=5) as reply:
            return json.load(reply)
    except (urllib.error.URLError, OSError, ValueError):
        return None
