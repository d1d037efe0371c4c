"""Everything that a person can get wrong is refused early, by a message that names the thing and the mend."""

import json
import re
import sqlite3
import statistics
import subprocess
import sys
from pathlib import Path

import pytest
from projects import COMMAND, cell, write_notebook

from mlops_nb.artifacts import Reference, load_file
from mlops_nb.errors import ArtifactError
from mlops_nb.fingerprints import explain_difference
from mlops_nb.settings import read_project

MAKE = ("01_make", 'count: int = 3  # How many\nrows: Output = "rows"', "save(rows, {'n': count})")


@pytest.fixture(scope="module")
def refused(make_shared_project):
    """A project with one good stage, `make`, in which nothing of these tests ever runs."""
    project = make_shared_project("refused")
    project.stage(*MAKE)
    project.configure("[environment.production]\nstages = make\n")
    return project


@pytest.fixture
def stage(refused):
    """Writes `02_wrong.ipynb` into the project for one test."""
    yield lambda *cells, **options: refused.stage("02_wrong", *cells, **options)
    for path in (refused.root / "nbs" / "stages").glob("0[2-9]*"):
        path.unlink()


# What is wrong with a notebook


def test_a_notebook_without_a_parameters_cell(refused, stage):
    path = stage("")
    write_notebook(path, [cell("code", "x = 1")])
    said = refused.refuse()
    assert "02_wrong.ipynb: no code cell is tagged `parameters`" in said and "mend:  add the tag" in said


def test_two_cells_tagged_parameters(refused, stage):
    path = stage("")
    write_notebook(path, [cell("code", "x = 1", "parameters"), cell("code", ""), cell("code", "y = 1", "parameters")])
    said = refused.refuse()
    assert "02_wrong.ipynb: cell 1 and cell 3 are both tagged `parameters`" in said and "keep the tag on one" in said


@pytest.mark.parametrize("content", ["", "not json", "[]", '{"cells": [{"cell_type": "code"}]}', "{}", "\0"])
def test_a_file_that_is_not_a_notebook(refused, stage, content):
    stage("").write_text(content, "utf-8")
    said = refused.refuse()
    assert "02_wrong.ipynb is not a notebook" in said and "mend:  open it in JupyterLab, or bring back" in said


@pytest.mark.parametrize(("parameters", "message", "mend"), [
    ("x: int = 'three'", "'three' is not int", "name: type = default"),
    ("x: int", "`x` has no default", "name: type = default"),
    ("x: Table = 1", "`Table` is not known here", "name: type = default"),
    ("x: Outptu = 'x'", "did you mean `Output`?", "name: type = default"),
    ("x: int = 1\nx: int = 2", "line 2: `x` is declared twice", "keep one"),
    ("x = __import__('os').system('true')", "is not known here", "name: type = default"),
    ("import os", "`import os` is not `name: type = default", "name: type = default"),
    ("x: int = = 1", "the parameters cell is not Python", "mend the named line"),
    ("x: Annotated[float, Gt(0), Lt(1)] = 1.5", "1.5 is not Annotated[float, Gt(0), Lt(1)]", "name: type = default"),
    ('a: Output = "one"\nb: Output = "one"', "two Outputs are called `wrong.one`", "give each Output a name"),
])
def test_a_parameters_cell_that_cannot_be_read(refused, stage, parameters, message, mend):
    stage(parameters)
    said = refused.refuse()
    assert "02_wrong.ipynb, cell 3" in said and message in said and mend in said


@pytest.mark.parametrize(("reference", "message", "mend"), [
    ("make.row", "no stage makes `make.row`", "did you mean `make.rows`?"),
    ("nobody.rows", "no stage makes `nobody.rows`", "make.rows"),
    ("rows", "`rows` is not a reference", "write `stage.output`"),
    ("", "`` is not a reference", "write `stage.output`"),
])
def test_an_input_that_nobody_makes(refused, stage, reference, message, mend):
    stage(f'\nrows: Input = "{reference}"')
    said = refused.refuse()
    assert "02_wrong.ipynb, cell 3, line 2" in said and message in said and mend in said


