"""Verdicts as a person decides on them: a real JupyterLab and its keys; and the same decisions replayed without."""

import json
import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from conftest import MakeProject
from laboratory import Room, browser, open_app, open_lab
from projects import Project, make_flights

from mlops_nb import journal, planning
from mlops_nb.checks import (
    Check,
    gate,
    require_condition,
    require_measure,
    require_pattern,
    require_present,
    require_range,
    require_unique,
    require_values,
    run_checks,
)
from mlops_nb.errors import GateRefused, NeedsPerson, UsageError
from mlops_nb.journal import read_decisions, record_decision
from mlops_nb.rule_waivers import fix_rows, mark_check, settle_rules, settle_verdicts
from mlops_nb.rules import require_function, require_length, require_type
from mlops_nb.validation_desk import ValidationDesk

__all__ = ["browser"]

TABLE = """\
import pandas as pd
from mlops_nb.checks import require_measure, require_present, require_range, require_unique, require_values
flights = pd.DataFrame({
    "flight": [f"UA{n}" for n in range(398)] + ["<script>window.ran = 1</script>", "UA1"],
    "origin": ["EWR", "LGA"] * 199 + ["XXX", "JFK"], "dep": [517.0, 1330.0] * 198 + [2460.0, None, 533.0, 2400.0],
    "seats": [180] * 397 + [2, 190, 200]})
checks = [require_range("dep", 1, 2400), require_present("dep", limit=0.001), require_unique(["flight"]),
          require_values("origin", ["EWR", "LGA", "JFK"], severity="warn"), require_range("seats", 10, 400, limit=0.05),
          require_measure("mean seats", "avg(seats)", 190, 400)]
"""
WIDGET = """\
import os
from pathlib import Path
from mlops_nb.widgets import DataValidationWidget
Path(os.environ["MLOPS_NB_PROJECT"], "kernel").write_text(str(os.getpid()))
widget = DataValidationWidget(flights, checks, key="flight", name="{queue}", person="Kim")
widget"""

BOARD = ".mlops-validation"
STORED = f'{BOARD}[data-pending="0"]'


def make_table() -> tuple[pd.DataFrame, list[Check]]:
    """The same table and checks here as in the notebook."""
    made: dict[str, Any] = {}
    exec(TABLE, made)
    return made["flights"], made["checks"]


def in_days(days: int) -> str:
    """An ISO date so many days from now, by UTC."""
    return str(datetime.now(UTC).date() + timedelta(days=days))


class ValidationRoom(Room):
    """A project in JupyterLab, and somebody who decides on verdicts there."""

    board, ready, height = BOARD, f"{BOARD} .mlops-rule", 1000

    def sit_down(self, name: str, width: int = 1100) -> Any:
        """Open a notebook with the widget on a queue of that name, run it, and click on it; gives the page."""
        page = self.open(name, TABLE, WIDGET.format(queue=name), width=width)
        self.take(page)
        return page

    def go(self, page: Any, check: str) -> None:
        """Move to a rule by keys, and wait for its rows."""
        for _ in range(20):
            if page.get_attribute(BOARD, "data-item") == check:
                break
            page.keyboard.press("j")
        else:
            for _ in range(20):
                if page.get_attribute(BOARD, "data-item") == check:
                    break
                page.keyboard.press("k")
        assert page.get_attribute(BOARD, "data-item") == check

    def settle(self, page: Any, check: str, status: str) -> None:
        """Wait until a rule has a status, and everything is stored."""
        page.wait_for_selector(f'.mlops-rule[data-check="{check}"][data-status="{status}"]:not([data-waiting])')
        page.wait_for_selector(STORED)

    def decided(self, queue: str) -> pd.DataFrame:
        """What counts in the journal."""
        return read_decisions(queue, self.project.state)


@pytest.fixture(scope="module")
def room(
    make_shared_project: MakeProject, browser: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ValidationRoom]:
    project = make_shared_project("검증 gate")
    (project.root / "nbs/stages").mkdir(parents=True)
    with open_lab(project, tmp_path_factory.mktemp("lab")) as address:
        room = ValidationRoom(project, address, browser)
        yield room
        for context in room.contexts:
            context.close()


