"""Notebooks and modules say the same, and whatever a user can call is written about."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mlops_nb.cli import main
from mlops_nb.exporting import list_exports
from mlops_nb.graph import read_contracts
from mlops_nb.settings import read_project

ROOT = Path(__file__).parent.parent


def test_every_module_is_what_its_notebook_exports(tmp_path):
    """Export everything again, somewhere else, and compare byte for byte."""
    copy = tmp_path / "copy"
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".venv", ".git", ".mlops", "_docs", "_proc", "*.egg-info",
                                                              "build", "dist", ".*_cache"))
    for module in (copy / "mlops_nb").glob("*.py"):
        if module.name not in ("__init__.py",):
            module.unlink()
    subprocess.run([str(Path(sys.executable).with_name("nbdev-export"))], cwd=copy, check=True, capture_output=True)
    for module in [*list_exports(read_project(ROOT)).values(), ROOT / "mlops_nb/_modidx.py"]:
        assert (copy / "mlops_nb" / module.name).read_text("utf-8") == module.read_text("utf-8"), module.name


@pytest.mark.parametrize("command", sorted(main.commands))
def test_every_command_is_documented(command):
    assert f"mlops-nb {command}" in (ROOT / "README.md").read_text("utf-8")
    assert main.commands[command].help


@pytest.mark.parametrize("stage", sorted(read_contracts(ROOT / "nbs/stages")))
def test_every_stage_and_parameter_is_documented(stage):
    contract = read_contracts(ROOT / "nbs/stages")[stage]
    assert stage.replace("_", " ") in (ROOT / "README.md").read_text("utf-8").replace("_", " ")
    assert [one.name for one in contract.parameters if not one.help] == []
