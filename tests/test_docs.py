"""The site: whole, offline, searchable, and fit to be read on a phone."""

import json
import os
import re
import shutil
import threading
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from projects import cell, wait_until, write_notebook, write_stage

from mlops_nb.errors import MlopsError, UsageError
from mlops_nb.graph import read_contracts
from mlops_nb.publishing import build_site
from mlops_nb.runs import Recorder
from mlops_nb.settings import read_project

ROOT = Path(__file__).parent.parent
STAGES = {contract.notebook.stem: contract for contract in read_contracts(ROOT / "nbs/stages").values()}
CHROMIUM = Path("/usr/bin/chromium")
PICTURE = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
FETCHED = {"script": "src", "img": "src", "link": "href", "iframe": "src", "source": "src", "object": "data",
           "video": "src"}
pytestmark = pytest.mark.filterwarnings("ignore:.*Check CHANGES for Sphinx API modifications")


class Page(HTMLParser):
    """What a page refers to: (tag, address) of links and of what a browser fetches by itself; and its ids."""

    def __init__(self, path: Path):
        super().__init__()
        self.links: list[str] = []
        self.fetched: list[str] = []
        self.ids: set[str] = set()
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.ids |= {values[name] for name in ("id", "name") if values.get(name)}
        if tag == "a" and values.get("href"):
            self.links.append(values["href"])
        if tag in FETCHED and values.get(FETCHED[tag]):
            self.fetched.append(values[FETCHED[tag]])


def is_elsewhere(address: str) -> bool:
    return address.startswith("//") or urlsplit(address).scheme in ("http", "https", "ws", "wss")


def html_pages(site: Path) -> list[Path]:
    """The pages of a site; the theme leaves a template of its own among its static files."""
    return [path for path in sorted(site.rglob("*.html")) if "_static" not in path.parts]


def broken_links(site: Path) -> list[str]:
    """Links and fetched files within the site that lead nowhere."""
    pages = {path: Page(path) for path in html_pages(site)}
    broken = []
    for path, page in pages.items():
        for address in page.links + page.fetched:
            parts = urlsplit(address)
            if parts.scheme:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            anchor = unquote(parts.fragment)
            if not target.is_file() or (anchor and target in pages and anchor not in pages[target].ids):
                broken.append(f"{path.relative_to(site)}: {address}")
    return broken


def execute(project, stage: str, notebook: Path, status: str = "done") -> None:
    """Enter a run of one stage in the records, with a notebook that has outputs."""
    recorder = Recorder(project, "20261123-091500-3fa2", "development")
    recorder.start({"stages": [stage]}, [stage])
    content = json.loads(notebook.read_text("utf-8"))
    code = next(each for each in reversed(content["cells"]) if each["cell_type"] == "code")
    code["outputs"] = [
        {"output_type": "stream", "name": "stdout", "text": "5,069 rows of a recorded run\n"},
        {"output_type": "display_data", "metadata": {}, "data": {"image/png": PICTURE}},
        {"output_type": "display_data", "metadata": {}, "data": {
            "application/vnd.jupyter.widget-view+json": {"model_id": "1", "version_major": 2, "version_minor": 0},
            "text/plain": "a widget as text"}}]
    (recorder.folder / notebook.name).write_text(json.dumps(content), "utf-8")
    recorder.note(stage, notebook=str(recorder.folder / notebook.name), seconds=8.5)
    recorder.end_stage(stage, {}, status=status)
    recorder.end(status)


@pytest.fixture(scope="session")
def warnings() -> list[str]:
    return []


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory, warnings: list[str]) -> Path:
    """The site of this repository, with one recorded run."""
    folder = tmp_path_factory.mktemp("docs")
    project = replace(read_project(ROOT), state=folder / "state")
    execute(project, "preparation", ROOT / "nbs/stages/06_preparation.ipynb")
    before = {path: path.stat().st_mtime_ns for path in (ROOT / "nbs").rglob("*")}
    built = build_site(project, folder / "site", warnings.append)
    assert {path: path.stat().st_mtime_ns for path in (ROOT / "nbs").rglob("*")} == before, "nbs/ is only read"
    return built.parent


