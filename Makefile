# Every target does its own set-up; nothing but Python >= 3.11 and make is needed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: help demo test check unit cluster big torture torture-proof bench clean

help: ## what there is
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/'

$(STAMP): pyproject.toml .ci/constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip setuptools -c .ci/constraints.txt
	$(BIN)/python -m pip install --quiet -c .ci/constraints.txt -e '.[dev]'
	touch $@

demo: $(STAMP) ## two versions of FILE (or of a file found here) through three deaths (1 min)
	$(BIN)/python -m tests.demo "$$FILE"

check: $(STAMP) ## lint and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: check ## everything CI runs; pytest's summary comes last
	$(BIN)/python -m pytest -q -n 2 --dist loadgroup tests

unit: $(STAMP) ## the tests without real processes
	$(BIN)/python -m pytest -q -n 2 -m 'not cluster' tests

cluster: $(STAMP) ## the tests with real processes
	$(BIN)/python -m pytest -q -m cluster tests

big: $(STAMP) ## 5 GiB (or SIZE) in and out: each byte the same, no process above 300 MiB (10 min)
	$(BIN)/python -m tests.big $(if $(SIZE),--size=$(SIZE))

torture: $(STAMP) ## kill loops: 100 leaders, 50 times all, 50 rolling, 6 wipes, 30 blob daemons (20 min)
	$(BIN)/python -m tests.torture

torture-proof: $(STAMP) ## break each claim on purpose: the torture must notice (10 min)
	$(BIN)/python -m tests.torture.breakages

bench: $(STAMP) ## figures of the whole store, as JSON
	$(BIN)/python -m bench.store
	$(BIN)/python -m bench.metadata
	$(BIN)/python -m bench.memory

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
