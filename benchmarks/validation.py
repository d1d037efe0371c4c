"""Ten rules over a table of ten columns: time and peak memory, beside pandera (pandas and polars) and pointblank.

Everybody reads the same parquet file in a process of its own, counts the rows that break each of ten rules, and prints
the counts, which must be the same for all. Times begin when the libraries are imported and end with the counts; memory
is the largest resident size of the process. At 30 million rows each process gets 1 GB, by a control group of the system
where one may be made (else that part is absent); whoever needs more is ended by the system and has no figure.
"""

import os
import statistics
import sys
import tempfile
from pathlib import Path

from measuring import Absent, Row, Target, compare, make_group, peer_bin, read_options, report, run_script, tell, within

SIZES = {"full": (5_000_000, 30_000_000), "quick": (1_000_000,), "smoke": (20_000,)}
REPEATS = {"full": 3, "quick": 1, "smoke": 1}

OURS = '''
from mlops_nb.checks import (require_condition, require_pattern, require_present, require_range, require_unique,
                             require_values, run_checks)
begin = time.perf_counter()
checks = [require_present("a"), require_present("name"), require_range("a", 0, 990), require_range("b", -3.5, 3.5),
          require_range("c", 0, 1), require_values("kind", ["x", "y", "z"]), require_pattern("code", "[A-Z][0-9]{4}"),
          require_condition("d after a", "d >= a", "d"), require_range("e", 10, 20), require_unique(["id"])]
results = run_checks(path, checks, memory_limit="600MB").results
counts = [int(n) for n in results["failing"]]
'''
COLUMNS = '''{
    "a": pa.Column(nullable=False, checks=pa.Check.in_range(0, 990)), "name": pa.Column(nullable=False),
    "b": pa.Column(nullable=True, checks=pa.Check.in_range(-3.5, 3.5)),
    "c": pa.Column(nullable=True, checks=pa.Check.in_range(0, 1)),
    "kind": pa.Column(nullable=True, checks=pa.Check.isin(["x", "y", "z"])),
    "code": pa.Column(nullable=True, checks=pa.Check.str_matches(r"^[A-Z][0-9]{4}$")),
    "e": pa.Column(nullable=True, checks=pa.Check.in_range(10, 20)), "id": pa.Column(unique=True)}'''
COUNTS = '''\
    counts = [n("a", "not_nullable"), n("name", "not_nullable"), n("a", "in_range"), n("b", "in_range"),
              n("c", "in_range"), n("kind", "isin"), n("code", "str_matches"), both, n("e", "in_range"),
              n("id", "unique")]
'''
PANDERA = '''
import pandera.pandas as pa
import pandas as pd
begin = time.perf_counter()
schema = pa.DataFrameSchema(COLUMNS,
    checks=pa.Check(lambda frame: frame["d"] >= frame["a"], ignore_na=True, name="d after a"), strict=False)
frame = pd.read_parquet(path)
try:
    schema.validate(frame, lazy=True)
    counts = [0] * 10
except pa.errors.SchemaErrors as error:
    cases = error.failure_cases
    found = cases.groupby(["column", "check"], dropna=False).size()
    def n(column, check):
        return int(sum(v for (c, k), v in found.items() if c == column and check in str(k)))
    both = int(((frame["d"] < frame["a"]) & frame["a"].notna() & frame["d"].notna()).sum())
COUNTS'''.replace("COLUMNS", COLUMNS).replace("COUNTS", COUNTS)
POLARS = '''
import pandera.polars as pa
import polars as pl
begin = time.perf_counter()
schema = pa.DataFrameSchema(COLUMNS, strict=False)
frame = pl.read_parquet(path)
both = frame.filter((pl.col("d") < pl.col("a"))).height
try:
    schema.validate(frame, lazy=True)
    counts = [0] * 10
except pa.errors.SchemaErrors as error:
    cases = error.failure_cases
    found = {(row["column"], str(row["check"])): row["len"]
             for row in cases.group_by(["column", "check"]).len().to_dicts()}
    def n(column, check):
        return int(sum(v for (c, k), v in found.items() if c == column and check in k))
COUNTS'''.replace("COLUMNS", COLUMNS).replace("COUNTS", COUNTS)
POINTBLANK = '''
import pointblank as pb
import polars as pl
begin = time.perf_counter()
frame = pl.read_parquet(path)
done = (pb.Validate(frame).col_vals_not_null("a").col_vals_not_null("name").col_vals_between("a", 0, 990, na_pass=True)
        .col_vals_between("b", -3.5, 3.5, na_pass=True).col_vals_between("c", 0, 1, na_pass=True)
        .col_vals_in_set("kind", ["x", "y", "z"]).col_vals_regex("code", "^[A-Z][0-9]{4}$", na_pass=True)
        .col_vals_expr((pl.col("d") >= pl.col("a")).fill_null(True)).col_vals_between("e", 10, 20, na_pass=True)
        .rows_distinct(["id"]).interrogate(collect_extracts=False))
counts = [int(done.n_failed(i=i, scalar=True)) for i in range(1, 11)]
'''
PLAIN = '''
import pandas as pd
begin = time.perf_counter()
f = pd.read_parquet(path)
out = lambda s, low, high: int((s.notna() & ~s.between(low, high)).sum())
counts = [int(f["a"].isna().sum()), int(f["name"].isna().sum()), out(f["a"], 0, 990), out(f["b"], -3.5, 3.5),
          out(f["c"], 0, 1), int((f["kind"].notna() & ~f["kind"].isin(["x", "y", "z"])).sum()),
          int((f["code"].notna() & ~f["code"].str.fullmatch("[A-Z][0-9]{4}").fillna(False).astype(bool)).sum()),
          int((f["d"] < f["a"]).sum()), out(f["e"], 10, 20), int(f["id"].duplicated(keep=False).sum())]
'''
SCRIPTS = {"ours": OURS, "pandas by hand": PLAIN, "pandera, pandas": PANDERA, "pandera, polars": POLARS,
           "pointblank": POINTBLANK}
