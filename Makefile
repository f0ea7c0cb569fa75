# make run    virtual environment, install, serve on 127.0.0.1:5000        make lint   ruff, mypy, layers
# make test   all tests but the long ones, about four minutes             make bench  the table of docs/performance.md
# make bench-s3   the same registries over one S3 store
# make clients, make conformance, make stores, make upgrade, make wheel, make soak: the long ones; they need the programs that .ci/run installs
# make clients ARGS='--backend s3-postgresql': the same over two replicas, S3 and PostgreSQL; or gcs-sqlite
# make dev-s3   two replicas behind nginx over an S3 store and PostgreSQL of their own, until Ctrl-C

PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3.14 python3; do \
	command -v $$p >/dev/null 2>&1 && $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' && echo $$p && break; done)
VENV ?= .venv
BIN := $(VENV)/bin
JOBS ?= 3

# One worker more than cores, because tests wait; more of them only wait for each other.
SPREAD = -n $(JOBS) --dist worksteal

# Each server that a test starts, and each worker of pytest, would compile every module again.
export PYTHONDONTWRITEBYTECODE =

.PHONY: run test lint format bench bench-s3 conformance clients stores upgrade wheel soak dev-s3 clean

run: $(VENV)/.installed
	$(BIN)/registry serve $(if $(CONFIG),--config $(CONFIG))

test: $(VENV)/.developed
	$(BIN)/pytest $(SPREAD) $(ARGS)

lint: $(VENV)/.developed
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.developed
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: $(VENV)/.developed
	$(BIN)/python -m benchmarks $(ARGS)

bench-s3: $(VENV)/.developed
	$(BIN)/python -m benchmarks.s3 --json results/bench-s3.json $(ARGS)

conformance: $(VENV)/.developed
	$(BIN)/pytest -m conformance tests/conformance $(ARGS)

clients: $(VENV)/.developed
	$(BIN)/pytest -m clients tests/clients $(ARGS)

stores: $(VENV)/.developed
	$(BIN)/pytest $(SPREAD) -m stores $(ARGS)

upgrade: $(VENV)/.developed
	$(BIN)/pytest $(SPREAD) -m upgrade tests/upgrade $(ARGS)

wheel: $(VENV)/.developed
	$(BIN)/pytest -m wheel tests/wheel $(ARGS)

soak: $(VENV)/.developed
	SOAK=$(or $(SOAK),full) $(BIN)/pytest -m soak $(ARGS)
	$(if $(filter sample,$(SOAK)),,MODEL_EXAMPLES=500 $(BIN)/pytest $(SPREAD) tests/model)

dev-s3: $(VENV)/.developed
	@$(BIN)/python -m tests.support.dev $(ARGS)

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis build dist

# Stamps: an environment is made again only when what it is made from has changed.

$(VENV)/bin/python:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or later is needed; install it or name it with PYTHON=..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

$(VENV)/.installed: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/.developed: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@ $(VENV)/.installed
