"""What runs again when something changes, and what does not: in functions first, then through the command line."""

import json
import os
import shutil
import textwrap
from pathlib import Path

import pytest
from projects import cell, write_notebook

from mlops_nb.contract import read_contract
from mlops_nb.fingerprints import FORMAT, explain_difference, list_ingredients
from mlops_nb.settings import read_project
from mlops_nb.sources import Sources
from mlops_nb.symbols import Trails

NOTEBOOK = "nbs/stages/01_stage.ipynb"


@pytest.fixture
def shop(tmp_path):
    """A project with a package `shop`; `write(name, source)` writes one of its files."""
    (tmp_path / "settings.ini").write_text("[project]\npackage = shop\n")

    def write(name: str, source: str = "") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(source).lstrip("\n"), "utf-8")
        return path

    write("shop/__init__.py")
    return write


def ingredients(shop, *cells, **metadata):
    """The ingredients of a stage whose notebook has these cells."""
    root = shop("nbs/stages/made", "").parents[2]
    code = [cell("code", "x: int = 1", "parameters"), *(cell("code", each) for each in cells)]
    path = write_notebook(root / NOTEBOOK, code)
    if metadata:
        notebook = json.loads(path.read_text())
        notebook["metadata"]["mlops_nb"] = metadata
        path.write_text(json.dumps(notebook))
    return list_ingredients(read_contract(path), {"x": 1}, {}, Trails(Sources(read_project(root))))


def symbols(shop, *cells):
    """The symbols of the shop that a stage depends on, without `shop.`."""
    return {name.removeprefix("shop.") for name in ingredients(shop, *cells)["symbols"] if name.startswith("shop")}


def changes(shop, name, old, new, *cells):
    """What a change of one file changes for a stage: the reason, empty for none."""
    before = ingredients(shop, *cells)
    path = shop(NOTEBOOK, "").parents[2] / name
    text = path.read_text("utf-8")
    assert old in text
    path.write_text(text.replace(old, new), "utf-8")
    return explain_difference(before, ingredients(shop, *cells))


TABLES = '''
    """Tables."""
    import math
    import numpy as np

    LIMIT = 3
    RATES = {"EUR": 1.0}

    def scale(x):
        """Scale it."""
        return x * LIMIT

    class Base:
        def size(self):
            return scale(1)

    class Table(Base):
        def rows(self):
            return [RATES["EUR"]]

    def unused():
        return np.zeros(3)
    '''
SCALE, WHOLE = {"tables.scale", "tables.LIMIT"}, {"tables"}
TEXT = SCALE | {"tables as text"}
ANOTHER = "its last result was noted by another version of mlops_nb"
USE = ("from shop.tables import Table, scale", "print(Table().rows(), scale(x))")


# What a change comes to


@pytest.mark.parametrize(("old", "new"), [
    ("LIMIT = 3", "LIMIT = 3  # a note"), ('"""Scale it."""', '"""Scale it by the limit."""'), ('"""Tables."""', ""),
    ("return x * LIMIT", "return (x\n            * LIMIT)"), ("np.zeros(3)", "np.zeros(4)"),
    ("def unused():", "def more():\n    return 1\n\ndef unused():"), ("import math", "import cmath"),
    ("\n\n", "\n\n\n")])
def test_what_changes_nothing(shop, old, new):
    shop("shop/tables.py", TABLES)
    assert changes(shop, "shop/tables.py", old, new, *USE) == ""


@pytest.mark.parametrize(("old", "new", "named"), [
    ("LIMIT = 3", "LIMIT = 4", "LIMIT"), ("x * LIMIT", "x + LIMIT", "scale"), ("scale(1)", "scale(2)", "Base"),
    ('RATES["EUR"]', 'RATES.get("EUR")', "Table"), ("1.0", "1.1", "RATES")])
def test_a_change_is_named(shop, old, new, named):
    shop("shop/tables.py", TABLES)
    assert changes(shop, "shop/tables.py", old, new, *USE) == f"shop.tables.{named} changed"


def test_users_of_another_function_are_left_alone(shop):
    shop("shop/tables.py", TABLES)
    only_table = ("from shop.tables import RATES", "print(RATES)")
    assert changes(shop, "shop/tables.py", "x * LIMIT", "x + LIMIT", *only_table) == ""


@pytest.mark.parametrize("edited", ["print(Table().rows(),   scale(x))", "# a note\nprint(Table().rows(), scale(x))",
                                    "print(\n    Table().rows(),\n    scale(x),\n)"])
