"""Whoever is killed at whatever moment: after `run --resume` the results are those of an undisturbed run."""

import os

from disturbing import disturb

SEED = int(os.environ.get("CHAOS_SEED", "20261123"))
KILLS = 20


def test_kills_at_random_moments(tmp_path, capsys):
    """benchmarks/chaos.py does the same 200 times."""
    chaos = disturb(tmp_path, KILLS, SEED)
    with capsys.disabled():
        print(f"\nchaos, seed {SEED}: {dict(chaos.killed)} killed; {chaos.compared} runs came to their end, "
              f"with {chaos.reused} stages taken over when resumed")
    assert chaos.problems == []
    assert chaos.killed.total() == KILLS and len(chaos.killed) >= 2 and chaos.killed["runner"]
    assert len(chaos.calm) == 7 and chaos.compared >= 1 and chaos.reused >= 1
