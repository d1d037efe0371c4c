"""Orders of the labeling queue against plain loops, what they save, and when labeling may stop."""

import math

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_digits
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.metrics import cohen_kappa_score
from sklearn.model_selection import train_test_split

from mlops_nb.active_learning import (
    CANDIDATES,
    ORDERS,
    deal_folds,
    labels_to_reach,
    learning_curve,
    measure_doubt,
    measure_entropy,
    measure_margin,
    measure_slice_accuracy,
    order_items,
    simulate_labeling,
    spread_rows,
    suggest_stop,
)
from mlops_nb.errors import UsageError

CAMERAS = pd.DataFrame({"camera": ["a", "a", "a", "b", "b", "b"], "night": [True, False, True, False, True, False]})


@pytest.fixture(scope="module")
def pool() -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(7)
    return generator.normal(size=(60, 5)), generator.dirichlet(np.ones(4), 60)


@pytest.fixture(scope="module")
def digits() -> tuple:
    X, y = load_digits(return_X_y=True)
    return train_test_split(X / 16, y, test_size=400, stratify=y, random_state=0)


def order(pool, method, **given) -> np.ndarray:
    """Any order on the pool, with slices for the one that needs them."""
    slices = np.where(pool[0][:, 0] > 0, "up", "down")
    accuracy = measure_slice_accuracy(["up", "down", "down"], [0, 1, 1], [0, 1, 0])
    return order_items(*pool, **{"method": method, "slices": slices, "accuracy": accuracy, "batch": 8, **given})


def test_the_measures_are_what_a_plain_loop_says(pool):
    measured = zip(measure_doubt(pool[1]), measure_margin(pool[1]), measure_entropy(pool[1]), strict=True)
    for row, (doubt, margin, entropy) in zip(pool[1], measured, strict=True):
        falling = sorted(row.tolist(), reverse=True)
        assert math.isclose(doubt, 1 - falling[0])
        assert math.isclose(margin, 1 - (falling[0] - falling[1]))
        assert math.isclose(entropy, -sum(p * math.log(p) for p in falling))


def test_a_certain_row_has_no_doubt_whichever_way_it_is_measured():
    certain = np.array([[0.0, 1.0, 0.0]])
    assert [float(measure(certain)[0]) for measure in (measure_doubt, measure_margin, measure_entropy)] == [0, 0, 0]


def choose_centers_slowly(X, centers, number) -> list[int]:
    """Greedy k-center as it is told: no matrix, no squares."""
    chosen: list[int] = []
    for _ in range(number):
        taken = [*centers, *(X[j] for j in chosen)]
        distance = {i: min(math.dist(X[i], c) for c in taken) for i in range(len(X)) if i not in chosen}
        chosen.append(max(distance, key=distance.__getitem__))
    return chosen


@pytest.mark.parametrize("offset", [0, 1e4])
def test_diversity_is_greedy_k_center(pool, offset):
    X, centers = pool[0] + offset, pool[0][:3] * 2 + offset
    slow = choose_centers_slowly(X, centers, 12)
    assert order_items(X, method="diversity", batch=12, X_labeled=centers)[:12].tolist() == slow
    found = spread_rows(X, 12, centers, np.random.default_rng(5))
    left = [min(math.dist(X[i], c) for c in [*centers, *X[slow]]) for i in found[12:]]
    assert sorted(left, reverse=True) == pytest.approx(left), "the rest by falling distance"


def test_without_labels_the_first_center_is_random_and_the_others_follow_from_it(pool):
    firsts = {int(order_items(pool[0], method="diversity", random_state=seed)[0]) for seed in range(20)}
    assert len(firsts) > 5
    first, *others = order_items(pool[0], method="diversity", batch=6, random_state=3)[:6].tolist()
    assert choose_centers_slowly(pool[0], [pool[0][first]], 6)[:5] == others


def test_copies_come_last_in_a_diverse_order():
    X = np.array([[0.0, 0], [0, 0], [0, 0], [3, 4], [3, 4], [9, 9]])
    assert sorted(X[order_items(X, method="diversity", batch=3)[:3]].tolist()) == [[0, 0], [3, 4], [9, 9]]
    assert sorted(order_items(X, method="diversity", batch=100).tolist()) == list(range(6))


def test_the_mixture_takes_uncertain_items_and_spreads_them(pool):
    batch = 4
    by_margin = order(pool, "margin")
    mixed = order(pool, "uncertainty+diversity", batch=batch, X_labeled=pool[0][:2])
    few = by_margin[: CANDIDATES * batch]
    assert [int(few[i]) for i in choose_centers_slowly(pool[0][few], pool[0][:2], batch)] == mixed[:batch].tolist()
    assert mixed[batch:].tolist() == [i for i in by_margin.tolist() if i not in mixed[:batch]]


