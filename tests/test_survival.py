"""Whatever happens to a run from outside, what was done is kept, what was not is not half there, and it can go on."""

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from projects import Project, cell, holding, is_living, wait_until, write_notebook

ROOT = Path(__file__).parent.parent
MAKE = ("01_make", 'count: int = 3\nrows: Output = "rows"', "save(rows, {'n': count})")


def check_whole(project: Project) -> None:
    """The database is sound, each artifact in the catalog is there, and each content is what its name says."""
    from mlops_nb.content import damaged_files

    assert [row[0] for row in project.query("PRAGMA integrity_check")] == ["ok"]
    kept = {folder.name for folder in project.objects()}
    assert {row["hash"] for row in project.query("SELECT hash FROM artifacts")} <= kept
    assert [folder for folder in project.objects() if damaged_files(folder)] == []


# Kills and interruptions


def test_a_kernel_and_a_stage_process_killed_in_the_middle(project):
    """Both stages are named as killed, their later stages do not run, an independent one does, nothing is left."""
    made, after = 'made: Output = "made"\nlate: Output = "late"', 'got: Input = "{}.made"\nmade: Output = "made"'
    project.stage("01_first", made, "save(made, 'x')", holding("one"), "save(late, 'x')")
    project.stage("02_second", made, "save(made, 'x')", holding("two"), "save(late, 'x')")
    project.stage("03_after_first", after.format("first"), "save(made, load(got))")
    project.stage("04_after_second", after.format("second"), "save(made, load(got))")
    project.stage(*MAKE)
    holds = [project.hold("one"), project.hold("two")]
    process = project.start("run", "--jobs", "2", "--json")
    first, second = project.wait_for_kernel("one"), project.wait_for_kernel("two")
    os.kill(first, signal.SIGKILL)
    os.kill(project.stage_process("02_second"), signal.SIGKILL)
    answer = project.finish(process)
    assert answer.code == 1 and answer.said
    assert project.statuses() == {"first": "failed", "second": "failed", "after_first": "skipped",
                                  "after_second": "skipped", "make": "done"}
    events = [json.loads(line) for line in answer.out.splitlines()]
    ended = {event["stage"]: event["error"] for event in events if event["event"] == "stage-ended"}
    assert ended["first"]["error"] == "KernelDied" and ended["first"]["cell"] == 5
    assert "was killed by SIGKILL" in ended["first"]["message"]
    assert ended["second"]["error"] == "StageKilled"
    assert "was killed by SIGKILL" in ended["second"]["message"]
    assert project.catalog() == [("make.rows", "committed")]
    cells = project.output("first")["cells"]
    assert [one["metadata"]["papermill"]["status"] for one in cells if one["cell_type"] == "code"] == [
        "completed", "completed", "completed", "failed", "pending"]
    assert project.output("second")["nbformat"] == 4
    wait_until(lambda: not is_living(second), "the kernel without its stage process is gone", 15)
    for hold in holds:
        hold.unlink()
    assert "make reused" in project.run(warm=True)
    check_whole(project)


STUBBORN = """import signal
signal.signal(signal.SIGINT, signal.SIG_IGN)
""" + holding()


@pytest.fixture(scope="module")
def holdable(make_shared_project):
    """A project whose second stage stands still on demand, and pays no heed to an interrupt."""
    project = make_shared_project("holdable")
    project.stage(*MAKE)
    project.stage("02_slow", 'rows: Input = "make.rows"\nnumber: int = 0\nmade: Output = "made"\nlate: Output = "late"',
                  "save(made, [number])", STUBBORN, "save(late, load(rows) | {'number': number})")
    project.stage("03_last", 'got: Input = "slow.late"\nmade: Output = "made"', "save(made, load(got))")
    return project


@pytest.mark.parametrize(("number", "kind", "whole_group"), [
    (1, signal.SIGINT, True), (2, signal.SIGTERM, False), (3, signal.SIGKILL, False), (4, signal.SIGHUP, True)],
    ids=["Ctrl-C", "SIGTERM", "SIGKILL", "SIGHUP"])
