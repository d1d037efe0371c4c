"""What the benchmarks share: races of several contestants, targets, rows of results, a place to work in."""

import argparse
import hashlib
import json
import os
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import entry_points, version
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).parent.parent
BIN = Path(sys.executable).parent
RESULTS = Path(__file__).parent / "results"
LIBRARIES = ("mlops_nb", "papermill", "nbclient", "ipykernel", "jupyter_client", "pandas", "scikit-learn")


class Absent(Exception):
    """A contestant that cannot be measured here; the text says why."""


# Targets and rows


@dataclass(frozen=True)
class Target:
    """What is to be reached, in words and as a test of our figure and the peer's."""

    words: str
    is_met: Callable[[float, float], bool]


def faster(times: float) -> Target:
    """The peer takes at least so many times as long."""
    words = "faster" if times == 1 else f"{times:g} times as fast"
    return Target(words, lambda ours, peer: peer >= times * ours)


def within(times: float) -> Target:
    """We take at most so many times as long as the peer."""
    return Target(f"at most {times:g} times as long", lambda ours, peer: ours <= times * peer)


def at_most(limit: float, words: str) -> Target:
    """Our figure has a limit, whatever the peer's is."""
    return Target(words, lambda ours, peer: ours <= limit)


@dataclass(frozen=True)
class Row:
    """One line of the results. A figure is a median; None was not measured. `ratio` is the peer's figure by ours."""

    name: str
    ours: float | None
    peer: float | None
    ratio: float | None
    target: str | None
    met: bool | None
    unit: str
    ours_range: tuple[float, float] | None
    peer_range: tuple[float, float] | None


def compare(name: str, ours: list[float], peer: list[float], target: Target | None = None, unit: str = "s") -> Row:
    """A row from all measured figures of both; no figures mean absent."""
    ratio = met = None
    mine, theirs = median_of(ours), median_of(peer)
    if mine is not None and theirs is not None:
        ratio = round(theirs / mine, 2) if mine else None
        met = target.is_met(mine, theirs) if target else None
    words = target.words if target else None
    return Row(name, mine, theirs, ratio, words, met, unit, range_of(ours), range_of(peer))


def median_of(figures: list[float]) -> float | None:
    """The median, to a hundredth of a millisecond."""
    return round(statistics.median(figures), 5) if figures else None


def range_of(figures: list[float]) -> tuple[float, float] | None:
    """The smallest and the largest."""
    return (round(min(figures), 5), round(max(figures), 5)) if figures else None


def race(names: Iterable[str], run: Callable[[str], float], repeats: int, warm_up: bool) -> dict[str, list[float]]:
    """Measure contestants in turn, `repeats` times around, every other time in reverse; `run` gives one's seconds.

    Noise of the machine then falls on all alike. `warm_up` puts an untimed round first: what fills the caches of the
    disk is no contestant's cost. Whoever is absent has no figures, and the reason is told.
    """
    figures: dict[str, list[float]] = {name: [] for name in names}
    there = list(figures)
    for turn in range(-1 if warm_up else 0, repeats):
        for name in there[:: -1 if turn % 2 else 1]:
            try:
                seconds = run(name)
            except Absent as reason:
                tell(f"  {name} is absent: {reason}")
                there.remove(name)
                figures[name] = []
                continue
            if turn >= 0:
                figures[name].append(seconds)
                tell(f"  {name} {seconds:.3f} s")
    return figures


def limited(words: list[str], group: Path | None) -> list[str]:
    """The command, in a control group that ends it when it takes more memory than it may."""
    return ["sh", "-c", f'echo $$ > {group}/cgroup.procs; exec "$@"', "sh", *words] if group else words


def make_group(limit: int) -> Path:
    """A control group of the system whose processes get `limit` bytes; raises Absent where none may be made."""
    group = Path("/sys/fs/cgroup/memory/mlops_nb_benchmark")
    try:
        group.mkdir(exist_ok=True)
        (group / "memory.limit_in_bytes").write_text(str(limit))
    except OSError as error:
        raise Absent(f"no control group can be made here: {error}") from None
    return group