def test_a_circle(refused, stage):
    refused.stage("02_one", 'a: Input = "three.c"\nb: Output = "b"')
    refused.stage("03_two", 'a: Input = "one.b"\nb: Output = "b"')
    refused.stage("04_three", 'a: Input = "two.b"\nc: Output = "c"')
    said = refused.refuse()
    assert "in a circle" in said and "mend:  take one of these Inputs out" in said
    assert all(name in said for name in ("one", "two", "three")) and said.count(" → ") == 3


def test_a_stage_that_needs_itself(refused, stage):
    stage('a: Input = "wrong.b"\nb: Output = "b"')
    assert "wrong → wrong" in refused.refuse()


def test_two_notebooks_of_one_stage(refused, stage):
    refused.stage("07_make", "")
    said = refused.refuse()
    assert "07_make.ipynb: the name `make` is taken by 01_make.ipynb" in said and "rename" in said


def test_a_project_without_stages(make_project):
    said = make_project().refuse()
    assert "there are no stage notebooks in" in said and "mend:  add one called `01_name.ipynb`" in said


# What is wrong with the command


@pytest.mark.parametrize(("words", "message", "mend"), [
    (("-p", "make.cuont=5"), "stage `make` has no parameter `cuont`", "did you mean `count`?"),
    (("-p", "mkae.count=5"), "there is no stage `mkae`", "did you mean `make`?"),
    (("-p", "count=5"), "`count` does not say whose parameter it is", "write make.count=VALUE"),
    (("-p", "zebra=5"), "`zebra` does not say whose parameter it is", "write STAGE.NAME=VALUE"),
    (("-p", "make.count"), "`-p make.count` has no value", "write -p STAGE.NAME=VALUE"),
    (("-p", "make.count=three"), "make.count: 'three' is not int", "01_make.ipynb, cell 3, line 1"),
    (("-p", "make.count=2.5"), "make.count: '2.5' is not int", "01_make.ipynb, cell 3, line 1"),
    (("-p", "make.count="), "make.count: '' is not int", "01_make.ipynb, cell 3, line 1"),
    (("-p", "make.rows=other"), "`make.rows` is an Output", "change it in the notebook"),
    (("mkae",), "there is no stage `mkae`", "did you mean `make`?"),
    (("--env", "prodution"), "no environment `prodution`", "did you mean `production`?"),
    (("--sample", "0.5"), "no stage of this run has a parameter `sample`", "leave --sample out"),
    (("-p", "make.count=" + "-" * 20_000 + "1"), "make.count: ", "01_make.ipynb, cell 3, line 1"),
    (("-p", "make.count=" + "[" * 20_000), "make.count: ", "01_make.ipynb, cell 3, line 1"),
    (("-p", "make.count=" + "9" * 10_000), "make.count: ", "01_make.ipynb, cell 3, line 1"),
], ids=lambda value: value[:3] if isinstance(value, str) else " ".join(value)[:24])
def test_a_wrong_command(refused, words, message, mend):
    said = refused.refuse(*words)
    assert message in said and mend in said
    assert len(said) < 1_000, "a huge value is not repeated in full"


@pytest.mark.parametrize("words", [("run", "--frsh"), ("run", "--jobs", "0"), ("rnu",), ("run", "--sample", "much")])
def test_wrong_options(refused, words):
    answer = refused.call(*words)
    assert answer.code == 2 and "Error: " in answer.said


@pytest.mark.parametrize("words", [("status", "2013"), ("status",), ("stages", "mkae")])
def test_asking_for_what_is_not_there(refused, words):
    answer = refused.ask(*words)
    assert answer.code == 2 and "mend:" in answer.said


