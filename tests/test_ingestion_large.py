"""Ingestion into typed parquet: within its memory, each bad line kept, whatever is sent; and versions of a data set."""

import gzip
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from mlops_nb.dataset_versions import GrowingDataset, add_file, query_version
from mlops_nb.errors import ArtifactError, GateRefused, MlopsError, UsageError
from mlops_nb.ingestion import gate_rejects, read_table
from mlops_nb.source_addresses import SourceError
from mlops_nb.table_schemas import ColumnRule, TableSchema
from mlops_nb.typed_parquet import ingest_file


def ingest(folder, content, schema=None, name="표.csv", **words):
    """Rows, rejects and the rest of a file with that content."""
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    done = ingest_file(path, folder / "out.parquet", schema, progress=False, **words)
    return pd.read_parquet(done.table), pd.read_parquet(done.rejects), done


AB = {"a": "INTEGER", "b": "VARCHAR"}


# Bad input


def test_mixed_encodings_in_one_file(tmp_path):
    lines = [f"{n},이름 {n}".encode("cp949" if n % 7 == 3 else "utf-8") for n in range(100)]
    rows, rejects, done = ingest(tmp_path, b"a,b\n" + b"\n".join(lines) + b"\n", AB)
    bad = [n + 2 for n in range(100) if n % 7 == 3]
    assert done.encoding == "utf-8" and rejects["line"].tolist() == bad and len(rows) == 100 - len(bad)
    assert rejects["reason"].str.contains("is not utf-8; it would be text in cp949").all()
    rows, rejects, done = ingest(tmp_path, b"a,b\n" + b"\n".join([*lines[:3], b"x,y", b"z,w"]), AB)
    assert rejects["line"].tolist() == [5, 6]


def test_lines_are_right_after_lines_of_another_encoding(tmp_path):
    content = (
        "a,b\n1,하나\n".encode()
        + "2,둘\n".encode("cp949")
        + "세,셋\n".encode()
        + "4,넷\n".encode("cp949") * 2
        + "x,다섯\n6,여섯\n".encode()
    )
    rows, rejects, _ = ingest(tmp_path, content, AB)
    assert rows["a"].tolist() == [1, 6] and rejects["line"].tolist() == [3, 4, 5, 6, 7]
    assert rejects["text"].tolist()[1::3] == ["세,셋", "x,다섯"]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp949", "euc-kr"])
def test_any_encoding_and_a_bom(tmp_path, encoding):
    rows, rejects, _ = ingest(tmp_path, ("a,b\n" + "1,대한민국의 항공편\n" * 50).encode(encoding), AB)
    assert (
        list(rows.columns) == ["a", "b"] and len(rows) == 50 and rejects.empty and rows["b"][0] == "대한민국의 항공편"
    )


def test_ragged_lines(tmp_path):
    rows, rejects, done = ingest(tmp_path, "a,b\n1,x\n2\n3,y,z\n4,w\n,\n", AB)
    assert rows["a"].tolist()[:2] == [1, 4] and len(rows) == 3 and done.rejected == 2
    assert rejects["line"].tolist() == [3, 4] and rejects["text"].tolist() == ["2", "3,y,z"]
    assert rejects["reason"].str.split(":").str[0].tolist() == ["missing columns", "too many columns"]


@pytest.mark.parametrize("after", [3, 2000, 4_000_000])
def test_quotes_never_closed_cost_one_line(tmp_path, after):
    rest = "".join(f"{n},y\n" for n in range(3, after))
    rows, rejects, _ = ingest(tmp_path, f'a,b\n1,"x"\n2,"open\n{rest}bad,z\n7,"end\n', AB)
    assert len(rows) == after - 2 and rows["a"].tolist()[:1] == [1]
    assert rejects["text"].tolist() == ['2,"open', "bad,z", '7,"end']
    assert rejects["line"].tolist() == [3, after + 1, after + 2]


def test_a_quote_that_is_closed_by_the_next_one(tmp_path):
    rows, rejects, done = ingest(tmp_path, 'a,b\n1,x\n2,"open\n3,y\n4,z\n5,"ok"\n6,"k"\nbad,1\n7,q\n', AB)
    assert rows["a"].tolist() == [1, 3, 4, 5, 6, 7] and done.rejected == 2
    assert rejects["line"].tolist() == [3, 8] and rejects["text"].tolist() == ['2,"open', "bad,1"]


