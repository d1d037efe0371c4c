"""Departments that keep the same people differently: matched, asked about, clustered, settled; and what cannot be."""

import uuid

import numpy as np
import pandas as pd
import pytest

from mlops_nb.errors import UsageError
from mlops_nb.journal import read_decisions
from mlops_nb.label_queue import LabelQueue
from mlops_nb.label_tasks import LabelTask
from mlops_nb.mismatches import compare_departments, count_entities
from mlops_nb.persons import make_registry
from mlops_nb.record_clusters import apply_verdicts, cluster_records, list_questions
from mlops_nb.record_matching import Field, learn_block, match_records
from mlops_nb.survivorship import settle_records

FIELDS = [Field("first_name", swapped_with="last_name"), Field("last_name"), Field("born", "date"), Field("street"),
          Field("postcode", "exact"), Field("phone")]
BLOCKS = ["born", "phone", "postcode || left(last_name, 2)", "last_name || first_name"]


@pytest.fixture(scope="module")
def registry():
    return make_registry(1500, departments=("registry", "clinic", "school"))


def test_probabilities_that_are_known_are_learned_from_the_mixture_alone():
    """A tenth of 200,000 pairs are the same; the rates at which they disagree come back within two hundredths."""
    random = np.random.default_rng(0)
    same = random.random(200_000) < 0.1
    m, u = [0.9, 0.8, 0.95], [0.1, 0.02, 0.3]
    drawn = [np.where(random.random(same.size) < np.where(same, one, two), 0, 1)
             for one, two in zip(m, u, strict=True)]
    levels = np.stack(drawn, axis=1)
    patterns, counts = np.unique(levels, axis=0, return_counts=True)
    found, matches = learn_block(patterns, counts.astype(float), [0, 1, 2], [np.array([0.5, 0.5])] * 3)
    assert [found[number][0] for number in range(3)] == pytest.approx(m, abs=0.02)
    assert matches == pytest.approx(same.sum(), rel=0.05)


def test_three_departments_and_those_who_are_there_twice(registry):
    tables, truth = registry
    matching = match_records(tables, "id", FIELDS, BLOCKS)
    clusters = cluster_records(matching.pairs, tables, "id")
    both = clusters.merge(truth, on=["department", "id"])
    sizes = both.groupby("entity")["person"].nunique()
    assert (sizes == 1).mean() > 0.97, "hardly two people in one cluster"
    assert both.groupby("person")["entity"].nunique().eq(1).mean() > 0.93, "hardly one person in two"
    assert count_entities(clusters)["twice"].gt(10).all(), "those who were entered twice are found"


def test_what_is_unsure_goes_to_a_person_and_the_answer_is_replayed(registry, tmp_path):
    """Through the queue that the labeling widget shows; the journal's decisions outweigh the scores in the next run."""
    tables, truth = registry
    matching = match_records(tables, "id", FIELDS, BLOCKS, match=0.999, uncertain=0.05)
    questions = list_questions(matching.pairs, tables, "id")
    assert len(questions) >= 5
    queue = LabelQueue(questions, LabelTask(("same", "different"), show="pair"), "pairs", key="pair", person="지현",
                       state=tmp_path)
    card = queue.next_items()[0]
    assert "phone" in card["html"]
    person = truth.set_index(["department", "id"])["person"]

    def answer(row: dict) -> str:
        left, right = (person[row[f"department_{side}"], row[f"id_{side}"]] for side in ("left", "right"))
        return "same" if left == right else "different"

    for row in questions.to_dict("records"):
        queue.record([{"id": uuid.uuid4().hex, "item": row["pair"], "action": "label", "value": answer(row),
                       "content": queue.content(row["pair"])}])
    again = match_records(tables, "id", FIELDS, BLOCKS, match=0.999, uncertain=0.05)
    decided = apply_verdicts(again.pairs, read_decisions("pairs", tmp_path))
    assert not decided["verdict"].eq("uncertain").any() and decided["by"].eq("지현").sum() == len(questions)
    entity = cluster_records(decided, tables, "id").set_index(["department", "id"])["entity"]
    apart = decided[(decided["by"] != "") & (decided["verdict"] == "different")]
    for row in apart.to_dict("records"):
        sides = [(row[f"{side}_department"], row[f"{side}_id"]) for side in ("left", "right")]
        assert entity[sides[0]] != entity[sides[1]], "nobody joins what a person keeps apart"


