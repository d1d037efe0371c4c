"""Scratch projects for tests: real notebooks in a real folder, run by the real command line."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
import traceback
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlops_nb.cli import main

COMMAND = Path(sys.executable).with_name("mlops-nb")
IMPORTS = """from mlops_nb.artifacts import load, save
from mlops_nb.contract import Input, Output"""


def cell(kind: str, source: str, *tags: str) -> dict[str, Any]:
    """One cell of a notebook."""
    made = {"cell_type": kind, "id": uuid.uuid4().hex[:8], "metadata": {"tags": list(tags)} if tags else {},
            "source": source.splitlines(keepends=True)}
    return made | ({"execution_count": None, "outputs": []} if kind == "code" else {})


def write_notebook(path: Path, cells: list[dict[str, Any]]) -> Path:
    """Write cells as a notebook for the kernel `python3`."""
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"cells": cells, "metadata": {"kernelspec": kernel}, "nbformat": 4,
                                "nbformat_minor": 5}, ensure_ascii=False), "utf-8")
    return path


def write_stage(path: Path, parameters: str, *code: str, imports: str = "") -> Path:
    """Write a stage notebook as a person would: title, imports, parameters (cell 3), then cells of code."""
    return write_notebook(path, [cell("markdown", f"# {path.stem}\n\n> A stage of a test."),
                                 cell("code", "\n".join(filter(None, [IMPORTS, imports]))),
                                 cell("code", parameters, "parameters"), *(cell("code", each) for each in code)])


def wait_until(condition: Callable[[], Any], what: str, seconds: float = 60) -> Any:
    """Wait until a condition gives something true and return that; fails naming `what` otherwise."""
    until = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < until, f"waited {seconds} s in vain: {what}"
        time.sleep(0.02)
    return found


@dataclass(frozen=True)
class Answer:
    """How a command ended, and what it said."""

    code: int
    out: str
    err: str

    @property
    def said(self) -> str:
        """All that a user saw; a traceback is never part of it."""
        assert "Traceback (most recent call last)" not in self.out + self.err, self.out + self.err
        return self.out + self.err


@dataclass
class Project:
    """A project in a folder of its own. All its processes carry a mark by which they are found again."""

    root: Path
    mark: str = field(default_factory=lambda: uuid.uuid4().hex)
    environment: dict[str, str] = field(default_factory=dict)
    patience: float = 120

    def __post_init__(self) -> None:
        self.root.mkdir(parents=True, exist_ok=True)
        if not (self.root / "settings.ini").exists():
            self.configure()

    def configure(self, more: str = "", package: str = "") -> None:
        """Write settings.ini; `more` is added at its end."""
        text = f"[project]\nname = scratch\npackage = {package}\n\n{more}\n"
        (self.root / "settings.ini").write_text(text, "utf-8")

    def stage(self, name: str, parameters: str, *code: str, imports: str = "") -> Path:
        """Write the stage notebook `name` (`01_make`)."""
        return write_stage(self.root / "nbs" / "stages" / f"{name}.ipynb", parameters, *code, imports=imports)

    @property
    def state(self) -> Path:
        return Path(self.environment.get("MLOPS_NB_STATE", self.root / ".mlops"))

    def child_environment(self) -> dict[str, str]:
        """What our processes get: nothing of the session's own project, and the mark."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith("MLOPS_NB")}
        return {**kept, "MLOPS_NB_TEST": self.mark, **self.environment}

    def start(self, *words: str, before: tuple[str, ...] = (), **options: Any) -> subprocess.Popen[str]:
        """Start `mlops-nb WORDS` as a shell would: in a process group of its own. `before` is put before it."""
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True} | options
        return subprocess.Popen([*before, str(COMMAND), *words], cwd=self.root, env=self.child_environment(),
                                process_group=0, **options)

    def call(self, *words: str, before: tuple[str, ...] = ()) -> Answer:
        """Run `mlops-nb WORDS` to its end."""
        return self.finish(self.start(*words, before=before))

    def finish(self, process: subprocess.Popen[str]) -> Answer:
        """Wait for the end of what was started."""
        try:
            out, err = process.communicate(timeout=self.patience)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
        return Answer(process.returncode, out, err)

    def ask(self, *words: str) -> Answer:
        """Like `call`, in a fork of this process, which has imported everything already: 2 s less for a run.

        Nothing is replaced but the start of Python, so what only that could change is tested with `call`.
        """
        import mlops_nb.pipeline  # noqa: F401
        with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
            child = os.fork()
            if child == 0:
                code = 70
                try:
                    os.chdir(self.root)
                    os.environ.clear()
                    os.environ.update(self.child_environment())
                    sys.stdout, sys.stderr = out, err
                    main(list(words), prog_name="mlops-nb")
                except SystemExit as end:
                    code = end.code if isinstance(end.code, int) else int(bool(end.code))
                except BaseException:
                    traceback.print_exc()
                finally:
                    out.flush()
                    err.flush()
                    os._exit(code)
            code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            out.seek(0)
            err.seek(0)
            return Answer(code, out.read(), err.read())

    def run(self, *words: str, code: int = 0, warm: bool = False) -> str:
        """`mlops-nb run WORDS`, which must end with `code`; gives what was said. `warm` asks instead of calling."""
        answer = (self.ask if warm else self.call)("run", *words)
        assert answer.code == code, f"exit code {answer.code}, not {code}:\n{answer.out}{answer.err}"
        return answer.said

    def refuse(self, *words: str) -> str:
        """`mlops-nb run WORDS`, which must end with 2 and before anything runs; gives what was said."""
        answer = self.ask("run", *words)
        assert answer.code == 2, f"exit code {answer.code}, not 2:\n{answer.out}{answer.err}"
        assert not list(self.state.glob("runs/*")), "it was refused, and yet a run was begun"
        return answer.said

    def status(self, run: str = "") -> dict[str, Any]:
        """What `mlops-nb status --json` prints."""
        answer = self.ask("status", *([run] if run else []), "--json")
        assert answer.code == 0, answer.err
        return json.loads(answer.out)

    def statuses(self, run: str = "") -> dict[str, str]:
        """The status of each stage of a run; "reused" for one that did not run."""
        return {one["stage"]: "reused" if one["reused"] else one["status"] for one in self.status(run)["stages"]}

    def query(self, question: str) -> list[sqlite3.Row]:
        """Ask the state database directly, past the code under test."""
        connection = sqlite3.connect(self.state / "state.db")
        connection.row_factory = sqlite3.Row
        try:
            return connection.execute(question).fetchall()
        finally:
            connection.close()

    def catalog(self) -> list[tuple[str, str]]:
        """Names and standing of all artifacts, oldest first."""
        return [(row["name"], row["standing"]) for row in self.query("SELECT * FROM artifacts ORDER BY id")]

    def objects(self) -> list[Path]:
        """The folders of all contents that can be found by their hash."""
        return sorted((self.state / "objects").glob("??/*"))

    def output(self, stage: str, run: str = "") -> dict[str, Any]:
        """The executed notebook of a stage of a run (default: the newest), as JSON has it."""
        found = {one["stage"]: one["notebook"] for one in self.status(run)["stages"]}
        return json.loads(Path(found[stage]).read_text("utf-8"))

    def python(self, code: str, **environment: str) -> Answer:
        """Run Python in the project's folder, as a person at work outside any run."""
        done = subprocess.run([sys.executable, "-c", code], cwd=self.root, capture_output=True, text=True, check=False,
                              env=self.child_environment() | environment)
        return Answer(done.returncode, done.stdout, done.stderr)

    def living(self, with_nursery: bool = False) -> list[int]:
        """The ids of our processes that still run: runners, stages, kernels. The nursery is meant to stay."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                ours = f"MLOPS_NB_TEST={self.mark}".encode() in (folder / "environ").read_bytes().split(b"\0")
                stays = not with_nursery and (folder / "comm").read_text() in ("mlops_nb nest\n", "mlops_nb spare\n")
                if ours and not stays and "\nState:\tZ" not in (folder / "status").read_text():
                    found.append(int(folder.name))
            except OSError:
                continue  # it ended while we looked
        return found

    def stage_process(self, notebook: str) -> int:
        """The process id of the stage that executes a notebook: its output goes to the log beside it."""
        return next(pid for pid in self.living() if Path(f"/proc/{pid}/comm").read_text() == "mlops_nb stage\n"
                    and os.readlink(f"/proc/{pid}/fd/1").endswith(f"/{notebook}.log"))

    def wait_until_quiet(self) -> None:
        """Wait until none of our processes is left."""
        wait_until(lambda: not self.living(), "all processes of the project have ended", 15)

    def kill_all(self) -> None:
        """Kill whatever is left of our processes."""
        for pid in self.living(with_nursery=True):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue

    def hold(self, name: str = "hold") -> Path:
        """Make the file at which a cell of `holding(name)` stops; take it away and the cell goes on."""
        path = self.root / name
        path.write_text("", "utf-8")
        return path

    def wait_for_kernel(self, name: str = "hold") -> int:
        """Wait until a cell of `holding(name)` stands at its file, and give its kernel's process id."""
        told = self.root / f"{name}.kernel"
        text = wait_until(lambda: told.exists() and told.read_text("utf-8"), f"a cell stands at {name}")
        told.unlink()
        return int(text)


def make_flights(make_project: Callable[..., Project], name: str = "flights") -> Project:
    """The flights example as a project of one's own, as `mlops-nb new` makes it."""
    desk = make_project("desk")
    (desk.root / "settings.ini").unlink()
    assert desk.call("new", name, "--template", "flights").code == 0
    return make_project(f"desk/{name}")


def holding(name: str = "hold") -> str:
    """Source of a cell that stands still in the middle of its work as long as the project has a file `name`."""
    return f"""import os, pathlib, time
here = pathlib.Path(os.environ["MLOPS_NB_PROJECT"])
if (here / "{name}").exists():
    (here / "{name}.part").write_text(str(os.getpid()))
    (here / "{name}.part").rename(here / "{name}.kernel")
while (here / "{name}").exists():
    time.sleep(0.02)"""


def is_living(pid: int) -> bool:
    """Does a process still run? One that only waits to be buried does not."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


