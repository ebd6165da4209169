# Each of these commands does its own set-up on a machine that has Python 3.11+, gcc and make.
SHELL := /bin/sh
VENV := .venv
PYTHON ?=
BIN := $(VENV)/bin
NATIVE := src/thaw/native/thaw-sandbox
TESTS ?= tests
PYTEST_ARGS ?=
BENCH_ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help demo test bench bench-java bench-lint soak lint format native setup clean

help: ## Show these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: setup ## Publish a real function with and without SnapStart, call both, print the difference
	@$(BIN)/thaw demo

test: setup ## Run all tests (a part of them: make test TESTS=tests/unit)
	@$(BIN)/python -m pytest -m "not bench and not soak" $(PYTEST_ARGS) $(TESTS)

bench: setup ## Measure (minutes); records go to build/bench/<suite>.json
	@$(BIN)/thaw bench $(BENCH_ARGS)
	@$(BIN)/python -m pytest -q -s -m bench tests/performance/test_store.py tests/performance/test_sandbox.py tests/performance/test_api.py \
		tests/performance/test_burst.py

bench-java: setup ## Measure Spring Boot at 100 calls a second (BENCH_ARGS="--minutes 2"; 30 minutes in full)
	@$(BIN)/python tests/performance/java_bench.py $(BENCH_ARGS)

bench-lint: setup ## Precision and recall of thaw lint on public handlers (CORPUS=folder)
	@$(BIN)/python tests/performance/lint_bench.py "$(CORPUS)"

soak: setup ## Run for hours (SOAK_MINUTES, default 120) and look for leaks
	@SOAK_MINUTES=$${SOAK_MINUTES:-120} $(BIN)/python -m pytest -m soak -s $(PYTEST_ARGS) tests/performance tests/java

lint: setup ## Check style, types and the direction of imports (all of them, even if one fails)
	@status=0; \
	for check in "ruff check ." "ruff format --check ." "mypy" "lint-imports"; do \
		echo "$$check"; $(BIN)/$$check || status=1; \
	done; exit $$status

format: setup ## Put the code into its standard form
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

native: $(NATIVE) ## Compile the native binary only

setup: $(VENV)/.installed $(NATIVE) ## Make the virtual environment and compile the native binary

clean: ## Remove everything that these commands made in this folder
	rm -rf $(VENV) build dist src/*.egg-info $(NATIVE) .mypy_cache .pytest_cache .ruff_cache .import_linter_cache

$(NATIVE): $(wildcard src/thaw/native/*.c src/thaw/native/*.h) src/thaw/native/Makefile
	@command -v gcc >/dev/null || { echo "Thaw needs gcc to build its native part: install gcc and try again." >&2; exit 1; }
	@$(MAKE) --no-print-directory -C src/thaw/native

$(BIN)/python:
	@.ci/venv $(VENV) $(PYTHON)

$(VENV)/.installed: pyproject.toml setup.py | $(BIN)/python
	@.ci/install $(VENV)
	@touch $@
