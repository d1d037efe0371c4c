"""Runs under control: limits, retries, resuming, sweeps, and what a run says while it goes on."""

import contextlib
import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from projects import IMPORTS, Project, cell, holding, is_living, wait_until, write_notebook

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

MAKE = ("01_make", 'count: int = 3\nrows: Output = "rows"', "save(rows, {'n': count})")
# A cell that fails as often as the file `failures` says, each time in another way.
FAILING = """import os, pathlib
left = pathlib.Path(os.environ["MLOPS_NB_PROJECT"]) / "failures"
number = int(left.read_text()) if left.exists() else 0
if number:
    left.write_text(str(number - 1))
    raise ValueError(f"{number} failures to go")"""


def declare(notebook: Path, **limits: Any) -> None:
    """Write limits into a notebook's metadata, as JupyterLab does."""
    content = json.loads(notebook.read_text("utf-8"))
    content["metadata"]["mlops_nb"] = limits
    notebook.write_text(json.dumps(content), "utf-8")


def events_of(answer: Any) -> list[dict[str, Any]]:
    """The events that `mlops-nb run --json` printed."""
    return [json.loads(line) for line in answer.out.splitlines()]


def record_of(project: Project, stage: str, run: str = "") -> dict[str, Any]:
    """A stage's row of the newest run (or another) as the library gives it."""
    from mlops_nb.runs import find_run

    return next(one for one in find_run(project.state, run)["stages"] if one["stage"] == stage)


def tries_say(project: Project, words: str) -> bool:
    """Has a record a try with an error that contains these words?"""
    return bool(project.query(f"SELECT attempts FROM stage_runs WHERE attempts LIKE '%{words}%'"))


# Retries


def test_a_stage_that_fails_is_tried_again(project):
    """Twice it fails, with growing waits between; the third try is a result like any other."""
    project.configure("[stage.shaky]\nretries = 2\nretry_wait = 0.1")
    project.stage("01_shaky", 'early: Output = "early"\nmade: Output = "made"', "save(early, [1])", FAILING,
                  "save(made, [2])")
    (project.root / "failures").write_text("2")
    answer = project.ask("run", "--json")
    assert answer.code == 0, answer
    retries = [one for one in events_of(answer) if one["event"] == "stage-retry"]
    assert [(one["attempt"], one["attempts"], one["wait"]) for one in retries] == [(1, 3, 0.1), (2, 3, 0.2)]
    assert [one["error"]["message"] for one in retries] == ["2 failures to go", "1 failures to go"]
    attempts = record_of(project, "shaky")["attempts"]
    assert [one["error"] and one["error"]["cell"] for one in attempts] == [5, 5, None]
    assert [Path(one["notebook"]).name for one in attempts] == ["01_shaky.attempt1.ipynb", "01_shaky.attempt2.ipynb",
                                                               "01_shaky.ipynb"]
    for one in attempts:
        assert json.loads(Path(one["notebook"]).read_text())["cells"]
    assert attempts[1]["began"] >= attempts[0]["began"] + attempts[0]["seconds"] + 0.1
    assert project.catalog() == [("shaky.early", "committed"), ("shaky.made", "committed")]
    assert project.statuses() == {"shaky": "done"}


def test_the_last_try_counts_and_settings_win(project):
    """One retry in the notebook, none in the settings: none. A kernel that dies is a failure like any other."""
    notebook = project.stage("01_shaky", 'made: Output = "made"', FAILING, "save(made, [2])")
    declare(notebook, retries=1, retry_wait=0)
    project.stage("02_dies", 'made: Output = "made"', FAILING.replace('"failures"', '"deaths"').replace(
        "raise ValueError(", "os._exit(9) or print("), "save(made, [2])")
    declare(project.root / "nbs/stages/02_dies.ipynb", retries=1, retry_wait=0)
    for name in ("failures", "deaths"):
        (project.root / name).write_text("2")
    answer = project.ask("run")
    assert answer.code == 1
    assert "shaky: try 1 of 2 failed, the next one begins in 0 s" in answer.said
    assert [one["error"]["error"] for one in record_of(project, "dies")["attempts"]] == ["KernelDied"] * 2
    assert len(record_of(project, "shaky")["attempts"]) == 2
    (project.root / "failures").write_text("1")
    project.configure("[stage.shaky]\nretries = 0")
    assert project.ask("run", "shaky").code == 1
    assert len(record_of(project, "shaky")["attempts"]) == 1
    assert project.ask("run").code == 0


def test_what_stops_on_purpose_is_not_tried_again(project):
    project.configure("[stage.gate]\nretries = 3\n[stage.ask]\nretries = 3")
    for name, error in (("01_gate", "GateRefused"), ("02_ask", "NeedsPerson")):
        project.stage(name, 'made: Output = "made"', f"raise {error}('no', 'yes')",
                      imports=f"from mlops_nb.errors import {error}")
    answer = project.ask("run")
    assert answer.code == 4 and "try" not in answer.said
    assert project.statuses() == {"gate": "refused", "ask": "needs_person"}