def test_a_cell_may_look_different(shop, edited):
    shop("shop/tables.py", TABLES)
    assert ingredients(shop, *USE) == ingredients(shop, USE[0], edited)
    assert ingredients(shop, *USE) == ingredients(shop, USE[0], "# nothing", edited)
    assert explain_difference(ingredients(shop, *USE), ingredients(shop, USE[0], edited + "\nx")) == "code changed"


def test_only_libraries_that_are_used_count(shop):
    shop("shop/tables.py", TABLES)
    assert ingredients(shop, *USE)["libraries"] == {}
    assert set(ingredients(shop, "from shop.tables import unused\nunused()")["libraries"]) == {"numpy"}
    assert set(ingredients(shop, "import pandas as pd")["libraries"]) == {"pandas"}  # a cell's imports always count


def test_the_format_is_part_of_it(shop):
    now = ingredients(shop, "x")
    assert now["format"] == FORMAT
    assert explain_difference(now | {"format": FORMAT - 1}, now) == ANOTHER
    assert explain_difference({"code": ["1"], "modules": {}}, now) == ANOTHER


# From name to symbol


@pytest.mark.parametrize(("cells", "found"), [
    (["from shop.tables import scale\nscale(1)"], SCALE),
    (["import shop.tables\nshop.tables.scale(1)"], SCALE),
    (["import shop.tables as t\nt.scale(1)"], SCALE),
    (["from shop import tables\ntables.LIMIT"], {"tables.LIMIT"}),
    (["from .tables import LIMIT\nLIMIT"], {"tables.LIMIT"}),
    (["def f():\n    from shop.tables import LIMIT as limit\n    return limit\nf()"], {"tables.LIMIT"}),
    (["from shop.tables import scale\ndef f(scale): return scale(1)"], set()),
    (["from shop.tables import scale\n[scale for scale in range(3)]"], set()),
    (["from shop.tables import scale\n[n for n in scale(3)]"], SCALE),
    (["from shop.tables import scale\nf = lambda scale: scale(1)"], set()),
    (["from shop.tables import scale\nclass A:\n    scale = scale(1)"], SCALE),
    (["from shop.tables import LIMIT", "LIMIT = 4", "LIMIT"], {"tables.LIMIT"}),
    (["%load_ext autoreload\n%autoreload 2\nfrom shop.tables import scale", "scale(1)"], SCALE),
    (["%%time\nfrom shop.tables import scale\nscale(1)"], SCALE),
    (["from shop.tables import scale\nawait scale(1)"], SCALE),
    (["from shop.tables import *\nscale(1)"], WHOLE),
    (["import shop.tables as t\nprint(t)"], WHOLE), (["import shop.tables as t\ngetattr(t, name)"], WHOLE),
    (["import shop.tables as t\nvars(t)['scale']"], WHOLE), (["import shop.tables as t\nt.no_such_name"], WHOLE),
    (["import shop.tables as t\nt.__dict__"], WHOLE),
    (["from importlib import import_module\nimport_module('shop.tables')"], WHOLE),
    (["import subprocess\nsubprocess.run([python, '-m', 'shop.tables'])"], WHOLE),
    (["subprocess.run([python, '-c', 'import shop.tables; shop.tables.scale(1)'])"], WHOLE),
    (["from shop.tables import scale\neval('scale(1)')"], SCALE),
    (["from shop.tables import scale\nimport inspect\ninspect.getsource(scale)"], TEXT),
    (["from shop.tables import scale\nscale.__doc__"], TEXT),
    (["import shop.gone"], {"gone"}), (["from shop.gone import x\nx"], {"gone"}),
    (["from shop.tables import scale"], set()), (["import math, sys, os.path"], set())])
def test_names_lead_to_symbols(shop, cells, found):
    shop("shop/tables.py", TABLES)
    assert symbols(shop, *cells) == found


@pytest.mark.parametrize("dynamic", ["import_module(x)", "importlib.import_module(x)", "__import__(x)",
                                     "Base.__subclasses__()", "runpy.run_path(x)", "sys.modules[x]"])
def test_whatever_may_be_meant_counts(shop, dynamic):
    shop("shop/tables.py", TABLES)
    shop("shop/deep/more.py", "y = 1")
    shop("shop/loading.py", "import importlib, runpy, sys\nfrom importlib import import_module\n"
                            f"from .tables import Base\ndef load(x): return {dynamic}")
    assert {"tables", "deep.more", "loading"} <= symbols(shop, "from shop.loading import load\nload(1)")


