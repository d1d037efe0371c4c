"""The same stages as tasks of a Dask cluster: its scheduler and workers are processes in folders of their own."""

import json
import os
import shutil
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from clusters import Cluster, standing, wait_for_stand
from projects import Project, cell, is_living, wait_until, write_notebook

import mlops_nb

if not os.environ.get("CI"):  # there everything is installed, or the test fails
    pytest.importorskip("distributed")

from mlops_nb.clusters import ClusterError, connect

MADE = 'number: int = 0\nmade: Output = "made"'


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store that runners and workers share, and nothing else."""
    return tmp_path_factory.mktemp("shared") / "store"


@pytest.fixture(scope="module")
def cluster(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A scheduler and two workers."""
    cluster = Cluster(tmp_path_factory.mktemp("cluster") / "machines", store)
    try:
        cluster.start_scheduler()
        cluster.start_worker("alpha", DB_PASSWORD="correct horse battery")
        cluster.start_worker("beta", DB_PASSWORD="correct horse battery")
        cluster.wait()
        yield cluster
    finally:
        cluster.close()


@pytest.fixture
def project(make_project, store: Path) -> Project:
    """A project whose state folder is the shared store; its patience with a cluster is short."""
    project = make_project()
    project.environment |= {"MLOPS_NB_STATE": str(store), "MLOPS_NB_DASK_PATIENCE": "20"}
    return project


class Run:
    """A run on a cluster that is watched while it goes on."""

    def __init__(self, project: Project, address: str, *words: str):
        self.project = project
        self.process = project.start("run", "--on", address, "--json", *words)
        self.events: list[dict] = []
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self) -> None:
        for line in self.process.stdout:
            self.events.append(json.loads(line))

    def find(self, event: str, **values: str | int) -> list[dict]:
        """The events so far of this kind and with these values."""
        return [one for one in list(self.events) if one["event"] == event and values.items() <= one.items()]

    def wait(self, event: str, seconds: float = 60, **values: str | int) -> list[dict]:
        """Wait for an event."""
        return wait_until(lambda: self.find(event, **values), f"{event} {values}", seconds)

    def end(self, code: int = 0) -> dict[str, str]:
        """Wait for the end, which must be `code`; gives the status of each stage."""
        found = self.process.wait(120)
        self.reader.join(10)
        said = self.process.stderr.read()
        assert found == code, f"exit code {found}, not {code}: {said}\n{self.events[-3:]}"
        assert "Traceback" not in said, said
        return {one["stage"]: one["status"] for one in self.find("stage-ended")}

    def workers(self, stage: str) -> list[str]:
        """The addresses of the workers that have executed a stage, in that order."""
        return [one["worker"] for one in self.find("workplace", stage=stage) if one["worker"]]

    def texts(self) -> str:
        """What the workplace had to say."""
        return "\n".join(one["text"] for one in self.find("workplace"))

    def error(self, stage: str) -> dict:
        """The error of a stage."""
        return self.find("stage-ended", stage=stage)[0]["error"]


def hashes(project: Project, names: str) -> dict[str, str]:
    """The newest hash of each artifact whose name is like `names`."""
    rows = project.query(f"SELECT * FROM artifacts WHERE name LIKE '{names}' ORDER BY id")
    return {row["name"]: row["hash"] for row in rows}


# What is the same as here


@pytest.fixture
def rich(project: Project) -> Project:
    """A project with a package, an input file, a folder as parameter, a declared file, and one that is not declared."""
    project.configure(package="scratch")
    write_notebook(project.root / "nbs" / "lib.ipynb", [
        cell("code", "#| default_exp lib"), cell("code", "#| export\ndef double(x: int) -> int:\n    return 2 * x")])
    for name in ("data/n.txt", "data/declared.txt", "data/many/a.txt", "data/many/b.txt", "secret.txt"):
        (project.root / name).parent.mkdir(parents=True, exist_ok=True)
        (project.root / name).write_text(f"21 {name}", "utf-8")
    path = project.stage(
        "01_rich", 'n: Input = "file:data/n.txt"\nmany: Path = Path("../../data/many")\nrows: Output = "rows"',
        "Path(os.environ['MLOPS_NB_STATE'], 'where.txt').write_text(os.getcwd())\nos.write(2, '한 마디\\n'.encode())",
        "number, names = int(load(n).split()[0]), sorted(each.name for each in many.iterdir())",
        "save(rows, {'n': double(number), 'many': names, 'declared': Path('../../data/declared.txt').read_text()})",
        imports="import os\nfrom pathlib import Path\nfrom scratch.lib import double")
    notebook = json.loads(path.read_text("utf-8"))
    notebook["metadata"]["mlops_nb"] = {"depends_on": ["../../data/declared.txt"]}
    path.write_text(json.dumps(notebook), "utf-8")
    for name in ("left", "right"):
        project.stage(f"02_{name}", f'rows: Input = "rich.rows"\n{MADE}', standing(project.state.parent / name),
                      "import pandas as pd\nsave(made, pd.DataFrame({'n': [load(rows)['n'], number]}))")
    project.stage("03_undeclared", f'rows: Input = "rich.rows"\n{MADE}', "open('../../secret.txt')", "save(made, 'x')")
    return project


