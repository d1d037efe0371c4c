"""A CSV file, larger than the memory that there is for it, to typed parquet; beside DuckDB by hand, polars and pandas.

Everybody reads the same file in a process of its own that gets 1 GB, by a control group of the system where one may be
made (else without a limit; the results say so), and writes parquet. One line in a million is cut short. Ours keeps
these lines with their numbers and texts; of the others each drops them, or fills them up, in its own way, which its
number of rows shows. Times begin when the libraries are imported. Memory is the largest resident size of the process:
pages of the file that the system keeps beside it do not count, and are dropped when the group is full.
"""

import os
import sys
import tempfile
from pathlib import Path

from measuring import Absent, Row, at_most, compare, make_group, peer_bin, read_options, report, run_script, tell

SIZES = {"full": 88_000_000, "quick": 3_500_000, "smoke": 50_000}  # rows; 88 million are 5 GB

OURS = '''
from pathlib import Path
from mlops_nb.typed_parquet import ingest_file
begin = time.perf_counter()
done = ingest_file(Path(source), Path(target), memory="1GB", progress=False)
rows = [done.rows, done.rejected]
'''
BY_HAND = '''
import duckdb
begin = time.perf_counter()
with duckdb.connect(config={"memory_limit": "500MB", "enable_external_file_cache": "false"}) as connection:
    connection.execute("SET enable_progress_bar = false")
    connection.execute(f"COPY (FROM read_csv('{source}', ignore_errors = true)) TO '{target}' (FORMAT parquet)")
    rows = [connection.execute(f"SELECT count(*) FROM '{target}'").fetchone()[0], None]
'''
POLARS = '''
import polars
begin = time.perf_counter()
polars.scan_csv(source, truncate_ragged_lines=True, ignore_errors=True).sink_parquet(target)
rows = [polars.scan_parquet(target).select(polars.len()).collect().item(), None]
'''
PANDAS = '''
import pandas, pyarrow, pyarrow.parquet
begin = time.perf_counter()
writer, count = None, 0
for part in pandas.read_csv(source, chunksize=500_000, on_bad_lines="skip"):
    table = pyarrow.Table.from_pandas(part, preserve_index=False, schema=writer.schema if writer else None)
    writer = writer or pyarrow.parquet.ParquetWriter(target, table.schema)
    writer.write_table(table)
    count += len(part)
writer.close()
rows = [count, None]
'''
SCRIPTS = {"ours": OURS, "DuckDB by hand": BY_HAND, "polars": POLARS, "pandas in pieces": PANDAS}
HEAD = "import json, resource, sys, time\nsource, target = sys.argv[1:]\n"
TELL = ("\nprint(json.dumps([time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,"
        " rows]))\n")


def make_file(path: Path, rows: int) -> None:
    """Seven columns; one line in a million has two."""
    import duckdb

    with duckdb.connect(config={"memory_limit": "2GB", "threads": 2}) as connection:
        connection.execute("SET enable_progress_bar = false")
        connection.execute(f"""COPY (
            SELECT CASE WHEN i % 1000000 = 500000 THEN concat_ws(',', i, hash(i) % 1000) ELSE concat_ws(',',
                i, hash(i) % 1000, (hash(i + 1) % 80000) / 100.0, 'name ' || (hash(i + 2) % 100000),
                DATE '2020-01-01' + (hash(i + 3) % 2000)::INTEGER, chr(65 + (hash(i + 4) % 26)::INTEGER),
                TIMESTAMP '2026-01-01' + INTERVAL (hash(i + 5) % 1000000) SECOND) END AS "id,a,b,name,day,kind,at"
            FROM range({rows}) t(i)) TO '{path}' (FORMAT csv, QUOTE '', ESCAPE '', DELIMITER '\t')""")


def run(name: str, source: Path, group: Path | None) -> tuple[float, float, list[int | None]]:
    """Seconds, peak megabytes, and the rows written and rejected."""
    python = peer_bin("pointblank") / "python" if name == "polars" else Path(sys.executable)
    target = source.with_name("target.parquet")
    try:
        seconds, memory, rows = run_script(python, HEAD + SCRIPTS[name] + TELL, [str(source), str(target)], group)
    finally:
        target.unlink(missing_ok=True)
    return seconds, memory, rows


def main() -> None:
    """Measure and report."""
    options = read_options(__doc__ or "", ["ingestion"], smoke=["ingestion"], peers="pointblank")
    try:
        group = make_group(1 << 30)
    except Absent as reason:
        tell(f"  without a limit: {reason}")
        group = None
    figures: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in SCRIPTS}
    with tempfile.TemporaryDirectory() as place:
        source = Path(place) / "source.csv"
        make_file(source, SIZES[options.size])
        size = source.stat().st_size / 1e9
        for name in [name for name in SCRIPTS if not (options.smoke and name == "polars")]:
            try:
                seconds, memory, rows = run(name, source, group)
            except Absent as reason:
                tell(f"  {name} is absent: {reason}")
                continue
            tell(f"  {name}, {size:.1f} GB: {seconds:.1f} s, {memory:.0f} MB, {rows[0]:,} rows"
                 + ("" if rows[1] is None else f", {rows[1]:,} rejected"))
            figures[name][0].append(seconds)
            figures[name][1].append(memory)
    if group:
        os.rmdir(group)
    what = f"{size:.1f} GB of CSV" + (" within 1 GB" if group else "")
    least = at_most(1024, "at most 1 GB")
    lines: list[Row] = []
    for name in list(SCRIPTS)[1:]:
        lines.append(compare(f"{what}: {name}", figures["ours"][0], figures[name][0]))
        lines.append(compare(f"{what}, peak memory: {name}", figures["ours"][1], figures[name][1], least, "MB"))
    report("ingestion", lines, options)


if __name__ == "__main__":
    main()
