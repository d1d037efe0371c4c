"""How long it takes to know that nothing has to be done: a thousand stages planned, ten stages run and planned again.

    python benchmarks/planning.py            all of it; ten stages are really run first
    python benchmarks/planning.py --quick    the same, with results that are recorded and not computed; under a minute
    python benchmarks/planning.py --json     one JSON list: name, ours (seconds), peer, ratio, target, met

Each figure is the median of several new processes and counts from the moment when the process has imported what it
needs. "cold" is without anything remembered under `.mlops/cache`, as after a fresh checkout: all 4,000 cells are parsed
and all libraries are looked up again, once.
"""

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

IMPORTS = ["from mlops_nb.artifacts import load, save", "from mlops_nb.contract import Input, Output"]
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}
HEAVY = ("pandas", "numpy", "sklearn", "pyarrow", "nbformat", "papermill", "pydantic", "nbconvert", "IPython")


def write_stage(path: Path, parameters: str, *code: str) -> None:
    """Write a stage notebook: a title, imports, parameters, code."""
    cells = [{"cell_type": "markdown", "id": "title", "metadata": {}, "source": f"# {path.stem}"}]
    for number, source in enumerate(["\n".join(IMPORTS), parameters, *code]):
        tags = {"tags": ["parameters"]} if number == 1 else {}
        cells.append({"cell_type": "code", "id": f"c{number}", "metadata": tags, "source": source, "outputs": [],
                      "execution_count": None})
    notebook = {"cells": cells, "metadata": {"kernelspec": KERNEL}, "nbformat": 4, "nbformat_minor": 5}
    path.write_text(json.dumps(notebook))


def write_project(root: Path, stages: int, width: int) -> None:
    """A project of stages in layers of `width`; each needs two of the layer before, and a function of its package."""
    (root / "nbs" / "stages").mkdir(parents=True)
    (root / "settings.ini").write_text("[project]\nname = wide\npackage = shop\n")
    (root / "shop").mkdir()
    (root / "shop" / "__init__.py").write_text("")
    functions = [f"def step{number}(rows):\n    return [row + {number} for row in rows]\n" for number in range(width)]
    (root / "shop" / "steps.py").write_text('"""Steps."""\n\nimport math\n\n' + "\n\n".join(functions))
    for number in range(stages):
        place, layer = number % width, number // width
        needs = sorted({(layer - 1) * width + (place + shift) % width for shift in (0, 7)}) if layer else []
        inputs = [f'rows{turn}: Input = "s{need:04}.rows"  # Rows of a stage' for turn, need in enumerate(needs)]
        write_stage(
            root / "nbs" / "stages" / f"{number:04}_s{number:04}.ipynb",
            "\n".join([*inputs, f"start: int = {number}  # Where it starts", "share: float = 0.5  # Share that is kept",
                       'rows: Output = "rows"  # Rows']),
            f"import json\nfrom shop.steps import step{place}",
            f"found = [start, {', '.join(f'*load(rows{turn})' for turn in range(len(needs)))}]\n"
            f"found = found[:{100 + number}]  # no two notebooks have the same cells",
            f"made = step{place}(found)\nassert len(made) == len(found), 'a row of {number} was lost'",
            f"save(rows, made[: max({number}, int(len(made) * share))])",
            f"print(json.dumps({{'stage': {number}, 'rows': len(made)}}))")


def fill(root: Path) -> None:
    """Record a result for each stage, as a run would, without running any."""
    from mlops_nb.content import keep_value
    from mlops_nb.planning import looking, plan_stage
    from mlops_nb.runs import Recorder, new_run_name
    from mlops_nb.selection import Request, select
    from mlops_nb.settings import read_project

    project = read_project(root)
    selection = select(project, Request())
    recorder, ended = Recorder(project, new_run_name(), "development"), []
    recorder.start({}, list(selection.stages))
    made: dict[str, str | None] = {}
    with looking(project) as view:
        for stage in selection.stages:
            plan = plan_stage(project, selection, stage, made, view)
            kept = keep_value(project.state, [stage])
            made[f"{stage}.rows"] = kept.hash
            ended.append((stage, {f"{stage}.rows": (kept.hash, kept.kind)}, {
                "status": "done", "seconds": 1.0, "fingerprint": plan.fingerprint, "ingredients": plan.ingredients,
                "parameters": {}, "inputs": {}, "notebook": ""}))
    recorder.end_stages(ended)
    recorder.end("done")


