"""What the scripts of this folder share: a server of one's own in the background, with a folder of its own.

A ``Service`` remembers its server in ``home/state.json``: pid, the process's start time and the kernel's boot id, so
that a pid that now belongs to another process is never taken for the server, let alone killed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

HOME_BYTES = 40  # unix sockets lie in it, and their paths end at about 100 bytes


class Service:
    """The server of one folder ``home``; ``name`` is the script's, and begins every line that it says."""

    def __init__(self, name: str, home: Path) -> None:
        self.name = name
        self.home = home.absolute()
        if len(os.fsencode(self.home)) > HOME_BYTES:
            self.refuse(f"{self.home} is too long for sockets: give a --home of at most {HOME_BYTES} bytes")

    def say(self, line: str) -> None:
        print(f"{self.name}: {line}", file=sys.stderr, flush=True)

    def refuse(self, line: str) -> None:
        sys.exit(f"{self.name}: {line}")

    def state(self) -> dict | None:
        """What ``launch`` wrote; None where it did not. Ends the script where the folder is another user's."""
        if self.home.exists() and self.home.stat().st_uid != os.getuid():
            self.refuse(f"{self.home} is another user's: give a --home")
        return read(self.home / "state.json")

    def make_home(self) -> None:
        """An empty folder that only its owner can look into; ends the script where strange files lie there."""
        if self.home.exists() and any(self.home.iterdir()) and self.state() is None:
            self.refuse(f"{self.home} holds files that are not of this script: give an empty or new --home")
        shutil.rmtree(self.home, ignore_errors=True)
        self.home.mkdir(mode=0o700, parents=True)

    def launch(self, command: list[str], environment: dict[str, str], facts: dict, cwd: Path | None = None) -> dict:
        """Starts the server as the leader of a session; its state, ``facts`` included, is in state.json on return."""
        with open(self.home / "server.log", "ab") as log:
            leader = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=log,
                                      stderr=subprocess.STDOUT, start_new_session=True, cwd=cwd)
        state = {"pid": leader.pid, "started": started(leader.pid), "boot": boot(), **facts}
        write(self.home / "state.json", state)
        return state

    def wait(self, state: dict, answers: Callable[[], bool], within_s: float) -> bool:
        """Until the server answers; False, and its last words said, where it ended or took too long."""
        deadline = time.monotonic() + within_s
        try:
            while not answers():
                if not alive(state) or time.monotonic() > deadline:
                    words = (self.home / "server.log").read_text(errors="replace")[-2000:]
                    self.say(f"the server did not start; its last words:\n{words}")
                    return False
                time.sleep(0.1)
        except BaseException:  # Ctrl-C, too: no server stays that nobody was told of
            self.end(state)
            raise
        return True

    def end(self, state: dict, gently_s: float = 0) -> None:
        """Ends the leader and whatever is left of its session: by SIGTERM and that long a wait, then by SIGKILL."""
        if alive(state) and gently_s:
            with contextlib.suppress(ProcessLookupError):  # the leader and all of its group
                os.killpg(state["pid"], signal.SIGTERM)
            deadline = time.monotonic() + gently_s
            while alive(state) and time.monotonic() < deadline:
                time.sleep(0.1)
        # A session outlives its leader, and so does the leader's number: while it is the session's nobody else gets it.
        if state["boot"] == boot() and started(state["pid"]) in (None, state["started"]):
            kill(session_members(state["pid"]))
            while alive(state):  # a killed process still takes a moment to leave its ports and files
                time.sleep(0.01)

    def remove_home(self) -> None:
        shutil.rmtree(self.home, ignore_errors=True)


def parser(description: str | None, home: str, verbs: tuple[str, ...] = ("up", "down")) -> argparse.ArgumentParser:
    """One of the verbs, and --home with a folder of this user's in the temporary folder as its default."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter,
                                   allow_abbrev=False)
    made.add_argument("verb", choices=verbs)
    made.add_argument("--home", type=Path, default=Path(tempfile.gettempdir(), f"{home}-{os.getuid()}"))
    return made


def exports(values: dict[str, str]) -> str:
    return "\n".join(f"export {name}={shlex.quote(value)}" for name, value in values.items())


def write(path: Path, value: object) -> None:
    """As JSON, at once and whole."""
    new = path.with_name(f"{path.name}.new")
    new.write_text(json.dumps(value, indent=1))
    new.replace(path)


def read(path: Path) -> Any:
    """What ``write`` wrote; None where it did not."""
    try:
        return json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return None


def alive(state: dict) -> bool:
    """Whether the server that we started still lives; its pid alone could be another's by now."""
    return state["boot"] == boot() and state["started"] is not None and started(state["pid"]) == state["started"]


def started(pid: int) -> str | None:
    """When the process began, in ticks since the boot; None where it lives no more."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        # Killed, its first thread is a zombie at once, while the others still hold its ports and files.
        ended = fields[0] in "ZX" and len(os.listdir(f"/proc/{pid}/task")) <= 1
    except OSError:
        return None
    return None if ended else fields[19]


def boot() -> str:
    """Of the kernel: process ids begin anew with it."""
    path = Path("/proc/sys/kernel/random/boot_id")
    return path.read_text().strip() if path.exists() else ""


def session_members(leader: int) -> list[int]:
    """Processes of the session that the leader led: what outlived it."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == leader and fields[0] != "Z":
            found.append(int(stat.parent.name))
    return found


def descendants(pid: int) -> list[int]:
    """Of a process, all that it started and that these started, as far as they still hang on it."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(stat.parent.name))
    found = list(children.get(pid, []))
    for each in found:  # grows meanwhile
        found += children.get(each, [])
    return found


def kill(pids: list[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def free_port_pairs(count: int, apart: int) -> list[int]:
    """Ports p, each free together with p + apart. Below those that the kernel gives to outgoing connections, so that
    a server that ends and starts again finds them free."""
    chosen: list[int] = []
    for port in random.SystemRandom().sample(range(11_000, min(11_000 + apart, 32_000 - apart)), 2_000):
        if len(chosen) < count and free(port) and free(port + apart):
            chosen.append(port)
    if len(chosen) < count:
        raise OSError(f"no {count} pairs of free ports on 127.0.0.1")
    return chosen


def free(port: int) -> bool:
    """Whether nobody listens there: connections of a server that has ended, which linger for a minute, do not count."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
