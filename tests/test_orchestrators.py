"""`mlops-nb export`: what is written is what the engine takes, and its commands run the pipeline, each stage once.

Airflow, Argo's models and GitHub's schema are installed apart, by `make orchestrators`. Argo's published JSON schema
(api/jsonschema/schema.json in its repository) is in no package; MLOPS_NB_ARGO_SCHEMA names a copy to check with it
too. Hera's models, which are made from that schema, are always checked with.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import MakeProject
from projects import COMMAND, Project

from mlops_nb.orchestrators import export_pipeline
from mlops_nb.selection import Request, select
from mlops_nb.settings import read_project

ROOT = Path(__file__).parent.parent
AIRFLOW = Path(os.environ.get("MLOPS_NB_AIRFLOW_PYTHON") or Path(sys.prefix) / "orchestrators/bin/python")
ARGO_SCHEMA = os.environ.get("MLOPS_NB_ARGO_SCHEMA")
TITLE = "It's \"{{odd}}\" ${{ github.token }} $HOME `id`;\n제목 {% raw %}\\ .sh"
ROWS = 'rows: Input = "make.rows"\nmade: Output = "made"'
REFUSE = ["from mlops_nb.errors import GateRefused", "raise GateRefused('too few rows', 'get more')"]


@pytest.fixture(scope="module")
def airflow() -> Path:
    """The Python that has Airflow; a machine without it may skip, CI may not."""
    if not AIRFLOW.exists():
        (pytest.fail if os.environ.get("CI") else pytest.skip)("Airflow is missing: make orchestrators")
    return AIRFLOW


def add_stages(project: Project) -> None:
    """A pipeline with a gate that refuses, and names that no engine but ours takes as they are."""
    project.stage("01_make", 'title: str = "none"\nsample: float = 1.0\nrows: Output = "rows"', "save(rows, title)")
    project.stage("02_my_gate", ROWS, *REFUSE)
    project.stage("03_after", 'got: Input = "my_gate.made"\nmade: Output = "made"', "save(made, load(got))")
    project.stage("04_학습", ROWS, "save(made, load(rows))")
    project.stage("05_what is this", 'got: Input = "학습.made"\nmade: Output = "made"', "save(made, load(got))")


def write(project: Project, target: str, *words: str) -> str:
    """What `mlops-nb export --to TARGET WORDS` prints."""
    answer = project.ask("export", "--to", target, *words)
    assert answer.code == 0, answer.err
    return answer.out


def in_shell(project: Project, text: str) -> int:
    """Run a command as an engine does, in the project's folder; its exit code."""
    path = f"{COMMAND.parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(["sh", "-c", text], cwd=project.root, env=project.child_environment() | {"PATH": path},
                          capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stdout + done.stderr, done.stderr
    return done.returncode


def graph_of(environment: str = "development") -> dict[str, set[str]]:
    """The stages of the flights project in an environment, each with those that it needs there."""
    selection = select(read_project(ROOT), Request(environment=environment))
    return {stage: selection.graph.needs[stage] & set(selection.stages) for stage in selection.stages}


# run --only


def test_a_stage_alone_runs_nothing_but_itself(project):
    add_stages(project)
    said = project.refuse("--only", "학습")
    assert "make.rows: `make` has no result that is up to date (no result yet)" in said
    assert "run `mlops-nb run make` first" in said
    assert "--only has no stage" in project.refuse("--only")
    project.run("--only", "make", warm=True)
    project.run("--only", "학습", warm=True)
    assert project.statuses() == {"make": "reused", "학습": "done"}
    answer = project.ask("run", "--only", "-p", "make.title=new", "학습")
    assert answer.code == 2 and "parameter" in answer.err and "make" in answer.err
    assert len(project.query("SELECT * FROM runs")) == 2


# The written commands, run


def check_ran_once(project: Project, stages: list[str]) -> None:
    """Each stage ran in one run, and in all others it was reused."""
    rows = project.query("SELECT stage FROM stage_runs WHERE reused_from IS NULL AND status = 'done'")
    assert sorted(row["stage"] for row in rows) == sorted(stages)


