"""A profile says what pandas says, of any table, in any order of columns, and its page can be opened and clicked."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import MakeProject
from laboratory import ENDED, RUN_ALL, browser, open_lab, open_notebook
from projects import Project, cell, write_notebook

from mlops_nb import column_scan, table_profile
from mlops_nb.curation_decisions import apply_curation
from mlops_nb.journal import read_decisions
from mlops_nb.profile_difference import compare_profiles
from mlops_nb.profile_rows import find_rows
from mlops_nb.table_profile import TableProfile, profile_rows

__all__ = ["browser"]

LIMIT = 2_000_000  # bytes of a page
HOSTILE = ["plain", '"quoted"', "semi; DROP TABLE rows; --", "<script>window.ran = 1</script>", "select", "A", "a", "",
           " ", "v0", "c0", "rows", "열 이름", "back\\slash", "'", "a\nb", "{", "%s"]


def make_table(seed: int, rows: int = 3_000) -> pd.DataFrame:
    """A random table of all kinds of columns, with gaps, ties, infinite values, odd names and copies of rows."""
    random = np.random.default_rng(seed)
    columns: dict[str, Any] = {
        "whole": random.integers(-50, 50, rows), "wide": random.normal(0, 10.0 ** random.integers(-8, 9), rows),
        "tail": np.exp(random.normal(0, 3, rows)), "flag": pd.array(random.random(rows) < 0.3, dtype="boolean"),
        "word": random.choice(["a", "b", "<b>", "", "나"], rows), "code": random.integers(0, 2_000, rows).astype(str),
        "day": pd.Timestamp("2026-01-01") + pd.to_timedelta(random.integers(0, 400, rows), "D"),
        "zoned": pd.to_datetime(random.integers(0, 10**9, rows), unit="s", utc=True).tz_convert("Asia/Seoul"),
        "took": pd.to_timedelta(random.integers(0, 9_999, rows), "s"),
        "group": pd.Categorical(random.choice(["x", "y"], rows)),
        "nullable": pd.array(random.integers(0, 9, rows), dtype="Int64"),
        "constant": 7, "empty": np.nan}
    table = pd.DataFrame(columns)
    for name in table.columns.drop(["whole", "constant"]):
        table.loc[random.random(rows) < random.random() * 0.5, name] = pd.NA if name in ("nullable", "flag") else None
    table.loc[random.integers(0, rows, 5), "wide"] = [np.inf, -np.inf, np.inf, np.nan, 1e300]
    return pd.concat([table, table.head(seed)], ignore_index=True)


@pytest.mark.parametrize("seed", range(6))
def test_figures_are_those_of_pandas(seed, tmp_path):
    table = make_table(seed)
    profile = profile_rows(table, target="flag")
    assert profile.duplicates == table.duplicated().sum()
    for name in table.columns:
        told, values = profile.column(name), table[name]
        assert told["missing"] == values.isna().sum(), name
        there = values.dropna()
        if name in ("day", "zoned"):
            there = (there - pd.Timestamp(0, tz=there.dt.tz)).dt.total_seconds()
        elif name == "took":
            there = there.dt.total_seconds()
        elif name in ("flag",):
            there = there.map({True: "true", False: "false"})
        if "edges" in told:
            there = there.astype(float)
            usual = there[there.abs() < 1e150]
            assert told["infinite"] == len(there) - len(usual)
            there = usual
        assert told["distinct"] == there.nunique() and told["exact"]
        counts = there.value_counts()
        assert [count for _, count in told["top"]] == counts[counts > (len(counts) > 50)].head(50).tolist(), name
        assert all(counts[value] == count for value, count in told["top"])
        if "edges" not in told or there.empty:
            continue
        assert (told["low"], told["high"]) == (there.min(), there.max())
        assert np.isclose(told["mean"], there.mean()) and np.isclose(told["std"], there.std())
        shares = [0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99]
        assert np.allclose(told["quantiles"], there.quantile(shares), rtol=1e-9)
        assert sum(told["counts"]) == len(there) and len(told["counts"]) == max(len(told["edges"]) - 1, 1)
        if len(told["counts"]) > 1:
            cut = pd.cut(there, told["edges"], include_lowest=True).value_counts(sort=False)
            assert told["counts"] == cut.tolist(), name
        if told["fences"]:
            assert told["outliers"] == (~there.between(*told["fences"])).sum()
    path = tmp_path / "table.parquet"
    table.drop(columns="took").to_parquet(path, index=False)  # parquet has no durations: pandas writes whole numbers
    same = profile_rows(table.drop(columns="took"), target="flag")
    assert profile_rows(path, target="flag") == same, "a file is as good as a frame"
    assert TableProfile.from_dict(json.loads(json.dumps(profile.to_dict(), allow_nan=False))) == profile
    assert profile_rows(table, target="flag") == profile, "the same table, the same profile"


def test_a_sample_has_the_same_rows_in_every_column():
    """A long table is read a few columns at a time; what is sampled of them still stands in the same rows."""
    number = np.random.default_rng(0).permutation(300_000)
    table = pd.DataFrame({f"c{place}": number if place in (0, 11) else number % (place + 2) for place in range(12)})
    profile = profile_rows(table, target="c0")
    pair = next(pair for pair in profile.pairs if {pair["left"], pair["right"]} == {"c0", "c11"})
    assert (pair["value"], pair["spearman"]) == (1.0, 1.0) and profile == profile_rows(table, target="c0")
    assert next(one["power"] for one in profile.powers if one["column"] == "c11") > 0.99
    assert next(one["power"] for one in profile.powers if one["column"] == "c5") < 0.05


def test_a_large_table_is_estimated_and_says_so(monkeypatch: pytest.MonkeyPatch):
    """Above the limit quantiles and many values are estimated; the most frequent values are still counted."""
    random = np.random.default_rng(0)
    table = pd.DataFrame({"number": random.normal(size=60_000), "key": np.arange(60_000),
                          "word": np.where(random.random(60_000) < 0.2, "often", random.integers(0, 10**6, 60_000)),
                          "long": np.where(random.random(60_000) < 0.3, "x" * 500, random.integers(0, 10**6, 60_000))})
    exact = profile_rows(table)
    monkeypatch.setattr(column_scan, "EXACT", 1_000)
    monkeypatch.setattr(column_scan, "MANY", 1_000)
    monkeypatch.setattr(table_profile, "EXACT", 1_000)
    told = profile_rows(table)
    assert "estimated" in told.notes[-1] and "≈" in told._repr_html_()
    for name in table.columns:
        true, near = exact.column(name), told.column(name)
        assert not near["exact"] and near["distinct"] == pytest.approx(true["distinct"], rel=0.1)
        assert near["distinct"] <= len(table)
        assert near["missing"] == true["missing"] and (near["low"], near["high"]) == (true["low"], true["high"])
        assert near["top"][:1] == true["top"][:1], "the most frequent value is counted"
    assert np.allclose(told.column("number")["quantiles"], exact.column("number")["quantiles"], atol=0.05)
    assert len(find_rows(table, told, "long", "v0", cap=10**6)[0]) == told.column("long")["top"][0][1]


def test_days_without_rows():
    days = pd.Series(pd.date_range("2026-01-01", "2026-12-31")).drop(index=[10, 11, 12, 200]).sample(frac=1)
    told = profile_rows(pd.DataFrame({"day": days})).column("day")["gaps"]
    assert told["missing"] == 4 and [gap[0] for gap in told["largest"]] == [3, 1]
    assert pd.to_datetime(told["largest"][0][1:], unit="s").strftime("%m-%d").tolist() == ["01-10", "01-14"]


@pytest.mark.parametrize("table", [
    pd.DataFrame({"a": []}), pd.DataFrame({"a": [1]}), pd.DataFrame({"a": [None, None]}), pd.DataFrame({"a": [np.nan]}),
    pd.DataFrame({"a": [np.inf, -np.inf]}), pd.DataFrame({"a": [1e308, -1e308, 5e-324, 0.0, -0.0]}),
    pd.DataFrame({"a": [2**63 - 1, -2**63]}), pd.DataFrame({"a": [2**64 - 1, 0]}, dtype="uint64"),
    pd.DataFrame({"a": np.array(["0001-01-01", "9999-12-31"], dtype="datetime64[s]")}),
    pd.DataFrame({"a": [[1], {"b": 2}, "text", 3, None, 4.5, b"raw"]}), pd.DataFrame({"a": ["x", None] * 4}),
    pd.DataFrame({"a": [1e16, 1e16 + 2]}), pd.DataFrame({0: [1, 2], 1: ["a", "b"]}),
    pd.DataFrame({"a": [True, False, None]}, dtype="boolean"), pd.DataFrame({"a": pd.Categorical([1, 2, None])}),
    pd.DataFrame({"a": [1 + 2j, None]}), pd.DataFrame({"a": pd.arrays.SparseArray([0, 0, 1])}),
], ids=range(17))
def test_odd_tables_have_a_profile_and_a_page(table):
    profile = profile_rows(table, target=str(table.columns[0]))
    assert profile.rows == len(table) and len(profile.columns) == len(table.columns)
    json.dumps(profile.to_dict(), allow_nan=False)
    assert "mlops-profile" in profile._repr_html_() and len(profile.table()) == len(table.columns)
    assert "mlops-profile" in compare_profiles(profile, profile)._repr_html_()
    for told in profile.columns:
        for bar, expected in [("m", told["missing"]), *([("x", told["infinite"])] if told["infinite"] else [])]:
            assert len(find_rows(table, profile, told["column"], bar)[0]) == expected


def test_names_and_values_are_text(tmp_path):
    """Whatever a column is called: it is counted, shown as it is, found again, and does nothing."""
    random = np.random.default_rng(0)
    table = pd.DataFrame({name: random.choice(["<img src=x onerror=alert(1)>", "'; DROP TABLE rows", '"', "늦음"], 300)
                          for name in HOSTILE})
    profile = profile_rows(table, target="<script>window.ran = 1</script>")
    assert [told["column"] for told in profile.columns] == HOSTILE
    for page in (profile._repr_html_(), compare_profiles(profile, profile)._repr_html_()):
        assert "<script" not in page and "<img" not in page and "&lt;script&gt;" in page and "http" not in page
    for name in HOSTILE:
        found, _ = find_rows(table, profile, name, "v0", cap=1000)
        assert len(found) == profile.column(name)["top"][0][1]
        assert (found[name] == profile.column(name)["top"][0][0]).all()


def test_five_thousand_columns_and_long_texts_stay_below_two_megabytes(tmp_path):
    random = np.random.default_rng(0)
    wide = pd.DataFrame(random.normal(size=(200, 5_000)), columns=[f"{'<&>' * 40} {n}" for n in range(5_000)])
    profile = profile_rows(wide, target=wide.columns[0])
    assert len(profile.columns) == 5_000 and len(profile._repr_html_().encode()) < LIMIT
    assert len(compare_profiles(profile, profile)._repr_html_().encode()) < LIMIT
    texts = pd.DataFrame({f"text {n}": ["<" * 1_000_000 + str(row) for row in range(8)] + ["🦆" * 250_000] * 2
                          for n in range(5)})
    told = profile_rows(texts)
    assert told.columns[0]["distinct"] == 9 and len(told._repr_html_().encode()) < LIMIT
    assert len(json.dumps(told.to_dict())) < 100_000
    found, _ = find_rows(texts, told, "text 0", "v0")
    assert len(found) == 2 and found["text 0"].str.len().max() <= 120


def test_what_moved_is_found_and_named():
    random = np.random.default_rng(0)
    before = pd.DataFrame({"same": random.normal(size=5_000), "shift": random.normal(size=5_000), "unit": range(5_000),
                           "kind": random.choice(["a", "b"], 5_000), "gone": 1, "gaps": random.normal(size=5_000)})
    after = before.assign(same=random.normal(size=5_000), shift=before["shift"] + 1, unit=before["unit"].astype(str),
                          kind=before["kind"].replace("b", "c"), gaps=before["gaps"].where(random.random(5_000) < 0.6),
                          new=2).drop(columns="gone")
    old = profile_rows(before)
    for like in (None, old):
        table = compare_profiles(old, profile_rows(after, like=like)).table.set_index("column")
        status = {"same": "quiet", "shift": "moved", "unit": "other type", "kind": "moved", "gone": "lost column",
                  "new": "new column", "gaps": "moved"}
        assert table["status"].to_dict() == status
        assert table.loc["kind", "new_values"] == ["c"] and table.loc["kind", "lost_values"] == ["b"]
    edges = [-np.inf, *old.column("shift")["edges"][1:-1], np.inf]
    shares = [np.maximum(pd.cut(frame["shift"], edges).value_counts(sort=False, normalize=True).to_numpy(), 1e-4)
              for frame in (before, after)]
    shares = [np.append(share, 1e-4) for share in shares]  # none is missing
    psi = ((shares[1] - shares[0]) * np.log(shares[1] / shares[0])).sum()
    assert abs(table.loc["shift", "psi"] - psi) < 1e-3


def test_a_constant_that_spreads_has_moved():
    """Whichever of the two has the bars."""
    constant, spread = pd.DataFrame({"a": [7] * 1_000}), pd.DataFrame({"a": np.arange(1_000)})
    empty = constant * np.nan
    for before, after in [(constant, spread), (spread, constant), (empty, spread), (spread, empty)]:
        old = profile_rows(before)
        for like in (None, old):
            assert compare_profiles(old, profile_rows(after, like=like)).table["status"][0] == "moved"


def test_a_curated_type_is_kept():
    """A decision changes values and not types, where it can."""
    table = make_table(1)
    for name, value in [("whole", 3), ("word", "z"), ("group", "z"), ("day", "2026-05-05"), ("nullable", 4),
                        ("flag", True), ("zoned", "2026-05-05T00:00:00+09:00"), ("tail", 1.5)]:
        decision = {"decision": "fix", "column": name, "where": "whole > 40", "value": value}
        made, report = apply_curation(table, pd.DataFrame([{"item": name, "value": decision}]))
        hit = table["whole"] > 40
        assert report["named"][0] == hit.sum()
        assert made.loc[~hit, name].astype(object).equals(table.loc[~hit, name].astype(object))
        assert made.loc[hit, name].nunique() == 1 and made[name].notna()[hit].all()
        assert made[name].dtype == table[name].dtype or name == "group", name


# In JupyterLab

CELL = """\
import pandas as pd, numpy as np
from mlops_nb.widgets import ProfileView
random = np.random.default_rng(0)
table = pd.DataFrame({"minutes": random.normal(20, 8, 2000).round(1), "late": random.random(2000) < 0.2,
                      "<script>window.ran = 1</script>": random.choice(["<b>지연</b>", "정시", None], 2000),
                      "day": pd.date_range("2026-01-01", periods=2000, freq="3h"),
                      "seats": random.choice([2, 8, 180], 2000)})