@pytest.mark.parametrize("dynamic", ["globals()['a']", "eval('a')", "exec(x)", "no_such_name"])
def test_a_module_that_looks_into_itself_counts_as_a_whole(shop, dynamic):
    shop("shop/loading.py", f"a = 1\ndef load(x): return {dynamic}")
    use = "from shop.loading import load\nload(1)"
    assert symbols(shop, use) == {"loading"}
    assert changes(shop, "shop/loading.py", "a = 1", "a = 2", use) == "shop.loading changed"


def test_re_exports_are_followed_and_exchanged_ones_noticed(shop):
    shop("shop/scales.py", "def feet(): return 1\ndef metres(): return 2")
    shop("shop/__init__.py", "from .scales import feet as short, metres as long")
    use = ("from shop import short, long", "print(short(), long())")
    assert symbols(shop, *use) == {"scales.feet", "scales.metres"}
    assert changes(shop, "shop/__init__.py", "feet as short, metres as long", "metres as short, feet as long",
                   *use) == "what its names mean changed"


def test_another_import_under_the_same_name_is_noticed(shop):
    shop("shop/scales.py", "from math import floor as rounded\ndef whole(x): return rounded(x)")
    use = ("from shop.scales import whole", "whole(1)")
    assert changes(shop, "shop/scales.py", "floor", "ceil", *use) == "shop.scales.whole changed"


def test_modules_that_import_each_other(shop):
    shop("shop/a.py", "from . import b\ndef f(x): return b.g(x)\ndef other(): return 1")
    shop("shop/b.py", "from .a import f\ndef g(x): return f(x - 1) if x else 0\ndef alone(): return 1")
    assert symbols(shop, "from shop.a import f\nf(1)") == {"a.f", "b.g"}


def test_a_name_that_is_bound_twice_counts_twice(shop):
    shop("shop/a.py", """
        try:
            from .fast import add
        except ImportError:
            def add(x): return x
        if True:
            def pick(): return 1
        else:
            def pick(): return 2
        def twice(): return 1
        def twice(): return 2
        """)
    shop("shop/fast.py", "def add(x): return x + 1")
    assert symbols(shop, "from shop.a import add\nadd(1)") == {"a.add", "fast.add"}
    for old, new, named in [("return 2", "return 3", "twice"), ("return x\n", "return -x\n", "add")]:
        assert f"shop.a.{named}" in changes(shop, "shop/a.py", old, new, f"from shop.a import {named}\n{named}")


def test_a_star_in_a_module_counts_what_it_brings(shop):
    shop("shop/a.py", "def f(): return 1")
    shop("shop/b.py", "from .a import *\ndef g(): return f()")
    assert "shop.a changed" in changes(shop, "shop/a.py", "return 1", "return 2", "from shop.b import g\ng()")


# What importing does


REGISTRY = """
    from .plain import wrapped
    TABLE = {}
    def register(f):
        TABLE[f.__name__] = f
        return f
    """


@pytest.mark.parametrize("line", ["register(made)", "TABLE['made'] = made", "TABLE.update(made=made)",
                                  "x = register(made)", "for f in [made]: register(f)", "@register"])
def test_what_registers_itself_counts_for_who_uses_the_register(shop, line):
    source = "def made(): return 1\n"
    source = f"{line}\n{source}" if line.startswith("@") else source + line
    shop("shop/plain.py", "def wrapped(f): return f")
    shop("shop/registry.py", REGISTRY)
    shop("shop/makers.py", f"from .registry import TABLE, register\n{source}\ndef unused(): return 3")
    use = ("import shop.makers\nfrom shop.registry import TABLE", "TABLE['made']()")
    assert "makers.made" in symbols(shop, *use) and "makers.unused" not in symbols(shop, *use)
    assert "shop.makers" in changes(shop, "shop/makers.py", "return 1", "return 2", *use)


def test_a_class_that_tells_its_base_counts(shop):
    shop("shop/plugins.py", "class Plugin:\n    known = []\n    def __init_subclass__(cls): Plugin.known.append(cls)")
    shop("shop/mine.py", "from .plugins import Plugin\nclass Mine(Plugin):\n    size = 1\nclass Plain:\n    size = 1")
    use = ("import shop.mine\nfrom shop.plugins import Plugin", "Plugin.known")
    assert symbols(shop, *use) == {"plugins.Plugin", "mine.Mine"}


