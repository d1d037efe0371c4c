"""Queues that are empty, doubled, changed, huge, or kept in a store that does not take them: nothing said is lost."""

import contextlib
import os
import sqlite3
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from mlops_nb.errors import StoreError, UsageError
from mlops_nb.label_progress import measure_progress
from mlops_nb.label_queue import LabelQueue
from mlops_nb.label_tasks import LabelTask

TASK = LabelTask(("good", "bad"), show="text", column="text")


@pytest.fixture
def state(tmp_path) -> Path:
    return tmp_path / "state"


def texts(*texts: str) -> pd.DataFrame:
    return pd.DataFrame({"text": texts}, dtype="str")


def open_queue(state: Path, items: pd.DataFrame, task: LabelTask = TASK, **options: Any) -> LabelQueue:
    return LabelQueue(items, task, state=state, **({"person": "Kim"} | options))


def say(queue: LabelQueue, item: str, value: Any, **more: Any) -> None:
    event = {"id": uuid.uuid4().hex, "item": item, "action": "label", "value": value, "content": queue.content(item)}
    assert queue.record([event | more])[1] == {}


def test_a_queue_of_nothing(state):
    queue = open_queue(state, texts())
    assert queue.next_items() == [] and queue.open() == [] and queue.answers().empty
    assert measure_progress(queue)["total"] == 0


def test_the_same_item_twice_is_asked_once(state):
    queue = open_queue(state, texts("a", "b", "a"))
    assert len(queue.next_items()) == 2 and queue.copies == 1
    with pytest.raises(UsageError, match="must name each item once; x does not"):
        open_queue(state, texts("a", "b").assign(name="x"), key="name")


def test_an_item_that_changed_keeps_its_old_label_with_the_old_content(state):
    items = texts("cheap", "fine").assign(name=["one", "two"])
    queue = open_queue(state, items, key="name")
    say(queue, "one", "good")
    changed = open_queue(state, items.assign(text=["expensive", "fine"]), key="name")
    answers = changed.answers()
    assert answers["standing"].tolist() == ["outdated"] and answers["value"].tolist() == ["good"]
    asked = [item["standing"] for item in changed.next_items()]
    assert asked == ["outdated", "current"], "it is asked again, and says why"
    say(changed, "one", "bad")
    assert changed.answers()["standing"].tolist() == ["current"]
    before = open_queue(state, items, key="name").answers()
    assert before["standing"].tolist() == ["outdated"], "it was about the other text"


def test_a_label_that_is_renamed_or_removed(state):
    queue = open_queue(state, texts("a", "b"))
    say(queue, queue.order[0], "bad")
    renamed = open_queue(state, texts("a", "b"), LabelTask(("good", "poor"), show="text", column="text"))
    assert renamed.answers()["standing"].tolist() == ["unknown label"] and len(renamed.next_items()) == 2
    with pytest.raises(UsageError, match="bad"):
        renamed.check({"id": "x", "item": queue.order[0], "action": "label", "value": "bad"})
    gone = open_queue(state, texts("b"))
    assert gone.answers()["standing"].tolist() == ["gone"], "an item that is no longer there keeps its label too"


def test_a_hundred_thousand_items(state):
    queue = open_queue(state, texts(*(f"text {number}" for number in range(100_000))))
    assert len(queue.next_items(24)) == 24
    for item in queue.order[:50]:
        say(queue, item, "good")
    again = open_queue(state, queue.frame)
    assert again.choose_items(1) == [queue.order[50]]
    assert measure_progress(again)["left"] == 99_950


def test_an_image_of_fifty_megabytes_is_shown_small(state, tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (3200, 5400, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "huge.png", compress_level=0)
    assert (tmp_path / "huge.png").stat().st_size > 50e6
    (tmp_path / "broken.png").write_bytes(b"\x89PNG and no more")
    items = pd.DataFrame({"image": [str(tmp_path / name) for name in ("huge.png", "broken.png", "missing.png")]})
    queue = open_queue(state, items, LabelTask(("good", "bad"), show="image", column="image"))
    huge, *others = queue.next_items()
    assert len(huge["image"]) < 3e6 and (huge["width"], huge["height"]) == (5400, 3200)
    assert all("cannot be shown" in other["html"] for other in others), "and one that cannot be read stops nobody"


def test_a_store_of_a_newer_version_is_refused_by_name(state):
    queue = open_queue(state, texts("a"))
    with sqlite3.connect(state / "state.db") as store:
        store.execute("UPDATE about SET value = '99' WHERE key = 'schema_version'")
    with pytest.raises(StoreError, match="version 99"):
        queue.record([{"id": "e", "item": queue.order[0], "action": "label", "value": "good"}])


@pytest.fixture
def small_disk(state) -> Iterator[Path]:
    """A state folder on a disk of its own, of 1 MB."""
    state.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(state)]
    if os.geteuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only who may mount a small disk can fill one")
    yield state
    subprocess.run(["umount", "--lazy", str(state)], check=True)


def test_a_disk_that_is_full(small_disk):
    """Nothing of what is refused is kept, and with space again it goes on."""
    queue = open_queue(small_disk, texts("a", "b"))
    say(queue, queue.order[0], "good")
    with open(small_disk / "ballast", "wb", buffering=0) as ballast, contextlib.suppress(OSError):
        while True:
            ballast.write(bytes(512))
    big = {"id": "e", "item": queue.order[1], "action": "label", "value": "good", "reason": "why " * 20_000}
    with pytest.raises(StoreError, match=r"full|space"):
        queue.record([big])
    assert len(queue.answers()) == 1
    (small_disk / "ballast").unlink()
    assert queue.record([big]) == (["e"], {}) and len(queue.answers()) == 2


def test_a_store_that_one_may_only_read(small_disk):
    """It says so before anybody has pressed a key."""
    made = f"from mlops_nb.journal import record_decision as r; r('labeling', 'a', 1, state=Path({str(small_disk)!r}))"
    subprocess.run([sys.executable, "-c", f"from pathlib import Path; {made}"], check=True)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(StoreError, match="get write permission"):
        open_queue(small_disk, texts("a", "b"))
