"""A stage that failed goes on at the failed cell, in its own kernel: real kernels, kept by real keepers."""

import json
import os
import signal
from pathlib import Path

import pytest
from projects import Project, cell, is_living, wait_until, write_notebook

SLOW = """(Path(os.environ['MLOPS_NB_PROJECT']) / 'loaded.txt').open('a').write(f'{os.getpid()}\\n')
rows = list(range(depth))"""
PARAMETERS = 'depth: int = 5\nfirst: Output = "first"\nlast: Output = "last"'
BROKEN = "1 / 0"
MENDED = "save(last, [sum(rows)])"


@pytest.fixture
def failing(make_project) -> Project:
    """A project of one stage whose second cell is slow and whose fourth one fails, after it has saved something."""
    project = make_project()
    project.configure(package="scratch")
    write(project, BROKEN)
    yield project
    project.ask("kernels", "--end")


def write(project: Project, last: str, slow: str = SLOW, third: str = "save(first, rows)") -> None:
    project.stage("01_train", PARAMETERS, slow, third, last, imports="import os\nfrom pathlib import Path")


def loads(project: Project) -> list[str]:
    """The process that executed the slow cell, once for each time."""
    return (project.root / "loaded.txt").read_text().split()


def kept(project: Project) -> str:
    answer = project.ask("kernels")
    assert answer.code == 0, answer.err
    return answer.said


def value(project: Project, name: str) -> str:
    return project.ask("show", name).said


def test_a_mended_cell_goes_on_where_it_failed(failing):
    said = failing.run("--keep", code=1, warm=True)
    assert "its kernel is kept" in said and "mlops-nb run --resume" in said
    kernel = int(loads(failing)[0])
    assert is_living(kernel) and "cell 6" in kept(failing) and str(kernel) in kept(failing)
    assert not failing.query("SELECT * FROM artifacts"), "nothing of a failed stage can be seen"
    write(failing, MENDED)
    said = failing.run("--resume", warm=True)
    assert "goes on at cell 6 in the kernel of run" in said
    assert len(loads(failing)) == 1, "the slow cell was not executed again"
    wait_until(lambda: not is_living(kernel), "the kernel has ended", 10)
    assert "no kernel is kept" in kept(failing)
    assert sorted(name for name, _ in failing.catalog()) == ["train.first", "train.last"]
    assert "10" in value(failing, "train.last")
    cells = [one for one in failing.output("train")["cells"] if one["cell_type"] == "code"]
    assert [one["execution_count"] for one in cells] == [1, 2, 3, 4, 6], "the failed one was the fifth"
    assert all(one["metadata"]["papermill"]["status"] == "completed" for one in cells)
    assert "= train reused" in failing.run(warm=True)


def test_what_was_printed_before_stays_in_the_notebook(failing):
    write(failing, BROKEN, SLOW + "\nprint('loaded', len(rows))\nrows")
    failing.run("--keep", "-p", "train.depth=3", code=1, warm=True)
    before = failing.output("train")["cells"]
    write(failing, MENDED, SLOW + "\nprint('loaded', len(rows))\nrows")
    failing.run("--resume", warm=True)
    after = failing.output("train")["cells"]
    texts = [[one["outputs"] for one in cells if "loaded.txt" in "".join(one["source"])] for cells in (before, after)]
    assert texts[0] == texts[1] and "loaded 3" in json.dumps(texts[1]) and "[0, 1, 2]" in json.dumps(texts[1])
    assert [one["source"] for one in after if "injected-parameters" in one["metadata"]["tags"]]


def test_it_may_fail_and_be_mended_again_and_again(failing):
    """A cell that has saved something and then fails saves it again when it is executed again."""
    write(failing, "save(last, [1])\n1 / 0")
    failing.run("--keep", code=1, warm=True)
    write(failing, "save(last, [2])\n[][0]")
    assert "IndexError" in failing.run("--resume", code=1, warm=True)
    write(failing, "save(last, [3])")
    assert "goes on at cell 6" in failing.run("--resume", warm=True)
    assert len(loads(failing)) == 1 and "3" in value(failing, "train.last")


