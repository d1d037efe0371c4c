"""The digits template: nobody has labeled anything, a person does, and the same pipeline goes on."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from conftest import MakeProject
from laboratory import ENDED, RUN_ALL, browser, open_lab, open_notebook
from projects import Project

from mlops_nb.content import read_value

__all__ = ["browser"]

READY = '.mlops-labeling[data-item]:not([data-item=""])'
FEW = ("-p", "saving.seeds=2", "-p", "saving.rounds=2")  # what it saves is measured by itself, and not here


@pytest.fixture(scope="module")
def digits(make_shared_project: MakeProject) -> Project:
    """A new project of the template, run once."""
    desk = make_shared_project("desk")
    (desk.root / "settings.ini").unlink()
    assert desk.call("new", "손글씨 digits", "--template", "digits").code == 0
    project = make_shared_project("desk/손글씨 digits")
    project.patience = 300
    return project


def load(project: Project, artifact: str) -> pd.DataFrame:
    row, = project.query(f"SELECT hash FROM artifacts WHERE name = '{artifact}' ORDER BY id DESC LIMIT 1")
    return read_value(project.state, row["hash"], artifact)


def test_without_labels_a_person_is_asked_and_the_rest_goes_on(digits):
    said = digits.run(*FEW, code=3)
    assert digits.statuses() == {"collection": "done", "labeling": "needs_person", "training": "skipped",
                                 "evaluation": "skipped", "saving": "done"}
    assert "0 of 100 labels are there" in said and "nbs/apps/labeling.ipynb" in said
    assert "digit" not in load(digits, "collection.digits"), "nobody sees the answers"


def test_in_a_hurry_the_data_set_labels_and_each_label_says_so(digits):
    digits.run("evaluation", "-p", "labeling.mode=recorded")
    assert set(load(digits, "labeling.labels")["person"]) == {"the data set"}
    metrics = load(digits, "evaluation.metrics").iloc[0]
    assert metrics["digits"] == 1697 and metrics["low"] < metrics["accuracy"] < metrics["high"]
    assert metrics["accuracy"] > 0.8, "a hundred random digits teach most of it"
    misread = load(digits, "evaluation.misread")
    assert len(misread) == round((1 - metrics["accuracy"]) * 1697) and (misread["digit"] != misread["read"]).all()


def test_a_person_labels_by_keys_and_the_model_knows_whose_labels_they_are(digits, browser: Any, tmp_path: Path):
    """Forty digits or more, each pressed as it is, in the order in which a model asks for them."""
    truth = load(digits, "collection.truth").set_index("number")["digit"]
    digits.environment["MLOPS_NB_PERSON"] = "지현"
    with open_lab(digits, tmp_path / "lab") as address:
        context = browser.new_context(viewport={"width": 1100, "height": 900})
        page = open_notebook(context, address, "nbs/apps/labeling.ipynb")
        page.evaluate(RUN_ALL)
        page.wait_for_function(ENDED)
        page.wait_for_selector(READY)
        page.locator(".mlops-labeling .mlops-head").first.click()
        pressed = 0
        while pressed < 40 or (pressed < 120 and not page.query_selector(".mlops-curve")):
            page.keyboard.press(truth[page.get_attribute(".mlops-labeling", "data-item")])
            page.wait_for_timeout(60 if pressed < 40 else 500)  # the teacher gets to teach
            pressed += 1
        page.wait_for_selector('.mlops-labeling[data-pending="0"]')
        page.wait_for_selector(".mlops-curve")
        context.close()
    digits.run("evaluation", "-p", "labeling.enough=40")
    labels = load(digits, "labeling.labels")
    assert len(labels) == pressed and set(labels["person"]) == {"지현"}
    assert labels.set_index("number")["digit"].to_dict() == truth[labels["number"]].to_dict()
    assert load(digits, "evaluation.metrics")["accuracy"].iloc[0] > 0.6
    story = digits.call("why", labels["number"].iloc[0])
    assert story.code == 0 and "지현" in story.out and "training.model@" in story.out
    assert f"지현 {pressed}" in digits.call("why", "evaluation.metrics").out
