"""Confident learning against a plain reading of the paper, on small tables and on digits with planted errors."""

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.neighbors import KNeighborsClassifier

from mlops_nb.errors import UsageError
from mlops_nb.label_errors import (
    SELECTIONS,
    calibrate_joint,
    estimate_joint,
    find_label_errors,
    measure_thresholds,
    predict_out_of_fold,
)

SMALL = np.array([[0.9, 0.1], [0.7, 0.3], [0.2, 0.8], [0.4, 0.6], [0.45, 0.55]])
ANIMALS = ["cat", "cat", "cat", "dog", "dog"]


def draw(rows=200, classes=4, random_state=0) -> tuple[np.ndarray, np.ndarray]:
    """Labels, and probabilities that mostly agree with them."""
    generator = np.random.default_rng(random_state)
    labels = generator.integers(classes, size=rows)
    strength = np.ones((rows, classes)) * 0.7
    seen = np.where(generator.random(rows) < 0.15, generator.integers(classes, size=rows), labels)
    strength[np.arange(rows), seen] += 3
    return labels, np.array([generator.dirichlet(row) for row in strength])


def read_the_paper(labels, table) -> tuple[list[float], np.ndarray, list[int]]:
    """Thresholds, confident joint and its off-diagonal rows by normalized margin, one row at a time."""
    classes = range(table.shape[1])
    thresholds = []
    for k in classes:
        own = [table[i][k] for i in range(len(labels)) if labels[i] == k]
        thresholds.append(sum(own) / len(own))
    joint, wrong = np.zeros((len(classes), len(classes)), dtype=int), {}
    for i, label in enumerate(labels):
        reached = [k for k in classes if table[i][k] >= thresholds[k]]
        if reached:
            is_ = max(reached, key=lambda k: table[i][k])
            joint[label][is_] += 1
            if is_ != label:
                wrong[i] = table[i][label] - max(table[i][k] for k in classes if k != label)
    return thresholds, joint, sorted(wrong, key=wrong.__getitem__)


@pytest.mark.parametrize("random_state", range(5))
def test_thresholds_joint_and_order_are_those_of_the_paper(random_state):
    labels, table = draw(random_state=random_state)
    thresholds, joint, order = read_the_paper(labels.tolist(), table)
    assert measure_thresholds(labels, table) == pytest.approx(thresholds)
    estimated = estimate_joint(labels, table, range(4))
    assert estimated["confident"].to_numpy().reshape(4, 4).tolist() == joint.tolist()
    found = find_label_errors(labels, table, range(4))
    assert len(order) > 5 and found["position"].tolist() == order and found.index.tolist() == order
    counts = np.array([(labels == k).sum() for k in range(4)])
    by_hand = np.array([[joint[i][j] / sum(joint[i]) * counts[i] for j in range(4)] for i in range(4)])
    assert estimated["rows"].to_numpy().reshape(4, 4) == pytest.approx(by_hand)
    assert estimated["share"].sum() == pytest.approx(1)


def test_a_small_table_by_hand():
    found = find_label_errors(pd.Series(ANIMALS, index=list("abcde")), SMALL, ["cat", "dog"])
    assert found.index.tolist() == ["c"] and found["position"].tolist() == [2]
    assert found.iloc[0][["label", "suggested"]].tolist() == ["cat", "dog"]
    assert found.iloc[0][["margin", "label_probability"]].tolist() == pytest.approx([-0.6, 0.2])
    joint = estimate_joint(ANIMALS, pd.DataFrame(SMALL, columns=["cat", "dog"])).set_index(["label", "true"])
    assert joint["confident"].tolist() == [2, 1, 0, 1] and joint["rows"].tolist() == pytest.approx([2, 1, 0, 2])


def test_an_unsure_class_may_be_suggested_against_the_likeliest():
    """Dogs are seldom sure of, so 0.45 is a confident dog, though the model leans to the cat that the label says."""
    table = [[0.95, 0.05, 0]] * 3 + [[0.5, 0.45, 0.05]] + [[0.3, 0.4, 0.3]] * 2 + [[0, 0.1, 0.9]] * 2
    labels, classes = ["cat"] * 4 + ["dog"] * 2 + ["owl"] * 2, ["cat", "dog", "owl"]
    found = find_label_errors(labels, table, classes)
    assert found["position"].tolist() == [3] and found["suggested"].tolist() == ["dog"]
    assert found["margin"].tolist() == pytest.approx([0.05])
    assert find_label_errors(labels, table, classes, "count").empty, "the model is for each label"


