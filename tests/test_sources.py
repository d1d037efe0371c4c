"""Every kind of source, from real servers, files and databases: kept as it came, told apart when it changed."""

import json
import logging
import os
import re
import sqlite3
import threading
import time
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import entry_points

import pandas as pd
import pytest
from buckets import SECRET, Buckets
from postgres import PASSWORD, Server

from mlops_nb.collection import collect, compare_tables, list_provenance, read_history
from mlops_nb.database_sources import DATABASE
from mlops_nb.errors import UsageError
from mlops_nb.source_adapters import SourceAdapter, list_adapters
from mlops_nb.source_addresses import Source, SourceError
from mlops_nb.typed_parquet import ingest_file

ROWS = pd.DataFrame(
    {"편명": ["KE081", "KE082", "KE083"], "지연": [1.5, 2.0, 3.25], "날": pd.to_datetime(["2013-01-01"] * 3)}
)


def read(path, folder, **words):
    """The rows of a kept file."""
    return pd.read_parquet(ingest_file(path, folder / "read.parquet", progress=False, **words).table)


def assert_rows(frame, rows=3):
    assert (
        frame["편명"].tolist() == ROWS["편명"].tolist()[:rows]
        and frame["지연"].tolist() == ROWS["지연"].tolist()[:rows]
    )


# Files of every kind


WRITE = {
    "항공.csv": lambda path: ROWS.to_csv(path, index=False),
    "항공 cp949.csv": lambda path: ROWS.to_csv(path, index=False, encoding="cp949"),
    "항공.euc.txt": lambda path: ROWS.to_csv(path, index=False, encoding="euc-kr", sep="|"),
    "항공.tsv": lambda path: ROWS.to_csv(path, index=False, sep="\t"),
    "항공.csv.gz": lambda path: ROWS.to_csv(path, index=False),
    "항공.csv.zip": lambda path: ROWS.to_csv(path, index=False),
    "항공.xlsx": lambda path: ROWS.to_excel(path, index=False),
    "항공.json": lambda path: ROWS.to_json(path, orient="records", force_ascii=False, date_format="iso"),
    "항공.jsonl": lambda path: ROWS.to_json(path, orient="records", lines=True, force_ascii=False, date_format="iso"),
    "항공.parquet": lambda path: ROWS.to_parquet(path),
}


@pytest.mark.parametrize("name", WRITE)
def test_each_kind_of_file_is_collected_and_read(tmp_path, name):
    WRITE[name](tmp_path / name)
    source = Source(tmp_path / name, owner="영업부", licence="CC0")
    first = collect("flights", source, tmp_path / "raw")
    assert first.path.read_bytes() == (tmp_path / name).read_bytes() and first.status == "new"
    assert collect("flights", source, tmp_path / "raw").status == "unchanged"
    assert len([one for one in (tmp_path / "raw").rglob(name)]) == 1
    assert_rows(read(first.path, tmp_path))
    record = read_history(tmp_path / "raw", "flights")[0]
    assert {"address", "collected_at", "how", "bytes", "sha256", "licence", "seconds"} <= set(record)
    assert record["licence"] == "CC0" and record["bytes"] == (tmp_path / name).stat().st_size


def test_a_folder_of_images_and_texts(tmp_path):
    from PIL import Image

    for name, size in [("고양이/a.png", (8, 6)), ("개/b.jpg", (5, 4))]:
        (tmp_path / "사진" / name).parent.mkdir(parents=True)
        Image.new("RGB", size, "red").save(tmp_path / "사진" / name)
    (tmp_path / "사진/a.txt").write_text("글", "utf-8")
    source = Source(tmp_path / "사진")
    first = collect("photos", source, tmp_path / "raw")
    frame = read(first.path, tmp_path).set_index("path")
    assert frame.loc["고양이/a.png", ["width", "height", "folder"]].tolist() == [8, 6, "고양이"]
    assert frame.loc["a.txt", "text"] == "글" and frame["sha256"].str.fullmatch("[0-9a-f]{64}").all()
    assert collect("photos", source, tmp_path / "raw").status == "unchanged"
    Image.new("RGB", (9, 9), "blue").save(tmp_path / "사진/개/c.png")
    changed = collect("photos", source, tmp_path / "raw")
    assert changed.status == "changed" and changed.changes.set_index("what")["count"].to_dict() == {"rows added": 1}
    assert len(list(first.path.rglob("*.*"))) == 3, "the earlier folder is as it was"


