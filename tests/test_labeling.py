"""Labeling as a person does it: a real JupyterLab, a real browser, keys, and processes killed in the middle."""

import json
import os
import signal
import socket
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import MakeProject
from laboratory import ENDED, RUN_ALL, browser, open_app, open_lab, open_notebook
from projects import Project, cell, make_flights, wait_until, write_notebook

__all__ = ["browser"]

DIGITS = """\
import pandas as pd
from sklearn.datasets import load_digits
from mlops_nb.widgets import LabelingWidget
digits = load_digits()
frame = pd.DataFrame({{"image": list(digits.images), "number": range(len(digits.images))}})
LabelingWidget(frame, labels=[*"0123456789"], show="image", column="image", key="number", name="{queue}",
               person="{person}")"""

BOARD = ".mlops-labeling"
READY = '.mlops-labeling[data-item]:not([data-item=""])'
STORED = '.mlops-labeling[data-pending="0"]'


class Desk:
    """A project in JupyterLab, and somebody who works there."""

    def __init__(self, project: Project, address: str, browser: Any):
        self.project, self.address, self.browser = project, address, browser
        self.contexts: list[Any] = []

    def sit_down(self, name: str, *sources: str, context: Any = None) -> Any:
        """Open a notebook with these cells, run it, and click on its widget; gives the page."""
        path = f"nbs/{name}.ipynb"
        if not (self.project.root / path).exists():
            write_notebook(self.project.root / path, [cell("code", source) for source in sources])
        if context is None:
            context = self.browser.new_context(viewport={"width": 1100, "height": 900})
            self.contexts.append(context)
        page = open_notebook(context, self.address, path)
        self.run(page)
        return page

    def run(self, page: Any) -> None:
        """Run all cells, and give the keyboard to the widget."""
        page.evaluate(RUN_ALL)
        page.wait_for_function(ENDED)
        page.wait_for_selector(READY)
        page.click(f"{BOARD} .mlops-head")

    def press(self, page: Any, *keys: str) -> list[tuple[str, str]]:
        """Press keys, each as soon as there is an item; gives the item that the screen named at each of them."""
        pressed = []
        for key in keys:
            page.wait_for_selector(READY)
            pressed.append((page.get_attribute(BOARD, "data-item"), key))
            page.keyboard.press(key)
        return pressed

    def stored(self, queue: str) -> list[tuple[str, str, Any]]:
        """The item, action and value of each event in the journal, in the order of the journal."""
        rows = self.project.query(f"SELECT item, action, value FROM decisions WHERE queue = '{queue}' ORDER BY number")
        return [(row["item"], row["action"], json.loads(row["value"])) for row in rows]

    def kernel(self, mark: str) -> int:
        """The process id of the kernel that has written its own into a file."""
        return int((self.project.root / mark).read_text())


