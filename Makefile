# Everything runs from this checkout, in .venv; `make` alone prints what there is.
MAKEFLAGS += --no-print-directory --no-builtin-rules
.DEFAULT_GOAL := help
.PHONY: help demo test pytest setup setup-dev lint bench docs lock clean

# The first Python that fits, unless one is asked for: make setup PYTHON=python3.13
FITS = import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
ifeq ($(origin PYTHON),undefined)
PYTHON := $(shell for python in python3 python3.13 python3.12 python3.11 .venv/bin/python; do \
	"$$python" -c '$(FITS)' >/dev/null 2>&1 && echo "$$python" && break; done)
else
EXACT := --exact
endif

BIN := .venv/bin
INSTALL = @if [ -z "$(PYTHON)" ] || ! "$(PYTHON)" -c '$(FITS)'; then \
	echo 'Python 3.11, 3.12 or 3.13 is needed and was not found. Name one: make PYTHON=/path/to/python3.13' >&2; \
	exit 1; fi; "$(PYTHON)" .ci/environment.py $(EXACT)
UV = uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	--no-emit-find-links --custom-compile-command 'make lock'

demo: setup ## Make a simulated company, train on it and serve it (SIZE=small, medium or large)
	@$(BIN)/crm demo $(if $(SIZE),--size $(SIZE))

test: setup-dev ## Check style, types, architecture and documentation, and run every test
	@$(MAKE) --jobs=2 lint pytest

# On two cores three: one works while the others wait for a browser, a database or another process.
# What is compiled is kept, even where the shell asks for the opposite: a hundred processes read it again.
pytest:
	@PYTHONDONTWRITEBYTECODE= $(BIN)/pytest -n 3 --dist loadfile --no-loadscope-reorder $(ARGS)

setup: ## Make .venv with what the program needs
	$(INSTALL) requirements.lock

setup-dev:
	$(INSTALL) requirements.lock requirements-dev.lock

lint: setup-dev ## Check style, types and architecture
	@echo 'ruff';         $(BIN)/ruff check --quiet .
	@echo 'ruff format';  $(BIN)/ruff format --quiet --check .
	@echo 'mypy';         $(BIN)/mypy
	@echo 'import-linter'; $(BIN)/lint-imports

bench: setup-dev ## Measure us beside others, one JSON object a line (ONLY=name for one)
	@$(BIN)/python -m tests.bench $(if $(ONLY),--only $(ONLY))

docs: setup-dev ## Write the tables in docs/ that are made from the code
	@$(BIN)/python docs/generate.py

lock: ## Write both lock files from pyproject.toml (needs uv; UPGRADE=1 for the newest versions)
	@command -v uv >/dev/null || { echo 'make lock needs uv on the path: pip install uv' >&2; exit 1; }
	@$(UV) $(if $(UPGRADE),--upgrade) pyproject.toml -o requirements.lock
	@$(UV) $(if $(UPGRADE),--upgrade) pyproject.toml --group dev -c requirements.lock -o requirements-dev.lock

clean: ## Remove .venv and every cache, but no data
	@rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis build dist
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-7s %s\n", $$1, $$2 }' Makefile