@pytest.mark.parametrize(("text", "message", "mend"), [
    ("", "is not inside a project", "mlops-nb new DIR"),
    ("[project]\nname", "cannot be read", "mend the named line"),
    ("[project]\n[environment.x]\nparameters =\n  make.count", "cannot read `make.count`", "write `stage.name ="),
    ("[project]\n[environment.x]\nparameters =\n  make.cuont = 1", "no parameter `cuont`", "did you mean `count`?"),
    ("[project]\n[environment.x]\nstages = mkae", "there is no stage `mkae`", "did you mean `make`?"),
    ("[project]\nstages = nowhere", "there are no stage notebooks in", "01_name.ipynb"),
])
def test_settings_that_cannot_be(project, text, message, mend):
    project.stage(*MAKE)
    (project.root / "settings.ini").write_text(text, "utf-8")
    said = project.refuse(*(["--env", "x"] if "environment.x" in text else []))
    assert message in said and mend in said


# What is wrong with the state folder


def test_a_store_of_a_newer_version(project):
    project.stage(*MAKE)
    assert project.ask("status").code == 2  # there is no run yet; now there is a store
    with sqlite3.connect(project.state / "state.db") as connection:
        connection.execute("UPDATE about SET value = '99'")
    for words in (("run",), ("status",), ("plan",), ("show", "make.rows")):
        answer = project.ask(*words)
        assert answer.code == 1 and "has version 99" in answer.said and "mend:  install the mlops_nb" in answer.said


def test_a_store_that_is_no_database(project):
    project.stage(*MAKE)
    project.state.mkdir()
    (project.state / "state.db").write_text("garbage " * 1000)
    answer = project.ask("run")
    assert answer.code == 1 and "state.db cannot be used" in answer.said and "damaged: move it away" in answer.said


# What is wrong inside a stage: one run with many, side by side

TYPED = """from datetime import date, datetime
from pathlib import Path
from typing import Annotated, Any, Literal, Optional
from annotated_types import Gt, Lt"""

#  name, type and default; what is passed; what the notebook must find
TYPES = [
    ("whole: int = 1", "7", "whole == 7 and type(whole) is int"),
    ("big: int = 1", "1" * 40, f"big == {'1' * 40}"),
    ("share: float = 0.5", "1", "share == 1.0 and type(share) is float"),
    ("limit: float = 0.5", "inf", "limit == float('inf')"),
    ("hole: float = 0.5", "nan", "hole != hole"),
    ("flag: bool = False", "true", "flag is True"),
    ("text: str = 'plain'", "12", "text == '12'"),
    ("odd: str = ''", "\"quo'te\" \\n \\ {brace} 한글 🛫\n$HOME # no comment",
     "odd == '\"quo\\'te\" \\\\n \\\\ {brace} 한글 🛫\\n$HOME # no comment'"),
    ("day: date = date(2013, 1, 1)", "2013-07-04", "day == date(2013, 7, 4) and type(day) is date"),
    ("moment: datetime = datetime(2013, 1, 1)", "2013-07-04T05:15:00", "moment == datetime(2013, 7, 4, 5, 15)"),
    ("zoned: datetime = datetime(2013, 1, 1)", "2013-07-04T05:15:00Z", "zoned.utcoffset().total_seconds() == 0"),
    ("items: list[int] = [1]", "[3, 2, 1]", "items == [3, 2, 1]"),
    ("pair: tuple[int, str] = (1, 'a')", "(2, '둘')", "pair == (2, '둘') and type(pair) is tuple"),
    ("empty: tuple[int, ...] = (1,)", "()", "empty == () and type(empty) is tuple"),
    ("single: tuple[int, ...] = ()", "(5,)", "single == (5,) and type(single) is tuple"),
    ("days: tuple[date, date] = (date(2013, 1, 1), date(2013, 2, 1))", "('2013-03-01', '2013-04-01')",
     "days == (date(2013, 3, 1), date(2013, 4, 1)) and type(days) is tuple"),
    ("table: dict[str, float] = {}", "{'a': 1, 'ㄴ': 2.5}", "table == {'a': 1.0, 'ㄴ': 2.5}"),
    ("numbered: dict[int, str] = {}", "{1: 'one', 2: 'two'}", "numbered == {1: 'one', 2: 'two'}"),
    ("dated: dict[date, tuple[int, int]] = {}", "{'2013-01-02': (1, 2)}", "dated == {date(2013, 1, 2): (1, 2)}"),
    ("nested: dict[str, list[tuple[int, date]]] = {}", "{'x': [(1, '2013-01-02')]}",
     "nested == {'x': [(1, date(2013, 1, 2))]} and type(nested['x'][0]) is tuple"),
    ("where: Path = Path('here')", "some folder/한 글.csv", "where == Path('some folder/한 글.csv')"),
    ("maybe: Optional[float] = 1.5", "None", "maybe is None"),
    ("perhaps: date | None = None", "2013-01-02", "perhaps == date(2013, 1, 2)"),
    ("pace: Literal['slow', 'fast'] = 'slow'", "fast", "pace == 'fast'"),
    ("step: Literal[1, 2] = 1", "2", "step == 2 and type(step) is int"),
    ("part: Annotated[float, Gt(0), Lt(1)] = 0.5", "0.25", "part == 0.25"),
    ("bare = 3", "4", "bare == 4"),
    ("huge: list[int] = []", json.dumps(list(range(20_000))), "huge == list(range(20_000))"),
]