def test_an_interrupt_while_a_stage_waits_for_its_next_try(project):
    project.configure("[stage.shaky]\nretries = 1\nretry_wait = 3600")
    project.stage("01_shaky", 'made: Output = "made"', FAILING, "save(made, [2])")
    (project.root / "failures").write_text("1")
    process = project.start("run")
    wait_until(lambda: (project.root / "failures").read_text() == "0", "the first try has failed")
    wait_until(lambda: tries_say(project, "failures to go"), "and is recorded")
    process.send_signal(signal.SIGINT)
    answer = project.finish(process)
    assert answer.code == 130 and "the next one begins in 3600 s" in answer.said
    assert project.statuses() == {"shaky": "interrupted"}
    assert record_of(project, "shaky")["attempts"][0]["error"]["message"] == "1 failures to go"
    assert "shaky done" in project.run("--resume", warm=True)


# Limits


def test_a_stage_that_takes_too_long_is_stopped(project):
    """It is named with its limit and its cell, also when deaf; what needs it is skipped, the rest goes on."""
    project.configure("[stage.slow]\ntime_limit = 2\n[stage.deaf]\ncell_time_limit = 1")
    project.stage("01_slow", 'number: int = 0\nmade: Output = "made"', "import time", "time.sleep(600)",
                  "save(made, [1])")
    project.stage("02_deaf", 'made: Output = "made"',
                  "import signal, time\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nsignal.signal(signal.SIGTERM, "
                  "signal.SIG_IGN)",
                  "time.sleep(600)\nsave(made, [1])")
    project.stage("03_after", 'got: Input = "slow.made"\nmade: Output = "made"', "save(made, load(got))")
    project.stage(*MAKE)
    answer = project.ask("run", "-p", "slow.number=1", "--jobs", "3")
    assert answer.code == 1, answer
    assert project.statuses() == {"slow": "failed", "deaf": "failed", "after": "skipped", "make": "done"}
    slow, deaf = (record_of(project, stage)["error"] for stage in ("slow", "deaf"))
    assert (slow["error"], slow["cell"], slow["source"]) == ("TimeLimit", 5, "time.sleep(600)")
    assert slow["message"] == "the stage took longer than 2 s (time_limit); it was in cell 5"
    assert deaf["message"] == "the cell took longer than 1 s (cell_time_limit); it was in cell 5"
    assert "slow, cell 5 failed: TimeLimit" in answer.said
    assert project.catalog() == [("make.rows", "committed")]


def test_a_stage_within_its_limits_and_one_that_is_tried_again_in_time(project):
    """Each cell has its own time; a try that was too slow is followed by one that is not."""
    notebook = project.stage("01_three", 'made: Output = "made"', *["import time\ntime.sleep(0.7)"] * 4,
                             "save(made, [1])")
    declare(notebook, cell_time_limit=2)
    project.stage("02_hangs", 'made: Output = "made"', holding(), "save(made, [1])")
    project.configure("[stage.hangs]\ntime_limit = 3\nretries = 1\nretry_wait = 0\nmemory_limit_mb = 4000")
    hold = project.hold()
    process = project.start("run", "--json")
    project.wait_for_kernel()
    wait_until(lambda: tries_say(project, "TimeLimit"), "the first try is over")
    hold.unlink()
    answer = project.finish(process)
    assert answer.code == 0, answer
    assert project.statuses() == {"three": "done", "hangs": "done"}
    errors = [one["error"] for one in record_of(project, "hangs")["attempts"]]
    assert errors[0]["error"] == "TimeLimit" and errors[1:] == [None]


def test_a_stage_that_needs_too_much_memory_is_told_its_limit(project):
    project.configure("[stage.greedy]\nmemory_limit_mb = 1500")
    project.stage("01_greedy", 'made: Output = "made"', "save(made, len(bytearray(10 ** 15)))")
    answer = project.ask("run")
    assert answer.code == 1
    assert "MemoryLimit: the stage may take 1500 MB (memory_limit_mb)" in answer.said
    assert record_of(project, "greedy")["error"]["cell"] == 4


