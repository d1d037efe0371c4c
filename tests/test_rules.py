"""Checks on tables that are odd, wide, large or damaged: counted rightly against pandas, or refused by name."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mlops_nb.checks import (
    require_condition,
    require_measure,
    require_pattern,
    require_present,
    require_range,
    require_unique,
    require_values,
    run_checks,
)
from mlops_nb.errors import UsageError
from mlops_nb.quarantine import split_file, split_rows
from mlops_nb.rules import require_length, require_reference, require_similar, require_type


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    random = np.random.default_rng(0)
    rows = 200_000
    frame = pd.DataFrame({
        "id": np.arange(rows), "amount": random.normal(50, 20, rows), "kind": random.choice([*"xyzw"], rows),
        "code": random.choice(["A1234", "B99", "c0001"], rows),
        "city": random.choice(["서울", "부산", "Berlin"], rows)})
    frame.loc[random.choice(rows, 500, replace=False), "amount"] = np.nan
    frame.loc[[3, 70_000, 199_999], "id"] = 3
    return frame


CHECKS = [require_present("amount"), require_range("amount", 0, 100), require_values("kind", ["x", "y", "z"]),
          require_pattern("code", "[A-Z][0-9]{4}"), require_unique(["id"]), require_length("city", 2, 3),
          require_condition("small x", "kind <> 'x' OR amount < 80", "amount"),
          require_measure("mean", "avg(amount)", 49, 51), require_reference("city", ["서울", "Berlin"])]


def count_by_hand(table: pd.DataFrame) -> list[int]:
    amount = table["amount"]
    return [amount.isna().sum(), (amount.notna() & ~amount.between(0, 100)).sum(), (table["kind"] == "w").sum(),
            (~table["code"].str.fullmatch("[A-Z][0-9]{4}")).sum(), table["id"].duplicated(keep=False).sum(),
            (~table["city"].str.len().between(2, 3)).sum(), ((table["kind"] == "x") & (amount >= 80)).sum(), 0,
            (table["city"] == "부산").sum()]


def test_every_count_is_what_pandas_counts(table, tmp_path):
    report = run_checks(table, CHECKS, key="id", cap=5)
    assert report.results["failing"].tolist() == count_by_hand(table)
    table.to_parquet(tmp_path / "table.parquet", row_group_size=10_000)
    from_file = run_checks(tmp_path / "table.parquet", CHECKS, key="id", cap=5, memory_limit="120MB")
    assert from_file.results.equals(report.results)
    for check, rows in report.failing_rows.groupby("check"):
        assert len(rows) <= 5, check
    missing = report.failing_rows.query("check == 'amount present'")["key"].astype(int)
    assert table.set_index("id").loc[missing, "amount"].isna().all()


def test_several_files_are_one_table(table, tmp_path):
    for number, part in enumerate(np.array_split(np.arange(len(table)), 3)):
        table.iloc[part].to_parquet(tmp_path / f"part-{number}.parquet")
    report = run_checks(tmp_path / "part-*.parquet", CHECKS)
    assert report.results["failing"].tolist() == count_by_hand(table), "copies across files are found too"


def test_rows_put_aside_and_rows_that_go_on_are_all_rows(table, tmp_path):
    checks = [require_values("kind", ["x", "y", "z"], severity="quarantine"),
              require_unique(["id"], severity="quarantine"), require_present("amount", severity="fail")]
    good, aside = split_rows(table, checks)
    assert len(good) + len(aside) == len(table) and set(good.index).isdisjoint(aside.index)
    assert (aside["kind"] == "w").sum() == (table["kind"] == "w").sum() and not (good["kind"] == "w").any()
    assert aside.loc[[3, 70_000, 199_999], "reasons"].str.contains("id unique").all()
    table.to_parquet(tmp_path / "table.parquet")
    counts = split_file(tmp_path / "table.parquet", checks, tmp_path / "good.parquet", tmp_path / "aside.parquet")
    assert counts == (len(good), len(aside))
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "good.parquet"), good.reset_index(drop=True))


def test_a_distribution_that_moved_is_seen_and_one_that_did_not_is_not(table):
    drawn = table["amount"].sample(5000, random_state=1)
    same = [require_similar("amount", drawn), require_similar("city", table["city"])]
    assert run_checks(table, same).results["passed"].all()
    moved = table.assign(amount=table["amount"] * 1.5, city=table["city"].replace("서울", "Busan"))
    assert not run_checks(moved, same).results["passed"].any()


def test_odd_tables_are_judged_or_refused_by_name(tmp_path: Path):
    two = pd.DataFrame([[1, 2]], columns=["a", "a"])
    with pytest.raises(UsageError, match="two columns are named `a`"):
        run_checks(two, [require_present("a")])
    mixed = pd.DataFrame({"a": [1, "x", None, 2.5]}, dtype=object)
    assert run_checks(mixed, [require_present("a"), require_type("a", "DOUBLE")]).results["failing"].tolist() == [1, 1]
    with pytest.raises(UsageError, match="check `a between 0 and 5`"):
        run_checks(mixed, [require_range("a", 0, 5)])
    wide = pd.DataFrame(np.zeros((3, 5000)), columns=[f"c{number}" for number in range(5000)])
    assert run_checks(wide, [require_present(f"c{number}") for number in range(300)]).passed
    odd = 'x"; DROP TABLE rows; --'
    named = pd.DataFrame({odd: [1], "": [2]})
    assert run_checks(named, [require_present(odd), require_unique([odd])]).passed
    with pytest.raises(UsageError, match="zero-length"):
        run_checks(named, [require_present("")])
    endless = pd.DataFrame({"a": [1.0, np.nan, np.inf]})
    assert run_checks(endless, [require_present("a"), require_range("a", 0, 10)]).results["failing"].tolist() == [1, 1]
    assert not run_checks(endless.head(0), [require_present("a")]).passed, "nothing passes on no rows"
    (tmp_path / "cut.parquet").write_bytes(b"PAR1 and no more")
    for path in (tmp_path / "cut.parquet", tmp_path / "none.parquet"):
        with pytest.raises(UsageError, match="cannot be read"):
            run_checks(path, [require_present("a")])
