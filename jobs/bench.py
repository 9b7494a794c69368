"""How fast and how frugal it is, as ratios measured side by side on this machine.

    python jobs/bench.py                       everything, on made-up images
    python jobs/bench.py step32 whole          some parts
    python jobs/bench.py --data data/cifar10   on a sharded data set of one's own
    python jobs/bench.py host sharding --photographs ILSVRC/val     on photographs of one's own

Rivals take turns, A B A B, and the median of the ratios of neighbours counts, so that other load on the machine
matters little. Where there is much of it, use --threads 1: with more, each small operation waits for the slowest
thread. The goals of training steps and whole trainings are those for CPUs with avx512_bf16 or amx; elsewhere these
figures have none.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import bench_corpus
import bench_input
import bench_memory
import bench_peers
import bench_processes
import bench_s3
import bench_script
import bench_sharding
import bench_steps
import bench_sweep
import bench_training
import torch
from bench_data import DataSets
from bench_timing import Bench, Row, Skip

from fcdd_dist.cli.train import auto_precision
from fcdd_dist.errors import FcddError

PARTS: dict[str, Callable[[Bench, DataSets], list[Row]]] = {
    "step32": bench_steps.step32,
    "step224": bench_steps.step224,
    "upsampling": bench_steps.upsampling,
    "whole": bench_training.whole,
    "whole224": bench_training.whole224,
    "script": bench_script.script,
    "script224": bench_script.script224,
    "streaming": bench_training.streaming,
    "host": bench_input.host,
    "resume": bench_input.resume,
    "quality": bench_input.quality,
    "decode_gpu": bench_input.decode_gpu,
    "sharding": bench_sharding.sharding,
    "corpus": bench_corpus.corpus,
    "peers": bench_peers.peers,
    "s3": bench_s3.s3,
    "pull": bench_s3.pull,
    "memory": bench_memory.memory,
    "help": bench_processes.help_and_refusal,
    "ray": bench_processes.ray,
    "sweep": bench_sweep.sweep,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)} (default: all)")
    parser.add_argument("--data", metavar="URL", action="append", default=[],
                        help="a data set of recipe cifar10, folder or imagenet30 in place of made-up ones; repeatable")
    parser.add_argument("--photographs", metavar="DIR",
                        help="a folder of JPEGs of full size to use in the place of made-up ones")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", metavar="N", type=int, help="of torch (default: its own choice)")
    parser.add_argument("--json", metavar="FILE", help="write the figures there, too")
    parser.add_argument("--quick", action="store_true", help="see that it runs; the figures mean little")
    options = parser.parse_args()
    if unknown := [part for part in options.parts if part not in PARTS]:
        parser.error(f"there is no part {unknown[0]!r}; there are: {', '.join(PARTS)}")
    if options.threads:
        torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    precision, why = auto_precision(device.type == "cuda")
    bench = Bench(device, options.quick, precision, device.type == "cpu" and precision == "bf16")
    facts = machine(device)
    for name, value in facts.items():
        print(f"{name:<10} {value}")
    print(f"{'precision':<10} {precision}: {why}\n")
    try:
        data = DataSets(options.data, options.quick, options.photographs)
    except (FcddError, Skip) as error:
        parser.error(str(error))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what was measured is kept, what was made up is removed
    rows: dict[str, list[Row]] = {}
    skipped: dict[str, str] = {}
    try:
        measure(options.parts or list(PARTS), bench, data, rows, skipped)
    finally:
        data.close()
        if options.json:
            Path(options.json).write_text(json.dumps({
                "machine": facts, "precision": precision, "quick": options.quick, "skipped": skipped,
                "rows": {part: [asdict(row) | {"reached": row.reached} for row in found]
                         for part, found in rows.items()}}, indent=1))
    missed = sum(row.reached is False for found in rows.values() for row in found)
    print(f"\n{missed} of {sum(map(len, rows.values()))} figures miss their aim" if missed else
          "\nno figure misses its aim")
    return 0


def measure(parts: list[str], bench: Bench, data: DataSets, rows: dict[str, list[Row]], skipped: dict[str, str]
            ) -> None:
    """Adds rows by part, and why parts were skipped; prints them as they come."""
    for part in parts:
        began = time.perf_counter()
        try:
            rows[part] = PARTS[part](bench, data)
        except Skip as reason:
            skipped[part] = str(reason)
            print(f"{part:<10} skipped: {reason}")
            continue
        for row in rows[part]:
            print(f"{part:<10} {shown(row.value, row.unit):>9}   {verdict(row, bench):<28} {row.what}")
            print(f"{'':<24}{', '.join(f'{name} {value:,.4g}' for name, value in row.figures.items())}")
        print(f"{'':<24}{time.perf_counter() - began:.0f} s", file=sys.stderr)


def shown(value: float | None, unit: str) -> str:
    if value is None:
        return "none"
    return {"x": f"{value:.2f} x", "%": f"{value:.1%}", "s": f"{value:.2f} s", "MB": f"{value:.0f} MB",
            "": f"{value:,.3g}"}[unit]


def verdict(row: Row, bench: Bench) -> str:
    if row.value is None:
        return "not measured"
    if row.aim is None:
        return "no goal on this machine"
    return f"{'reached' if row.reached else 'MISSED'}: {'>=' if row.at_least else '<='} {shown(row.aim, row.unit)}"


def machine(device: torch.device) -> dict[str, str]:
    """What the figures depend on."""
    info = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    lines = dict(line.split(":", 1) for line in info.splitlines() if ":" in line)
    fields = {name.strip(): value.strip() for name, value in lines.items()}
    flags = [flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if flag in fields.get("flags", "").split()]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    facts = {"cpu": f"{fields.get('model name') or platform.processor() or platform.machine()}, {cores} cores, "
                    f"{' '.join(flags) or 'none of avx2, avx512, amx'}",
             "load": " ".join(f"{load:.1f}" for load in os.getloadavg()),
             "torch": f"{torch.__version__}, {torch.get_num_threads()} threads, torchvision {_version('torchvision')}, "
                      f"ray {_version('ray')}, Python {platform.python_version()}"}
    if device.type == "cuda":
        facts["gpu"] = f"{torch.cuda.get_device_name(device)}, CUDA {torch.version.cuda}"
    return facts


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "absent"


if __name__ == "__main__":
    sys.exit(main())