def test_a_decorator_that_only_wraps(shop):
    shop("shop/timing.py", """
        from functools import wraps

        def timed(f):
            @wraps(f)
            def g(*a): return f(*a)
            return g
        """)
    shop("shop/a.py", "from .timing import timed\n@timed\ndef f(): return 1\n@timed\ndef unused(): return 2")
    use = ("from shop.a import f", "f()")
    assert symbols(shop, *use) == {"a.f", "timing.timed"}
    assert changes(shop, "shop/timing.py", "return f(*a)", "return f(*a) + 1", *use) == "shop.timing.timed changed"


def test_another_module_patched(shop):
    shop("shop/a.py", "def f(): return 1")
    shop("shop/patch.py", "from . import a\ndef better(): return 2\na.f = better")
    use = ("import shop.patch\nfrom shop.a import f", "f()")
    assert {"a.f", "patch.better", "patch on import"} <= symbols(shop, *use)
    assert changes(shop, "shop/patch.py", "return 2", "return 3", *use) == "shop.patch.better changed"


def test_what_runs_on_import_counts_even_when_nothing_is_used(shop):
    shop("shop/setting.py", "import pandas as pd\npd.set_option('display.width', 100)\ndef f(): return 1")
    use = ("from shop.setting import f", "f()")
    assert symbols(shop, *use) == {"setting.f", "setting on import"}
    assert changes(shop, "shop/setting.py", "100", "120", *use) == "shop.setting on import changed"
    shop("shop/main.py", "def f(): return 1\nif __name__ == '__main__':\n    print(f())")
    assert symbols(shop, "from shop.main import f\nf()") == {"main.f"}


def test_a_module_that_makes_its_names_up(shop):
    shop("shop/a.py", "def __getattr__(name): return helper(name)\ndef helper(name): return 1")
    assert symbols(shop, "from shop.a import anything\nanything") == {"a"}


# Code that is not in the package


def test_a_loose_file_and_another_projects_package_are_followed(shop, tmp_path, monkeypatch):
    other = tmp_path / "elsewhere"
    monkeypatch.setenv("PYTHONPATH", str(other))
    shop("elsewhere/store/__init__.py")
    shop("elsewhere/store/prices.py", "def price(): return 1\ndef unused(): return 2")
    shop("nbs/stages/beside.py", "def near(): return 1\ndef unused(): return 2")
    use = ("from store.prices import price\nfrom beside import near", "price() + near()")
    assert set(ingredients(shop, *use)["symbols"]) == {"store.prices.price", "beside.near"}
    assert changes(shop, "elsewhere/store/prices.py", "return 1", "return 3", *use) == "store.prices.price changed"
    assert changes(shop, "nbs/stages/beside.py", "return 2", "return 3", *use) == ""


def test_files_that_are_declared(shop):
    shop("data/codes.csv", "a,b\n")
    shop("nbs/stages/sql/one.sql", "SELECT 1")
    declared = {"depends_on": ["../../data/codes.csv", "sql/*.sql"]}
    before = ingredients(shop, "x", **declared)
    assert set(before["depends_on"]) == {"../../data/codes.csv", "sql/one.sql"}
    shop("data/codes.csv", "a,c\n")
    assert explain_difference(before, ingredients(shop, "x", **declared)) == "file ../../data/codes.csv changed"
    shop("nbs/stages/sql/two.sql", "SELECT 2")
    after = ingredients(shop, "x", **declared)
    assert explain_difference(before, after) == "files ../../data/codes.csv, sql/two.sql changed"
    shop("nbs/stages/by_hand.py", "y = 1")
    before = ingredients(shop, "%run by_hand.py")
    shop("nbs/stages/by_hand.py", "y = 2")
    assert explain_difference(before, ingredients(shop, "%run by_hand.py")) == "file by_hand.py changed"


@pytest.mark.parametrize("source", ["def f(:", "x = 1\x00", "((" * 500 + "))" * 500])
def test_a_module_that_cannot_be_read_counts_as_it_is_written(shop, source):
    path = shop("shop/odd.py")
    path.write_bytes(source.encode())
    before = ingredients(shop, "import shop.odd\nprint(shop.odd)")
    path.write_bytes(source.encode() + b"#")
    assert explain_difference(before, ingredients(shop, "import shop.odd\nprint(shop.odd)")) == "shop.odd changed"


# Through the command line


TWO = """
    import math

    LIMIT = 3

    class Base:
        step = 1

    def loudly(f):
        def g(*a): return f(*a)
        return g

    @loudly
    def first(x):
        "Words."
        return x + LIMIT

    class Second(Base):
        def of(self, x): return x * 2 + self.step

    def unused(): return 1
    """


