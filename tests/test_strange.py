"""Notebooks that do strange things, in a copy of the nursery and beside it in papermill's own engine: the same comes out."""

import contextlib
import json
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import papermill
import pytest
from jupyter_client.manager import start_new_kernel
from jupyter_client.provisioning import KernelProvisionerFactory
from nbclient import NotebookClient
from nbclient.exceptions import CellTimeoutError, DeadKernelError
from papermill.exceptions import PapermillExecutionError
from projects import cell, wait_until, write_notebook

# One cell each; the name says what is strange about it. They run one after another in one notebook.
CELLS = {
    "nothing": "",
    "print without a newline": "print('no newline', end='')",
    "print and error stream": "import sys\nprint('a')\nprint('b', file=sys.stderr)\nprint('c')",
    "display is updated": "from IPython.display import display, HTML\nfirst = display('old', display_id='shown')\ndisplay('between')",
    "display of an earlier cell is updated": "first.update('new')",
    "output is cleared": "from IPython.display import clear_output\nprint('gone')\nclear_output()\nprint('stays')",
    "output is cleared when there is more": "for n in range(3):\n    clear_output(wait=True)\n    print(n)",
    "a figure": "%matplotlib inline\nimport matplotlib.pyplot as plt\nfig, ax = plt.subplots(figsize=(2, 1))\nax.plot([1, 3, 2]);",
    "a figure that is closed": "plt.figure(); plt.close('all')",
    "captured": "%%capture caught\nprint('inside')",
    "captured is shown": "caught.show()",
    "another shell": "%%bash\necho from bash\necho to its error stream >&2",
    "a command": "!echo from a command",
    "a file is written": "%%writefile made.txt\nsome text",
    "a line magic": "%env MLOPS_STRANGE=1",
    "await at the top": "import asyncio\nawait asyncio.sleep(0.01)\n'awaited'",
    "a task that is gathered": "await asyncio.gather(*(asyncio.sleep(0, n) for n in range(3)))",
    "output of C code": "import ctypes\nlibc = ctypes.CDLL(None)\nlibc.puts(b'from C'); libc.fflush(None);",
    "output of a subprocess": "import subprocess\nsubprocess.run(['echo', 'from a subprocess']).returncode",
    "os.system": "import os\nos.system('echo from os.system')",
    "os.write": "os.write(1, '다국어 bytes\\n'.encode());",
    "multiprocessing": "import multiprocessing\nwith multiprocessing.get_context('fork').Pool(2) as pool:\n    squares = pool.map(abs, [-3, 2])\nsquares",
    "loky": "from joblib import Parallel, delayed\nParallel(n_jobs=2)(delayed(pow)(n, 2) for n in range(4))",
    "threads": "import threading\nsaid = []\nworkers = [threading.Thread(target=said.append, args=(n,)) for n in range(4)]\n"
               "[one.start() for one in workers]; [one.join() for one in workers]; sorted(said)",
    "a thread that prints": "one = threading.Thread(target=print, args=('from a thread',)); one.start(); one.join()",
    "a fork": "pid = os.fork()\nif pid == 0:\n    os._exit(3)\nos.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])",
    "a fork that prints": "pid = os.fork()\nif pid == 0:\n    print('from the child', flush=True)\n    os._exit(0)\nos.waitpid(pid, 0)[1]",
    "a widget": "import ipywidgets\nslider = ipywidgets.IntSlider(3)\nslider.value = 5\nslider.value",
    "an output widget": "out = ipywidgets.Output()\nwith out:\n    print('caught')\nlen(out.outputs)",
    "a progress bar": "from tqdm import tqdm\nsum(tqdm(range(3), file=open(os.devnull, 'w')))",
    "a table": "import pandas as pd\npd.DataFrame({'a': [1, 2], 'b': ['x', '한글']})",
    "numpy's numbers": "import numpy as np\nnp.random.default_rng(0).normal(size=3)",
    "a fit": "from sklearn.ensemble import HistGradientBoostingRegressor\nX = np.random.default_rng(0).normal(size=(500, 3))\n"
             "HistGradientBoostingRegressor(random_state=0).fit(X, X[:, 0]).predict(X[:2])",
    "a matrix product": "(X.T @ X).round(6)",
    "linear algebra": "np.linalg.svd(X, compute_uv=False).round(6)",
    "parquet": "import io\ndata = io.BytesIO(); pd.DataFrame({'a': [1]}).to_parquet(data); pd.read_parquet(data)",
    "duckdb": "import duckdb\nduckdb.sql('select 41 + 1 as answer').fetchall()",
    "a warning": "import warnings\nwarnings.simplefilter('always')\nwarnings.warn('careful', stacklevel=1)",
    "a log record": "import logging\nlogging.getLogger('strange').warning('logged')",
    "half a surrogate pair": "'\\ud83d' == 'x'",
    "colours": "print('\\x1b[31mred\\x1b[0m')",
    "a long text": "print('x' * 200_000)",
    "html": "HTML('<b>bold</b>')",
    "many results": "from IPython.core.interactiveshell import InteractiveShell\n1\n2",
    "the arguments": "import sys\nlen(sys.argv) > 0, __name__, sys.flags.hash_randomization in (0, 1)",
    "the folder": "os.getcwd() == os.path.realpath('.') and sorted(os.listdir('.'))",
    "the history": "len(In) > 10, _i1 == In[1]",
    "the last results": "_",
}
ALLOWED = {  # cells that raise, and are allowed to
    "an error that is allowed": "1 / 0",
    "an error with a cause": "try:\n    {}['k']\nexcept KeyError as error:\n    raise ValueError('한 문장') from error",
    "input": "input('who? ')",
    "input of a password": "import getpass\ngetpass.getpass()",
    "a syntax error": "x = = 1",
    "a magic that is not there": "%nosuchmagic",
}


