"""Dask clusters of real processes: a scheduler and workers, each in a folder of its own, that share only a store."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from postgres import free_port
from projects import Project, wait_until

DASK = str(Path(sys.executable).with_name("dask"))


class Cluster:
    """A scheduler and its workers, with one thread and no nanny each. Workers see the store under a name of theirs."""

    def __init__(self, folder: Path, store: Path, **environment: str):
        self.folder, self.store = folder, folder / "mounted store"
        folder.mkdir(parents=True)
        store.mkdir(parents=True, exist_ok=True)
        self.store.symlink_to(store)
        self.home = Project(folder / "marks", environment=environment)
        self.address = f"tcp://127.0.0.1:{free_port()}"
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, *words: str, sign: str, **environment: str) -> None:
        """Start a process in a folder of its own, in the background; `sign` is what its log says when it is ready."""
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        with open(folder / "log", "wb") as log:
            self.processes[name] = subprocess.Popen(
                [DASK, *words, "--host", "127.0.0.1", "--no-dashboard"], cwd=folder, stdout=log, stderr=log,
                env=self.home.child_environment() | environment, start_new_session=True)
        (folder / "sign").write_text(sign)

    def start_scheduler(self) -> None:
        """Start the scheduler, always at the same address."""
        self.start("scheduler", "scheduler", "--port", self.address.rpartition(":")[2], sign="Scheduler at:")

    def start_worker(self, name: str, **environment: str) -> None:
        """Start a worker."""
        words = ("--nthreads", "1", "--no-nanny", "--memory-limit", "0", "--local-directory", "scratch")
        self.start(name, "worker", self.address, *words, sign="Starting established connection",
                   **{"MLOPS_NB_STATE": str(self.store), **environment})

    def wait(self) -> None:
        """Wait until all that was started is ready."""
        for name, process in self.processes.items():
            sign = (self.folder / name / "sign").read_text()
            wait_until(lambda: sign in self.log(name) or process.poll() is not None, f"{name} is ready")  # noqa: B023
            assert process.poll() is None, self.log(name)

    def log(self, name: str) -> str:
        """What a process has said."""
        return (self.folder / name / "log").read_text("utf-8", errors="replace")

    def worker_at(self, address: str) -> str:
        """The name of the worker with this address."""
        said = {name: " ".join(self.log(name).split()) for name in self.processes}
        return next(name for name, log in said.items() if f"Start worker at: {address}" in log)

    def kill(self, *names: str) -> None:
        """Kill processes without asking. What a worker's nursery forked has a session of its own, and is left."""
        for name in names:
            process = self.processes.pop(name)
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def close(self) -> None:
        """Kill all that is left, nurseries too."""
        self.kill(*self.processes)
        self.home.kill_all()


def standing(hold: Path) -> str:
    """Source of a cell that stands still as long as the file `hold` exists, and says who stands there."""
    return f"""import os, pathlib, time
hold = pathlib.Path({str(hold)!r})
if hold.exists():
    hold.with_suffix(".part").write_text(str(os.getpid()))
    hold.with_suffix(".part").rename(hold.with_suffix(".kernel"))
while hold.exists():
    time.sleep(0.02)"""


def wait_for_stand(hold: Path) -> int:
    """Wait until a cell stands at `hold`; gives its kernel's process id."""
    told = hold.with_suffix(".kernel")
    text = wait_until(lambda: told.exists() and told.read_text(), f"a cell stands at {hold.name}")
    told.unlink()
    return int(text)
