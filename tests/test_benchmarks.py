"""Each benchmark works and reports in one shape. Its figures are for people: none is asserted here."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent.parent / "benchmarks"
SHAPE = {"name": str, "ours": float | None, "peer": float | None, "ratio": float | None, "target": str | None,
         "met": bool | None}
BENCHMARKS = [path.name for path in sorted(FOLDER.glob("*.py"))
              if "read_options" in (text := path.read_text("utf-8")) and "__main__" in text]


@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_benchmark_reports_rows(name):
    """Tiny, once, and without installing anything."""
    if name == "labeling.py" and not shutil.which("chromium") and not os.environ.get("CI"):
        pytest.skip("chromium is missing")
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MLOPS_NB")}
    done = subprocess.run([sys.executable, str(FOLDER / name), "--quick", "--smoke", "--json"], capture_output=True,
                          text=True, check=False, env=environment, cwd=FOLDER.parent)
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)
    assert len({row["name"] for row in rows}) == len(rows) > 0
    for row in rows:
        for key, kind in SHAPE.items():
            assert isinstance(row[key], kind), (key, row)
        both = row["ours"] is not None and row["peer"] is not None
        assert both or (row["ratio"] is None and row["met"] is None), row
        assert not both or (row["met"] is None) == (row["target"] is None), row
    assert any(row["peer"] is not None for row in rows), f"nothing was measured: {done.stderr}"


def test_a_plan_is_measured_and_imports_nothing_heavy():
    """It fails by itself where a plan, or a run of which nothing has changed, imports pandas or nbformat."""
    done = subprocess.run([sys.executable, str(FOLDER / "planning.py"), "--smoke", "--json"], capture_output=True,
                          text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)) == 6


@pytest.fixture
def benchmarks(monkeypatch):
    """The folder of the benchmarks as a place to import from."""
    monkeypatch.syspath_prepend(str(FOLDER))


def test_what_is_absent_is_told_and_not_invented(benchmarks, capsys):
    from measuring import Absent, compare, faster, race

    def run(name):
        if name == "gone":
            raise Absent("it is not installed")
        return 2.0

    figures = race(["gone", "there"], run, repeats=2, warm_up=True)
    assert figures == {"gone": [], "there": [2.0, 2.0]}
    assert "gone is absent: it is not installed" in capsys.readouterr().err
    row = compare("a row", figures["gone"], figures["there"], faster(3))
    assert (row.ours, row.peer, row.ratio, row.met) == (None, 2.0, None, None)


@pytest.mark.parametrize(("ours", "met"), [([1.0, 0.4, 0.5], True), ([0.6, 0.9, 0.7], False)])
def test_a_target_is_held_against_the_medians(benchmarks, ours, met):
    from measuring import compare, faster

    row = compare("a row", ours, [1.5, 9.0, 1.0], faster(3))
    assert row.met is met and row.ours_range == (min(ours), max(ours))


def test_the_page_is_filled_again_and_again(benchmarks):
    from dataclasses import asdict

    from measuring import compare
    from table import BEGIN, END, fill

    row = asdict(compare("a row", [0.01], [1.0]))
    kept = {"benchmark": "execution", "size": "full", "date": "2026-01-02", "rows": [row],
            "machine": {"processors": 2, "memory_gb": 8, "system": "Linux", "python": "3.11.7"}}
    once = fill(f"before\n\n{BEGIN}\n\nold\n\n{END}\n\nafter", [kept])
    assert once == fill(once, [kept])
    assert "old" not in once and "| a row | 10.0 ms | 1.00 s | 100.0 |" in once
    assert "2026-01-02; 2 processors, 8 GB, Linux; python 3.11.7" in once
