# Every target does its own set-up; nothing but Python >= 3.11 and make is needed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PACKAGES := osscore ossd raftmeta blobd frontend cli

.PHONY: help demo test long check unit cluster big slow heal torture torture-proof openapi-fuzz fuzz resume
.PHONY: members deletes
.PHONY: bench clean

help: ## what there is
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/'

$(STAMP): pyproject.toml .ci/constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip setuptools -c .ci/constraints.txt
	$(BIN)/python -m pip install --quiet -c .ci/constraints.txt -e '.[dev]'
	$(BIN)/python -m compileall -q $(PACKAGES)
	touch $@

demo: $(STAMP) ## two versions of FILE (or of a file found here) through three deaths (1 min)
	$(BIN)/python -m tests.demo "$$FILE"

check: $(STAMP) ## lint and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: check ## everything CI runs; pytest's summary comes last
	$(BIN)/python -m pytest -q -n 2 --dist loadfile -m "not long" tests

long: $(STAMP) ## the tests that CI leaves out: what they show is shown there more shortly
	$(BIN)/python -m pytest -q -m long tests

unit: $(STAMP) ## the tests without real processes
	$(BIN)/python -m pytest -q -n 2 -m 'not cluster' tests

cluster: $(STAMP) ## the tests with real processes
	$(BIN)/python -m pytest -q -m cluster tests

big: $(STAMP) ## 5 GiB (or SIZE) in and out: each byte the same, no process above 300 MiB (10 min)
	$(BIN)/python -m tests.big $(if $(SIZE),--size=$(SIZE))

slow: $(STAMP) ## 200 clients that are slow or pause, and what others notice of them (5 min)
	$(BIN)/python -m tests.slow

heal: $(STAMP) ## disks wiped, bytes flipped; grown to seven nodes under kills, one drained (5 min)
	$(BIN)/python -m tests.heal $(if $(SEED),--seed=$(SEED))
	$(BIN)/python -m tests.heal.growth $(if $(SEED),--seed=$(SEED))

deletes: $(STAMP) ## 10,000 (or OBJECTS) stored and deleted under kills, pauses, a restore: no trace (20 min)
	$(BIN)/python -m tests.deletes $(if $(OBJECTS),--objects=$(OBJECTS)) $(if $(SEED),--seed=$(SEED))

torture: $(STAMP) ## kill loops: 100 leaders, 50 times all, 50 rolling, 6 wipes, 30 blob daemons (20 min)
	$(BIN)/python -m tests.torture

torture-proof: $(STAMP) ## break each claim on purpose: the torture must notice (10 min)
	$(BIN)/python -m tests.torture.breakages

members: $(STAMP) ## metanodes come and go under writers, leaders die meanwhile: ROUNDS of 30 s (3)
	$(BIN)/python -m tests.members $(if $(ROUNDS),--rounds=$(ROUNDS)) $(if $(SEED),--seed=$(SEED))

openapi-fuzz: $(STAMP) ## what the OpenAPI description allows and forbids, sent to a cluster (10 min; SECONDS, SEED)
	$(BIN)/python -m tests.openapi.fuzz $(if $(SECONDS),--seconds=$(SECONDS)) $(if $(SEED),--seed=$(SEED))

fuzz: $(STAMP) ## anything at all at every door: 20,000 (or REQUESTS) from SEED (5 min)
	$(BIN)/python -m tests.surface.fuzz $(if $(REQUESTS),--requests=$(REQUESTS)) \
		$(if $(SEED),--seed=$(SEED))

resume: $(STAMP) ## 1 GiB (or SIZE) through every way in and out, cut and killed (10 min)
	$(BIN)/python -m tests.surface.resume $(if $(SIZE),--size=$(SIZE)) \
		$(if $(SEED),--seed=$(SEED))

bench: $(STAMP) ## figures of the whole store, as JSON
	$(BIN)/python -m bench.store
	$(BIN)/python -m bench.metadata
	$(BIN)/python -m bench.memory

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
