"""Which process it is, and whether it still lives."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Owner:
    """A process, named so that no other one in the world or in time is taken for it."""

    host: str
    boot: str  # of the kernel and of the space in which process ids count; empty where the system tells neither
    pid: int
    started: str  # as the system tells it; pids are used again

    @classmethod
    def of(cls, pid: int) -> Owner:
        return cls(socket.gethostname(), _boot(), pid, _started(pid) or "")

    def is_dead_here(self) -> bool:
        """Whether this machine is the owner's and the process is gone for certain."""
        here = Owner.of(os.getpid())
        return bool(self.boot) and (self.host, self.boot) == (here.host, here.boot) and _gone(self.pid, self.started)


def _boot() -> str:
    """The kernel's boot and the pid namespace: two containers may share a name and a kernel, but not pids."""
    try:
        return f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return socket.gethostname()  # no such thing here: a machine is its name


def _started(pid: int) -> str | None:
    """When a process began, in the system's own words; None where it is gone, or only waits to be buried."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()  # the name may hold anything
        return None if fields[0] in "ZX" else fields[19]
    except FileNotFoundError:
        if Path("/proc/self/stat").exists():
            return None
    told = subprocess.run(["ps", "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
    state, _, when = told.stdout.strip().partition(" ")
    return None if not state or state.startswith("Z") else when.strip()


def _gone(pid: int, started: str) -> bool:
    try:
        os.kill(pid, signal.SIG_DFL)  # 0: asks, and sends nothing
    except ProcessLookupError:
        return True
    except PermissionError:
        return False  # alive, and another user's
    return _started(pid) != started
