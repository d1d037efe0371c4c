"""Agreement and consensus, against implementations that are written quite differently: definitions, pair by pair."""

from itertools import permutations

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import cohen_kappa_score

from mlops_nb.agreement import (
    compare_with_gold,
    count_answers,
    find_disagreements,
    measure_agreement,
    measure_alpha,
    measure_cohen,
)
from mlops_nb.consensus import estimate_truth, find_consensus, vote
from mlops_nb.errors import UsageError


def make_answers(seed: int, items: int = 40, people: int = 4, values: int = 4, missing: float = 0.3) -> pd.DataFrame:
    """People who are right two times of three, and who do not answer on everything."""
    generator = np.random.default_rng(seed)
    truth = generator.integers(0, values, items)
    rows = []
    for person in range(people):
        given = np.where(generator.random(items) < 2 / 3, truth, generator.integers(0, values, items))
        rows += [(item, f"p{person}", int(value)) for item, value in enumerate(given) if generator.random() > missing]
    return pd.DataFrame(rows, columns=["item", "annotator", "value"])


def alpha_by_definition(answers: pd.DataFrame, ordinal: bool) -> float:
    """Krippendorff's alpha, over all pairs of answers of one item, and over all pairs of answers."""
    units = [list(own["value"]) for _, own in answers.groupby("item") if len(own) > 1]
    everything = [value for unit in units for value in unit]
    frequency = {value: everything.count(value) for value in set(everything)}

    def distance(one: int, other: int) -> float:
        if not ordinal:
            return float(one != other)
        low, high = sorted((one, other))
        between = sum(count for value, count in frequency.items() if low <= value <= high)
        return (between - (frequency[low] + frequency[high]) / 2) ** 2 if low != high else 0.0

    observed = sum(distance(a, b) / (len(unit) - 1) for unit in units for a, b in permutations(unit, 2))
    expected = sum(distance(a, b) for a, b in permutations(everything, 2)) / (len(everything) - 1)
    return 1 - observed / expected


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("ordinal", [False, True])
def test_alpha_is_what_its_definition_says(seed, ordinal):
    answers = make_answers(seed)
    counts = count_answers(answers, values=range(4)).to_numpy()
    assert measure_alpha(counts, ordinal) == pytest.approx(alpha_by_definition(answers, ordinal), abs=1e-12)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("weights", ["", "linear", "quadratic"])
def test_cohens_kappa_is_scikit_learns(seed, weights):
    answers = make_answers(seed, people=2, missing=0)
    by_person = answers.pivot(index="item", columns="annotator", values="value")
    expected = cohen_kappa_score(by_person["p0"], by_person["p1"], labels=range(4), weights=weights or None)
    assert measure_cohen(answers, "p0", "p1", values=range(4), weights=weights) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_order_and_names_do_not_matter(seed):
    """Items, people and nominal values may be called anything, and come in any order."""
    answers = make_answers(seed)
    mixed = answers.sample(frac=1, random_state=seed).assign(
        item=lambda rows: "i" + (100 - rows["item"]).astype(str),
        value=lambda rows: rows["value"].map(dict(enumerate("zkab"))),
        annotator=lambda rows: rows["annotator"].map({"p0": "박", "p1": "Kim", "p2": "a", "p3": "b"}))
    first, second = (measure_agreement(each).set_index("measure")["value"] for each in (answers, mixed))
    assert first.to_numpy() == pytest.approx(second.to_numpy(), abs=1e-12)


def test_all_agree():
    answers = pd.DataFrame([(item, person, item % 2) for item in range(10) for person in "abc"],
                           columns=["item", "annotator", "value"])
    assert list(measure_agreement(answers)["value"]) == [1.0] * 4
    assert len(find_disagreements(answers)) == 0