@pytest.mark.parametrize(("settings", "metadata", "message", "mend"), [
    ("[stage.make]\nretries = two", {}, "[stage.make]: retries is 'two', and not a whole number of 0 or more", ""),
    ("[stage.make]\ntime_limt = 3", {}, "[stage.make]: there is no `time_limt`; did you mean `time_limit`?", ""),
    ("[stage.mak]\nretries = 2", {}, "[stage.mak]: there is no such stage", "did you mean `make`?"),
    ("", {"memory_limit_mb": -1}, "01_make.ipynb, metadata of the notebook, mlops_nb: memory_limit_mb is -1", ""),
    ("", {"retries": True}, "retries is True", "mlops_nb"),
], ids=["no number", "unknown key", "unknown stage", "negative", "true"])
def test_limits_that_cannot_be(project, settings, metadata, message, mend):
    notebook = project.stage(*MAKE)
    project.configure(settings)
    if metadata:
        declare(notebook, **metadata)
    said = " ".join(project.refuse().split())
    assert message in said and mend in said
    assert "settings.ini" in said or "01_make.ipynb" in said


def test_a_limit_is_no_part_of_the_result(project):
    """Another limit does not make a stage run again."""
    notebook = project.stage(*MAKE)
    project.run(warm=True)
    declare(notebook, time_limit=600)
    assert "make reused" in project.run(warm=True)


# Resuming


@pytest.fixture
def stuck(project) -> Project:
    """A project whose second stage fails once, after a first one that leaves a mark each time it runs."""
    project.stage("01_first", 'seed: int = 1\nmade: Output = "made"',
                  "import os, pathlib\nmarks = pathlib.Path(os.environ['MLOPS_NB_PROJECT']) / 'marks'\n"
                  "with marks.open('a') as file:\n    file.write('x')", "save(made, [seed])")
    project.stage("02_second", 'got: Input = "first.made"\nmade: Output = "made"', FAILING, "save(made, load(got))")
    project.stage("03_third", 'got: Input = "second.made"\nfactor: int = 1\nmade: Output = "made"',
                  "save(made, [factor * each for each in load(got)])")
    (project.root / "failures").write_text("1")
    return project


def test_a_failed_run_is_resumed_with_the_same_request(stuck):
    """Stages, parameters and --fresh are the first run's; what it had done is not done again."""
    stuck.run("third", "--fresh", "-p", "first.seed=7", "-p", "third.factor=3", code=1, warm=True)
    first = stuck.status()["run"]
    stuck.stage("04_other", 'made: Output = "made"', "save(made, [1])")
    said = stuck.run("--resume", warm=True)
    assert f"resumes {first}" in said
    assert stuck.statuses() == {"first": "done", "second": "done", "third": "done"} | {"first": "reused"}
    assert record_of(stuck, "first")["parameters"] == {"seed": 7}
    assert record_of(stuck, "third")["parameters"] == {"factor": 3}
    assert (stuck.root / "marks").read_text() == "x"
    assert stuck.statuses(first) == {"first": "done", "second": "failed", "third": "skipped"}, "it stays as it was"
    answer = stuck.ask("run", "--resume")
    assert answer.code == 2 and "there is no run to resume" in answer.said


def test_a_run_without_fresh_stages_done_is_resumed_afresh(stuck):
    """What --fresh asked for and the first run had not come to is still done afresh, though a result is there."""
    (stuck.root / "failures").write_text("0")
    stuck.run(warm=True)
    (stuck.root / "failures").write_text("1")
    stuck.run("--fresh", code=1, warm=True)
    stuck.run("--resume", warm=True)
    assert stuck.statuses() == {"first": "reused", "second": "done", "third": "done"}
    assert (stuck.root / "marks").read_text() == "xx"


def test_a_changed_stage_runs_again_when_resumed(stuck):
    stuck.run(code=1, warm=True)
    path = stuck.root / "nbs/stages/01_first.ipynb"
    path.write_text(path.read_text("utf-8").replace("save(made, [seed])", "save(made, [seed, seed])"), "utf-8")
    stuck.run("--resume", warm=True)
    assert stuck.statuses() == {"first": "done", "second": "done", "third": "done"}
    assert (stuck.root / "marks").read_text() == "xx"


def test_a_killed_run_is_resumed(stuck):
    """While it runs it cannot be resumed; when its runner was killed, it can, by the beginning of its name."""
    stuck.stage("02_second", 'got: Input = "first.made"\nmade: Output = "made"', holding(), "save(made, load(got))")
    hold = stuck.hold()
    process = stuck.start("run", "-p", "first.seed=5")
    kernel = stuck.wait_for_kernel()
    running = stuck.status()["run"]
    answer = stuck.ask("run", "--resume", running)
    assert answer.code == 2 and f"run {running} is still running" in answer.said
    os.kill(process.pid, signal.SIGKILL)
    stuck.finish(process)
    wait_until(lambda: not is_living(kernel), "the kernel is gone")
    hold.unlink()
    stuck.run("--resume", running[:-1], warm=True)
    assert stuck.statuses() == {"first": "reused", "second": "done", "third": "done"}
    assert stuck.status()["run"] != running and (stuck.root / "marks").read_text() == "x"


