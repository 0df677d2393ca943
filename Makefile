# make demo    see it work: a Kafka, a worker, data and a page       make test    lint, types and all tests
# make bench   throughput, latency, recovery beside others   make chaos   hundreds of faults: an hour; ARGS="--kills 20 ..."
# make limits  memory and recovery of a million sources; ARGS="--only soak --soak-minutes 30": is memory flat under load?
# make drills  made series with made faults, judged as an operator would: a minute; ARGS="--only level_shift --verbose"
#
# Everything runs from .venv, made from setup.cfg. PYTHON=/path/to/python3.12 chooses the Python it is made of;
# ARGS="..." is handed on: make test ARGS="-k topics", make demo ARGS="--help". WORKERS=1 runs one test after another.

.PHONY: demo test lint types bench chaos limits drills venv clean
.DEFAULT_GOAL := help

VENV := .venv
BIN := $(VENV)/bin
NEW_ENOUGH := import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))
# One more than the smallest machine has cores: tests of brokers wait for sessions and acknowledgements a third of the time.
WORKERS ?= 3
# Hundreds of processes of tests import the same modules: one compiles them, the others load its bytecode.
unexport PYTHONDONTWRITEBYTECODE
PYTHON ?= $(firstword $(foreach p,python3 python3.13 python3.12 python3.11 python3.14, \
    $(shell $(p) -c '$(NEW_ENOUGH)' >/dev/null 2>&1 && echo $(p))))

.PHONY: help
help:
	@sed -n '1,6s/^# \{0,1\}//p' Makefile

venv: $(VENV)/installed

$(VENV)/installed: setup.cfg pyproject.toml
	@test -n "$(PYTHON)" && $(PYTHON) -c '$(NEW_ENOUGH)' >/dev/null 2>&1 || { \
	    echo "make: needs Python 3.11 or newer with its module venv (Debian: python3-venv)," >&2; \
	    echo "      found: $$($(or $(PYTHON),python3) --version 2>/dev/null || echo none). PYTHON=/path/to/python3.12 names another." >&2; \
	    exit 1; }
	@echo "making $(VENV): about a minute, 900 MB"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[local,test]'
	@touch $@

demo: venv
	$(BIN)/faust-anomaly demo $(ARGS)

# Types are checked while the tests run, which leave a core idle now and then; the result is shown after theirs.
test: lint
	@$(BIN)/mypy >$(VENV)/types 2>&1 & types=$$!; \
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(ARGS); tests=$$?; \
	wait $$types; types=$$?; cat $(VENV)/types; exit $$((tests | types))

lint: venv
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/python -m pip check

types: venv
	$(BIN)/mypy

bench: venv
	$(BIN)/python -m tests.bench $(ARGS)

chaos: venv
	$(BIN)/python -m tests.simulation --schedules 10000
	$(BIN)/python -m tests.chaos $(ARGS)

limits: venv
	$(BIN)/python -m tests.limits $(ARGS)

drills: venv
	$(BIN)/python -m tests.drills $(ARGS)

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
