"""Made-up runs and data sets for tests, with records that are true, and stores that do harm."""

from __future__ import annotations

import json
import threading
from pathlib import Path

from fcdd_dist.checkpoint import DETECTOR, OPTIMIZER, Record, read_record, write
from fcdd_dist.errors import Fault, NotFound
from fcdd_dist.recipes import recipe
from fcdd_dist.storage import Entry, FolderStore, MemoryStore, Store
from fcdd_dist.sweep.plan import Plan
from fcdd_dist.sweep.standing import Standing
from fcdd_dist.sweep.table import table, write_table
from fcdd_dist.sweep.trials import tested
from fcdd_dist.sweep.value import SWEEP, Sweep

GOLDEN = FolderStore(Path(__file__).parents[1] / "checkpoints" / "schema-1")


def a_run(run: Store, epochs: tuple[int, ...] = (1, 2), *, losses: tuple[float, ...] = (), done: bool = True,
          of: int = 2, fingerprint: str = "f" * 16, auroc: float = 0.9876) -> Store:
    """A run with checkpoints at the ends of ``epochs`` that Detector.load takes, and with what belongs to a driver."""
    golden = read_record(GOLDEN)
    experiment = golden.experiment.model_copy(update={"epochs": of})
    _json(run, "experiment.json", {
        "schema_version": 1, "experiment": experiment.model_dump(mode="json"), "experiment_id": experiment.id,
        "fingerprint": fingerprint, "data_id": "d" * 16, "exposure_id": None, "data": "/data", "exposure": None,
        "class_name": "digit 0"})
    for epoch, loss in zip(epochs, losses or [1 / epoch for epoch in epochs], strict=True):
        a_checkpoint(run, epoch, loss, experiment=experiment, fingerprint=fingerprint)
    run.write("metrics.jsonl", b'{"epoch": 1}\n')
    run.write("heatmaps/by score ä.png", b"picture" * 100)
    run.write("empty.txt", b"")
    run.write(".ray/session.json", b"{}")
    run.write("board/said.json", b"{}")
    run.write("lease/000001.json", b"{}")
    lease(run, owner=None)
    if done:
        run.write("scores.csv", b"path,class,label,score,flagged\n")
        _json(run, "result.json", {"auroc": auroc, "epochs": max(epochs, default=of), "fingerprint": fingerprint})
    return run


def a_sweep(store: Store, seeds: int = 2, *, done: int = 4) -> Store:
    """Of two classes of the digits; the first ``done`` trials have runs, with an AUROC of 0.5, 0.625, ..."""
    sweep = Sweep(experiment=recipe("digits").experiment("0", 0), settings=(), classes=("0", "1"), seeds=seeds,
                  names={"0": "digit 0", "1": "digit 1"}, protocol="holdout", data="/data", exposure=None,
                  data_id="d" * 16, exposure_id=None)
    store.write(SWEEP, sweep.to_json().encode())
    standings = {}
    for number, trial in enumerate(list(tested(sweep, {}))[:done]):
        auroc = 0.5 + number / 8
        a_run(store.at(trial.folder), fingerprint=f"{int(trial.class_id):08x}{trial.seed:08x}", auroc=auroc)
        standings[trial.name] = Standing(epochs=sweep.epochs, result={
            "epochs": sweep.epochs, "auroc": auroc, "average_precision": auroc})
    write_table(store, table(Plan(sweep), standings))
    store.write("report.html", b"<!doctype html>")
    lease(store, owner=None)
    return store


def a_checkpoint(run: Store, epoch: int, loss: float | None = None, **values: object) -> str:
    golden = read_record(GOLDEN)
    history = ({**golden.history[-1], "epoch": epoch, "holdout_loss": loss},)
    record: Record = golden.model_copy(update={
        "cursor": golden.cursor.model_copy(update={"epoch": epoch, "step": 0}), "history": history, **values})
    return write(run, record, {file: GOLDEN.read(file) for file in (DETECTOR, OPTIMIZER)})


