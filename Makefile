# The two commands of a newcomer are `make demo` and `make test`; each makes what it needs.
# Prerequisites: Linux, Python 3.11 or newer with venv, make.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: help demo test test-pool chaos lint format benchmarks clean

help:
	@echo "make demo       a small survey of real pixels through the whole path, on this machine"
	@echo "make test       all tests that need no HTCondor pool"
	@echo "make test-pool  the tests on a personal HTCondor pool (condor_master on PATH)"
	@echo "make chaos      mergers while everything around them fails, SEEDS=3 times, a minute each"
	@echo "make lint       ruff, mypy, import rules"
	@echo "make format     ruff format"
	@echo "make benchmarks all benchmarks, about a minute each"

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/demo-installed: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable '.[demo]'
	touch $@

$(VENV)/test-installed: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	touch $(VENV)/demo-installed $@

demo: $(VENV)/demo-installed
	$(BIN)/quantum-exec demo

# Many tests wait for processes: half as many workers again as there are cores. Each worker takes
# neighbouring tests (worksteal), so that what a module prepares is prepared once.
WORKERS ?= $(shell expr $$(nproc) \* 3 / 2)
test: $(VENV)/test-installed
	$(BIN)/python -m pytest -m "not pool" -n $(WORKERS) --maxprocesses 8 --dist worksteal $(PYTEST_OPTIONS)

test-pool: $(VENV)/test-installed
	$(BIN)/python -m pytest -m pool tests/pool $(PYTEST_OPTIONS)

SEEDS ?= 3
chaos: $(VENV)/test-installed
	$(BIN)/python -m tests.chaos --seeds $(SEEDS) $(CHAOS_OPTIONS)

lint: $(VENV)/test-installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/test-installed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

benchmarks: $(VENV)/test-installed
	$(BIN)/python -m benchmarks.quantum
	$(BIN)/python -m benchmarks.merge
	$(BIN)/python -m benchmarks.graph

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache demo-output