def notebook(path: Path, *cells: dict[str, Any]) -> Path:
    return write_notebook(path, list(cells))


def tidy(text: str) -> str:
    """A text without what differs between two runs of the same engine: addresses, numbers of processes, temporary files."""
    text = re.sub(r"0x[0-9a-f]+", "0x", text)
    text = re.sub(r"ipykernel_\d+/\d+", "ipykernel", text)
    return re.sub(r"(pid=|\bmodel_id\W+)[0-9a-f]+", r"\1", text)


def normalise(path: Path) -> list[dict[str, Any]]:
    """The cells of an executed notebook without times, ids and addresses, consecutive texts of one stream joined."""
    cells = [one for one in json.loads(tidy(path.read_text("utf-8")))["cells"]
             if "papermill-error-cell-tag" not in one["metadata"].get("tags", [])]
    for one in cells:
        one.pop("id")
        noted = one["metadata"]["papermill"]
        one["metadata"] = one["metadata"] | {"papermill": {"status": noted["status"], "exception": noted["exception"]},
                                             "execution": sorted(one["metadata"].get("execution", {}))}
        joined: list[dict[str, Any]] = []
        for output in one.get("outputs", []):
            if joined and output["output_type"] == "stream" == joined[-1]["output_type"] and output["name"] == joined[-1]["name"]:
                joined[-1]["text"] = "".join([*joined[-1]["text"], *output["text"]]).splitlines(keepends=True)
            else:
                joined.append(output)
        one["outputs"] = joined
    return cells


@pytest.fixture(scope="module")
def both(tmp_path_factory) -> dict[str, dict[str, dict[str, Any]]]:
    """All cells, executed by papermill's own engine and by ours; for each engine name and cell what came out."""
    folder = tmp_path_factory.mktemp("strange")
    source = notebook(folder / "in.ipynb", *(cell("code", text) for text in CELLS.values()),
                      *(cell("code", text, "raises-exception") for text in ALLOWED.values()),
                      cell("code", "1 / 0", "skip-execution"), cell("markdown", "# 제목"))
    found = {}
    for name in ("mlops_nb", "stock"):
        place = folder / name
        place.mkdir()
        with pytest.raises(PapermillExecutionError):  # of the first error that was allowed: papermill minds it afterwards
            papermill.execute_notebook(str(source), str(folder / f"{name}.ipynb"), progress_bar=False, cwd=str(place),
                                       engine_name=name if name == "mlops_nb" else None)
        names = [*CELLS, *ALLOWED, "skipped", "text"]
        found[name] = dict(zip(names, normalise(folder / f"{name}.ipynb"), strict=True))
    return found