def test_each_decision_by_keys_and_the_same_without_them(room: ValidationRoom):
    """Waive, mend, put aside, change: stored with name and time; a run without a browser comes to the same verdicts."""
    page = room.sit_down("keys")
    before = page.evaluate("() => window.jupyterapp.shell.currentWidget.content.model.cells.length")
    room.go(page, "mean seats")
    page.keyboard.press("w")
    page.keyboard.press("Enter")
    page.wait_for_selector(f"{BOARD} .mlops-red:has-text('Say why')")
    assert room.decided("keys").empty, "nothing is waived without a reason"
    page.keyboard.type("b and d are small planes, ask Lee")
    page.keyboard.press("Enter")
    room.settle(page, "mean seats", "waived")
    room.go(page, "dep between 1 and 2400")
    page.wait_for_selector(f"{BOARD} td.mlops-wrong:has-text('2460')")
    page.keyboard.press("f")
    page.keyboard.type("2360")
    page.locator(f"{BOARD} [name=reason]").fill("read from the paper log")
    page.keyboard.press("Enter")
    room.settle(page, "dep between 1 and 2400", "passed")
    room.go(page, "flight unique")
    page.wait_for_selector(f"{BOARD} .mlops-failing tr:nth-child(3)")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("x")
    page.keyboard.type("one of the two is a copy")
    page.keyboard.press("Enter")
    room.settle(page, "flight unique", "passed")
    room.go(page, "dep present")
    page.keyboard.press("c")
    page.keyboard.type("2.5")
    page.locator(f"{BOARD} [name=reason]").fill("cancelled flights have none")
    page.keyboard.press("Enter")
    room.settle(page, "dep present", "passed")
    room.go(page, "origin known")
    assert page.locator(f"{BOARD} .mlops-failing td").first.inner_text() == "<script>window.ran = 1</script>"
    page.keyboard.press("q")
    page.keyboard.type("no such airport")
    page.keyboard.press("Enter")
    room.settle(page, "origin known", "put aside")
    page.wait_for_selector(f"{BOARD} .mlops-state:has-text('the gate is open')")
    assert page.evaluate("() => window.ran") is None
    assert page.evaluate("() => window.jupyterapp.shell.currentWidget.content.model.cells.length") == before
    said = room.decided("keys")
    assert [value["decision"] for value in said["value"]] == ["waive", "fix", "quarantine", "change", "quarantine"]
    assert set(said["person"]) == {"Kim"} and said["reason"].str.len().min() > 5
    assert pd.to_datetime(said["recorded_at"]).notna().all() and said["value"][0]["until"] == in_days(30)

    flights, checks = make_table()
    desk = ValidationDesk(flights, checks, key="flight", name="keys", state=room.project.state)
    gate(desk.report.results, "flights")
    shown = {
        one.get_attribute("data-check"): one.get_attribute("data-status")
        for one in page.query_selector_all(".mlops-rule")
    }
    assert shown["mean seats"] == "waived" and shown["origin known"] == "put aside"
    late = settle_verdicts(run_checks(flights, settle_rules(checks, said)).results, said, on=in_days(31))
    row = late.set_index("check").loc["mean seats"]
    assert not row["passed"] and f"the waiver of Kim ended on {in_days(30)}" in row["detail"]
    with pytest.raises(GateRefused, match="the waiver of Kim ended on"):
        gate(late, "flights")
    page.keyboard.press("u")
    page.wait_for_selector('.mlops-rule[data-check="origin known"][data-status="warning"]:not([data-waiting])')
    assert len(room.decided("keys")) == 4


def test_a_kernel_killed_in_the_middle_loses_no_decision(room: ValidationRoom):
    page = room.sit_down("killed")
    room.go(page, "mean seats")
    os.kill(int((room.project.root / "kernel").read_text()), signal.SIGKILL)
    page.keyboard.press("w")
    page.keyboard.type("told to by operations")
    page.keyboard.press("Enter")
    banner = page.wait_for_selector(f"{BOARD} .mlops-red", timeout=30_000).inner_text()
    assert "1 decision is not stored" in banner and room.decided("killed").empty
    page.click(".jp-Dialog button.jp-mod-accept")  # that the kernel has died
    room.run(page)
    room.settle(page, "mean seats", "waived")
    room.go(page, "seats between 10 and 400")
    page.keyboard.press("w")
    page.wait_for_selector(f"{BOARD} .mlops-banner:has-text('nothing to waive')")
    room.go(page, "flight unique")
    page.keyboard.press("w")
    page.locator(f"{BOARD} [name=most]").fill("0.1")
    page.locator(f"{BOARD} [name=reason]").fill("one is a copy")
    page.keyboard.press("Enter")
    page.wait_for_selector(f"{BOARD} .mlops-red:has-text('0.5 % of the rows now')")
    page.locator(f"{BOARD} [name=most]").fill("1 %")
    page.keyboard.press("Enter")
    room.settle(page, "flight unique", "waived")
    decided = room.decided("killed")
    assert list(decided["item"]) == ["mean seats", "flight unique"]
    assert "most" not in decided["value"][0] and decided["value"][1]["most"] == 0.01


