"""Where a job runs: a value that is never part of the result. A run may go on under another placement."""

from __future__ import annotations

import contextlib
import os
import re
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from ..errors import BadInput

_WORKERS = re.compile(r"(\d+)(?:-(\d+))?")


@dataclass(frozen=True)
class Placement:
    """How many workers, and what each of them holds.

    ``cpus`` are also the threads of a worker; None for an equal share of a private machine, and for 1 on a cluster.
    ``gpus`` is 0 or a whole number. With ``least < most`` Ray starts what there is room for and grows later.
    """

    least: int = 1
    most: int = 1
    cpus: int | None = None
    gpus: int = 0
    max_failures: int = 3  # crashes of workers that are survived; Ray's own default is none

    def __post_init__(self) -> None:
        if not 1 <= self.least <= self.most:
            raise BadInput(f"workers: {self.least}-{self.most} is no range: write N or N-M with 1 <= N <= M")
        if self.cpus is not None and self.cpus < 1:
            raise BadInput(f"threads: a worker needs at least 1, not {self.cpus}")
        if self.gpus < 0:
            raise BadInput(f"GPUs of a worker can't be {self.gpus}")

    @classmethod
    def parse(cls, workers: str, *, cpus: int | None = None, gpus: int | None = None,
              max_failures: int = 3) -> Placement:
        """``workers`` is ``N`` or ``N-M``; ``gpus`` None means one where this machine has any. Raises BadInput."""
        match = _WORKERS.fullmatch(workers)
        if not match:
            raise BadInput(f"workers: {workers!r} is neither a number nor a range such as 1-4")
        least = int(match[1])
        return cls(least, int(match[2] or least), cpus, int(local_gpus() > 0) if gpus is None else gpus, max_failures)

    @property
    def workers(self) -> int | tuple[int, int]:
        """As Ray takes it."""
        return self.least if self.least == self.most else (self.least, self.most)

    def __str__(self) -> str:
        count = str(self.least) if self.least == self.most else f"{self.least}-{self.most}"
        return f"{count} worker{'s' * (self.most > 1)}"

    def resources(self, cpus: int) -> dict[str, float]:
        """Of one worker, as Ray takes them."""
        return {"CPU": cpus} | ({"GPU": self.gpus} if self.gpus else {})


def cores() -> int:
    """The CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def local_gpus() -> int:
    """NVIDIA GPUs of this machine that the installed torch can use, found without importing it (1 s and 0.2 GB)."""
    with contextlib.suppress(metadata.PackageNotFoundError):  # a torch of one's own making may have no metadata
        if metadata.version("torch").endswith("+cpu"):
            return 0
    devices = sum(re.fullmatch(r"nvidia\d+", device.name) is not None for device in Path("/dev").glob("nvidia*"))
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return devices
    return min(devices, len([name for name in visible.split(",") if name.strip() not in ("", "-1", "NoDevFiles")]))