CAUGHT = """caught = {}
for name, output, make in [
        ("twice", first, lambda: "y"), ("undeclared", "frist", lambda: "x"), ("unkept", made, object),
        ("untrusted", made, lambda: FunctionTransformer(lambda X: X)), ("not json", made, lambda: {"a": {1, 2}}),
        ("mixed", made, lambda: pd.DataFrame({"값": [1, "x"]})), ("numbered", made, lambda: pd.DataFrame([[1]])),
        ("objects", made, lambda: np.array([{}], dtype=object)), ("stranger", "", lambda: load("make.rows"))]:
    try:
        save(output, make())
    except Exception as error:
        caught[name] = f"{type(error).__name__}: {error}"
save(made, caught)"""

DYING = """import os, signal
class Trap(dict):  # when it is written, the file has begun and is not whole
    def items(self):
        os.kill(os.getpid(), signal.SIGKILL)
save(other, {'whole': True})
save(made, [{'a': 1}, Trap(b=2)])"""

CHECKED = """from mlops_nb.checks import gate, require_present, run_checks
gate(run_checks(load(table), [require_present('가격')]).results, 'prices')
save(made, 'never')"""

READ = """from mlops_nb.ingestion import read_table
save(made, read_table(load(table), {'이름': 'VARCHAR', '가격': 'DOUBLE'}, 'prices').frame)"""


@pytest.fixture(scope="module")
def spoiled(make_shared_project):
    """A project in which nearly every stage goes wrong in its own way, after `mlops-nb run`."""
    project = make_shared_project("spoiled")
    made, other = 'made: Output = "made"', 'made: Output = "made"\nother: Output = "other"'
    from_file, after = 'table: Input = "file:{}"\n' + made, 'got: Input = "{}"\n' + made
    (project.root / "empty file.csv").write_text("")
    for name in ("가격 없음.csv", "prices.raw"):
        (project.root / name).write_text("이름,무게,가 격\n사과,3,1\n", "utf-8")
    project.stage(*MAKE)
    project.stage("02_raises", made, "x = 1", "# why\ny = {'a': 1}['b']\nsave(made, y)", "save(made, 'never')")
    project.stage("03_after", after.format("raises.made"), "save(made, load(got))")
    project.stage("04_later", after.format("after.made"), "save(made, load(got))")
    project.stage("05_independent", after.format("make.rows"), "save(made, load(got))")
    project.stage("06_forgets", other, "save(made, 'x')")
    project.stage("07_caught", 'first: Output = "first"\n' + made, "save(first, 'x')", CAUGHT,
                  imports="import numpy as np\nimport pandas as pd\n"
                          "from sklearn.preprocessing import FunctionTransformer")
    project.stage("13_gated", made, "save(made, {'rows': 3})", "from mlops_nb.errors import GateRefused",
                  "raise GateRefused('3 of 9 rows have no price', 'mend the source')")
    project.stage("14_after_gate", after.format("gated.made"), "save(made, load(got))")
    project.stage("15_asks", made, "save(made, ['q1', 'q2'])", "from mlops_nb.errors import NeedsPerson",
                  "raise NeedsPerson('2 rows need a label', 'open nbs/apps/labeling.ipynb')")
    project.stage("16_empty", from_file.format("empty file.csv"), "save(made, load(table))")
    project.stage("18_checked", from_file.format("가격 없음.csv"), CHECKED)
    project.stage("19_read", from_file.format("prices.raw"), READ)
    project.stage("20_types", "\n".join(line for line, _, _ in TYPES) + "\n" + made,
                  *(f"assert {claim}" for _, _, claim in TYPES), "save(made, 'all right')", imports=TYPED)
    project.stage("21_quits", made, "import sys\nsys.exit(3)")
    project.stage("22_dies", other, DYING, "save(made, 'never')")
    project.said = project.run(*(word for line, value, _ in TYPES for word in (
        "-p", f"types.{re.match(r'[a-z]+', line)[0]}={value}")), code=1)
    record = project.status()
    project.stages = {stage["stage"]: stage for stage in record["stages"]}
    project.problems = {row["stage"]: json.loads(row["error"] or "null")
                        for row in project.query("SELECT stage, error FROM stage_runs")}
    project.ended = record["status"]
    digits = project.query("SELECT hash FROM artifacts WHERE name = 'caught.made'")[0]["hash"]
    project.caught = json.loads((project.state / "objects" / digits[:2] / digits / "value.json").read_text("utf-8"))
    return project