def test_what_somebody_else_did_is_told(room: ValidationRoom):
    """The rule was changed by another person while one looked at it: refused, and the new rule is on the screen."""
    page = room.sit_down("meanwhile")
    room.go(page, "dep present")
    value = {"decision": "change", "rule": mark_check(make_table()[1][1]), "limit": 0.002}
    record_decision("meanwhile", "dep present", value, "stricter", "Lee", room.project.state)
    page.keyboard.press("w")
    page.keyboard.type("it is fine")
    page.keyboard.press("Enter")
    page.wait_for_selector(f"{BOARD} .mlops-red:has-text('was changed by somebody since')")
    page.wait_for_selector(f"{BOARD} .mlops-decision:has-text('Lee')")
    assert len(room.decided("meanwhile")) == 1


def test_what_one_writes_stays_while_verdicts_come_in(room: ValidationRoom):
    """Another decision is stored and judged while one writes a reason: no letter is lost, none is a command."""
    page = room.sit_down("writing")
    room.go(page, "flight unique")
    page.keyboard.press("q")
    page.keyboard.type("copies")
    page.keyboard.press("Enter")
    page.keyboard.press("k")
    page.keyboard.press("w")
    page.keyboard.type("waiting for")
    room.settle(page, "flight unique", "put aside")
    page.wait_for_selector(f"{BOARD} .mlops-failing td")
    page.keyboard.type(" the bureau")
    page.keyboard.press("Enter")
    room.settle(page, "dep present", "waived")
    assert list(room.decided("writing")["reason"]) == ["copies", "waiting for the bureau"]


GATED = """
from mlops_nb.artifacts import load, save
from mlops_nb.checks import gate, require_present, run_checks
from mlops_nb.rule_waivers import settle_rules, settle_verdicts
import pandas as pd
said = load(decisions)
rows = pd.DataFrame({"dep": [1.0, None]})
results = settle_verdicts(run_checks(rows, settle_rules([require_present("dep")], said)).results, said)
save(report, results)
gate(results, "flights")
"""


def test_a_waiver_opens_the_gate_until_it_ends(project: Project, monkeypatch: pytest.MonkeyPatch):
    """Refused; waived, and done; reused while it holds; refused again when it is over, by name and date."""
    contract = 'decisions: Input = "journal.gated"\nreport: Output = "report"'
    project.stage("01_gated", contract, GATED, imports="from mlops_nb.contract import Input, Output")
    assert "dep present" in project.run(code=4, warm=True)
    value = {"decision": "waive", "rule": mark_check(require_present("dep")), "until": in_days(0)}
    record_decision("gated", "dep present", value, "cancelled", "Kim", project.state)
    project.run(warm=True)
    project.run(warm=True)
    assert project.statuses() == {"gated": "reused"}
    for module in (planning, journal):
        monkeypatch.setattr(module, "utc_now", lambda: f"{in_days(1)}T12:00:00.000000Z")
    assert f"the waiver of Kim ended on {in_days(0)}" in project.run(code=4, warm=True)


