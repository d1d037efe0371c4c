"""Two departments' tables of people matched, beside splink 5: recall at the same precision, time, peak memory.

Both get the same two parquet files, made by `mlops_nb.persons` with its default errors, and the same five blocks;
each runs in a process of its own. splink is set up as its documentation advises: name, birth date, street, postcode and
phone with its own comparisons and term frequencies, u from a random sample of a million pairs, m by expectation and
maximization over two blocks. Times begin when the libraries are imported and the tables are read, and end with the
scored pairs as a DataFrame. Precision is where both can be held to the same: at ours of probability .9, splink's
threshold is the lowest that reaches it.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import pandas as pd
from measuring import Absent, Row, Target, compare, faster, peer_bin, read_options, report, tell

from mlops_nb.persons import make_registry

SIZES = {"full": (5_000, 20_000, 100_000), "quick": (5_000,), "smoke": (500,)}
REPEATS = {"full": 3, "quick": 1, "smoke": 1}
DEPARTMENTS = ("registry", "clinic")

OURS = '''
import json, resource, sys, time
import pandas as pd
from mlops_nb.record_matching import Field, match_records
folder = sys.argv[1]
tables = {name: pd.read_parquet(f"{folder}/{name}.parquet") for name in ("registry", "clinic")}
begin = time.perf_counter()
fields = [Field("first_name", swapped_with="last_name"), Field("last_name"), Field("born", "date"), Field("street"),
          Field("postcode", "exact"), Field("phone")]
blocks = ["born", "phone", "postcode || left(last_name, 2)", "last_name || first_name", "first_name || left(born, 7)"]
pairs = match_records(tables, "id", fields, blocks, uncertain=0.01).pairs
seconds = time.perf_counter() - begin
pairs[["left_id", "right_id", "probability"]].to_parquet(f"{folder}/found.parquet")
'''

SPLINK = '''
import json, resource, sys, time
import pandas as pd
import splink.comparison_library as cl
from splink import DuckDBAPI, Linker, SettingsCreator, block_on
folder = sys.argv[1]
tables = {name: pd.read_parquet(f"{folder}/{name}.parquet") for name in ("registry", "clinic")}
begin = time.perf_counter()
frequent = {"term_frequency_adjustments": True}
settings = SettingsCreator(
    link_type="link_and_dedupe", unique_id_column_name="id",
    comparisons=[cl.ForenameSurnameComparison("first_name", "last_name"),
                 cl.DateOfBirthComparison("born", input_is_string=True),
                 cl.JaroWinklerAtThresholds("street", [0.92, 0.8]).configure(**frequent),
                 cl.ExactMatch("postcode").configure(**frequent),
                 cl.JaroWinklerAtThresholds("phone", [0.92, 0.8]).configure(**frequent)],
    blocking_rules_to_generate_predictions=[
        block_on("born"), block_on("phone"), block_on("postcode", "substr(last_name, 1, 2)"),
        block_on("last_name", "first_name"), block_on("first_name", "substr(born, 1, 7)")])
api = DuckDBAPI()
linker = Linker([api.register(table, dataset_display_name=name) for name, table in tables.items()], settings,
                log_level=None)
linker.training.estimate_probability_two_random_records_match(
    [block_on("first_name", "last_name", "born"), block_on("phone")], recall=0.8)
linker.training.estimate_u_using_random_sampling(max_pairs=1e6, seed=1)
linker.training.estimate_parameters_using_expectation_maximisation(block_on("born"))
linker.training.estimate_parameters_using_expectation_maximisation(block_on("phone"))
pairs = linker.inference.predict(threshold_match_probability=0.01).as_pandas_dataframe()
seconds = time.perf_counter() - begin
pairs = pairs.rename(columns={"id_l": "left_id", "id_r": "right_id", "match_probability": "probability"})
pairs[["left_id", "right_id", "probability"]].to_parquet(f"{folder}/found.parquet")
'''

JOIN = '''
import json, resource, sys, time
import pandas as pd
folder = sys.argv[1]
tables = [pd.read_parquet(f"{folder}/{name}.parquet") for name in ("registry", "clinic")]
begin = time.perf_counter()
everybody = pd.concat(tables, ignore_index=True)
found = [everybody.dropna(subset=on).merge(everybody.dropna(subset=on), on=on, suffixes=("_left", "_right"))
         for on in (["first_name", "last_name", "born"], ["phone", "born"])]
pairs = pd.concat(found)[["id_left", "id_right"]].query("id_left < id_right").drop_duplicates()
seconds = time.perf_counter() - begin
pairs.set_axis(["left_id", "right_id"], axis=1).assign(probability=1.0).to_parquet(f"{folder}/found.parquet")
'''

SCRIPTS = {"ours": OURS, "splink": SPLINK, "a join": JOIN}
TELL = "\nprint(json.dumps([seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024]))\n"


def run(python: Path, script: str, folder: Path) -> tuple[float, float, pd.DataFrame]:
    """Seconds, peak megabytes, and the scored pairs."""
    done = subprocess.run([python, "-c", script + TELL, folder], capture_output=True, text=True, check=False)
    if done.returncode:
        raise Absent(done.stderr.strip().splitlines()[-1])
    seconds, memory = json.loads(done.stdout.splitlines()[-1])
    return seconds, memory, pd.read_parquet(folder / "found.parquet")


def is_right(pairs: pd.DataFrame, truth: pd.DataFrame) -> pd.Series:
    """Is each pair one person?"""
    person = truth.set_index("id")["person"]
    left, right = (person.loc[pairs[side]].to_numpy() for side in ("left_id", "right_id"))
    return pd.Series(left == right, index=pairs.index)


def judge(pairs: pd.DataFrame, truth: pd.DataFrame, precision: float = 0.0) -> tuple[float, float]:
    """Precision and recall at probability .9; or, given a precision, at the lowest threshold that reaches it."""
    sizes = truth["person"].value_counts()
    ranked = pairs.sort_values("probability", ascending=False, ignore_index=True)
    right = is_right(ranked, truth).cumsum()
    reached = right / (ranked.index + 1)
    good = ranked.index[(reached >= precision) & ((ranked["probability"] >= 0.9) | (precision > 0))]
    last = good.max() if len(good) else 0
    return float(reached[last]), float(right[last] / (sizes * (sizes - 1) / 2).sum())


def measure(size: int, repeats: int, names: list[str]) -> dict[str, dict[str, list[float]]]:
    """Each in turn on two tables of about `size` records."""
    figures: dict[str, dict[str, list[float]]] = {name: {"seconds": [], "memory": [], "recall": []} for name in SCRIPTS}
    with tempfile.TemporaryDirectory() as place:
        tables, truth = make_registry(round(size / 0.824), DEPARTMENTS)
        for name, table in tables.items():
            table.to_parquet(Path(place) / f"{name}.parquet")
        precision = 0.0
        for _ in range(repeats):
            for name in names:
                try:
                    python = peer_bin("splink") / "python" if name == "splink" else Path(sys.executable)
                    seconds, memory, pairs = run(python, SCRIPTS[name], Path(place))
                except Absent as reason:
                    tell(f"  {name} is absent: {reason}")
                    continue
                reached, recall = judge(pairs, truth, precision if name == "splink" else 0.0)
                precision = reached if name == "ours" else precision
                tell(f"  {name}, {size:,} records twice: {seconds:.2f} s, {memory:.0f} MB, "
                     f"precision {reached:.4f}, recall {recall:.4f}")
                for key, value in (("seconds", seconds), ("memory", memory), ("recall", recall)):
                    figures[name][key].append(value)
    return figures


def main() -> None:
    """Measure and report."""
    options = read_options(__doc__ or "", ["matching"], smoke=["matching"], peers="splink")
    names = ["ours", "a join", *([] if options.smoke else ["splink"])]
    as_much = Target("at least as much", lambda ours, peer: ours >= peer)
    rows: list[Row] = []
    for size in SIZES[options.size]:
        found = measure(size, options.repeats or REPEATS[options.size], names)
        ours, splink, join = found["ours"], found["splink"], found["a join"]
        what, target = f"{size:,} records twice", faster(5) if size == 20_000 else None
        recalls = f"{what}, recall at the same precision: splink", f"{what}, recall: equal name, or phone, and birthday"
        rows += [compare(f"{what}: splink", ours["seconds"], splink["seconds"], target),
                 compare(f"{what}, peak memory: splink", ours["memory"], splink["memory"], None, "MB"),
                 compare(recalls[0], ours["recall"], splink["recall"], as_much, "of all"),
                 compare(recalls[1], ours["recall"], join["recall"], None, "of all")]
    report("matching", rows, options)


if __name__ == "__main__":
    main()
