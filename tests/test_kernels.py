"""A notebook in a copy of the nursery gives what it gives in papermill's own kernel.

The notebooks stand in tests/strange; each section of them is a test. All are executed once by both engines, in
processes of their own that run beside each other (see beside.py). What shall differ, because papermill's way is a
fault, is asserted as such.
"""

import json
import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from beside import Job, Lane, Result, cell, comparable, read_sections

NOTEBOOKS = {path.stem: read_sections(path) for path in sorted((Path(__file__).parent / "strange").glob("*.txt"))}
SECTIONS = [(notebook, section) for notebook, sections in NOTEBOOKS.items() for section in sections]
DIES = {
    "os._exit": ("import os\nos._exit(7)", "ended by itself with exit code 7"),
    "a segmentation fault": ("import ctypes\nctypes.string_at(0)", "was killed by SIGSEGV"),
    "SIGKILL": ("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)", "was killed by SIGKILL"),
    "abort": ("import os\nos.abort()", "was killed by SIGABRT"),
}
BEFORE = "print('before', flush=True)\n"
MARKS = cell(
    "# picture\n\n![a](attachment:a.png)", kind="markdown", attachments={"a.png": {"image/png": "iVBORw0KGgo="}}
)
WHOLE = [  # notebooks that are one test each, because of an option or because they end badly
    *(Job(name, [cell("x = 1"), cell(BEFORE + source), cell("print('never')")]) for name, (source, _) in DIES.items()),
    Job(
        "an error",
        [cell("print('first')"), cell("print('before'); 1 / 0; print('never')"), cell("print('never')"), MARKS],
    ),
    Job("a syntax error", [cell("x = = 1"), cell("1")]),
    Job(
        "nothing to execute",
        [cell(""), cell("  \n"), cell("# a comment"), cell("raw {text}", kind="raw"), MARKS, cell("")],
    ),
    Job("cells that are skipped", [cell("print('a')"), cell("1 / 0", "skip-execution"), cell("print('b')", "other")]),
    Job("another tag for skipping", [cell("1 / 0", "not now"), cell("'done'")], {"skip_cells_with_tag": "not now"}),
    Job("errors are allowed", [cell("1 / 0"), cell("print('goes on')"), cell("x = (")], {"allow_errors": True}),
    Job(
        "errors of a name are allowed",
        [cell("1 / 0"), cell("[][1]"), cell("1")],
        {"allow_error_names": ["ZeroDivisionError"]},
    ),
    Job(
        "errors are forced",
        [cell("1 / 0", "raises-exception"), cell("1")],
        {"force_raise_errors": True, "allow_errors": True},
    ),
    Job("times are not noted", [cell("1")], {"record_timing": False}),
    Job(
        "streams are put together",
        [cell("import sys\nprint(1); print(2, file=sys.stderr); print(3)")],
        {"coalesce_streams": True},
    ),
    Job("a report", [cell("a = 1", "parameters"), cell("a")], {"report_mode": True}, {"a": 2}),
    Job(
        "parameters",
        [cell("number = 0", "parameters"), cell("number, share, text, nothing, yes, many, named, strange")],
        {},
        {
            "number": -3,
            "share": 1e-9,
            "text": "two\nlines \"quoted\" 'and' \\back 한글 🧪",
            "nothing": None,
            "yes": True,
            "many": [1, [2.5, "x"], {"k": None}],
            "named": {"a b": {"c": [False]}},
            "strange": [float("inf"), float("-inf")],
        },
    ),
    Job("parameters without a cell for them", [cell("later")], {}, {"later": "text"}),
    Job(
        "outputs are logged",
        [
            cell("import sys\nprint('out', flush=True); print('err', file=sys.stderr, flush=True)\n41 + 1"),
            cell("print('second')"),
        ],
        {"log_output": True},
        files=["stdout_file", "stderr_file"],
    ),
    Job(
        "written while a cell runs",
        [
            cell(
                "import time\nfor number in range(30):\n    print('n' + str(number + 700), flush=True); time.sleep(0.1)\n"  # noqa: E501
                "'n702' in open('../out.ipynb').read()"
            )
        ],
        {"autosave_cell_every": 1},
    ),
    Job(
        "memory that is not there",
        [
            cell("import resource\nresource.setrlimit(resource.RLIMIT_DATA, (2**30, 2**30))"),
            cell("x = bytearray(2**31)", "raises-exception"),
            cell("print('goes on')"),
        ],
    ),
    Job(
        "variables of its own",
        [
            cell(
                "import os, time, datetime, locale\nos.environ['TZ'], time.tzname, datetime.datetime.fromtimestamp(0).hour, "  # noqa: E501
                "os.environ['LC_TIME'], locale.setlocale(locale.LC_ALL, ''), os.environ['OMP_NUM_THREADS']"
            ),
            cell(
                "import threadpoolctl, numpy\nnumpy.ones(3) @ numpy.ones(3)\n[one['num_threads'] for one in threadpoolctl.threadpool_info()]"  # noqa: E501
            ),
        ],
        environment={"TZ": "Asia/Seoul", "LC_TIME": "C.UTF-8", "OMP_NUM_THREADS": "1"},
    ),
]
BETTER = [  # notebooks that papermill does not get right; each has a test of its own
    Job(
        "an output widget whose state is not kept",
        [cell("import ipywidgets\nout = ipywidgets.Output()\nwith out: print('caught')\nout"), cell("out.outputs")],
        {"store_widget_state": False},
    ),
    Job(
        "a cell takes too long",
        [cell("1"), cell(BEFORE + "import time\ntime.sleep(60)"), cell("2")],
        {"execution_timeout": 1},
    ),
    Job("half of a pair", [cell("print('half: \\ud83e')"), cell("'\\udcff'"), cell("print('goes on')")]),
    Job(
        "half a character",
        [
            cell(
                "import os, time\nos.write(1, '한'.encode()[:2]); time.sleep(0.2)\n"
                "os.write(1, '한'.encode()[2:] + b'\\n'); time.sleep(0.2)"
            )
        ],
    ),
]
HANGS = {"execution_timeout": 40}  # papermill's own engine hangs now and then where widgets catch output
STATE = {"store_widget_state": True}
JOBS = [
    *(
        Job(name, [one for cells in sections.values() for one in cells], HANGS, engine=STATE)
        for name, sections in NOTEBOOKS.items()
    ),
    *WHOLE,
    *BETTER,
]
Both = Callable[[str], tuple[Result, Result]]


