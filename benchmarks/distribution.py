"""Stages as tasks of a Dask cluster: what one costs, how it scales, what a scheduler can carry."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from measuring import BIN, Absent, Place, Row, compare, place, read_options, report, tell, within
from planning import write_stage

DASK = BIN / "dask"


@dataclass(frozen=True)
class Size:
    """How much is measured."""

    workers: tuple[int, ...] = (1, 2, 4)
    stages: int = 16
    chain: int = 40
    tasks: int = 5000
    repeats: int = 3


SIZES = {"full": Size(), "quick": Size(stages=8, chain=15, tasks=2000, repeats=1),
         "smoke": Size(workers=(1,), stages=2, chain=2, tasks=50, repeats=1)}
WAITS = "import time\ntime.sleep(1)"
COMPUTES = "import time\nuntil = time.process_time() + 1\nwhile time.process_time() < until:\n    sum(range(10_000))"


# Projects


def write_wide(root: Path, stages: int, source: str) -> None:
    """So many stages that need nothing of each other, each of one second."""
    for number in range(stages):
        write_stage(stages_of(root) / f"{number:03}_s{number:03}.ipynb",
                    f'number: int = {number}\nmade: Output = "made"', source, "save(made, [number])")


def write_chain(root: Path, stages: int) -> None:
    """So many stages that do nothing, each after the one before."""
    for number in range(stages):
        need = f'last: Input = "s{number - 1:03}.made"\n' if number else ""
        write_stage(stages_of(root) / f"{number:03}_s{number:03}.ipynb",
                    f'{need}number: int = {number}\nmade: Output = "made"', "save(made, [number])")


def stages_of(root: Path) -> Path:
    """The folder of a project's stages; the project is made when it is not there."""
    folder = root / "nbs" / "stages"
    folder.mkdir(parents=True, exist_ok=True)
    (root / "settings.ini").write_text("[project]\nname = spread\n")
    return folder


# Clusters


@contextmanager
def cluster(here: Place, workers: int, state: Path) -> Iterator[str]:
    """A scheduler and workers with one thread each, as processes in folders of their own; gives the address."""
    folder = here.folder / f"cluster-{workers}-{time.monotonic_ns()}"
    folder.mkdir()
    made: list[subprocess.Popen[bytes]] = []

    def start(name: str, *words: str) -> None:
        (folder / name).mkdir()
        with open(folder / name / "log", "wb") as log:
            made.append(subprocess.Popen([DASK, *words, "--host", "127.0.0.1", "--no-dashboard"], cwd=folder / name,
                                         stdout=log, stderr=log, env=here.environment | {"MLOPS_NB_STATE": str(state)}))

    try:
        start("scheduler", "scheduler", "--port", "0", "--scheduler-file", str(folder / "address.json"))
        address = wait_for(lambda: json.loads((folder / "address.json").read_text())["address"])
        for number in range(workers):
            start(f"worker-{number}", "worker", address, "--nthreads", "1", "--no-nanny", "--memory-limit", "0",
                  "--local-directory", str(folder / f"worker-{number}"))
        for number in range(workers):
            wait_for(lambda: "Starting established" in (folder / f"worker-{number}" / "log").read_text() or None)  # noqa: B023
        yield address
    finally:
        for process in made:
            process.kill()
            process.wait()


def wait_for(look: Any) -> Any:
    """What `look` gives once it gives something."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        try:
            if (found := look()) is not None:
                return found
        except (OSError, ValueError, KeyError):
            pass
        time.sleep(0.05)
    raise Absent("the cluster did not come up within a minute; see its logs")


def run(here: Place, root: Path, *words: str) -> float:
    """The seconds between the first stage's start and the last one's end, of a run in which all are computed."""
    done = subprocess.run([BIN / "mlops-nb", "run", "--fresh", "--json", *words], cwd=root, capture_output=True,
                          text=True, env=here.environment, check=False)
    if done.returncode:
        raise Absent(f"the run ended with {done.returncode}: {done.stderr.strip()[-300:]}")
    events = [json.loads(line) for line in done.stdout.splitlines()]
    kinds = ("stage-started", "stage-ended")
    moments = [datetime.fromisoformat(one["time"]) for one in events if one["event"] in kinds]
    return (max(moments) - min(moments)).total_seconds()


# What is measured


def measure_scaling(here: Place, size: Size) -> Iterator[Row]:
    """Stages that need nothing of each other, on more and more workers, beside as many jobs of the local runner."""
    for kind, source in (("waits", WAITS), ("computes", COMPUTES)):
        root = here.folder / kind
        write_wide(root, size.stages, source)
        for workers in size.workers:
            with cluster(here, workers, root / ".mlops") as address:
                ours, peer = [], []
                run(here, root, "--on", address)  # each worker's nursery has imported by then what it needs
                for _ in range(size.repeats):
                    ours.append(run(here, root, "--on", address))
                    peer.append(run(here, root, "--jobs", str(workers)))
            tell(f"  {size.stages} stages, {kind} 1 s, {workers} workers: {ours} s, local {peer} s")
            yield compare(f"{size.stages} stages, each {kind} 1 s: {workers} worker{'s' if workers > 1 else ''}, "
                          "beside as many local jobs", ours, peer, within(1.25))


def measure_stage(here: Place, size: Size) -> Iterator[Row]:
    """A chain of stages that do nothing: what each one costs."""
    root = here.folder / "chain"
    write_chain(root, size.chain)
    with cluster(here, 1, root / ".mlops") as address:
        run(here, root, "--on", address)
        figures: tuple[list[float], list[float]] = ([], [])
        for _ in range(size.repeats):
            figures[0].append(run(here, root, "--on", address) / size.chain)
            figures[1].append(run(here, root, "--jobs", "1") / size.chain)
    yield compare("a stage that does nothing, one after the other, beside the local runner", *figures)


PROBE = """
import json, sys, time
import sqlalchemy as sa
from pathlib import Path
from distributed import Client
from mlops_nb.settings import read_project
from mlops_nb.distribution import DaskWorkplace
from mlops_nb.pipeline import run_pipeline
from mlops_nb.runs import Recorder
from mlops_nb.selection import Request

