"""`mlops-nb gc` shows first, deletes only what nobody needs, and takes nothing from a run that is about to use it."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from projects import Project, holding, wait_until
from test_team import MAKE

YEAR = 365 * 86400


def make_old(project: Project, *folders: Path) -> None:
    """As if nobody had used these (default: everything) for a year: times of files and of records."""
    for path in folders or [path for path in project.state.glob("*/**/*") if path.is_dir()]:
        os.utime(path, (path.stat().st_mtime - YEAR,) * 2)
    code = ("from mlops_nb.store import *; from mlops_nb.settings import find_project; import sqlalchemy as sa\n"
            "with Store(find_project().state).writing() as c:\n"
            "  c.execute(artifacts.update().values(recorded='2013'+sa.func.substr(artifacts.c.recorded, 5)))\n"
            "  c.execute(runs.update().values(ended='2013'+sa.func.substr(runs.c.ended, 5),"
            " started='2013'+sa.func.substr(runs.c.started, 5)))")
    answer = project.python(code)
    assert answer.code == 0, answer.err


def folder_of(project: Project, count: int) -> Path:
    """The folder of the content `{"n": count}`."""
    return next(path for path in project.objects() if f'"n": {count}' in (path / "value.json").read_text())


def test_it_shows_first_and_then_deletes_what_nobody_needs(project):
    project.stage(*MAKE)
    for count in range(3):
        project.run("-p", f"make.count={count}", warm=True)
    first, second = folder_of(project, 0), folder_of(project, 1)
    assert f"pinned make.rows@{first.name[:16]}" in project.ask("pin", f"make.rows@{first.name[:16]}").said
    assert project.ask("gc", "--keep", "1").said == "0 could go, 0 bytes\n", "all is young"
    make_old(project)
    assert project.ask("gc").said == "0 could go, 0 bytes\n", "three of a name stay"
    said = project.ask("gc", "--keep", "1").said
    assert f"make.rows@{second.name[:16]}" in said and "365 days" in said and "1 could go" in said
    assert "0 could go" in project.ask("gc", "--keep", "1", "--older-than", "400").said
    assert len(project.objects()) == 3, "nothing is deleted unless one says so"
    assert "deleted 1 of 1" in project.ask("gc", "--keep", "1", "--yes").said
    assert not second.exists() and len(project.objects()) == 2
    assert len(project.catalog()) == 3, "records are kept"
    assert "its result is no longer kept" in project.run("-p", "make.count=1", warm=True)
    assert f"make.rows@{first.name[:16]}" in project.ask("pin").said
    assert "no longer pinned" in project.ask("pin", "--remove", "make.rows").said
    assert project.ask("pin", "--remove", "make.rows").code == 2
    assert project.ask("pin", "make.rwos").code == 1


def test_what_was_used_lately_stays(project):
    """Reused by a run, or looked at: both count as use."""
    project.stage(*MAKE)
    for count in range(3):
        project.run("-p", f"make.count={count}", warm=True)
    make_old(project)
    first, second = folder_of(project, 0), folder_of(project, 1)
    said = project.ask("gc", "--keep", "1").said
    assert first.name[:16] in said and second.name[:16] in said and "2 could go" in said
    assert "= make reused" in project.run("-p", "make.count=0", warm=True)
    assert first.name[:16] not in project.ask("gc", "--keep", "1").said
    assert project.ask("show", f"make.rows@{second.name[:16]}").code == 0
    assert second.name[:16] not in project.ask("gc", "--keep", "1", "--yes").said
    assert first.is_dir() and second.is_dir() and len(project.objects()) == 2


def test_nothing_is_taken_from_a_run_at_work(project):
    """A stage that has saved one of two outputs, in content the same as an old one that could go."""
    project.stage(*MAKE)
    project.stage("02_two", 'rows: Input = "make.rows"\none: Output = "one"\ntwo: Output = "two"',
                  "save(one, {'n': 0})", holding(), "save(two, load(rows))")
    for count in range(3):
        project.run("make", "-p", f"make.count={count}", warm=True)
    make_old(project)
    first, second = folder_of(project, 0), folder_of(project, 1)
    hold = project.hold()
    process = project.start("run", "-p", "make.count=1")
    project.wait_for_kernel()
    assert "deleted 1 of 1" in project.ask("gc", "--yes", "--older-than", "0", "--keep", "1").said
    assert sorted(project.objects()) == sorted([first, second]), "just saved again, and an input of the run"
    hold.unlink()
    assert project.finish(process).code == 0
    assert project.statuses() == {"make": "reused", "two": "done"}


def test_leftovers_of_killed_processes_and_folders_of_forgotten_runs_go(project):
    project.stage("01_make", 'count: int = 3\nrows: Output = "rows"', holding(), "save(rows, {'n': count})")
    project.hold()
    process = project.start("run")
    project.wait_for_kernel()
    half = project.state / "objects" / f".making-{process.pid}-0a1b2c3d"
    half.mkdir(parents=True)
    (half / "table.parquet").write_bytes(bytes(5000))
    os.utime(half, (half.stat().st_mtime - 7200,) * 2)
    assert "0 could go" in project.ask("gc").said, "its process is alive"
    os.kill(process.pid, signal.SIGKILL)
    project.finish(process)
    said = project.ask("gc").said
    assert "leftover" in said and "5 kB" in said and "1 could go" in said
    killed = next(project.state.glob("runs/*"))
    (project.root / "hold").unlink()
    project.run(warm=True)
    nine = ("from mlops_nb.runs import *; from mlops_nb.settings import find_project\nfor n in range(9):\n"
            "  one = Recorder(find_project(), new_run_name(), 'development'); one.start({}, ['make']); one.end('done')")
    assert project.python(nine).err == ""
    make_old(project)
    said = project.ask("gc", "--yes").said
    assert said.count("run folder") == 1 and f"run {killed.name}" in said and "deleted 2 of 2" in said, said
    assert not half.exists() and not killed.exists() and len(list(project.state.glob("runs/*"))) == 10
    assert len(project.query("SELECT * FROM runs")) == 11, "records are kept"


def test_clearing_away_beside_those_who_use_it(project):
    """Two keep and read the same contents again and again, two clear them away: what is used is always there."""
    users = """import os, sys
