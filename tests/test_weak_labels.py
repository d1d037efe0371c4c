"""Weak rules: asked row by row, judged with and without the truth, and combined into labels."""

import math

import numpy as np
import pandas as pd
import pytest

from mlops_nb.errors import UsageError
from mlops_nb.weak_labels import (
    IMAGINED,
    START,
    apply_weak_rules,
    combine_votes,
    describe_rules,
    encode_votes,
    estimate_accuracy,
    weigh_votes,
)

MAILS = pd.DataFrame({"text": ["win money", "meeting at 9", "money", None, "win"], "length": [9, 12, 5, 0, 3]},
                     index=["m1", "m2", "m3", "m4", "m5"])
HAND = pd.DataFrame({"a": ["x", "x", "y", None], "b": ["x", "y", None, None], "c": [None, "y", "y", None]},
                    dtype=object)


def mentions_money(row):
    return "spam" if isinstance(row["text"], str) and "money" in row["text"] else None


def is_long(row):
    return "ham" if row["length"] > 10 else float("nan")


def draw_votes(known, n_labels, rows=4_000, share=0.5, random_state=0) -> tuple[np.ndarray, np.ndarray]:
    """(truth, codes) of rules with `known` accuracies, independent of each other."""
    generator = np.random.default_rng(random_state)
    truth = generator.integers(n_labels, size=rows)
    right = generator.random((rows, len(known))) < known
    wrong = (truth[:, None] + generator.integers(1, n_labels, size=right.shape)) % n_labels
    return truth, np.where(generator.random(right.shape) < share, np.where(right, truth[:, None], wrong), -1)


def test_votes_are_one_column_a_rule_and_keep_the_rows():
    votes = apply_weak_rules(MAILS, [mentions_money, is_long], ["spam", "ham"])
    assert votes.columns.tolist() == ["mentions_money", "is_long"] and votes.index.equals(MAILS.index)
    assert votes["mentions_money"].tolist() == ["spam", None, "spam", None, None]
    assert votes["is_long"].tolist() == [None, "ham", None, None, None], "NaN is no answer"
    named = apply_weak_rules(MAILS, {"one": is_long, "two": is_long})
    assert named["one"].equals(named["two"]) and named.columns.tolist() == ["one", "two"]


def test_labels_need_not_be_text_and_the_frame_may_be_empty():
    rules = {"flag": lambda row: row["length"] > 4, "code": lambda row: 7 if row["length"] else None}
    votes = apply_weak_rules(MAILS, rules)
    assert votes["flag"].tolist() == [True, True, True, False, False] and votes["code"].tolist() == [7, 7, 7, None, 7]
    assert apply_weak_rules(MAILS.head(0), [is_long]).shape == (0, 1)


def test_a_rule_sees_plain_values():
    kinds = apply_weak_rules(pd.DataFrame({"n": [1], "x": [0.5], "t": ["a"]}), {
        name: lambda row, name=name: type(row[name]).__name__ for name in ("n", "x", "t")})
    assert kinds.iloc[0].tolist() == ["int", "float", "str"]


@pytest.mark.parametrize("rule, said", [
    (lambda row: "spam" if "money" in row["text"] else None, "weak rule `<lambda>`, row m4: TypeError"),
    (lambda row: row["txt"], "row m1: KeyError: 'txt'"),
    (lambda row: ["spam"], "row m1: ['spam'] is no label"),
    (lambda row: "spm", "did you mean `spam`"),
])
def test_a_rule_that_fails_is_named_with_its_row(rule, said):
    with pytest.raises(UsageError) as error:
        apply_weak_rules(MAILS, [is_long, rule], ["spam", "ham"])
    assert said in str(error.value)


@pytest.mark.parametrize("rules, said", [
    ([], "no weak rules"), ({}, "no weak rules"), ([is_long, is_long], "two weak rules are named `is_long`"),
])
def test_rules_need_names_of_their_own(rules, said):
    with pytest.raises(UsageError, match=said):
        apply_weak_rules(MAILS, rules)


def test_coverage_overlap_and_conflict_by_hand():
    table = describe_rules(HAND).set_index("rule")
    assert table["votes"].tolist() == [3, 2, 2] and table["coverage"].tolist() == [0.75, 0.5, 0.5]
    assert table["overlap"].tolist() == [0.75, 0.5, 0.5] and table["conflict"].tolist() == [0.25, 0.25, 0.25]
    assert (table["judged"] == 0).all()
    lone = describe_rules(pd.DataFrame({"a": ["x", "x"], "b": ["y", None]}, dtype=object))
    assert lone["coverage"].tolist() == [1, 0.5] and lone["overlap"].tolist() == [0.5, 0.5] == lone["conflict"].tolist()


def test_accuracy_is_counted_where_gold_is_known():
    table = describe_rules(HAND, ["x", "y", None, "x"]).set_index("rule")
    assert table["accuracy"].tolist()[:2] == [0.5, 1.0] and table["judged"].tolist() == [2, 2, 1]
    unseen = describe_rules(HAND, pd.Series(["x", None, None, None]))
    assert math.isnan(unseen["accuracy"][2]) and unseen["judged"].tolist() == [1, 1, 0]
    assert describe_rules(HAND[["a"]].replace("y", "x"), ["x"] * 4)["accuracy"].tolist() == [1.0], "one label is enough"


