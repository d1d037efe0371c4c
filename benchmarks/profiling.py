"""The profile of a table of a million rows by ten columns as a page, beside skrub's TableReport.

Both read the same parquet file in a process of its own and end with the page as HTML. Times begin when the libraries
are imported; memory is the largest resident size of the process. What the pages say is not the same: skrub draws with
matplotlib, and computes associations on a sample as we do; ours has outliers, gaps in time and copies of rows besides
(of which a table with a key has none, so that they need not be counted). `with a target` is ours with the leakage
suspects, which skrub does not look for.
"""

import sys
import tempfile
from pathlib import Path

from measuring import Absent, Row, Target, compare, peer_bin, read_options, report, run_script, tell, within

ROWS = {"full": 1_000_000, "quick": 1_000_000, "smoke": 5_000}
REPEATS = {"full": 5, "quick": 2, "smoke": 1}

HEAD = "import json, resource, sys, time\npath, target = sys.argv[1:]\n"
OURS = '''
from mlops_nb.table_profile import profile_rows
begin = time.perf_counter()
page = profile_rows(path, target=target)._repr_html_()
'''
SKRUB = '''
import pandas as pd
from skrub import TableReport
begin = time.perf_counter()
page = TableReport(pd.read_parquet(path), verbose=0).html()
'''
PLAIN = '''
import pandas as pd
begin = time.perf_counter()
frame = pd.read_parquet(path)
counts = [frame[name].value_counts().head(10).to_frame().to_html() for name in frame]
page = frame.describe(include="all").to_html() + "".join(counts)
'''
SCRIPTS = {"ours": OURS, "ours, with a target": OURS, "pandas' describe": PLAIN, "skrub's TableReport": SKRUB}
TELL = ("\nprint(json.dumps([time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,"
        " len(page.encode()) / 1e6]))\n")


def make_table(path: Path, rows: int) -> None:
    """Ten columns: a key, whole numbers, numbers with gaps and with a tail, codes, names, moments, a truth."""
    import duckdb

    with duckdb.connect(config={"memory_limit": "2GB", "threads": 2}) as connection:
        connection.execute(f"""COPY (
            SELECT i AS id, (hash(i) % 1000)::INTEGER AS a, exp((hash(i + 4) % 1000) / 100.0)::DOUBLE AS d,
                   CASE WHEN hash(i + 1) % 50 = 0 THEN NULL ELSE (hash(i + 2) % 8000) / 1000.0 - 4 END::DOUBLE AS b,
                   sqrt(hash(i + 3) % 100003)::DOUBLE AS c, ['x', 'y', 'z'][1 + (hash(i + 5) % 3)::INTEGER] AS kind,
                   chr(65 + (hash(i + 7) % 26)::INTEGER) || lpad((hash(i + 8) % 10100)::VARCHAR, 4, '0') AS code,
                   'name ' || (hash(i + 10) % 500000) AS name, hash(i + 12) % 7 = 0 AS late,
                   TIMESTAMP '2020-01-01' + to_seconds((hash(i + 11) % 60000000)::BIGINT) AS moment
            FROM range({rows}) t(i)) TO '{path}' (FORMAT parquet, ROW_GROUP_SIZE 100000)""")


def run(name: str, path: Path) -> tuple[float, float, float]:
    """Seconds, peak megabytes, and megabytes of the page."""
    python = peer_bin("skrub") / "python" if name.startswith("skrub") else sys.executable
    target = "late" if name.endswith("target") else ""
    seconds, memory, size = run_script(python, HEAD + SCRIPTS[name] + TELL, [str(path), target])
    return seconds, memory, size


def main() -> None:
    """Measure in turn and report."""
    options = read_options(__doc__ or "", ["profiling"], smoke=["profiling"], peers="skrub")
    there = [name for name in SCRIPTS if not options.smoke or not name.startswith("skrub")]
    count = ROWS[options.size]
    figures: dict[str, list[tuple[float, float, float]]] = {name: [] for name in SCRIPTS}
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "table.parquet"
        make_table(path, count)
        for _ in range(options.repeats or REPEATS[options.size]):
            for name in list(there):
                try:
                    figures[name].append(run(name, path))
                except Absent as reason:
                    tell(f"  {name} is absent: {reason}")
                    there.remove(name)
                    continue
                tell(f"  {name}: {figures[name][-1][0]:.2f} s, {figures[name][-1][1]:.0f} MB")
    half = Target("at most half", lambda ours, peer: 2 * ours <= peer)
    smaller = Target("at most 2 MB", lambda ours, peer: ours <= 2)
    rows: list[Row] = []
    for name in ("skrub's TableReport", "pandas' describe"):
        peer, skrub = figures[name], name.startswith("skrub")
        for mine in ("ours", "ours, with a target") if skrub else ("ours",):
            seconds, memory, size = (list(column) for column in zip(*figures[mine], strict=True))
            theirs = [[one[at] for one in peer] for at in range(3)]
            what = f"{count:,} rows by 10 columns{mine.removeprefix('ours')}: {name}"
            rows.append(compare(what, seconds, theirs[0], within(1) if skrub else None))
            rows.append(compare(f"{what}, peak memory", memory, theirs[1], half if skrub else None, "MB"))
            rows.append(compare(f"{what}, the page", size, theirs[2], smaller if skrub else None, "MB"))
    report("profiling", rows, options)


if __name__ == "__main__":
    main()
