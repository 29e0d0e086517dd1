# Needs Python 3.11 and make; everything else is installed into .venv.
SHELL := /bin/bash
.DEFAULT_GOAL := help

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
UV := $(BIN)/uv
# Kept bytecode: without it each process of the tests compiles torch and transformers anew, half of its start.
unexport PYTHONDONTWRITEBYTECODE
EVENTS ?= 20000
TESTS ?= tests
PROCESSES ?= 3

# The locks name exact versions and no addresses: where packages come from is up to pip's settings.
LOCK := $(UV) pip compile pyproject.toml --extra kafka-embedded --extra transformer --extra training --extra examples --extra tracing --extra dev \
	--python-version 3.11 --universal --no-emit-index-url --no-header --no-annotate --quiet

.PHONY: help demo test chaos lint bench soak lock clean

help:  ## say what can be made
	@echo "make demo    the whole stream on MovieLens-1M (EVENTS=20000, KEEP=1 keeps it all up)"
	@echo "make test    every test, on a real Kafka (TESTS=tests/unit for a part, PROCESSES=3)"
	@echo "make chaos   random plans of faults (MINUTES=10, SEED=, JOBS=2, KIND=worker)"
	@echo "make lint    ruff, mypy --strict, import contracts, licences, known vulnerabilities"
	@echo "make bench   speed against the peers (QUICK=1: about four minutes, smaller)"
	@echo "make soak    a steady load for MINUTES=30, and a look for what grows"
	@echo "make lock    resolve the pinned versions anew"
	@echo "make clean   remove what was built or left by runs (not .venv)"

# Stamps: a second run finds nothing to do unless a lock or pyproject.toml has changed.
$(UV): requirements/uv.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements/uv.txt
	@touch $(UV)

$(VENV)/.installed: $(UV) pyproject.toml requirements/dev.txt requirements/data.txt
	$(UV) pip install --python $(BIN)/python --quiet -r requirements/dev.txt
	$(UV) pip install --python $(BIN)/python --quiet --no-deps -r requirements/data.txt
	$(UV) pip install --python $(BIN)/python --quiet --no-deps --editable .
	@$(BIN)/python -m stream_app.kafka_jars
	@touch $@

# The peers live in the same environment, locked so that they move none of our versions.
$(VENV)/.installed-bench: $(VENV)/.installed requirements/bench.txt
	$(UV) pip install --python $(BIN)/python --quiet -r requirements/bench.txt
	@touch $@

demo: $(VENV)/.installed  ## the whole stream on MovieLens-1M
	@exec $(BIN)/interest-stream demo --events $(EVENTS) $(if $(KEEP),--keep)

test: $(VENV)/.installed  ## every test
	@$(BIN)/python -m tests.harness.chromium  # for the dashboard's; they are skipped without one
	@$(BIN)/python -m tests.harness.promtool  # for the alert rules'; the same
	$(BIN)/python -m pytest $(TESTS) -n $(PROCESSES) --dist loadfile --no-loadscope-reorder

JOBS ?= 2
chaos: $(VENV)/.installed  ## random plans of faults until the time is over
	$(BIN)/python -m tests.chaos run --minutes $(or $(MINUTES),10) --jobs $(JOBS) \
		$(if $(SEED),--seed $(SEED)) $(if $(KIND),--kind $(KIND)) $(if $(RECORD),--record $(RECORD))

lint: $(VENV)/.installed  ## style, types, import contracts, licences, known vulnerabilities
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python .ci/dependencies.py licences
	$(BIN)/python .ci/dependencies.py audit

bench: $(VENV)/.installed-bench  ## speed against the peers
	$(BIN)/python -m benchmarks $(if $(QUICK),--quick)

soak: $(VENV)/.installed  ## does anything grow? Exit code 1 names it
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.soak --minutes $(or $(MINUTES),30) $(if $(RATE_MAX),--rate-max $(RATE_MAX))

lock: $(UV)  ## resolve the pinned versions anew; bench first, for its peers hold versions back
	$(LOCK) --upgrade --extra bench --output-file requirements/bench.txt
	$(LOCK) --upgrade --constraint requirements/bench.txt --output-file requirements/dev.txt

clean:  ## remove what was built or left by runs
	rm -rf .run dist build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	rm -rf .import_linter_cache
	find stream_app encoders state tests benchmarks -name __pycache__ -prune -exec rm -rf {} +
