"""What it costs to run a notebook, beside the others, in one run."""

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from asking import PROVISIONER, WAYS, Crew, Worker, ask_server, jupyter_server
from measuring import (
    BIN,
    ROOT,
    Absent,
    Place,
    Row,
    at_most,
    compare,
    faster,
    has_provisioner,
    peer_bin,
    place,
    race,
    read_options,
    report,
    tell,
    within,
)
from notebooks import MODULES, is_done, write_all


@dataclass(frozen=True)
class Size:
    """How much is measured."""

    repeats: int = 5
    warm_up: bool = True
    kinds: tuple[str, ...] = ("trivial", "imports", "drawing", "training")
    long: tuple[str, ...] = ("cells_200", "outputs")
    peers: tuple[str, ...] = ("python script", "papermill", "jupyter execute", "ploomber-engine", "execnb")
    many: tuple[tuple[str, int], ...] = (("trivial", 100), ("imports", 100))
    cells: tuple[int, int, int] = (20, 200, 1000)
    stock_cells: tuple[int, int] = (20, 200)
    sample: float = 1.0


SIZES = {"full": Size(),
         "quick": Size(repeats=1, warm_up=False, kinds=("trivial", "imports"), long=(), stock_cells=(20, 40),
                       peers=("python script", "papermill"), many=(("trivial", 8), ("imports", 4)), sample=0.05),
         "smoke": Size(repeats=1, warm_up=False, kinds=("trivial",), long=(), peers=("papermill",))}


def measure_command_line(here: Place, size: Size, crew: Crew) -> Iterator[Row]:
    """One notebook from the shell: a new process, start to end."""
    ways: dict[str, Callable[[str], list[str | Path]]] = {
        "mlops-nb execute": lambda kind: [BIN / "mlops-nb", "execute", f"{kind}.ipynb", "out/mlops-nb execute.ipynb"],
        "python script": lambda kind: [sys.executable, f"{kind}.py"],
        "papermill": lambda kind: [BIN / "papermill", "--no-progress-bar", f"{kind}.ipynb", "out/papermill.ipynb"],
        "jupyter execute": lambda kind: [BIN / "jupyter", "execute", f"{kind}.ipynb", "--output=out/jupyter execute"],
        "ploomber-engine": lambda kind: [peer_bin("ploomber-engine") / "ploomber-engine", "--no-progress-bar",
                                         f"{kind}.ipynb", "out/ploomber-engine.ipynb"],
        "execnb": lambda kind: [BIN / "exec_nb", f"{kind}.ipynb", "--dest", "out/execnb.ipynb", "--exc-stop"]}
    targets = {("imports", "papermill"): faster(18), ("imports", "python script"): faster(9)}

    def run(kind: str, way: str) -> float:
        output = here.folder / "out" / f"{way}.ipynb"
        output.unlink(missing_ok=True)
        seconds = here.seconds(ways[way](kind))
        if way != "python script" and not is_done(output):
            raise Absent(f"{kind}.ipynb was not executed to its end")
        return seconds

    ours = "mlops-nb execute"
    for kind in size.kinds:
        figures = race((ours, *size.peers), partial(run, kind), size.repeats, size.warm_up)
        for peer in size.peers:
            yield compare(f"command line, {kind}: {peer}", figures[ours], figures[peer], targets.get((kind, peer)))


def measure_api(here: Place, size: Size, crew: Crew) -> Iterator[Row]:
    """One notebook in a process that has papermill imported already."""
    for notebook in (*size.kinds, *size.long):
        figures = race(WAYS, partial(crew.execute, notebook), size.repeats, size.warm_up)
        yield compare(f"papermill's API, {notebook}: our engine, stock", figures["engine"], figures["stock"],
                      faster(30) if notebook == "imports" else None)
        yield compare(f"papermill's API, {notebook}: our provisioner, stock", figures["provisioner"], figures["stock"])


def measure_many(here: Place, size: Size, crew: Crew) -> Iterator[Row]:
    """Many notebooks, two at a time."""
    for kind, count in size.many:
        figures = race(("engine", "stock"), partial(crew.execute, kind, count=count), 1, False)
        yield compare(f"{count} notebooks two at a time, {kind}: stock API", figures["engine"], figures["stock"],
                      faster(30 if kind == "imports" else 10))


def measure_own_cost(here: Place, size: Size, crew: Crew) -> Iterator[Row]:
    """What is left when the code's own time is taken away: of a step, and of a cell."""
    fork = Worker(here, "fork", *MODULES)

    def run(kind: str, way: str) -> float:
        return fork.ask(source=f"{kind}.py") if way == "bare fork" else crew.execute(kind, way)

    for kind in size.kinds:
        figures = race(("bare fork", "engine", "stock"), partial(run, kind), size.repeats, size.warm_up)
        bare = statistics.median(figures["bare fork"])
        ours, stock = ([seconds - bare for seconds in figures[way]] for way in ("engine", "stock"))
        yield compare(f"a step's own cost over a bare fork, {kind}: stock API", ours, stock,
                      at_most(0.040, "at most 40 ms"))
    fork.close()

    def run_cells(name: str) -> float:
        way, notebook = name.split()
        return crew.execute(notebook, way)

    names = [f"{way} cells_{count}" for way, counts in (("engine", size.cells), ("stock", size.stock_cells))
             for count in counts]
    figures = race(names, run_cells, size.repeats, size.warm_up)
    few, some, lots = size.cells
    yield compare("a cell's own cost: stock API", slope(figures, "engine", few, lots),
                  slope(figures, "stock", *size.stock_cells), at_most(0.001, "at most 1 ms"))
    early, late = slope(figures, "engine", few, some), slope(figures, "engine", some, lots)
    yield compare(f"a cell's own cost from {some} to {lots} cells: from {few} to {some}", late, early, within(1.5))