def run_script(python: Path | str, script: str, words: list[str], group: Path | None = None) -> Any:
    """What a script prints as JSON in its last line; raises Absent where it fails, or takes more memory than it may."""
    command = limited([str(python), "-c", script, *words], group)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        killed = done.returncode in (-9, 137)
        raise Absent("the system ended it: it took more memory than it may" if killed
                     else (done.stderr.strip().splitlines() or ["?"])[-1])
    return json.loads(done.stdout.splitlines()[-1])


def tell(text: str) -> None:
    """Say how far we are, beside the results."""
    print(text, file=sys.stderr, flush=True)


# A place to work in


@dataclass(frozen=True)
class Place:
    """A temporary folder and the environment of everything that is started in it.

    The environment carries a mark, by which processes are found again, and keeps warm processes apart from those of
    the user: their sockets are in this folder.
    """

    folder: Path
    environment: dict[str, str]
    mark: str

    def seconds(self, words: list[str | Path], cwd: Path | None = None, **more: str) -> float:
        """Run a command to its end; wall seconds. Raises Absent when it fails, with the end of what it said."""
        with tempfile.TemporaryFile() as said:
            begin = time.perf_counter()
            try:
                code = subprocess.run(list(map(str, words)), cwd=cwd or self.folder, stdout=said, stderr=said,
                                      stdin=subprocess.DEVNULL, env=self.environment | more, check=False).returncode
            except FileNotFoundError as error:
                raise Absent(f"there is no {error.filename}") from error
            seconds = time.perf_counter() - begin
            if code:
                said.seek(0)
                last = (said.read().decode(errors="replace").strip().splitlines() or [""])[-1]
                command = " ".join([Path(words[0]).name, *map(str, words[1:2])])
                raise Absent(f"`{command}` ended with {code}: {last:.200}")
        return seconds

    def processes(self) -> list[psutil.Process]:
        """Everything that was started here and still runs."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get("MLOPS_NB_BENCHMARK") == self.mark:
                    found.append(process)
            except psutil.Error:
                continue  # somebody else's, or it ended while we looked
        return found

    def kill_all(self) -> None:
        """End all of them at once, as a power cut would."""
        for process in self.processes():
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue


@contextmanager
def place() -> Iterator[Place]:
    """A new place, tidied up at the end: also its processes are ended."""
    folder = Path(tempfile.mkdtemp(prefix="mlops_nb-bench-"))
    mark = uuid.uuid4().hex
    left_out = ("MLOPS_NB", "PYTHONDONTWRITEBYTECODE", "JUPYTER_", "XDG_RUNTIME_DIR")
    kept = {key: value for key, value in os.environ.items() if not key.startswith(left_out)}
    (folder / "run").mkdir(mode=0o700)
    made = Place(folder, {**kept, "MLOPS_NB_BENCHMARK": mark, "XDG_RUNTIME_DIR": str(folder / "run"),
                          "JUPYTER_RUNTIME_DIR": str(folder / "run"), "DO_NOT_TRACK": "1"}, mark)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield made
    finally:
        made.kill_all()
        shutil.rmtree(folder, ignore_errors=True)


def has_provisioner() -> bool:
    """Is our kernel provisioner installed?"""
    return bool(entry_points(group="jupyter_client.kernel_provisioners", name="mlops_nb"))


# Peers


def peer_needs(name: str) -> list[str]:
    """What peers.txt says of a peer; the peer itself comes first."""
    lines = (Path(__file__).parent / "peers.txt").read_text("utf-8").splitlines()
    return dict(line.split(": ", 1) for line in lines if not line.startswith("#"))[name].split()


def cache_folder() -> Path:
    """The user's folder for what the benchmarks fetch."""
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "mlops_nb-benchmarks"


