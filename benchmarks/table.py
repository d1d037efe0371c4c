"""Write the newest results into the page that explains them: benchmarks/results/*.json into a table for each."""

import json
from pathlib import Path
from typing import Any

from measuring import HEADS, RESULTS, ROOT, Row, cells_of

PAGE = ROOT / "nbs" / "explanations" / "benchmarks.ipynb"
BEGIN, END = "<!-- results -->", "<!-- end of results -->"


def describe(kept: dict[str, Any]) -> str:
    """One benchmark's results in Markdown: when and on what, then the table."""
    machine = dict(kept["machine"])
    size = f"{machine.pop('processors')} processors, {machine.pop('memory_gb')} GB, {machine.pop('system')}"
    versions = ", ".join(f"{name} {version}" for name, version in machine.items())
    how = "" if kept["size"] == "full" else f", `--{kept['size']}`"
    lines = [HEADS, ("---", "---:", "---:", "---:", "---", "---"), *(cells_of(Row(**row)) for row in kept["rows"])]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"### {kept['benchmark']}\n\n{kept['date']}{how}; {size}; {versions}.\n\n{table}"


def fill(text: str, results: list[dict[str, Any]]) -> str:
    """The page's cell with its results replaced."""
    before, _, rest = text.partition(BEGIN)
    _, found, after = rest.partition(END)
    assert found, f"the cell has no `{END}`"
    tables = "\n\n".join(map(describe, results)) or "*Not measured yet: `make bench`.*"
    return f"{before}{BEGIN}\n\n{tables}\n\n{END}{after}"


def main() -> None:
    """Fill the page."""
    results = [json.loads(path.read_text("utf-8")) for path in sorted(Path(RESULTS).glob("*.json"))]
    page = json.loads(PAGE.read_text("utf-8"))
    for cell in page["cells"]:
        if BEGIN in (text := "".join(cell["source"])):
            cell["source"] = fill(text, results).splitlines(keepends=True)
    PAGE.write_text(json.dumps(page, ensure_ascii=False, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