def test_workers_that_share_only_the_store_make_the_same(rich, cluster, store):
    """Side by side on two workers, with the same hashes as here, their progress and logs told while they run."""
    rich.environment["MLOPS_NB_STATE"] = str(store.parent / "local")
    rich.run("left", "right", warm=True)
    here = hashes(rich, "%")
    rich.environment["MLOPS_NB_STATE"] = str(store)
    holds = [store.parent / name for name in ("left", "right")]
    for hold in holds:
        hold.touch()
    run = Run(rich, cluster.address)
    for hold in holds:
        wait_for_stand(hold)
    for name, hold in zip(("left", "right"), holds, strict=True):
        run.wait("cell", stage=name, cell=4)
        hold.unlink()
    assert run.end(1) == {"rich": "done", "left": "done", "right": "done", "undeclared": "failed"}
    assert {name: digits for name, digits in hashes(rich, "%").items() if name in here} == here
    assert len({*run.workers("left"), *run.workers("right")}) == 2
    assert "only what the stage declares" in run.error("undeclared")["message"] and run.error("undeclared")["cell"] == 4
    where = Path((store / "where.txt").read_text())
    assert where.is_relative_to(cluster.folder) and not where.exists()
    notebook = rich.output("rich")
    assert all(one["metadata"]["papermill"]["status"] == "completed" for one in notebook["cells"][1:])
    assert str(cluster.folder) not in json.dumps(notebook) + json.dumps(rich.output("undeclared"))
    log = Path(next(one["notebook"] for one in rich.status()["stages"] if one["stage"] == "rich")).with_suffix(".log")
    assert log.read_text("utf-8").count("한 마디") == 1
    assert rich.statuses()["rich"] == "done" and "rich reused" in rich.run("rich", "--on", cluster.address)


def test_a_limit_of_time_holds_on_a_worker(project, cluster):
    """The stage is stopped there, and its notebook comes back as far as it came."""
    path = project.stage("01_long", MADE, "print('begun')", "import time; time.sleep(60)", "save(made, 'x')")
    notebook = json.loads(path.read_text("utf-8"))
    notebook["metadata"]["mlops_nb"] = {"cell_time_limit": 2}
    path.write_text(json.dumps(notebook), "utf-8")
    run = Run(project, cluster.address)
    assert run.end(1) == {"long": "failed"} and run.error("long")["error"] == "TimeLimit"
    cells = [one for one in project.output("long")["cells"] if one["cell_type"] == "code"]
    assert cells[2]["outputs"][0]["text"] == ["begun\n"] and not cells[4]["execution_count"]


def test_a_secret_is_looked_up_where_the_stage_runs(project, cluster):
    """The runner knows the reference alone, and what comes back is scrubbed."""
    project.stage("01_fetch", f'password: Secret = "env:DB_PASSWORD"\n{MADE}', "print(reveal(password))",
                  "os.write(2, reveal(password).encode())", "save(made, {'length': len(reveal(password))})",
                  imports="import os\nfrom mlops_nb.contract import Secret\nfrom mlops_nb.secrets import reveal")
    assert "env:DB_PASSWORD" in project.run(code=2, warm=True), "here it is not set"
    run = Run(project, cluster.address)
    assert run.end() == {"fetch": "done"}
    assert "«secret fetch.password»" in json.dumps(project.output("fetch"), ensure_ascii=False)
    left = [path for path in project.state.rglob("*") if path.is_file() and b"battery" in path.read_bytes()]
    assert not left


def test_scikit_learn_uses_the_other_workers(project, cluster):
    """joblib's Dask backend, inside of a stage: the scheduler's address is there."""
    project.stage("01_grid", MADE, "with Client(), joblib.parallel_config('dask'):\n"
                  "    pids = joblib.Parallel()(joblib.delayed(os.getpid)() for _ in range(4))",
                  "save(made, {'others': [pid != os.getpid() for pid in pids]})",
                  imports="import os\nimport joblib\nfrom distributed import Client")
    assert Run(project, cluster.address).end() == {"grid": "done"}
    show = "import json; from mlops_nb.artifacts import load; print(json.dumps(load('grid.made')))"
    assert json.loads(project.python(show).out) == {"others": [True] * 4}


# Somebody dies


