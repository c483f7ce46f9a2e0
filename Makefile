# The one list of commands. `make` shows it.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ONLY ?=
SEEDS ?= 1000
ROUNDS ?= 50
TESTS ?=
UPGRADE ?=
SEED ?= $(shell echo $$RANDOM)
export PATH := $(CURDIR)/$(BIN):$(PATH)

.DEFAULT_GOAL := help
.PHONY: help setup demo up start status stop test check fmt unit integration coverage bench simulate chaos docs lock tools clean

help:  ## Show this list.
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

setup: $(VENV)/.ready infra/local/engine/jars/.ready api/web/node_modules/.ready  ## Set everything up; other targets do it when needed.

demo: setup  ## Ingest real and awkward clips, play them back, rebuild, and stop; exits 0 when everything worked.
	$(BIN)/python -m infra.demo

up: setup  ## Serve in the foreground until Ctrl-C.
	$(BIN)/kinolog up

start: setup  ## Serve in the background.
	$(BIN)/kinolog up --detach

status:  ## Show what runs.
	$(BIN)/kinolog status

stop:  ## Stop what `make start` started.
	$(BIN)/kinolog down

test: setup browser tools  ## Lint, types and every test, on the real engine.
	@infra/steps.sh check "make --no-print-directory check" \
	    tests "infra/tests.sh $(BIN)/python"

check: $(VENV)/.ready  ## Lint, format and types.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

fmt: $(VENV)/.ready  ## Format, and repair what the linter can.
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

unit: $(VENV)/.ready api/web/node_modules/.ready tools  ## The tests that need no engine.
	$(BIN)/python -m pytest tests/unit tests/contract tests/simulation

integration: setup browser tools  ## The tests on the real engine.
	$(BIN)/python -m pytest tests/integration tests/browser

coverage: setup browser tools  ## Run the tests with branches counted, print the lines that they miss; TESTS=tests/unit takes a part.
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -q -n 2 --dist worksteal $(TESTS); code=$$?; \
	$(BIN)/coverage combine -q && $(BIN)/coverage report && exit $$code

bench: setup  ## Measure; print each figure at once, and write build/bench.json. ONLY=name runs one part.
	$(BIN)/python -m tests.bench $(ONLY)

chaos: setup  ## Inject faults into transcodes, archive and rebuild, ROUNDS times (default 50), in the order of SEED.
	ROUNDS=$(ROUNDS) SEED=$(SEED) $(BIN)/python -m pytest -q -s tests/integration/test_chaos.py tests/integration/test_replay_kills.py

simulate: $(VENV)/.ready  ## Simulate dispatch with many seeds: make simulate SEEDS=1000.
	$(BIN)/python -m tests.simulation --seeds $(SEEDS)

lock: build/uv/bin/uv  ## Resolve pyproject.toml into the locks again; UPGRADE=--upgrade takes the newest of everything.
	$(PYTHON) -m infra.locking $(UPGRADE)

docs: $(VENV)/.ready  ## Regenerate schemas and reference pages.
	$(BIN)/kinolog docs

tools: tests/tools/node_modules/.ready tests/tools/bin/.ready  ## Fetch the tests' validators; tests do it when needed.

clean:  ## Delete what was built; the data in var/ stays.
	rm -rf build .mypy_cache .ruff_cache .pytest_cache .hypothesis

# --- set-up, each step once -------------------------------------------------------------------------------------------

$(VENV)/.ready: requirements.lock $(wildcard infra/locks/*.lock) pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("Please install Python 3.11 or newer, or name it: make PYTHON=python3.11" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

build/uv/bin/uv:
	$(PYTHON) -m venv build/uv
	build/uv/bin/python -m pip install --quiet --disable-pip-version-check 'uv==0.13.9'

infra/local/engine/jars/.ready: infra/local/engine/pom.xml
	@infra/local/engine/tools.sh java mvn
	@if [ -d infra/engine/jars ] && [ ! -e $(@D) ]; then mv infra/engine/jars $(@D); fi  # they lay there before
	mvn -q -B -f infra/local/engine/pom.xml -P kafka dependency:copy-dependencies -DoutputDirectory=$(CURDIR)/infra/local/engine/jars/kafka
	mvn -q -B -f infra/local/engine/pom.xml -P objects dependency:copy-dependencies -DoutputDirectory=$(CURDIR)/infra/local/engine/jars/objects
	@touch $@

api/web/node_modules/.ready: api/web/package-lock.json
tests/tools/node_modules/.ready: tests/tools/package-lock.json
%/node_modules/.ready:
	@infra/local/engine/tools.sh npm
	cd $* && npm ci --ignore-scripts --no-audit --no-fund --silent
	@touch $@

tests/tools/bin/.ready: tests/tools/promtool.sh
	$<
	@touch $@

.PHONY: browser
browser: tests/browser/node_modules/.ready
	@infra/local/engine/tools.sh chromium mpv

tests/browser/node_modules/.ready: tests/browser/package-lock.json
	@infra/local/engine/tools.sh npm
	cd tests/browser && npm ci --ignore-scripts --no-audit --no-fund --silent
	@touch $@
