"""Runs under control: limits, retries, resuming, sweeps, and what a run says while it goes on."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from projects import Project, holding, is_living, wait_until

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