def test_the_order_of_the_classes_is_that_of_the_columns():
    straight = find_label_errors(ANIMALS, SMALL, ["cat", "dog"])
    turned = find_label_errors(ANIMALS, SMALL[:, ::-1], ["dog", "cat"])
    pd.testing.assert_frame_equal(straight, turned)
    assert len(find_label_errors(ANIMALS, SMALL, ["dog", "cat"])) != len(straight), "the wrong order is another table"


def test_a_class_that_nobody_labeled_is_never_suggested():
    table = np.column_stack([SMALL * 0.1, np.full(5, 0.9)])
    assert "bird" not in find_label_errors(ANIMALS, table, ["cat", "dog", "bird"])["suggested"].tolist()
    joint = estimate_joint(ANIMALS, table, ["cat", "dog", "bird"])
    assert joint.loc[joint["label"].eq("bird") | joint["true"].eq("bird"), "rows"].sum() == 0


def test_a_label_without_a_confident_row_counts_as_right():
    rows = calibrate_joint(np.array([[3, 1], [0, 0]]), np.array([0] * 8 + [1] * 5))
    assert rows.tolist() == [[6, 2], [0, 5]]


def test_right_labels_give_no_candidates():
    labels = np.repeat([0, 1, 2], 20)
    table = np.full((60, 3), 0.1)
    table[np.arange(60), labels] = 0.8
    for select in SELECTIONS:
        assert find_label_errors(labels, table, range(3), select).empty


def test_count_takes_as_many_of_the_lowest_margins_as_are_estimated():
    labels, table = draw(400)
    estimated = estimate_joint(labels, table, range(4))
    wrong = estimated.loc[estimated["label"] != estimated["true"], "rows"].sum()
    found = find_label_errors(labels, table, range(4), "count")
    own = table[np.arange(400), labels]
    margin = [own[i] - np.delete(table[i], labels[i]).max() for i in range(400)]
    assert len(found) == round(wrong) and found["margin"].tolist() == pytest.approx(sorted(margin)[: len(found)])
    assert (found["label"] != found["suggested"]).all()