HEAD = "import json, resource, sys, time\npath = sys.argv[1]\n"
TELL = ("\nprint(json.dumps([time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,"
        " counts]))\n")


def make_table(path: Path, rows: int) -> None:
    """Ten columns, some of whose values break the rules; written piece by piece by DuckDB."""
    import duckdb

    with duckdb.connect(config={"memory_limit": "2GB", "threads": 2}) as connection:
        connection.execute("SELECT setseed(0.5)")
        connection.execute(f"""COPY (
            SELECT CASE WHEN i % 500000 = 7 THEN i - 1 ELSE i END AS id,
                   CASE WHEN hash(i) % 1000 = 0 THEN NULL ELSE (hash(i + 1) % 1000)::INTEGER END AS a,
                   (hash(i + 2) % 8000) / 1000.0 - 4 AS b, (hash(i + 3) % 1001) / 1000.0 AS c,
                   CASE WHEN hash(i) % 1000 = 0 THEN NULL
                        ELSE (hash(i + 1) % 1000)::INTEGER + (hash(i + 4) % 50)::INTEGER - 1 END AS d,
                   10 + (hash(i + 5) % 1005) / 100.0 AS e,
                   ['x', 'y', 'z', 'x', 'y', 'z', 'x', 'y', 'z', 'w'][1 + (hash(i + 6) % 10)::INTEGER] AS kind,
                   chr(65 + (hash(i + 7) % 26)::INTEGER) || lpad((hash(i + 8) % 10100)::VARCHAR, 4, '0') AS code,
                   CASE WHEN hash(i + 9) % 2000 = 0 THEN NULL ELSE 'name ' || (hash(i + 10) % 100000) END AS name,
                   DATE '2020-01-01' + (hash(i + 11) % 2000)::INTEGER AS day
            FROM range({rows}) t(i)) TO '{path}' (FORMAT parquet, ROW_GROUP_SIZE 100000)""")


def run(name: str, path: Path, group: Path | None) -> tuple[float, float, list[int]]:
    """Seconds, peak megabytes, and how many rows break each rule."""
    ours = name in ("ours", "pandas by hand")
    python = sys.executable if ours else peer_bin("pandera" if name.startswith("pandera") else name) / "python"
    seconds, memory, counts = run_script(python, HEAD + SCRIPTS[name] + TELL, [str(path)], group)
    return seconds, memory, counts


def measure(rows: int, repeats: int, names: list[str], group: Path | None) -> dict[str, dict[str, list[float]]]:
    """Each in turn over one file."""
    figures: dict[str, dict[str, list[float]]] = {name: {"seconds": [], "memory": []} for name in SCRIPTS}
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "table.parquet"
        make_table(path, rows)
        there, expected = list(names), None
        for _ in range(repeats):
            for name in list(there):
                try:
                    seconds, memory, counts = run(name, path, group)
                except Absent as reason:
                    tell(f"  {name} is absent: {reason}")
                    there.remove(name)
                    continue
                expected = expected or counts
                note = "" if counts == expected else f" but counts {counts} and not {expected}"
                tell(f"  {name}, {rows:,} rows: {seconds:.2f} s, {memory:.0f} MB{note}")
                figures[name]["seconds"].append(seconds)
                figures[name]["memory"].append(memory)
    return figures


def main() -> None:
    """Measure and report."""
    options = read_options(__doc__ or "", ["validation"], smoke=["validation"], peers="pandera,pointblank")
    names = ["ours", "pandas by hand"] if options.smoke else list(SCRIPTS)
    less = Target("less", lambda ours, peer: ours < peer)
    rows: list[Row] = []
    for size in SIZES[options.size]:
        group = None
        if size > 10_000_000:
            try:
                group = make_group(1 << 30)
            except Absent as reason:
                tell(f"  {size:,} rows under 1 GB are absent: {reason}")
                continue
        found = measure(size, 1 if group else options.repeats or REPEATS[options.size], names, group)
        what, ours = f"{size:,} rows" + (" within 1 GB" if group else ""), found["ours"]
        fastest = min((figures["seconds"] for name, figures in found.items() if name != "ours" and figures["seconds"]),
                      key=statistics.median, default=[])
        for name in names[1:]:
            peer = found[name]
            target = within(1.5) if size == 5_000_000 and peer["seconds"] == fastest else None
            rows.append(compare(f"{what}: {name}", ours["seconds"], peer["seconds"], target))
            rows.append(compare(f"{what}, peak memory: {name}", ours["memory"], peer["memory"],
                                less if size >= 5_000_000 else None, "MB"))
        if group:
            os.rmdir(group)
    report("validation", rows, options)


if __name__ == "__main__":
    main()