def test_text_behind_a_quote_takes_no_other_line_with_it(tmp_path):
    rows, rejects, _ = ingest(tmp_path, 'a,b\n1,"a"b,"c\n2,"d"\n3,"e"f\n4,"two\nlines"\n5,"x""y"\nbad,z\n6,7" long\n'
                              + '7,"three\n\nlines"\n\n8,u,v\n', AB)
    assert rows["a"].tolist() == [2, 4, 5, 6, 7]
    assert rows["b"].tolist() == ["d", "two\nlines", 'x"y', '7" long', "three\n\nlines"]
    assert rejects["line"].tolist() == [2, 4, 8, 14]
    rows, rejects, _ = ingest(tmp_path, 'b,a\n"x\n\ny",1\n\nz,inf\nz,"1,2"\n', {"b": "VARCHAR", "a": "DOUBLE"})
    assert rejects["line"].tolist() == [6, 7] and rejects["text"].tolist() == ["z,inf", 'z,"1,2"']


def test_a_header_twice(tmp_path):
    rows, rejects, _ = ingest(tmp_path, "a,b\n1,x\na,b\n2,y\n", AB)
    assert rows["a"].tolist() == [1, 2] and rejects["line"].tolist() == [3] and rejects["text"].tolist() == ["a,b"]
    rows, rejects, _ = ingest(tmp_path, "a,b\n1,x\na,b\n2,y\n\na,b\n", {"a": "VARCHAR", "b": "VARCHAR"})
    assert (
        len(rows) == 2
        and rejects["line"].tolist() == [3, 6]
        and set(rejects["reason"]) == {"header: the header stands here again"}
    )


@pytest.mark.parametrize(
    "header, message",
    [
        ("a,a,b", "column `a` stands twice"),
        ("a,,b", "a column has no name"),
        (",,", "the file is empty"),
        ("", "the file is empty"),
    ],
)
def test_duplicate_and_empty_column_names(tmp_path, header, message):
    with pytest.raises(UsageError, match=f"표.csv: {message}"):
        ingest(tmp_path, f"{header}\n1,2,3\n")


def test_a_column_that_changes_its_type_at_row_three_million(tmp_path):
    path = tmp_path / "long.csv"
    with path.open("w") as file:
        file.write("번호,값\n" + "".join(f"{n},{n % 9}\n" for n in range(3_000_000)))
        file.write("".join(f"{n},없다{n}\n" for n in range(3_000_000, 3_000_050)))
    done = ingest_file(path, tmp_path / "long.parquet", progress=False)
    assert done.schema["값"].type == "BIGINT" and (done.rows, done.rejected) == (3_000_000, 50)
    worst = done.summarize_rejects().iloc[0]
    assert (worst["column"], worst["first_line"], worst["text"]) == ("값", 3_000_002, "3000000,없다3000000")
    assert worst["complaints"] == 50
    assert (tmp_path / "long.parquet").exists()
    with pytest.raises(GateRefused, match=r"50 of 3,000,050 records .* most in `값`, first in line 3000002"):
        gate_rejects([done], 0.00001)


def test_numbers_with_commas_and_dates_in_four_formats_with_impossible_days(tmp_path):
    dates = ["2013-01-31", "31/01/2013", "2013.01.31", "2013년 1월 31일"]
    lines = [f'"{1_000_000 + n:,}",{dates[n % 4]}' for n in range(40)] + [
        '"1,23",2013-02-30',
        '"12,345",31/02/2013',
        "7,29/02/2013",
    ]
    rows, rejects, done = ingest(tmp_path, "매출,날\n" + "\n".join(lines) + "\n")
    assert (done.schema["매출"].type, done.schema["매출"].thousands, done.schema["날"].type) == ("BIGINT", True, "DATE")
    assert len(done.schema["날"].formats) == 4
    assert rows["매출"].tolist() == [1_000_000 + n for n in range(40)] and {str(day)[:10] for day in rows["날"]} == {
        "2013-01-31"
    }
    assert sorted(set(zip(rejects["line"], rejects["column"], strict=True))) == [
        (42, "날"),
        (42, "매출"),
        (43, "날"),
        (44, "날"),
    ]
    assert rejects["text"].tolist()[-1] == "7,29/02/2013"


