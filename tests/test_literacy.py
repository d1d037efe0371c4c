"""The notebooks teach: the limits under which a notebook that exports is still a text and not a file."""

import ast
import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
API = sorted((ROOT / "nbs/api").glob("*.ipynb"))
STAGES = sorted((ROOT / "nbs/stages").glob("*.ipynb"))


def read_cells(notebook: Path) -> list[tuple[str, str]]:
    """(kind, source) of each cell."""
    return [(cell["cell_type"], "".join(cell["source"])) for cell in json.loads(notebook.read_text("utf-8"))["cells"]]


def exported_lines(source: str) -> int:
    """Lines of code that a cell exports: neither empty nor a directive."""
    if not re.search(r"^#\s*\|\s*exports?\b", source, re.MULTILINE):
        return 0
    return sum(bool(line.strip()) and not re.match(r"#\s*\|", line) for line in source.splitlines())


def words(cells: list[tuple[str, str]]) -> int:
    return sum(len(re.findall(r"\w+", source)) for kind, source in cells if kind == "markdown")


def test_the_library_explains_itself():
    cells = [cell for notebook in API for cell in read_cells(notebook)]
    assert words(cells) / sum(exported_lines(source) for kind, source in cells if kind == "code") >= 2


@pytest.mark.parametrize("notebook", API, ids=lambda path: path.stem)
def test_a_notebook_that_exports_is_a_lesson(notebook):
    cells = read_cells(notebook)
    code = [source for kind, source in cells if kind == "code"]
    prose = [source for kind, source in cells if kind == "markdown"]
    exported = [exported_lines(source) for source in code]
    hidden = [source for source in code if re.search(r"^#\s*\|\s*hide\b", source, re.MULTILINE)]
    assert len(code) / len(prose) <= 2.5, "code cells per markdown cell"
    assert len(hidden) / len(code) <= 0.1, "hidden share of code cells"
    assert max(exported) <= 50, "largest export cell"
    assert sum(exported) <= 250, "exported lines"
    assert len(cells) <= 90, "cells"
    assert words(cells) / sum(exported) >= 1.5, "words a line; over the library it is 2"


@pytest.mark.parametrize("notebook", API, ids=lambda path: path.stem)
def test_functions_are_short_and_documented(notebook):
    for kind, source in read_cells(notebook):
        if kind != "code" or not exported_lines(source):
            continue
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                assert node.end_lineno - node.lineno < 40, f"{node.name} is long: usually two ideas"
        for node in ast.parse(source).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                assert ast.get_docstring(node), f"{node.name} has no docstring"


@pytest.mark.parametrize("notebook", STAGES, ids=lambda path: path.stem)
def test_a_stage_notebook_is_short_and_defines_nothing(notebook):
    cells = read_cells(notebook)
    assert 12 <= len(cells) <= 20
    assert not any(re.search(r"^\s*(def|class) ", source, re.MULTILINE) for kind, source in cells if kind == "code")
    assert not any("nbdev_export" in source for _, source in cells)
    prose, code = (sum(kind == each for kind, _ in cells) for each in ("markdown", "code"))
    assert code / prose <= 2.5


@pytest.mark.parametrize("notebook", API + STAGES, ids=lambda path: path.stem)
def test_notebooks_are_clean(notebook):
    """No outputs, no counts, no metadata but tags: what git sees is what somebody wrote."""
    for cell in json.loads(notebook.read_text("utf-8"))["cells"]:
        assert set(cell["metadata"]) <= {"tags"}
        assert cell["cell_type"] != "code" or (cell["outputs"] == [] and cell["execution_count"] is None)
    tags = [cell["metadata"].get("tags", []) for cell in json.loads(notebook.read_text("utf-8"))["cells"]]
    assert (["parameters"] in tags) == (notebook in STAGES)