def test_argos_commands_run_each_stage_once(project):
    """In the order that Argo would take, and with a value that holds whatever has a meaning somewhere."""
    add_stages(project)
    text = write(project, "argo", "--image", "x:1", "-p", f"make.title={TITLE}", "--sample", "0.5", "what is this")
    template = yaml.safe_load(text)
    assert re.findall(r"{{.*?}}", text) == ["{{workflow.parameters.image}}"] * 3
    pipeline, *containers = template["spec"]["templates"]
    commands = {each["name"]: each["container"]["args"][0] for each in containers}
    waiting = {task["name"]: task for task in pipeline["dag"]["tasks"]}
    ended: list[str] = []
    while waiting:
        ready = next(name for name, task in waiting.items() if set(task.get("dependencies", [])) <= set(ended))
        assert in_shell(project, commands[waiting.pop(ready)["template"]]) == 0
        ended.append(ready)
    assert ended == ["make", "stage-2", "what-is-this"]
    check_ran_once(project, ["make", "학습", "what is this"])
    kept = project.python("from mlops_nb.artifacts import load\nimport json\nprint(json.dumps(load('make.rows')))")
    assert json.loads(kept.out) == TITLE


def test_githubs_jobs_run_each_stage_once_on_machines_of_their_own(make_project: MakeProject, tmp_path: Path):
    """A fresh checkout a job, and of the last one nothing but the cache; a gate that refuses stops only its branch."""
    source = make_project("source")
    add_stages(source)
    jobs = yaml.safe_load(write(source, "github-actions", "-p", f"make.title={TITLE}"))["jobs"]
    results: dict[str, str] = {}
    cache, codes, before = tmp_path / "cache", {}, None
    for job, made in jobs.items():
        command = next(step["run"] for step in made["steps"] if step.get("name") == "run")
        carried = next(step["with"]["path"] for step in made["steps"] if "actions/cache" in step.get("uses", ""))
        wanted = re.findall(r"needs\.([\w-]+)\.result == 'success'", made.get("if", ""))
        assert set(wanted) <= set(made.get("needs", []))
        assert before is None or (before in made["needs"] and "!cancelled()" in made["if"])
        assert "${{" not in command
        before = job
        if not all(results[need] == "success" for need in wanted):
            results[job] = "skipped"
            continue
        machine = make_project(f"machine-{job}")
        shutil.copytree(source.root, machine.root, dirs_exist_ok=True, ignore=shutil.ignore_patterns(".mlops"))
        if cache.exists():
            shutil.copytree(cache, machine.root / carried)
        codes[job] = in_shell(machine, command)
        results[job] = "success" if codes[job] == 0 else "failure"
        if codes[job] == 0:
            shutil.rmtree(cache, ignore_errors=True)
            shutil.copytree(machine.root / carried, cache)
            last = machine
    assert codes == {"make": 0, "my_gate": 4, "stage-4": 0, "what-is-this": 0}
    assert results["after"] == "skipped" and jobs["stage-4"]["name"] == "학습"
    check_ran_once(last, ["make", "학습", "what is this"])


# The written graphs


@pytest.mark.parametrize("environment", ["development", "production"])
def test_argo_and_github_have_the_projects_graph(environment):
    graph, project = graph_of(environment), read_project(ROOT)
    assert len(graph) == (12 if environment == "development" else 7)
    request = Request(environment=environment)
    argo = yaml.safe_load(export_pipeline(project, request, "argo", image="flights:1"))
    tasks = argo["spec"]["templates"][0]["dag"]["tasks"]
    assert {task["name"]: set(task.get("dependencies", [])) for task in tasks} == {
        stage.replace("_", "-"): {need.replace("_", "-") for need in needs} for stage, needs in graph.items()}
    github = yaml.safe_load(export_pipeline(project, request, "github-actions", shared_store=True))
    assert {job: set(made.get("needs", [])) for job, made in github["jobs"].items()} == graph
    for commands in ([each["container"]["args"][0].removeprefix("exec ") for each in argo["spec"]["templates"][1:]],
                     [made["steps"][-1]["run"] for made in github["jobs"].values()]):
        start = ["mlops-nb", "run", "--only", *([] if environment == "development" else ["--env", environment])]
        assert [shlex.split(text) for text in commands] == [[*start, stage] for stage in graph]