@pytest.mark.parametrize("method", ORDERS)
def test_each_order_names_each_item_once_and_follows_the_seed(pool, method):
    assert sorted(order(pool, method).tolist()) == list(range(60))
    assert order(pool, method, random_state=4).tolist() == order(pool, method, random_state=4).tolist()
    assert len(order_items(np.empty((0, 5)), method=method)) == 0, "nothing waits: nothing to order"


@pytest.mark.parametrize("method", ["random", "margin", "entropy", "least_confidence"])
def test_equals_come_in_an_order_that_only_the_seed_decides(method):
    even = np.full((50, 2), 0.5)
    seen = {tuple(order_items(even, even, method, random_state=seed).tolist()) for seed in range(5)}
    assert len(seen) == 5 and tuple(range(50)) not in seen


@pytest.mark.parametrize("method, column", [("least_confidence", 1), ("margin", 0), ("entropy", 1)])
def test_which_row_is_first(method, column):
    three = np.array([[0.50, 0.49, 0.01], [0.40, 0.30, 0.30], [0.9, 0.1, 0.0]])
    found = order_items(np.zeros((3, 1)), three, method)
    assert found[0] == column and found[-1] == 2


def test_slice_accuracy_is_counted_by_hand():
    table = measure_slice_accuracy(CAMERAS, [1] * 6, [1, 1, 0, 0, 0, 1], weight=2).set_index(["column", "level"])
    assert table.loc[("camera", "a"), ["rows", "right"]].tolist() == [3, 2]
    assert table.loc[("camera", "b"), "accuracy"] == pytest.approx((1 + 2 * 0.5) / 5)
    assert table.loc[("night", "True"), "accuracy"] == pytest.approx((1 + 2 * 0.5) / 5)
    assert table["accuracy"].is_monotonic_increasing


def test_the_worst_slice_first_inside_it_the_doubtful_and_strangers_are_average():
    accuracy = measure_slice_accuracy(["a"] * 10 + ["b"] * 10, [1] * 20, [1] * 9 + [0] + [1] * 2 + [0] * 8)
    sure, torn = [0.9, 0.1], [0.5, 0.5]
    probabilities, slices = [sure, sure, torn, torn, sure], ["a", "b", "b", "new", None]
    found = order_items(np.zeros((5, 1)), probabilities, "worst_slices", slices, accuracy=accuracy)
    assert found.tolist() == [2, 1, 3, 4, 0]


def test_a_row_counts_by_the_worst_of_its_slices():
    accuracy = measure_slice_accuracy(CAMERAS, [1] * 6, [1, 1, 1, 0, 0, 0])
    waiting = pd.DataFrame({"camera": ["a", "a", "b"], "night": [True, False, True]})
    for seed in range(5):
        ranked = order_items(np.zeros((3, 1)), None, "worst_slices", waiting, seed, accuracy=accuracy)
        assert ranked.tolist() == [2, 1, 0]


@pytest.mark.parametrize("wrong, said", [
    ({"method": "entrpy"}, "did you mean `entropy`"),
    ({"probabilities": None}, "needs `probabilities`"),
    ({"probabilities": [[0.6, 0.6], [0.5, 0.5]]}, "row 0: [0.6, 0.6] do not sum to 1"),
    ({"probabilities": [[0.5, 0.5], [1.5, -0.5]]}, "row 1"),
    ({"probabilities": [[0.5, 0.5], [np.nan, 0.5]]}, "row 1: a value is missing"),
    ({"probabilities": [[1.0], [1.0]]}, "one class only"),
    ({"probabilities": [[0.5, 0.5]]}, "1 rows and X has 2"),
    ({"probabilities": [0.5, 0.5]}, "not a table of numbers"),
    ({"batch": 0}, "batch 0"),
    ({"method": "diversity", "X": [[1.0, np.inf], [0, 0]]}, "X, row 0"),
    ({"method": "diversity", "X": [["a"], ["b"]]}, "not a table of numbers"),
    ({"method": "diversity", "X_labeled": [[np.nan, 1.0]]}, "X_labeled, row 0"),
    ({"method": "worst_slices"}, "needs `accuracy`"),
    ({"method": "worst_slices", "slices": ["a"]}, "slices have 1 rows"),
    ({"method": "worst_slices", "accuracy": measure_slice_accuracy(["a"], [1], [1])}, "needs `slices`"),
])
def test_what_cannot_be_ordered_is_refused_by_name(wrong, said):
    given = {"X": [[0.0, 1.0], [1.0, 0.0]], "probabilities": [[0.5, 0.5], [0.3, 0.7]], "method": "margin", **wrong}
    with pytest.raises(UsageError) as error:
        order_items(**given)
    assert said in str(error.value) and error.value.mend