class Stranger(ThreadingHTTPServer):
    """Another host, that notes what it is asked for."""

    def __init__(self) -> None:
        asked = self.asked = []

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked.append(self.path)
                self.send_error(404)

            def log_message(self, *words: object) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server_port}"


@pytest.fixture(scope="session")
def stranger() -> Iterator[Stranger]:
    with Stranger() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture(scope="session")
def other(tmp_path_factory: pytest.TempPathFactory, stranger: Stranger) -> Path:
    """The site of somebody's project with awkward names, a broken stage, and outputs that want the network."""
    folder = tmp_path_factory.mktemp("내 프로젝트")
    (folder / "settings.ini").write_text("[project]\nname = 항공 지연\nstages = pipeline steps\n", "utf-8")
    steps = folder / "pipeline steps"
    first = write_stage(steps / "01_수집.ipynb", 'rows: int = 3  # How many | of them, in <b>\nt: Output = "표"')
    write_notebook(steps / "02_broken.ipynb", [cell("markdown", "no title here"), cell("code", "1 + 1")])
    write_notebook(folder / "nbs/scratch pad.ipynb", [
        cell("markdown", f"![x]({stranger.address}/picture.png) costs $5 and $6"), cell("code", "#| hide\nsecret = 1")])
    project = read_project(folder)
    execute(project, "수집", first, "failed")
    ran = project.state / "runs/20261123-091500-3fa2/01_수집.ipynb"
    content = json.loads(ran.read_text("utf-8"))
    content["cells"][-1]["outputs"].append({"output_type": "display_data", "metadata": {}, "data": {
        "text/html": f'<script src="{stranger.address}/plot.js"></script><img src="{stranger.address}/i.png">'
                     f'<b>html shown</b><script>fetch("{stranger.address}/data").catch(() => 0)</script>'}})
    ran.write_text(json.dumps(content), "utf-8")
    return build_site(project).parent


def read(site: Path, place: str) -> str:
    return (site / f"{place}.html").read_text("utf-8")


def as_text(page: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "", page.partition("<article")[2]))


def test_every_notebook_has_its_page(site):
    for notebook in (ROOT / "nbs").rglob("[!_.]*.ipynb"):
        if ".ipynb_checkpoints" not in notebook.parts:
            assert (site / notebook.relative_to(ROOT / "nbs").with_suffix(".html")).exists(), notebook


@pytest.mark.parametrize("stem", STAGES)
def test_every_stage_page_has_its_contract(site, stem):
    text = as_text(read(site, f"stages/{stem}"))
    for one in STAGES[stem].parameters:
        assert one.name in text and one.help.replace("`", "") in text, one.name


def test_stage_and_run_lead_to_each_other(site):
    stage, run = read(site, "stages/06_preparation"), read(site, "runs/06_preparation")
    assert "20261123-091500-3fa2" in stage and 'href="../runs/06_preparation.html"' in stage
    assert 'href="../stages/06_preparation.html"' in run
    assert "5,069 rows of a recorded run" in run and "a widget as text" in run and "<img" in run
    assert "mlops-nb run training" in as_text(read(site, "stages/07_training")), "how to run what has not run"


def test_api_pages_have_signatures_docstrings_and_source(site):
    page = read(site, "api/101_contract")
    assert 'id="mlops_nb.contract.read_contract"' in page
    assert "Read the contract of a stage notebook" in as_text(page)
    assert '_modules/mlops_nb/contract.html#read_contract"' in page
    source = read(site, "_modules/mlops_nb/contract")
    assert 'id="read_contract"' in source and "raises ContractError" in source
    assert re.search(r'href="[^"]*#mlops_nb.contract.Contract"', page), "types lead to their definition"


