"""What several test files share: projects to spoil, and a watch over processes that are left behind."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from projects import Project

MakeProject = Callable[..., Project]


@pytest.fixture(scope="session", autouse=True)
def no_project_of_the_shell() -> Iterator[None]:
    """A test never works in a project or state folder that the shell happens to name."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("MLOPS_NB_")]:
            patch.delenv(name)
        yield


@contextmanager
def making_projects(folder: Path) -> Iterator[MakeProject]:
    """Makes projects in `folder`; whoever leaves a process behind has failed."""
    made: list[Project] = []

    def make(name: str = "project") -> Project:
        made.append(Project(folder / name))
        return made[-1]

    try:
        yield make
        for project in made:
            project.wait_until_quiet()
    finally:
        for project in made:
            project.kill_all()


@pytest.fixture
def make_project(tmp_path: Path) -> Iterator[MakeProject]:
    """Makes projects for one test."""
    with making_projects(tmp_path) as make:
        yield make


@pytest.fixture
def project(make_project: MakeProject) -> Project:
    """One project without stages, for one test."""
    return make_project()


@pytest.fixture(scope="module")
def make_shared_project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MakeProject]:
    """Makes projects for all tests of a file: a run costs seconds."""
    with making_projects(tmp_path_factory.mktemp("shared")) as make:
        yield make