def test_what_cannot_be_resumed(stuck):
    answer = stuck.ask("run", "--resume")
    assert answer.code == 2 and "there is no run to resume" in answer.said
    (stuck.root / "failures").write_text("0")
    stuck.run(warm=True)
    name = stuck.status()["run"]
    for words, message in (((name,), f"run {name} is done; there is nothing to resume"),
                           (("1999",), "there is no run `1999`"),
                           ((name, "-p", "first.seed=1"), "--resume takes stages and options from the run"),
                           ((name, "third"), "--resume takes stages and options from the run")):
        answer = stuck.ask("run", "--resume", *words)
        assert answer.code == 2 and message in answer.said, answer


# Sweeps and lists


EACH = "from mlops_nb.contract import Each, pick_one"


@pytest.fixture
def swept(project) -> Project:
    """Rows for each of some months, a training with two parameters, and a score of it."""
    project.stage("01_rows", 'months: Each[int] = [1, 2]\nunit: str = "km"\nrows: Output = "rows"\n'
                  'notes: Output = "notes"',
                  "month = pick_one(months)\nsave(rows, pd.DataFrame({'n': [month, 10 * month]}))",
                  "save(notes, {'month': month, 'kind': type(months).__name__})",
                  imports=f"{EACH}\nimport pandas as pd")
    project.stage("02_train", 'rows: Input = "rows.rows"\nnotes: Input = "rows.notes"\ndepth: int = 3\n'
                  'rate: float = 0.5\nmodel: Output = "model"',
                  "frame = load(rows)\nsave(model, {'depth': depth, 'rate': rate, "
                  "'total': depth * int(frame['n'].sum()), "
                  "'columns': list(frame.columns), 'months': list(frame['months']), "
                  "'notes': [[key, value] for key, value in load(notes).items()]})")
    project.stage("03_score", 'model: Input = "train.model"\nmetrics: Output = "metrics"',
                  "save(metrics, {'score': load(model)['total'] / 10, 'ok': True})")
    return project


def content_of(project: Project, reference: str) -> Any:
    """What an artifact holds, as a person at a desk loads it."""
    from mlops_nb.content import read_value

    row = project.query(f"SELECT hash FROM artifacts WHERE name = '{reference}' ORDER BY id DESC LIMIT 1")[0]
    return read_value(project.state, row["hash"])


def test_a_stage_maps_over_a_list_and_its_results_are_gathered(swept):
    """One execution an element, each seeing a plain value; behind it one table, or a dict. One more month runs one."""
    swept.run("train", "--jobs", "2", warm=True)
    assert swept.statuses() == {"rows[months=1]": "done", "rows[months=2]": "done", "rows": "done", "train": "done"}
    model = content_of(swept, "train.model")
    assert model["columns"] == ["months", "n"] and model["months"] == [1, 1, 2, 2] and model["total"] == 99
    assert model["notes"] == [[1, {"month": 1, "kind": "int"}], [2, {"month": 2, "kind": "int"}]]
    assert record_of(swept, "rows[months=2]")["parameters"] == {"months": 2, "unit": "km"}
    assert record_of(swept, "rows[months=2]")["variant"] == {"rows.months": 2}
    assert Path(record_of(swept, "rows[months=2]")["notebook"]).name == "01_rows.months=2.ipynb"
    said = swept.run("train", "-p", "rows.months=2,3", warm=True)
    assert swept.statuses() == {"rows[months=2]": "reused", "rows[months=3]": "done", "rows": "done", "train": "done"}
    assert "train: inputs notes, rows changed" in said
    assert content_of(swept, "train.model")["months"] == [2, 2, 3, 3]
    said = swept.ask("plan", "train", "-p", "rows.months=3,4").out
    assert "rows[months=3]  = reuse" in said and "rows[months=4]  → run" in said and "gathers 2 elements" in said
    assert "gathering 2 executions of the stage" in swept.ask("show", "rows.rows").said
    assert "months=3, unit='km'" in swept.ask("show", "rows[months=3].rows").said


def test_an_element_that_fails_holds_up_what_needs_the_stage(swept):
    swept.stage("01_rows", 'months: Each[int] = [1, 0, 2]\nrows: Output = "rows"\nnotes: Output = "notes"',
                "save(rows, [60 // pick_one(months)])\nsave(notes, {})", imports=EACH)
    swept.run(code=1, warm=True)
    assert swept.statuses() == {"rows[months=1]": "done", "rows[months=0]": "failed", "rows[months=2]": "done",
                                "rows": "skipped", "train": "skipped", "score": "skipped"}
    assert record_of(swept, "rows")["reason"] == "needs rows[months=0]"
    assert not [name for name, _ in swept.catalog() if name == "rows.rows"]


