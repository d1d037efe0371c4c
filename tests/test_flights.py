"""The flights pipeline on a sample of its real data: all twelve stages, again, with other values, in production."""

import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from projects import Answer, Project

from mlops_nb.content import read_value
from mlops_nb.entity_desk import accept_rates

ROOT = Path(__file__).parent.parent
STAGES = ["collection", "ingestion", "curation", "labeling", "data_validation", "preparation", "training", "evaluation",
          "system_validation", "deployment", "monitoring", "feedback"]
SAMPLE = ("--sample", "0.05")


class Flights(Project):
    """The repository itself as the project, with a state folder of its own."""

    def __post_init__(self) -> None:
        assert (self.root / "settings.ini").exists()

    def load(self, artifact: str) -> pd.DataFrame:
        """The newest table of a name, also one of a stage that stopped."""
        row, = self.query(f"SELECT hash FROM artifacts WHERE name = '{artifact}' ORDER BY id DESC LIMIT 1")
        return read_value(self.state, row["hash"], artifact)


@pytest.fixture(scope="module")
def flights(tmp_path_factory) -> Flights:
    """The project, run once on a sample."""
    project = Flights(ROOT, environment={"MLOPS_NB_STATE": str(tmp_path_factory.mktemp("state"))}, patience=600)
    project.run(*SAMPLE)
    return project


def show(project: Project, artifact: str) -> Answer:
    answer = project.call("show", artifact)
    assert answer.code == 0, answer.err
    return answer


def test_all_twelve_stages_end_well_and_leave_a_report(flights):
    assert flights.statuses() == dict.fromkeys(STAGES, "done")
    run = flights.status()["run"]
    report = (flights.state / "runs" / run / "report.html").read_text("utf-8")
    assert all(stage in report for stage in STAGES) and "data:image/png" in report
    assert "<script" not in report and 'src="http' not in report


def test_nothing_changed_nothing_runs(flights):
    said = flights.run(*SAMPLE)
    assert flights.statuses() == dict.fromkeys(STAGES, "reused"), said


def test_a_changed_parameter_runs_its_own_stage_and_what_comes_out_differently(flights):
    flights.run("evaluation", *SAMPLE, "-p", "evaluation.confidence=0.9")
    statuses = flights.statuses()
    assert statuses.pop("evaluation") == "done" and set(statuses.values()) == {"reused"}


def test_the_plan_says_why(flights):
    answer = flights.call("plan", *SAMPLE, "-p", "preparation.test_size=0.3")
    assert answer.code == 0 and "parameter test_size: 0.2 → 0.3" in answer.out and "maybe" in answer.out


def test_production_is_the_same_notebooks_on_one_month(flights):
    flights.run("--env", "production", *SAMPLE)
    assert list(flights.statuses()) == ["collection", "ingestion", "curation", "labeling", "data_validation",
                                        "monitoring", "feedback"]
    facts = show(flights, "production:monitoring.performance").out
    assert "development:training.model@" in facts and "2013-07" in facts and "2013-08" not in facts
    assert "2013-12" in show(flights, "monitoring.drift").out + show(flights, "feedback.retrain").out


def test_training_again_gives_the_same_model_to_the_last_bit(flights):
    before = flights.query("SELECT hash FROM artifacts WHERE name = 'training.model' ORDER BY id DESC LIMIT 1")[0]
    flights.run("training", "--fresh", *SAMPLE)
    assert flights.statuses()["training"] == "done"
    after = flights.query("SELECT hash FROM artifacts WHERE name = 'training.model' ORDER BY id DESC LIMIT 1")[0]
    assert before["hash"] == after["hash"]


def test_a_gate_refuses_a_model_that_needs_too_much_memory(flights):
    said = flights.run("deployment", *SAMPLE, "-p", "system_validation.memory_mb=1", code=4)
    statuses = flights.statuses()
    assert statuses["system_validation"] == "refused" and statuses["deployment"] == "skipped"
    assert "memory" in said


@pytest.fixture
def undecided(tmp_path) -> str:
    """A parameter: the decisions that ship, but none on cancelled flights."""
    lines = (ROOT / "nbs/stages/labeling_decisions.jsonl").read_text("utf-8").splitlines(keepends=True)
    few = tmp_path / "few decisions.jsonl"
    few.write_text("".join(line for line in lines if "case:cancelled" not in line), "utf-8")
    return f"labeling.recorded={few}"


def test_without_the_recorded_decisions_a_person_is_needed(flights, undecided):
    said = flights.run("training", *SAMPLE, "-p", undecided, code=3)
    statuses = flights.statuses()
    assert statuses["labeling"] == "needs_person" and statuses["training"] == "skipped"
    assert "cancelled" in said and "record_decision" in said
    assert "stopped" in show(flights, "labeling.queue").out


def test_weak_rules_answer_what_nobody_decided_and_the_labels_say_so(flights, undecided):
    flights.run("labeling", *SAMPLE, "-p", undecided, "-p", "labeling.mode=weak")
    labels = flights.load("labeling.labels")
    weak = labels[labels["source"] == "weak"]
    assert set(weak["case"]) == {"cancelled"} and weak["late"].isna().all()
    assert weak["reason"].str.startswith("weak rules").all()
    assert "person" in set(labels["source"]) and "open" not in set(labels["source"])