@pytest.fixture
def slow(project: Project, store: Path) -> Project:
    """A project whose second stage stands still on demand."""
    project.stage("01_make", MADE, "save(made, [number])")
    project.stage("02_slow", f'first: Input = "make.made"\nlate: Output = "late"\n{MADE}', "save(made, [number])",
                  standing(store.parent / "hold"), "save(late, load(first) + [number])")
    (store.parent / "hold").touch()
    return project


def stand(run: Run, cluster: Cluster, store: Path, count: int = 1) -> tuple[int, str]:
    """Wait until the slow stage stands; gives its kernel's process id, and the name of its worker."""
    kernel = wait_for_stand(store.parent / "hold")
    wait_until(lambda: len(run.workers("slow")) >= count, "it is told who executes it")
    return kernel, cluster.worker_at(run.workers("slow")[-1])


def test_a_worker_killed_in_the_middle(slow, cluster, store):
    """Another worker begins the stage again; of the dead one nothing goes on; the result is that of a quiet run."""
    run = Run(slow, cluster.address, "-p", "slow.number=1")
    kernel, name = stand(run, cluster, store)
    cluster.kill(name)
    wait_until(lambda: not is_living(kernel), "the kernel of the dead worker has ended", 15)
    other, second = stand(run, cluster, store, 2)
    assert other != kernel and second != name
    (store.parent / "hold").unlink()
    assert run.end() == {"make": "done", "slow": "done"} and "is gone" in run.texts()
    cluster.start_worker(name)
    slow.environment["MLOPS_NB_STATE"] = str(store.parent / "local")
    slow.run("-p", "slow.number=1", warm=True)
    there, slow.environment["MLOPS_NB_STATE"] = hashes(slow, "slow.%"), str(store)
    assert hashes(slow, "slow.%") == there
    cluster.wait()


@pytest.mark.parametrize(("number", "kind"), [(2, signal.SIGINT), (3, signal.SIGKILL)], ids=["Ctrl-C", "SIGKILL"])
def test_a_runner_that_ends_takes_its_stages_along(slow, cluster, store, number, kind):
    """The worker ends the stage that nobody wants any more, and is there for the next one."""
    words = ("-p", f"slow.number={number}")
    run = Run(slow, cluster.address, *words)
    kernel, _ = stand(run, cluster, store)
    began = time.monotonic()
    os.kill(run.process.pid, kind)
    run.end(130 if kind == signal.SIGINT else -kind)
    assert kind == signal.SIGKILL or time.monotonic() - began < 15
    wait_until(lambda: not is_living(kernel), "the stage has ended on the worker", 30)
    assert slow.statuses() == {"make": "reused" if number > 2 else slow.statuses()["make"], "slow": "interrupted"}
    (store.parent / "hold").unlink()
    assert Run(slow, cluster.address, *words).end() == {"make": "done", "slow": "done"}


def test_the_scheduler_killed_in_the_middle(slow, cluster, store):
    """The runner waits, sends the stage to the next scheduler, and all is as if nothing had been; in vain, it fails."""
    run = Run(slow, cluster.address, "-p", "slow.number=4")
    kernel, _ = stand(run, cluster, store)
    cluster.kill("scheduler")
    run.wait("workplace", stage="slow", worker="")
    wait_until(lambda: not is_living(kernel), "workers without a scheduler end, and their stages with them", 30)
    cluster.kill("alpha", "beta")
    cluster.start_scheduler()
    cluster.start_worker("alpha")
    cluster.start_worker("beta")
    stand(run, cluster, store, 2)
    (store.parent / "hold").unlink()
    assert run.end() == {"make": "done", "slow": "done"} and "waiting for one to answer" in run.texts()
    made = hashes(slow, "slow.%")
    slow.environment["MLOPS_NB_STATE"] = str(store.parent / "local")
    slow.run("-p", "slow.number=4", warm=True)
    assert hashes(slow, "slow.%") == made
    slow.environment |= {"MLOPS_NB_STATE": str(store), "MLOPS_NB_DASK_PATIENCE": "2"}
    (store.parent / "hold").touch()
    run = Run(slow, cluster.address, "-p", "slow.number=5")
    stand(run, cluster, store)
    cluster.kill("scheduler")
    assert run.end(1)["slow"] == "failed" and run.error("slow")["error"] == "SchedulerLost"
    assert cluster.address in run.error("slow")["message"]


# Workers that differ, and nobody at all