PROBE = """
import json, sys, time
from pathlib import Path
import sqlalchemy.dialects.sqlite
import mlops_nb.cli, mlops_nb.terminal, mlops_nb.pipeline, mlops_nb.planning
from mlops_nb.settings import read_project
project = read_project(Path(sys.argv[1]))
began = time.perf_counter()
if sys.argv[2] == "plan":
    verdicts = {each.verdict for each in mlops_nb.planning.make_plan(project, mlops_nb.planning.Request())}
else:
    record = mlops_nb.pipeline.run_pipeline(project)
    verdicts = {"reuse" if each["reused_from"] else each["status"] for each in record["stages"]}
seconds = time.perf_counter() - began
print(json.dumps([seconds, sorted(verdicts), [name for name in sys.argv[3:] if name in sys.modules]]))
"""


def measure(root: Path, what: str, verdicts: set[str], times: int, cold: bool = False) -> float:
    """Median seconds of `what` in new processes; fails when it did something else, or imported something heavy."""
    found = []
    for _ in range(times):
        if cold:
            shutil.rmtree(root / ".mlops" / "cache", ignore_errors=True)
        done = subprocess.run([sys.executable, "-c", PROBE, str(root), what, *HEAVY], capture_output=True, text=True,
                              check=True)
        seconds, seen, heavy = json.loads(done.stdout)
        if set(seen) != verdicts or heavy:
            raise SystemExit(f"{what}: expected {verdicts} and no heavy import, got {seen} and {heavy}")
        found.append(seconds)
    return statistics.median(found)


def figure(name: str, seconds: float, target: float) -> dict[str, Any]:
    """A figure as all benchmarks report one."""
    return {"name": name, "ours": round(seconds, 3), "peer": None, "ratio": None, "target": target,
            "met": seconds < target}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="record results instead of computing them")
    parser.add_argument("--smoke", action="store_true", help="a hundred stages, once: does it work at all?")
    parser.add_argument("--json", action="store_true", help="print one JSON list")
    given = parser.parse_args()
    times = 1 if given.smoke else 3 if given.quick else 7
    with tempfile.TemporaryDirectory() as folder:
        wide, ten = Path(folder) / "wide", Path(folder) / "ten"
        write_project(wide, 100 if given.smoke else 1000, 50)
        write_project(ten, 10, 2)
        fresh, there = {"run", "maybe"}, {"reuse"}
        figures = [figure("1,000 stages, no result, cold: plan", measure(wide, "plan", fresh, times, True), 1.0),
                   figure("1,000 stages, no result: plan", measure(wide, "plan", fresh, times), 1.0)]
        fill(wide)
        figures += [figure("1,000 stages, all results, cold: plan", measure(wide, "plan", there, times, True), 3.0),
                    figure("1,000 stages, all results: plan", measure(wide, "plan", there, times), 1.0)]
        if given.quick or given.smoke:
            fill(ten)
        else:
            command = [Path(sys.executable).with_name("mlops-nb"), "run"]
            subprocess.run(command, cwd=ten, check=True, capture_output=True)
        measure(ten, "run", there, 1)
        figures += [figure("ten stages, nothing changed: run", measure(ten, "run", there, times), 0.3),
                    figure("ten stages, nothing changed: plan", measure(ten, "plan", there, times), 0.3)]
    if given.json:
        print(json.dumps(figures, indent=1))
        return
    for one in figures:
        print(f"{one['name']:42} {one['ours']:6.3f} s   target {one['target']} s   {'met' if one['met'] else 'MISSED'}")


if __name__ == "__main__":
    main()