def test_a_run_stopped_in_the_middle_goes_on_later(holdable, number, kind, whole_group):
    words = ("run", "-p", f"slow.number={number}")
    hold = holdable.hold()
    process = holdable.start(*words)
    kernel = holdable.wait_for_kernel()
    stage = holdable.stage_process("02_slow")
    before, began = holdable.catalog(), time.monotonic()
    (os.killpg if whole_group else os.kill)(process.pid, kind)
    answer = holdable.finish(process)
    if kind in (signal.SIGINT, signal.SIGTERM):
        assert time.monotonic() - began < 5
        assert answer.code == 130 and "interrupted; what was done is kept" in answer.said
    else:
        assert answer.code == -kind
    assert holdable.status()["status"] == "interrupted"
    assert holdable.statuses() == {"make": "reused" if number > 1 else "done", "slow": "interrupted", "last": "skipped"}
    wait_until(lambda: not is_living(kernel) and not is_living(stage), "stage and kernel are gone", 15)
    assert holdable.catalog() == before, "nothing of the stopped stage is in the catalog"
    check_whole(holdable)
    hold.unlink()
    holdable.run(*words[1:], warm=True)
    assert holdable.statuses() == {"make": "reused", "slow": "done", "last": "done"}


def test_an_interrupt_before_anything_runs(project):
    """The server that forks stage processes is still importing then; Ctrl-C is not its affair."""
    project.stage(*MAKE)
    process = project.start("run")

    def importing() -> bool:
        """Has a child of the runner begun to import what a stage needs?"""
        others = [pid for pid in project.living() if pid != process.pid]
        return any("/zmq/" in Path(f"/proc/{pid}/maps").read_text() for pid in others if is_living(pid))

    wait_until(importing, "the server is importing")
    os.killpg(process.pid, signal.SIGINT)
    answer = project.finish(process)
    assert answer.code == 130 and "interrupted; what was done is kept" in answer.said
    if (project.state / "state.db").exists():  # it may have come to its record
        assert {row["status"] for row in project.query("SELECT status FROM stage_runs")} <= {"interrupted", "skipped"}


def test_a_reader_that_goes_away_does_not_end_the_run(project):
    """`mlops-nb run | head -1`, or `| grep -q`."""
    project.stage(*MAKE)
    for words in (("run",), ("run", "--json")):
        process = project.start(*words)
        assert process.stdout.readline()
        process.stdout.close()
        assert process.wait(60) == 0 and process.stderr.read() == ""
        process.stderr.close()
        assert project.status()["status"] == "done"


# Disks


def succeeds(*words: str) -> bool:
    """Try a command that needs root, such as mount."""
    if os.geteuid() != 0 or not shutil.which(words[0]):
        return False
    return subprocess.run(words, capture_output=True, check=False).returncode == 0


