"""A network on this machine that no other machine reaches: a namespace a node, all joined at one bridge.

The machine itself has the bridge's address, so that its shells reach the nodes. The nodes have no route to anything
else: what comes from another machine gets no answer, even where this one forwards. Needs root and the ``ip`` of
iproute2, on Linux.
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
import random
import shutil
import subprocess
import time

ENDS_WITHIN_S = 10


class Network:
    """``name`` (at most 10 bytes) begins the names of bridge, cables and namespaces; ``prefix`` is 24 bits of address.

    The nodes are named by the caller; what is where stands in the kernel alone, under these names.
    """

    def __init__(self, name: str, prefix: str) -> None:
        self.name, self.prefix = name, prefix

    @classmethod
    def new(cls, name: str) -> Network:
        """A bridge with a prefix that this machine knows no way to. Raises OSError where it can't be made."""
        if shutil.which("ip") is None:
            raise OSError("there is no `ip` (iproute2)")
        taken = [ipaddress.ip_network(route["dst"], strict=False) for route in json.loads(_ip("-j", "route"))
                 if route["dst"] != "default"]
        free = [f"10.213.{place}" for place in range(256)
                if not any(ipaddress.ip_network(f"10.213.{place}.0/24").overlaps(each) for each in taken)]
        made = cls(name, random.SystemRandom().choice(free))
        _ip("link", "add", name, "type", "bridge")
        try:
            _ip("address", "add", f"{made.prefix}.1/24", "dev", name)
            _ip("link", "set", name, "up")
            made.add("probe", 2)  # whether namespaces are allowed, too
            made.remove("probe")
        except BaseException:
            made.remove_all()
            raise
        return made

    def add(self, node: str, place: int) -> None:
        """A namespace with the address ``prefix.place`` and a cable to the bridge."""
        inside = self._inside(node)
        _ip("netns", "add", inside)
        _ip("link", "add", self._cable(place), "type", "veth", "peer", "name", "eth0", "netns", inside)
        _ip("link", "set", self._cable(place), "master", self.name, "up")
        _ip("-n", inside, "address", "add", f"{self.address(place)}/24", "dev", "eth0")
        for device in ("eth0", "lo"):
            _ip("-n", inside, "link", "set", device, "up")

    def address(self, place: int) -> str:
        return f"{self.prefix}.{place}"

    def enter(self, node: str) -> list[str]:
        """What goes before a command that is to run there; the process keeps its id, and sees this machine's files."""
        return ["ip", "netns", "exec", self._inside(node)]

    def connect(self, place: int, yes: bool) -> None:
        """Plugs the node's cable in, or out."""
        _ip("link", "set", self._cable(place), "up" if yes else "down")

    def nodes(self) -> list[str]:
        names = [line.split()[0] for line in _ip("netns", "list").splitlines() if line]
        return [name.removeprefix(f"{self.name}-") for name in names if name.startswith(f"{self.name}-")]

    def processes(self, node: str) -> list[int]:
        return [int(pid) for pid in _ip("netns", "pids", self._inside(node)).split()]

    def kill(self, node: str) -> None:
        """All that runs there, as when a machine loses its power."""
        deadline = time.monotonic() + ENDS_WITHIN_S
        while (pids := self.processes(node)) and time.monotonic() < deadline:
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, 9)
            time.sleep(0.05)

    def remove(self, node: str) -> None:
        self.kill(node)
        with contextlib.suppress(OSError):  # half made
            _ip("-n", self._inside(node), "link", "delete", "eth0")  # else it goes only when the last process has
        _ip("netns", "delete", self._inside(node))

    def remove_all(self) -> None:
        for node in self.nodes():
            self.remove(node)
        if self.name in {link["ifname"] for link in json.loads(_ip("-j", "link"))}:
            _ip("link", "delete", self.name)

    def _inside(self, node: str) -> str:
        return f"{self.name}-{node}"

    def _cable(self, place: int) -> str:
        return f"{self.name}{place}"


def _ip(*arguments: str) -> str:
    """Raises OSError with what ``ip`` says."""
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True)
    if done.returncode:
        raise OSError(f"`ip {' '.join(arguments)}` says: {done.stderr.strip()}")
    return done.stdout