@pytest.mark.parametrize("slices, y_true, y_pred", [([], [], []), (["a"], [1, 2], [1, 2]), (["a", "b"], [1, 2], [1])])
def test_slices_and_predictions_must_be_of_the_same_rows(slices, y_true, y_pred):
    with pytest.raises(UsageError, match="differ in length, or are empty"):
        measure_slice_accuracy(slices, y_true, y_pred)


def test_a_simulation_is_decided_by_its_seed_and_shares_its_start(digits):
    X, X_test, y, y_test = digits
    estimator = LogisticRegression(max_iter=300)
    options = (estimator, X, y, X_test, y_test, "margin", 30, 10, 3)
    once, again, other = (simulate_labeling(*options, random_state=seed) for seed in (1, 1, 2))
    random = simulate_labeling(estimator, pd.DataFrame(X), pd.Series(y), X_test, y_test, "random", 30, 10, 3, 1)
    assert once.equals(again) and not once["score"].equals(other["score"])
    assert once["labels"].tolist() == [30, 40, 50, 60] and once["score"].iloc[0] == random["score"].iloc[0]
    assert not hasattr(estimator, "coef_"), "the estimator itself stays as it was"


def test_a_simulation_ends_where_the_labels_end(digits):
    X, X_test, y, y_test = digits
    curve = simulate_labeling(RidgeClassifier(), X[:50], y[:50], X_test, y_test, "diversity", 20, 20, 9)
    assert curve["labels"].tolist() == [20, 40, 50]
    full = RidgeClassifier().fit(X[:50], y[:50]).score(X_test, y_test)
    assert curve["score"].iloc[-1] == pytest.approx(full), "no labels are lost, whatever their order"


def test_an_order_of_ones_own_sees_what_waits_and_what_is_labeled(digits, monkeypatch):
    X, X_test, y, y_test = digits
    pools = []
    monkeypatch.setitem(ORDERS, "own", lambda pool: pools.append(pool) or np.arange(len(pool.X)))
    simulate_labeling(LogisticRegression(max_iter=300), X[:60], y[:60], X_test, y_test, "own", 30, 10, 2)
    assert [len(pool.X_labeled) for pool in pools] == [30, 40] and [pool.batch for pool in pools] == [10, 10]
    for pool in pools:
        both = np.vstack([pool.X, pool.X_labeled])
        assert sorted(both.tolist()) == sorted(X[:60].tolist()) and pool.probabilities.shape[0] == len(pool.X)
    assert (pools[1].X_labeled[30:] == pools[0].X[:10]).all(), "the first of the order were labeled"


def test_margin_saves_labels_on_digits(digits):
    X, X_test, y, y_test = digits
    estimator = LogisticRegression(C=10, max_iter=500)
    curves = pd.concat([simulate_labeling(estimator, X, y, X_test, y_test, method, 20, 20, 12, seed)
                        for method in ("random", "margin") for seed in range(3)])
    area = curves.groupby("method")["score"].mean()
    assert area["margin"] > area["random"]
    assert labels_to_reach(curves, 0.9).set_index("method").loc["margin", "saving"] > 0


@pytest.mark.parametrize("wrong", [{"start": 1}, {"start": 0}, {"start": 999}, {"method": "margn"}, {"y": [0] * 20},
                                   {"y": [0.0, np.nan] * 10}, {"estimator": RidgeClassifier()}])
def test_a_simulation_that_cannot_begin(wrong):
    X, y = np.arange(40.0).reshape(20, 2), np.array([0, 1] * 10)
    given = {"estimator": DummyClassifier(), "X": X, "y": y, "X_test": X, "y_test": y, "start": 10, "batch": 5}
    assert len(simulate_labeling(**given, rounds=2)) == 3
    with pytest.raises(UsageError):
        simulate_labeling(**{**given, **wrong})


def test_labels_to_reach_by_hand():
    def curve(method, seed, *scores):
        return pd.DataFrame({"method": method, "random_state": seed, "labels": [10, 20, 30, 40], "score": scores})

    curves = pd.concat([
        curve("random", 0, 0.5, 0.6, 0.7, 0.9), curve("random", 1, 0.5, 0.9, 0.8, 0.9),
        curve("margin", 0, 0.5, 0.9, 0.9, 0.9), curve("margin", 1, 0.5, 0.6, 0.9, 0.9),
        curve("broken", 0, 0.9, 0.9, 0.9, 0.9), curve("broken", 1, 0.1, 0.1, 0.1, 0.1),
    ])
    table = labels_to_reach(curves, 0.85).set_index("method")
    assert table.loc["random", ["labels", "fewest", "most", "saving"]].tolist() == [30, 20, 40, 0]
    assert table.loc["margin", ["labels", "saving", "saving_low", "saving_high"]].tolist() == [25, 0, -0.5, 0.5]
    assert table["reached"].tolist() == [2, 2, 1] and table.loc["broken", ["labels", "saving"]].isna().all()
    with pytest.raises(UsageError, match="did you mean `random`"):
        labels_to_reach(curves, 0.85, "randm")


