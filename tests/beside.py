"""Notebooks executed by stock papermill and by the engine mlops_nb, side by side, and made comparable.

`python tests/beside.py WHO LANE FOLDER` executes each notebook that stands in LANE/jobs.json: in a process of its own,
because papermill changes its working folder, and because ipykernel looks for a mark of pytest's.
"""

import copy
import io
import json
import logging
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

ENGINES = {"stock": None, "mlops": "mlops_nb"}  # both names have five letters, so paths are of one length


@dataclass
class Job:
    """A notebook to execute: `cells` as `cell` makes them, papermill's `options` and `parameters`."""

    name: str
    cells: list[dict[str, Any]]
    options: dict[str, Any] = field(default_factory=dict)
    parameters: dict[str, Any] = field(default_factory=dict)
    engine: dict[str, Any] = field(default_factory=dict)  # options that only ours knows
    metadata: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    files: list[str] = field(default_factory=list)  # of stdout_file and stderr_file


@dataclass
class Result:
    """What came of it: the notebook's text as it was written, the error papermill raised, what it logged."""

    text: str
    error: str = ""
    message: str = ""
    seconds: float = 0
    log: list[str] = field(default_factory=list)
    files: dict[str, str] = field(default_factory=dict)
    left: dict[str, str] = field(default_factory=dict)

    @property
    def notebook(self) -> dict[str, Any]:
        return json.loads(self.text)


def cell(source: str, *tags: str, kind: str = "code", **more: Any) -> dict[str, Any]:
    """One cell; its id comes from its place."""
    made = {"cell_type": kind, "metadata": {"tags": list(tags)} if tags else {}, "source": source, **more}
    return made | ({"execution_count": None, "outputs": []} if kind == "code" else {})


def read_sections(path: Path) -> dict[str, list[dict[str, Any]]]:
    """The cells of each section of a file: `#: name` begins a section, `# %% [tag]` a cell."""
    sections: dict[str, list[dict[str, Any]]] = {}
    for part in re.split(r"^#: ", path.read_text("utf-8"), flags=re.MULTILINE)[1:]:
        name, _, body = part.partition("\n")
        found = re.findall(r"^# %%(?: \[([^\]\n]*)\])?\n(.*?)(?=^# %%|\Z)", body, flags=re.MULTILINE | re.DOTALL)
        sections[name] = [cell(source.removesuffix("\n"), *filter(None, [tag])) for tag, source in found]
    return sections


class Lane:
    """Notebooks executed one after another, by WHO, in a process of its own.

    Stock papermill sometimes waits for ever for a message that its kernel has sent. Nothing of ours is measured by
    that: its lane begins again at that notebook, twice at most. Ours has one try.
    """

    def __init__(self, who: str, folder: Path, jobs: list[Job], environment: dict[str, str]):
        self.who, self.folder, self.jobs, self.environment = who, folder, jobs, environment
        self.tries = 3 if who == "stock" else 1
        self.begin()

    def begin(self, name: str = "") -> None:
        """Execute all notebooks, or those from `name` on."""
        self.tries -= 1
        names = [job.name for job in self.jobs]
        lane = Path(tempfile.mkdtemp(dir=self.folder, prefix=self.who))
        jobs = self.jobs[names.index(name) if name else 0:]
        (lane / "jobs.json").write_text(json.dumps([asdict(job) for job in jobs]))
        if name:
            shutil.rmtree(self.folder / self.who / name, ignore_errors=True)
        with open(lane / "log", "wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, __file__, self.who, str(lane), str(self.folder)],
                env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)

    def kill(self) -> None:
        """End it."""
        self.process.kill()
        self.process.wait()

    def read(self, name: str, patience: float = 180) -> Result:
        """Wait for the result of one notebook."""
        path, until = self.folder / self.who / name / "result.json", time.monotonic() + patience
        while not path.exists():
            ended, late = self.process.poll() is not None, time.monotonic() > until
            if late and not ended and self.tries:
                self.kill()
                self.begin(name)
                until = time.monotonic() + patience
            elif (late or ended) and not path.exists():
                raise AssertionError(f"no result of {name} by {self.who} ({self.process.poll()}); see {self.folder}")
            time.sleep(0.02)
        return Result(**json.loads(path.read_text("utf-8")))


# In the process of a lane