def test_a_golden_record_says_where_each_value_came_from(registry):
    tables, truth = registry
    clusters = truth.rename(columns={"person": "entity"})
    rules = {"first_name": "most frequent", "street": "most trusted", "phone": "most complete"}
    golden, origin = settle_records(tables, "id", clusters, rules, trusted=["clinic"])
    assert golden["entity"].is_unique and len(golden) == clusters["entity"].nunique()
    keyed = {(department, row["id"]): row for department, table in tables.items() for row in table.to_dict("records")}
    for row in origin.sample(200, random_state=0).to_dict("records"):
        assert keyed[row["department"], row["id"]][row["field"]] == row["value"]
    known = truth.query("department == 'clinic'").merge(tables["clinic"], on="id").dropna(subset=["street"])
    streets = origin.query("field == 'street'").set_index("entity")
    assert streets.loc[known["person"].unique(), "department"].eq("clinic").all()


def people(**columns: list) -> pd.DataFrame:
    return pd.DataFrame({"id": [str(n) for n in range(len(next(iter(columns.values()))))]} | columns)


def test_nothing_means_nothing_in_every_spelling():
    """NaN, None, NA and 없음 are no evidence: two records that share only them are not the same."""
    random = np.random.default_rng(0)
    names = [f"name {number}" for number in range(200)]
    nothing = [None, float("nan"), "NA", "없음", "-", ""]
    phone = [nothing[number % 6] if number % 3 else f"0{random.integers(10**8)}" for number in range(200)]
    left = people(name=names, phone=phone, born=names)
    right = left.iloc[::-1].assign(id=left["id"].array)
    fields = [Field("name"), Field("phone", "exact"), Field("born", "exact")]
    matching = match_records({"a": left, "b": right}, "id", fields, ["phone", "name", "born"])
    found = matching.pairs
    assert (found["left_id"].astype(int) + found["right_id"].astype(int) == 199).all() and len(found) == 200
    assert found["phone"].isna().sum() == sum(number % 3 > 0 for number in range(200))


@pytest.mark.parametrize(("change", "said"), [
    (lambda tables: {"a": tables["a"].rename(columns={"name": "nam"}), "b": tables["b"]}, "did you mean `nam`"),
    (lambda tables: {"a": pd.concat([tables["a"], tables["a"]["name"]], axis=1), "b": tables["b"]}, "more than one"),
    (lambda tables: {"a": tables["a"].assign(id="1"), "b": tables["b"]}, "must name each record once"),
    (lambda tables: {}, "nothing to match"),
], ids=["no column", "a column twice", "no key", "no table"])
def test_tables_that_cannot_be_matched_are_refused_by_name(change, said):
    tables = {name: people(name=["kim", "lee"], born=["2000-01-01", "2001-01-01"]) for name in ("a", "b")}
    with pytest.raises(UsageError, match=said):
        match_records(change(tables), "id", [Field("name"), Field("born", "date")], ["born", "name"])


def test_blocks_that_cannot_work_are_refused_by_name():
    tables = {name: people(name=["kim"] * 8000, born=["2000-01-01"] * 8000) for name in ("a", "b")}
    fields = [Field("name"), Field("born", "date")]
    for blocks, said in [([], "no block"), (["nam"], "block `nam`"), (["born"], "127,992,000 pairs"),
                         (["(SELECT 1; DROP TABLE plain)"], "block")]:
        with pytest.raises(UsageError, match=said):
            match_records(tables, "id", fields, blocks)
    small = {name: table.head(5).assign(name=[*"abcde"]) for name, table in tables.items()}
    with pytest.raises(UsageError, match="part of every block"):
        match_records(small, "id", fields, ["name || born"])


def test_no_rows_one_column_and_names_that_look_like_sql():
    odd = 'x"; DROP TABLE records; --'
    fields = [Field(odd), Field("born", "date"), Field("city", "exact")]
    rows = {odd: ["kim", "lee"], "born": ["2000-01-01", "2001-05-05"], "city": ["seoul", "busan"]}
    tables = {"a'; DROP": people(**rows), "b": people(**rows)}
    found = match_records(tables, "id", fields, ["born", "city"], uncertain=0.01).pairs
    assert set(found["left_department"]) <= {"a'; DROP", "b"}
    empty = match_records({name: table.head(0) for name, table in tables.items()}, "id", fields, ["born"])
    assert empty.pairs.empty and empty.candidates == 0
    clusters = pd.DataFrame({"department": ["a'; DROP"] * 2 + ["b"] * 2, "id": [*"0101"], "entity": [0, 1, 0, 1]})
    assert compare_departments(tables, "id", clusters, [odd])["kind"].tolist() == ["equal"]