def test_dates_that_could_be_either_are_not_guessed(tmp_path):
    rows, _, done = ingest(tmp_path, "날\n" + "01/02/2013\n03/04/2013\n" * 5)
    assert done.schema["날"].type == "VARCHAR" and rows["날"][0] == "01/02/2013"
    _, _, done = ingest(tmp_path, "날\n" + "01/02/2013\n03/14/2013\n" * 5)
    assert done.schema["날"].formats == ("%m/%d/%Y",)


def test_words_for_missing_infinity_and_a_text_called_na(tmp_path):
    content = "나라,값\nNA,NaN\nNA,inf\nKR,None\nKR,NA\nNone,없음\nKR,\nKR,-inf\n" + "KR,1.5\n" * 60
    rows, rejects, done = ingest(tmp_path, content)
    assert (
        done.schema["값"].type == "DOUBLE"
        and rejects["line"].tolist() == [3, 8]
        and rejects["column"].tolist() == ["값"] * 2
    )
    assert rows["값"].isna().sum() == 5 and rows["나라"].tolist()[:4] == ["NA", "KR", "KR", "None"], "text stays text"
    rows, rejects, _ = ingest(tmp_path, "a,b\n1,NA\n2,\n3,x\n", AB)
    assert rows["b"].isna().tolist() == [True, True, False], "a declared text has the declared words"


@pytest.mark.parametrize(
    "content, message",
    [
        ("a,b\n", "no record could be read"),
        ("a,b\nx,1\ny,2\n", "no record could be read: line 2, cast"),
    ],
)
def test_zero_rows(tmp_path, content, message):
    with pytest.raises(UsageError, match=message):
        ingest(tmp_path, content, AB, extra="leave out")
    assert len(pd.read_parquet(tmp_path / "out.rejects.parquet")) == content.count("\n") - 1
    assert not (tmp_path / "out.parquet").exists()


def test_one_column(tmp_path):
    rows, rejects, _ = ingest(tmp_path, "값\n1\n2\n셋\n4\n", {"값": "INTEGER"})
    assert rows["값"].tolist() == [1, 2, 4] and rejects["line"].tolist() == [4]


def test_five_thousand_columns(tmp_path):
    names = [f"열{n}" for n in range(5000)]
    lines = [",".join(str(row * n % 97) for n in range(5000)) for row in range(200)]
    lines[150] = lines[150].replace(",", ",x", 1)
    began = time.monotonic()
    rows, rejects, done = ingest(tmp_path, ",".join(names) + "\n" + "\n".join(lines) + "\n", memory="800MB")
    assert rows.shape == (199, 5000) and rejects["line"].tolist() == [152] and rejects["column"].tolist() == ["열1"]
    assert {rule.type for rule in done.schema.columns} == {"BIGINT"} and time.monotonic() - began < 60


