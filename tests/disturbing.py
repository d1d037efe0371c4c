"""Chaos: a pipeline whose processes are killed at random moments, resumed, and compared with an undisturbed run."""

import json
import os
import random
import signal
import subprocess
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from projects import Project

NUMPY = "import time\nimport numpy as np"
PAUSE = "time.sleep(0.05)"  # a moment in which a cell can be hit


def write_pipeline(project: Project) -> None:
    """Six stages of small numpy work, two of them side by side; the same numbers each time."""
    def stage(name: str, parameters: str, *code: str) -> None:
        cells = [part for each in code for part in (each, PAUSE)]
        project.stage(name, parameters, *cells, imports=NUMPY)

    stage("01_draw", 'seed: int = 7\nmatrix: Output = "matrix"\nfacts: Output = "facts"',
          "numbers = np.random.default_rng(seed).normal(size=(2000, 20))", "save(matrix, numbers)",
          "save(facts, {'rows': len(numbers), 'mean': float(numbers.mean())})")
    stage("02_left", 'matrix: Input = "draw.matrix"\nsums: Output = "sums"',
          "numbers = load(matrix)", "save(sums, np.cumsum(numbers, axis=0))")
    stage("03_right", 'matrix: Input = "draw.matrix"\nfacts: Input = "draw.facts"\nproduct: Output = "product"',
          "numbers = load(matrix) - load(facts)['mean']", "save(product, np.round(numbers.T @ numbers, 6))")
    stage("04_join", 'sums: Input = "left.sums"\nproduct: Input = "right.product"\njoined: Output = "joined"',
          "both = load(sums) @ load(product)", "save(joined, np.round(both, 3))")
    stage("05_fit", 'joined: Input = "join.joined"\nweights: Output = "weights"',
          "table = load(joined)", "solved = np.linalg.lstsq(table[:, 1:], table[:, 0], rcond=None)",
          "save(weights, np.round(solved[0], 3))")
    stage("06_score", 'joined: Input = "join.joined"\nweights: Input = "fit.weights"\nscore: Output = "score"',
          "errors = np.abs(load(joined)[:, 1:] @ load(weights))",
          "save(score, {'error': round(float(errors.mean()), 3)})")


def list_processes(project: Project) -> dict[int, str]:
    """All processes of a project with what they are called, also those that are meant to outlive a run."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if f"MLOPS_NB_TEST={project.mark}".encode() in (folder / "environ").read_bytes().split(b"\0"):
                found[int(folder.name)] = (folder / "comm").read_text().strip()
        except OSError:
            continue  # it ended while we looked
    return found


def find_last_run(project: Project) -> dict[str, Any] | None:
    """The record of the newest run, None when there is none."""
    from mlops_nb.errors import UsageError
    from mlops_nb.runs import find_run

    try:
        return find_run(project.state)
    except UsageError:
        return None


def made_in(project: Project, run: str) -> dict[str, str]:
    """The artifacts of a run with their hashes."""
    return {row["name"]: row["hash"] for row in project.query(f"SELECT name, hash FROM artifacts WHERE run = '{run}'")}


def list_damage(project: Project) -> list[str]:
    """Whatever is visible and not whole: records, contents, executed notebooks, pages."""
    from mlops_nb.content import damaged_files

    if not (project.state / "state.db").exists() or find_last_run(project) is None:
        return []
    found = [f"database: {row[0]}" for row in project.query("PRAGMA integrity_check") if row[0] != "ok"]
    kept = {folder.name for folder in project.objects()}
    found += [f"no content for {row['name']}" for row in project.query("SELECT name, hash FROM artifacts")
              if row["hash"] not in kept]
    found += [f"damaged content {folder.name}" for folder in project.objects() if damaged_files(folder)]
    for notebook in project.state.glob("runs/*/*.ipynb"):
        try:
            json.loads(notebook.read_text("utf-8"))
        except ValueError:
            found.append(f"half a notebook: {notebook}")
    found += [f"half a page: {page}" for page in project.state.glob("runs/*/*.html")
              if not page.read_text("utf-8").endswith("</html>")]
    return found


@dataclass
class Chaos:
    """Kills, and what became of them. `calm` are the hashes of an undisturbed run that took `seconds`."""

    project: Project
    calm: dict[str, str]
    seconds: float
    chance: random.Random
    killed: Counter[str] = field(default_factory=Counter)
    compared: int = 0
    reused: int = 0
    problems: list[str] = field(default_factory=list)

    def choose_victim(self, runner: subprocess.Popen[str]) -> tuple[int, str] | None:
        """The runner, or any other process of the project: a stage, a kernel, what they come from."""
        there = {pid: "runner" if pid == runner.pid else name for pid, name in list_processes(self.project).items()}
        if not there:
            return None
        kind = self.chance.choice(sorted(set(there.values())))  # spare processes would be hit most, by their number
        return self.chance.choice(sorted(one for one in there.items() if one[1] == kind))

    def kill(self, runner: subprocess.Popen[str]) -> None:
        """Kill somebody after a random moment, if there is anybody to kill by then."""
        time.sleep(self.chance.uniform(0, self.seconds))
        victim = self.choose_victim(runner)
        try:
            if victim:
                os.kill(victim[0], signal.SIGKILL)
                self.killed[victim[1]] += 1
        except ProcessLookupError:
            pass  # it ended by itself in this very moment

    def is_unfinished(self) -> bool:
        """Is there a run to go on with?"""
        from mlops_nb.resuming import list_unfinished

        return (self.project.state / "state.db").exists() and bool(list_unfinished(self.project.state))

    def attempt(self, disturb: bool) -> None:
        """Run or resume once, and look at what is left."""
        resumes = self.is_unfinished()
        runner = self.project.start("run", *(("--resume",) if resumes else ("--fresh",)))
        if disturb:
            self.kill(runner)
        answer = self.project.finish(runner)
        if answer.code not in (0, 1, 2, -signal.SIGKILL) or "Traceback" in answer.out + answer.err:
            self.problems.append(f"exit code {answer.code}: {answer.out[-500:]}{answer.err[-1500:]}")
        self.problems += list_damage(self.project)
        record = find_last_run(self.project)
        if record and record["status"] == "done":
            self.compare(record, resumes)

    def compare(self, record: dict[str, Any], resumed: bool) -> None:
        """A run that is done has made what the undisturbed one made."""
        self.compared += 1
        self.reused += sum(bool(stage["reused_from"]) for stage in record["stages"]) if resumed else 0
        made = made_in(self.project, record["run"])
        self.problems += [f"{name} of {record['run']} is another one" for name in self.calm | made
                          if self.calm.get(name) != made.get(name)]


def disturb(folder: Path, kills: int, seed: int) -> Chaos:
    """Kill `kills` times, resume what is left each time, and go on to the end of the last run."""
    calm = Project(folder / "calm")
    write_pipeline(calm)
    calm.call("run", "draw")  # whatever has to warm up has done so
    began = time.monotonic()
    calm.run("--fresh")
    seconds = time.monotonic() - began
    record = find_last_run(calm)
    wild = Project(folder / "wild")
    write_pipeline(wild)
    chaos = Chaos(wild, made_in(calm, record["run"] if record else ""), seconds, random.Random(seed))
    try:
        while chaos.killed.total() < kills and not chaos.problems:
            chaos.attempt(disturb=True)
        compared = chaos.compared
        while chaos.compared == compared and not chaos.problems:
            chaos.attempt(disturb=False)
    finally:
        for project in (calm, wild):
            project.kill_all()
    return chaos