def test_a_touched_file_of_the_same_content_is_not_copied(tmp_path):
    (tmp_path / "a.csv").write_text("a\n1\n")
    first = collect("a", tmp_path / "a.csv", tmp_path / "raw")
    os.utime(tmp_path / "a.csv", (1, 1))
    again = collect("a", tmp_path / "a.csv", tmp_path / "raw")
    assert again.status == "unchanged" and again.path == first.path
    (tmp_path / "a.csv").write_text("a\n2\n")
    collect("a", tmp_path / "a.csv", tmp_path / "raw")
    (tmp_path / "a.csv").write_text("a\n1\n")
    back = collect("a", tmp_path / "a.csv", tmp_path / "raw")  # the first content comes back
    assert back.path == first.path and [one["status"] for one in read_history(tmp_path / "raw", "a")] == [
        "new",
        "unchanged",
        "changed",
        "changed",
    ]


def test_the_difference_is_told(tmp_path):
    (tmp_path / "1.csv").write_text("id,x,old\n1,5,a\n2,6,a\n2,6,a\n3,7,a\n")
    (tmp_path / "2.csv").write_text("new,x,id\nq,5,1\nq,6,2\nq,many,4\nq,two,5\n")
    told = compare_tables(tmp_path / "1.csv", tmp_path / "2.csv").set_index("what")
    assert told["count"].to_dict() == {
        "rows added": 2,
        "rows removed": 2,
        "columns added": 1,
        "columns removed": 1,
        "type changed": 1,
    }
    assert told.loc["type changed", "detail"] == "x: BIGINT before, VARCHAR now"


def test_provenance_of_several(tmp_path):
    for name in ("a", "b"):
        (tmp_path / f"{name}.csv").write_text(f"{name}\n1\n")
    kept = [
        collect(name, Source(tmp_path / f"{name}.csv", owner="x", licence="MIT"), tmp_path / "raw")
        for name in ("a", "b")
    ]
    table = list_provenance(kept)
    assert table["table"].tolist() == ["a", "b"] and str(table["collected_at"].dt.tz) == "UTC"


# A source that changes, breaks off, or is not there


def test_a_file_that_grows_while_it_is_copied(tmp_path, monkeypatch):
    path = tmp_path / "growing.csv"
    path.write_bytes(b"a,b\n" + b"1,2\n" * 10_000_000)
    stop = threading.Event()

    def write():
        with path.open("ab", buffering=0) as file:
            while not stop.is_set():
                file.write(b"3,4\n")
                time.sleep(0.0005)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        time.sleep(0.05)
        with pytest.raises(SourceError, match=r"growing.csv changed while it was read\n  mend: collect again"):
            collect("growing", path, tmp_path / "raw")
        with pytest.raises(SourceError, match=r"growing.csv changed while it was read"):
            ingest_file(path, tmp_path / "out.parquet", {"a": "INTEGER", "b": "INTEGER"}, progress=False)
    finally:
        stop.set()
        writer.join()
    assert not list((tmp_path / "raw/growing").iterdir()) and not list(tmp_path.glob("*.parquet"))
    assert collect("growing", path, tmp_path / "raw").status == "new"