@pytest.fixture(scope="module")
def ran(make_shared_project):
    """A project of three stages that has run; `first`, `second` and `neither` use different functions of one module."""
    project = make_shared_project("changes")
    project.configure(package="shop")
    (project.root / "shop").mkdir()
    (project.root / "shop" / "__init__.py").write_text("")
    (project.root / "shop" / "two.py").write_text(textwrap.dedent(TWO))
    (project.root / "codes.csv").write_text("a\n")
    for number, (name, code) in enumerate({"first": "first(1)", "second": "Second().of(1)", "neither": "1"}.items(), 1):
        imports = "" if name == "neither" else f"from shop.two import {name.title() if name == 'second' else name}"
        project.stage(f"0{number}_{name}", 'x: int = 1\nout: Output = "out"', f"made = {code}", "save(out, [made])",
                      imports=imports)
    path = project.root / "nbs/stages/03_neither.ipynb"
    notebook = json.loads(path.read_text())
    notebook["metadata"]["mlops_nb"] = {"depends_on": ["../../codes.csv"]}
    path.write_text(json.dumps(notebook))
    project.run(warm=True)
    return project


def would_run(project):
    """The stages that would run, by what `mlops-nb plan` says, with the reason."""
    answer = project.ask("plan")
    assert answer.code == 0, answer.err
    rows = [line.split() for line in answer.out.splitlines()[1:]]
    return {row[0]: " ".join(row[3:]) for row in rows if row and row[2] != "reuse"}


@pytest.fixture
def edit(ran):
    """Replaces text in a file of the project, and puts it back afterwards."""
    before = {}

    def change(name, old, new):
        path = ran.root / name
        before.setdefault(path, path.read_text("utf-8"))
        assert old in path.read_text("utf-8")
        path.write_text(path.read_text("utf-8").replace(old, new), "utf-8")

    yield change
    for path, text in before.items():
        path.write_text(text, "utf-8")


@pytest.mark.parametrize(("old", "new", "reasons"), [
    ("x + LIMIT", "x - LIMIT", {"first": "shop.two.first changed"}),
    ("LIMIT = 3", "LIMIT = 4", {"first": "shop.two.LIMIT changed"}),
    ("return f(*a)", "return f(*a) + 1", {"first": "shop.two.loudly changed"}),
    ("step = 1", "step = 2", {"second": "shop.two.Base changed"}),
    ("return 1", "return 2", {}), ('"Words."', '"Other words."', {}), ("LIMIT = 3", "LIMIT = (\n    3)  # a note", {}),
    ("def unused", "def more(): return 2\n\ndef unused", {})])
def test_a_change_runs_its_users_and_nobody_else(ran, edit, old, new, reasons):
    edit("shop/two.py", old, new)
    assert would_run(ran) == reasons


def test_a_markdown_cell_runs_nothing_and_a_declared_file_does(ran, edit):
    edit("nbs/stages/01_first.ipynb", "A stage of a test.", "Other words, and more of them.")
    assert would_run(ran) == {}
    edit("codes.csv", "a", "b")
    assert would_run(ran) == {"neither": "file ../../codes.csv changed"}
    edit("nbs/stages/03_neither.ipynb", "codes.csv", "kodes.csv")
    answer = ran.ask("run")
    assert answer.code == 2
    assert "03_neither.ipynb depends on `../../kodes.csv`, and there is no such file" in answer.said