def slope(figures: dict[str, list[float]], way: str, few: int, many: int) -> list[float]:
    """Seconds a cell, from the medians for notebooks of few and of many cells."""
    low, high = figures[f"{way} cells_{few}"], figures[f"{way} cells_{many}"]
    return [(statistics.median(high) - statistics.median(low)) / (many - few)] if low and high else []


def measure_kernels(here: Place, size: Size, crew: Crew) -> Iterator[Row]:
    """From the wish for a kernel to its first answer, by jupyter_client and by a Jupyter Server."""
    with ExitStack() as stack:
        ways: dict[str, dict[str, str]] = {"stock": {}} | ({"mlops_nb": PROVISIONER} if has_provisioner() else {})
        workers = {way: Worker(here, "kernel", **more) for way, more in ways.items()}
        for worker in workers.values():
            stack.callback(worker.close)
        servers = {way: stack.enter_context(jupyter_server(here, **more)) for way, more in ways.items()}
        doors: dict[str, Callable[[str, str], float]] = {
            "jupyter_client": lambda code, way: workers[way].ask(code=code),
            "Jupyter Server": lambda code, way: ask_server(servers[way], code)}
        for door, ask in doors.items():
            for what, code in (("first cell", "pass"), ("pandas and scikit-learn imported", "import pandas, sklearn")):
                figures = race(ways, partial(ask, code), size.repeats, size.warm_up)
                yield compare(f"new kernel by {door}, {what}: stock", figures.get("mlops_nb", []), figures["stock"],
                              faster(3))


def measure_flights(here: Place, size: Size, crew: Crew) -> Iterator[Row]:
    """The whole example from nothing, beside the sum of its cells' own times with one job."""
    walls: dict[str, list[float]] = {"one job": [], "parallel": []}
    sums: list[float] = []
    sample = ["--sample", str(size.sample)] if size.sample < 1 else []
    for turn in range(min(size.repeats, 3)):
        for way, words in (("one job", ["--jobs", "1"]), ("parallel", [])):
            state = {"MLOPS_NB_STATE": str(here.folder / f"flights {turn} {way}")}
            begin_warm_process(here, ROOT, **state)
            walls[way].append(here.seconds([BIN / "mlops-nb", "run", *words, *sample], ROOT, **state))
            tell(f"  flights, {way} {walls[way][-1]:.2f} s")
            if way == "one job":
                sums.append(sum_of_cells(here, state))
                tell(f"  their cells {sums[-1]:.2f} s")
    yield compare("flights from nothing, one job: its cells' own times", walls["one job"], sums, within(1.15))
    yield compare(f"flights from nothing, {os.cpu_count()} jobs: its cells' own times", walls["parallel"], sums,
                  faster(1))


def sum_of_cells(here: Place, state: dict[str, str]) -> float:
    """The seconds that the cells of the newest run took by themselves, from its executed notebooks."""
    told = subprocess.run([BIN / "mlops-nb", "status", "--json"], cwd=ROOT, env=here.environment | state, check=True,
                          capture_output=True).stdout
    notebooks = [json.loads(Path(stage["notebook"]).read_text("utf-8")) for stage in json.loads(told)["stages"]]
    return sum(cell["metadata"].get("papermill", {}).get("duration") or 0
               for notebook in notebooks for cell in notebook["cells"] if cell["cell_type"] == "code")


def begin_warm_process(here: Place, cwd: Path | None = None, **more: str) -> None:
    """Have the libraries imported once, as on any but the first run of a day; what that takes is told."""
    try:
        tell(f"  a warm process is ready after {here.seconds([BIN / 'mlops-nb', 'warm'], cwd, **more):.2f} s")
    except Absent as reason:
        tell(f"  there is no warm process: {reason}")


PARTS = {"command-line": measure_command_line, "api": measure_api, "many": measure_many, "own-cost": measure_own_cost,
         "kernels": measure_kernels, "flights": measure_flights}


def main() -> None:
    """Measure the parts that were asked for, and report."""
    options = read_options(__doc__ or "", list(PARTS), smoke=["command-line", "api"], peers=",".join(Size.peers))
    size = SIZES[options.size]
    if options.repeats:
        size = replace(size, repeats=options.repeats)
    if options.peers is not None:
        size = replace(size, peers=tuple(filter(None, options.peers.split(","))))
    rows: list[Row] = []
    with place() as here, ExitStack() as stack:
        crew = Crew(here, stack)
        write_all(here.folder, {*size.cells, *size.stock_cells})
        begin_warm_process(here)
        if not size.warm_up:  # what its first run of all brings up is no part of a run
            for kind in size.kinds:
                race(("engine", "provisioner"), partial(crew.execute, kind), 1, False)
        for part in options.parts:
            tell(part)
            try:
                rows += PARTS[part](here, size, crew)
            except Absent as reason:
                tell(f"  {part} is absent: {reason}")
    report("execution", rows, options)


if __name__ == "__main__":
    main()
