"""A pytest plug-in for suites of others: puts ours in the place of the stock part, and keeps what happened.

`MLOPS_NB_FOREIGN` names what to put in: `engine`, in the place of papermill's own; `provisioner`, what starts kernels;
or `stock`, nothing. Each event is a line of JSON in the file `MLOPS_NB_FOREIGN_RESULTS`: how a test ended, and whether
a kernel was a copy of the nursery or an ordinary one. So nothing is lost when the whole process crashes, and kernels
that the tests' own processes start count too. Run as a program, this is `papermill` with our engine as the default.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from functools import wraps
from typing import Any


def note(*words: str) -> None:
    """Add a line to the results, whole also when several processes do so."""
    results = os.open(os.environ["MLOPS_NB_FOREIGN_RESULTS"], os.O_WRONLY | os.O_APPEND)
    os.write(results, json.dumps(words).encode() + b"\n")
    os.close(results)


def note_kernel(kind: str) -> None:
    """A kernel of a kind was given to the test that runs."""
    note("kernel", os.environ.get("PYTEST_CURRENT_TEST", "").rpartition(" ")[0], kind)


def noting(kind: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """The same function, noting each kernel that it uses; not when the nursery had none to give."""
    from mlops_nb.forks import ForkError

    @wraps(function)
    def noted(*words: Any, **options: Any) -> Any:
        found = kind
        try:
            return function(*words, **options)
        except ForkError:
            found = "refused"
            raise
        finally:
            note_kernel(found)

    return noted


def use_engine() -> None:
    """Put our engine and its manager in the place of papermill's, whether they are asked for by name or not."""
    from papermill import engines

    from mlops_nb import execution
    from mlops_nb.client import Manager

    execution.open_channel = noting("copy", execution.open_channel)
    execution.execute_ordinarily = noting("ordinary", execution.execute_ordinarily)
    engines.NotebookExecutionManager, engines.NBClientEngine = Manager, execution.NotebookEngine
    for name in (None, "nbclient"):
        engines.papermill_engines.register(name, execution.NotebookEngine)


def use_engine_in_commands() -> None:
    """Have also the tests that start a process of papermill's start one with our engine."""
    begin = subprocess.Popen.__init__

    def begin_ours(self: Any, command: Any, *words: Any, **options: Any) -> None:
        if list(command[1:3]) == ["-m", "papermill"]:
            command = [command[0], __file__, *command[3:]]
        begin(self, command, *words, **options)

    subprocess.Popen.__init__ = begin_ours  # type: ignore[method-assign]


def use_provisioner() -> None:
    """Have every kernel started by our provisioner."""
    from mlops_nb.forks import Fork
    from mlops_nb.provisioner import WarmProvisioner

    launch = WarmProvisioner.launch_kernel

    async def launch_noted(self: Any, *words: Any, **options: Any) -> Any:
        made = await launch(self, *words, **options)
        note_kernel("copy" if isinstance(self.process, Fork) else "ordinary")
        return made

    WarmProvisioner.launch_kernel = launch_noted  # type: ignore[method-assign]
    os.environ["JUPYTER_DEFAULT_PROVISIONER_NAME"] = "mlops_nb"


def pytest_configure() -> None:
    """Put ours in."""
    way = os.environ["MLOPS_NB_FOREIGN"]
    if way == "engine":
        use_engine()
        use_engine_in_commands()
    elif way == "provisioner":
        use_provisioner()


def pytest_runtest_logreport(report: Any) -> None:
    """Keep how a test ended; a failure of its set-up or of its tidying up is one of the test."""
    if report.when == "call" or report.outcome != "passed":
        note("test", report.nodeid, report.outcome)


if __name__ == "__main__":
    from papermill.cli import papermill

    use_engine()
    sys.path[0] = ""  # as `python -m papermill` has it
    papermill()
