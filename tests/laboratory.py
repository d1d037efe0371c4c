"""A real JupyterLab in a real browser: what the tests of widgets and of notebooks in JupyterLab share."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from projects import Project, cell, wait_until, write_notebook

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
def open_lab(project: Project, folder: Path, port: int = 0) -> Iterator[str]:
    """`mlops-nb lab` on a free port or on this one, with settings of its own in `folder`; gives its address."""
    settings = folder / "settings" / "@jupyterlab" / "apputils-extension" / "notification.jupyterlab-settings"
    settings.parent.mkdir(parents=True)
    settings.write_text('{"fetchNews": "false", "checkForUpdates": false}')
    project.environment |= {
        "JUPYTER_RUNTIME_DIR": str(folder / "runtime"), "JUPYTER_CONFIG_DIR": str(folder / "config"),
        "JUPYTERLAB_SETTINGS_DIR": str(folder / "settings"), "JUPYTERLAB_WORKSPACES_DIR": str(folder / "workspaces")}
    log = (folder / "lab.log").open("w+")
    words = ["lab", "--no-browser", f"--ServerApp.port={port}", "--IdentityProvider.token=t0ken",
             "--LabApp.expose_app_in_browser=True", *(["--allow-root"] if os.geteuid() == 0 else [])]
    process = project.start(*words, stdout=log, stderr=log)

    def find_address() -> str:
        assert process.poll() is None, (folder / "lab.log").read_text()
        for path in (folder / "runtime").glob("jpserver-*.json"):
            with suppress(json.JSONDecodeError):  # the server is just writing it
                return json.loads(path.read_text())["url"]
        return ""

    try:
        yield wait_until(find_address, "JupyterLab answers")
    finally:
        process.terminate()
        process.wait(20)
        log.close()


def open_notebook(context: Any, address: str, path: str) -> Any:
    """A page with a notebook in JupyterLab, its kernel idle."""
    page = context.new_page()
    page.set_default_timeout(120_000)
    page.goto(f"{address}lab/tree/{quote(path)}?reset&token=t0ken")
    page.wait_for_function(OPENED, arg=path)
    return page


def run_all(browser: Any, address: str, path: str, picture: Path) -> list[dict[str, Any]]:
    """Open a notebook in JupyterLab and Run All; gives its code cells once they have ended."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    try:
        page = open_notebook(context, address, path)
        page.evaluate(RUN_ALL)
        page.wait_for_function(ENDED)
        page.screenshot(path=picture)
        return page.evaluate(CELLS)
    finally:
        context.close()


class Room:
    """A project in JupyterLab, and somebody who works there. `ready` is what must be there when a notebook has run."""

    board, ready, height = ".mlops-labeling", ".mlops-labeling", 900

    def __init__(self, project: Project, address: str, browser: Any):
        self.project, self.address, self.browser = project, address, browser
        self.contexts: list[Any] = []

    def open(self, name: str, *sources: str, width: int = 1100) -> Any:
        """A notebook of these cells, opened and run: its page."""
        write_notebook(self.project.root / f"nbs/{name}.ipynb", [cell("code", source) for source in sources])
        context = self.browser.new_context(viewport={"width": width, "height": self.height})
        self.contexts.append(context)
        page = open_notebook(context, self.address, f"nbs/{name}.ipynb")
        page.evaluate(RUN_ALL)
        page.wait_for_function(ENDED)
        return page

    def run(self, page: Any) -> None:
        """Run all cells, also once more, and give the keyboard to the widget."""
        page.evaluate(RUN_ALL)
        page.wait_for_function(ENDED)
        self.take(page)

    def take(self, page: Any) -> None:
        """Give the keyboard to the widget as soon as it is ready."""
        page.wait_for_selector(self.ready)
        page.click(f"{self.board} .mlops-head")


@contextmanager
def open_app(project: Project, browser: Any, folder: Path, notebook: str) -> Iterator[Any]:
    """A notebook that ships, in JupyterLab and run whole, no cell of which has failed: its page."""
    with open_lab(project, folder) as address:
        context = browser.new_context(viewport={"width": 1100, "height": 900})
        page = open_notebook(context, address, notebook)
        page.evaluate(RUN_ALL)
        page.wait_for_function(ENDED)
        assert [error for one in page.evaluate(CELLS) for error in one["errors"]] == []
        yield page
        context.close()