def test_a_sweep_executes_a_stage_and_what_follows_once_for_each_value(swept):
    """What is before runs once; the newest model is not one that was tried out; adopting one costs nothing."""
    swept.run("score", warm=True)
    model = content_of(swept, "train.model")
    said = swept.run("score", "-p", "train.depth=3,5", "-p", "train.rate=0.1,0.5", "-p", "rows.months=1,2", "--sweep",
                     warm=True)
    statuses = swept.statuses()
    names = [f"[depth={depth},rate={rate}]" for depth in (3, 5) for rate in (0.1, 0.5)]
    assert list(statuses) == ["rows[months=1]", "rows[months=2]", "rows", *(f"train{each}" for each in names),
                              *(f"score{each}" for each in names)]
    assert statuses["train[depth=3,rate=0.5]"] == "reused" and list(statuses.values()).count("done") == 1 + 3 + 3
    assert content_of(swept, "train.model") == model
    assert content_of(swept, "train[depth=5,rate=0.1].model")["depth"] == 5
    table = swept.ask("status").said.partition("variants")[2].splitlines()
    columns = [each for each in table[1].split() if each != "peak_memory_mb"]
    assert columns == ["train.depth", "train.rate", "status", "seconds", "train.model.depth", "train.model.rate",
                       "train.model.total", "score.metrics.score"] and len(table[2:6]) == 4
    assert table[5].split()[:3] == ["5", "0.5", "done"] and table[5].split()[-1] == "16.5"
    page = Path(said.rpartition("report: ")[2].strip()).read_text("utf-8")
    assert "<th>score.metrics.score</th>" in page and "16.5" in page
    swept.run("score", "-p", "train.depth=5", warm=True)
    assert swept.statuses()["train"] == "reused" and content_of(swept, "train.model")["depth"] == 5
    frame = swept.python("from mlops_nb.settings import find_project\nfrom mlops_nb.variants import tabulate_variants\n"
                         "import sqlite3\nrun = sqlite3.connect(find_project().state / 'state.db').execute("
                         "\"SELECT run FROM stage_runs WHERE stage LIKE 'train[%' LIMIT 1\").fetchone()[0]\n"
                         "print(tabulate_variants(find_project(), run)['score.metrics.score'].tolist())")
    assert frame.out == "[9.9, 9.9, 16.5, 16.5]\n", frame


def test_a_sweep_that_failed_in_one_variant_is_resumed(swept):
    swept.stage("03_score", 'model: Input = "train.model"\nmetrics: Output = "metrics"', "found = load(model)",
                FAILING.replace("if number:", "if number and found['depth'] == 5:"), "save(metrics, {'score': 1})")
    (swept.root / "failures").write_text("1")
    swept.run("-p", "train.depth=3,5", "--sweep", "--fresh", code=1, warm=True)
    assert swept.statuses()["score[depth=5]"] == "failed" and swept.statuses()["score[depth=3]"] == "done"
    swept.run("--resume", warm=True)
    statuses = swept.statuses()
    assert statuses.pop("score[depth=5]") == "done" and statuses.pop("rows") == "done"
    assert set(statuses.values()) == {"reused"} and len(statuses) == 5


@pytest.mark.parametrize(("words", "message"), [
    (("-p", "train.depth=3", "--sweep"), "there is nothing to sweep"),
    (("-p", "train.depth=3,5"), "'3,5' is not int"),
    (("-p", "train.depth=3,x", "--sweep"), "is not int"),
    (("-p", "train.depth=3,3", "--sweep"), "twice"),
    (("-p", "rows.months=1,1"), "months holds 1 twice"),
    (("-p", "rows.months=[]"), "months has no element"),
    (("-p", "rows.months=1,x"), "'x' is not int"),
], ids=["one value", "no word", "wrong type", "twice", "element twice", "no element", "wrong element"])
def test_sweeps_and_lists_that_cannot_be(swept, words, message):
    assert message in swept.refuse(*words)


@pytest.mark.parametrize(("parameters", "message"), [
    ("a: Each[int] = [1]\nb: Each[int] = [1]", "`b` is a second Each"),
    ("a: Each[list[int]] = [[1]]", "an element of an Each is one value"),
    ("a: Each[int] = [1, 1]", "a holds 1 twice"),
    ("a: Each[int] = []", "a has no element"),
], ids=["two", "lists", "twice", "empty"])
def test_an_each_that_cannot_be(project, parameters, message):
    project.stage("01_make", parameters, imports=EACH)
    assert message in project.refuse()