def test_folds_spread_each_class_and_allow_a_rare_one():
    y = np.array(["a"] * 10 + ["b"] * 7 + ["c"])
    folds = deal_folds(y, 5, 0)
    for label in "abc":
        per_fold = np.bincount(folds[y == label], minlength=5)
        assert per_fold.max() - per_fold.min() <= 1
    assert (folds == deal_folds(y, 5, 0)).all() and (folds != deal_folds(y, 5, 1)).any()


def test_a_learning_curve_scores_what_it_says(digits):
    X, X_test, y, y_test = digits
    estimator = LogisticRegression(max_iter=300)
    curve = learning_curve(estimator, X, y, [60, 120], X_test, y_test, X_pool=X[120:])
    models = [LogisticRegression(max_iter=300).fit(X[:size], y[:size]) for size in (60, 120)]
    assert curve["score"].tolist() == [model.score(X_test, y_test) for model in models]
    assert curve["agreement"].iloc[1] == pytest.approx(cohen_kappa_score(*(model.predict(X[120:]) for model in models)))
    folded = learning_curve(estimator, pd.DataFrame(X), pd.Series(y), [60, 120], cv=3)
    assert np.allclose(folded["score"], learning_curve(estimator, X, y, [60, 120], cv=3)["score"], atol=0.02)
    assert folded["agreement"].isna().all()
    X, y, folds = X[:60], y[:60], deal_folds(y[:60], 3, 0)
    by_hand = [LogisticRegression(max_iter=300).fit(X[folds != k], y[folds != k]).score(X[folds == k], y[folds == k])
               for k in range(3)]
    assert folded["score"].iloc[0] == pytest.approx(np.mean(by_hand))


def test_two_models_that_say_one_thing_agree():
    X, y = np.zeros((8, 1)), np.array([0, 0, 1, 1, 0, 0, 0, 0])
    assert learning_curve(DummyClassifier(), X, y, [4, 8], X_pool=X)["agreement"].iloc[1] == 1


@pytest.mark.parametrize("wrong", [{"sizes": []}, {"sizes": [8, 4]}, {"sizes": [4, 99]}, {"sizes": [0, 4]},
                                   {"sizes": [3, 8]}, {"cv": 1}, {"y": [0, 0, 1, 1, None, 1, 1, 1]}, {"y": [0] * 8}])
def test_a_curve_that_cannot_be_measured(wrong):
    given = {"X": np.arange(8.0).reshape(8, 1), "y": np.array([0, 0, 1, 1, 1, 1, 1, 1]), "sizes": [4, 8], "cv": 2}
    assert len(learning_curve(DummyClassifier(), **given)) == 2
    with pytest.raises(UsageError):
        learning_curve(DummyClassifier(), **{**given, **wrong})


def curve_of(score, agreement) -> pd.DataFrame:
    return pd.DataFrame({"labels": np.arange(1, len(score) + 1) * 20, "score": score, "agreement": agreement})


@pytest.mark.parametrize("score, agreement, stop, said", [
    ([0.7, 0.8, 0.9, 0.95], 0.999, False, "go on: the last 60 labels"),
    ([0.9, 0.9, 0.9, 0.9], 0.95, False, "still change (agreement 0.950)"),
    ([0.2, 0.9, 0.9, 0.9, 0.9], 0.995, True, "stand still (agreement 0.995)"),
    ([0.9, 0.9, 0.9, 0.9], np.nan, True, "was not measured"),
    ([0.9, 0.88, 0.86, 0.84], 0.999, False, "look first"),
    ([0.9, 0.9, 0.9], 0.999, False, "no trend yet"),
])
def test_stop_only_when_flat_and_at_rest(score, agreement, stop, said):
    suggestion = suggest_stop(curve_of(score, agreement))
    assert suggestion.stop is stop and said in suggestion.reason


def test_the_thresholds_of_a_stop_are_the_callers():
    rising = curve_of([0.90, 0.91, 0.92, 0.93], 0.97)
    assert not suggest_stop(rising).stop and suggest_stop(rising, min_gain=0.05, min_agreement=0.9).stop
    assert "40 labels changed the score by +0.0200" in suggest_stop(rising, rounds=2).reason


@pytest.mark.parametrize("wrong", [curve_of([0.9] * 4, 1.0).drop(columns="agreement"),
                                   curve_of([0.9, np.nan, 0.9, 0.9], 1.0)])
def test_no_stop_is_suggested_on_half_a_curve(wrong):
    with pytest.raises(UsageError):
        suggest_stop(wrong)
