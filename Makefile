# Two commands do everything: `make run` and `make test`. Both begin with `make setup`.
PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3.13 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# Options for `mlops-nb run`, for example: make run RUN="--sample 0.1"
RUN ?=
# Options for the benchmarks, for example: make bench BENCH=--quick
BENCH ?=

.PHONY: setup orchestrators run test lint lessons pytest docs build bench lock clean
.DEFAULT_GOAL := run

setup: $(READY)

$(READY): settings.ini setup.py pyproject.toml constraints.txt
	@echo "setup: a virtual environment in $(VENV), the locked versions of constraints.txt in it; no root needed"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "setup: Python 3.11 or later is needed; name one: make setup PYTHON=python3.11"; exit 2; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt uv
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --constraint constraints.txt --compile-bytecode --editable ".[all]"
	@touch $@
	@echo "setup: done"

# Airflow, and what knows Argo's and GitHub's files: 200 MB in an environment of its own, for tests/test_orchestrators.py.
orchestrators: setup
	$(BIN)/uv venv --quiet --allow-existing --python $(BIN)/python $(VENV)/orchestrators
	$(BIN)/uv pip install --quiet --python $(VENV)/orchestrators/bin/python --requirement tests/orchestrators.txt

run: setup
	$(BIN)/mlops-nb run $(RUN)

test: setup lint lessons pytest

lint: setup
	$(BIN)/ruff check
	$(BIN)/mypy

# The notebooks of the library and the tutorials are lessons, and a lesson that fails is a bug.
lessons: setup
	MPLBACKEND=agg $(BIN)/nbdev-test nbs --n-workers 2 --skip-folder-re '^([_.]|stages|apps)'

pytest: setup
	$(BIN)/pytest

docs: setup
	$(BIN)/mlops-nb docs

build: setup
	rm -rf build dist
	$(BIN)/python -m build --installer uv

# Measures beside the others, and writes the figures into nbs/explanations/benchmarks.ipynb.
bench: setup
	$(BIN)/python benchmarks/execution.py --save $(BENCH)
	$(BIN)/python benchmarks/pipelines.py --save $(BENCH)
	$(BIN)/python benchmarks/distribution.py --save $(BENCH)
	$(BIN)/python benchmarks/labeling.py --save $(BENCH)
	$(BIN)/python benchmarks/matching.py --save $(BENCH)
	$(BIN)/python benchmarks/ingestion.py --save $(BENCH)
	$(BIN)/python benchmarks/validation.py --save $(BENCH)
	$(BIN)/python benchmarks/profiling.py --save $(BENCH)
	$(BIN)/python benchmarks/table.py

# Writes the newest versions that fit settings.ini; they are then tested like any other change.
lock: setup
	$(BIN)/uv pip compile setup.py --all-extras --universal --python-version 3.11 --upgrade \
		--no-header --no-annotate --no-emit-index-url --output-file constraints.txt

clean:
	rm -rf $(VENV) .mlops _docs build dist *.egg-info
