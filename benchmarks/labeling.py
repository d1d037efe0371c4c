"""How long a key takes until the next item is on the screen, and until the answer is on the disk; in a real JupyterLab.

The peer is what one writes in a few lines: an image and ten buttons of ipywidgets, whose callback keeps the answer in
SQLite and then shows the next image. Both label scikit-learn's digits, in the same browser, in one run. Times are taken
in the browser: from the key or click until the frame after the page shows the next item, and until the page knows that
the answer is stored.
"""

import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from measuring import ROOT, Absent, Row, at_most, compare, faster, read_options, report, tell

sys.path.insert(0, str(ROOT / "tests"))

FRAME, STORED = 0.016, 0.060  # seconds: one frame, and the target for an answer on the disk
SIZES = {"full": (200, 60), "quick": (60, 10), "smoke": (8, 1)}  # keys, and seconds at 20 a second

OURS = """\
import pandas as pd
from sklearn.datasets import load_digits
from mlops_nb.widgets import LabelingWidget
images = list(load_digits().images)
frame = pd.DataFrame({"image": images, "number": range(len(images))})
LabelingWidget(frame, labels=[*"0123456789"], show="image", column="image", key="number", name="digits")"""

PEER = """\
import io, sqlite3, threading
import numpy as np
from ipywidgets import Button, HBox, Image as Picture, VBox
from PIL import Image
from sklearn.datasets import load_digits
images = load_digits().images
store, lock = sqlite3.connect("peer.db", check_same_thread=False), threading.Lock()
store.execute("PRAGMA journal_mode=WAL")
store.execute("CREATE TABLE IF NOT EXISTS answers (item, value)")
place = [0]
def draw():
    file = io.BytesIO()
    Image.fromarray((images[place[0]] * 15).astype(np.uint8)).resize((160, 160)).save(file, "PNG")
    return file.getvalue()
picture = Picture(value=draw(), format="png")
def answer(button):
    with lock:
        store.execute("INSERT INTO answers VALUES (?, ?)", (place[0], button.description))
        store.commit()
        place[0] += 1
        picture.value = draw()
buttons = [Button(description=str(n)) for n in range(10)]
for button in buttons:
    button.on_click(answer)
VBox([picture, HBox(buttons)]).add_class("peer")"""

# What is measured in the page: `begin` is the key or click, `next` the frame after the item changed, `stored` the rest
WATCH_OURS = """() => { const board = document.querySelector('.mlops-labeling'); window.times = [];
    addEventListener('keydown', () => window.times.push({begin: performance.now()}), true);
    new MutationObserver(changes => { for (const change of changes) {
        const last = window.times.at(-1); if (!last) continue;
        if (change.attributeName === 'data-item') requestAnimationFrame(() => { last.next ??= performance.now(); });
        else if (board.dataset.pending === '0') for (const one of window.times) one.stored ??= performance.now();
    } }).observe(board, {attributes: true, attributeFilter: ['data-item', 'data-pending']}); }"""
WATCH_PEER = """() => { const image = document.querySelector('.peer img'); window.times = [];
    addEventListener('click', () => window.times.push({begin: performance.now()}), true);
    new MutationObserver(() => { const last = window.times.at(-1); if (!last) return;
        image.decode().catch(() => {}).then(() => requestAnimationFrame(() => {
            last.next ??= performance.now(); last.stored ??= performance.now(); }));
    }).observe(image, {attributes: true, attributeFilter: ['src']}); }"""


@contextmanager
def open_page(folder: Path) -> Iterator[Any]:
    """JupyterLab in a browser, and a way to open a notebook in it; raises Absent without a browser."""
    try:
        from laboratory import ARGUMENTS, CHROMIUM, ENDED, RUN_ALL, open_lab, open_notebook
        from playwright.sync_api import sync_playwright
        from projects import Project, cell, write_notebook
    except ImportError as error:
        raise Absent(f"no {error.name}") from None
    if not CHROMIUM:
        raise Absent("no chromium")
    project = Project(folder / "project")
    with open_lab(project, folder / "lab") as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)

        def open_it(name: str, source: str) -> Any:
            write_notebook(project.root / f"nbs/{name}.ipynb", [cell("code", source)])
            context = browser.new_context(viewport={"width": 1100, "height": 900})
            page = open_notebook(context, address, f"nbs/{name}.ipynb")
            page.evaluate(RUN_ALL)
            page.wait_for_function(ENDED)
            return page

        yield open_it, project
        browser.close()


