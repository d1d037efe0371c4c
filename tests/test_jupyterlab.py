"""A stage opened in a real JupyterLab, in a real browser: Run All ends well, and its results are interactive ones."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from conftest import MakeProject
from projects import Project, wait_until

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking",
             "--disable-component-update", "--disable-sync", "--no-first-run"]

# JupyterLab's own panel of the notebook; `notebook` is what all of these need
FIND = "const panel = window.jupyterapp?.shell.currentWidget, notebook = panel?.content?.model; "
OPENED = f"""path => {{ {FIND}
    return panel?.context?.path === path && panel.context.isReady
        && panel.sessionContext.session?.kernel?.status === 'idle'; }}"""
RUN_ALL = "() => { window.jupyterapp.commands.execute('runmenu:run-all'); }"
CELLS = f"""() => {{ {FIND}
    return [...notebook.cells].filter(cell => cell.type === 'code').map(cell => ({{
        count: cell.executionCount, source: cell.sharedModel.getSource(),
        errors: cell.outputs.toJSON().filter(output => output.output_type === 'error')}})); }}"""
ENDED = f"""() => {{ {FIND}
    const cells = [...notebook.cells].filter(cell => cell.type === 'code');
    const failed = cells.some(cell => cell.outputs.toJSON().some(output => output.output_type === 'error'));
    const done = cells.every(cell => cell.executionCount) && panel.sessionContext.session?.kernel?.status === 'idle';
    return failed || done; }}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium; a machine without it may skip, CI may not."""
    if not CHROMIUM or find_spec("playwright") is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("chromium or playwright is missing")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield opened
        opened.close()


@contextmanager
def open_lab(project: Project, folder: Path) -> Iterator[str]:
    """`mlops-nb lab` on a free port, with settings of its own in `folder`; gives its address."""
    settings = folder / "settings" / "@jupyterlab" / "apputils-extension" / "notification.jupyterlab-settings"
    settings.parent.mkdir(parents=True)
    settings.write_text('{"fetchNews": "false", "checkForUpdates": false}')
    project.environment |= {
        "JUPYTER_RUNTIME_DIR": str(folder / "runtime"), "JUPYTER_CONFIG_DIR": str(folder / "config"),
        "JUPYTERLAB_SETTINGS_DIR": str(folder / "settings"), "JUPYTERLAB_WORKSPACES_DIR": str(folder / "workspaces")}
    log = (folder / "lab.log").open("w+")
    words = ["lab", "--no-browser", "--ServerApp.port=0", "--IdentityProvider.token=t0ken",
             "--LabApp.expose_app_in_browser=True", *(["--allow-root"] if os.geteuid() == 0 else [])]
    process = project.start(*words, stdout=log, stderr=log)

    def find_address() -> str:
        assert process.poll() is None, (folder / "lab.log").read_text()
        return next((json.loads(path.read_text())["url"] for path in (folder / "runtime").glob("jpserver-*.json")), "")

    try:
        yield wait_until(find_address, "JupyterLab answers")
    finally:
        process.terminate()
        process.wait(20)
        log.close()


def run_all(browser: Any, address: str, path: str, picture: Path) -> list[dict[str, Any]]:
    """Open a notebook in JupyterLab and Run All; gives its code cells once they have ended."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    try:
        page = context.new_page()
        page.set_default_timeout(120_000)
        page.goto(f"{address}lab/tree/{quote(path)}?reset&token=t0ken")
        page.wait_for_function(OPENED, arg=path)
        page.evaluate(RUN_ALL)
        page.wait_for_function(ENDED)
        page.screenshot(path=picture)
        return page.evaluate(CELLS)
    finally:
        context.close()


@pytest.fixture(scope="module")
def lab(make_shared_project: MakeProject, browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The flights example as a project of one's own, in JupyterLab; gives the project and a way to run a stage."""
    desk = make_shared_project("desk")
    (desk.root / "settings.ini").unlink()
    assert desk.call("new", "항공 flights", "--template", "flights").code == 0
    project, folder = make_shared_project("desk/항공 flights"), tmp_path_factory.mktemp("lab")
    with open_lab(project, folder) as address:
        def run_stage(name: str) -> list[dict[str, Any]]:
            return run_all(browser, address, f"nbs/stages/{name}.ipynb", folder / f"{name}.png")

        yield project, run_stage


def check(cells: list[dict[str, Any]]) -> None:
    """All cells were run in their order, and none of them raised."""
    assert [error["ename"] + ": " + error["evalue"] for cell in cells for error in cell["errors"]] == []
    assert [cell["count"] for cell in cells] == list(range(1, len(cells) + 1))


def test_a_stage_of_ones_own(lab: tuple[Project, Callable[..., Any]]):
    """Its folder has Korean letters and a space; another environment's results stay apart."""
    project, run_stage = lab
    project.stage("20_세기", 'count: int = 3\n행: Output = "행"', "value = {'n': count}", "save(행, value)\nvalue")
    project.stage("21_쓰기", '행: Input = "세기.행"\n끝: Output = "끝"', "save(끝, load(행))")
    for name in ("20_세기", "21_쓰기"):
        check(run_stage(name))
    assert project.catalog()[-2:] == [("세기.행", "interactive"), ("쓰기.끝", "interactive")]


def test_an_error_is_shown_where_it_happens(lab: tuple[Project, Callable[..., Any]]):
    """What can be wrong with `save` says the mend in the notebook too, and keeps nothing."""
    project, run_stage = lab
    before = len(project.catalog())
    project.stage("22_wrong", 'made: Output = "made"', "save(made, object())")
    errors = [error for cell in run_stage("22_wrong") for error in cell["errors"]]
    assert [error["ename"] for error in errors] == ["ArtifactError"] and "mend: save one of" in errors[0]["evalue"]
    assert len(project.catalog()) == before


def test_stages_of_flights(lab: tuple[Project, Callable[..., Any]]):
    """Collection, ingestion and curation one after the other, whole: each finds what the one before saved."""
    project, run_stage = lab
    for name in ("01_collection", "02_ingestion", "03_curation"):
        check(run_stage(name))
    found = dict(project.catalog())
    for name in ("collection.flights", "collection.provenance", "ingestion.flights", "curation.departures"):
        assert found[name] == "interactive"
    answer = project.ask("show", "curation.departures")
    assert answer.code == 0 and "336,776 rows" in answer.said and "none: interactive" in answer.said