def test_what_goes_wrong_stays_where_it_is(spoiled):
    """Stages that need a broken one are skipped, all others run, and what did not end well is not in the catalog."""
    statuses = {stage: one["status"] for stage, one in spoiled.stages.items()}
    assert spoiled.ended == "failed"
    assert {stage for stage, status in statuses.items() if status == "skipped"} == {"after", "later", "after_gate"}
    done = {stage for stage, status in statuses.items() if status == "done"}
    assert done == {"make", "independent", "caught", "types"}
    assert statuses["asks"] == "needs_person"
    assert {stage for stage, status in statuses.items() if status == "refused"} == {"gated", "checked"}
    assert sorted(spoiled.catalog()) == [("asks.made", "stopped"), ("caught.first", "committed"),
                                         ("caught.made", "committed"), ("gated.made", "stopped"),
                                         ("independent.made", "committed"), ("make.rows", "committed"),
                                         ("types.made", "committed")]
    assert "after skipped: needs raises" in spoiled.said and "later skipped: needs after" in spoiled.said


@pytest.mark.parametrize(("stage", "position", "error", "message"), [
    ("raises", 5, "KeyError", "'b'"),
    ("gated", 6, "GateRefused", "3 of 9 rows have no price\n  mend: mend the source"),
    ("asks", 6, "NeedsPerson", "2 rows need a label\n  mend: open nbs/apps/labeling.ipynb"),
    ("empty", 4, "ArtifactError", "empty file.csv cannot be read"),
    ("checked", 4, "GateRefused", "가격 present: no column `가격`"),
    ("read", 4, "UsageError", "prices: no column `가격`\n  mend: `가격`: did you mean `가 격`?"),
    ("quits", 4, "SystemExit", "3"),
    ("dies", 4, "KernelDied", "the kernel was killed by SIGKILL"),
])
def test_a_stage_that_goes_wrong_is_named_with_its_cell(spoiled, stage, position, error, message):
    problem = spoiled.problems[stage]
    assert (problem["cell"], problem["error"]) == (position, error)
    assert message in problem["message"]
    flat = " ".join(spoiled.said.split())
    assert f"{stage}, cell {position} " in flat and " ".join(message.split()) in flat


@pytest.mark.parametrize(("name", "message"), [
    ("twice", "UsageError: `first` is saved twice in one run of `caught`\n  mend: save it once"),
    ("undeclared", "UsageError: stage `caught` declares no Output `frist`\n  mend: did you mean `first`?"),
    ("unkept", "ArtifactError: a builtins.object cannot be kept\n  mend: save one of: table, series"),
    ("untrusted", "types that are not trusted: __main__.<lambda>\n  mend: use scikit-learn's own"),
    ("not json", "ArtifactError: JSON cannot keep a builtins.set: {1, 2}\n  mend: turn it into text"),
    ("mixed", "Conversion failed for column 값"),
    ("numbered", "ArtifactError: column names must be unique text, found [0]\n  mend: rename the columns"),
    ("objects", "ArtifactError: an array of object cannot be kept\n  mend: give it a numeric type"),
    ("stranger", "UsageError: `make.rows` is read in a run but is not an Input of the stage\n  mend: declare it"),
])
def test_what_cannot_be_saved_or_loaded_says_why(spoiled, name, message):
    """The stage caught each error itself, and saved what they said."""
    assert message in spoiled.caught[name]