from mlops_nb.content import keep_value, object_folder, read_value
from mlops_nb.settings import find_project
state = find_project().state
for number in range(150):
    value = {"n": number % 5, "of": sys.argv[1]}
    kept = keep_value(state, value)
    assert read_value(state, kept.hash) == value
    os.utime(object_folder(state, kept.hash), (1e9, 1e9))"""
    cleaner = """import pathlib
from mlops_nb.garbage import find_garbage, remove_garbage
from mlops_nb.settings import find_project
project, gone = find_project(), 0
while not pathlib.Path("stop").exists():
    gone += len(remove_garbage(project, find_garbage(project)))
print(gone)"""

    def start(code: str, name: str = "") -> subprocess.Popen[str]:
        return subprocess.Popen([sys.executable, "-c", code, name], cwd=project.root, env=project.child_environment(),
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    project.python("from mlops_nb.content import *; from mlops_nb.settings import find_project\n"
                   "keep_value(find_project().state, {'n': 0})")
    cleaners = [start(cleaner) for _ in range(2)]
    workers = [start(users, name) for name in "ab"]
    errors = [worker.communicate(timeout=300)[1] for worker in workers]
    (project.root / "stop").touch()
    gone = [cleaner.communicate(timeout=60) for cleaner in cleaners]
    assert not "".join([*errors, *(error for _, error in gone)])
    assert sum(int(out) for out, _ in gone) > 0, "something was cleared away in between"
    wait_until(lambda: not list(project.state.glob("objects/.making*")), "nothing half-moved is left", 5)