def test_files_that_are_cut_short(tmp_path):
    pd.DataFrame({"a": range(10_000)}).to_parquet(tmp_path / "whole.parquet")
    whole = (tmp_path / "whole.parquet").read_bytes()
    for size in (0, 3, 100, len(whole) // 2, len(whole) - 1):
        with pytest.raises(SourceError, match=r"표.parquet: the parquet file is cut short or damaged"):
            ingest(tmp_path, whole[:size], name="표.parquet")
    broken = bytearray(whole)
    broken[50:2000] = os.urandom(1950)  # the table of contents is whole, a page is not
    with pytest.raises(MlopsError, match=r"표\.parquet"):
        ingest(tmp_path, bytes(broken), name="표.parquet")
    with pytest.raises(SourceError, match="the archive is damaged"):
        ingest(tmp_path, gzip.compress(b"a,b\n1,2\n" * 1000)[:-20], name="표.csv.gz")


def test_mixed_line_ends(tmp_path):
    rows, rejects, _ = ingest(tmp_path, b"a,b\r\n1,x\n2,y\r\n3,z\n", AB)
    assert rows["b"].tolist() == ["x", "y", "z"] and rejects.empty


def test_sql_in_a_column_name(tmp_path):
    names = ['"; DROP TABLE x; --', "a'b", "x) FROM y", "%(p)s $1 ?", "SELECT", "줄\\n"]
    content = (
        ",".join('"' + name.replace('"', '""') + '"' for name in names) + "\n" + "1,2,3,4,5,6\n" * 9 + "x,inf,3,4,5,6\n"
    )
    rows, rejects, _done = ingest(tmp_path, content)
    assert list(rows.columns) == names and len(rows) == 9 and rejects["line"].tolist() == [11, 11][: len(rejects)]
    assert names[0] in rejects["column"].tolist()
    dataset = GrowingDataset(tmp_path / "data", key=(names[0],), time=names[1])
    assert add_file(dataset, tmp_path / "표.csv", rejects_allowed=0.2, progress=False).counts["duplicates"] == 8


def test_json_lines_that_are_none(tmp_path):
    rows, rejects, _done = ingest(
        tmp_path, '{"a": 1, "b": "x"}\n{"a": "inf"}\n{oops}\n\n{"a": 3.5}\n' + '{"a": 1}\n' * 20, name="표.jsonl"
    )
    assert (
        len(rows) == 22
        and rejects["line"].tolist() == [2, 3]
        and rejects["text"].tolist() == ['{"a": "inf"}', "{oops}"]
    )


def test_every_record_is_a_row_or_a_reject(tmp_path):
    """Files with random faults of all kinds: the records of both sides together are those that were written."""
    draw = random.Random(5)
    schema = TableSchema(
        (ColumnRule("번호", "INTEGER"), ColumnRule("값", "DOUBLE", thousands=True), ColumnRule("글", "VARCHAR"))
    )
    for turn in range(20):
        good, bad, lines = [], [], ["번호,값,글".encode()]
        for number in range(200):
            fault = draw.choice(["", "", "", "text", "short", "long", "encoding", "inf", "blank"])
            line = {
                "text": f"{number}x,1,a",
                "short": f"{number}",
                "long": f"{number},1,a,b",
                "inf": f"{number},inf,a",
                "blank": "",
                "encoding": f"{number},1,가나",
            }.get(fault, f'{number},"1,234.5",가')
            lines.append(line.encode("cp949" if fault == "encoding" else "utf-8"))
            (good if not fault else bad if fault != "blank" else []).append(len(lines))
        rows, rejects, _done = ingest(tmp_path, b"\n".join(lines) + b"\n", schema)
        assert rows["번호"].tolist() == [line - 2 for line in good] and sorted(set(rejects["line"])) == bad, turn
        assert all(
            lines[line - 1].decode("utf-8", "backslashreplace") == text
            for line, text in zip(rejects["line"], rejects["text"], strict=True)
            if "encoding" not in text
        ), turn


# The machine: memory, disk, an interrupt


MEASURED = """
import re, sys
from mlops_nb.typed_parquet import ingest_file
done = ingest_file(sys.argv[1], sys.argv[2], memory=sys.argv[3], progress=False)
peak = re.search(r"VmHWM:\\s*(\\d+)", open("/proc/self/status").read())  # ru_maxrss has the parent's in it
print(done.rows, done.rejected, int(peak[1]) * 1024)
"""


def test_memory_stays_within_the_limit(tmp_path):
    path = tmp_path / "large.csv"
    block = "".join(
        f"{n},{n * 0.37:.3f},이름 {n % 5000},2013-{n % 12 + 1:02d}-{n % 28 + 1:02d},{'x' * (n % 40)}\n"
        for n in range(50_000)
    )
    with path.open("w", encoding="utf-8") as file:
        file.write("a,b,c,d,e\n" + block * 120 + "bad,1,2,3,4\n")
    size = path.stat().st_size
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, path, tmp_path / "out.parquet", "500MB"],
        capture_output=True,
        text=True,
        check=True,
    )
    rows, rejected, peak = map(int, done.stdout.split())
    assert (rows, rejected) == (6_000_000, 1) and size > 300e6
    assert peak < 500e6, f"{peak / 1e6:.0f} MB for a file of {size / 1e6:.0f} MB"


FULL = """
import sys
from mlops_nb.errors import MlopsError
from mlops_nb.typed_parquet import ingest_file
from mlops_nb.collection import collect
from pathlib import Path
for work in (lambda: ingest_file(sys.argv[1], Path(sys.argv[2]) / "out.parquet", progress=False),
             lambda: collect("big", sys.argv[1], Path(sys.argv[2]))):
    try:
        work()
        print("no error")
    except MlopsError as error:
        print(type(error).__name__, error.what)
"""


