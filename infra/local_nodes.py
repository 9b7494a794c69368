"""The nodes of ``infra/local-cluster``: each in a network namespace of its own, or all of them on loopback.

Both have the same face. What is up stands in the kernel and in each node's folder, not in these objects.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path

import local_service
import ray_head
from local_network import Network
from local_service import Service, alive, free_ports

HERE = Path(__file__).parent
HEAD, BUCKET = "head", "bucket"
STARTS_WITHIN_S = 90
_FIRST_PLACE = {HEAD: 2, BUCKET: 3}  # the last byte of the address; workers come after
_STORE_BYTES = 256 * 2**20  # of Ray's objects a node: it would take a third of the memory
# A lost node is noticed within ten seconds; Ray takes 15 for one that was killed, and a minute for a silent one.
_HEALTH = {"RAY_health_check_initial_delay_ms": "5000", "RAY_health_check_period_ms": "1000",
           "RAY_health_check_timeout_ms": "3000", "RAY_health_check_failure_threshold": "3"}


class Nodes(ABC):
    """Of one cluster in the folder ``home``, whose token is ``home/token``. What goes wrong is an OSError."""

    address: str  # for drivers: host:port of the head
    dashboard: str  # for jobs: a URL

    @abstractmethod
    def start_head(self) -> None:
        """Waits until it takes jobs, as ``start_worker`` until the head knows the worker."""

    @abstractmethod
    def start_worker(self, node: str) -> None:
        """A new one, or one that was lost."""

    @abstractmethod
    def kill(self, node: str) -> None:
        """At once and with all that it runs, like a machine that loses its power."""

    @abstractmethod
    def runs(self, node: str) -> bool:
        """Whether its processes are there, whatever the head holds of it."""

    @abstractmethod
    def connect(self, node: str, yes: bool) -> None:
        """Its cable to the network."""

    @abstractmethod
    def driver(self) -> tuple[list[str], dict[str, str]]:
        """What goes before the command of a driver, and into its environment."""

    @abstractmethod
    def end(self) -> None:
        """Stops all that is up, however far it came."""

    def __init__(self, home: Path, cpus: int) -> None:
        self.home, self.cpus, self.token = home, cpus, home / "token"

    def living(self) -> set[str]:
        """The workers and the head, where the head takes them for alive."""
        return ray_head.living(self.dashboard, self.token)

    def start_bucket(self) -> dict[str, str]:
        """Starts the S3 server, or starts it again on what it had stored. The variables that lead to it."""
        done = subprocess.run([*self._enter(BUCKET), sys.executable, str(HERE / "local-bucket"), "up", "--home",
                               str(self.home / BUCKET), *self._bucket_host()], stdout=subprocess.PIPE, text=True)
        if done.returncode:
            raise OSError("the bucket did not start")
        pairs = (line.removeprefix("export ").split("=", 1) for line in done.stdout.splitlines())
        return {name: shlex.split(value)[0] for name, value in pairs}

    def service(self, node: str) -> Service:
        return Service(f"local-cluster: {node}", self.home / node)

    def forgotten(self, node: str) -> None:
        """Waits until the head has noticed that the node is lost: what comes back is a new node to it."""
        deadline = time.monotonic() + STARTS_WITHIN_S
        while node in self.living():
            if time.monotonic() > deadline:
                raise OSError(f"the head still holds {node} for alive")
            time.sleep(0.2)

    def _lives(self, node: str) -> bool:
        state = self.service(node).state()
        return state is not None and alive(state)

    def _enter(self, node: str) -> list[str]:
        return []

    def _bucket_host(self) -> list[str]:
        return []

    def _wait(self, service: Service, state: dict, ready: Callable[[], bool]) -> None:
        if not service.wait(state, ready, STARTS_WITHIN_S):
            raise OSError("see above")


class InNamespaces(Nodes):
    """Every node and the bucket have an address of their own, and a cable that can be cut."""

    def __init__(self, home: Path, cpus: int, network: Network) -> None:
        super().__init__(home, cpus)
        self.network = network
        self.address = f"{network.address(_FIRST_PLACE[HEAD])}:6379"
        self.dashboard = f"http://{network.address(_FIRST_PLACE[HEAD])}:8265"

    def start_head(self) -> None:
        host = self._address(HEAD)
        self._start(HEAD, ["--head", "--port=6379", f"--dashboard-host={host}", "--dashboard-port=8265",
                           "--num-cpus=0"])

    def start_worker(self, node: str) -> None:
        self._start(node, [f"--address={self.address}", f"--num-cpus={self.cpus}"])

    def kill(self, node: str) -> None:
        self.network.kill(node)

    def runs(self, node: str) -> bool:
        return self._lives(node)

    def connect(self, node: str, yes: bool) -> None:
        self.network.connect(_place(node), yes)

    def driver(self) -> tuple[list[str], dict[str, str]]:
        return self._enter(HEAD), {}

    def end(self) -> None:
        self.network.remove_all()

    def start_bucket(self) -> dict[str, str]:
        self._plug(BUCKET)
        return super().start_bucket()

    def _start(self, node: str, role: list[str]) -> None:
        self._plug(node)
        self.network.kill(node)  # what is left of it
        service = self.service(node)
        service.make_home()
        command = [*self._enter(node), sys.executable, "-m", "ray.scripts.scripts", "start", "--block",
                   "--disable-usage-stats", f"--node-ip-address={self._address(node)}", f"--node-name={node}",
                   "--num-gpus=0", f"--object-store-memory={_STORE_BYTES}", f"--temp-dir={service.home}", *role]
        state = service.launch(command, ray_head.environment(self.token, GLOO_SOCKET_IFNAME="eth0", **_HEALTH), {})
        self._wait(service, state, lambda: node in self.living())

    def _plug(self, node: str) -> None:
        if node not in self.network.nodes():
            self.network.add(node, _place(node))

    def _enter(self, node: str) -> list[str]:
        return self.network.enter(node)

    def _address(self, node: str) -> str:
        return self.network.address(_place(node))

    def _bucket_host(self) -> list[str]:
        return ["--host", self._address(BUCKET)]


class OnLoopback(Nodes):
    """Where namespaces can't be had: one process of ours holds the head and all nodes, all of them at 127.0.0.1."""

    def __init__(self, home: Path, cpus: int, ports: list[int]) -> None:
        super().__init__(home, cpus)
        self.ports = ports
        self.address, self.dashboard = f"127.0.0.1:{ports[0]}", f"http://127.0.0.1:{ports[1]}"

    @classmethod
    def new(cls, home: Path, cpus: int) -> OnLoopback:
        return cls(home, cpus, free_ports(2))

    def start_head(self) -> None:
        service = self.service(HEAD)
        service.make_home()
        local_service.write(service.home / "wanted.json", [])
        state = service.launch([sys.executable, str(HERE / "nodes_on_loopback.py"), str(service.home),
                                *map(str, self.ports), str(self.cpus)],
                               ray_head.environment(self.token, **ray_head.LOOPBACK, **_HEALTH), {})
        self._wait(service, state, lambda: HEAD in self.living())

    def start_worker(self, node: str) -> None:
        self._want(node, True)

    def kill(self, node: str) -> None:
        if node == BUCKET:
            bucket = self.service(node)
            bucket.end(bucket.state())
        elif node == HEAD:
            raise OSError("without namespaces the head goes with all nodes: `down`")
        else:
            self._want(node, False)

    def runs(self, node: str) -> bool:
        if node in (HEAD, BUCKET):
            return self._lives(node)
        return node in (local_service.read(self.home / HEAD / "present.json") or [])

    def connect(self, node: str, yes: bool) -> None:
        raise OSError("without namespaces there are no cables")

    def driver(self) -> tuple[list[str], dict[str, str]]:
        return [], ray_head.LOOPBACK

    def end(self) -> None:
        head = self.service(HEAD)
        if (state := head.state()) is not None:
            if alive(state):
                local_service.kill(local_service.descendants(state["pid"]))  # workers lead sessions of their own
            head.end(state)
        subprocess.run([sys.executable, str(HERE / "local-bucket"), "down", "--home", str(self.home / BUCKET)],
                       stderr=subprocess.DEVNULL)

    def _want(self, node: str, yes: bool) -> None:
        """Tells the process that holds the nodes, and waits until it is so."""
        holder = self.service(HEAD)
        state = holder.state()
        wanted = set(json.loads((holder.home / "wanted.json").read_text()))
        local_service.write(holder.home / "wanted.json", sorted(wanted | {node} if yes else wanted - {node}))
        present, deadline = holder.home / "present.json", time.monotonic() + STARTS_WITHIN_S
        while not present.exists() or (node in json.loads(present.read_text())) != yes:
            if state is None or not alive(state) or time.monotonic() > deadline:
                raise OSError(f"{holder.home}/server.log tells why")
            time.sleep(0.05)


def _place(node: str) -> int:
    return _FIRST_PLACE.get(node) or 3 + int(node.rpartition("-")[2])
