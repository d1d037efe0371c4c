"""What is built is whole: it installs and runs in an environment that has never seen this repository."""

import os
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
UV = Path(sys.executable).with_name("uv")


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """The folder with sdist and wheel, the wheel made from the sdist."""
    out = tmp_path_factory.mktemp("dist")
    subprocess.run([sys.executable, "-m", "build", "--installer", "uv", "--outdir", str(out), str(ROOT)], check=True,
                   capture_output=True)
    return out


def test_the_wheel_holds_notebooks_templates_and_licence(built):
    names = zipfile.ZipFile(next(built.glob("*.whl"))).namelist()
    for stage in (ROOT / "nbs/stages").glob("*.ipynb"):
        assert f"mlops_nb/stages/{stage.name}" in names
    for path in (ROOT / "mlops_nb/templates").rglob("*"):
        assert path.is_dir() or path.relative_to(ROOT).as_posix() in names
    for kind in ("*.py", "*.js", "*.css"):
        for part in (ROOT / "mlops_nb").glob(kind):
            assert f"mlops_nb/{part.name}" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert "mlops_nb/stages/labeling_decisions.jsonl" in names


def test_the_sdist_holds_settings(built):
    names = tarfile.open(next(built.glob("*.tar.gz"))).getnames()
    assert any(name.endswith("/settings.ini") for name in names)


def test_the_wheel_runs_in_a_fresh_environment(built, tmp_path):
    """Install the wheel alone, make a project with it in a folder with a space, run it, run it again."""
    venv.create(tmp_path / "env", with_pip=False)
    python = tmp_path / "env" / "bin" / "python"
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("MLOPS_NB", "PYTHONPATH"))}

    def call(*words: str, folder: Path = tmp_path) -> str:
        answer = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        assert answer.returncode == 0, answer.stdout + answer.stderr
        return answer.stdout

    call(str(UV), "pip", "install", "--quiet", "--python", str(python), "--constraint", str(ROOT / "constraints.txt"),
         str(next(built.glob("*.whl"))))
    call(str(UV), "pip", "check", "--python", str(python))
    call(str(python), "-c", "import mlops_nb.widgets")
    command = str(python.with_name("mlops-nb"))
    call(command, "new", "my wines")
    assert "done" in call(command, "run", folder=tmp_path / "my wines")
    assert call(command, "run", folder=tmp_path / "my wines").count("reused") >= 3