def test_one_value_only():
    """Chance explains everything: kappa and alpha are not defined, and are not called 0 or 1."""
    answers = pd.DataFrame([(item, person, "x") for item in range(5) for person in "ab"],
                           columns=["item", "annotator", "value"])
    table = measure_agreement(answers).set_index("measure")["value"]
    assert np.isnan(table["Fleiss' kappa"]) and np.isnan(table["Krippendorff's alpha"])
    assert table["percent agreement"] == 1


@pytest.mark.parametrize("seed", range(5))
def test_more_items_narrow_the_intervals(seed):
    few, many = (measure_agreement(make_answers(seed, items=items)).set_index("measure") for items in (40, 400))
    width = [table["high"] - table["low"] for table in (few, many)]
    assert (width[1] < width[0]).all()
    assert ((many["low"] <= many["value"]) & (many["value"] <= many["high"])).all()


def test_known_answers():
    answers = pd.DataFrame([(1, "a", "x"), (2, "a", "y"), (3, "a", "x"), (1, "b", "x")],
                           columns=["item", "annotator", "value"])
    table = compare_with_gold(answers, {1: "x", 2: "x"}).set_index("annotator")
    assert list(table["right"]) == [1, 1] and list(table["share"]) == [0.5, 1.0] and table.loc["a", "low"] > 0


def truth_by_loops(onehot: np.ndarray, smoothing: float, rounds: int) -> np.ndarray:
    """Dawid and Skene's steps, one item, person and class after the other, without logarithms."""
    items, people, classes = onehot.shape
    belief = [[sum(onehot[i, a, t] for a in range(people)) for t in range(classes)] for i in range(items)]
    belief = [[one / sum(row) for one in row] for row in belief]
    for _ in range(rounds):
        share = [(sum(row[t] for row in belief) + smoothing) / (items + smoothing * classes) for t in range(classes)]
        confusion = {}
        for a in range(people):
            for t in range(classes):
                counts = [sum(belief[i][t] * onehot[i, a, g] for i in range(items)) + smoothing for g in range(classes)]
                confusion[a, t] = [count / sum(counts) for count in counts]
        new = []
        for i in range(items):
            row = [share[t] * np.prod([confusion[a, t][g] for a in range(people) for g in range(classes)
                                       if onehot[i, a, g]]) for t in range(classes)]
            new.append([one / sum(row) for one in row])
        belief = new
    return np.array(belief)


@pytest.mark.parametrize("seed", range(3))
def test_consensus_is_dawid_and_skenes(seed):
    answers = make_answers(seed, items=25, people=3, values=3)
    codes = [pd.factorize(answers[column], sort=True)[0] for column in ("item", "annotator", "value")]
    onehot = np.zeros([max(code) + 1 for code in codes])
    onehot[tuple(codes)] = 1
    expected = truth_by_loops(onehot, 0.01, 7)
    assert estimate_truth(onehot, 0.01, 7)[0] == pytest.approx(expected, abs=1e-9)


def test_consensus_names_items_and_people():
    consensus = find_consensus(make_answers(1, items=200))
    assert set(consensus.confusions["annotator"]) == {"p0", "p1", "p2", "p3"}
    sums = consensus.confusions.groupby(["annotator", "true"])["share"].sum()
    assert sums.to_numpy() == pytest.approx(1) and consensus.shares.sum() == pytest.approx(1)
    assert consensus.labels["probability"].between(1 / 4, 1).all()


def test_a_tie_is_no_majority():
    answers = pd.DataFrame([(1, "a", "x"), (1, "b", "y"), (2, "a", "x"), (2, "b", "x")],
                           columns=["item", "annotator", "value"])
    table = vote(answers).set_index("item")
    assert pd.isna(table.loc[1, "value"]) and table.loc[2, "value"] == "x"


def test_an_order_that_lacks_a_value():
    with pytest.raises(UsageError, match="the value 3 is not among"):
        measure_agreement(make_answers(0), values=[0, 1, 2], ordinal=True)
    with pytest.raises(UsageError, match="ordinal values have an order"):
        measure_agreement(make_answers(0), ordinal=True)