root, address, tasks = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
project, found = read_project(root), {}
orders, parcels, writes, messages = [], [], [], []
sa.event.listen(sa.Engine, "begin", lambda connection: writes.append(connection.get_execution_options().get("writes")))


class Counting(DaskWorkplace):
    def begin(self, assignment, libraries=None):
        work = super().begin(assignment, libraries)
        orders.append(work.order)
        return work

    def pass_on(self, message):
        messages.append(message)
        super().pass_on(message)


run_pipeline(project, Request(fresh=True), workplace=Counting(address, project))  # imports are no stage's cost
for each in (orders, writes, messages):
    each.clear()
used = time.process_time()
record = run_pipeline(project, Request(fresh=True), workplace=Counting(address, project))
stages = len(record["stages"])
assert record["status"] == "done", record
found["ms of the runner's processor a stage"] = (time.process_time() - used) / stages * 1000
from distributed.protocol.pickle import dumps
found["kB of an order"] = len(dumps(orders[-1])) / 1000
found["writing transactions a stage"] = sum(map(bool, writes)) / stages
found["reading transactions a stage"] = sum(not each for each in writes) / stages
found["messages a stage"] = len(messages) / stages
left = [path.stat().st_size for path in Path(record["report"]).parent.rglob("*") if path.is_file()]
found["files a stage leaves in its run's folder"] = len(left) / stages
found["kB a stage leaves in its run's folder"] = sum(left) / stages / 1000

recorder = Recorder(project, record["run"], "development")
began = time.perf_counter()
for _ in range(tasks // 10):
    recorder.note(record["stages"][0]["stage"], seconds=1.0)
found["writing transactions a second"] = tasks // 10 / (time.perf_counter() - began)

client = Client(address)
began = time.perf_counter()
futures = [client.submit(len, {**orders[-1], "token": str(number)}, pure=False) for number in range(tasks)]
client.gather(futures)
found["tasks a second"] = tasks / (time.perf_counter() - began)
del futures
import threading
heard, last = [], threading.Event()
def hear(event):
    if "n" in event[1]:
        heard.append(event)
        if event[1]["n"] == tasks:
            last.set()
client.subscribe_topic(client.id, hear)
def shout(topic, count):
    from distributed import get_worker
    for number in range(count + 1):
        get_worker().log_event(topic, {"n": number, "event": "cell", "cell": 3, "cells": 12})
began = time.perf_counter()
client.submit(shout, client.id, tasks, pure=False).result()
last.wait(120)
found["messages a second"] = len(heard) / (time.perf_counter() - began)
client.unsubscribe_topic(client.id)
client.close()
print(json.dumps(found))
"""


def measure_scheduler(here: Place, size: Size) -> Iterator[Row]:
    """What one scheduler carries, and what a stage asks of scheduler and store; figures for a calculation on paper."""
    root = here.folder / "paper"
    write_chain(root, size.chain)
    with cluster(here, 1, root / ".mlops") as address:
        done = subprocess.run([sys.executable, "-c", PROBE, str(root), address, str(size.tasks)], capture_output=True,
                              text=True, env=here.environment, check=False)
        if done.returncode:
            raise Absent(f"the probe failed: {done.stderr.strip()[-300:]}")
    for name, figure in json.loads(done.stdout.splitlines()[-1]).items():
        words = {"tasks a second": "empty tasks through one scheduler, with orders of this size",
                 "messages a second": "messages through one scheduler",
                 "writing transactions a second": "writing transactions into SQLite, one writer"}
        unit = "/s" if name.endswith("second") else name.split()[0] if name[:2] in ("kB", "ms") else ""
        yield compare(words.get(name, name), [round(figure, 2)], [], unit=unit)


PARTS = {"stage": measure_stage, "scaling": measure_scaling, "scheduler": measure_scheduler}


def main() -> None:
    """Measure the parts that were asked for, and report."""
    options = read_options(__doc__ or "", list(PARTS), smoke=["stage", "scheduler"], peers="")
    size, rows = SIZES[options.size], list[Row]()
    with place() as here:
        for part in options.parts:
            try:
                rows += PARTS[part](here, size)
            except Absent as reason:
                tell(f"  {part} is absent: {reason}")
    report("distribution", rows, options)


if __name__ == "__main__":
    main()