def test_an_output_that_is_not_saved_is_named(spoiled):
    said = "forgets failed: OutputMissing: the notebook ended without saving other: call save(other, ...)"
    assert said in spoiled.said


def test_parameters_keep_their_types_through_papermill(spoiled):
    """The notebook of the stage itself asserted each of TYPES."""
    assert spoiled.problems["types"] is None
    assert spoiled.stages["types"]["status"] == "done"


def test_a_kernel_that_dies_while_it_writes_leaves_nothing_half_written(spoiled):
    """Its whole first Output is not in the catalog, its half second one cannot be found by any hash."""
    for folder in spoiled.objects():
        manifest = json.loads((folder / "artifact.json").read_text("utf-8"))
        assert manifest["hash"] == folder.name and {path.name for path in folder.iterdir()} == {
            *manifest["files"], "artifact.json"}
    assert not [name for name, _ in spoiled.catalog() if name.startswith("dies.")]
    cells = json.loads(Path(spoiled.stages["dies"]["notebook"]).read_text("utf-8"))["cells"]
    failed = [one for one in cells if one["metadata"].get("papermill", {}).get("status") == "failed"]
    assert ["".join(one["source"]) for one in failed] == [DYING]
    assert failed[0]["outputs"][-1]["ename"] == "KernelDied"


def test_status_as_json_has_exactly_this_shape(spoiled):
    record = json.loads(spoiled.call("status", "--json").out)
    assert list(record) == ["run", "status", "stages"]
    for stage in record["stages"]:
        assert list(stage) == ["stage", "status", "seconds", "reused", "notebook", "variant", "attempts", "usage"]
        assert isinstance(stage["reused"], bool)
        if stage["status"] != "skipped":
            assert isinstance(stage["seconds"], float) and Path(stage["notebook"]).is_file()


@pytest.mark.parametrize(("stage", "code"), [("after_gate", 4), ("asks", 3)])
def test_a_gate_and_a_person_have_their_own_exit_codes(spoiled, stage, code):
    """The independent stage goes on; here it was done before."""
    assert "independent reused" in spoiled.run(stage, "independent", code=code, warm=True)


def test_what_stopped_at_a_gate_is_never_an_input(spoiled):
    spoiled.configure("[environment.production]\nstages = after_gate\nbindings =\n"
                      "  after_gate.got = development:gated.made")
    answer = spoiled.ask("run", "--env", "production")
    assert answer.code == 2
    assert "after_gate.got: there is no `gated.made` from a run in environment `development`" in answer.said
    assert "mend:  run `mlops-nb run gated --env development` first" in answer.said


# What was bound


@pytest.mark.parametrize(("binding", "message", "mend"), [
    ("file:nowhere.csv", "nowhere.csv does not exist", "correct the path"),
    ("make.rows@0123456789abcdef", "0123456789abcdef", "run"),
    ("no such thing", "`no such thing` is not a reference", "write `stage.output`"),
    ("staging:make.rows", "there is no `make.rows` from a run in environment `staging`", "--env staging` first"),
    ("file:/etc", "is a folder", "correct the path"),
])
def test_an_input_bound_to_what_is_not_there_is_refused_at_once(refused, stage, binding, message, mend):
    stage('rows: Input = "make.rows"\nout: Output = "out"', "save(out, load(rows))")
    said = refused.refuse("-p", f"wrong.rows={binding}")
    assert "wrong.rows" in said and message in said and mend in said


