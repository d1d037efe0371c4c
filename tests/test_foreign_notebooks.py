"""Notebooks that others have written, executed by papermill as it comes and with our engine: the same outputs.

They come with the packages of their authors and are executed where they are: papermill brings some in its installation,
nbclient in its published source. None is kept here.
"""

import json
import os
import subprocess
import sys
import tarfile
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

import nbformat
import pytest
from beside import Job, Lane, comparable

LEFT_OUT = {
    "keyboard_interrupt": "loops until somebody presses Ctrl-C",
    "Interrupt": "loops for ever; nbclient has it for its limits of time",
    "Parallel Execute A": "waits for its sibling", "Parallel Execute B": "waits for its sibling",
    "Autokill": "kills its kernel: papermill leaves the cell without a word, ours says what killed it",
}


def read_cells(text: str) -> list[dict[str, Any]] | None:
    """The cells of a notebook in today's form; None for one that is no Python or too old to be read."""
    try:
        nb = nbformat.reads(text, as_version=4)
    except Exception:
        return None
    told = nb.metadata.get("language_info", {}).get("name", "python")
    language = nb.metadata.get("kernelspec", {}).get("language", told)
    if language != "python":
        return None
    return [{key: value for key, value in json.loads(json.dumps(cell)).items() if key != "id"} for cell in nb.cells]


def find_published(name: str) -> Path | None:
    """The published source of a package in the version that is installed here, from the package index."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mlops_nb-benchmarks" / "sources"
    wanted = f"{name}-{version(name)}.tar.gz"
    if not (folder / wanted).exists():
        subprocess.run([sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", name, "--dest",
                        str(folder), f"{name}=={version(name)}"], check=False, capture_output=True)
    return folder / wanted if (folder / wanted).exists() else None


def list_notebooks() -> dict[str, str]:
    """The text of each notebook by the package and its name."""
    brought = Path(str(files("papermill"))) / "tests" / "notebooks"
    found = {f"papermill: {path.stem}": path.read_text("utf-8") for path in sorted(brought.rglob("*.ipynb"))}
    if source := find_published("nbclient"):
        with tarfile.open(source) as archive:
            for member in sorted(archive.getmembers(), key=lambda one: one.name):
                if member.name.endswith(".ipynb") and (file := archive.extractfile(member)):
                    found[f"nbclient: {Path(member.name).stem}"] = file.read().decode("utf-8")
    return {name: text for name, text in found.items() if name.partition(": ")[2] not in LEFT_OUT}


JOBS = [Job(name, cells) for name, text in list_notebooks().items() if (cells := read_cells(text)) is not None]


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """Each notebook executed by both, in two processes beside each other."""
    folder = tmp_path_factory.mktemp("foreign")
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("MLOPS_NB", "PYTEST"))}
    lanes = [Lane(who, folder, JOBS, kept) for who in ("mlops", "stock")]
    yield lambda name: [lane.read(name) for lane in lanes]
    for lane in lanes:
        lane.kill()


def test_there_are_enough_of_them():
    if not any(job.name.startswith("nbclient") for job in JOBS):
        (pytest.fail if os.environ.get("CI") else pytest.skip)("no package index with sources can be reached")
    assert len(JOBS) >= 35


@pytest.mark.parametrize("job", JOBS, ids=lambda job: job.name)
def test_a_notebook_of_others_gives_the_same(both, job):
    ours, stock = both(job.name)
    assert (ours.error, ours.text == "") == (stock.error, stock.text == "")
    if ours.text:
        assert comparable(ours.notebook) == comparable(stock.notebook)