def test_another_version_of_a_library(ran, edit):
    place = ran.root / "libraries"
    place.mkdir()
    ran.environment["PYTHONPATH"] = str(place)
    try:
        (place / "tinytables.py").write_text("x = 1\n")
        edit("nbs/stages/02_second.ipynb", "made = Second", "import tinytables\\nmade = Second")
        for version in ("1.0", "1.1"):
            shutil.rmtree(place / "tiny_tables-1.0.dist-info", ignore_errors=True)
            folder = place / f"tiny_tables-{version}.dist-info"
            folder.mkdir()
            (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: tiny_tables\nVersion: {version}\n")
            (folder / "top_level.txt").write_text("tinytables\n")
            if version == "1.0":
                ran.run("second", warm=False)
        answer = ran.call("plan", "second")
        assert "library tiny_tables: '1.0' → '1.1'" in answer.said
    finally:
        del ran.environment["PYTHONPATH"]


def test_why_run_shows_all_of_it(ran, edit):
    edit("nbs/stages/01_first.ipynb", "made = first(1)", "made = first(2)  # another")
    edit("shop/two.py", "x + LIMIT", "x - LIMIT")
    answer = ran.ask("why-run", "first", "-p", "first.x=5")
    assert answer.code == 0
    for words in ("first would run: parameter x: 1 → 5; code changed; shop.two.first changed\n", "  x: 1 → 5",
                  "  shop.two.first", "  cell 4", "  -made = first(1)", "  +made = first(2)  # another"):
        assert words in answer.said, answer.said
    assert "neither would not run: done in" in ran.ask("why-run", "neither").said
    assert "asked for with --fresh" in ran.ask("why-run", "neither", "--fresh").said
    answer = ran.ask("why-run", "frist")
    assert answer.code == 2 and "did you mean `first`?" in answer.said


# Damage


def test_a_damaged_result_is_made_again_and_an_untouched_one_not_read(project):
    project.stage("01_make", 'rows: Output = "rows"', "save(rows, list(range(1000)))")
    project.stage("02_use", 'rows: Input = "make.rows"\nx: int = 1\nout: Output = "out"',
                  "save(out, [len(load(rows)) * x])")
    project.run(warm=True)
    [kept] = [path for path in project.objects() if (path / "value.json").stat().st_size > 1000]
    value, whole = kept / "value.json", (kept / "value.json").read_bytes()
    times = value.stat()
    value.chmod(0o644)
    value.write_bytes(whole[:100])
    assert "make.rows is damaged: value.json" in project.ask("plan").said
    said = project.run("-p", "use.x=2", warm=True)
    assert "make: make.rows is damaged: value.json" in said and value.read_bytes() == whole
    assert project.statuses() == {"make": "done", "use": "done"}
    # A disk that lost a block changes no time: it is found when the value is read, and mended by the next run.
    value.chmod(0o644)
    value.write_bytes(b"7" + whole[1:])
    os.utime(value, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert "damaged" not in project.ask("plan").said
    said = project.run("-p", "use.x=3", code=1, warm=True)
    assert "artifact make.rows is damaged: value.json" in " ".join(said.split())
    project.run("-p", "use.x=3", warm=True)
    assert project.statuses() == {"make": "done", "use": "done"} and value.read_bytes() == whole
    os.utime(value)  # a copy without its times: it is read once, and is whole
    assert project.ask("plan").said.count("reuse") == 2
    assert value.stat().st_mtime_ns <= (kept / "artifact.json").stat().st_mtime_ns


def test_a_plug_in_of_ones_own_is_followed(shop, tmp_path, monkeypatch):
    place = tmp_path / "installed"
    folder = place / "shop-1.0.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: shop\nVersion: 1.0\n")
    (folder / "entry_points.txt").write_text("[mlops_nb.formats]\npolars = shop.formats:POLARS\n")
    shop("shop/formats.py", "def write(): return 1\nPOLARS = [write]\ndef unused(): return 1")
    monkeypatch.syspath_prepend(str(place))
    use = ("from mlops_nb.artifacts import save", "save(out, x)")
    found = ingredients(shop, *use)["symbols"]
    assert {"shop.formats.POLARS", "shop.formats.write", "plug-ins mlops_nb.formats"} <= set(found)
    assert "shop.formats.unused" not in found
    reason = changes(shop, "shop/formats.py", "return 1\nPOLARS", "return 2\nPOLARS", *use)
    assert reason == "shop.formats.write changed"


def test_a_damaged_input_from_another_environment_is_named_before_anything_runs(project):
    project.configure("[environment.production]\nstages = use\nbindings = use.rows = development:make.rows")
    project.stage("01_make", 'rows: Output = "rows"', "save(rows, list(range(1000)))")
    project.stage("02_use", 'rows: Input = "make.rows"\nout: Output = "out"', "save(out, [len(load(rows))])")
    project.run("make", warm=True)
    [kept] = project.objects()
    (kept / "value.json").chmod(0o644)
    (kept / "value.json").write_bytes(b"[1]")
    answer = project.ask("plan", "--env", "production")
    assert answer.code == 2 and "is damaged: value.json" in answer.said
    assert "mend:  run `mlops-nb run make --env development` to make it again" in answer.said
    project.run("make", warm=True)
    assert project.ask("plan", "--env", "production").code == 0
    shutil.rmtree(kept)
    assert "is no longer kept" in project.ask("run", "--env", "production").said