def test_a_project_in_a_folder_of_a_repository(make_project, tmp_path):
    """Commands run in the project's folder, and the cache is found from the repository's."""
    (tmp_path / ".git").mkdir()
    project = make_project("teams/우리 flights")
    add_stages(project)
    answer = project.ask("export", "--to", "github-actions", "--out", "made/here/flights.yml", "make")
    assert answer.code == 0 and "wrote made/here/flights.yml" in answer.out
    workflow = yaml.safe_load((project.root / "made/here/flights.yml").read_text("utf-8"))
    assert workflow["defaults"]["run"]["working-directory"] == "teams/우리 flights"
    assert workflow["jobs"]["make"]["steps"][3]["with"]["path"] == "teams/우리 flights/.mlops"


def test_a_path_typed_here_is_right_there(project):
    """Whoever exports stands in a folder of the project; the command runs at its top."""
    project.stage("01_read", 'source: Path = "none.csv"\nmade: Output = "made"', "save(made, source.read_text())",
                  imports="from pathlib import Path")
    (project.root / "data").mkdir()
    (project.root / "data/two words.csv").write_text("found", "utf-8")
    answer = subprocess.run([COMMAND, "export", "--to", "github-actions", "-p", "read.source=two words.csv"], text=True,
                            cwd=project.root / "data", env=project.child_environment(), capture_output=True, check=True)
    assert in_shell(project, yaml.safe_load(answer.stdout)["jobs"]["read"]["steps"][-2]["run"]) == 0


@pytest.mark.parametrize(("words", "said"), [
    (["--to", "airflw"], "did you mean `airflow`?"),
    (["--to", "argo"], "--image IMAGE"),
    (["--to", "airflow", "--image", "x:1"], "it is for argo and github-actions"),
    (["--to", "argo", "--image", "x:1", "--shared-store"], "it is for github-actions"),
    (["--to", "airflow", "--schedule", "@daily"], "write five"),
    (["--to", "airflow", "--schedule", "0 25 * * *"], "a number from 0 to 23"),
    (["--to", "airflow", "-p", "make.titel=x"], "did you mean `title`?"),
    (["--to", "airflow", "-p", "after.x=1", "make"], "no parameter `x`"),
    (["--to", "airflow", "--env", "prod"], "no environment `prod`"),
    (["--to", "airflow", "--out", "nbs"], "nbs"),
    (["--to", "airflow", "--out", "settings.ini/dag.py"], "name another file with --out")])
def test_what_cannot_be_written_is_refused(make_shared_project, words, said):
    project = make_shared_project("refusing")
    add_stages(project)
    answer = project.ask("export", *words)
    assert answer.code == 2 and answer.out == "", answer.out
    assert said in answer.said


# By the engines' own measure