@pytest.fixture(scope="module")
def planted() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(pixels, labels with 3 % wrong, positions of the wrong ones)."""
    pixels, digits = load_digits(return_X_y=True)
    generator = np.random.default_rng(1)
    rows = generator.choice(len(digits), size=round(0.03 * len(digits)), replace=False)
    labels = digits.copy()
    labels[rows] = (digits[rows] + generator.integers(1, 10, size=len(rows))) % 10
    return pixels / 16, labels, rows


@pytest.mark.parametrize("estimator", [LogisticRegression(max_iter=300), RandomForestClassifier(60, random_state=0)])
def test_planted_errors_are_found(planted, estimator):
    pixels, labels, rows = planted
    probabilities = predict_out_of_fold(estimator, pixels, labels)
    for select, recall, precision in [("joint", 0.6, 0.9), ("count", 0.8, 0.75)]:
        found = find_label_errors(labels, probabilities, select=select)["position"]
        assert np.isin(rows, found).mean() > recall and np.isin(found, rows).mean() > precision
    estimated = estimate_joint(labels, probabilities)
    wrong = estimated.loc[estimated["label"] != estimated["true"], "rows"].sum()
    assert 0.7 * len(rows) < wrong < 1.4 * len(rows)


def test_out_of_fold_is_scikit_learns_and_follows_the_seed():
    pixels, digits = (part[:300] for part in load_digits(return_X_y=True))
    names = pd.Series([f"digit {digit}" for digit in digits], index=[f"row {i}" for i in range(300)])
    estimator = LogisticRegression(max_iter=200)
    found = predict_out_of_fold(estimator, pixels, names, cv=3, random_state=4)
    folds = StratifiedKFold(3, shuffle=True, random_state=4)
    expected = cross_val_predict(estimator, pixels, names.to_numpy(dtype=str), cv=folds, method="predict_proba")
    assert np.allclose(found, expected) and found.index.equals(names.index)
    assert found.columns.tolist() == sorted(set(names)) and not hasattr(estimator, "coef_")
    assert found.equals(predict_out_of_fold(estimator, pixels, names, cv=3, random_state=4))
    framed = predict_out_of_fold(estimator, pd.DataFrame(pixels), names, cv=3, random_state=4)
    assert np.allclose(found, framed, atol=1e-3), "a frame's memory is laid out otherwise, so the last digits differ"
    assert not found.equals(predict_out_of_fold(estimator, pixels, names, cv=3, random_state=5))


def test_copies_in_one_group_do_not_betray_the_label():
    generator = np.random.default_rng(0)
    groups = np.repeat(np.arange(60), 4)
    X, y = generator.normal(size=(60, 2))[groups], groups % 2
    nearest = KNeighborsClassifier(1)
    alone, together = (predict_out_of_fold(nearest, X, y, groups=given) for given in (None, groups))
    right = [table.to_numpy()[np.arange(240), y].mean() for table in (alone, together)]
    assert right[0] > 0.95 and right[1] < 0.7


@pytest.mark.parametrize("wrong, said", [
    ({"y": [0] * 6}, "one of 1 classes"),
    ({"y": [0, 0, 0, 0, 0, 1]}, "`1`, one of 2 classes, in 1 rows"),
    ({"y": [0, 0, None, 1, 1, 1]}, "labels, row 2: missing"),
    ({"y": [], "X": np.empty((0, 2))}, "shape (0,)"),
    ({"y": [0, 1]}, "2 labels for 6 rows"),
    ({"groups": [1, 2, 3]}, "another number of groups"),
    ({"groups": [1, 2, 3, 4, 4, 4]}, "`1`, one of 2 classes, in 1 rows or groups"),
    ({"cv": 1}, "1 folds"),
    ({"estimator": RidgeClassifier()}, "RidgeClassifier has no predict_proba"),
])
def test_what_cannot_be_predicted_out_of_fold(wrong, said):
    given = {"estimator": LogisticRegression(), "X": np.arange(12.0).reshape(6, 2), "y": [0, 0, 0, 1, 1, 1], "cv": 3}
    assert predict_out_of_fold(**given).shape == (6, 2)
    with pytest.raises(UsageError) as error:
        predict_out_of_fold(**{**given, **wrong})
    assert said in str(error.value)


@pytest.mark.parametrize("labels, probabilities, classes, select, said", [
    ([], np.empty((0, 2)), ["cat", "dog"], "joint", "shape (0,)"),
    (ANIMALS, SMALL, ["cat", "dog"], "jiont", "did you mean `joint`"),
    (ANIMALS, SMALL, None, "joint", "classes []"),
    (ANIMALS, SMALL, ["cat", "cat"], "joint", "each once"),
    (ANIMALS, SMALL[:, :1], ["cat"], "joint", "at least two classes"),
    (ANIMALS, SMALL[:3], ["cat", "dog"], "joint", "shape (3, 2) for 5 labels"),
    (ANIMALS, SMALL * [[1], [1], [2], [1], [1]], ["cat", "dog"], "count", "row 2"),
    (ANIMALS, SMALL * [[1], [np.nan], [1], [1], [1]], ["cat", "dog"], "joint", "row 1"),
    (ANIMALS, [*SMALL[:3], [1.1, -0.1], [0.5, 0.5]], ["cat", "dog"], "joint", "row 3"),
    (ANIMALS, [["a", "b"]] * 5, ["cat", "dog"], "joint", "not numbers"),
    ([*ANIMALS[:4], None], SMALL, ["cat", "dog"], "joint", "row 4: missing"),
    ([*ANIMALS[:4], "dgo"], SMALL, ["cat", "dog"], "joint", "label `dgo` is none of the classes"),
])
def test_what_no_list_can_be_made_of(labels, probabilities, classes, select, said):
    with pytest.raises(UsageError) as error:
        find_label_errors(labels, probabilities, classes, select)
    assert said in str(error.value) and error.value.mend
