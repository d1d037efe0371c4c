"""A project of several people: one database for all, a server that goes away, runners side by side."""

import json
import os
import signal
import socket
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from buckets import SECRET, Buckets
from postgres import PASSWORD, Server, free_port
from projects import Project, holding, wait_until

from mlops_nb.errors import SettingsError, StoreError, StoreUnreachable
from mlops_nb.journal import read_decisions, record_decision
from mlops_nb.runs import find_run
from mlops_nb.settings import share_folder
from mlops_nb.store import SCHEMA_VERSION, Store, decisions, patient

MAKE = ("01_make", 'count: int = 3\nrows: Output = "rows"', "save(rows, {'n': count})")
USE = ("02_use", 'rows: Input = "make.rows"\nout: Output = "out"', "save(out, load(rows))")
ID = "id = 5d0c12aa7f3e"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A PostgreSQL server of this file's own."""
    server = Server()
    yield server
    server.remove()


@pytest.fixture
def database(server, request) -> str:
    """An empty database for one test."""
    name = f"t{abs(hash(request.node.nodeid))}"
    server.query("postgres", f"CREATE DATABASE {name}")
    return name


@pytest.fixture
def team(make_project, server, database) -> Project:
    """A project whose records stand in PostgreSQL."""
    project = make_project()
    project.configure(ID)
    project.environment["MLOPS_NB_DATABASE_URL"] = server.url(database)
    project.stage(*MAKE)
    return project


def state_of(server: Server, database: str, folder: Path, url: str = "", project: str = "scratch") -> Path:
    """A state folder whose records stand in the database."""
    return share_folder(folder, {"database": url or server.url(database), "project": project, "identity": "5d0c12"})


# PostgreSQL as the store


def test_all_commands_work_unchanged_and_the_password_stays_out_of_the_records(team, server, database):
    team.stage(*USE)
    assert "✓ use done" in team.run()
    assert team.statuses() == {"make": "done", "use": "done"}
    assert "= make reused" in team.run("-p", "use.rows=make.rows", warm=True)
    plan = team.ask("plan").said
    assert plan.count("= reuse") == 2
    assert "committed" in team.ask("show", "use.out").said
    person = "from mlops_nb.journal import *; record_decision('q', 'i', {'a': 'b'}); print(len(read_decisions('q')))"
    assert team.python(person).out == "1\n"
    assert json.loads(team.call("run", "--json").out.splitlines()[-1])["status"] == "done"
    assert not (team.state / "state.db").exists()
    rows = server.query(database, "SELECT name, standing FROM mlops_nb_scratch.artifacts ORDER BY id")
    assert [row["name"] for row in rows] == ["make.rows", "use.out"] * 3
    kept = [str(server.query(database, f"SELECT * FROM mlops_nb_scratch.{table}")) for table in (
        "about", "runs", "stage_runs", "artifacts", "decisions")]
    kept += [path.read_bytes().decode(errors="replace") for path in team.state.rglob("*") if path.is_file()]
    assert len(kept) > 15 and not any("s3cret" in text for text in kept)


def test_settings_name_the_database_by_reference(team):
    url = team.environment.pop("MLOPS_NB_DATABASE_URL")
    team.environment["TEAM_DATABASE"] = url
    team.configure(ID + "\ndatabase = ${TEAM_DATABASE}")
    team.run("make", warm=True)
    assert team.status()["status"] == "done" and not (team.state / "state.db").exists()
    del team.environment["TEAM_DATABASE"]
    answer = team.ask("status")
    assert answer.code == 2 and "names TEAM_DATABASE, and that variable is not set" in answer.said
    team.configure(f"{ID}\ndatabase = {url}")
    answer = team.ask("status")
    assert answer.code == 2 and "has a password written out" in answer.said and "s3cret" not in answer.said