@pytest.mark.parametrize("change", ["an earlier cell", "a parameter", "a function", "a new function",
                                    "nothing that matters"])
def test_what_changed_before_the_cell_begins_anew(failing, change):
    """And says what it was. A changed function is in the package, which the kernel has imported."""
    library = failing.root / "nbs" / "00_lib.ipynb"
    def lib(body: str) -> None:
        code = f"#| export\ndef double(x):\n    return {body}"
        write_notebook(library, [cell("code", "#| default_exp lib"), cell("code", code)])

    lib("2 * x")
    uses = "from scratch.lib import double\n" + SLOW
    write(failing, "double(rows) / 0", uses)
    failing.run("--keep", code=1, warm=True)
    if change == "a function":
        lib("x + x")
    if change == "a new function":
        lib("2 * x\n\ndef triple(x):\n    return 3 * x")
    more = "; from scratch.lib import triple; triple(1)" if change == "a new function" else ""
    earlier = " + [1]" if change == "an earlier cell" else "  # a remark"
    write(failing, f"save(last, [double(1)]){more}", uses + earlier)
    if change == "a parameter":
        path = failing.root / "nbs" / "stages" / "01_train.ipynb"
        path.write_text(path.read_text("utf-8").replace("depth: int = 5", "depth: int = 6"), "utf-8")
    said = failing.run("--resume", warm=True)
    anew = {"an earlier cell": "code changed", "a parameter": "parameter depth: 5 → 6",
            "a function": "lib.double changed", "a new function": "lib.triple changed"}
    if change in anew:
        assert "anew and not in the kernel that was kept" in said and anew[change] in said, said
        assert len(loads(failing)) == 2 and "train" in kept(failing), "it is still there: perhaps the change was a slip"
    else:
        assert "goes on at cell" in said and len(loads(failing)) == 1


def test_a_kept_kernel_ends_with_its_keeper_and_the_other_way_round(failing):
    failing.run("--keep", code=1, warm=True)
    first = int(loads(failing)[0])
    assert "no kernel is kept for `trian`" in failing.ask("kernels", "trian").said
    assert "ended" in failing.ask("kernels", "train", "--end").said
    wait_until(lambda: not is_living(first), "the kernel has ended", 10)
    assert "no result yet" in failing.run("--resume", "--keep", code=1, warm=True), "there is none, so it begins anew"
    second = int(loads(failing)[1])
    os.kill(second, signal.SIGKILL)
    wait_until(lambda: "no kernel is kept" in kept(failing), "the keeper has noticed", 10)
    assert not list(Path(os.environ.get("XDG_RUNTIME_DIR", "/tmp")).glob("*mlops_nb*/*.kept"))


def test_only_the_last_try_is_kept_and_a_dead_kernel_never(failing):
    failing.configure("[stage.train]\nretries = 1\nretry_wait = 0")
    failing.run("--keep", code=1, warm=True)
    first, second = map(int, loads(failing))
    assert not is_living(first) and is_living(second)
    write(failing, "os.kill(os.getpid(), 9)")
    assert "its kernel is kept" not in failing.run("--keep", code=1, warm=True)
    assert kept(failing).count("cell 6") == 1, "that of the first run alone"


def test_a_kernel_is_kept_without_a_terminal_or_a_runner(failing):
    """The runner's process group is killed after the run; the kernel belongs to its keeper."""
    answer = failing.call("run", "--keep", "--json")
    assert answer.code == 1
    told = [json.loads(line) for line in answer.out.splitlines()]
    event = next(one for one in told if one["event"] == "kernel-kept")
    assert event["cell"] == 6 and event["stage"] == "train" and is_living(event["pid"])
    assert next(one for one in told if one["event"] == "stage-ended")["error"]["kept"] is True
    failing.environment["MLOPS_NB_KEEP_HOURS"] = "0"
    failing.run("--keep", code=1, warm=True)
    assert "of run" in kept(failing) and kept(failing).count("cell 6") == 1, "the second one's patience is over"


def test_keeping_elsewhere_is_refused(failing):
    assert "on this machine only" in failing.ask("run", "--keep", "--on", "dask").said
