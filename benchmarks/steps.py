"""Six steps of a small pipeline. Each contestant gets the source of these functions, in its own form.

Each step says that it ran, in a file that the environment names: so everyone's reruns are counted in the same way.
"""

import os
from typing import Any


def load() -> Any:
    """Read the table."""
    import pandas as pd

    open(os.environ["STEPS_LOG"], "a").write("load\n")
    return pd.read_csv(os.environ["STEPS_TABLE"], parse_dates=["seen"])


def clean(table: Any) -> Any:
    """Take out what is there twice, and fill gaps."""
    open(os.environ["STEPS_LOG"], "a").write("clean\n")
    table = table.drop_duplicates().reset_index(drop=True)
    numbers = table.select_dtypes("number").columns
    return table.fillna(dict(table[numbers].median()))


def features(rows: Any) -> Any:
    """Make the model's columns."""
    import pandas as pd

    open(os.environ["STEPS_LOG"], "a").write("features\n")
    rows = rows.assign(hour=rows["seen"].dt.hour, weekday=rows["seen"].dt.weekday)
    for column in [name for name in rows if name.startswith("x")]:
        rows[f"{column}_by_group"] = rows[column] - rows.groupby("group")[column].transform("mean")
    return pd.get_dummies(rows.drop(columns="seen"), columns=["group"], dtype="float64")


def split(matrix: Any) -> Any:
    """Mark a quarter of the rows as held out."""
    from sklearn.model_selection import train_test_split

    open(os.environ["STEPS_LOG"], "a").write("split\n")
    _, held_out = train_test_split(matrix.index, test_size=0.25, random_state=1, stratify=matrix["y"])
    return matrix.assign(held_out=matrix.index.isin(held_out))


def train(parts: Any) -> Any:
    """Fit a model on what is not held out; one that uses one processor, so that a busy machine is fair to all."""
    from sklearn.ensemble import RandomForestClassifier

    open(os.environ["STEPS_LOG"], "a").write("train\n")
    known = parts[~parts["held_out"]].drop(columns="held_out")
    return RandomForestClassifier(25, max_depth=10, random_state=1).fit(known.drop(columns="y"), known["y"])


def evaluate(parts: Any, model: Any) -> Any:
    """Judge the model by what was held out."""
    from sklearn.metrics import brier_score_loss, roc_auc_score

    open(os.environ["STEPS_LOG"], "a").write("evaluate\n")
    unseen = parts[parts["held_out"]].drop(columns="held_out")
    likely = model.predict_proba(unseen.drop(columns="y"))[:, 1]
    return {"auc": float(roc_auc_score(unseen["y"], likely)), "brier": float(brier_score_loss(unseen["y"], likely))}


# step: (its inputs, its output)
FLOW = {"load": ([], "table"), "clean": (["table"], "rows"), "features": (["rows"], "matrix"),
        "split": (["matrix"], "parts"), "train": (["parts"], "model"), "evaluate": (["parts", "model"], "metrics")}


def write_table(path: str, rows: int) -> None:
    """Make the table that the steps begin with: numbers with gaps, a group, a time, a target, some rows twice."""
    import numpy as np
    import pandas as pd

    random = np.random.default_rng(1)
    table = pd.DataFrame(random.normal(size=(rows, 12))).add_prefix("x")
    table["y"] = (table["x0"] + table["x1"] * table["x2"] + random.normal(size=rows) > 0).astype(int)
    table = table.mask(random.random(table.shape) < 0.02).round(6).assign(y=table["y"])
    table["group"] = random.choice(list("abcdefgh"), rows)
    table["seen"] = pd.Timestamp("2025-01-01") + pd.to_timedelta(random.integers(0, 86400 * 365, rows), unit="s")
    pd.concat([table, table.sample(frac=0.01, random_state=1)]).head(rows).to_csv(path, index=False)