EXPRESSIBLE = [
    require_present("dep"), require_range("dep", 0, 2400, severity="warn"), require_range("seats", -1.5, 400),
    require_values("origin", ["EWR", "O'Hare, IL"]), require_values("seats", [1, 2, 400]),
    require_pattern("tail", "N[0-9]{2}|X"), require_length("tail", 1, 4), require_type("seats", "BIGINT"),
    require_unique(["dep"]), require_unique(["origin", "tail"]),
    replace(require_range("dep", 1, 2), name="by its name"), require_condition("early", '"dep" < 2000', "dep"),
]
OTHER = [
    require_present("tail", limit=0.1), require_present("origin", severity="warn"), require_type("tail", "DATE"),
    require_values("tail", ["x"], severity="quarantine"), require_measure("mean", "avg(dep)", 0, 1),
    require_condition("by hand", "dep < seats"), require_function("mine", lambda dep: dep > 0, ["dep"]),
    replace(require_range("seats", 0, 5), where="origin = 'EWR'"), require_unique(["tail", "seats"]),
]


def need_pandera() -> Any:
    """pandera; a machine without it may skip, CI may not."""
    if find_spec("pandera") is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("pandera is missing: pip install 'mlops_nb[pandera]'")
    import pandera.pandas

    return pandera.pandas


def test_rules_go_to_pandera_and_come_back():
    """Every kind that can be expressed comes back as it was; all others are named; both sides find the same rows."""
    pa = need_pandera()
    from mlops_nb.pandera_rules import from_pandera, to_pandera

    schema, left = to_pandera([*EXPRESSIBLE, *OTHER])
    assert list(left["check"]) == [check.name for check in OTHER] and left["why"].str.len().min() > 5
    again, lacking = from_pandera(schema)
    assert sorted(again, key=str) == sorted(EXPRESSIBLE, key=str) and lacking.empty
    frame = pd.DataFrame({"dep": [517, 2460, None, 1], "origin": ["EWR", "LGA", "O'Hare, IL", None],
                          "tail": ["N14", "N15x", "X", None], "seats": [1, 2, 500, None]})
    for check in EXPRESSIBLE[:7]:
        alone, _ = to_pandera([replace(check, severity="fail")])
        ours = run_checks(frame, [check]).failing_rows["key"].astype(int).tolist()
        try:
            alone.validate(frame, lazy=True)
            theirs = []
        except pa.errors.SchemaErrors as error:
            theirs = sorted(set(error.failure_cases["index"].astype(int)))
        assert theirs == ours, check.name


def test_a_schema_of_pandera_is_read_and_the_rest_named():
    pa = need_pandera()
    from mlops_nb.pandera_rules import from_pandera

    columns = {
        "a": pa.Column(int, [pa.Check.gt(3), pa.Check.notin([7]), pa.Check(lambda s: s > 0)], unique=True),
        "b": pa.Column(str, [pa.Check.str_startswith("x"), pa.Check.str_matches("x(?=y)"),
                             pa.Check.in_range(1, 2, include_min=False)], nullable=True, required=False),
        "c.*": pa.Column(float, regex=True)}
    schema = pa.DataFrameSchema(columns, strict=True, checks=pa.Check(lambda frame: frame["a"] > 0))
    checks, left = from_pandera(schema)
    assert [check.condition for check in checks] == [
        '"a" IS NOT NULL', '"a" > 3', '"a" NOT IN (7)', "", '"b" > 1 AND "b" <= 2']
    assert len(left) == 9 and left["why"].str.len().min() > 5
    with pytest.raises(UsageError, match="no DataFrameSchema"):
        from_pandera(columns)


def tell(number: int, item: str, reason: str = "asked operations", **value: Any) -> dict[str, Any]:
    return {"id": f"e{number}", "item": item, "action": "label", "value": value, "reason": reason}


def test_bad_decisions_are_refused_one_by_one(tmp_path: Path):
    """An unknown rule, no reason, an end in the past, an old mark, nonsense; and the good one among them is kept."""
    flights, checks = make_table()
    desk = ValidationDesk(flights, checks, key="flight", person="Kim", state=tmp_path)
    mark, later = mark_check(checks[1]), in_days(9)
    events = [
        tell(0, "dep presnt", decision="waive", rule=mark, until=later),
        tell(1, "dep present", " ", decision="waive", rule=mark, until=later),
        tell(2, "dep present", decision="waive", rule=mark, until=in_days(-1)),
        tell(3, "dep present", decision="waive", rule=mark, until="next week"),
        tell(4, "dep present", decision="waive", rule="0123456789ab", until=later),
        tell(5, "dep present", decision="forget", rule=mark),
        tell(6, "mean seats", decision="quarantine", rule=mark_check(checks[5])),
        tell(7, "flight unique", decision="change", rule=mark_check(checks[2]), condition="true"),
        tell(8, "dep present · UA1", decision="fix", check="dep present", key="UA1", column="dep", was="1", value="2"),
        tell(9, "dep present", decision="waive", rule=mark, until=later),
    ]
    stored, refused = desk.record(events)
    assert stored == ["e9"] and list(refused) == [f"e{number}" for number in range(9)]
    expected = ["did you mean `dep present`", "no reason", "before it was made", "2026-12-31", "was changed by",
                "waive, change", "about the whole table", "about a key", "is not `1`"]
    for words, why in zip(expected, refused.values(), strict=True):
        assert words in why, (words, why)
    assert len(desk.decisions()) == 1 and desk.report.results.set_index("check").loc["dep present", "passed"]


