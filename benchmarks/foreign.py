"""A pytest plug-in for suites of others: puts ours in the place of the stock part, and keeps how each test ended.

`MLOPS_NB_FOREIGN` names what to put in: `engine`, papermill's default engine; `provisioner`, what starts kernels; or
`stock`, nothing. How each test ended, and how often ours was really used by then, is a line of JSON in the file
`MLOPS_NB_FOREIGN_RESULTS`: what came before a crash of the whole process is not lost.
"""

import json
import os
from typing import Any

used: list[str] = []


def use_engine() -> None:
    """Make our engine papermill's default."""
    from papermill.engines import papermill_engines

    from mlops_nb.engine import Engine

    class CountedEngine(Engine):
        @classmethod
        def execute_notebook(cls, *words: Any, **options: Any) -> Any:
            used.append("engine")
            return super().execute_notebook(*words, **options)

    papermill_engines.register(None, CountedEngine)


def use_provisioner() -> None:
    """Have every kernel started by our provisioner."""
    from mlops_nb.provisioner import WarmProvisioner

    launch = WarmProvisioner.launch_kernel

    async def launch_counted(self: Any, *words: Any, **options: Any) -> Any:
        used.append("provisioner")
        return await launch(self, *words, **options)

    WarmProvisioner.launch_kernel = launch_counted  # type: ignore[method-assign]
    os.environ["JUPYTER_DEFAULT_PROVISIONER_NAME"] = "mlops_nb"


def pytest_configure() -> None:
    """Put ours in."""
    {"engine": use_engine, "provisioner": use_provisioner, "stock": lambda: None}[os.environ["MLOPS_NB_FOREIGN"]]()


def pytest_runtest_logreport(report: Any) -> None:
    """Keep how a test ended; a failure of its set-up or of its tidying up is one of the test."""
    if report.when == "call" or report.outcome != "passed":
        with open(os.environ["MLOPS_NB_FOREIGN_RESULTS"], "a", encoding="utf-8") as results:
            results.write(json.dumps([report.nodeid, report.outcome, len(used)]) + "\n")
