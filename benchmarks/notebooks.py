"""The notebooks that are executed, and the same code as plain scripts."""

import json
from pathlib import Path
from typing import Any

TRIVIAL = ["count = 10", "numbers = list(range(count))", "total = sum(numbers)", "total", "print(total)",
           "squares = [number ** 2 for number in numbers]", "squares", "def double(number):\n    return 2 * number",
           "double(total)", "text = ', '.join(map(str, squares))", "print('done')"]

IMPORTS = ["rows = 200", "import numpy as np\nimport pandas as pd", "import matplotlib.pyplot as plt",
           "from sklearn.linear_model import LinearRegression",
           "frame = pd.DataFrame({'x': np.linspace(0, 1, rows)})\nframe['y'] = 3 * frame['x'] + 1\nframe.head()",
           "print('done')"]

DRAWING = [*IMPORTS[:-1], "model = LinearRegression().fit(frame[['x']], frame['y'])\nmodel.coef_",
           "plt.plot(frame['x'], frame['y']);", "print('done')"]

TRAINING = ["rows = 4000", "import pandas as pd", "from sklearn.datasets import make_classification",
            "from sklearn.ensemble import RandomForestClassifier\nfrom sklearn.model_selection import train_test_split",
            "X, y = make_classification(rows, 20, random_state=1)\nX = pd.DataFrame(X).add_prefix('x')\nX.describe()",
            "X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=1)",
            "model = RandomForestClassifier(40, random_state=1).fit(X_train, y_train)",
            "model.score(X_test, y_test)", "print('done')"]

OUTPUTS = ["megabyte = 'x' * 1_000_000", *["print(megabyte)"] * 30, "print('done')"]

KINDS = {"trivial": TRIVIAL, "imports": IMPORTS, "drawing": DRAWING, "training": TRAINING, "outputs": OUTPUTS}
# What the notebooks import, for the bare fork that they are compared with.
MODULES = ["numpy", "pandas", "matplotlib.pyplot", "sklearn.linear_model", "sklearn.datasets", "sklearn.ensemble",
           "sklearn.model_selection"]


def write_notebook(path: Path, cells: list[str], parameters: int = 0) -> Path:
    """Write code cells as a notebook, the one numbered `parameters` with that tag."""
    made: list[dict[str, Any]] = [
        {"cell_type": "code", "id": f"cell-{number}", "source": source, "execution_count": None, "outputs": [],
         "metadata": {"tags": ["parameters"]} if number == parameters else {}} for number, source in enumerate(cells)]
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"cells": made, "metadata": {"kernelspec": kernel}, "nbformat": 4,
                                "nbformat_minor": 5}), "utf-8")
    return path


def write_script(path: Path, cells: list[str]) -> Path:
    """Write the same code as a plain script; a figure that a notebook would show is drawn into a file."""
    drawing = ["import matplotlib\nmatplotlib.use('agg')"] if any("pyplot" in cell for cell in cells) else []
    saving = ["plt.savefig('plot.png')"] if drawing else []
    path.write_text("\n".join([*drawing, *cells, *saving]) + "\n", "utf-8")
    return path


def write_all(folder: Path, cells: set[int]) -> None:
    """Write the notebooks and scripts of all kinds, and notebooks of so many cells, as one small project."""
    (folder / "settings.ini").write_text("[project]\nname = benchmark\npackage =\nnotebooks = .\nstages = .\n", "utf-8")
    (folder / "out").mkdir()
    for kind, sources in KINDS.items():
        write_notebook(folder / f"{kind}.ipynb", sources)
        write_script(folder / f"{kind}.py", sources)
    for count in cells:
        write_notebook(folder / f"cells_{count}.ipynb", ["count = 0", *["count += 1"] * (count - 2), "print('done')"])


def is_done(path: Path) -> bool:
    """Was an executed notebook executed to its end?"""
    if not path.exists():
        return False
    last = json.loads(path.read_text("utf-8"))["cells"][-1]
    return any("done" in "".join(output.get("text", "")) for output in last["outputs"])