def test_two_persons_who_contradict_each_other_are_asked(tmp_path: Path):
    """Both saw the same rule and want different things: both are named, and one may take theirs back."""
    flights, checks = make_table()
    mark = mark_check(checks[1])
    for person, limit in [("Kim", 0.5), ("박", 0.0)]:
        value = {"decision": "change", "rule": mark, "limit": limit}
        record_decision("q", "dep present", value, "so", person, tmp_path)
    desk = ValidationDesk(flights, checks, key="flight", name="q", person="박", state=tmp_path)
    with pytest.raises(NeedsPerson, match=r"Kim \(.*\) and 박 \(.*\) want different things"):
        desk.judge()
    mine = desk.decisions()["id"].iloc[1]
    assert desk.record([{"id": "u", "item": "dep present", "action": "undo", "about": mine}]) == (["u"], {})
    assert desk.rules()[1].limit == 0.5
    fix = {"decision": "fix", "check": "x", "key": "UA1", "column": "seats", "was": "180", "value": "1"}
    for person, value in [("Kim", "170"), ("박", "190")]:
        record_decision("r", "x · UA1", fix | {"value": value}, "so", person, tmp_path)
    with pytest.raises(NeedsPerson, match="Kim says 170, 박 says 190"):
        fix_rows(flights, read_decisions("r", tmp_path), "flight")


def test_a_waiver_does_not_hold_for_a_rule_that_has_changed(tmp_path: Path):
    flights, checks = make_table()
    value = {"decision": "waive", "rule": mark_check(checks[1]), "until": in_days(9)}
    record_decision("q", "dep present", value, "cancelled", "Kim", tmp_path)
    said = read_decisions("q", tmp_path)
    assert settle_verdicts(run_checks(flights, checks).results, said)["passed"].tolist()[1]
    stricter = [checks[0], replace(checks[1], limit=0.0001)]
    settled = settle_verdicts(run_checks(flights, stricter).results, said)
    assert not settled["passed"][1] and "was for the rule as it was before" in settled["detail"][1]


def test_the_flights_project_decides_in_its_notebook(make_project: MakeProject, browser: Any, tmp_path: Path):
    """The notebook that ships: a warning is waived by a key, and the stage's report says by whom."""
    project = make_flights(make_project)
    project.run("data_validation", "--sample", "0.05")
    with open_app(project, browser, tmp_path / "lab", "nbs/apps/data_validation.ipynb") as page:
        page.wait_for_selector(f"{BOARD} .mlops-rule")
        board = page.locator(BOARD).first
        check = board.locator('.mlops-rule[data-status="warning"]').first.get_attribute("data-check")
        board.locator(f'.mlops-rule[data-check="{check}"]').click()
        page.keyboard.press("w")
        page.keyboard.type("seen, and true")
        page.keyboard.press("Enter")
        board.locator(f'.mlops-rule[data-check="{check}"][data-status="waived"]').wait_for()
    row = project.query("SELECT item, value, person FROM decisions WHERE queue = 'data_validation'")[0]
    assert row["item"] == check and json.loads(row["value"])["decision"] == "waive" and row["person"]
    project.run("data_validation", "--sample", "0.05")
    shown = project.python("from mlops_nb.artifacts import load\n"
                           "r = load('data_validation.report').set_index('check')\n"
                           f"print(r.loc[{check!r}, 'detail'], len(load('data_validation.accepted')))").out
    assert "waived by" in shown and "seen, and true" in shown
