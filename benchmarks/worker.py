"""A process that is up already and does one thing again and again: JSON in a line, wall seconds in a line out.

    python worker.py notebook [ENGINE]     execute {"source", "output"} with papermill's API
    python worker.py kernel                a new kernel through jupyter_client: until {"code"} is answered
    python worker.py fork MODULE ...       after importing the modules: fork and run the script {"source"}
"""

import asyncio
import importlib
import json
import os
import sys
import time
from collections.abc import Callable


def executing(engine: str = "") -> Callable[..., float]:
    """Execute notebooks with papermill."""
    from papermill import execute_notebook

    options = {"engine_name": engine} if engine else {}

    def execute(source: str, output: str) -> float:
        begin = time.perf_counter()
        execute_notebook(source, output, progress_bar=False, **options)
        return time.perf_counter() - begin

    return execute


def starting() -> Callable[..., float]:
    """Start kernels with jupyter_client. The code is sent at once: the socket keeps it until the kernel is there."""
    from jupyter_client import AsyncKernelManager

    async def start(code: str) -> float:
        begin = time.perf_counter()
        manager = AsyncKernelManager(kernel_name="python3")
        await manager.start_kernel()
        client = manager.client()
        client.start_channels(hb=False)
        sent = client.execute(code)
        while (await client.get_shell_msg(timeout=120))["parent_header"].get("msg_id") != sent:
            pass
        seconds = time.perf_counter() - begin
        client.stop_channels()
        await manager.shutdown_kernel(now=True)
        return seconds

    return lambda code: asyncio.run(start(code))


def forking(*modules: str) -> Callable[..., float]:
    """Fork this process, after the same imports, and run the code: what no way of executing can go below."""
    for module in modules:
        importlib.import_module(module)

    def fork(source: str) -> float:
        begin = time.perf_counter()
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                with open(source, encoding="utf-8") as file:
                    exec(compile(file.read(), source, "exec"), {"__name__": "__main__"})
                code = 0
            finally:
                os._exit(code)
        assert os.waitpid(pid, 0)[1] == 0, f"{source} failed"
        return time.perf_counter() - begin

    return fork


def main() -> None:
    """Answer requests until there are no more."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # whatever is printed meanwhile is no answer
    work = {"notebook": executing, "kernel": starting, "fork": forking}[sys.argv[1]](*sys.argv[2:])
    print("ready", file=answers)
    for line in sys.stdin:
        print(work(**json.loads(line)), file=answers)


if __name__ == "__main__":
    main()