@pytest.fixture(scope="module")
def desk(make_shared_project: MakeProject, browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    project = make_shared_project("표지 labels")
    (project.root / "nbs/stages").mkdir(parents=True)
    with open_lab(project, tmp_path_factory.mktemp("lab")) as address:
        desk = Desk(project, address, browser)
        yield desk
        for context in desk.contexts:
            context.close()


def test_a_hundred_digits_by_keys(desk: Desk):
    """What is in the store is exactly what was pressed, item by item; ten are taken back, and answered again."""
    page = desk.sit_down("hundred", DIGITS.format(queue="hundred", person="Kim"))
    pressed = desk.press(page, *[str(n * 7 % 10) for n in range(100)])
    page.wait_for_selector(STORED)
    assert desk.stored("hundred") == [(item, "label", key) for item, key in pressed]
    assert len({item for item, _ in pressed}) == 100
    undone = [page.get_attribute(BOARD, "data-item") for _ in range(10) if page.keyboard.press("u") is None]
    assert undone == [item for item, _ in pressed[:-11:-1]], "each goes back to the item that it takes back"
    again = desk.press(page, *"9876543210")
    page.wait_for_selector(STORED)
    events = desk.stored("hundred")
    assert [item for item, action, _ in events if action == "undo"] == undone
    assert events[110:] == [(item, "label", key) for item, key in again]
    assert "100 done" in page.wait_for_selector(".mlops-numbers:has-text('100 done')").inner_text()


def test_keys_belong_to_the_widget_and_to_nobody_else(desk: Desk):
    """No key reaches JupyterLab (`b` would make a cell, `d d` remove one), and in a cell none reaches the widget."""
    page = desk.sit_down("keys", DIGITS.format(queue="keys", person="Kim"), "text = ''")
    cells = "() => window.jupyterapp.shell.currentWidget.content.model.cells.length"
    before = page.evaluate(cells)
    desk.press(page, "5", "b", "d", "d", "a", "x", "0", "0", "?", "?", "-", "s", "f", "ArrowLeft", "ArrowRight")
    page.wait_for_selector(STORED)
    assert page.evaluate(cells) == before
    known = desk.stored("keys")
    assert [action for _, action, _ in known] == ["label", "label", "label", "none", "skip", "flag"]
    page.locator(".jp-CodeCell .cm-content").nth(1).click()
    page.keyboard.type("1234us")
    assert "1234us" in page.locator(".jp-CodeCell .cm-content").nth(1).inner_text()
    page.click(f"{BOARD} .mlops-head")
    page.keyboard.press("m")
    page.keyboard.type("1 번짐 u")
    page.keyboard.press("Enter")
    page.wait_for_selector(STORED)
    assert [event[1:] for event in desk.stored("keys")[len(known):]] == [("note", "1 번짐 u")]


def test_the_kernel_is_killed_in_a_burst(desk: Desk):
    """Nothing acknowledged is missing; what was not is shown, kept in the browser, and sent by the next widget."""
    mark = "import os, pathlib\npathlib.Path(os.environ['MLOPS_NB_PROJECT'], 'kernel').write_text(str(os.getpid()))"
    page = desk.sit_down("killed", mark, DIGITS.format(queue="killed", person="Kim"))
    pressed = desk.press(page, *"0123456789")
    os.kill(desk.kernel("kernel"), signal.SIGKILL)
    pressed += desk.press(page, *"98765")
    pending = int(page.get_attribute(BOARD, "data-pending"))
    banner = page.wait_for_selector(f"{BOARD} .mlops-red", timeout=30_000).inner_text()
    assert f"{pending} answers are not stored" in banner and 0 < pending <= 15
    page.click(".jp-Dialog button.jp-mod-accept")  # that the kernel has died
    known = desk.stored("killed")
    assert len(known) >= 15 - pending and known == [(item, "label", key) for item, key in pressed[:len(known)]]
    desk.run(page)
    page.wait_for_selector(STORED)
    assert sorted(desk.stored("killed")) == sorted((item, "label", key) for item, key in pressed), "each once"
    assert page.get_attribute(BOARD, "data-item") not in {item for item, _ in pressed}, "it goes on where it was"


def test_two_people_in_two_browsers(desk: Desk):
    """Each has a browser and a kernel; what one has answered the other is not asked, and nobody's answer is lost."""
    pages = [desk.sit_down(f"two-{person}", DIGITS.format(queue="two", person=person)) for person in ("Kim", "박")]
    pressed = []
    for number in range(40):
        pressed += desk.press(pages[number % 2], str(number % 10))
    for page in pages:
        page.wait_for_selector(STORED)
    assert sorted(desk.stored("two")) == sorted((item, "label", key) for item, key in pressed)
    assert len({item for item, _ in pressed}) >= 37, "only before they know of each other are both asked the same"
    rows = desk.project.query("SELECT person, COUNT(*) AS count FROM decisions WHERE queue = 'two' GROUP BY person")
    assert {row["person"]: row["count"] for row in rows} == {"Kim": 20, "박": 20}


def test_a_tab_is_closed_and_opened_again(desk: Desk):
    """It goes on where it was, what was said can still be taken back, and nothing is asked twice."""
    page = desk.sit_down("closed", DIGITS.format(queue="closed", person="Kim"))
    pressed = desk.press(page, *"01234")
    page.wait_for_selector(STORED)
    context = page.context
    page.close()
    page = desk.sit_down("closed", context=context)
    assert page.get_attribute(BOARD, "data-item") not in {item for item, _ in pressed}
    page.keyboard.press("u")
    page.wait_for_selector(f'{BOARD}[data-item="{pressed[-1][0]}"]')
    pressed += desk.press(page, "9")
    page.wait_for_selector(STORED)
    said = [event for event in desk.stored("closed") if event[1] == "label"]
    assert said == [(item, "label", key) for item, key in pressed]


def test_two_tabs_of_one_person(desk: Desk):
    """Both store what is pressed in them, and what one has answered the other does not ask again."""
    context = desk.browser.new_context(viewport={"width": 1100, "height": 900})
    desk.contexts.append(context)
    pages = [desk.sit_down(f"tab-{n}", DIGITS.format(queue="tabs", person="Kim"), context=context) for n in (1, 2)]
    first = desk.press(pages[0], *"0123456789")
    pages[0].wait_for_selector(STORED)
    pages[1].evaluate("() => document.activeElement.blur()")
    pages[1].click(f"{BOARD} .mlops-head")
    pages[1].wait_for_function(f"() => document.querySelector('{BOARD}').dataset.item === '{len(first)}'")
    second = desk.press(pages[1], *"9876")
    pages[1].wait_for_selector(STORED)
    assert sorted(desk.stored("tabs")) == sorted((item, "label", key) for item, key in first + second)
    assert not {item for item, _ in first} & {item for item, _ in second}


def test_the_widget_in_notebook_7(desk: Desk):
    """The same server, the other page: keys are stored, and none of them is a command of the notebook."""
    write_notebook(desk.project.root / "nbs/seven.ipynb", [cell("code", DIGITS.format(queue="seven", person="Kim"))])
    context = desk.browser.new_context(viewport={"width": 1100, "height": 900})
    desk.contexts.append(context)
    page = context.new_page()
    page.goto(f"{desk.address}notebooks/nbs/seven.ipynb?token=t0ken")
    page.click(".jp-CodeCell .cm-content")

    def run() -> bool:
        page.keyboard.press("Control+Enter")  # is lost before there is a kernel
        page.wait_for_timeout(1500)
        return page.query_selector(READY) is not None

    wait_until(run, "the widget is there")
    page.click(f"{BOARD} .mlops-head")
    cells = page.locator(".jp-Cell").count()
    pressed = desk.press(page, *"5370")
    for key in "bda":
        page.keyboard.press(key)
    page.wait_for_selector(STORED)
    assert desk.stored("seven") == [(item, "label", key) for item, key in pressed]
    assert page.locator(".jp-Cell").count() == cells


def test_labeling_goes_on_while_a_cell_runs(desk: Desk):
    """A cell holds the kernel; keys are stored all the same, before it lets go."""
    hold = desk.project.hold()
    busy = f"import pathlib, time\nwhile pathlib.Path({str(hold)!r}).exists(): time.sleep(0.1)"
    page = desk.sit_down("busy", DIGITS.format(queue="busy", person="Kim"), "'nothing yet'")
    page.evaluate("""source => { const app = window.jupyterapp, notebook = app.shell.currentWidget.content;
        notebook.activeCellIndex = 1; notebook.activeCell.model.sharedModel.setSource(source);
        app.commands.execute('notebook:run-cell'); }""", busy)
    page.wait_for_selector(".jp-InputPrompt:has-text('[*]')")
    page.click(f"{BOARD} .mlops-head")
    pressed = desk.press(page, *"314159265358979323846264338327")
    page.wait_for_selector(STORED)
    assert page.evaluate("() => window.jupyterapp.shell.currentWidget.content.widgets[1].model.executionCount") is None
    assert desk.stored("busy") == [(item, "label", key) for item, key in pressed]
    hold.unlink()


def test_the_server_is_killed(make_project: MakeProject, browser: Any, tmp_path: Path):
    """The browser keeps what was not stored; a new server on the same address gets it from the next widget."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    project = make_project("server")
    (project.root / "nbs/stages").mkdir(parents=True)
    context = browser.new_context(viewport={"width": 1100, "height": 900})
    pressed = []
    for number in (1, 2):
        with open_lab(project, tmp_path / f"lab{number}", port) as address:
            desk = Desk(project, address, browser)
            page = desk.sit_down("server", DIGITS.format(queue="server", person="Kim"), context=context)
            page.wait_for_selector(STORED)
            if number == 1:
                pressed = desk.press(page, *"12345")
                page.wait_for_selector(STORED)
                for pid in project.living(with_nursery=True):
                    os.kill(pid, signal.SIGKILL)
                pressed += desk.press(page, *"67890")
                banner = page.wait_for_selector(f"{BOARD} .mlops-red", timeout=30_000).inner_text()
                assert "5 answers are not stored" in banner
                page.close(run_before_unload=False)
            else:
                assert sorted(desk.stored("server")) == sorted((item, "label", key) for item, key in pressed)
                assert page.get_attribute(BOARD, "data-item") == "10"
    context.close()


def test_a_store_that_cannot_be_written(desk: Desk):
    """A red banner at once, and no answer is lost; when the store is there again, it goes. A lock is told too."""
    page = desk.sit_down("locked", DIGITS.format(queue="locked", person="Kim"))
    desk.press(page, "1")
    page.wait_for_selector(STORED)
    store = sqlite3.connect(desk.project.state / "state.db", isolation_level=None)
    version = store.execute("SELECT value FROM about WHERE key = 'schema_version'").fetchone()[0]
    store.execute("UPDATE about SET value = '99' WHERE key = 'schema_version'")
    pressed = desk.press(page, *"234")
    banner = page.wait_for_selector(f"{BOARD} .mlops-red", timeout=2_000).inner_text()
    assert "not stored" in banner and "has version 99" in banner
    store.execute("UPDATE about SET value = ? WHERE key = 'schema_version'", [version])
    page.wait_for_selector(STORED)
    store.execute("BEGIN IMMEDIATE")
    pressed += desk.press(page, *"567")
    assert "3 answers are not stored" in page.wait_for_selector(f"{BOARD} .mlops-red", timeout=15_000).inner_text()
    store.execute("ROLLBACK")
    page.wait_for_selector(STORED)
    store.close()
    assert sorted(desk.stored("locked")[1:]) == sorted((item, "label", key) for item, key in pressed)


def test_what_is_shown_never_runs(desk: Desk):
    """HTML and scripts in the data are text; a renderer's own HTML is shown without what could run."""
    text = "<img src=x onerror=\"window.ran = true\"><script>window.ran = true</script> <b>정말</b>"
    begin = f"from mlops_nb.widgets import LabelingWidget\nLabelingWidget([{text!r}], ['good', 'bad'], "
    page = desk.sit_down("scripts", f"{begin} name='scripts', instructions={text!r})")
    assert page.inner_text(f"{BOARD} .mlops-text") == text
    other = desk.sit_down("renderer", f"{begin} name='renderer', renderer=lambda row: '<h3>Mine</h3>' + row['item'])")
    assert other.inner_text(f"{BOARD} .mlops-inside h3") == "Mine"
    assert other.inner_text(f"{BOARD} .mlops-inside b") == "정말"
    for one in (page, other):
        one.wait_for_timeout(300)
        assert one.evaluate("() => window.ran") is None


def test_flights_ask_a_person_who_answers_in_the_notebook(make_project: MakeProject, browser: Any, tmp_path: Path):
    """The stage stops and names the notebook; a key there was all that was missing, and is an input of the next run."""
    project = make_flights(make_project)
    recorded = project.root / "nbs/stages/labeling_decisions.jsonl"
    lines = recorded.read_text("utf-8").splitlines(keepends=True)
    recorded.write_text("".join(line for line in lines if "case:cancelled" not in line), "utf-8")
    assert "nbs/apps/labeling.ipynb" in project.run("labeling", "--sample", "0.02", code=3)
    with open_app(project, browser, tmp_path / "lab", "nbs/apps/labeling.ipynb") as page:
        page.wait_for_selector('.mlops-labeling[data-item="case:cancelled"]')
        page.locator(f"{BOARD} .mlops-head").first.click()
        page.keyboard.press("3")
        page.wait_for_selector(".mlops-numbers:has-text('1 done')")
    project.run("labeling", "--sample", "0.02")
    row = project.query("SELECT item, value, milliseconds, content FROM decisions WHERE queue = 'labeling'")[0]
    assert (row["item"], json.loads(row["value"])) == ("case:cancelled", "exclude") and row["milliseconds"] > 0
    assert "journal.labeling@" in project.ask("show", "labeling.labels").out
