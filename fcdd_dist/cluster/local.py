"""A session of Ray: a private one that nobody else can reach and that leaves nothing behind, or one at an address."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import secrets
import shutil
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import cache
from pathlib import Path

from ..errors import BadInput
from ..storage import FolderStore, Store
from ..storage.lease import Owner
from .placement import Placement, cores, local_gpus

# What Ray and its workers read from the environment of the process that starts them.
_QUICK_AND_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DEDUP_LOGS": "0",  # else equal lines of ranks are folded
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",  # a report is held until the next poll: 2 s by default
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",  # else prints of workers arrive twice
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # workers without a GPU keep their environment; silences a warning
}
# For a private Ray alone: processes that would only start, each with imports of its own.
_WITHOUT_IDLERS = {
    "RAY_prestart_worker_first_driver": "0",  # one a core for tasks to come, of which trainings have none
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",  # asks whether a cloud takes this machine away
}
_LONGEST_FOLDER = 40  # bytes; Ray puts sockets some 60 bytes further down, and a socket's path has at most 107
_ANSWERS_WITHIN_S = 10.0
_PREFIX, _OWNER = "fcdd-ray-", "owner.json"


@contextlib.contextmanager
def session(address: str | None, placement: Placement, say: Callable[[str], None]) -> Iterator[int]:
    """Ray for as long as the context lasts; gives the CPUs of a worker.

    Without ``address`` (and RAY_ADDRESS) a private Ray on loopback with at least as many CPUs as ``placement`` takes.
    With one, that cluster, whose token is taken from where Ray looks for it. Where this process already has Ray, that
    is used, and left as it is. Raises BadInput where the cluster can't be reached or can't hold the workers.
    """
    address = address or os.environ.get("RAY_ADDRESS") or None
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.redirect_stdout(sys.stderr))  # Ray tells of lost workers there, amid results
        if "ray" in sys.modules and sys.modules["ray"].is_initialized():
            cpus = placement.cpus or 1
            _check_room(placement, cpus)
        elif address:
            cpus = placement.cpus or 1
            say(f"connecting to Ray at {address} ...")
            stack.enter_context(_connected(address))
            _check_room(placement, cpus)
        else:
            cpus = placement.cpus or max(1, cores() // placement.most)
            stack.enter_context(_private(placement, cpus, say))
        yield cpus


def refuse_early(placement: Placement, address: str | None) -> None:
    """What ``session`` would refuse and can be known without Ray. Raises BadInput."""
    if address := address or os.environ.get("RAY_ADDRESS"):
        _check_answers(address)
    else:
        _check_gpus(placement)


@contextlib.contextmanager
def _private(placement: Placement, cpus: int, say: Callable[[str], None]) -> Iterator[None]:
    _check_gpus(placement)
    wanted, there = placement.most * cpus, cores()
    if wanted > there:
        say(f"{placement.most} workers with {cpus} thread{'s' * (cpus > 1)} share {there} core{'s' * (there > 1)}")
    with own_folder() as folder:
        token = folder / "token"
        token.touch(mode=0o600)
        token.write_text(_token())
        loopback = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # bind all ports to loopback
                    "GLOO_SOCKET_IFNAME": "lo0" if sys.platform == "darwin" else "lo",
                    "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token),
                    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0"}  # `uv run` would make Ray pack the working folder
        with environment(_QUICK_AND_QUIET | _WITHOUT_IDLERS | loopback, without=("RAY_ADDRESS", "RAY_AUTH_TOKEN")):
            say("starting Ray ...")
            import ray

            _read_environment()
            try:
                ray.init(address="local", num_cpus=max(wanted, there), num_gpus=local_gpus() if placement.gpus else 0,
                         include_dashboard=False, _node_ip_address="127.0.0.1", _temp_dir=str(folder),
                         log_to_driver=False, logging_level=logging.ERROR)
                yield
            finally:
                ray.shutdown()


@contextlib.contextmanager
def _connected(address: str) -> Iterator[None]:
    has_token = any(os.environ.get(name) for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")) or (
        Path("~/.ray/auth_token").expanduser().is_file())
    # Without the mode even the right token is not sent, and Ray only says that it failed to connect.
    mode = {"RAY_AUTH_MODE": "token"} if has_token and "RAY_AUTH_MODE" not in os.environ else {}
    _check_answers(address)
    with environment(_QUICK_AND_QUIET | mode):
        import ray

        _read_environment()
        refusals = (ConnectionError, ValueError, ray.exceptions.RaySystemError, ray.exceptions.AuthenticationError)
        try:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        except refusals as error:
            raise BadInput(_why_not(address, has_token, error)) from None
        try:
            _check_here(address)
            yield
        finally:
            ray.shutdown()


def _check_here(address: str) -> None:
    """Raises BadInput where this machine is no node of the cluster: Ray then takes the driver for a process of the
    head, and what workers send it never arrives."""
    import ray

    mine = ray.get_runtime_context().get_node_id()
    here = next(node["NodeManagerAddress"] for node in ray.nodes() if node["NodeID"] == mine)
    try:
        with socket.socket(socket.AF_INET6 if ":" in here else socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind((here, 0))
    except OSError:
        raise BadInput(f"this machine is no node of the cluster at {address}, and workers would not reach it: submit "
                       f"a job (`ray job submit`), or run this on the cluster's head") from None


def _read_environment() -> None:
    """What Ray reads only when it is imported, which somebody may have done before there was a session: whether it
    binds to loopback, and which token it takes. Without this it would offer none and be refused by itself."""
    from ray._private import ray_constants
    from ray._raylet import AuthenticationTokenLoader, Config

    ray_constants.ENABLE_RAY_CLUSTER = ray_constants.env_bool(
        ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR, not ray_constants.IS_WINDOWS_OR_OSX)
    Config.initialize("")
    AuthenticationTokenLoader.instance().reset_cache()


def _check_answers(address: str) -> None:
    """Raises BadInput where nobody listens: Ray itself would go on trying for many minutes."""
    host, _, port = address.rpartition("://")[2].partition("/")[0].rpartition(":")
    if not (host and port.isdigit()):  # "auto", or a name that only Ray can make something of
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_ANSWERS_WITHIN_S).close()
    except (OSError, OverflowError) as error:
        raise BadInput(f"nobody answers at {address} ({error}): is the address right, and the cluster up?") from None


def _why_not(address: str, has_token: bool, error: Exception) -> str:
    hint = ("a token is at hand: is it the cluster's, and is the address right?" if has_token else
            "where it wants a token, give it in RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH")
    reason = str(error).strip().partition("\n")[0].partition(". ")[0].rstrip(".")
    return f"can't connect to Ray at {address}: {reason}; {hint}"


def _check_gpus(placement: Placement) -> None:
    wanted, there = placement.least * placement.gpus, local_gpus()
    if wanted > there:
        raise BadInput(f"{placement.least} workers with {placement.gpus} GPU each need {wanted}, and this machine has "
                       f"{there}: use fewer --workers, or --gpus-per-worker 0")


def _check_room(placement: Placement, cpus: int) -> None:
    """Raises BadInput where the nodes that are there can't hold the least number of workers."""
    each = placement.resources(cpus)
    nodes = resources()
    room = sum(int(min(node.get(name, 0) // amount for name, amount in each.items())) for node in nodes)
    if room < placement.least:
        shown = ", ".join(f"{amount:g} {name}" for name, amount in each.items())
        largest = "; ".join(f"{node.get('CPU', 0):g} CPU, {node.get('GPU', 0):g} GPU" for node in nodes[:8])
        raise BadInput(f"{placement.least} workers with {shown} each have no room: the cluster's nodes hold {room} "
                       f"({largest})")


def resources() -> list[dict[str, float]]:
    """Of each living node of the Ray that this process is connected to, all that it has."""
    import ray

    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def check_reach(*stores: Store) -> None:
    """Raises BadInput where workers on other machines would not see a folder of this one."""
    if (count := nodes()) == 1:
        return
    for store in stores:
        if isinstance(store, FolderStore):
            raise BadInput(f"{store.url} is a folder of one machine and the cluster has {count} nodes, whose workers "
                           f"would not find it: give s3://BUCKET/PREFIX, or use a cluster of one node")


def nodes() -> int:
    """The living nodes of the Ray that this process is connected to."""
    import ray

    return sum(node["Alive"] for node in ray.nodes())


def on_loopback() -> bool:
    """Whether no other machine can join the Ray that this process is connected to."""
    import ray

    return all(node["NodeManagerAddress"].startswith("127.") for node in ray.nodes())


@contextlib.contextmanager
def environment(values: dict[str, str], without: tuple[str, ...] = ()) -> Iterator[None]:
    """Sets variables of this process, whose children inherit them; afterwards all is as before.

    A user's own value of a RAY_TRAIN_ variable stands.
    """
    before = {name: os.environ.get(name) for name in (*values, *without)}
    for name in without:
        os.environ.pop(name, None)
    for name, value in values.items():
        if not (name.startswith("RAY_TRAIN_") and before[name] is not None):
            os.environ[name] = value
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@cache
def _token() -> str:
    """One for all sessions of this process: Ray keeps the first that it read."""
    return secrets.token_hex(32)


@contextlib.contextmanager
def own_folder() -> Iterator[Path]:
    """A new folder of this machine that goes with the context; after a kill, once the next one is made."""
    folder = _own_folder(_short_folder())
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)  # a process that is still ending may write once more


def _own_folder(parent: str) -> Path:
    """A new folder for Ray's files. Those of processes that were killed before they could tidy up are removed."""
    for old in Path(parent).glob(f"{_PREFIX}*/{_OWNER}"):
        with contextlib.suppress(OSError, ValueError, TypeError):  # somebody else's, or just being removed
            if Owner(**json.loads(old.read_text())).is_dead_here():
                shutil.rmtree(old.parent)
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
    (folder / _OWNER).write_text(json.dumps(asdict(Owner.of(os.getpid()))))
    return folder


def _short_folder() -> str:
    usual = tempfile.gettempdir()
    return usual if len(os.fsencode(usual)) <= _LONGEST_FOLDER or os.name == "nt" else "/tmp"