def execute_one(who: str, job: Job, folder: Path) -> Result:
    """Execute one notebook with papermill, in a working folder of its own."""
    import papermill
    from papermill.utils import chdir

    work = folder / who / job.name
    (work / "cwd").mkdir(parents=True)
    cells = [one | {"id": f"cell{number:04}"} for number, one in enumerate(job.cells)]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}}
    (work / "in.ipynb").write_text(
        json.dumps({"cells": cells, "metadata": kernel | job.metadata, "nbformat": 4, "nbformat_minor": 5})
    )
    files = {name: open(work / name, "w+", encoding="utf-8", errors="backslashreplace") for name in job.files}
    options = job.options | (job.engine if who == "mlops" else {}) | files
    os.environ.update(job.environment)
    log = io.StringIO()
    logging.getLogger("papermill").handlers = [logging.StreamHandler(log)]
    logging.getLogger("papermill").setLevel(logging.INFO)
    result, began = Result(""), time.monotonic()
    try:
        with chdir("/"):
            papermill.execute_notebook(
                work / "in.ipynb",
                work / "out.ipynb",
                parameters=job.parameters,
                engine_name=ENGINES[who],
                progress_bar=False,
                cwd=work / "cwd",
                **options,
            )
    except BaseException as error:
        result.error, result.message = type(error).__name__, str(error)
    result.seconds = time.monotonic() - began
    for name in job.environment:
        del os.environ[name]
    result.text = (work / "out.ipynb").read_text("utf-8") if (work / "out.ipynb").exists() else ""
    result.log = log.getvalue().splitlines()
    for name, file in files.items():
        file.close()
        result.files[name] = (work / name).read_text("utf-8")
    result.left = {
        str(path.relative_to(work / "cwd")): path.read_text("utf-8", "replace")
        for path in sorted((work / "cwd").rglob("*"))
        if path.is_file() and path.suffix in ("", ".py", ".txt")
    }
    return result


def main(who: str, lane: str, folder: str) -> None:
    """Execute what stands in the lane's jobs.json."""
    for told in json.loads((Path(lane) / "jobs.json").read_text()):
        job = Job(**told)
        result = execute_one(who, job, Path(folder))
        path = Path(folder) / who / job.name / "result.json"
        path.with_suffix(".part").write_text(json.dumps(asdict(result)))
        path.with_suffix(".part").rename(path)


# What may differ

NOISE = [
    (r"0x[0-9a-f]{6,16}", "0xADDRESS"),
    (r"ipykernel_\d+/\d+\.py", "ipykernel_PID/NUMBER.py"),
    (r"(?:CPU times|Wall time|user|total|Compiler|sys)(?:\x1b\[\d*m)?: [^\n]*", "TIMES"),
    (r"[\d.]+ [nµμmu]?s ± [^\n]*", "TIMES"),
    (r"Ran 1 test in [\d.]+s", "Ran 1 test"),
    (r"Task-\d+", "Task-N"),
    (r"(/stock/|/mlops/)", "/WHO/"),
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[\d.:+Z]*", "TIME"),
]
ID = r"(?<![0-9a-f])[0-9a-f]{32}(?![0-9a-f])|\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b"


def quiet(text: str) -> str:
    """A text without addresses, process ids and measured times."""
    for pattern, instead in NOISE:
        text = re.sub(pattern, instead, text)
    return text


def quieten(value: Any, met: dict[str, str]) -> Any:
    """A notebook's part without noise in its texts; random ids are numbered in the order in which they are `met`."""
    if isinstance(value, dict):
        return {quieten(key, met): quieten(each, met) for key, each in value.items()}
    if isinstance(value, list):
        return [quieten(each, met) for each in value]
    if isinstance(value, str):
        return re.sub(ID, lambda found: met.setdefault(found.group(), f"ID{len(met)}"), quiet(value))
    return value


def join_streams(outputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Outputs in which the streams between two other outputs are one text each: where ipykernel cuts them, and which of
    the two it sends first, is decided by timers."""
    joined: list[dict[str, Any]] = []
    streams: dict[str, list[str]] = {}
    for one in [*outputs, {"output_type": "end"}]:
        if one["output_type"] == "stream":
            streams.setdefault(one["name"], []).extend(one["text"])
            continue
        for name, texts in sorted(streams.items()):
            joined.append({"name": name, "output_type": "stream", "text": "".join(texts).splitlines(keepends=True)})
        streams = {}
        joined.append(copy.deepcopy(one))
    return joined[:-1]


def comparable(notebook: dict[str, Any]) -> dict[str, Any]:
    """A notebook without what differs between any two executions by the same engine: times, ids, addresses."""
    made = copy.deepcopy(notebook)
    for one in made["cells"]:
        if {"injected-parameters", "papermill-error-cell-tag"} & set(one["metadata"].get("tags", [])):
            one["id"] = "by papermill"
        for key in ("start_time", "end_time", "duration"):
            if one["metadata"].get("papermill", {}).get(key) is not None:
                one["metadata"]["papermill"][key] = key
        if "outputs" in one:
            one["outputs"] = join_streams(one["outputs"])
    for key in ("start_time", "end_time", "duration"):
        made["metadata"]["papermill"][key] = key
    widgets = made["metadata"].get("widgets", {}).get("application/vnd.jupyter.widget-state+json", {})
    if "state" in widgets:  # they stand in the order of their random ids
        widgets["state"] = sorted(
            re.sub(ID, "ID", json.dumps(one, sort_keys=True)) for one in widgets["state"].values()
        )
    return quieten(made, {})


if __name__ == "__main__":
    main(*sys.argv[1:])
