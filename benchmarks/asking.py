"""Whom the benchmarks ask again and again: workers that are up already, and a Jupyter Server."""

import json
import queue
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import websocket
from measuring import Absent, Place, has_provisioner
from notebooks import is_done

PROVISIONER = {"JUPYTER_DEFAULT_PROVISIONER_NAME": "mlops_nb"}


class Worker:
    """A process of worker.py: up, imports done, and asked for one thing after another."""

    def __init__(self, here: Place, *words: str, **more: str):
        command = [sys.executable, str(Path(__file__).with_name("worker.py")), *words]
        self.process = subprocess.Popen(command, cwd=here.folder, env=here.environment | more, text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        self.name = " ".join(words)
        self.hear()

    def hear(self) -> str:
        """The next line of the answer."""
        assert self.process.stdout
        if line := self.process.stdout.readline():
            return line
        raise Absent(f"the worker `{self.name}` ended with {self.process.wait()}")

    def ask(self, **request: str) -> float:
        """Have one thing done; the seconds that it took."""
        assert self.process.stdin
        try:
            print(json.dumps(request), file=self.process.stdin, flush=True)
        except BrokenPipeError:
            pass  # why is told by what follows
        return float(self.hear())

    def close(self) -> None:
        """End it."""
        try:
            self.process.communicate()
        except BrokenPipeError:
            pass  # it ended before


WAYS: dict[str, tuple[tuple[str, ...], dict[str, str]]] = {
    "engine": (("notebook", "mlops_nb"), {}), "stock": (("notebook",), {}), "provisioner": (("notebook",), PROVISIONER)}


class Crew:
    """Workers that execute notebooks in some ways, hired when they are first needed."""

    def __init__(self, here: Place, stack: ExitStack):
        self.here, self.stack = here, stack
        self.hired: dict[str, list[Worker]] = {}

    def hire(self, way: str, count: int = 1) -> list[Worker]:
        """At least so many workers of a way; raises Absent when what it needs is not installed."""
        if way == "provisioner" and not has_provisioner():
            raise Absent("it is not installed")
        workers = self.hired.setdefault(way, [])
        while len(workers) < count:
            words, more = WAYS[way]
            workers.append(Worker(self.here, *words, **more))
            self.stack.callback(workers[-1].close)
        return workers[:count]

    def execute(self, notebook: str, way: str, count: int = 1) -> float:
        """Wall seconds for one notebook; for `count` times the same, two at a time. Raises Absent for a failure."""
        workers = self.hire(way, min(count, 2))
        outputs = [self.here.folder / "out" / f"{way}_{number}.ipynb" for number in range(count)]
        waiting: queue.SimpleQueue[Path] = queue.SimpleQueue()
        for output in outputs:
            output.unlink(missing_ok=True)
            waiting.put(output)

        def work(worker: Worker) -> None:
            try:
                while True:
                    worker.ask(source=f"{notebook}.ipynb", output=str(waiting.get_nowait()))
            except (queue.Empty, Absent):
                return  # what was not executed is missed below

        threads = [threading.Thread(target=work, args=(worker,)) for worker in workers]
        begin = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        seconds = time.perf_counter() - begin
        if not all(map(is_done, outputs)):
            raise Absent(f"{notebook}.ipynb was not executed to its end")
        return seconds


TOKEN = "benchmark"


@contextmanager
def jupyter_server(here: Place, **more: str) -> Iterator[str]:
    """A Jupyter Server of our own; gives its address, without the scheme."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "jupyter_server", "--no-browser", "--allow-root", f"--ServerApp.port={port}",
               f"--ServerApp.root_dir={here.folder}", f"--IdentityProvider.token={TOKEN}"]
    process = subprocess.Popen(command, cwd=here.folder, env=here.environment | more, stdin=subprocess.DEVNULL,
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    address, until = f"127.0.0.1:{port}", time.monotonic() + 60
    try:
        while True:
            try:
                call(address, "GET", "api/status")
                break
            except OSError:
                if process.poll() is not None or time.monotonic() > until:
                    raise
                time.sleep(0.1)
        yield address
    finally:
        process.terminate()
        process.wait(30)


def call(address: str, method: str, path: str) -> Any:
    """Call the REST interface of a Jupyter Server."""
    headers = {"Authorization": f"token {TOKEN}", "Content-Type": "application/json"}
    body = b"{}" if method == "POST" else None
    request = urllib.request.Request(f"http://{address}/{path}", body, headers, method=method)
    with urllib.request.urlopen(request, timeout=120) as answer:
        return json.loads(answer.read() or "null")


def ask_server(address: str, code: str) -> float:
    """A new kernel as JupyterLab asks for one: over REST, then code over its websocket, until the reply."""
    begin = time.perf_counter()
    kernel = call(address, "POST", "api/kernels")["id"]
    channel = websocket.create_connection(f"ws://{address}/api/kernels/{kernel}/channels?token={TOKEN}", timeout=120)
    header = {"msg_id": kernel, "msg_type": "execute_request", "username": "", "session": kernel, "version": "5.3",
              "date": ""}
    content = {"code": code, "silent": False, "store_history": True, "user_expressions": {}, "allow_stdin": False}
    channel.send(json.dumps({"channel": "shell", "header": header, "parent_header": {}, "metadata": {},
                             "content": content, "buffers": []}))
    while True:
        message = json.loads(channel.recv())
        if message["channel"] == "shell" and message["parent_header"].get("msg_id") == kernel:
            break
    seconds = time.perf_counter() - begin
    channel.close()
    call(address, "DELETE", f"api/kernels/{kernel}")
    return seconds