def test_notes_to_programs_are_gone(site):
    for path in [*(site / "api").glob("*.html"), *(site / "stages").glob("*.html"), *(site / "runs").glob("*.html")]:
        cells = re.findall(r'<div class="cell_input.*?</pre>', path.read_text("utf-8"), re.DOTALL)
        assert not [each for each in cells if re.sub(r"<[^>]+>", "", each).lstrip().startswith("#|")], path
    assert "nbdev.showdoc" not in read(site, "api/000_errors")


def test_formulas_are_drawn_without_a_script(site):
    page = read(site, "api/230_monitoring")
    assert "<math" in page and "MathJax" not in page and "jsdelivr" not in page


def test_nothing_is_told_that_a_person_must_mend(site, warnings):
    assert warnings == []


def test_every_link_within_the_site_resolves(site, other):
    assert broken_links(site) == []
    assert broken_links(other) == []


def test_nothing_in_the_files_is_fetched_from_elsewhere(site):
    for path in html_pages(site):
        assert [each for each in Page(path).fetched if is_elsewhere(each)] == [], path
        assert "Content-Security-Policy" in path.read_text("utf-8"), path
    for path in site.rglob("*.css"):
        assert not re.search(r"(url\(\s*['\"]?|@import\s+['\"]?)(https?:)?//", path.read_text("utf-8")), path
    for path in site.rglob("*.js"):
        assert not re.search(r"(import|importScripts|fetch)\s*\(?\s*['\"]https?://", path.read_text("utf-8")), path


def test_the_search_index_knows_words_and_functions(site):
    index = (site / "searchindex.js").read_text("utf-8")
    assert '"calibr' in index or "calibr:" in index
    assert "read_contract" in index


def test_a_strangers_project_gets_a_site_too(other):
    front = read(other, "index")
    assert "항공 지연" in front and 'href="stages/index.html"' in front and "There is no picture" in front
    stage = as_text(read(other, "stages/01_수집"))
    assert "How many | of them, in &lt;b&gt;" in stage and "failed" in stage
    assert "no code cell is tagged" in as_text(read(other, "stages/02_broken"))
    scratch = as_text(read(other, "scratch pad"))
    assert "secret" not in scratch
    assert "html shown" in read(other, "runs/01_수집")


@pytest.fixture(scope="module")
def browser() -> Iterator:
    """Chromium, asking nothing of its own; a machine without it may skip, CI may not."""
    if not CHROMIUM.exists() or find_spec("playwright") is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("chromium or playwright is missing")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=str(CHROMIUM), args=[
            "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
            "--disable-sync", "--no-first-run"])
        yield opened
        opened.close()


def visit(browser, site: Path, places: list[str], width: int, scheme: str) -> tuple[list[str], list[str]]:
    """Open pages; returns what they asked of others, and which are wider than the window."""
    asked, wide = [], []
    context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
    context.on("request", lambda request: asked.append(request.url)
               if not request.url.startswith(("file:", "data:", "blob:")) else None)
    page = context.new_page()
    for place in places:
        page.goto((site / f"{place}.html").as_uri())
        if page.evaluate("document.documentElement.scrollWidth > window.innerWidth"):
            wide.append(place)
    context.close()
    return asked, wide