def test_answers_of_another_team_come_in_a_file(flights, undecided, tmp_path):
    flights.run("labeling", *SAMPLE, "-p", undecided, code=3)
    waiting = flights.load("labeling.queue")
    answers = pd.DataFrame({
        "item": waiting["flight_id"], "annotator": "Lee", "action": "none", "value": None, "note": "never left",
        "recorded_at": "2026-11-20T09:00:00Z", "milliseconds": 900, "flagged": False, "suggestion": None,
    })
    file = tmp_path / "answers.jsonl"
    answers.iloc[1:].to_json(file, orient="records", lines=True)
    imported = ("-p", undecided, "-p", "labeling.mode=import", "-p", f"labeling.answers={file}")
    said = flights.run("labeling", *SAMPLE, *imported, code=3)
    assert "1 flights wait" in said
    assert flights.load("labeling.queue")["flight_id"].tolist() == [waiting["flight_id"].iloc[0]]
    answers.to_json(file, orient="records", lines=True)
    flights.run("labeling", *SAMPLE, *imported)
    labels = flights.load("labeling.labels").set_index("flight_id").loc[waiting["flight_id"]]
    assert labels["source"].eq("person").all() and labels["reason"].eq("Lee: never left").all()


def test_a_mode_that_asks_a_person_never_waits_in_a_run(flights, undecided):
    said = flights.run("labeling", *SAMPLE, "-p", undecided, "-p", "labeling.mode=interactive", code=3)
    assert "nbs/apps/labeling.ipynb" in said
    assert "which: -p labeling.answers=FILE" in flights.run("labeling", *SAMPLE, "-p", "labeling.mode=import", code=1)


def test_a_decision_in_the_journal_is_all_that_was_missing(flights, undecided):
    """The same run goes on once somebody has decided, and the decision is one of its inputs."""
    flights.run("labeling", *SAMPLE, "-p", undecided, code=3)
    decided = flights.python("from mlops_nb.journal import record_decision\n"
                             "record_decision('labeling', 'case:cancelled', 'exclude', 'nothing arrived', 'Kim')")
    assert decided.code == 0, decided.err
    flights.run("labeling", *SAMPLE, "-p", undecided)
    assert flights.statuses()["labeling"] == "done"
    assert "journal.labeling@" in show(flights, "labeling.labels").out
    story = flights.call("why", "case:cancelled")
    assert story.code == 0 and "nothing arrived" in story.out and "labeling.labels@" in story.out
    tree = flights.call("why", "labeling.labels", "--json")
    assert [one["person"] for one in json.loads(tree.out)["decisions"]] == ["Kim"]
    assert "did you mean `labeling.labels`" in flights.call("why", "labeling.label").err


@pytest.fixture(scope="module")
def by_hand(tmp_path_factory) -> Flights:
    """The project with an empty state folder, for a person who runs one notebook after another."""
    return Flights(ROOT, environment={"MLOPS_NB_STATE": str(tmp_path_factory.mktemp("by hand"))})


@pytest.mark.parametrize("number", range(12), ids=STAGES)
def test_every_stage_runs_unchanged_under_stock_papermill(by_hand, number, tmp_path):
    """papermill's own engine and command line, nothing of ours around it; each stage finds what the last one left."""
    notebook = next((ROOT / "nbs/stages").glob(f"{number + 1:02}_*.ipynb"))
    cheap = {"ingestion": ["sample", "0.05"], "training": ["max_iter", "10"], "evaluation": ["n_resamples", "20"],
             "monitoring": ["times", "20"], "system_validation": ["calls", "20"]}.get(STAGES[number])
    done = subprocess.run(
        [str(Path(sys.executable).with_name("papermill")), str(notebook), str(tmp_path / "out.ipynb"),
         *(["-p", *cheap] if cheap else [])], cwd=ROOT, env=by_hand.child_environment(), capture_output=True, text=True,
        check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    executed = json.loads((tmp_path / "out.ipynb").read_text("utf-8"))
    assert all(cell["execution_count"] for cell in executed["cells"] if cell["cell_type"] == "code" and cell["source"])
    standing = {row["standing"] for row in by_hand.query(
        f"SELECT standing FROM artifacts WHERE name LIKE '{STAGES[number]}.%'")}
    assert standing == {"interactive"}


def test_no_process_is_left(flights, by_hand):
    flights.wait_until_quiet()
    by_hand.wait_until_quiet()


def test_a_department_that_drifts_away_is_refused_by_name(flights, tmp_path):
    """Shares of flights without a partner, accepted once; then the fleet registry delivers half of its table."""
    flights.run("curation", *SAMPLE)
    assert not flights.load("curation.agreement")["passed"].any(), "nobody has accepted any yet: warnings"
    unmatched = flights.load("curation.unmatched")
    assert accept_rates("departments_rates", unmatched, "known", person="Lee", state=flights.state) == 4
    flights.run("curation", *SAMPLE)
    assert flights.load("curation.agreement")["passed"].all()
    half = tmp_path / "planes.parquet"
    flights.load("ingestion.planes").iloc[::2].to_parquet(half)
    said = flights.run("training", *SAMPLE, "-p", f"curation.planes=file:{half}", code=4)
    assert flights.statuses()["curation"] == "refused" and flights.statuses()["training"] == "skipped"
    assert "flight operations and fleet registry (planes) agree on tailnum" in said and "accepted were" in said
    assert "weather bureau" not in said
