"""The same six steps as one plain script, as a project of ours, and in the form of each peer."""

import inspect
import json
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import steps
from measuring import BIN, Absent, Place, peer_bin, peer_needs
from notebooks import write_notebook
from steps import FLOW


def source_of(step: str) -> str:
    """The source of a step's function, with the import that all of them need."""
    return "import os\nfrom typing import Any\n\n\n" + inspect.getsource(getattr(steps, step))


def call_of(step: str) -> str:
    """The line that runs a step on names: `rows = clean(table)`."""
    inputs, output = FLOW[step]
    return f"{output} = {step}({', '.join(inputs)})"


def file_of(name: str) -> str:
    """The file that keeps a result between two steps, for those who keep results in files of their own."""
    return f"data/{name}." + {"model": "joblib", "metrics": "json"}.get(name, "parquet")


def reading(name: str) -> str:
    """Source that reads a kept result."""
    how = {"model": "joblib.load", "metrics": "json.load"}.get(name, "pandas.read_parquet")
    return f"import {how.split('.')[0]}\n{name} = {how}({file_of(name)!r})"


def writing(name: str) -> str:
    """Source that keeps a result."""
    how = {"model": f"import joblib\njoblib.dump(model, {file_of(name)!r})",
           "metrics": f"import json\njson.dump(metrics, open({file_of(name)!r}, 'w'))"}
    return how.get(name, f"{name}.to_parquet({file_of(name)!r})")


def whole_step(step: str) -> str:
    """A step that reads its inputs from files and keeps its output in one."""
    inputs, output = FLOW[step]
    return "\n".join([source_of(step), *map(reading, inputs), call_of(step), writing(output)])


@dataclass
class Contestant:
    """One form of the pipeline in a folder of its own: the command that runs it, the file that holds the training."""

    here: Place
    folder: Path
    command: list[str | Path]
    training: Path

    def environment(self) -> dict[str, str]:
        """What its processes are told besides; nothing has run yet then."""
        (self.folder / "steps.log").write_text("", "utf-8")
        return {"STEPS_LOG": str(self.folder / "steps.log"), "STEPS_TABLE": str(self.folder.parent / "table.csv")}

    def run(self) -> float:
        """Run it; wall seconds. Which steps ran is in `ran` afterwards."""
        return self.here.seconds(self.command, self.folder, **self.environment())

    def run_and_kill(self) -> None:
        """Run it, and kill all of its processes in the middle of the training."""
        process = subprocess.Popen(list(map(str, self.command)), cwd=self.folder, stdin=subprocess.DEVNULL,
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                   env=self.here.environment | self.environment())
        until = time.monotonic() + 120
        while "train" not in self.ran:
            if process.poll() is not None or time.monotonic() > until:
                raise Absent("it ended before it could be killed")
            time.sleep(0.01)
        time.sleep(0.2)
        self.here.kill_all()
        process.wait()

    @property
    def ran(self) -> list[str]:
        """The steps that the last run ran, or has begun."""
        return (self.folder / "steps.log").read_text("utf-8").split()

    def edit_training(self) -> None:
        """Change the training step as a person would."""
        text = self.training.read_text("utf-8")
        assert "max_depth=10" in text
        self.training.write_text(text.replace("max_depth=10", "max_depth=11"), "utf-8")


def write(folder: Path, files: dict[str, str]) -> None:
    """Write text files into a folder."""
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, "utf-8")


def plain_script(here: Place, folder: Path) -> Contestant:
    """One script: everything stays in memory, only model and metrics are written."""
    text = "\n\n".join([*map(source_of, FLOW), *map(call_of, FLOW), writing("model"), writing("metrics")])
    write(folder, {"all.py": text, "data/.keep": ""})
    return Contestant(here, folder, [sys.executable, "all.py"], folder / "all.py")


def ours(here: Place, folder: Path) -> Contestant:
    """Six notebooks of a mlops_nb project."""
    producer = {output: step for step, (_, output) in FLOW.items()}
    stages = folder / "nbs" / "stages"
    for number, (step, (inputs, output)) in enumerate(FLOW.items(), 1):
        lines = [f'{name}: Input = "{producer[name]}.{name}"  # from {producer[name]}' for name in inputs]
        lines.append(f'{output}: Output = "{output}"  # for what follows')
        call = f"{step}({', '.join(f'read({name})' for name in inputs)})"
        write_notebook(stages / f"{number:02d}_{step}.ipynb", [
            "from mlops_nb.artifacts import load as read, save\nfrom mlops_nb.contract import Input, Output",
            "\n".join(lines), source_of(step), f"save({output}, {call})"], parameters=1)
    write(folder, {"settings.ini": "[project]\nname = six\npackage =\n"})
    return Contestant(here, folder, [BIN / "mlops-nb", "run"], stages / "05_train.ipynb")


