"""The house: a module imports downward only, and the two wings do not meet below floor 4."""

import ast
import re
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
NOTEBOOKS = {path.stem.partition("_")[2]: path for path in sorted((ROOT / "nbs/api").glob("[0-9]*_*.ipynb"))}
NUMBERS = {name: int(path.stem.partition("_")[0]) for name, path in NOTEBOOKS.items()}
MODULES = {path.stem: path for path in (ROOT / "mlops_nb").glob("*.py") if not path.stem.startswith("_")}
LIFE_CYCLE = {name for name, number in NUMBERS.items() if 220 <= number < 300}
READING = {name for name, number in NUMBERS.items() if 140 <= number < 150}  # files and sources: pure as well
EXECUTION = {name for name, number in NUMBERS.items() if 200 <= number < 220}


def imports_of(module: str) -> set[str]:
    """The modules of mlops_nb that a module imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(MODULES[module].read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.level or (node.module or "").startswith("mlops_nb")):
            name = (node.module or "").removeprefix("mlops_nb").lstrip(".")
            found |= {name.partition(".")[0]} if name else {each.name for each in node.names}
        elif isinstance(node, ast.Import):
            found |= {each.name.split(".")[1] for each in node.names if each.name.startswith("mlops_nb.")}
    return found & set(MODULES)


def test_every_module_has_its_notebook():
    assert set(MODULES) == set(NOTEBOOKS)


@pytest.mark.parametrize("module", sorted(MODULES))
def test_a_module_imports_lower_numbers_only(module):
    upward = {other for other in imports_of(module) if NUMBERS[other] >= NUMBERS[module]}
    assert not upward, f"{module} ({NUMBERS[module]}) imports {upward}"


@pytest.mark.parametrize("module", sorted(LIFE_CYCLE))
def test_the_life_cycle_wing_is_pure(module):
    """One module a stage; siblings never import each other, nor anything that runs notebooks or keeps state."""
    allowed = {"errors", "checks", "rules", "duckdb_sessions", "formats", "signature", *READING}
    assert imports_of(module) <= allowed, f"{module} imports {imports_of(module) - allowed}"


@pytest.mark.parametrize("module", sorted(EXECUTION | {"planning", "reports", "workplaces", "pipeline"}))
def test_the_execution_wing_knows_nothing_of_models(module):
    assert not imports_of(module) & LIFE_CYCLE


def test_no_module_is_called_by_what_it_does_not_say():
    vague = {"core", "base", "utils", "helpers", "common", "manager", "validation", "misc"}
    assert not vague & set(MODULES)


def test_a_class_is_named_once():
    """Two classes of one name leave a reader, and Sphinx, guessing which is meant."""
    trees = [ast.parse(path.read_text("utf-8")) for path in MODULES.values()]
    names = Counter(node.name for tree in trees for node in tree.body if isinstance(node, ast.ClassDef))
    assert {name for name, times in names.items() if times > 1} == set()


def test_no_star_imports():
    for module, path in MODULES.items():
        assert not re.search(r"^\s*from \S+ import \*", path.read_text("utf-8"), re.MULTILINE), module
