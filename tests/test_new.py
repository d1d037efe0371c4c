"""`mlops-nb new`: a project of one's own runs at once, takes one's own CSV, and says what is wrong with it."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from conftest import MakeProject
from projects import Project

from mlops_nb.errors import UsageError

TEMPLATES = Path(__file__).parent.parent / "mlops_nb" / "templates"
TEMPLATE = TEMPLATES / "blank"
NOTEBOOKS = sorted(TEMPLATES.glob("*/nbs/**/*.ipynb"))
STAGES = ("ingestion", "preparation", "training")

# Sixty orders of a café as a Korean Excel might save them: names and values in Korean, dates in two forms,
# gaps, a column that counts the rows. The amount follows from drink and cups, so that a model has what to find.
ORDERS = "\n".join(["번호,주문일시,방문일,음료 이름,잔,단골,금액"] + [
    f"{row},2026-03-{row % 28 + 1:02d} {8 + row % 12:02d}:30,2026.03.{row % 28 + 1:02d},"
    f"{['아메리카노', '라테', ''][row % 3]},"
    f"{'' if row % 7 == 3 else row % 5 + 1},{row % 2 == 0},{(row % 5 + 1) * (4000 + 1500 * (row % 3)) + row}"
    for row in range(60)]) + "\n"


@pytest.fixture(scope="module")
def wines(make_shared_project: MakeProject) -> Project:
    """A new project, run once, in a path with a space and Korean letters."""
    desk = make_shared_project("desk")
    (desk.root / "settings.ini").unlink()
    answer = desk.call("new", "와인 wines")
    assert answer.code == 0 and "mlops-nb run" in answer.said
    project = make_shared_project("desk/와인 wines")
    said = project.run()
    assert f"report: {project.state}" in said and Path(said.rpartition("report: ")[2].strip()).is_file()
    return project


@pytest.fixture
def write(wines: Project) -> Callable[..., str]:
    """Writes a CSV file with a space in its name into the project; gives its path as a parameter has it."""
    def write(content: str | bytes, name: str = "내 표.csv") -> str:
        (wines.root / "data" / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        return f"ingestion.source=../../data/{name}"
    return write


def read_example(wines: Project) -> list[str]:
    return (wines.root / "data" / "table.csv").read_text("utf-8").splitlines()


# The project as it is made


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: f"{path.relative_to(TEMPLATES).parts[0]} {path.stem}")
def test_the_template_is_clean(notebook):
    content = json.loads(notebook.read_text("utf-8"))
    ids = [cell["id"] for cell in content["cells"]]
    assert len(ids) == len(set(ids)) and content["metadata"]["kernelspec"]["name"] == "python3"
    for cell in content["cells"]:
        assert not cell.get("outputs") and not cell.get("execution_count") and set(cell["metadata"]) <= {"tags"}
    tagged = [cell for cell in content["cells"] if "parameters" in cell["metadata"].get("tags", [])]
    assert len(tagged) == (notebook.parent.name == "stages")


def test_every_parameter_is_explained(wines):
    for stage in json.loads(wines.ask("stages", "--json").out):
        assert all(one["description"] for one in stage["properties"].values()), stage["title"]


def test_it_runs_to_its_end_and_nothing_is_left_to_fill_in(wines):
    assert wines.statuses() == dict.fromkeys(STAGES, "done")
    texts = [path.read_text("utf-8") for path in wines.root.rglob("*")
             if path.suffix in (".ipynb", ".md", ".ini", ".toml", ".py") and ".mlops" not in path.parts]
    assert len(texts) >= 9 and not [text for text in texts if "{{" in text]
    metrics = wines.ask("show", "training.metrics").said
    assert "accuracy" in metrics and "committed" in metrics


def test_its_functions_are_a_package(wines):
    answer = wines.python("from 와인_wines.features import make_features; print(make_features.__doc__)")
    assert answer.code == 0 and "The features of each row" in answer.out
    lesson = subprocess.run([sys.executable, "-m", "nbdev.test", "nbs/features.ipynb", "--n-workers", "0"],
                            cwd=wines.root, env=wines.child_environment(), capture_output=True, text=True, check=False)
    assert lesson.returncode == 0, lesson.stdout + lesson.stderr


def test_a_second_run_reuses_everything(wines):
    wines.run()
    assert wines.statuses() == dict.fromkeys(STAGES, "reused")


def test_a_folder_with_something_in_it_is_refused(wines):
    before = sorted(path for path in wines.root.rglob("*") if ".mlops" not in path.parts)
    answer = wines.ask("new", ".")
    assert answer.code == 2 and f"{wines.root} is not empty" in answer.said and "name a new folder" in answer.said
    assert sorted(path for path in wines.root.rglob("*") if ".mlops" not in path.parts) == before
    answer = wines.ask("new", "settings.ini")
    assert answer.code == 2 and "settings.ini is not empty" in answer.said


def test_it_can_be_made_inside_a_project_of_another_kind(tmp_path):
    (tmp_path / "settings.ini").write_text("[DEFAULT]\nlib_name = old_nbdev\n", "utf-8")
    answer = Project(tmp_path).ask("new", "inner")
    assert answer.code == 0 and "made " in answer.said
    assert (tmp_path / "inner" / "inner" / "features.py").is_file()


# One's own changes


@pytest.mark.parametrize(("parameter", "verdicts"), [
    ("training.n_splits=4", ["reuse", "reuse", "run"]),
    ("preparation.test_size=0.3", ["reuse", "run", "maybe"]),
    ("ingestion.target=magnesium", ["run", "maybe", "maybe"]),
])
def test_a_changed_parameter_runs_only_what_it_must(wines, parameter, verdicts):
    said = wines.ask("plan", "-p", parameter).said
    words = [line.split() for line in said.splitlines() if line.startswith(STAGES)]
    assert [each[2] for each in words] == verdicts


def test_a_changed_feature_runs_what_uses_it(wines):
    notebook, module = wines.root / "nbs" / "features.ipynb", wines.root / "와인_wines" / "features.py"
    before = notebook.read_text("utf-8")
    notebook.write_text(before.replace("column.dt.minute / 60", "column.dt.minute / 60.0 + 0"), "utf-8")
    try:
        wines.run("preparation")
        assert "60.0 + 0" in module.read_text("utf-8")
        assert wines.statuses() == {"ingestion": "reused", "preparation": "done"}
    finally:
        notebook.write_text(before, "utf-8")


def test_a_csv_of_ones_own(wines, write):
    words = ["-p", write(ORDERS.encode("cp949"), "카페 주문.csv"), "-p", "ingestion.target=금액",
             "-p", "ingestion.encoding=cp949", "-p", 'ingestion.dates={"방문일": "%Y.%m.%d"}']
    wines.run(*words)
    assert "regression" in wines.ask("show", "ingestion.question").said
    columns = wines.ask("show", "preparation.columns").said
    assert "counts the rows" in columns and columns.count("datetime64") == 2 and "음료 이름" in columns
    answer = wines.python("from mlops_nb.artifacts import load; from 와인_wines.features import make_features\n"
                          "table, model = load('ingestion.table'), load('training.model')\n"
                          "row = make_features(table.head(1), '금액')[list(load('preparation.features').columns)]\n"
                          "metrics = load('training.metrics').set_index('metric')\n"
                          "assert metrics.loc['r2', 'model'] > 0.5 > metrics.loc['r2', 'baseline']\n"
                          "print(len(model.predict(row)))")
    assert answer.code == 0 and answer.out == "1\n", answer.err
    wines.run(*words)
    assert wines.statuses() == dict.fromkeys(STAGES, "reused")
    write(ORDERS.replace("라테", "녹차").encode("cp949"), "카페 주문.csv")
    assert "file of parameter source changed" in wines.ask("plan", *words).said


def test_stock_papermill_runs_a_stage(wines, tmp_path):
    answer = subprocess.run([sys.executable, "-m", "papermill", "nbs/stages/01_ingestion.ipynb",
                             str(tmp_path / "out.ipynb"), "-p", "target", "hue"],
                            cwd=wines.root, env=wines.child_environment(), capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
    assert "interactive" in wines.ask("show", "ingestion.question").said
    assert "regression of `hue`" in (tmp_path / "out.ipynb").read_text("utf-8")


# What can be wrong with a CSV


def spoil(lines: list[str], value: str) -> str:
    """The example with another value in the last column, the target."""
    return "\n".join([lines[0], *(line.rpartition(",")[0] + "," + value for line in lines[1:])])


@pytest.mark.parametrize(("spoilt", "message", "mend"), [
    (lambda lines: "", "내 표.csv is empty", "give a file with a line of column names"),
    (lambda lines: lines[0] + "\n", "내 표.csv has a line of column names and no rows", "give a file with rows"),
    (lambda lines: "\n".join(lines).replace("cultivar", "cultivars"), "내 표.csv has no column `cultivar`",
     "did you mean `cultivars`?"),
    (lambda lines: "\n".join(lines[:20]), "내 표.csv has 19 rows with a value of `cultivar`, fewer than 30",
     "collect more rows"),
    (lambda lines: spoil(lines, "샤르도네"), "column `cultivar` of 내 표.csv has one value only, '샤르도네'",
     "add rows with other values"),
    (lambda lines: spoil(lines, ""), "column `cultivar` of 내 표.csv is empty in all 178 rows", "set ingestion.target"),
], ids=["empty", "header only", "missing target", "too few rows", "one class", "no target"])
def test_a_bad_csv_ends_the_run(wines, write, spoilt, message, mend):
    said = wines.run("-p", write(spoilt(read_example(wines))), code=1)
    assert "ingestion, cell " in said and message in said and mend in said
    assert wines.statuses() == {"ingestion": "failed", "preparation": "skipped", "training": "skipped"}


@pytest.fixture
def refuse(wines: Project, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Runs the cells of a stage notebook in this process, which costs no kernel; gives the error that they raise."""
    monkeypatch.setenv("MLOPS_NB_PROJECT", str(wines.root))
    monkeypatch.syspath_prepend(str(wines.root))

    def refuse(notebook: str, **parameters: Any) -> str:
        names: dict[str, Any] = {}
        with pytest.raises(UsageError) as caught:
            for cell in json.loads((wines.root / "nbs" / "stages" / notebook).read_text("utf-8"))["cells"]:
                if cell["cell_type"] == "code":
                    exec("".join(cell["source"]), names)
                    names |= parameters if "parameters" in cell["metadata"].get("tags", []) else {}
        return str(caught.value)
    return refuse


