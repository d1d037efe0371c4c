"""Run by Airflow's Python: import the DAG files of a folder as Airflow does, run one of them, print what came of it.

usage: in_airflow.py FOLDER [DAG]; AIRFLOW_HOME and the like are in the environment.
"""

import json
import sys
from typing import Any

from airflow.dag_processing.dagbag import DagBag
from airflow.utils.db import initdb


def describe(dag: Any) -> dict[str, Any]:
    """Tasks with their edges and settings, as Airflow understood them."""
    tasks = {task.task_id: {
        "needs": sorted(task.upstream_task_ids), "stage": task.stage, "options": task.options, "retries": task.retries,
        "shown": task.task_display_name, "command": task.doc_md} for task in dag.tasks}
    return {"tasks": tasks, "params": dag.params.dump(), "schedule": dag.schedule, "catchup": dag.catchup}


def run(dag: Any) -> dict[str, Any]:
    """Run a DAG by Airflow's own means: the state of each task, and how often it was tried."""
    initdb()
    ended = dag.test()
    return {one.task_id: [str(one.state), one.try_number] for one in ended.get_task_instances()}


if __name__ == "__main__":
    folder, *dags = sys.argv[1:]
    bag = DagBag(folder)
    found: dict[str, Any] = {"errors": bag.import_errors}
    found["dags"] = {name: describe(each) for name, each in bag.dags.items()}
    for name in dags:
        found["states"] = run(bag.dags[name])
    print("\n" + json.dumps(found))