@pytest.mark.parametrize("name", [*CELLS, *ALLOWED, "skipped", "text"])
def test_a_strange_cell_gives_what_papermill_gives(both, name):
    assert both["mlops_nb"][name] == both["stock"][name]


def test_the_strange_cells_did_something(both):
    said = json.dumps(both["mlops_nb"], ensure_ascii=False)
    for text in ("from C", "from a subprocess", "from os.system", "다국어 bytes", "from a thread", "from the child", "caught",
                 "ZeroDivisionError", "StdinNotImplementedError", "image/png"):
        assert text in said, text


def execute(folder: Path, *cells: dict[str, Any], **options: Any) -> Path:
    """Execute cells with our engine; gives the path of the executed notebook, also when it raised."""
    out = folder / "out.ipynb"
    papermill.execute_notebook(str(notebook(folder / "in.ipynb", *cells)), str(out), engine_name="mlops_nb", progress_bar=False,
                               **options)
    return out


@pytest.mark.parametrize(("source", "how"), [
    ("import os\nprint('before', flush=True)\nos._exit(7)", "ended by itself with exit code 7"),
    ("import ctypes\nprint('before')\nctypes.string_at(0)", "was killed by SIGSEGV"),
    ("import os, signal\nprint('before')\nos.kill(os.getpid(), signal.SIGKILL)", "was killed by SIGKILL"),
    ("import os\nprint('before')\nos.abort()", "was killed by SIGABRT"),
], ids=["os._exit", "SIGSEGV", "SIGKILL", "abort"])
def test_a_kernel_that_dies_is_noticed_at_once_and_named(tmp_path, source, how):
    """papermill's own engine ends these too, but leaves the cell as if it had been completed."""
    with pytest.raises(DeadKernelError):
        execute(tmp_path, cell("code", "x = 1"), cell("code", source), cell("code", "print('never')"))
    cells = json.loads((tmp_path / "out.ipynb").read_text("utf-8"))["cells"]
    assert [one["metadata"]["papermill"]["status"] for one in cells] == ["completed", "failed", "pending"]
    assert how in cells[1]["outputs"][-1]["evalue"] and cells[2]["outputs"] == []


def test_a_dead_kernel_takes_nothing_with_it(tmp_path):
    for number in range(3):
        (tmp_path / str(number)).mkdir()
        with pytest.raises(DeadKernelError):
            execute(tmp_path / str(number), cell("code", "import os; os._exit(1)"))
    assert execute(tmp_path, cell("code", "1 + 1")).exists()


def test_memory_beyond_its_limit_is_a_named_error(tmp_path):
    with pytest.raises((PapermillExecutionError, DeadKernelError)) as raised:
        execute(tmp_path, cell("code", "import numpy as np"), cell("code", "x = np.ones((1000, 1000, 1000))"),
                limits={"memory_mb": 1000})
    assert "memory" in str(raised.value).lower() or "died" in str(raised.value)
    execute(tmp_path, cell("code", "import numpy as np\nx = np.ones((100, 1000, 100))"), limits={"memory_mb": 1000})


def test_processor_time_beyond_its_limit_ends_the_kernel(tmp_path):
    with pytest.raises(DeadKernelError):
        execute(tmp_path, cell("code", "while True: pass"), limits={"cpu_seconds": 1})
    assert "SIGXCPU" in (tmp_path / "out.ipynb").read_text("utf-8")


def test_a_cell_that_takes_too_long_ends_as_in_papermill(tmp_path):
    for engine in ("mlops_nb", None):
        with pytest.raises(CellTimeoutError):
            papermill.execute_notebook(str(notebook(tmp_path / "in.ipynb", cell("code", "import time; time.sleep(60)"))),
                                       str(tmp_path / "out.ipynb"), engine_name=engine, progress_bar=False, execution_timeout=1)