def test_a_mapped_stage_runs_under_stock_papermill(swept, tmp_path):
    """It sees the list, and `pick_one` gives its first element."""
    words = [str(Path(sys.executable).with_name("papermill")), "nbs/stages/01_rows.ipynb", str(tmp_path / "out.ipynb")]
    done = subprocess.run(words, cwd=swept.root, env=swept.child_environment(), capture_output=True, text=True,
                          check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert content_of(swept, "rows.notes") == {"month": 1, "kind": "list"}


def test_dates_and_odd_texts_as_elements(project):
    """What cannot stand in a file's name is made harmless, and the element is what it was."""
    project.stage("01_make", 'days: Each[date] = [date(2013, 7, 1), date(2013, 7, 2)]\nmade: Output = "made"',
                  "save(made, [days.isoformat()])", imports=f"{EACH}\nfrom datetime import date")
    project.stage("02_odd", 'names: Each[str] = ["a/b", "a b", "../..", "부산 항"]\nmade: Output = "made"',
                  "save(made, names)", imports=EACH)
    project.run(warm=True)
    from datetime import date

    assert content_of(project, "make.made") == {date(2013, 7, day): [f"2013-07-0{day}"] for day in (1, 2)}
    assert content_of(project, "odd.made") == {name: name for name in ("a/b", "a b", "../..", "부산 항")}
    assert "make[days=2013-07-02]" in project.statuses()
    run = project.state / "runs" / project.status()["run"]
    assert len(list(run.glob("*.ipynb"))) == 6 and not list(run.parent.glob("*.ipynb"))


# What a run says


@pytest.fixture(scope="module")
def told(make_shared_project) -> Project:
    """A project that was run twice: a first stage is reused, one needs two tries, one fails, one runs beside them."""
    project = make_shared_project("told")
    project.configure("[stage.shaky]\nretries = 1\nretry_wait = 0.1")
    project.stage("01_first", 'made: Output = "made"', "save(made, [1])")
    project.stage("02_shaky", 'got: Input = "first.made"\nmade: Output = "made"', FAILING,
                  "save(made, pd.DataFrame({'metric': ['auc <b>'], 'value': [0.712345]}))",
                  imports="import pandas as pd")
    project.stage("03_beside", 'got: Input = "first.made"\nmade: Output = "made"', "print('two\\nlines')",
                  "save(made, {'n': 1})")
    project.stage("04_wrong #1", 'got: Input = "beside.made"\nmade: Output = "made"', "raise KeyError('<script>')")
    project.run("first", warm=True)
    (project.root / "failures").write_text("1")
    return project


@pytest.fixture(scope="module")
def told_events(told) -> list[dict[str, Any]]:
    answer = told.ask("run", "--json")
    assert answer.code == 1, answer
    return events_of(answer)


def test_every_event_is_documented(told_events):
    """The table in the pipeline's notebook names each event and each of its keys."""
    notebook = json.loads((Path(__file__).parent.parent / "nbs/api/306_pipeline.ipynb").read_text("utf-8"))
    text = next(source for one in notebook["cells"] if "| `run-started` |" in (source := "".join(one["source"])))
    said = {line.split("`")[1]: line for line in text.splitlines() if line.startswith("| `")}
    assert {event["event"] for event in told_events} >= {"run-started", "stage-started", "cell", "stage-retry",
                                                         "stage-ended", "run-ended"}
    for event in told_events:
        for key in set(event) - {"event", "run", "time", "stage"}:
            assert f"`{key}`" in said[event["event"]], (event["event"], key)
        assert ("stage" in event) == (event["event"] not in ("run-started", "run-ended", "exported"))
    cells = [(event["cell"], event["cells"]) for event in told_events if event["event"] == "cell"]
    assert all(0 < cell <= cells for cell, cells in cells)


def test_the_page_of_a_run(told, told_events):
    """Everything it links to is there; it draws what ran when; each try has its place; what is not ours is text."""
    page = Path(told_events[-1]["report"])
    text, links = page.read_text("utf-8"), set()
    for link in re.findall(r'href="([^"]*)"', text):
        path, _, anchor = link.partition("#")
        target = (page.parent / unquote(path)).read_text("utf-8") if path else text
        assert not anchor or f'id="{anchor}"' in target
        links.add(unquote(path))
    assert {"02_shaky.attempt1.html", "02_shaky.html", "03_beside.html", "04_wrong #1.html"} <= links
    assert any(link.startswith("../") and link.endswith("/01_first.html") for link in links)
    bars = re.findall(r'<rect class="(\w+)"', text)
    assert sorted(bars) == ["done", "done", "failed", "failed", "reused"]
    assert "2 tries" in text and "1 failures to go" in text and "0.7123" in text and "auc &lt;b&gt;" in text
    assert "<script" not in text and 'src="http' not in text and "&lt;script&gt;" in text
    shown = (page.parent / "03_beside.html").read_text("utf-8")
    assert "two\nlines" in shown and '<span class="text">&#x27;two\\nlines&#x27;</span>' in shown


def test_a_run_in_which_nothing_changed_renders_nothing(told, told_events):
    answer = told.ask("run", "first", "shaky", "beside", "--json")
    folder = Path(events_of(answer)[-1]["report"]).parent
    assert [path.name for path in folder.glob("*.html")] == ["report.html"] and not list(folder.glob("*.ipynb"))
    text = (folder / "report.html").read_text("utf-8")
    assert "<svg" not in text and text.count(">reused</span>") == 3


def test_lines_in_a_log(told, told_events):
    (told.root / "failures").write_text("1")
    answer = told.ask("run", "shaky", "--fresh")
    assert answer.code == 0
    lines = answer.out.splitlines()
    assert re.fullmatch(r"run \S+ in development: 2 stages", lines[0])
    assert "= first reused" in lines and "→ shaky: asked for with --fresh" in lines
    assert "↻ shaky: try 1 of 2 failed, the next one begins in 0.1 s" in lines
    assert any(re.fullmatch(r"✓ shaky done \d+\.\d s(, [\d,]+ MB)?", line) for line in lines)
    assert "\x1b" not in answer.out


def test_a_table_in_a_terminal(told, told_events):
    """A line a stage with its cell and its seconds, while it runs; and at the end the table that stays."""
    ours, theirs = pty.openpty()
    process = told.start("run", "beside", "--fresh", stdin=theirs, stdout=theirs, stderr=theirs, text=False)
    os.close(theirs)
    said = b""
    with contextlib.suppress(OSError):  # how a terminal tells that nobody is there any more
        while part := os.read(ours, 65536):
            said += part
    os.close(ours)
    assert process.wait(60) == 0
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", said.decode())
    assert re.search(r"beside +… running +\d+ s +", shown) and re.search(r"first += reused", shown)
    assert re.search(r"beside +✓ done +\d+\.\d s", shown.rpartition("why")[2])
    assert "report: " in shown


def test_outputs_as_they_come_and_a_limit_on_memory(project):
    project.configure("[stage.greedy]\nmemory_limit_mb = 400")
    project.stage("01_says", 'made: Output = "made"', "print('one')\nprint('two', end='')", "print(' three')",
                  "save(made, [1])")
    project.stage("02_greedy", 'made: Output = "made"', "save(made, [len(bytearray(600_000_000))])")
    answer = project.ask("run", "--show-output")
    assert answer.code == 1
    assert [line for line in answer.out.splitlines() if "│" in line] == ["says │ one", "says │ two three"]
    assert "greedy, cell 4 failed: MemoryLimit: the stage may take 400 MB (memory_limit_mb)" in answer.said
    assert record_of(project, "says")["usage"]["peak_memory_mb"] > 0
    events = events_of(project.ask("run", "says", "--fresh", "--json"))
    assert "one" in "".join(event["text"] for event in events if event["event"] == "output")


@pytest.mark.parametrize(("width", "scheme"), [(400, "dark"), (1200, "light")])
def test_a_page_is_no_wider_than_its_window(told, told_events, width, scheme):
    if not CHROMIUM or find_spec("playwright") is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("chromium or playwright is missing")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        for name in ("report", "02_shaky"):
            page.goto(Path(told_events[-1]["report"]).with_name(f"{name}.html").as_uri())
            assert page.evaluate("document.documentElement.scrollWidth") <= width
        page.goto(Path(told_events[-1]["report"]).as_uri())
        sizes = page.evaluate("[...document.querySelectorAll('.timeline text')]"
                              ".map(one => one.getBoundingClientRect().height)")
        assert min(sizes) >= 10, "letters of the chart are as large in a narrow window as in a wide one"
        browser.close()
    assert not [address for address in asked if not address.startswith(("file:", "data:"))]


# Odd notebooks and places


def test_a_notebook_of_five_thousand_cells(project):
    """Most of it is text; it is planned, run and shown like any other."""
    cells = [cell("code", IMPORTS), cell("code", 'made: Output = "made"', "parameters")]
    cells += [cell("markdown", f"## Step {number}\n\nSome words.") for number in range(4970)]
    cells += [cell("code", f"x = {number}") for number in range(27)] + [cell("code", "save(made, [x])")]
    write_notebook(project.root / "nbs/stages/01_long.ipynb", cells)
    assert "long" in project.ask("plan").said
    said = project.run(warm=True)
    page = Path(said.rpartition("report: ")[2].strip()).with_name("01_long.html")
    assert page.read_text("utf-8").count("<h2>Step") == 4970 and page.stat().st_size < 2_000_000
    assert project.statuses() == {"long": "done"} and content_of(project, "long.made") == [26]


def test_a_page_of_five_thousand_cells_of_code(tmp_path):
    from mlops_nb.rendering import write_notebook_page

    cells = [cell("code", f"x = {number}  # a line\nprint(x)") for number in range(5000)]
    for number, one in enumerate(cells):
        one["outputs"] = [{"output_type": "stream", "name": "stdout", "text": f"{number}\n"}]
    page = write_notebook_page(write_notebook(tmp_path / "01_long.ipynb", cells))
    assert page.read_text("utf-8").count('class="output"') == 5000 and page.stat().st_size < 2_500_000


def test_an_output_of_thirty_megabytes(project):
    """It is kept out of the page; the other outputs are in it, and the run's page is small."""
    project.stage("01_loud", 'made: Output = "made"', "print('before')", "print('x' * 30_000_000)", "print('after')",
                  "save(made, [1])")
    said = project.run(warm=True)
    report = Path(said.rpartition("report: ")[2].strip())
    text = report.with_name("01_loud.html").read_text("utf-8")
    assert len(text) < 11_000_000 and "before" in text and "after" in text and report.stat().st_size < 100_000


def test_an_output_of_two_hundred_megabytes_is_kept_out_of_the_page(tmp_path):
    """A notebook of that size is not even read: the page says how large it is, and links to it."""
    from mlops_nb.rendering import write_notebook_page

    one = cell("code", "print('x' * 200_000_000)")
    one["outputs"] = [{"output_type": "stream", "name": "stdout", "text": "x" * 200_000_000}]
    page = write_notebook_page(write_notebook(tmp_path / "01 loud.ipynb", [one]))
    text = page.read_text("utf-8")
    assert len(text) < 10_000 and "has 200 MB" in text and 'href="01%20loud.ipynb"' in text


def test_paths_of_more_than_250_characters(make_project):
    """The project's folder is that deep, a stage's name is that long, and another one's in letters of three bytes."""
    project = make_project("/".join(["a folder with a long name " + "x" * 50] * 4))
    assert len(str(project.root)) > 250
    long, korean = "y" * 240, "가" * 78
    project.stage(f"01_{long}", 'parts: Each[str] = ["a", "b"]\nmade: Output = "made"', "save(made, parts)",
                  imports=EACH)
    project.stage(f"02_{korean}", f'got: Input = "{long}.made"\nmade: Output = "made"', FAILING,
                  "save(made, list(load(got)))")
    project.configure(f"[stage.{korean}]\nretries = 1\nretry_wait = 0")
    (project.root / "failures").write_text("1")
    project.run(warm=True)
    assert project.statuses() == {f"{long}[parts=a]": "done", f"{long}[parts=b]": "done", long: "done", korean: "done"}
    assert content_of(project, f"{korean}.made") == ["a", "b"]
    folder = project.state / "runs" / project.status()["run"]
    assert len(list(folder.glob("*.ipynb"))) == 4 and len(list(folder.glob("*.html"))) == 5


def test_stages_whose_names_differ_by_case(project):
    project.stage("01_make", 'made: Output = "made"', "save(made, ['small'])")
    project.stage("02_Make", 'got: Input = "make.made"\nmade: Output = "made"', "save(made, [*load(got), 'large'])")
    project.run(warm=True)
    assert project.statuses() == {"make": "done", "Make": "done"}
    assert content_of(project, "make.made") == ["small"] and content_of(project, "Make.made") == ["small", "large"]
    assert "did you mean `Make`" in project.ask("run", "MAke").said


def test_a_clock_that_jumps(project, monkeypatch):
    """It goes back an hour each time that somebody looks. Durations and the chart go by another clock, limits too."""
    from datetime import UTC, datetime, timedelta
    from itertools import count

    jumps = count()

    def jumping() -> str:
        moment = datetime.now(UTC) - timedelta(hours=next(jumps))
        return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")

    for module in ("mlops_nb.pipeline", "mlops_nb.runs", "mlops_nb.artifacts"):
        monkeypatch.setattr(f"{module}.utc_now", jumping)
    project.configure("[stage.make]\ntime_limit = 60\nretries = 1\nretry_wait = 0.1")
    project.stage(*MAKE[:2], FAILING, MAKE[2])
    project.stage("02_use", 'got: Input = "make.rows"\nmade: Output = "made"', "save(made, load(got))")
    (project.root / "failures").write_text("1")
    said = project.run(warm=True)
    assert project.statuses() == {"make": "done", "use": "done"}
    assert all(0 < one["seconds"] < 60 for one in project.status()["stages"])
    text = Path(said.rpartition("report: ")[2].strip()).read_text("utf-8")
    assert all(0 <= float(at) <= 100 for at in re.findall(r'<rect class="\w+" x="([\d.-]+)%"', text))
    project.run(warm=True)
    assert sum(bool(row["reused_from"]) for row in project.query("SELECT reused_from FROM stage_runs")) == 2


def test_a_read_only_state_says_so_when_resuming(stuck):
    """Nothing is begun, and the mend names the variable by which the state goes elsewhere."""
    stuck.run(code=1, warm=True)
    stuck.environment["MLOPS_NB_STATE"] = "/proc/no such place"
    answer = stuck.ask("run", "--resume")
    assert answer.code == 1 and "MLOPS_NB_STATE" in answer.said
