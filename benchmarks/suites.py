"""The test suites of papermill and nbclient, as they come and with ours in place of the stock part.

Their published sources are taken from the package index when this runs; nothing of them is kept in this repository.
Tests that may end differently are in suites.txt, each with its reason; one more, and this fails.
"""

import argparse
import json
import subprocess
import sys
import tarfile
import tempfile
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from measuring import Absent, Place, Row, Target, cache_folder, compare, peer_bin, place, report, tell


@dataclass(frozen=True)
class Suite:
    """A suite: what of ours is put in, what pytest is told besides, and what the figures are called."""

    ours: str
    words: tuple[str, ...]


SUITES = {"papermill": Suite("engine", ("papermill/tests",)),
          # a setting that its newest plug-in for asyncio asks for
          "nbclient": Suite("provisioner", ("-o", "asyncio_default_fixture_loop_scope=function"))}


def fetch_source(name: str) -> Path:
    """The published source of a package in the version that is installed here; raises Absent."""
    wanted = f"{name}-{version(name)}.tar.gz"
    folder = cache_folder() / "sources"
    if not (folder / wanted).exists():
        done = subprocess.run([sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", name,
                               "--dest", str(folder), f"{name}=={version(name)}"], check=False, capture_output=True,
                              text=True)
        if done.returncode or not (folder / wanted).exists():
            raise Absent(f"{wanted} cannot be had, an index with sources is needed: {done.stderr.strip()[-300:]}")
    return folder / wanted


@dataclass(frozen=True)
class Outcome:
    """How a suite went."""

    seconds: float
    used: int
    ended: dict[str, str]

    def names(self, outcome: str) -> set[str]:
        """The tests that ended so."""
        return {name for name, how in self.ended.items() if how == outcome}


def run_suite(here: Place, name: str, way: str, tests: list[str]) -> Outcome:
    """Run a suite, or some of its tests, in a new folder."""
    folder = Path(tempfile.mkdtemp(prefix=f"{name}-{way}-", dir=here.folder))
    with tarfile.open(fetch_source(name)) as source:
        source.extractall(folder, filter="data")
    root, results, said = next(folder.iterdir()), folder / "results.jsonl", folder / "log.txt"
    results.touch()
    bin = peer_bin("suites")
    told = {"MLOPS_NB_FOREIGN": way, "MLOPS_NB_FOREIGN_RESULTS": str(results), "PYTHONPATH": str(Path(__file__).parent),
            "PATH": f"{bin}:{here.environment['PATH']}"}
    command = [str(bin / "python"), "-m", "pytest", "-v", "--color=no", "-p", "foreign", "-p", "no:cacheprovider",
               *SUITES[name].words, *tests]
    begin = time.perf_counter()
    with open(said, "wb") as log:
        code = subprocess.run(command, cwd=root, env=here.environment | told, check=False, stdin=subprocess.DEVNULL,
                              stdout=log, stderr=log, timeout=3600).returncode
    seconds = time.perf_counter() - begin
    if code not in (0, 1):
        tell(f"{name}, {way}: pytest ended with {code}: {said.read_text('utf-8', 'replace')[-500:]}")
    lines = [json.loads(line) for line in results.read_text("utf-8").splitlines()]
    if not lines:
        raise Absent("no test was run")
    return Outcome(seconds, lines[-1][2], {test: outcome for test, outcome, _ in lines})


def explained(name: str) -> dict[str, str]:
    """The tests of a suite that may end differently, each with its reason."""
    lines = Path(__file__).with_name("suites.txt").read_text("utf-8").splitlines()
    parts = [line.split(" | ") for line in lines if line and not line.startswith("#")]
    return {test: reason for suite, test, reason in parts if suite == name}


def check_suite(here: Place, name: str) -> tuple[list[Row], set[str]]:
    """The rows of a suite, and the tests that fail with ours alone and without an explanation."""
    stock, ours = (run_suite(here, name, way, []) for way in ("stock", SUITES[name].ours))
    differing = stock.names("passed") - ours.names("passed")
    steady = differing
    for _ in range(2):  # a test that depends on the hour fails now and then in any case
        if steady:
            steady = steady - run_suite(here, name, SUITES[name].ours, sorted(steady)).names("passed")
    reasons = explained(name)
    tell(f"{name} {version(name)}: stock {len(stock.names('passed'))} of {len(stock.ended)} passed in "
         f"{stock.seconds:.0f} s; with our {SUITES[name].ours} {len(ours.names('passed'))} in {ours.seconds:.0f} s, "
         f"it was used {ours.used} times")
    for test in sorted(stock.names("failed")):
        tell(f"  fails as it comes: {test}")
    for test in sorted(differing):
        tell(f"  {reasons.get(test, 'UNEXPLAINED' if test in steady else 'passes when run again')}: {test}")
    strange = steady - set(reasons)
    passed, before = ([float(len(each.names("passed")))] for each in (ours, stock))
    target = Target("all that pass stock, but for the explained", lambda *_: not strange and ours.used > 0)
    return [compare(f"{name}'s own {len(stock.ended)} tests that pass: stock", passed, before, target, "tests"),
            compare(f"{name}'s own tests, all: stock", [ours.seconds], [stock.seconds])], strange


def main() -> int:
    """Run the suites that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default=",".join(SUITES), metavar="SUITES", help="some of: %(default)s")
    parser.add_argument("--json", action="store_true", help="print the rows as JSON")
    parser.add_argument("--save", action="store_true", help="keep the rows in benchmarks/results/")
    options = parser.parse_args()
    options.size = "full"
    rows: list[Row] = []
    strange: set[str] = set()
    with place() as here:
        for name in options.only.split(","):
            try:
                found: Any = check_suite(here, name)
            except Absent as reason:
                tell(f"{name} is absent: {reason}")
                return 2
            rows += found[0]
            strange |= found[1]
    report("suites", rows, options)
    return 1 if strange else 0


if __name__ == "__main__":
    sys.exit(main())