def environment(runtime: Path, **more: str) -> dict[str, str]:
    """What a person's shell would have: nothing of pytest's, and a nursery of these tests' own."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("PYTEST", "MLOPS_NB", "COV_"))}
    return kept | {"MARK": "given", "XDG_RUNTIME_DIR": str(runtime), "MLOPS_NB_NURSERY_IDLE": "60"} | more


@pytest.fixture(scope="module")
def runtime() -> Iterator[Path]:
    """A folder for sockets; what still lives of its nurseries in the end is ended."""
    folder = Path(tempfile.mkdtemp(prefix="nests"))
    yield folder
    for pid in members(folder):
        os.kill(pid, signal.SIGKILL)
    shutil.rmtree(folder, ignore_errors=True)


def members(runtime: Path) -> dict[int, str]:
    """The living processes that belong to the nurseries of a runtime folder: process id and name."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if f"XDG_RUNTIME_DIR={runtime}".encode() in (folder / "environ").read_bytes().split(b"\0"):
                name = (folder / "comm").read_text().strip()
                if name.startswith("mlops_nb") and "\nState:\tZ" not in (folder / "status").read_text():
                    found[int(folder.name)] = name
        except OSError:
            continue
    return found


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory, runtime: Path) -> Iterator[Both]:
    """What our engine and papermill's own make of a notebook; all of them are under way from the beginning."""
    folder = tmp_path_factory.mktemp("kernels")
    ours = Lane("mlops", folder, JOBS, environment(runtime))
    stock = [Lane("stock", folder, JOBS[number::2], environment(runtime)) for number in range(2)]
    kept: dict[str, tuple[Result, Result]] = {}

    def look(name: str) -> tuple[Result, Result]:
        if name not in kept:
            number = next(number for number, job in enumerate(JOBS) if job.name == name)
            kept[name] = ours.read(name), stock[number % 2].read(name)
        return kept[name]

    yield look
    for lane in (ours, *stock):
        lane.kill()


@pytest.fixture(scope="module")
def again(tmp_path_factory: pytest.TempPathFactory, runtime: Path) -> Both:
    """A notebook executed once more by both. Whether a program's output comes before or behind a result is decided by
    threads of ipykernel's, in stock kernels too; on a busy machine that goes either way, and a fault goes one way."""
    kept: dict[str, tuple[Result, Result]] = {}

    def look(name: str) -> tuple[Result, Result]:
        if name not in kept:
            folder, job = tmp_path_factory.mktemp("again"), [one for one in JOBS if one.name == name]
            ours, stock = (Lane(who, folder, job, environment(runtime)) for who in ("mlops", "stock"))
            kept[name] = ours.read(name), stock.read(name)
        return kept[name]

    return look