def test_ctrl_c_reaches_a_cell(tmp_path):
    """An interrupt of the kernel's process raises KeyboardInterrupt in the cell, and the notebook ends there."""
    told = tmp_path / "pid"
    source = f"import os, pathlib, time\npathlib.Path({str(told)!r}).write_text(str(os.getpid()))\ntime.sleep(60)"

    def interrupt() -> None:
        wait_until(lambda: told.exists() and told.read_text(), "the cell runs")
        os.kill(int(told.read_text()), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises(PapermillExecutionError, match="KeyboardInterrupt"):
        execute(tmp_path, cell("code", source), cell("code", "print('never')"))


def test_a_cell_that_prints_without_end_is_cut(tmp_path):
    out = execute(tmp_path, cell("code", "for _ in range(3000):\n    print('y' * 100_000)"), cell("code", "print('after')"))
    cells = json.loads(out.read_text("utf-8"))["cells"]
    text = "".join(cells[0]["outputs"][0]["text"])
    assert 99 * 2**20 < len(text) < 102 * 2**20 and "the output ends here" in text[-200:]
    assert cells[1]["outputs"][0]["text"] == ["after\n"]


def test_five_thousand_cells(tmp_path):
    out = execute(tmp_path, *(cell("code", f"x = {number}") for number in range(5000)), cell("code", "x"))
    cells = json.loads(out.read_text("utf-8"))["cells"]
    assert cells[-1]["outputs"][0]["data"]["text/plain"] == ["4999"] and cells[-1]["execution_count"] == 5001


def test_exit_functions_run_before_the_notebook_counts_as_done(tmp_path):
    execute(tmp_path, cell("code", f"import atexit, pathlib\natexit.register(pathlib.Path({str(tmp_path / 'left')!r}).touch)"))
    assert (tmp_path / "left").exists()


PROBE = """import json, os, random, secrets, sys, tempfile, threading, uuid
import numpy as np
from IPython import get_ipython
open_fds = sorted(os.readlink(f'/proc/self/fd/{n}') for n in os.listdir('/proc/self/fd') if os.path.exists(f'/proc/self/fd/{n}'))
print(json.dumps({"random": random.random(), "numpy": float(np.random.rand()), "uuid": uuid.uuid4().hex, "secret": secrets.token_hex(4),
    "temporary": tempfile.mktemp(), "fds": open_fds, "cwd": os.getcwd(), "marker": os.environ.get("STRANGE"),
    "hidden": os.environ.get("JE_ARROW_MALLOC_CONF"), "umask": oct(os.umask(0o022)), "pid": os.getpid(),
    "history": get_ipython().history_manager.enabled, "signal": [], "main": sys.modules["__main__"].__name__,
    "threads": threading.active_count(), "session": os.getsid(0) == os.getpid()}))"""


def test_two_kernels_share_nothing(tmp_path):
    found = []
    for number in range(2):
        folder = tmp_path / str(number)
        folder.mkdir()
        secret = open(tmp_path / "held", "w")
        os.set_inheritable(secret.fileno(), True)
        out = execute(folder, cell("code", PROBE), cwd=str(folder), kernel_environment={"STRANGE": str(number)})
        found.append(json.loads("".join(json.loads(out.read_text())["cells"][0]["outputs"][0]["text"])))
        secret.close()
    one, two = found
    for name in ("random", "numpy", "uuid", "secret", "temporary", "pid"):
        assert one[name] != two[name], name
    assert (one["marker"], two["marker"]) == ("0", "1") and one["cwd"] == str(tmp_path / "0")
    assert one["hidden"] is None and one["history"] is False and one["main"] == "__main__" and one["session"]
    assert not any("held" in name or name.endswith((".sock", "settings.ini")) for name in one["fds"])
    assert sum(name.startswith("socket:") for name in one["fds"]) <= 3, one["fds"]  # its channel, and its event loop's pair


@pytest.fixture
def package(tmp_path, monkeypatch) -> Path:
    """A project with a package of its own, and a library that is installed in a folder of its own."""
    (tmp_path / "settings.ini").write_text("[project]\nname = stale\npackage = own\n")
    (tmp_path / "own").mkdir()
    (tmp_path / "own/__init__.py").write_text("")
    (tmp_path / "own/code.py").write_text("def answer():\n    return 'old'\n")
    monkeypatch.setenv("MLOPS_NB_PROJECT", str(tmp_path))
    monkeypatch.setenv("MLOPS_NB_NURSERY_IDLE", "20")
    return tmp_path


def say(folder: Path, source: str) -> str:
    cells = json.loads(execute(folder, cell("code", source), kernel_environment={"PYTHONPATH": str(folder)}).read_text())["cells"]
    return "".join(cells[0]["outputs"][0]["text"]).strip()


def test_an_edited_module_of_the_project_is_what_the_next_kernel_runs(package):
    assert say(package, "from own.code import answer; print(answer())") == "old"
    (package / "own/code.py").write_text("def answer():\n    return 'new one'\n")
    assert say(package, "from own.code import answer; print(answer())") == "new one"


def test_a_module_that_was_written_while_it_was_imported_is_imported_again(package):
    """What the nursery read of it may have been a half: at its first request it makes room for another one."""
    site = Path(next(folder for folder in sys.path if folder.endswith("site-packages")))
    library, imports = site / "mlops_nb_strange_half.py", package / "imports"
    try:
        library.write_text(f"import os\nif not os.path.exists({str(imports)!r}):\n    os.utime(__file__)\n"
                           f"print(os.getpid(), file=open({str(imports)!r}, 'a'))\n")
        (package / "settings.ini").write_text("[project]\nname = stale\npreload = mlops_nb_strange_half\n")
        second = [say(package, "import os, mlops_nb_strange_half; print(os.getppid())") for _ in range(2)]
        pids = imports.read_text().split()
        assert len(pids) == 2 and second == [pids[1]] * 2
    finally:
        library.unlink(missing_ok=True)


@pytest.mark.parametrize("how", ["edited in place", "installed anew"])
def test_a_library_that_changes_is_imported_anew(package, monkeypatch, how):
    """Installed where this Python looks for libraries, learned from a notebook, then changed."""
    site = Path(next(folder for folder in sys.path if folder.endswith("site-packages")))
    library = site / "mlops_nb_strange_library.py"
    try:
        library.write_text("answer = 'old'\n")
        ask = "import mlops_nb_strange_library as one; print(one.answer, 'mlops_nb_strange_library' in known)"
        source = f"import sys; known = set(sys.modules)\n{ask}"
        wait_until(lambda: say(package, source) == "old True", "the nursery has learned the library", 20)
        if how == "installed anew":
            library.unlink()
        library.write_text("answer = 'new one'\n")
        assert say(package, source).startswith("new one")
    finally:
        library.unlink(missing_ok=True)


def test_a_library_that_starts_a_thread_is_left_to_the_kernels(package):
    site = Path(next(folder for folder in sys.path if folder.endswith("site-packages")))
    library = site / "mlops_nb_strange_thread.py"
    try:
        library.write_text("import threading, time\nthreading.Thread(target=time.sleep, args=(3600,), daemon=True).start()\nvalue = 'works'\n")
        for _ in range(4):
            assert say(package, "import mlops_nb_strange_thread as one; print(one.value)") == "works"
            time.sleep(0.2)
    finally:
        library.unlink(missing_ok=True)


def calls_itself(pid: str) -> str:
    """The name of a process, which may have ended since it was found."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/comm").read_text().strip()
    return ""


def nests(root: Path) -> list[int]:
    """The process ids of the nurseries for a folder."""
    found = subprocess.run(["pgrep", "-f", f"mlops_nb.nursery import serve.*{root}"], capture_output=True, text=True, check=False)
    return [int(pid) for pid in found.stdout.split() if calls_itself(pid) == "mlops_nb nest"]


def test_the_nursery_has_one_thread_and_ends_when_nobody_needs_it(package, monkeypatch):
    monkeypatch.setenv("MLOPS_NB_NURSERY_IDLE", "1")
    wait_until(lambda: say(package, "import pandas, sklearn.ensemble, pyarrow, duckdb, matplotlib.pyplot\nprint('known')"), "a kernel")
    for pid in nests(package):
        assert len(os.listdir(f"/proc/{pid}/task")) == 1
    wait_until(lambda: not nests(package), "the nursery has ended", 20)


def test_a_nursery_that_is_killed_takes_no_kernel_with_it(package):
    say(package, "print('begun')")
    told = package / "told"
    source = f"import pathlib, time\npathlib.Path({str(told)!r}).touch()\ntime.sleep(1)\nprint('survived')"

    def kill() -> None:
        wait_until(told.exists, "the cell runs")
        for pid in nests(package):
            os.kill(pid, signal.SIGKILL)

    threading.Thread(target=kill).start()
    assert say(package, source) == "survived"
    assert say(package, "print('and the next one')") == "and the next one"


def test_without_the_nursery_a_notebook_gets_an_ordinary_kernel(tmp_path, monkeypatch):
    monkeypatch.setenv("MLOPS_NB_NURSERY", "off")
    assert say(tmp_path, "import os; print(os.path.basename(open('/proc/self/cmdline').read().split(chr(0))[0])[:6])") == "python"


def test_a_kernel_that_does_not_exist_and_a_library_that_is_not_there(tmp_path):
    with pytest.raises(Exception, match="nosuch"):
        execute(tmp_path, cell("code", "1"), kernel_name="nosuch")
    with pytest.raises(PapermillExecutionError, match="no_such_library"):
        execute(tmp_path, cell("code", "import no_such_library"))


def test_the_usual_name_of_pythons_kernel_is_a_copy_too(tmp_path, caplog):
    """jupyter_client takes `python` for `python3`; and what is executed is told in papermill's log."""
    caplog.set_level("INFO", "papermill")
    source = "import os; print(open(f'/proc/{os.getppid()}/comm').read())"
    out = execute(tmp_path, cell("code", source), kernel_name="python")
    assert "mlops_nb nest" in out.read_text("utf-8")
    assert "Executing notebook with kernel: python" in caplog.messages


@pytest.mark.parametrize(("every", "saved"), [(0, False), (1, True)])
def test_a_notebook_is_saved_within_a_cell_unless_that_is_turned_off(tmp_path, every, saved):
    out = tmp_path / "out.ipynb"
    source = (f"import time\nfor n in range(15):\n    print('line', n, flush=True); time.sleep(0.1)\n"
              f"print('line 3' in open({str(out)!r}).read())".replace("line 3", "li' 'ne 3"))
    execute(tmp_path, cell("code", source), autosave_cell_every=every)
    assert "".join(json.loads(out.read_text("utf-8"))["cells"][0]["outputs"][0]["text"]).endswith(f"{saved}\n")


@pytest.fixture
def provisioner(monkeypatch) -> Iterator[None]:
    """Kernels come from our provisioner, whichever client asks; jupyter_client reads once which one is the default."""
    monkeypatch.setenv("JUPYTER_DEFAULT_PROVISIONER_NAME", "mlops_nb")
    KernelProvisionerFactory.clear_instance()
    yield
    KernelProvisionerFactory.clear_instance()


def execute_with_nbclient(_: int = 0) -> str:
    """What a kernel says that nbclient gets from our provisioner."""
    nb = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("print('hello')")])
    NotebookClient(nb, kernel_name="python3").execute()
    return nb.cells[0].outputs[0].text


def test_kernels_for_a_process_that_is_a_fork_of_one_that_had_some(provisioner):
    """Threads that asyncio kept from the first kernel are not there in the fork, and must not be waited for."""
    assert execute_with_nbclient() == "hello\n"
    with multiprocessing.get_context("fork").Pool(2) as pool:
        assert pool.map_async(execute_with_nbclient, range(4)).get(60) == ["hello\n"] * 4


SLOW_STREAMS = """import sys, time
schedule = sys.stdout.pub_thread.schedule
sys.stdout.pub_thread.schedule = lambda what: (time.sleep(0.3), schedule(what))"""


def test_a_kernel_that_is_asked_to_end_ends_by_itself(provisioner):
    """It flushes its streams while it ends; nobody has to kill it, also when that takes a while."""
    manager, client = start_new_kernel()
    fork = manager.provisioner.process
    client.execute_interactive(SLOW_STREAMS, timeout=60)
    client.stop_channels()
    manager.shutdown_kernel()
    assert fork.returncode == 0