@pytest.mark.parametrize(("spoilt", "parameters", "message", "mend"), [
    (lambda lines: "\n".join(lines).replace(",", ";"), {}, "내 표.csv has one column only, `alcohol;malic_acid",
     "set ingestion.separator"),
    (lambda lines: "\n".join([*lines[:9], lines[9] + ",1", *lines[10:]]), {}, "Expected 14 fields in line 10, saw 15",
     "mend that line"),
    (lambda lines: "\n".join([lines[0], *(line + ",1" for line in lines[1:])]), {},
     "the rows of 내 표.csv have more values than its first line", "mend the first line"),
    (lambda lines: ORDERS.encode("cp949"), {}, "내 표.csv cannot be read as utf-8-sig",
     "set ingestion.encoding; cp949"),
    (lambda lines: ORDERS, {"target": "금액", "dates": {"방문일": "%d.%m.%Y"}},
     "60 values of column `방문일` are no dates as %d.%m.%Y, the first is '2026.03.01'", "correct the format"),
    (lambda lines: ORDERS, {"target": "음료 이름", "task": "regression"}, "column `음료 이름` is str",
     "set ingestion.task"),
    (lambda lines: "", {"source": Path("../../data/없는 표.csv")}, "data/없는 표.csv", "counts from"),
], ids=["separator", "a long row", "long rows", "encoding", "dates", "task", "no file"])
def test_a_csv_that_is_read_wrongly_is_named_with_its_mend(wines, write, refuse, spoilt, parameters, message, mend):
    source = Path(write(spoilt(read_example(wines))).partition("=")[2])
    said = refuse("01_ingestion.ipynb", **{"source": source, **parameters})
    assert message in said and mend in said


@pytest.mark.parametrize(("target", "parameters", "message", "mend"), [
    ("name", {}, "`name` has 40 classes, and 0 of them with 10 rows or more", "set ingestion.target to another column"),
    ("kind", {"leave_out": ["nam"]}, "preparation.leave_out names `nam`", "did you mean `name`?"),
    ("kind", {}, "no column is left to learn `kind` from", "preparation.max_distinct"),
])
def test_a_table_that_teaches_nothing_is_named(refuse, monkeypatch, target, parameters, message, mend):
    table = pd.DataFrame({"kind": ["붉은", "흰"] * 20, "name": [f"이름 {row}" for row in range(40)],
                          "number": range(40)})
    given = {"ingestion.table": table, "ingestion.question": {"target": target, "task": "classification"}}
    monkeypatch.setattr("mlops_nb.artifacts.load", given.get)
    said = refuse("02_preparation.ipynb", **parameters)
    assert message in said and mend in said