def test_two_projects_in_one_database_do_not_mix(server, database, tmp_path):
    """Other names are kept apart; the same name is refused unless the id says that it is the same project."""
    flights, boats = (state_of(server, database, tmp_path / name, project=name) for name in ("flights", "Boote & 배"))
    record_decision("q", "of flights", 1, state=flights)
    assert list(read_decisions("q", boats)["item"]) == []
    elsewhere = state_of(server, database, tmp_path / "another checkout", project="flights")
    assert list(read_decisions("q", elsewhere)["item"]) == ["of flights"]
    stranger = share_folder(tmp_path / "x", vars(flights) | {"identity": "another"})
    for act in (lambda: read_decisions("q", stranger), lambda: record_decision("q", "i", 1, state=stranger)):
        with pytest.raises(StoreError, match="of another project with the same name: its id is 5d0c12"):
            act()
    with pytest.raises(SettingsError, match="has no id") as refused:
        read_decisions("q", share_folder(tmp_path / "x", vars(flights) | {"identity": ""}))
    assert "id = " in refused.value.mend


def test_eight_processes_make_the_tables_at_once(team):
    """Nobody is first twice, and no row is lost."""
    program = "from mlops_nb.journal import record_decision\nfor n in range(20): record_decision('q', str(n), n)"
    answers = [None] * 8
    threads = [threading.Thread(target=lambda n=n: answers.__setitem__(n, team.python(program))) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [answer.err for answer in answers] == [""] * 8
    assert team.python("from mlops_nb.journal import *; print(len(read_decisions('q')))").out == "160\n"


# Versions


def old_store(folder: Path) -> Path:
    """A state folder with a store of version 1."""
    folder.mkdir(parents=True, exist_ok=True)
    with sqlite3.connect(folder / "state.db") as connection:
        connection.executescript(Path(__file__).with_name("store_version_1.sql").read_text("utf-8"))
    return folder


def test_a_store_of_version_1_is_brought_up_to_date(project):
    project.stage(*MAKE)
    old_store(project.state)
    assert project.statuses() == {"make": "done", "use": "done"}
    assert project.query("SELECT value FROM about WHERE key = 'schema_version'")[0]["value"] == str(SCHEMA_VERSION)
    assert list(read_decisions("labeling", project.state)["value"]) == ["late"]
    project.run(warm=True)
    assert [row["status"] for row in project.query("SELECT status FROM runs")] == ["done", "done"]
    new = Store(project.root / "new")
    with new.writing():
        pass
    tables = "SELECT name FROM sqlite_master WHERE name NOT LIKE 'sqlite_%' ORDER BY name"
    with sqlite3.connect(new.path) as connection:
        assert [row["name"] for row in project.query(tables)] == [name for name, in connection.execute(tables)]
        for table in ("runs", "stage_runs", "artifacts", "decisions"):
            asked = f"SELECT name, type FROM pragma_table_info('{table}') ORDER BY name"
            assert [tuple(row) for row in project.query(asked)] == connection.execute(asked).fetchall()


def test_an_upgrade_is_whole_or_not_at_all(tmp_path, monkeypatch):
    """It fails in its middle: the file is of version 1 still, and works with the next try."""
    state = old_store(tmp_path / "state")
    before = list(sqlite3.connect(state / "state.db").iterdump())
    with monkeypatch.context() as patch:
        patch.setattr(sa.Index, "create", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            find_run(state)
    assert list(sqlite3.connect(state / "state.db").iterdump()) == before
    assert find_run(state)["status"] == "done"


def test_an_old_and_a_newer_store_on_a_server(server, database, tmp_path):
    state = state_of(server, database, tmp_path)
    record_decision("q", "kept", 1, state=state)
    server.query(database, "DROP TABLE mlops_nb_scratch.claims; ALTER TABLE mlops_nb_scratch.runs DROP COLUMN seen; "
                           "UPDATE mlops_nb_scratch.about SET value = '1' WHERE key = 'schema_version'")
    record_decision("q", "also kept", 2, state=state)
    assert list(read_decisions("q", state)["item"]) == ["kept", "also kept"]
    columns = server.query(database, "SELECT column_name FROM information_schema.columns WHERE table_name = 'runs'")
    assert "seen" in [row["column_name"] for row in columns]
    server.query(database, "UPDATE mlops_nb_scratch.about SET value = '99' WHERE key = 'schema_version'")
    for act in (lambda: read_decisions("q", state), lambda: record_decision("q", "i", 1, state=state)):
        with pytest.raises(StoreError, match="has version 99, and this mlops_nb reads version"):
            act()


# A server that goes away


@pytest.mark.parametrize("how", ["fast", "immediate"])
def test_a_server_that_restarts_in_the_middle_of_a_run(team, server, database, how):
    """Orderly or by a crash: the run waits for it and ends well, and no record is lost or written twice."""
    team.stage("02_slow", 'rows: Input = "make.rows"\nout: Output = "out"', holding(), "save(out, load(rows))")
    hold = team.hold()
    process = team.start("run", "--json")
    team.wait_for_kernel()
    server.stop(how)
    try:
        hold.unlink()  # the stage ends while there is nobody to tell
        wait_until(lambda: list(team.state.glob("runs/*/process/*slow.result.json")), "the stage has ended")
    finally:
        server.start()
    answer = team.finish(process)
    assert answer.code == 0, answer.said
    assert team.statuses() == {"make": "done", "slow": "done"}
    rows = server.query(database, "SELECT name FROM mlops_nb_scratch.artifacts ORDER BY id")
    assert [row["name"] for row in rows] == ["make.rows", "slow.out"]


class CuttingProxy:
    """Passes on what client and server say, and breaks the line at the answer to the first COMMIT."""

    def __init__(self, port: int):
        self.port, self.cuts = port, 1
        self.socket = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self) -> None:
        while True:
            client, _ = self.socket.accept()
            server = socket.create_connection(("127.0.0.1", self.port))
            line = {"cut": False}
            for source, target, asks in ((client, server, True), (server, client, False)):
                threading.Thread(target=self.carry, args=(source, target, asks, line), daemon=True).start()

    def carry(self, source: socket.socket, target: socket.socket, asks: bool, line: dict[str, bool]) -> None:
        try:
            while data := source.recv(65536):
                if asks and b"commit" in data.lower() and self.cuts:
                    self.cuts, line["cut"] = self.cuts - 1, True
                if not asks and line["cut"]:
                    break
                target.sendall(data)
        except OSError:
            pass
        for each in (source, target):
            try:
                each.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


def test_a_commit_whose_answer_is_lost_is_not_done_twice(server, database, tmp_path):
    """The row was written, but nobody heard of it: the server is asked, and the row is there once."""
    proxy = CuttingProxy(server.port)
    proxy.cuts = 0
    state = state_of(server, database, tmp_path, server.url(database, port=proxy.socket.getsockname()[1]))
    record_decision("q", "first", 1, state=state)
    proxy.cuts = 1
    record_decision("q", "second", 2, state=state)
    assert proxy.cuts == 0, "the line was cut"
    assert list(read_decisions("q", state)["item"]) == ["first", "second"]


def test_a_connection_that_breaks_before_its_commit_is_begun_again(server, database, tmp_path):
    state, tries = state_of(server, database, tmp_path), []
    record_decision("q", "first", 1, state=state)

    @patient
    def write() -> None:
        with Store(state).writing() as connection:
            tries.append(connection.scalar(sa.select(sa.func.pg_backend_pid())))
            connection.execute(decisions.insert().values(id="x", queue="q", item="second", person="p",
                                                         recorded_at="now"))
            if len(tries) == 1:
                server.query(database, f"SELECT pg_terminate_backend({tries[0]})")
            connection.execute(sa.select(decisions.c.id))

    write()
    assert len(set(tries)) == 2
    assert list(read_decisions("q", state)["item"]) == ["first", "second"]


def test_a_server_that_stays_away_is_named(server, database, tmp_path, monkeypatch):
    monkeypatch.setattr("mlops_nb.store.PATIENCE", 0.5)
    state = state_of(server, database, tmp_path)
    record_decision("q", "first", 1, state=state)
    server.stop()
    try:
        with pytest.raises(StoreUnreachable, match="cannot be used") as error:
            record_decision("q", "second", 2, state=state)
    finally:
        server.start()
    assert "check that the server runs" in error.value.mend and "s3cret" not in str(error.value)


# What can be wrong with an address


def test_what_is_wrong_with_a_server_is_said_in_two_lines(team, server, database):
    server.query(database, "CREATE ROLE reader LOGIN PASSWORD 'reader'")
    urls = [
        (server.url(database, port=free_port()), "Connection refused", "check that the server runs"),
        (server.url(database).replace("127.0.0.1", "db.invalid"), "db.invalid", "host and port are right"),
        (server.url(database, password="wrong"), "password authentication failed", "correct user and password"),
        (server.url(database).replace(":" + server.url(database).split(":")[2].split("@")[0] + "@", "@"),
         "password authentication failed", "correct user and password"),
        (server.url("nowhere"), 'database "nowhere" does not exist', "createdb NAME"),
        (server.url(database, user="reader", password="reader"), "permission denied", "GRANT"),
        ("mysql://ml@127.0.0.1/ml", "not one of PostgreSQL", "postgresql://USER"),
        ("nonsense", "not one of PostgreSQL", "postgresql://USER"),
    ]
    for url, message, mend in urls:
        team.environment["MLOPS_NB_DATABASE_URL"] = url
        for words in (("run",), ("status",)):
            answer = team.ask(*words)
            flat = " ".join(answer.said.split())
            assert answer.code in (1, 2) and message in flat and mend in flat, (url, flat)
            assert "s3cret" not in flat and PASSWORD not in flat


def test_a_user_who_may_only_read(team, server, database):
    """Looks at everything, and is told at once that a run needs more."""
    team.run(warm=True)
    server.query(database, "CREATE ROLE looker LOGIN PASSWORD 'looker'; "
                           "GRANT USAGE ON SCHEMA mlops_nb_scratch TO looker; "
                           "GRANT SELECT ON ALL TABLES IN SCHEMA mlops_nb_scratch TO looker")
    team.environment["MLOPS_NB_DATABASE_URL"] = server.url(database, "looker", "looker")
    assert team.status()["status"] == "done" and "committed" in team.ask("show", "make.rows").said
    answer = team.ask("run", "--fresh")
    assert answer.code == 1 and "permission denied" in answer.said and "GRANT" in answer.said
    server.query(database, f"ALTER ROLE ml IN DATABASE {database} SET default_transaction_read_only = on")
    team.environment["MLOPS_NB_DATABASE_URL"] = server.url(database)
    answer = team.ask("run", "--fresh")
    assert answer.code == 1 and "read-only transaction" in answer.said and "takes no writes" in answer.said


def test_a_driver_that_is_not_installed_is_named(team):
    program = ("import sys; sys.modules['pg8000'] = None\nfrom mlops_nb.cli import main\n"
               "main(['status'], prog_name='mlops-nb')")
    answer = team.python(program)
    assert answer.code == 1 and "pip install 'mlops_nb[postgresql]'" in answer.said


# Runners side by side

COUNTED = """import os, pathlib, time
with open(pathlib.Path(os.environ["MLOPS_NB_PROJECT"]) / "computed.txt", "a") as log:
    log.write("{name}\\n")
time.sleep(0.3)"""


def six_stages(project: Project) -> None:
    """A diamond and a tail; each stage writes down that it computes, and takes a while."""
    needs = {"a": [], "b": ["a"], "c": ["a"], "d": ["b", "c"], "e": ["a"], "f": ["d", "e"]}
    for number, (name, before) in enumerate(needs.items()):
        inputs = "".join(f'{each}: Input = "{each}.made"\n' for each in before)
        value = " + ".join(["[1]", *(f"load({each})" for each in before)])
        project.stage(f"0{number}_{name}", f'{inputs}made: Output = "made"', COUNTED.format(name=name),
                      f"save(made, {value})")


@pytest.fixture(params=["SQLite", "PostgreSQL"])
def shared(request, project) -> Project:
    """A project whose records stand in either kind of store."""
    if request.param == "PostgreSQL":
        server, database = request.getfixturevalue("server"), request.getfixturevalue("database")
        project.configure(ID)
        project.environment["MLOPS_NB_DATABASE_URL"] = server.url(database)
        project.query = lambda question: server.query(database, f"SET search_path = mlops_nb_scratch; {question}")
    return project


def test_eight_runners_at_once_compute_each_stage_once(shared):
    six_stages(shared)
    shared.patience = 600  # sixteen processes import and report on what may be two cores
    processes = [shared.start("run", "--json", "--jobs", "2") for _ in range(8)]
    answers = [shared.finish(process) for process in processes]
    assert [answer.code for answer in answers] == [0] * 8, answers
    assert sorted((shared.root / "computed.txt").read_text().split()) == list("abcdef")
    events = [json.loads(line) for answer in answers for line in answer.out.splitlines()]
    ended = [event for event in events if event["event"] == "stage-ended"]
    assert len(ended) == 48 and {event["status"] for event in ended} == {"done"}
    assert sum(not event["reused"] for event in ended) == 6
    assert any(event["event"] == "stage-waiting" for event in events)
    assert [row["status"] for row in shared.query("SELECT status FROM runs")] == ["done"] * 8
    assert [row["status"] for row in shared.query("SELECT status FROM stage_runs")] == ["done"] * 48
    rows = shared.query("SELECT name, hash, run FROM artifacts")
    assert len({(row["name"], row["run"]) for row in rows}) == len(rows) == 48
    assert len({(row["name"], row["hash"]) for row in rows}) == 6
    assert shared.query("SELECT * FROM claims") == []
    if "MLOPS_NB_DATABASE_URL" not in shared.environment:
        assert [row[0] for row in shared.query("PRAGMA integrity_check")] == ["ok"]


def test_whoever_waits_takes_over_when_the_other_is_killed_and_when_it_fails(shared):
    shared.stage("01_slow", 'x: int = 1\nout: Output = "out"', holding(), COUNTED.format(name="slow"),
                 "import os, pathlib", 'if (pathlib.Path(os.environ["MLOPS_NB_PROJECT"]) / "fail").exists(): 1 / 0',
                 "save(out, [x])")
    for number, spoil in enumerate(["kill", "fail"]):
        hold, words = shared.hold(), ("run", "--json", "-p", f"slow.x={number}")
        first = shared.start(*words)
        shared.wait_for_kernel()
        second = shared.start(*words)
        waits = json.loads(next(line for line in second.stdout if "stage-waiting" in line))
        assert waits["stage"] == "slow" and waits["holder"] != waits["run"]
        if spoil == "kill":
            os.kill(first.pid, signal.SIGKILL)
            shared.finish(first)
            shared.wait_for_kernel()  # the second has begun
            hold.unlink()
        else:
            (shared.root / "fail").touch()
            hold.unlink()
            assert any("stage-started" in line for line in second.stdout), "the second has begun"
            (shared.root / "fail").unlink()
            assert shared.finish(first).code == 1
        answer = shared.finish(second)
        assert answer.code == 0 and json.loads(answer.out.splitlines()[-1])["status"] == "done"
    assert sorted(row["status"] for row in shared.query("SELECT status FROM runs")) == [
        "done", "done", "failed", "running"], "the killed one could not write how it ended"


def test_a_fresh_run_waits_and_then_computes_again(project):
    """`--fresh` asks for a computation, not for a result; still never two at once."""
    project.stage("01_slow", 'out: Output = "out"', holding(), COUNTED.format(name="slow"), "save(out, [1])")
    hold = project.hold()
    first = project.start("run")
    project.wait_for_kernel()
    second = project.start("run", "--fresh")
    assert any("is computing the same; waiting for its result" in line for line in second.stdout)
    hold.unlink()
    assert project.finish(first).code == project.finish(second).code == 0
    assert (project.root / "computed.txt").read_text() == "slow\nslow\n"


def test_a_clock_that_jumps_takes_no_claim_away(project):
    """Every time stamp of the holder's is set to the far past and future; whoever waits goes on waiting."""
    project.stage("01_slow", 'out: Output = "out"', holding(), COUNTED.format(name="slow"), "save(out, [1])")
    hold = project.hold()
    first = project.start("run")
    project.wait_for_kernel()
    second = project.start("run")
    assert any("waiting for its result" in line for line in second.stdout)
    for moment in ("1970-01-01T00:00:00.000Z", "2999-01-01T00:00:00.000Z"):
        with sqlite3.connect(project.state / "state.db", timeout=30) as connection:
            connection.execute("UPDATE runs SET seen = ?, started = ?", (moment, moment))
            connection.execute("UPDATE claims SET taken = ?", (moment,))
        assert all(one["status"] == "running" for one in project.query("SELECT status FROM runs"))
        assert project.status()["status"] == "running"
    hold.unlink()
    assert project.finish(first).code == project.finish(second).code == 0
    assert (project.root / "computed.txt").read_text() == "slow\n"


def test_a_run_whose_process_id_is_in_use_again_is_not_alive(project):
    project.stage("01_slow", 'out: Output = "out"', holding(), "save(out, [1])")
    project.hold()
    process = project.start("run")
    project.wait_for_kernel()
    assert project.status()["status"] == "running"
    with sqlite3.connect(project.state / "state.db", timeout=30) as connection:
        connection.execute("UPDATE runs SET process = json_set(process, '$.start', '12')")
    assert project.status()["status"] == "interrupted"
    os.killpg(process.pid, signal.SIGINT)
    assert project.finish(process).code == 130


# Artifacts in a shared place


@pytest.fixture(scope="module")
def buckets() -> Iterator[Buckets]:
    """An S3-compatible server of this file's own."""
    buckets = Buckets()
    yield buckets
    buckets.remove()


@pytest.fixture(params=["folder", "S3"])
def checkouts(request, make_project, server, database, tmp_path) -> tuple[Project, Project]:
    """The same project in two folders with a state folder each; they share records and artifacts and nothing else."""
    places = {"MLOPS_NB_DATABASE_URL": server.url(database)}
    if request.param == "S3":
        buckets = request.getfixturevalue("buckets")
        places |= buckets.environment | {"MLOPS_NB_ARTIFACTS_URL": f"s3://team/{database}"}
    else:
        places["MLOPS_NB_ARTIFACTS_URL"] = f"file://{tmp_path}/shared disk"
    found = make_project("kim"), make_project("lee")
    for project in found:
        project.configure(ID)
        project.environment |= places
        project.stage("01_make", MAKE[1], COUNTED.format(name="make").replace("MLOPS_NB_PROJECT", "COUNT_IN"), MAKE[2])
        project.environment["COUNT_IN"] = str(tmp_path)
        project.stage(*USE)
    return found


def test_what_one_made_the_other_reuses_without_running(checkouts, tmp_path, server, database):
    kim, lee = checkouts
    kim.run("make", warm=True)
    assert not lee.objects()
    said = lee.run(warm=True)
    assert "= make reused" in said and "✓ use done" in said
    assert (tmp_path / "computed.txt").read_text() == "make\n"
    assert len(lee.objects()) == 1, "its input came from the shared place"
    assert "committed" in kim.ask("show", "use.out").said
    assert kim.run(warm=True).count("reused") == 4, "two lines as they end, and two in the table"
    records = str([server.query(database, f"SELECT * FROM mlops_nb_scratch.{table}")
                   for table in ("runs", "stage_runs")])
    pages = [path.read_text("utf-8", "replace") for project in checkouts for path in project.state.rglob("*.html")]
    assert not any("s3cret" in text for text in [records, *pages])


def shared_files(project: Project):
    """The shared place as a test sees it: its fsspec file system and the folder of the only content in it."""
    import fsspec

    url = project.environment["MLOPS_NB_ARTIFACTS_URL"]
    options = {"key": "ml", "secret": SECRET, "endpoint_url": project.environment.get("AWS_ENDPOINT_URL")}
    files, root = fsspec.url_to_fs(url, use_listings_cache=False, **(options if url.startswith("s3") else {}))
    return files, next(iter(files.glob(f"{root}/scratch-5d0c12aa7f3e/??/*")))


def test_a_content_that_is_half_written_or_damaged_in_the_shared_place_is_not_taken(checkouts, tmp_path):
    kim, lee = checkouts
    kim.run("make", warm=True)
    files, folder = shared_files(kim)
    manifest = files.cat_file(f"{folder}/artifact.json")
    files.pipe_file(f"{folder}/value.json", b'{"n": 4}')
    answer = lee.ask("show", "make.rows")
    assert answer.code == 1 and "is damaged: value.json" in answer.said and "delete its folder there" in answer.said
    files.rm_file(f"{folder}/artifact.json")
    assert "its result is no longer kept" in lee.run("make", warm=True)
    assert (tmp_path / "computed.txt").read_text() == "make\nmake\n"
    assert files.cat_file(f"{folder}/artifact.json") == manifest, "made again, it is whole again"
    assert files.cat_file(f"{folder}/value.json") != b'{"n": 4}'


def test_clearing_away_in_the_shared_place(checkouts):
    """What the records of all need stays; the rest goes, here and there."""
    kim, lee = checkouts
    for count in (1, 2):
        kim.run("make", "-p", f"make.count={count}", warm=True)
    assert "0 could go" in kim.ask("gc", "--keep", "1").said
    forget = ("import time; from mlops_nb import garbage, cli, shared_artifacts; from mlops_nb.store import *\n"
              "from mlops_nb.settings import find_project; import sys\n"
              "later = garbage.shared_clock; garbage.shared_clock = lambda shared: later(shared) + 400 * 86400\n"
              "with Store(find_project().state).writing() as c: c.execute(artifacts.update().values(recorded='2013'))\n"
              "cli.main(['gc', '--keep', '1', *sys.argv[1:]], prog_name='mlops-nb')")
    answer = lee.python(forget)
    assert "shared content" in answer.said and "1 could go" in answer.said
    answer = lee.python(forget.replace("*sys.argv[1:]", "'--yes'"))
    assert "deleted 1 of 1" in answer.said
    files, folder = shared_files(kim)
    left = {path.split("/")[-2] for path in files.find(folder.rsplit("/", 2)[0])}
    assert len(left) == 1, "the newest is there, and not a file of the other"
    assert "= make reused" in lee.run("make", "-p", "make.count=2", warm=True)
    assert "its result is no longer kept" in lee.run("make", "-p", "make.count=1", warm=True)


def test_what_is_wrong_with_a_shared_place_is_said_in_two_lines(project, tmp_path):
    project.configure(ID)
    project.stage(*MAKE)
    (tmp_path / "a file").write_text("")
    for url, message, mend in [
            ("memory://x", "that is in one process only", "a folder on a shared disk"),
            ("artifacts", "would look in its own folder", "write the whole path"),
            ("nonsense://x", "Protocol not known: nonsense", ""),
            (f"file://{tmp_path}/a file", "cannot be used", "")]:
        project.environment["MLOPS_NB_ARTIFACTS_URL"] = url
        answer = project.ask("run")
        flat = " ".join(answer.said.split())
        assert answer.code in (1, 2) and message in flat and mend in flat and "mend:" in flat, flat
    project.environment["MLOPS_NB_ARTIFACTS_URL"] = f"file://{tmp_path}/shared"
    project.configure()
    answer = project.ask("run")
    assert "has no id" in " ".join(answer.said.split()) and answer.code in (1, 2)


def test_a_bucket_that_refuses_or_does_not_answer_is_named(project, buckets):
    project.configure(ID)
    project.stage(*MAKE)
    for change, message, mend in [
            ({"AWS_SECRET_ACCESS_KEY": "wrong"}, "s3://team/x cannot be used", "correct the credentials"),
            ({"AWS_ENDPOINT_URL": f"http://127.0.0.1:{free_port()}"}, "Could not connect", "check the address"),
            ({"MLOPS_NB_ARTIFACTS_URL": "s3://nowhere/x"}, "s3://nowhere/x cannot be used", "mend:")]:
        project.environment |= buckets.environment | {"MLOPS_NB_ARTIFACTS_URL": "s3://team/x", **change}
        flat = " ".join(project.run(code=1, warm=True).split())
        assert message in flat and mend in flat and SECRET not in flat, flat


def test_without_a_shared_place_fsspec_is_not_imported(project):
    project.stage(*MAKE)
    project.python("from mlops_nb.content import keep_value; from mlops_nb.settings import find_project\n"
                   "keep_value(find_project().state, [1])")
    program = ("import sys; from mlops_nb.content import *; from mlops_nb.settings import find_project\n"
               "state = find_project().state; kept = keep_value(state, [1]); read_kept(state, kept.hash)\n"
               "print(read_value(state, kept.hash), is_kept(state, kept.hash), 'fsspec' in sys.modules)")
    assert project.python(program).out == "[1] True False\n"
