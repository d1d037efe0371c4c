"""Random packages, mutated: whatever changes what a stage computes must change its fingerprint. Seeds are fixed."""

import random
import re
import sys
from pathlib import Path

import pytest
from projects import cell, write_notebook

from mlops_nb.contract import read_contract
from mlops_nb.fingerprints import list_ingredients
from mlops_nb.settings import read_project
from mlops_nb.sources import Sources
from mlops_nb.store import hash_json
from mlops_nb.symbols import Trails

MODULES = ("a", "b", "c")
USES = {"function": "{0}(2)", "class": "{0}().go(2)", "value": "{0}", "register": "sorted(f(1) for f in {0}.values())"}
DEFINITIONS = [
    ("function", "def {name}(x, y={k}):\n    return (x + y + {one} + {two}) % 10007"),
    ("function", "def {name}(x):\n    {name} = [x for x in range({k} % 7)]\n    return len({name}) + {one}"),
    ("function", "def {name}(x, f={k}):\n    def inner(x):\n        return x + {one}\n    return inner(x) + f"),
    ("function", "if {k} > 50:\n    def {name}(x): return x + {one}\nelse:\n    {name} = lambda x: x * {k} + {two}"),
    ("function", "@put\ndef {name}(x):\n    return x + {one} + {k}"),
    ("class", "class {name}:\n    step = {k}\n    def go(self, x):\n        return (x * self.step + {one}) % 10007"),
    ("value", "{name} = {k} + 1"), ("value", "{name} = [{k}]\n{name}.append({one})\n{name} = sum({name}) % 1009")]
REGISTER = "REG = {}\ndef put(f):\n    REG[f.__name__] = f\n    return f"
IMPORTS = [("from .{module} import {name} as {here}", "{here}"), ("from . import {module} as {here}", "{here}.{name}"),
           ("import shop.{module}", "shop.{module}.{name}"),
           ("try:\n    from .{module} import {name} as {here}\nexcept ImportError:\n    {here} = None", "{here}")]


def write_module(rng: random.Random, module: str, before: list[tuple[str, str, str]]
                 ) -> tuple[str, list[tuple[str, str]]]:
    """A module's source, and what it defines (name and kind); `before` is what other modules define."""
    lines, names, made = [REGISTER], {}, [("REG", "register")]
    for number, (other, name, kind) in enumerate(rng.sample(before, min(len(before), rng.randint(0, 4)))):
        line, use = rng.choice(IMPORTS)
        lines.append(line.format(module=other, name=name, here=f"i{number}"))
        names[use.format(module=other, name=name, here=f"i{number}")] = kind

    def term() -> str:
        if not names or rng.random() < 0.3:
            return str(rng.randint(0, 99))
        use = rng.choice(list(names))
        return USES[names[use]].format(use) if names[use] != "register" else f"sum(f(1) for f in {use}.values())"

    for number in range(rng.randint(3, 6)):
        kind, pattern = rng.choice(DEFINITIONS)
        name = f"s{module}{number}"
        lines.append(pattern.format(name=name, k=rng.randint(0, 99), one=term(), two=term()))
        names[name] = kind
        made.append((name, kind))
    return "\n".join(lines) + "\n", made


def write_cells(rng: random.Random, made: list[tuple[str, str, str]]) -> list[str]:
    """The cells of a stage that uses some of what was made."""
    imports, uses = [], []
    for number, (module, name, kind) in enumerate(rng.sample(made, 2)):
        line, use = rng.choice([(f"from shop.{module} import {name}", name),
                                (f"from shop import {module}", f"{module}.{name}"),
                                (f"import shop.{module} as m{number}", f"getattr(m{number}, {name!r})")])
        imports.append(line)
        uses.append(USES[kind].format(use))
    return ["\n".join(imports), f"result = [{', '.join(uses)}]"]


def compute(root: Path, cells: list[str], monkeypatch: pytest.MonkeyPatch) -> str:
    """What the cells compute with the package as it is now."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "shop"]:
        del sys.modules[name]
    namespace: dict = {}
    with monkeypatch.context() as patch:
        patch.syspath_prepend(str(root))
        patch.setattr(sys, "dont_write_bytecode", True)
        for source in cells:
            exec(source, namespace)
    return repr(namespace["result"])


def fingerprint(root: Path, cells: list[str]) -> str:
    path = write_notebook(root / "nbs/stages/01_s.ipynb", [cell("code", "x: int = 1", "parameters"),
                                                           *(cell("code", source) for source in cells)])
    return hash_json(list_ingredients(read_contract(path), {"x": 1}, {}, Trails(Sources(read_project(root)))))


def test_what_changes_a_result_changes_the_fingerprint(tmp_path, monkeypatch):
    (tmp_path / "settings.ini").write_text("[project]\npackage = shop\n")
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "__init__.py").write_text("")
    other_results = reused = 0
    for seed in range(60):
        rng = random.Random(seed)
        made: list[tuple[str, str, str]] = []
        for module in MODULES:
            source, names = write_module(rng, module, made)
            made += [(module, name, kind) for name, kind in names]
            (tmp_path / "shop" / f"{module}.py").write_text(source)
        cells = write_cells(rng, made)
        result, before = compute(tmp_path, cells, monkeypatch), fingerprint(tmp_path, cells)
        for module in MODULES:
            path = tmp_path / "shop" / f"{module}.py"
            source = path.read_text()
            spot = rng.choice(list(re.finditer(r"(?<![\w.])\d+(?!\w)", source)))
            path.write_text(f"{source[:spot.start()]}{int(spot[0]) + 7}{source[spot.end():]}")
            changed = compute(tmp_path, cells, monkeypatch) != result
            after = fingerprint(tmp_path, cells)
            assert not changed or after != before, f"seed {seed}, module {module}, at {spot.start()}"
            other_results += changed
            reused += after == before
            path.write_text(source)
    assert other_results > 15 and reused > 60  # and it is not always another one either