def press(page: Any, count: int, a_second: float, act: Any) -> None:
    """Do something so often, at an even pace."""
    begin = time.perf_counter()
    for number in range(count):
        time.sleep(max(0.0, begin + number / a_second - time.perf_counter()))
        act(number)


def times_of(page: Any, what: str) -> list[float]:
    """Seconds from the keys until the next item, or until it was stored."""
    page.wait_for_function("() => window.times.every(one => one.next && one.stored)")
    return [one / 1000 for one in page.evaluate(f"() => window.times.map(one => one.{what} - one.begin)")]


def percentile(figures: list[float]) -> float:
    """The 95th percentile."""
    return statistics.quantiles(figures, n=20)[-1] if len(figures) > 1 else figures[0]


def measure(count: int, seconds: int) -> Iterator[Row]:
    """All rows."""
    folder = Path(tempfile.mkdtemp(prefix="mlops_nb-labeling-"))
    try:
        with open_page(folder) as (open_it, project):
            page = open_it("ours", OURS)
            page.wait_for_selector('.mlops-labeling[data-item]:not([data-item=""])')
            page.click(".mlops-labeling .mlops-head")
            page.evaluate(WATCH_OURS)
            tell(f"  ours: {count} keys at 3 a second")
            press(page, count, 3, lambda number: page.keyboard.press(str(number % 10)))
            ours = {what: times_of(page, what) for what in ("next", "stored")}
            page.evaluate("() => { window.times = []; }")
            tell(f"  ours: 20 keys a second for {seconds} s")
            press(page, 20 * seconds, 20, lambda number: page.keyboard.press(str(number % 10)))
            quick = times_of(page, "stored")
            stored = project.query("SELECT COUNT(DISTINCT item) AS items, COUNT(*) AS events FROM decisions")[0]
            other = open_it("peer", PEER)
            other.wait_for_selector(".peer img")
            other.evaluate(WATCH_PEER)
            buttons = other.locator(".peer button").all()
            tell(f"  ipywidgets buttons: {count} clicks at 3 a second")
            press(other, count, 3, lambda number: buttons[number % 10].click())
            peer = {what: times_of(other, what) for what in ("next", "stored")}
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    name = "key to next item{}: buttons of ipywidgets".format
    yield compare(name(""), ours["next"], peer["next"], at_most(FRAME, "at most 16 ms"))
    yield compare(name(", 95th percentile"), [percentile(ours["next"])], [percentile(peer["next"])], faster(1))
    name = "key to stored{}: buttons of ipywidgets".format
    yield compare(name(""), ours["stored"], peer["stored"], at_most(STORED, "at most 60 ms"))
    yield compare(name(", 95th percentile"), [percentile(ours["stored"])], [percentile(peer["stored"])])
    yield compare("key to stored at 20 a second: buttons at 3 a second", quick, peer["stored"])
    pressed = count + 20 * seconds
    yield compare(f"answers lost of {pressed:,}: answers stored twice", [float(pressed - stored["items"])],
                  [float(stored["events"] - stored["items"])], at_most(0, "none"), unit="answers")


def main() -> None:
    """Measure, and report."""
    options = read_options(__doc__ or "", ["keys"], smoke=["keys"], peers="buttons")
    rows: list[Row] = []
    try:
        rows = list(measure(*SIZES[options.size]))
    except Absent as reason:
        tell(f"  absent: {reason}")
    report("labeling", rows, options)


if __name__ == "__main__":
    main()