table["after"] = table["late"].map({True: 1.0, False: 0.0}) + random.normal(0, .1, 2000)
table.loc[3, "minutes"] = 4000
ProfileView(table, target="late", title="departures")"""
DESK = """\
from mlops_nb.curation_desk import CurationDesk
desk = CurationDesk("departures", table, person="Kim")
print(desk.drop("a typing error", "minutes > 1000", "nobody waits three days"))
desk.apply()[1]"""


@pytest.fixture(scope="module")
def lab(make_shared_project: MakeProject, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Project, str]]:
    project = make_shared_project("profile room")
    with open_lab(project, tmp_path_factory.mktemp("lab")) as address:
        yield project, address


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_bar_shows_its_rows(lab: tuple[Project, str], browser: Any, tmp_path: Path, scheme: str):
    """Click a bar, then go on by keys alone; what a value says is shown and never run; a decision is in the journal."""
    project, address = lab
    write_notebook(project.root / f"nbs/{scheme}.ipynb", [cell("code", CELL), cell("code", DESK)])
    context = browser.new_context(viewport={"width": 1180, "height": 1400})
    page = open_notebook(context, address, f"nbs/{scheme}.ipynb")
    if scheme == "dark":
        page.evaluate("() => window.jupyterapp.commands.execute('apputils:change-theme', {theme: 'JupyterLab Dark'})")
    page.evaluate(RUN_ALL)
    page.wait_for_function(ENDED)
    page.wait_for_selector(".mlops-profile .column")
    assert page.locator(".mlops-profile .findings li.bad").first.inner_text().startswith("after: it alone tells late")
    page.locator('[data-c="0"] [data-b="h19"]').click()
    panel = page.wait_for_selector(".mlops-profile .rows[data-rows]")
    assert panel.get_attribute("data-rows") == str(page.locator(".mlops-profile .rows tr").count() - 1)
    assert "4000" in panel.inner_text() and '"minutes" > ' in panel.inner_text()
    page.screenshot(path=tmp_path / f"{scheme}.png")
    cells = "() => window.jupyterapp.shell.currentWidget.content.model.cells.length"
    before = page.evaluate(cells)
    page.keyboard.press("Escape")
    page.wait_for_selector(".mlops-profile .rows", state="detached")
    for key in ["Home", "ArrowRight", "b", "d", "d", "Enter"]:
        page.keyboard.press(key)
    page.wait_for_selector(".mlops-profile .rows[data-rows]")
    chosen = page.evaluate("() => document.activeElement.dataset.b")
    assert chosen == page.locator('[data-c="0"] [data-b]').nth(1).get_attribute("data-b")
    page.locator('[data-c="2"] [data-b="v0"]').click()
    page.wait_for_selector(".mlops-profile .rows[data-rows='50']:has-text('<b>지연</b>'), .rows:has-text('정시')")
    page.screenshot(path=tmp_path / f"{scheme} below.png")
    assert page.evaluate("() => window.ran") is None and page.evaluate(cells) == before
    context.close()
    kept = read_decisions("departures", project.state)
    assert kept["item"].tolist() == ["a typing error"] and kept["person"][0] == "Kim"


def test_a_profile_does_not_import_what_it_does_not_need():
    """It opens quickly and holds little: no plots, no learning, no browser's parts."""
    code = ("import sys, mlops_nb.table_profile as _; "
            "print([m for m in ('matplotlib', 'sklearn', 'scipy', 'anywidget') if m in sys.modules])")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