def papermill(here: Place, folder: Path) -> Contestant:
    """Six notebooks, executed by papermill one after another in a shell loop."""
    for step in FLOW:
        write_notebook(folder / f"{step}.ipynb", [whole_step(step)])
    write(folder, {"data/.keep": ""})
    loop = (f"set -e; for step in {' '.join(FLOW)}; do "
            f"'{BIN}/papermill' --no-progress-bar $step.ipynb data/$step.ipynb; done")
    return Contestant(here, folder, ["sh", "-c", loop], folder / "train.ipynb")


def kedro(here: Place, folder: Path) -> Contestant:
    """Six Kedro nodes in one process; results stay in memory, as they do where no catalog names them."""
    nodes = [f"node({step}, {inputs or None!r}, {output!r}, name={step!r})" for step, (inputs, output) in FLOW.items()]
    kedro_version = peer_needs("kedro")[0].partition("==")[2]
    write(folder, {
        "pyproject.toml": '[tool.kedro]\npackage_name = "steps"\nproject_name = "steps"\n'
                          f'kedro_init_version = "{kedro_version}"\nsource_dir = "src"\n',
        "conf/base/catalog.yml": "", "conf/base/parameters.yml": "", "conf/local/.keep": "",
        "src/steps/__init__.py": "",
        "src/steps/settings.py": "", "src/steps/nodes.py": "\n\n".join(map(source_of, FLOW)),
        "src/steps/pipeline_registry.py": "from kedro.pipeline import node, pipeline\n\n"
                                        f"from steps.nodes import {', '.join(FLOW)}\n\n\n"
                                        "def register_pipelines():\n"
                                        f"    return {{'__default__': pipeline([{', '.join(nodes)}])}}\n"})
    return Contestant(here, folder, [peer_bin("kedro") / "kedro", "run"], folder / "src/steps/nodes.py")


def dvc(here: Place, folder: Path) -> Contestant:
    """Six DVC stages, each a script of its own."""
    bin = peer_bin("dvc")
    stages = {step: {"cmd": f"{bin}/python {step}.py", "deps": [f"{step}.py", *map(file_of, inputs)],
                     "outs": [file_of(output)]} for step, (inputs, output) in FLOW.items()}
    write(folder, {"dvc.yaml": json.dumps({"stages": stages}), "data/.keep": ""} | {
        f"{step}.py": whole_step(step) for step in FLOW})
    here.seconds([bin / "dvc", "init", "--no-scm", "--quiet"], folder)
    return Contestant(here, folder, [bin / "dvc", "repro"], folder / "train.py")


def ploomber(here: Place, folder: Path) -> Contestant:
    """Six Ploomber tasks, each a notebook."""
    tasks = []
    for step, (inputs, output) in FLOW.items():
        before = [one for one, (_, made) in FLOW.items() if made in inputs]
        write_notebook(folder / f"{step}.ipynb", [f"upstream = {before or None!r}\nproduct = None", whole_step(step)])
        tasks.append({"source": f"{step}.ipynb", "product": {"nb": f"out/{step}.ipynb", "data": file_of(output)}})
    write(folder, {"pipeline.yaml": json.dumps({"tasks": tasks}), "data/.keep": ""})
    return Contestant(here, folder, [peer_bin("ploomber") / "ploomber", "build"], folder / "train.ipynb")


def ours_with_warm_process(here: Place, folder: Path) -> Contestant:
    """The same, on any but the first run of a day: the libraries are imported already."""
    contestant = ours(here, folder)
    with suppress(Absent):
        here.seconds([BIN / "mlops-nb", "warm"], folder, **contestant.environment())
    return contestant


CONTESTANTS = {"mlops_nb": ours_with_warm_process, "mlops_nb, cold": ours, "plain script": plain_script,
               "papermill": papermill, "kedro": kedro, "dvc": dvc, "ploomber": ploomber}
