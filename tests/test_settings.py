"""settings.ini is the one place: whatever says the same thing elsewhere is held to it."""

import json
import re
import tomllib
from configparser import ConfigParser
from importlib.metadata import metadata, version
from pathlib import Path

import mlops_nb
from mlops_nb.graph import build_graph, read_contracts
from mlops_nb.settings import read_project

ROOT = Path(__file__).parent.parent
SETTINGS = ConfigParser(interpolation=None)
SETTINGS.read(ROOT / "settings.ini", encoding="utf-8")
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


def test_name_and_version_agree_everywhere():
    package = SETTINGS["package"]
    assert PYPROJECT["project"]["name"] == package["name"]
    assert mlops_nb.__version__ == package["version"] == version("mlops_nb")
    assert package["version"] in (ROOT / "CHANGELOG.md").read_text("utf-8")


def test_pyproject_holds_nothing_of_its_own():
    assert set(PYPROJECT["project"]) == {"name", "dynamic"}
    built = metadata("mlops_nb")
    assert built["Summary"] == SETTINGS["package"]["description"]
    assert built["Requires-Python"] == f">={SETTINGS['package']['min_python']}"


def test_nbdev_works_where_the_project_does():
    project = SETTINGS["project"]
    assert PYPROJECT["tool"]["nbdev"]["nbs_path"] == project["notebooks"]
    assert PYPROJECT["tool"]["nbdev"]["lib_path"] == project["package"]
    assert PYPROJECT["tool"]["nbdev"]["allowed_cell_metadata_keys"] == ["tags"], "or nbdev-clean strips `parameters`"


def test_every_requirement_is_locked_and_no_index_is_named():
    lock = (ROOT / "constraints.txt").read_text("utf-8")
    locked = {re.split(r"[=<>;\[ ]", line)[0].lower().replace("_", "-") for line in lock.splitlines()}
    wanted = SETTINGS["package"]["requirements"].split() + [
        each for line in SETTINGS["package"]["extras"].splitlines() if line for each in line.split(":", 1)[1].split()]
    for requirement in wanted:
        name = re.split(r"[=<>]", requirement)[0].lower().replace("_", "-")
        assert not name or name in locked, f"{name} is not in constraints.txt: make lock"
    assert "://" not in lock and "--index" not in lock and "--find" not in lock


def test_environments_name_real_stages_and_parameters():
    project = read_project(ROOT)
    graph = build_graph(read_contracts(project.stages))
    for environment in project.environments.values():
        for stage in environment.stages:
            assert stage in graph.contracts
        for key, value in {**environment.parameters, **environment.bindings}.items():
            stage, _, name = key.partition(".")
            graph.contracts[stage].check(name, value)


def test_the_flights_template_is_this_project():
    """`mlops-nb new --template flights` gives what stands here, under another name."""
    ours = (ROOT / "settings.ini").read_text("utf-8").split("[project]", 1)[1]
    template = (ROOT / "mlops_nb/templates/flights/settings.ini").read_text("utf-8").split("[project]", 1)[1]
    assert template.split("notebooks", 1)[1].strip() == ours.split("notebooks", 1)[1].strip()


def test_no_path_or_host_of_a_machine_is_committed():
    for notebook in (ROOT / "nbs").rglob("*.ipynb"):
        text = json.dumps(json.loads(notebook.read_text("utf-8"))["cells"])
        assert "/work/" not in text and "/root/" not in text, notebook