@pytest.fixture(scope="module")
def odd(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A scheduler without workers, that takes the first worker's death for the stage's fault."""
    cluster = Cluster(tmp_path_factory.mktemp("odd") / "machines", store,
                      DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES="0")
    try:
        cluster.start_scheduler()
        yield cluster
    finally:
        cluster.close()


def test_a_worker_with_another_package_is_refused(project, odd, tmp_path):
    """Before anything runs, with its name and the module that differs; a worker that fits gets all stages."""
    project.stage("01_make", MADE, "save(made, [number])")
    other = tmp_path / "mlops_nb"
    shutil.copytree(Path(mlops_nb.__file__).parent, other, ignore=shutil.ignore_patterns("__pycache__"))
    with (other / "formats.py").open("a") as module:
        module.write("# a difference\n")
    odd.start_worker("other", PYTHONPATH=str(other.parent))
    odd.wait()
    runs = len(list(project.state.glob("runs/*")))
    said = " ".join(project.run("--on", odd.address, code=1, warm=True).split())
    assert f"no worker of {odd.address} can be used: worker tcp://127.0.0.1:" in said
    assert f"another mlops_nb {mlops_nb.__version__}, which differs in formats.py mend: install there" in said
    assert len(list(project.state.glob("runs/*"))) == runs
    odd.start_worker("same")
    odd.wait()
    run = Run(project, odd.address, "-p", "make.number=11")
    assert run.end() == {"make": "done"} and "which differs in formats.py" in run.texts()
    assert odd.worker_at(run.workers("make")[-1]) == "same"
    odd.kill("other", "same")


def test_a_worker_with_another_library_or_another_store_is_refused(project, odd, tmp_path):
    """Only for a stage that imports the library; another worker is tried, and when there is none the stage fails."""
    project.stage("01_reads", MADE, "save(made, [number])", imports="import duckdb")
    project.stage("02_plain", MADE, "save(made, [number])")
    old = tmp_path / "old" / "duckdb-0.0.1.dist-info"
    old.mkdir(parents=True)
    (old / "METADATA").write_text("Metadata-Version: 2.1\nName: duckdb\nVersion: 0.0.1\n")
    odd.start_worker("old", PYTHONPATH=str(old.parent))
    odd.wait()
    run = Run(project, odd.address, "-p", "plain.number=12")
    assert run.end(1) == {"reads": "failed", "plain": "done"}
    assert run.error("reads")["error"] == "WorkerDiffers" and "duckdb 0.0.1 and not " in run.error("reads")["message"]
    odd.start_worker("astray", MLOPS_NB_STATE=str(tmp_path))
    odd.wait()
    run = Run(project, odd.address)
    assert run.end(1)["reads"] == "failed"
    message = run.error("reads")["message"]
    assert "duckdb 0.0.1" in message and "set MLOPS_NB_STATE there" in message
    odd.start_worker("right")
    odd.wait()
    assert Run(project, odd.address).end() == {"reads": "done", "plain": "done"}
    odd.kill("old", "astray", "right")


def test_a_stage_whose_workers_all_die_has_failed(slow, odd, store):
    """After as many deaths as the scheduler allows; and with no worker left, the next stage does not wait for ever."""
    odd.start_worker("last")
    odd.wait()
    slow.environment["MLOPS_NB_DASK_PATIENCE"] = "3"
    run = Run(slow, odd.address, "-p", "slow.number=13")
    _, name = stand(run, odd, store)
    odd.kill(name)
    assert run.end(1)["slow"] == "failed" and run.error("slow")["error"] == "WorkerDied"
    run = Run(slow, odd.address, "-p", "slow.number=14")
    assert run.end(1)["slow"] == "failed" and run.error("slow")["error"] == "NoWorker"
    assert f"dask worker {odd.address}" in run.error("slow")["message"]
    (store.parent / "hold").unlink()


def test_nobody_answers(project, tmp_path):
    """At the address, or with any sense; an address that is none; and no Dask at all. No run is begun."""
    project.stage("01_make", MADE, "save(made, [number])")
    project.environment |= {"MLOPS_NB_STATE": str(tmp_path / "state"), "MLOPS_NB_DASK_PATIENCE": "1"}
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        with pytest.raises(ClusterError, match="says nothing"):
            connect(f"tcp://127.0.0.1:{port}", 0.5)
    said = " ".join(project.run("--on", f"tcp://127.0.0.1:{port}", code=1, warm=True).split())
    assert f"no Dask scheduler answers at tcp://127.0.0.1:{port}" in said
    assert "mend: start one with `dask scheduler`" in said
    assert "write `dask` for this machine" in project.run("--on", "somewhere", code=2, warm=True)
    (tmp_path / "distributed.py").write_text("raise ImportError('No module named distributed')\n")
    project.environment["PYTHONPATH"] = str(tmp_path)
    for where in ("dask", "tcp://127.0.0.1:1"):
        assert "pip install 'mlops_nb[dask]'" in project.run("--on", where, code=1)
    assert not list(project.state.glob("runs/*"))


def test_dask_on_this_machine(project):
    """`--on dask`: scheduler and workers come and go with the run."""
    project.stage("01_make", MADE, "save(made, [number])")
    project.run("--on", "dask", "--jobs", "1", "-p", "make.number=21")
    assert project.statuses() == {"make": "done"}