def test_a_disk_that_fills(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", disk], capture_output=True, check=False
    ).returncode:
        pytest.skip("only who may mount a small disk can fill one")
    try:
        (disk / "out.parquet").write_bytes(b"earlier")
        draw = random.Random(1)
        (tmp_path / "big.csv").write_text(
            "a,b\n" + "".join(f"{draw.random()},{draw.random()}\n" for _ in range(600_000))
        )
        done = subprocess.run(
            [sys.executable, "-c", FULL, tmp_path / "big.csv", disk], capture_output=True, text=True, check=True
        )
        said = done.stdout.splitlines()
        assert [line.split(" ", 1)[0] for line in said] == ["SourceError"] * 2 and all(
            "the disk is full" in line for line in said
        ), said
        assert (disk / "out.parquet").read_bytes() == b"earlier", "what was there stays"
        assert not [path for path in disk.rglob("*") if path.is_file() and path.name != "out.parquet"], (
            "nothing half is left"
        )
    finally:
        subprocess.run(["umount", disk], check=True)


def test_an_interrupt_ends_it_and_leaves_nothing(tmp_path):
    (tmp_path / "big.csv").write_text("a,b\n" + "1,2\n" * 30_000_000)
    code = (
        "import sys\nfrom mlops_nb.typed_parquet import ingest_file\nprint('begins', flush=True)\n"
        "ingest_file(sys.argv[1], sys.argv[2], progress=False)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, tmp_path / "big.csv", tmp_path / "out.parquet"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    process.stdout.readline()
    while not list(tmp_path.glob(".ingesting-*/first.parquet")):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    began = time.monotonic()
    assert "KeyboardInterrupt" in process.communicate(timeout=30)[1] and time.monotonic() - began < 10
    assert sorted(path.name for path in tmp_path.iterdir()) == ["big.csv"]


def test_a_bar_in_a_terminal_a_line_in_a_notebook_and_nothing_else(tmp_path):
    (tmp_path / "big.csv").write_text("a,b\n" + "1,2\n" * 25_000_000)
    paths = f"{str(tmp_path / 'big.csv')!r}, {str(tmp_path / 'o.parquet')!r}"
    code = "import mlops_nb.bounded_queries as queries\nqueries.QUIET = queries.EVERY = 0\n"
    code += f"from mlops_nb.typed_parquet import ingest_file\ningest_file({paths})"
    silent = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert silent.stdout + silent.stderr == ""
    import pty

    reader, writer = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stderr=writer,
        stdout=subprocess.DEVNULL,
        env=os.environ | {"TERM": "xterm-256color"},
    )
    os.close(writer)
    shown = b""
    while True:
        try:
            piece = os.read(reader, 65536)
        except OSError:
            break
        if not piece:
            break
        shown += piece
    os.close(reader)
    assert process.wait() == 0 and b"big.csv" in shown and b"100%" in shown
    notebook = subprocess.run([sys.executable, "-c", "import ipykernel\n" + code], capture_output=True, check=True)
    shown = notebook.stdout.decode()
    assert shown.startswith("\rbig.csv") and "100% in" in shown and shown.count("\n") == 1
    assert "MLOPS_NB_RUN" not in os.environ
    run = subprocess.run(
        [sys.executable, "-c", "import ipykernel\n" + code],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"MLOPS_NB_RUN": "x"},
    )
    assert run.stdout == "", "a headless run prints nothing"


# A schema that is fixed, and versions


def test_a_later_file_that_does_not_fit_is_refused_with_the_difference(tmp_path):
    _, _, first = ingest(tmp_path, "편명,거리 (km),날\n" + "KE1,100,2013-01-01\n" * 20)
    kept = Path(tmp_path / "schema.json")
    kept.write_text(first.schema.write(), "utf-8")
    schema = TableSchema.read(kept.read_text("utf-8"))
    with pytest.raises(UsageError) as caught:
        ingest(tmp_path, "편명,거리 (mi),날,비고\n" + "KE1,100,언젠가,x\n" * 20, schema)
    said = str(caught.value)
    assert (
        "`거리 (km)` unit: declared km, found mi" in said
        and "`날` type: declared DATE" in said
        and "`비고` added" in said
    )
    _, _, left_out = ingest(
        tmp_path, "비고,날,거리 (km),편명\n" + "x,2013-01-01,7,KE1\n" * 3, schema, extra="leave out"
    )
    assert left_out.undeclared == ["비고"] and left_out.rows == 3


