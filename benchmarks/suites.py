"""The test suites of papermill and nbclient, as they come and with ours in place of the stock part.

Their published sources are taken from the package index when this runs; nothing of them is kept in this repository.
Tests that may end differently are in suites.txt, each with its reason. This fails when another one fails that passes as
it comes, or when a kernel was no copy of the nursery.
"""

import argparse
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from measuring import Absent, Place, Row, Target, cache_folder, compare, peer_bin, place, report, tell


@dataclass(frozen=True)
class Suite:
    """A suite: what of ours is put in, and what pytest is told besides."""

    ours: str
    words: tuple[str, ...]


SUITES = {"nbclient": Suite("provisioner", ("-o", "asyncio_default_fixture_loop_scope=function")),  # its plug-in asks
          "papermill": Suite("engine", ("papermill/tests",))}


def fetch_source(name: str, wanted: str = "") -> Path:
    """The published source of a package, by default in the version that is installed here; raises Absent."""
    file = f"{name}-{wanted or version(name)}.tar.gz"
    folder = cache_folder() / "sources"
    if not (folder / file).exists():
        done = subprocess.run([sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", name,
                               "--dest", str(folder), f"{name}=={wanted or version(name)}"], check=False,
                              capture_output=True, text=True)
        if done.returncode or not (folder / file).exists():
            raise Absent(f"{file} cannot be had, an index with sources is needed: {done.stderr.strip()[-300:]}")
    return folder / file


# One run of a suite


@dataclass(frozen=True)
class Outcome:
    """How a suite went: pytest's exit code, how each test ended, and which kernels each one got."""

    seconds: float
    code: int
    ended: dict[str, str]
    kernels: list[tuple[str, str]]

    def names(self, outcome: str) -> set[str]:
        """The tests that ended so."""
        return {name for name, how in self.ended.items() if how == outcome}

    def kinds(self, but: set[str]) -> Counter[str]:
        """How many kernels of each kind there were, `but` for those of some tests."""
        return Counter(kind for test, kind in self.kernels if test not in but)


def run_suite(here: Place, name: str, way: str, tests: set[str] | None = None) -> Outcome:
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
               *SUITES[name].words, *sorted(tests or ())]
    begin = time.perf_counter()
    with open(said, "wb") as log:
        try:
            code = subprocess.run(command, cwd=root, env=here.environment | told, check=False, timeout=1200,
                                  stdin=subprocess.DEVNULL, stdout=log, stderr=log).returncode
        except subprocess.TimeoutExpired:
            code = 124
    seconds = time.perf_counter() - begin
    lines = [json.loads(line) for line in results.read_text("utf-8").splitlines()]
    if code not in (0, 1) or not lines:
        tell(f"{name}, {way}: pytest ended with {code}: {said.read_text('utf-8', 'replace')[-2000:]}")
    return Outcome(seconds, code, {test: how for kind, test, how in lines if kind == "test"},
                   [(test, how) for kind, test, how in lines if kind == "kernel"])


# What may differ


def explained(name: str) -> dict[str, str]:
    """The tests of a suite that may end differently, each with its reason."""
    lines = Path(__file__).with_name("suites.txt").read_text("utf-8").splitlines()
    parts = [line.split(" | ") for line in lines if line and not line.startswith("#")]
    return {test: reason for suite, test, reason in parts if suite == name}


def find_faults(here: Place, name: str, ours: Outcome) -> list[str]:
    """What is wrong, one line each: a test that fails with ours each time, passes as it comes, and is not explained."""
    faults = [f"pytest ended with {ours.code}"] if ours.code not in (0, 1) else []
    reasons = explained(name)
    left = ours.names("failed") - set(reasons)
    if left:  # a test that depends on the hour fails now and then in any case
        left = left - run_suite(here, name, SUITES[name].ours, left).names("passed")
    if left:
        left = left & run_suite(here, name, "stock", left).names("passed")
    faults += [f"fails with ours only: {test}" for test in sorted(left)]
    kernels = ours.kinds(set(reasons))
    if not kernels["copy"]:
        faults.append("no kernel was a copy of the nursery")
    return faults + [f"{many} kernels were {kind}" for kind, many in kernels.items() if kind != "copy"]


def check_suite(here: Place, name: str, beside: bool) -> tuple[list[Row], list[str]]:
    """The rows of a suite and its faults; `beside`: it is run as it comes, too, which the rows need."""
    ours = run_suite(here, name, SUITES[name].ours)
    reasons, passed, all_kinds = explained(name), ours.names("passed"), ours.kinds(set())
    tell(f"{name} {version(name)} with our {SUITES[name].ours}: {len(passed)} of {len(ours.ended)} tests passed in "
         f"{ours.seconds:.0f} s; kernels: {dict(all_kinds)}")
    for test, reason in reasons.items():
        tell(f"  {'PASSES, THOUGH LISTED' if test in passed else reason}: {test}")
    faults = [f"{name}: {fault}" for fault in find_faults(here, name, ours)]
    if not beside:
        return [], faults
    stock = run_suite(here, name, "stock")
    tell(f"{name} as it comes: {len(stock.names('passed'))} passed in {stock.seconds:.0f} s")
    for test in sorted(stock.names("failed")):
        tell(f"  fails as it comes: {test}")
    target = Target("all that pass stock, but for the explained", lambda *_: not faults)
    figures = [[float(len(each.names("passed")))] for each in (ours, stock)]
    return [compare(f"{name}'s own {len(stock.ended)} tests that pass: stock", *figures, target, "tests"),
            compare(f"{name}'s own tests, all: stock", [ours.seconds], [stock.seconds])], faults


def main() -> int:
    """Run the suites that were asked for; ends with 2 when one cannot be had."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default=",".join(SUITES), metavar="SUITES", help="some of: %(default)s")
    parser.add_argument("--quick", action="store_true", help="with ours only, and side by side; no figures")
    parser.add_argument("--json", action="store_true", help="print the rows as JSON")
    parser.add_argument("--save", action="store_true", help="keep the rows in benchmarks/results/")
    options = parser.parse_args()
    options.size = "quick" if options.quick else "full"
    names = options.only.split(",")
    with place() as here, ThreadPoolExecutor(len(names) if options.quick else 1) as threads:
        try:
            peer_bin("suites")
            found = list(threads.map(lambda name: check_suite(here, name, not options.quick), names))
        except Absent as reason:
            tell(f"absent: {reason}")
            return 2
    if not options.quick:
        report("suites", [row for rows, _ in found for row in rows], options)
    faults = [fault for _, each in found for fault in each]
    tell(os.linesep.join(faults) or "nothing fails that is not explained")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
