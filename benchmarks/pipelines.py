"""Six steps over 50,000 rows: first run, nothing changed, training edited, killed in the middle; beside the others."""

from collections.abc import Iterator
from pathlib import Path

from contestants import CONTESTANTS
from measuring import Absent, Row, at_most, compare, place, read_options, report, tell, within
from steps import FLOW, write_table

OURS, COLD, PLAIN = "mlops_nb", "mlops_nb, cold", "plain script"
ROWS = {"full": 50_000, "quick": 50_000, "smoke": 500}
PEERS = {"full": "papermill,kedro,dvc,ploomber", "quick": "papermill", "smoke": ""}
REPEATS = {"full": 3, "quick": 1, "smoke": 1}
PARTS = {"first": "first run", "unchanged": "nothing changed", "edited": "training edited",
         "killed": "run again after a kill in training"}
Figures = dict[tuple[str, str], list[float]]


def measure(name: str, parts: list[str], rows: int, figures: Figures) -> None:
    """Take one contestant through a day, in a place of its own; keep what it took and how many steps ran."""
    def keep(part: str, seconds: float) -> None:
        figures.setdefault((name, part), []).append(seconds)
        figures.setdefault((name, f"{part}, steps"), []).append(len(contestant.ran))
        tell(f"  {name}, {PARTS[part]} {seconds:.2f} s: {' '.join(contestant.ran) or 'no step'}")

    with place() as here:
        write_table(str(here.folder / "table.csv"), rows)
        contestant = CONTESTANTS[name](here, fresh(here.folder / "day"))
        keep("first", contestant.run())
        if name == COLD:
            return
        if "unchanged" in parts:
            keep("unchanged", contestant.run())
        if "edited" in parts:
            contestant.edit_training()
            keep("edited", contestant.run())
        if "killed" in parts:
            contestant = CONTESTANTS[name](here, fresh(here.folder / "kill"))
            contestant.run_and_kill()
            keep("killed", contestant.run())


def fresh(folder: Path) -> Path:
    """A new folder."""
    folder.mkdir()
    return folder


def compare_all(parts: list[str], peers: list[str], figures: Figures) -> Iterator[Row]:
    """The rows: a line for each part and peer, in seconds and then in steps that ran."""
    targets = {("first", PLAIN): within(1.2), ("unchanged", PLAIN): at_most(0.3, "at most 0.3 s"),
               ("edited, steps", PLAIN): at_most(2, "its own 2 steps alone")}

    def row(what: str, part: str, peer: str, ours: str = OURS, unit: str = "s") -> Row:
        sides = [figures.get((name, part), []) for name in (ours, peer)]
        return compare(f"{what}: {peer}", sides[0], sides[1], targets.get((part, peer)), unit)

    if "first" in parts:
        yield row("first run, the warm process begun too", "first", PLAIN, COLD)
    for part in parts:
        for peer in peers:
            yield row(PARTS[part], part, peer)
        for peer in peers if part in ("edited", "killed") else ():
            yield row(f"{PARTS[part]}, of {len(FLOW)} steps", f"{part}, steps", peer, unit="steps")


def main() -> None:
    """Measure everybody who was asked for, in turn, and report."""
    options = read_options(__doc__ or "", list(PARTS), smoke=["first", "unchanged"], peers=PEERS["full"])
    peers = [PLAIN, *filter(None, (PEERS[options.size] if options.peers is None else options.peers).split(","))]
    figures: Figures = {}
    for _ in range(options.repeats or REPEATS[options.size]):
        for name in [OURS, *([] if options.smoke else [COLD]), *peers]:
            try:
                measure(name, options.parts, ROWS[options.size], figures)
            except Absent as reason:
                tell(f"  {name} is absent: {reason}")
    report("pipelines", list(compare_all(options.parts, peers, figures)), options)


if __name__ == "__main__":
    main()
