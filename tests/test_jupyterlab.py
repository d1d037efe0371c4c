"""A stage opened in a real JupyterLab, in a real browser: Run All ends well, and its results are interactive ones."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from conftest import MakeProject
from laboratory import browser, open_lab, run_all
from projects import Project, make_flights

__all__ = ["browser"]


@pytest.fixture(scope="module")
def lab(make_shared_project: MakeProject, browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The flights example as a project of one's own, in JupyterLab; gives the project and a way to run a stage."""
    project, folder = make_flights(make_shared_project, "항공 flights"), tmp_path_factory.mktemp("lab")
    with open_lab(project, folder) as address:
        def run_stage(name: str) -> list[dict[str, Any]]:
            return run_all(browser, address, f"nbs/stages/{name}.ipynb", folder / f"{name}.png")

        yield project, run_stage


def check(cells: list[dict[str, Any]]) -> None:
    """All cells were run in their order, and none of them raised."""
    assert [error["ename"] + ": " + error["evalue"] for cell in cells for error in cell["errors"]] == []
    assert [cell["count"] for cell in cells] == list(range(1, len(cells) + 1))


def test_a_stage_of_ones_own(lab: tuple[Project, Callable[..., Any]]):
    """Its folder has Korean letters and a space; another environment's results stay apart."""
    project, run_stage = lab
    project.stage("20_세기", 'count: int = 3\n행: Output = "행"', "value = {'n': count}", "save(행, value)\nvalue")
    project.stage("21_쓰기", '행: Input = "세기.행"\n끝: Output = "끝"', "save(끝, load(행))")
    for name in ("20_세기", "21_쓰기"):
        check(run_stage(name))
    assert project.catalog()[-2:] == [("세기.행", "interactive"), ("쓰기.끝", "interactive")]


def test_an_error_is_shown_where_it_happens(lab: tuple[Project, Callable[..., Any]]):
    """What can be wrong with `save` says the mend in the notebook too, and keeps nothing."""
    project, run_stage = lab
    before = len(project.catalog())
    project.stage("22_wrong", 'made: Output = "made"', "save(made, object())")
    errors = [error for cell in run_stage("22_wrong") for error in cell["errors"]]
    assert [error["ename"] for error in errors] == ["ArtifactError"] and "mend: save one of" in errors[0]["evalue"]
    assert len(project.catalog()) == before


def test_stages_of_flights(lab: tuple[Project, Callable[..., Any]]):
    """Collection, ingestion and curation one after the other, whole: each finds what the one before saved."""
    project, run_stage = lab
    for name in ("01_collection", "02_ingestion", "03_curation"):
        check(run_stage(name))
    found = dict(project.catalog())
    for name in ("collection.flights", "collection.provenance", "ingestion.flights", "curation.departures"):
        assert found[name] == "interactive"
    answer = project.ask("show", "curation.departures")
    assert answer.code == 0 and "336,776 rows" in answer.said and "none: interactive" in answer.said