def said(one: dict[str, Any]) -> str:
    """All text of a cell's outputs."""
    return json.dumps(one.get("outputs", []), ensure_ascii=False)


# Beside papermill


@pytest.mark.parametrize(("notebook", "section"), SECTIONS)
def test_a_section_is_the_same(both: Both, again: Both, notebook: str, section: str) -> None:
    first = sum(len(cells) for cells in list(NOTEBOOKS[notebook].values())[: list(NOTEBOOKS[notebook]).index(section)])
    mine = {f"cell{number:04}" for number in range(first, first + len(NOTEBOOKS[notebook][section]))}
    for look in (both, again):
        results = look(notebook)
        if results[1].error == "CellTimeoutError":
            pytest.skip("papermill's own engine hung")
        ours, stock = ([one for one in comparable(each.notebook)["cells"] if one["id"] in mine] for each in results)
        if ours == stock:
            break
    for one, other in zip(ours, stock, strict=True):
        assert one == other
    assert len(ours) == len(mine)
    assert all(one["metadata"]["papermill"]["status"] == "completed" for one in ours)


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_the_rest_of_a_notebook_is_the_same(both: Both, name: str) -> None:
    ours, stock = both(name)
    if stock.error == "CellTimeoutError":
        pytest.skip("papermill's own engine hung")
    one, other = comparable(ours.notebook), comparable(stock.notebook)
    assert one["metadata"] == other["metadata"] and one["nbformat_minor"] == other["nbformat_minor"]
    assert (ours.error, ours.left) == (stock.error, stock.left)
    assert ours.text == nbformat.writes(nbformat.reads(ours.text, 4)) + "\n" * ours.text.endswith("\n")


@pytest.mark.parametrize("name", [job.name for job in WHOLE if job.name not in DIES])
def test_a_notebook_is_the_same(both: Both, name: str) -> None:
    ours, stock = both(name)
    assert comparable(ours.notebook) == comparable(stock.notebook)
    assert ours.error == stock.error
    assert ours.files == stock.files
    if name == "outputs are logged":
        assert (
            [one for one in stock.log if one in ("out", "err", "42", "second")]
            == [one for one in ours.log if one in ("out", "err", "42", "second")]
            != []
        )
    if name == "written while a cell runs":
        assert "True" in said(ours.notebook["cells"][0])


@pytest.mark.parametrize("name", DIES)
def test_a_kernel_that_dies_is_named_where_papermill_says_completed(both: Both, name: str) -> None:
    ours, stock = both(name)
    assert ours.error == stock.error == "DeadKernelError"
    one, other = comparable(ours.notebook), comparable(stock.notebook)
    died, unseen = one["cells"][1], other["cells"][1]
    assert (
        unseen["metadata"]["papermill"]["status"] == "completed" and died["metadata"]["papermill"]["status"] == "failed"
    )
    assert died["outputs"][0]["text"] == ["before\n"] and died["outputs"][1]["ename"] == "KernelDied"
    assert DIES[name][1] in died["outputs"][1]["evalue"]
    assert one["cells"][0] == other["cells"][0] and one["cells"][2]["outputs"] == []
    assert ours.seconds < stock.seconds


def test_an_output_widget_works_without_its_state_where_papermill_fails(both: Both) -> None:
    ours, stock = both("an output widget whose state is not kept")
    assert (ours.error, stock.error) == ("", "KeyError")
    assert "caught" in said(ours.notebook["cells"][1]) and "widgets" not in ours.notebook["metadata"]


def test_a_cell_that_takes_too_long_ends_the_notebook_as_in_papermill(both: Both) -> None:
    ours, stock = both("a cell takes too long")
    assert ours.error == stock.error == "CellTimeoutError"
    one, other = (comparable(each.notebook)["cells"] for each in (ours, stock))
    assert one[0] == other[0] and one[2] == other[2]
    assert one[1]["outputs"][0] == other[1]["outputs"][0] and len(one[1]["outputs"]) <= len(other[1]["outputs"])


def test_half_of_a_surrogate_pair_is_shown_as_unreadable_where_papermill_loses_the_text(both: Both) -> None:
    ours, stock = both("half of a pair")
    assert ours.error == "" and "half: \ufffd" not in said(stock.notebook["cells"][0])
    first, second, third = (said(one) for one in ours.notebook["cells"])
    assert "half: \ufffd" in first and "udcff" in second and "goes on" in third


def test_a_character_that_is_written_in_two_parts_stays_one(both: Both) -> None:
    ours, stock = both("half a character")
    assert "한" in said(ours.notebook["cells"][0]) and "\ufffd" in said(stock.notebook["cells"][0])
