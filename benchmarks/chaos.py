"""Kill runners, stages and kernels at random moments, resume, and count what was lost.

    python benchmarks/chaos.py --kills 200 --seed 20261123
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from disturbing import disturb


def main() -> None:
    """Kill and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=20261123)
    parser.add_argument("--quick", action="store_true", help="10 kills")
    parser.add_argument("--json", action="store_true", help="print one JSON list")
    given = parser.parse_args()
    kills, began = 10 if given.quick else given.kills, time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        chaos = disturb(Path(folder), kills, given.seed)
    lost = len(chaos.problems)
    figures = [{"name": "kills", "ours": chaos.killed.total(), "peer": None, "ratio": None, "target": kills,
                "met": chaos.killed.total() >= kills},
               {"name": "artifacts lost, changed or half-written", "ours": lost, "peer": None, "ratio": None,
                "target": 0, "met": not lost and chaos.compared > 0}]
    if given.json:
        print(json.dumps(figures, indent=1))
    else:
        print(f"seed {given.seed}, an undisturbed run takes {chaos.seconds:.1f} s; all this took "
              f"{time.monotonic() - began:.0f} s")
        print(f"killed: {', '.join(f'{count} {name}' for name, count in chaos.killed.most_common())}")
        print(f"{chaos.compared} runs came to their end with the hashes of an undisturbed run; when resumed they took "
              f"over {chaos.reused} stages")
        print("\n".join(chaos.problems) or "nothing was lost, nothing was half-written")
    sys.exit(0 if all(one["met"] for one in figures) else 1)


if __name__ == "__main__":
    main()