@pytest.mark.parametrize("gold", [["x"], [None] * 4, pd.Series([np.nan] * 4)])
def test_gold_must_be_of_these_rows(gold):
    with pytest.raises(UsageError, match="gold"):
        describe_rules(HAND, gold)


def estimate_slowly(codes, n_labels, rounds=200) -> list[float]:
    """The same model, row by row, in probabilities and without patterns."""
    accuracy = [START] * codes.shape[1]
    for _ in range(rounds):
        supported, counts = [START * IMAGINED] * len(accuracy), [IMAGINED] * len(accuracy)
        for row in codes:
            belief = [math.prod(accuracy[j] if vote == label else (1 - accuracy[j]) / (n_labels - 1)
                                for j, vote in enumerate(row) if vote >= 0) for label in range(n_labels)]
            for j, vote in enumerate(row):
                if vote >= 0:
                    supported[j] += belief[vote] / sum(belief)
                    counts[j] += 1
        accuracy = [s / c for s, c in zip(supported, counts, strict=True)]
    return accuracy


@pytest.mark.parametrize("n_labels", [2, 4])
def test_the_estimate_is_that_of_a_plain_loop(n_labels):
    _, codes = draw_votes([0.9, 0.7, 0.6, 0.4], n_labels, rows=60)
    assert estimate_accuracy(codes, n_labels) == pytest.approx(estimate_slowly(codes, n_labels), abs=1e-4)


@pytest.mark.parametrize("n_labels", [2, 3, 6])
def test_accuracies_are_found_without_the_truth(n_labels):
    known = np.array([0.95, 0.85, 0.75, 0.65, 0.3])
    truth, codes = draw_votes(known, n_labels)
    found = estimate_accuracy(codes, n_labels)
    assert np.abs(found - known).max() < 0.06
    weighed = weigh_votes(codes, found, n_labels)
    assert weighed.sum(axis=1) == pytest.approx(1)
    several = (codes >= 0).sum(axis=1) >= 3
    heads = np.stack([(codes == label).sum(axis=1) for label in range(n_labels)], axis=1).argmax(axis=1)
    assert (weighed.argmax(axis=1) == truth)[several].mean() > (heads == truth)[several].mean()


def test_confidence_is_a_probability_where_rules_are_independent():
    truth, codes = draw_votes([0.9, 0.8, 0.7, 0.7, 0.6], 2, rows=20_000)
    table = combine_votes(pd.DataFrame(codes, dtype=object).replace(-1, None))
    told = table["value"].notna()
    gap = (table["value"][told] == truth[told]).mean() - table["confidence"][told].mean()
    assert abs(gap) < 0.02


def test_a_bad_rule_counts_as_evidence_against_its_vote():
    _, codes = draw_votes([0.9, 0.9, 0.9, 0.05], 2)
    votes = pd.DataFrame(np.vstack([codes, [[-1, -1, -1, 1]]]), dtype=object).replace(-1, None)
    assert combine_votes(votes)["value"].iloc[-1] == 0 and combine_votes(votes, "majority")["value"].iloc[-1] == 1


def test_majority_by_hand():
    table = combine_votes(HAND, "majority")
    assert table["value"].tolist() == ["x", "y", "y", None] and table["rules"].tolist() == [2, 3, 2, 0]
    assert table["confidence"].tolist()[:3] == pytest.approx([1, 2 / 3, 1]) and math.isnan(table["confidence"][3])


def test_a_row_without_votes_has_no_value_even_if_there_is_one_label_only():
    table = combine_votes(pd.DataFrame({"a": ["x", None]}, dtype=object), "majority")
    assert table["value"].tolist() == ["x", None]


def test_what_is_level_has_no_value():
    level = pd.DataFrame({"a": ["x"] * 3, "b": ["y"] * 3}, dtype=object, index=[5, 6, 7])
    for method in ("majority", "model"):
        table = combine_votes(level, method)
        assert table["value"].tolist() == [None] * 3 and table["confidence"].tolist() == pytest.approx([0.5] * 3)
        assert table.index.tolist() == [5, 6, 7]


def test_the_order_of_rows_and_rules_does_not_matter():
    _, codes = draw_votes([0.9, 0.7, 0.6], 3, rows=300)
    votes = pd.DataFrame(codes, columns=list("abc"), dtype=object).replace(-1, None)
    turned = combine_votes(votes.iloc[::-1, ::-1]).iloc[::-1]
    straight = combine_votes(votes)
    assert turned["value"].equals(straight["value"])
    assert np.allclose(turned["confidence"], straight["confidence"], equal_nan=True)


def test_labels_of_several_types_are_kept_apart():
    codes, labels = encode_votes(pd.DataFrame({"a": [1, "1", None], "b": ["1", 1, np.nan]}, dtype=object))
    assert labels == [1, "1"] and codes.tolist() == [[0, 1], [1, 0], [-1, -1]]
    assert encode_votes(pd.DataFrame({"a": ["1", 1]}, dtype=object))[1] == labels, "whichever comes first"


@pytest.mark.parametrize("votes, method, said", [
    (HAND, "majorty", "did you mean `majority`"),
    (HAND.head(0), "model", "no votes"),
    (HAND[[]], "majority", "no votes"),
    (HAND.tail(1), "majority", "no rule votes"),
    (HAND[["a"]].head(2), "model", "one label only"),
])
def test_votes_that_cannot_be_combined(votes, method, said):
    with pytest.raises(UsageError, match=said):
        combine_votes(votes, method)