class Files(BaseHTTPRequestHandler):
    """A small web server: what it gives is in `content`; `behave` says how it fails."""

    content, etag, behave, asked = b"", "1", "", []

    def do_HEAD(self):
        self.send(body=False)

    def do_GET(self):
        self.send(body=True)

    def send(self, body):
        kind = type(self)
        kind.asked.append((self.command, dict(self.headers)))
        if self.path == "/elsewhere":
            self.send_response(302)
            self.send_header("Location", f"http://localhost:{self.server.server_port}/a.csv")
            self.end_headers()
            return
        if kind.behave == "refuse":
            self.send_error(403)
            return
        if self.headers.get("If-None-Match") == kind.etag:
            self.send_response(304)
            self.end_headers()
            return
        self.send_response(200)
        self.send_header("ETag", kind.etag)
        self.send_header("Content-Length", str(len(kind.content)))
        self.end_headers()
        if body:
            self.wfile.write(kind.content[: len(kind.content) // 2] if kind.behave == "break" else kind.content)
            if kind.behave == "change":
                kind.etag += "1"

    def log_message(self, *words):
        pass


@pytest.fixture
def web():
    kind = type("Web", (Files,), {"content": ROWS.to_csv(index=False).encode("cp949"), "asked": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), kind)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    kind.address = f"http://127.0.0.1:{server.server_port}"
    yield kind
    server.shutdown()
    server.server_close()


def test_http_is_asked_for_what_changed_only(tmp_path, web):
    source = Source(f"{web.address}/a.csv?month=1")
    first = collect("web", source, tmp_path / "raw")
    assert first.path.name == "a.csv" and first.path.read_bytes() == web.content
    assert_rows(read(first.path, tmp_path))
    assert collect("web", source, tmp_path / "raw").status == "unchanged"
    assert web.asked[-1][0] == "GET" and web.asked[-1][1]["If-None-Match"] == "1"
    web.content, web.etag = ROWS.head(2).to_csv(index=False).encode(), "2"
    changed = collect("web", source, tmp_path / "raw")
    assert changed.changes.set_index("what")["count"].to_dict() == {"rows removed": 1}


@pytest.mark.parametrize(
    "behave, message",
    [
        ("break", "the answer broke off|of .* bytes came"),
        ("change", "changed while it was read"),
        ("refuse", "answers 403"),
    ],
)
def test_http_that_goes_wrong_keeps_nothing(tmp_path, web, behave, message):
    web.behave = behave
    with pytest.raises(SourceError, match=message):
        collect("web", Source(f"{web.address}/a.csv"), tmp_path / "raw")
    assert not list((tmp_path / "raw/web").iterdir())


def test_a_secret_header_goes_to_its_host_only(tmp_path, web, monkeypatch):
    monkeypatch.setenv("WEB_TOKEN", "token-of-the-web-server")
    options = {"headers": {"Authorization": "Bearer {env:WEB_TOKEN}"}}
    collect("web", Source(f"{web.address}/elsewhere", options=options), tmp_path / "raw")
    said = [headers.get("Authorization") for _, headers in web.asked]
    assert said[0] == "Bearer token-of-the-web-server" and said[1] is None
    everything = "".join(path.read_text("utf-8", "replace") for path in (tmp_path / "raw").rglob("*") if path.is_file())
    assert "token-of-the-web-server" not in everything and "{env:WEB_TOKEN}" in everything


# Buckets and memory


@pytest.fixture(scope="module")
def buckets():
    server = Buckets()
    yield server
    server.remove()


def test_a_bucket(tmp_path, buckets, monkeypatch):
    for name, value in buckets.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("BUCKET_KEY", SECRET)
    files = buckets.files()
    files.pipe_file("team/항공/1월.csv", ROWS.to_csv(index=False).encode())
    options = {"key": "ml", "secret": "{env:BUCKET_KEY}", "endpoint_url": buckets.environment["AWS_ENDPOINT_URL"]}
    source = Source("s3://team/항공/1월.csv", options=options)
    first = collect("bucket", source, tmp_path / "raw")
    assert_rows(read(first.path, tmp_path))
    assert collect("bucket", source, tmp_path / "raw").status == "unchanged"
    files.pipe_file("team/항공/1월.csv", ROWS.head(2).to_csv(index=False).encode())
    assert collect("bucket", source, tmp_path / "raw").status == "changed"
    assert SECRET not in (tmp_path / "raw/bucket/history.jsonl").read_text()
    with pytest.raises(UsageError, match=r"no file s3://team/none\.csv"):
        collect("none", Source("s3://team/none.csv", options=options), tmp_path / "raw")


def test_memory_of_fsspec(tmp_path):
    import fsspec

    fsspec.filesystem("memory").pipe_file("/x/a.jsonl", b'{"a": 1}\n{"a": 2}\n')
    kept = collect("memory", "memory://x/a.jsonl", tmp_path / "raw")
    assert read(kept.path, tmp_path)["a"].tolist() == [1, 2]


# Databases


@pytest.fixture(scope="module")
def postgres():
    server = Server()
    server.query("postgres", "CREATE DATABASE sales")
    server.query(
        "sales",
        """CREATE TABLE "주문; DROP TABLE x" (번호 bigint PRIMARY KEY, "금""액; --" numeric, "메모" text,
        때 timestamptz, 참 boolean)""",
    )
    server.query(
        "sales",
        """INSERT INTO "주문; DROP TABLE x" SELECT n, n / 4.0, CASE n % 3 WHEN 0 THEN NULL WHEN 1 THEN ''
        ELSE 'NA, "' || n || E'"\\n줄' END, '2013-01-01T00:00:00Z'::timestamptz + n * interval '1 minute', n % 2 = 0
        FROM generate_series(1, 20000) n""",
    )
    yield server
    server.remove()


def test_postgresql_in_one_snapshot(tmp_path, postgres, monkeypatch):
    monkeypatch.setenv("DB_PASSWORD", PASSWORD)
    source = Source(
        f"postgresql://ml:{{env:DB_PASSWORD}}@127.0.0.1:{postgres.port}/sales", options={"table": "주문; DROP TABLE x"}
    )
    first = collect("orders", source, tmp_path / "raw")
    assert first.path.suffix == ".csv"
    done = ingest_file(first.path, tmp_path / "orders.parquet", progress=False, options={"nulls": True})
    frame = pd.read_parquet(done.table)
    assert (len(frame), done.rejected) == (20000, 0) and frame['금"액; --'].iloc[-1] == 5000.0
    assert frame["메모"].head(3).tolist()[:2] == ["", 'NA, "2"\n줄'] and pd.isna(frame["메모"].iloc[2])
    assert [rule.type for rule in done.schema.columns] == ["BIGINT", "DOUBLE", "VARCHAR", "TIMESTAMPTZ", "BOOLEAN"]
    assert collect("orders", source, tmp_path / "raw").status == "unchanged"
    postgres.query("sales", "UPDATE \"주문; DROP TABLE x\" SET 메모 = 'x' WHERE 번호 = 7")
    changed = collect("orders", source, tmp_path / "raw")
    assert changed.changes.set_index("what")["count"].to_dict() == {"rows added": 1, "rows removed": 1}
    assert PASSWORD not in (tmp_path / "raw/orders/history.jsonl").read_text("utf-8")
    query = Source(
        source.address, options={"query": "SELECT count(*) AS n FROM \"주문; DROP TABLE x\" WHERE 메모 LIKE 'NA%'"}
    )
    assert read(collect("query", query, tmp_path / "raw").path, tmp_path)["n"].tolist() == [6667]


def test_postgresql_refuses_by_name_and_without_the_password(tmp_path, postgres, monkeypatch, caplog):
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("DB_PASSWORD", PASSWORD)
    monkeypatch.setenv("WRONG_PASSWORD", "not-this-password")
    address = f"postgresql://ml:{{env:DB_PASSWORD}}@127.0.0.1:{postgres.port}/sales"
    said = []
    for source in [
        Source(address, options={"table": "주뭉"}),
        Source(address, options={"query": "SELECT"}),
        Source(address.replace("DB_", "WRONG_")),
        Source(address.replace("sales", "nothing")),
        Source(address, options={"query": "SELECT x FROM y"}),
    ]:
        with pytest.raises((UsageError, SourceError)) as caught:
            collect("refused", source, tmp_path / "raw")
        said.append(str(caught.value))
    assert "주문; DROP TABLE x" in said[0] and 'relation "y" does not exist' in said[4]
    for secret in (PASSWORD, "very%20s3cret", "not-this-password"):
        assert secret not in "".join(said) + caplog.text
    assert not list((tmp_path / "raw/refused").iterdir())


def test_a_database_that_goes_away_in_the_middle(tmp_path, monkeypatch):
    monkeypatch.setenv("DB_PASSWORD", PASSWORD)
    server = Server()
    try:
        server.query("postgres", "CREATE TABLE big AS SELECT n, md5(n::text) AS t FROM generate_series(1, 3000000) n")
        source = Source(
            f"postgresql://ml:{{env:DB_PASSWORD}}@127.0.0.1:{server.port}/postgres",
            options={"query": "SELECT * FROM big"},
        )
        folder = tmp_path / "raw/big"

        def crash():
            while not any(path.stat().st_size > 1e6 for path in folder.rglob("*.csv*")):
                time.sleep(0.01)
            server.stop("immediate")

        crashing = threading.Thread(target=crash)
        crashing.start()
        with pytest.raises(SourceError, match="went away") as caught:
            collect("big", source, tmp_path / "raw")
        crashing.join()
        assert not list(folder.iterdir()) and PASSWORD not in str(caught.value)
        server.start()
        assert collect("big", source, tmp_path / "raw").record["bytes"] > 1e8
    finally:
        server.remove()


def test_sqlite_while_others_write(tmp_path):
    path = tmp_path / "orders.sqlite"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute('CREATE TABLE "o; DROP" (id INTEGER PRIMARY KEY, "v"";--" TEXT)')
        connection.execute("INSERT INTO \"o; DROP\" VALUES (1, 'NA'), (2, NULL), (3, '')")
        connection.commit()  # and the log is not written back: a copy of the file alone would lack the rows
        source = Source(path, kind="sqlite")
        kept = collect("orders", source, tmp_path / "raw")
        done = ingest_file(kept.path, tmp_path / "o.parquet", progress=False)
        frame = pd.read_parquet(done.table)
        assert (
            frame["id"].tolist() == [1, 2, 3]
            and frame['v";--'].tolist()[::2] == ["NA", ""]
            and pd.isna(frame['v";--'][1])
        )
        assert collect("orders", source, tmp_path / "raw").status == "unchanged"
    other = Source(f"sqlite:///{path}", kind="database")
    assert len(read(collect("alchemy", other, tmp_path / "raw").path, tmp_path, options={"nulls": True})) == 3
    path.write_bytes(b"no database" * 1000)
    with pytest.raises(SourceError, match="it is no SQLite file, or damaged"):
        collect("broken", Source(path), tmp_path / "raw")


# The interface


def test_adapters_come_from_entry_points():
    names = {one.name for one in entry_points(group="mlops_nb.sources")}
    assert names == set(list_adapters()) and all(isinstance(one, SourceAdapter) for one in list_adapters().values())
    assert {
        "csv",
        "tsv",
        "excel",
        "json",
        "jsonl",
        "parquet",
        "folder",
        "sqlite",
        "database",
        "http",
        "fsspec",
    } <= names
    assert DATABASE.lay_out is None


@pytest.mark.parametrize(
    "address, options",
    [
        ("postgresql://ml:plain-password@h/d", {}),
        ("https://h/a.csv?api_key=plain-password", {}),
        ("https://h/a.csv", {"headers": {"Authorization": "plain-password"}}),
        ("s3://b/k", {"secret": "plain-password"}),
        ("https://h/a?x=1;token=plain-password", {}),
        ("postgresql://ml:{env:A}plain-password@h/d", {"password": "plain-password"}),
    ],
)
def test_a_literal_secret_is_refused_and_not_repeated(address, options):
    with pytest.raises(UsageError) as caught:
        Source(address, options=options)
    assert "plain-password" not in str(caught.value) and "{env:NAME}" in str(caught.value)


def test_secrets_from_the_keyring_and_a_file(tmp_path, web, monkeypatch):
    import keyring
    from keyring.backend import KeyringBackend

    class Kept(KeyringBackend):
        priority = 1

        def get_password(self, service, username):
            return f"kept-for-{username}" if service == "web" else None

        def set_password(self, service, username, password):
            raise NotImplementedError

        def delete_password(self, service, username):
            raise NotImplementedError

    before = keyring.get_keyring()
    keyring.set_keyring(Kept())
    try:
        collect("web", Source(f"{web.address.replace('//', '//ml:{keyring:web/ml}@')}/a.csv"), tmp_path / "raw")
    finally:
        keyring.set_keyring(before)
    import base64

    assert web.asked[0][1]["Authorization"] == "Basic " + base64.b64encode(b"ml:kept-for-ml").decode()
    history = json.loads((tmp_path / "raw/web/history.jsonl").read_text())
    assert re.search(r"\{keyring:web/ml\}", history["address"]) and "kept-for" not in json.dumps(history)