def test_outputs_that_want_the_network_do_not_get_it(browser, other, stranger, tmp_path):
    places = ["runs/01_수집", "scratch pad"]
    visit(browser, other, places, 1280, "light")
    assert stranger.asked == []
    without = tmp_path / "without"
    shutil.copytree(other, without)
    for path in html_pages(without):
        text = path.read_text("utf-8")
        path.write_text(re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", text), "utf-8")
    visit(browser, without, places, 1280, "light")
    wait_until(lambda: len(stranger.asked) >= 4, "without the policy the browser asks", 10)
    assert set(stranger.asked) == {"/plot.js", "/i.png", "/data", "/picture.png"}, "it is the policy that forbids them"


def test_building_again_follows_the_notebooks(other):
    project = read_project(other.parent)
    kept = project.state / "site/doctrees/stages/01_수집.doctree"
    before = kept.stat().st_mtime_ns
    write_notebook(project.root / "nbs/scratch pad.ipynb", [cell("markdown", "# scratch pad\n\nchanged")])
    assert build_site(project) == other / "index.html"
    assert "changed" in read(other, "scratch pad")
    assert kept.stat().st_mtime_ns == before, "what did not change is not read again"
    (project.root / "nbs/scratch pad.ipynb").rename(project.root / "nbs/renamed.ipynb")
    build_site(project)
    assert not (other / "scratch pad.html").exists() and "changed" in read(other, "renamed")


def test_a_build_that_fails_leaves_the_old_site(other, monkeypatch):
    def fill_the_disk(*_: object) -> None:
        raise OSError(28, "No space left")

    before = read(other, "index")
    monkeypatch.setattr("mlops_nb.publishing.shutil.copytree", fill_the_disk)
    with pytest.raises(MlopsError, match="No space left"):
        build_site(read_project(other.parent))
    assert read(other, "index") == before
    monkeypatch.undo()
    assert build_site(read_project(other.parent)).exists()


def test_a_folder_with_something_else_is_left_alone(tmp_path, other):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(UsageError, match="not a site"):
        build_site(read_project(other.parent), tmp_path)
    assert (tmp_path / "thesis.tex").exists()


def test_a_file_that_is_no_notebook_is_named(tmp_path):
    (tmp_path / "settings.ini").write_text("[project]\n")
    (tmp_path / "nbs/stages").mkdir(parents=True)
    (tmp_path / "nbs/empty.ipynb").touch()
    with pytest.raises(MlopsError, match=r"empty\.ipynb is not a notebook"):
        build_site(read_project(tmp_path))
    assert not (tmp_path / "_docs").exists()


def test_the_missing_extra_is_named(other, monkeypatch):
    monkeypatch.setattr("mlops_nb.publishing.find_spec", lambda name: None if name == "myst_nb" else find_spec(name))
    with pytest.raises(MlopsError) as error:
        build_site(read_project(other.parent))
    assert "myst_nb" in error.value.what and error.value.mend == "pip install 'mlops_nb[docs]'"


def test_no_page_asks_anything_of_another_host_nor_is_too_wide(browser, site):
    places = [str(path.relative_to(site).with_suffix("")) for path in html_pages(site)]
    assert visit(browser, site, places, 400, "dark") == ([], [])
    kinds = ["index", "search", "stages/06_preparation", "runs/06_preparation", "api/101_contract", "api/index"]
    assert visit(browser, site, kinds, 1280, "light") == ([], [])


def test_search_works_from_a_file(browser, site):
    page = browser.new_page()
    page.goto((site / "search.html").as_uri() + "?q=leakage")
    page.wait_for_selector("#search-results li a")
    found = page.eval_on_selector_all("#search-results li a", "links => links.map(link => link.href)")
    assert any("preparation" in each for each in found)
    page.close()


def test_dark_is_dark_and_light_is_light(browser, site):
    for scheme, low, high in [("dark", 0, 80), ("light", 200, 255)]:
        context = browser.new_context(color_scheme=scheme)
        page = context.new_page()
        page.goto((site / "index.html").as_uri())
        color = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert all(low <= int(each) <= high for each in re.findall(r"\d+", color)[:3]), color
        context.close()


def test_the_site_can_be_moved(site, tmp_path):
    """Addresses are relative: a copy on a stick or a web server's folder works as well."""
    moved = tmp_path / "moved"
    shutil.copytree(site, moved)
    assert broken_links(moved) == [] and str(site) not in read(moved, "index")