@pytest.fixture
def small_disk(project):
    """A project whose state folder takes 4 MB: a disk of its own, or else a limit on each file."""
    project.state.mkdir()
    if succeeds("mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(project.state)):
        yield project, ()
        project.wait_until_quiet()
        subprocess.run(["umount", str(project.state)], check=True)
    else:
        yield project, ("sh", "-c", 'ulimit -f 8000; exec "$@"', "sh")


def test_a_value_that_the_disk_does_not_take(small_disk):
    """The stage fails by name, nothing of it is kept, and with a smaller value the same project goes on."""
    project, before = small_disk
    project.stage(*MAKE)
    project.stage("02_large", 'rows: Input = "make.rows"\nsize: int = 8_000_000\nmade: Output = "made"',
                  "import os\nsave(made, os.urandom(size))")
    answer = project.call("run", before=before)
    assert answer.code == 1
    flat = " ".join(answer.said.split())
    assert "large, cell 4 failed: ArtifactError: nothing can be kept in" in flat and "mend: " in flat
    assert project.statuses() == {"make": "done", "large": "failed"}
    assert project.catalog() == [("make.rows", "committed")] and not list(project.state.glob("objects/.making*"))
    answer = project.call("run", "-p", "large.size=1000", before=before)
    assert answer.code == 0 and "make reused" in answer.said
    check_whole(project)


def test_a_disk_that_is_full_to_the_last_byte(small_disk):
    """Not even the record can be written: it says so in two lines, and goes on when there is space again."""
    project, before = small_disk
    if before:
        pytest.skip("only who may mount a small disk can fill one")
    filling = """import os, pathlib
disk = pathlib.Path(os.environ["MLOPS_NB_STATE"])
if not (disk / "not now").exists():
    with open(disk / "ballast", "wb", buffering=0) as ballast:
        try:
            while True:
                ballast.write(bytes(512))
        except OSError:
            pass"""
    project.stage("01_fill", 'made: Output = "made"', filling, "save(made, 'x')")
    answer = project.call("run")
    assert answer.code == 1 and "free some space" in " ".join(answer.said.split())
    answer = project.ask("run")  # and with a disk that is full from the start
    assert answer.code == 1 and "space" in answer.said
    (project.state / "ballast").unlink()
    (project.state / "not now").touch()
    assert "fill done" in project.run(warm=True)
    assert project.catalog() == [("fill.made", "committed")]
    check_whole(project)


def test_a_report_that_cannot_be_written(project):
    """All stages are done and their record says so; that the page is missing is said in two lines."""
    in_the_way = 'import os, pathlib\n(pathlib.Path(os.environ["MLOPS_NB_RUN"]).parent.parent / "report.html").mkdir()'
    project.stage("01_make", 'rows: Output = "rows"', in_the_way, "save(rows, {'n': 3})")
    answer = project.ask("run")
    assert answer.code == 1 and str(project.state / "runs") in answer.said and "mend:" in answer.said
    assert project.status()["status"] == "done" and project.catalog() == [("make.rows", "committed")]


@pytest.fixture
def read_only():
    """Makes a folder read-only for the rest of a test, for root too."""
    mended = []

    def make(folder: Path) -> None:
        if os.geteuid() != 0:
            for path in (folder, *folder.rglob("*")):
                path.chmod(path.stat().st_mode & ~0o222)
        elif succeeds("mount", "--bind", str(folder), str(folder)):
            mended.append(["umount", str(folder)])
            subprocess.run(["mount", "-o", "remount,ro,bind", str(folder)], check=True)
        elif succeeds("chattr", "-R", "+i", str(folder)):
            mended.append(["chattr", "-R", "-i", str(folder)])
        else:
            (pytest.fail if os.environ.get("CI") else pytest.skip)("root cannot be kept from writing on this machine")

    yield make
    for words in mended:  # a process that is just ending may have its working folder there still
        wait_until(lambda: succeeds(*words), "the folder is free")  # noqa: B023


@pytest.mark.parametrize("package", ["", "scratch"])
def test_a_read_only_state_folder(make_project, read_only, package):
    """Nothing runs, and it says why, with and without a package to export."""
    project = make_project()
    project.configure(package=package)
    project.stage(*MAKE)
    assert project.ask("status").code == 2  # there is no run yet, and now there is a store
    read_only(project.state)
    for words in (("run",), ("run", "--fresh", "make")):
        answer = project.ask(*words)
        assert answer.code == 1, answer
        assert str(project.state) in answer.said and "MLOPS_NB_STATE" in answer.said
    for words in (("status",), ("plan",), ("show", "make.rows")):
        answer = project.ask(*words)
        assert answer.code in (0, 1, 2), answer
        assert answer.said


def test_a_read_only_project(project, read_only):
    """The state folder cannot even be made; another place for it can be named, and then everything runs."""
    project.stage(*MAKE)
    read_only(project.root)
    answer = project.ask("run")
    assert answer.code == 1 and ".mlops" in answer.said and "MLOPS_NB_STATE" in answer.said
    project.environment["MLOPS_NB_STATE"] = str(project.root.parent / "elsewhere")
    assert "make done" in project.run(warm=True)


# Several runs at once


def test_several_runs_of_one_project_at_once(project):
    """Two with different parameters, then four of the same: all end well, and no record is lost."""
    project.configure(package="scratch")
    write_notebook(project.root / "nbs" / "lib.ipynb", [
        cell("code", "#| default_exp lib"), cell("code", "#| export\ndef double(x: int) -> int:\n    return 2 * x")])
    project.stage("01_make", 'count: int = 3\nrows: Output = "rows"', "save(rows, {'n': double(count)})",
                  imports="from scratch.lib import double")
    project.stage("02_use", 'rows: Input = "make.rows"\nout: Output = "out"', "save(out, load(rows))")
    for given in ([["make", "-p", "make.count=1"], ["make", "-p", "make.count=2"]], [[]] * 4):
        answers = [project.finish(each) for each in [project.start("run", *words) for words in given]]
        assert [answer.code for answer in answers] == [0] * len(given), answers
        assert all("Traceback" not in answer.out + answer.err for answer in answers)
    assert [row["status"] for row in project.query("SELECT status FROM runs")] == ["done"] * 6
    assert [row["status"] for row in project.query("SELECT status FROM stage_runs")] == ["done"] * 10
    rows = project.query("SELECT name, hash, run FROM artifacts")
    assert len(rows) == 10 and len({(row["name"], row["run"]) for row in rows}) == 10
    assert len({row["hash"] for row in rows}) == 3, "use.out is make.rows, and there were three values of count"
    assert len(project.objects()) == 3 and not list(project.state.glob("objects/.making*"))
    check_whole(project)


# Names


def test_names_in_korean_and_with_spaces(make_project):
    """Folder, file, column, parameter, stage, artifact, package, module and function names; and odd signs in paths."""
    project = make_project("내 프로젝트 {x} 100% #1")
    project.configure("[environment.운영]\nbindings =\n  수집.출처 = file:자료/둘째 표.csv", package="항공")
    write_notebook(project.root / "nbs" / "00 계산.ipynb", [
        cell("code", "#| default_exp 계산"), cell("code", "#| export\ndef 늘리기(값, 배수):\n    return 값 * 배수")])
    project.stage("01_수집", '출처: Input = "file:자료/가격 표.csv"  # 원본\n배수: int = 2  # 몇 배\n표: Output = "표"',
                  "frame = load(출처)\nframe['가격 (원)'] = 늘리기(frame['가격 (원)'], 배수)\nsave(표, frame)\nframe",
                  imports="from 항공.계산 import 늘리기")
    project.stage("02_분석", '표: Input = "수집.표"\n요약: Output = "요약"',
                  "save(요약, {'합계': load(표)['가격 (원)'].sum()})")
    (project.root / "자료").mkdir()
    (project.root / "자료" / "가격 표.csv").write_text("이름,가격 (원)\n사과,10\n배,20\n", "utf-8")
    (project.root / "자료" / "둘째 표.csv").write_text("이름,가격 (원)\n귤,5\n", "utf-8")
    project.run("-p", "수집.배수=3")
    assert project.statuses() == {"수집": "done", "분석": "done"}
    summary = "import json; from mlops_nb.artifacts import load; print(json.dumps(load('분석.요약')))"
    assert json.loads(project.python(summary).out) == {"합계": 90}
    assert "가격 (원)" in project.ask("show", "수집.표").said
    assert "몇 배" in project.ask("stages", "수집").said
    assert "did you mean `배수`?" in project.ask("run", "-p", "수집.배수를=1").said
    assert project.ask("run", "-p", "수집.배수=셋").code == 2
    project.run("--env", "운영", warm=True)
    assert json.loads(project.python(summary, MLOPS_NB_ENV="운영").out) == {"합계": 10}
    check_whole(project)
    edited_by_hand(project)


def edited_by_hand(project: Project) -> None:
    """A module that was edited by hand is never overwritten: the run is refused and names it."""
    module = project.root / "항공" / "계산.py"
    ours = module.read_text("utf-8") + "\nby_hand = 1\n"
    module.write_text(ours, "utf-8")
    notebook = project.root / "nbs" / "00 계산.ipynb"
    notebook.write_text(notebook.read_text("utf-8").replace("값 * 배수", "배수 * 값"), "utf-8")
    answer = project.ask("run")
    assert answer.code == 2 and f"{module} was edited by hand, and 00 계산.ipynb would overwrite it" in answer.said
    assert "mend:  carry the edit into the notebook with `nbdev-update" in answer.said
    assert module.read_text("utf-8") == ours


def test_a_terminal_that_knows_no_unicode(project):
    """The marks of the tables are not worth a crash."""
    project.stage(*MAKE)
    project.environment["PYTHONIOENCODING"] = "ascii"
    for words in (("plan",), ("run",)):
        answer = project.call(*words)
        assert answer.code == 0 and "make" in answer.said


# Artifacts


def test_damaged_and_deleted_artifacts(project):
    """Shown, it is named with the command that mends it; needed by a run, it is made again unasked."""
    project.stage("01_make", 'rows: Output = "rows"', "save(rows, list(range(100)))")
    project.stage("02_use", 'rows: Input = "make.rows"\nx: int = 1\nout: Output = "out"',
                  "save(out, {'n': len(load(rows)) * x})")
    project.run(warm=True)
    digits = project.query("SELECT hash FROM artifacts WHERE name = 'make.rows'")[0]["hash"]
    folder = project.state / "objects" / digits[:2] / digits
    whole = (folder / "value.json").read_bytes()
    (folder / "value.json").chmod(0o644)
    (folder / "value.json").write_bytes(whole[:len(whole) // 2])
    answer = project.ask("show", "make.rows")
    assert answer.code == 1 and f"artifact make.rows is damaged: value.json in {folder}" in answer.said
    assert "mend:  run `mlops-nb run make --fresh` to make it again" in answer.said
    (folder / "artifact.json").chmod(0o644)
    (folder / "artifact.json").write_text("{")
    assert "artifact.json" in project.ask("show", "make.rows").said
    said = project.run("-p", "use.x=2", warm=True)
    assert "make: make.rows is damaged: artifact.json" in said and (folder / "value.json").read_bytes() == whole
    shutil.rmtree(folder)
    said = project.run("-p", "use.x=2", warm=True)
    assert "make: its result is no longer kept" in said and project.statuses() == {"make": "done", "use": "reused"}
    check_whole(project)


# Under stock papermill


def papermill(notebook: Path, output: Path, *words: str, cwd: Path, state: Path) -> dict:
    """Run a notebook with papermill's own command line and engine; gives the executed notebook."""
    environment = {**os.environ, "MLOPS_NB_STATE": str(state)}
    done = subprocess.run([str(Path(sys.executable).with_name("papermill")), str(notebook), str(output), *words,
                           "--no-progress-bar"], cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(output.read_text("utf-8"))


def test_a_stage_runs_under_stock_papermill(project, tmp_path):
    path = project.stage(*MAKE)
    papermill(path, tmp_path / "out.ipynb", "-p", "count", "5", cwd=project.root, state=project.state)
    assert project.catalog() == [("make.rows", "interactive")]
    assert json.loads(next(project.state.glob("objects/??/*/value.json")).read_text()) == {"n": 5}


def test_stages_of_flights_run_under_stock_papermill(tmp_path):
    state = tmp_path / "state"
    for stage, words in (("01_collection", ()), ("02_ingestion", ("-p", "sample", "0.02"))):
        cells = papermill(ROOT / "nbs" / "stages" / f"{stage}.ipynb", tmp_path / f"{stage}.ipynb", *words, cwd=ROOT,
                          state=state)["cells"]
        assert all(one["execution_count"] for one in cells if one["cell_type"] == "code" and one["source"])
    with sqlite3.connect(state / "state.db") as connection:
        found = {name for name, in connection.execute("SELECT name FROM artifacts WHERE standing = 'interactive'")}
    assert {"collection.flights", "collection.provenance", "ingestion.flights", "ingestion.rejects"} <= found
