"""Where nothing may be forked: a pool of processes that were started ahead of time, behind the same interface."""

import json
import os
from pathlib import Path

import pytest
from projects import Project, is_living, wait_until


@pytest.fixture
def project(make_project) -> Project:
    """A project whose nursery keeps a pool; its stage says where it runs."""
    project = make_project()
    project.environment |= {"MLOPS_NB_NURSERY": "pool", "MLOPS_NB_NURSERY_IDLE": "60"}
    project.configure(package="scratch")
    project.stage("01_look", 'number: int = 0\nfound: Output = "found"',
                  "save(found, {'parent': os.getppid(), 'name': open(f'/proc/{os.getpid()}/comm').read().strip(),\n"
                  "             'imported': before, 'random': random.random()})",
                  imports="import sys\nbefore = 'pandas' in sys.modules\nimport os, random\nimport pandas")
    return project


def look(project: Project, number: int) -> dict:
    project.run("-p", f"look.number={number}", warm=True)
    show = "import json; from mlops_nb.artifacts import load; print(json.dumps(load('look.found')))"
    return json.loads(project.python(show).out)


def test_stages_run_in_processes_of_the_pool(project):
    """They have imported what the project needs, are children of a process that imports nothing, and differ."""
    first, second = look(project, 1), look(project, 2)
    assert first["name"] == second["name"] == "mlops_nb kernel" and first["imported"] and second["imported"]
    assert first["parent"] == second["parent"] and first["random"] != second["random"]
    assert "pandas" not in Path(f"/proc/{first['parent']}/maps").read_text(), "the nursery itself is small"
    program = Path(f"/proc/{first['parent']}/cmdline").read_text()
    assert "mlops_nb.pools import serve" in program


def test_a_kernel_that_dies_and_an_error_are_told_as_ever(project):
    project.stage("02_dies", 'number: int = 0\ngone: Output = "gone"', "os._exit(7)", imports="import os")
    said = project.run("dies", code=1, warm=True)
    assert "the kernel ended by itself with exit code 7" in said and "dies, cell 4" in said
    project.stage("02_dies", 'number: int = 0\ngone: Output = "gone"', "1 / 0")
    assert "ZeroDivisionError" in project.run("dies", "--keep", code=1, warm=True)
    assert "dies" in project.ask("kernels").said
    project.stage("02_dies", 'number: int = 0\ngone: Output = "gone"', "save(gone, [1])")
    said = project.run("--resume", warm=True)
    assert "goes on at cell" in said, said


def test_an_edited_function_is_what_the_next_stage_runs(project):
    from projects import cell, write_notebook

    for body in ("'old'", "'new one'"):
        write_notebook(project.root / "nbs" / "lib.ipynb", [
            cell("code", "#| default_exp lib"), cell("code", f"#| export\ndef answer():\n    return {body}")])
        project.stage("02_says", 'out: Output = "out"', "save(out, answer())", imports="from scratch.lib import answer")
        project.run("says", warm=True)
        shown = project.python("from mlops_nb.artifacts import load; print(load('says.out'))").out
        assert shown.strip() == body.strip("'")


def test_the_pool_ends_when_it_is_told_to(project):
    parent = look(project, 3)["parent"]
    assert is_living(parent)
    assert f"process {parent}" in project.ask("warm").said
    assert "ended" in project.ask("warm", "--stop").said
    wait_until(lambda: not is_living(parent), "the nursery of the pool has ended", 10)
    wait_until(lambda: not project.living(with_nursery=True), "and the processes that waited", 10)
    assert os.environ.get("MLOPS_NB_NURSERY") != "pool"