def test_the_same_file_gives_the_same_bytes(tmp_path):
    content = "a,b\n" + "".join(f"{n},{n % 13}\n" for n in range(300_000))
    ingest(tmp_path, content)
    first = (tmp_path / "out.parquet").read_bytes()
    ingest(tmp_path, content)
    assert (tmp_path / "out.parquet").read_bytes() == first


def test_versions_by_key_and_as_of(tmp_path):
    """Beside a dictionary that does the same, for random deliveries."""
    draw, dataset, truth, states = random.Random(3), GrowingDataset(tmp_path / "data", key=("k",), time="t"), {}, []
    newest = -1
    for month in range(6):
        rows = [(draw.randrange(60), draw.randrange(3), month * 10 + draw.randrange(-8, 10) + 20) for _ in range(50)]
        path = tmp_path / f"{month}.csv"
        path.write_text("k,v,t\n" + "".join(f"{k},{v},{t}\n" for k, v, t in rows))
        last = {k: (v, t) for k, v, t in rows}
        corrected = sum(k in truth and truth[k] != row for k, row in last.items())
        late = sum(t < newest for *_, t in rows) if truth else 0
        duplicates = len(rows) - len(last) + sum(k in truth and truth[k] == row for k, row in last.items())
        truth |= last
        version = add_file(dataset, path, progress=False)
        newest = max(t for _, t in truth.values())
        assert version.counts == {
            "rows": 50,
            "rejected": 0,
            "duplicates": duplicates,
            "corrected": corrected,
            "late": late,
            "without_key": 0,
        }
        states.append((version, dict(truth)))
        assert add_file(dataset, path, progress=False) == version, "the same file again is no new version"
    for version, state in states:
        for name in (version.number, version.id, version.made_at):
            frame = query_version(dataset, as_of=name)
            assert {k: (v, t) for k, v, t in frame.itertuples(index=False)} == state and version.rows == len(frame)
    assert len({version.id for version, _ in states}) == 6


def test_an_old_version_is_not_read_with_a_hole(tmp_path):
    (tmp_path / "a.csv").write_text("k\n1\n2\n")
    dataset = GrowingDataset(tmp_path / "data")
    version = add_file(dataset, tmp_path / "a.csv", progress=False)
    part = tmp_path / "data" / version.parts[0]["file"]
    part.write_bytes(part.read_bytes()[:-4])
    with pytest.raises(ArtifactError, match="is missing or damaged"):
        query_version(dataset)


def test_two_who_add_at_the_same_time(tmp_path):
    code = (
        "import sys\nfrom mlops_nb.dataset_versions import *\nfrom mlops_nb.errors import UsageError\n"
        "dataset = GrowingDataset(sys.argv[1], key=('k',))\n"
        "while True:\n    try:\n        add_file(dataset, sys.argv[2], progress=False); break\n"
        "    except UsageError as error:\n        assert 'meanwhile' in str(error), error; print('again')"
    )
    for number in range(4):
        (tmp_path / f"{number}.csv").write_text(
            "k,v\n" + "".join(f"{k},{number}\n" for k in range(number * 10, number * 10 + 20))
        )
    words = [[sys.executable, "-c", code, tmp_path / "data", tmp_path / f"{number}.csv"] for number in range(4)]
    running = [subprocess.Popen(each, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for each in words]
    for process in running:
        assert process.wait() == 0, process.stderr.read()
        process.communicate()
    dataset = GrowingDataset(tmp_path / "data")
    assert [one.number for one in dataset.list_versions()] == [1, 2, 3, 4] and len(query_version(dataset)) == 50


def test_read_table_says_no_less_than_before():
    done = read_table("a;b\n1;x\n둘;y\n".encode("cp949"), AB, "표")
    assert (
        done.frame["a"].tolist() == [1]
        and str(done.frame["a"].dtype) == "Int64"
        and done.rejects["line"].tolist() == [3]
    )