@pytest.mark.parametrize(("binding", "message", "mend"), [
    ("make.row", "wrong.rows: no stage makes `make.row`", "did you mean `make.rows`?"),
    ("wrong.out", "in a circle: wrong → wrong", "take one of these Inputs out"),
    ("later.out", "in a circle", "take one of these Inputs out"),
])
def test_an_input_bound_within_the_project_must_make_a_graph(refused, stage, binding, message, mend):
    """By -p, and by an environment as well: what is bound makes the graph, not what the notebook says."""
    stage('rows: Input = "make.rows"\nout: Output = "out"')
    refused.stage("03_later", 'rows: Input = "wrong.out"\nout: Output = "out"')
    said = refused.refuse("-p", f"wrong.rows={binding}")
    assert message in said and mend in said


def test_an_input_bound_to_another_stage_waits_for_it(refused, stage):
    stage('rows: Input = "make.rows"\nout: Output = "out"')
    refused.stage("03_other", 'rows: Output = "rows"')
    lines = refused.ask("plan", "wrong", "-p", "wrong.rows=other.rows").said.splitlines()
    assert [line.split()[0] for line in lines[1:]] == ["other", "wrong"]
    assert "if other.rows comes out differently" in lines[2]


@pytest.mark.parametrize(("name", "content"), [
    ("empty.csv", b""), ("korean.csv", "가격\n1\n".encode("cp949")), ("ragged.csv", b"a,b\n1,2\n1,2,3\n"),
    ("cut.json", b'{"a": '), ("cut.parquet", b"PAR1"), ("bytes.txt", b"\xff\xfe\xfd")])
def test_a_bound_file_that_cannot_be_read_is_named(refused, name, content):
    (refused.root / name).write_bytes(content)
    with pytest.raises(ArtifactError, match=rf"(?s){name} cannot be read: .*  mend: mend the file"):
        load_file(read_project(refused.root), Reference(file=name))


def test_a_bound_file_that_changed_is_named(refused):
    (refused.root / "prices.csv").write_text("a\n1\n")
    with pytest.raises(ArtifactError, match=r"prices.csv is not the file that was bound: its content changed"):
        load_file(read_project(refused.root), Reference(file="prices.csv", hash="0" * 64))


def test_a_huge_parameter_is_not_printed_in_full():
    """The plan says that it changed; 20,000 numbers in a table would bury everything else."""
    before, after = ({"parameters": {"huge": list(range(count))}} for count in (10_000, 20_000))
    assert len(explain_difference(before, after)) < 300


def test_an_interactive_result_is_never_bound_by_a_run(project):
    """A person saved it by hand: they can load it, and a run that needs the stage's result cannot."""
    project.stage(*MAKE)
    project.stage("02_use", 'rows: Input = "make.rows"\nout: Output = "out"', "save(out, load(rows))")
    project.configure("[environment.production]\nstages = use")
    by_hand = project.python(
        "from mlops_nb.artifacts import load, save\nsave('rows', {'n': 99})\nprint(load('make.rows'))",
        JPY_SESSION_NAME=str(project.root / "nbs/stages/01_make.ipynb"), MLOPS_NB_ENV="production")
    assert by_hand.out == "{'n': 99}\n", by_hand.err
    assert project.catalog() == [("make.rows", "interactive")]
    said = project.refuse("--env", "production")
    assert "use.rows: there is no `make.rows` from a run in environment `production`" in said
    plan = project.ask("plan").said
    assert "make" in plan and "no result yet" in plan


# How fast it answers


@pytest.mark.parametrize("command", ["", "run", "plan", "status", "stages", "show", "lab", "new", "docs"])
def test_help_takes_under_a_third_of_a_second(command, tmp_path):
    """User and system time of the process: what it costs, however busy the machine is."""
    words = [str(COMMAND), *command.split(), "--help"]
    measure = ("import os, resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True, stdout=-3);"
               "used = resource.getrusage(resource.RUSAGE_CHILDREN); print(used.ru_utime + used.ru_stime)")
    spent = [float(subprocess.run([sys.executable, "-S", "-c", measure, *words], cwd=tmp_path, check=True,
                                  capture_output=True, text=True).stdout) for _ in range(5)]
    assert statistics.median(spent) < 0.3