def peer_bin(name: str) -> Path:
    """The folder of a peer's commands, installed into an environment of its own when it is not there yet."""
    wanted = peer_needs(name)
    own = {each.partition("==")[0] for each in wanted if "==" in each}  # what a peer pins goes before our versions
    lock = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    constraints = "\n".join(line for line in lock if line.partition("==")[0] not in own)
    project = f"{ROOT} {(ROOT / 'settings.ini').read_text('utf-8')}" if "--editable" in wanted else ""
    facts = f"{wanted} {constraints} {sys.version} {project}"
    folder = cache_folder() / f"{name}-{hashlib.sha256(facts.encode()).hexdigest()[:8]}"
    if not (folder / "ready").exists():
        tell(f"  installing {name} into {folder}")
        uv = [sys.executable, "-m", "uv", "--quiet"]
        install = [*uv, "pip", "install", "--python", str(folder / "bin" / "python"), "--compile-bytecode",
                   "--constraint", "/dev/stdin", *wanted]
        for step in ([*uv, "venv", "--clear", "--python", sys.executable, str(folder)], install):
            done = subprocess.run(step, input=constraints, capture_output=True, text=True, check=False, cwd=ROOT)
            if done.returncode:
                raise Absent(f"{name} cannot be installed: {done.stderr.strip()[-300:]}")
        (folder / "ready").touch()
    return folder / "bin"


# The command line


def read_options(description: str, parts: list[str], smoke: list[str], peers: str) -> argparse.Namespace:
    """The options that every benchmark has; `parts` and `peers` are to choose from, `smoke` is a smoke test's parts."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="a minute: fewer repeats, without the slow peers")
    parser.add_argument("--smoke", action="store_true", help="seconds: does it work at all? Its figures mean nothing")
    parser.add_argument("--json", action="store_true", help="print the rows as JSON")
    parser.add_argument("--save", action="store_true", help="keep the rows, date and machine in benchmarks/results/")
    parser.add_argument("--only", metavar="PARTS", help=f"some of {','.join(parts)}")
    parser.add_argument("--peers", metavar="NAMES", help=f"some of {peers}")
    parser.add_argument("--repeats", type=int, metavar="N", help="measure each N times")
    options = parser.parse_args()
    options.size = "smoke" if options.smoke else "quick" if options.quick else "full"
    options.parts = options.only.split(",") if options.only else smoke if options.smoke else parts
    if unknown := set(options.parts) - set(parts):
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    return options


def describe_machine() -> dict[str, Any]:
    """The size of this machine and the versions of what was measured; no names."""
    return {"processors": os.cpu_count(), "memory_gb": round(psutil.virtual_memory().total / 2**30),
            "system": platform.system(), "python": platform.python_version(),
            **{name: version(name) for name in LIBRARIES}}


def report(benchmark: str, rows: list[Row], options: argparse.Namespace) -> None:
    """Print the rows as asked, and keep them where that is asked."""
    if options.json:
        print(json.dumps([asdict(row) for row in rows], indent=1))
    else:
        print_table(rows)
    if options.save:
        RESULTS.mkdir(exist_ok=True)
        kept = {"benchmark": benchmark, "size": options.size, "date": datetime.now(UTC).date().isoformat(),
                "machine": describe_machine(), "rows": [asdict(row) for row in rows]}
        file = RESULTS / f"{benchmark}.json"
        if options.only and file.exists():  # what was measured on the same day and machine stays
            before = json.loads(file.read_text("utf-8"))
            if all(before[key] == kept[key] for key in ("size", "date", "machine")):
                measured = {row.name for row in rows}
                kept["rows"] = [row for row in before["rows"] if row["name"] not in measured] + kept["rows"]
        file.write_text(json.dumps(kept, indent=1) + "\n", "utf-8")


def show(figure: float | None, unit: str) -> str:
    """A figure as a person reads it; a dash for what was not measured."""
    if figure is None:
        return "-"
    if unit != "s":
        return f"{figure:g} {unit}"
    return f"{figure * 1000:.1f} ms" if figure < 0.1 else f"{figure:.2f} s"


def cells_of(row: Row) -> tuple[str, ...]:
    """A row as texts: name, ours, peer, ratio, target, met."""
    ratio = "-" if row.ratio is None else f"{row.ratio:.1f}"
    met = "" if row.target is None else {True: "yes", False: "no", None: "-"}[row.met]
    return row.name, show(row.ours, row.unit), show(row.peer, row.unit), ratio, row.target or "", met


HEADS = ("measured", "ours", "peer", "peer / ours", "target", "met")


def print_table(rows: list[Row]) -> None:
    """Print the rows as a table."""
    lines = [HEADS, *map(cells_of, rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADS))]
    for line in lines:
        texts = [text.ljust(width) if column in (0, 4) else text.rjust(width)
                 for column, (text, width) in enumerate(zip(line, widths, strict=True))]
        print("  ".join(texts).rstrip())