def test_github_takes_every_workflow(airflow, project, tmp_path):
    """By the schema that SchemaStore publishes for GitHub's workflows."""
    add_stages(project)
    for place, words in enumerate([[], ["--shared-store"], ["--image", "x:1", "--schedule", "*/5 0-6 1,15 jan-mar 0"],
                                   ["-p", f"make.title={TITLE}", "--sample", "0.5"]]):
        (tmp_path / f"{place}.yml").write_text(write(project, "github-actions", *words), "utf-8")
    (tmp_path / "wrong.yml").write_text(write(project, "github-actions").replace("runs-on", "run-on"), "utf-8")
    check = [airflow.with_name("check-jsonschema"), "--builtin-schema", "vendor.github-workflows"]
    done = subprocess.run([*check, *sorted(tmp_path.glob("[0-9].yml"))], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert subprocess.run([*check, tmp_path / "wrong.yml"], capture_output=True, check=False).returncode == 1


HERA = """
import json, sys
from hera.workflows.models import CronWorkflow, WorkflowTemplate
for document in json.load(sys.stdin):
    kind = {"WorkflowTemplate": WorkflowTemplate, "CronWorkflow": CronWorkflow}[document["kind"]]
    kept = kind.model_validate(document).model_dump(mode="json", by_alias=True, exclude_none=True)
    assert kept == document, (kept, document)  # a field that Argo does not have would be lost
"""


def test_argo_takes_every_document(airflow, project):
    """By Hera's models, and by the schema itself where it is at hand; a misspelt field is found by either."""
    add_stages(project)
    documents: list[dict[str, Any]] = []
    for words in ([], ["--schedule", "30 5 * * 1-5"], ["-p", f"make.title={TITLE}"]):
        documents += yaml.safe_load_all(write(project, "argo", "--image", "x:1", *words))
    assert [each["kind"] for each in documents] == ["WorkflowTemplate"] * 2 + ["CronWorkflow", "WorkflowTemplate"]
    wrong = json.loads(json.dumps(documents[:1]).replace("failFast", "failSlow"))

    done, refused = (subprocess.run([airflow, "-c", HERA], input=json.dumps(given), capture_output=True, text=True,
                                    check=False) for given in (documents, wrong))
    assert done.returncode == 0, done.stderr
    assert refused.returncode == 1 and "failSlow" in refused.stderr
    if ARGO_SCHEMA:
        import jsonschema

        validator = jsonschema.Draft202012Validator(json.loads(Path(ARGO_SCHEMA).read_text("utf-8")))
        for document in documents:
            validator.validate(document)
        assert not validator.is_valid({**documents[0], "kind": "WorkflowTemplat"})


KILL_THE_RUNNER = """import json, os, pathlib, signal, sqlite3
here = pathlib.Path(os.environ["MLOPS_NB_PROJECT"])
if not (here / "killed").exists():
    (here / "killed").write_text("")
    row = sqlite3.connect(here / ".mlops/state.db").execute("SELECT process FROM runs ORDER BY started DESC").fetchone()
    os.kill(json.loads(row[0])["pid"], signal.SIGKILL)
    import time
    time.sleep(60)"""


@pytest.fixture(scope="module")
def by_airflow(airflow, make_shared_project, tmp_path_factory) -> dict[str, Any]:
    """What Airflow made of our DAG files, and of a run of one of them."""
    home = tmp_path_factory.mktemp("airflow")
    project = make_shared_project("by_airflow")
    add_stages(project)
    project.stage("06_shaky", ROWS, KILL_THE_RUNNER, "save(made, load(rows))")
    dag = write(project, "airflow", "-p", f"make.title={TITLE}")
    assert "minutes=1" in dag
    (home / "dags").mkdir()
    (home / "dags/scratch.py").write_text(dag.replace("minutes=1", "seconds=1"), "utf-8")
    for environment, schedule in (("development", ""), ("production", "30 5 * * 1-5")):
        text = export_pipeline(read_project(ROOT), Request(environment=environment), "airflow", schedule)
        (home / f"dags/{environment}.py").write_text(text, "utf-8")
    told = {"AIRFLOW_HOME": str(home), "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__DAGS_FOLDER": str(home / "dags"),
            "PATH": f"{COMMAND.parent}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run([airflow, Path(__file__).with_name("in_airflow.py"), home / "dags", "scratch"], text=True,
                          env=project.child_environment() | told, capture_output=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout.splitlines()[-1]) | {"project": project}


def test_airflow_imports_the_projects_graph(by_airflow):
    assert by_airflow["errors"] == {} and set(by_airflow["dags"]) == {"scratch", "flights", "flights-production"}
    for dag, environment in (("flights", "development"), ("flights-production", "production")):
        found = by_airflow["dags"][dag]
        assert {name: set(task["needs"]) for name, task in found["tasks"].items()} == graph_of(environment)
        assert found["catchup"] is False
    assert by_airflow["dags"]["flights"]["schedule"] is None
    assert by_airflow["dags"]["flights-production"]["schedule"] == "30 5 * * 1-5"
    assert by_airflow["dags"]["flights-production"]["tasks"]["monitoring"]["options"] == ["--env", "production"]


def test_airflow_shows_the_true_names_and_commands(by_airflow):
    scratch = by_airflow["dags"]["scratch"]
    assert scratch["params"] == {"make.title": TITLE}
    assert list(scratch["tasks"]) == ["make", "my_gate", "after", "학습", "what-is-this", "shaky"]
    assert scratch["tasks"]["what-is-this"]["shown"] == scratch["tasks"]["what-is-this"]["stage"] == "what is this"
    assert "mlops-nb run --only -p" in scratch["tasks"]["make"]["command"]


def test_airflow_runs_it_and_tries_again_only_what_was_lost(by_airflow):
    """A gate's refusal is final, though tasks have retries; a run that was killed is tried again."""
    assert by_airflow["states"] == {
        "make": ["success", 1], "my_gate": ["failed", 1], "after": ["upstream_failed", 0], "학습": ["success", 1],
        "what-is-this": ["success", 1], "shaky": ["success", 2]}
    check_ran_once(by_airflow["project"], ["make", "학습", "what is this", "shaky"])