def an_unfinished_sharding(store: Store, tar: bytes) -> Store:
    """Killed after 3 of 7 tasks, in the middle of the fourth. ``tar``: a shard of the class "1"."""
    tasks = ["nominal-0", "nominal-1", "nominal-2", "spill-000000", "spill-000001", "gather-000000", "gather-000001"]
    _json(store, "unfinished/plan.json", {"schema_version": 1, "recipe": "digits", "form": "png-8-grey",
                                          "nominal": None, "exposure": None, "versions": {}, "tasks": tasks})
    for task in ("nominal-1", "spill-000000", "gather-000000"):
        _json(store, f"unfinished/{task}.json", {"schema_version": 1})
    store.write("unfinished/spill/000000.bin", b"encoded" * 100)
    store.write("unfinished/spill/000001.bin", b"encoded" * 50)
    store.write("unfinished/digests.bin", b"digests" * 50)
    store.write("train/1/000000.tar", tar)
    store.write("holdout/1/000000.tar", tar)
    return store


def lease(run: Store, owner: dict | None) -> None:
    _json(run, "lease.json", {"schema_version": 1, "owner": owner, "attempt": 1, "token": "t", "since": 0.0,
                              "renewed": 0.0})


def copy(source: Store, target: Store) -> Store:
    for entry in source.list():
        target.write(entry.key, source.read(entry.key))
    return target


def files(folder: Path) -> dict[str, bytes]:
    """Everything below a folder, hidden files too."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


class Harmful(MemoryStore):
    """Memory that fails after ``reads`` reads, that flips a byte of ``flip`` (key: how often), that loses ``gone``."""

    def __init__(self, *more: object, **settings: object) -> None:
        super().__init__(*more, **settings)
        self.reads: float = float("inf")
        self.flip: dict[str, int] = {}
        self.gone: set[str] = set()
        self.listed: list[Entry] = []
        self.asked: list[str] = []
        self._count = threading.Lock()

    def read(self, key: str, start: int = 0, end: int | None = None) -> bytes:
        with self._count:
            self.asked.append(key)
            self.reads -= 1
            if self.reads < 0:
                raise Fault("the storage does not answer")
            flips = self.flip.get(key, 0)
            self.flip[key] = flips - 1
        if key in self.gone:
            raise NotFound(f"there is no {self.url}/{key}")
        data = super().read(key, start, end)
        return bytes([data[0] ^ 1]) + data[1:] if flips > 0 else data

    def list(self, prefix: str = ""):
        yield from super().list(prefix)
        yield from (entry for entry in self.listed if entry.key.startswith(prefix))

    def at(self, prefix: str) -> Store:
        return Below(self, prefix)


class Below(Store):
    """What is below a prefix of a harmful store, with all the harm."""

    def __init__(self, store: Harmful, prefix: str) -> None:
        self._store, self._prefix, self.url = store, f"{prefix}/", f"{store.url}/{prefix}"

    def read(self, key: str, start: int = 0, end: int | None = None) -> bytes:
        return self._store.read(self._prefix + key, start, end)

    def write(self, key: str, data: bytes) -> None:
        self._store.write(self._prefix + key, data)

    def create(self, key: str, data: bytes) -> bool:
        return self._store.create(self._prefix + key, data)

    def list(self, prefix: str = ""):
        for entry in self._store.list(self._prefix + prefix):
            yield Entry(entry.key.removeprefix(self._prefix), entry.size, entry.modified)

    def size(self, key: str) -> int:
        return self._store.size(self._prefix + key)

    def delete(self, key: str) -> None:
        self._store.delete(self._prefix + key)

    def at(self, prefix: str) -> Store:
        return Below(self._store, self._prefix + prefix)

    def leftovers(self):
        return iter(())

    def discard(self, leftover) -> None:
        raise AssertionError


def _json(store: Store, key: str, tree: dict) -> None:
    store.write(key, json.dumps(tree).encode())
