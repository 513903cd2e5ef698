PYTHON ?= python3
VENV = .venv
BIN = $(VENV)/bin
INSTALLED = $(VENV)/.installed

.PHONY: install run test lint

install: $(INSTALLED)

$(INSTALLED): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[dev,oracles]'
	touch $(INSTALLED)

run: install
	$(BIN)/python -m obsarchive run config.json

# Three processes on two cores: many tests wait for a daemon of their own.
test: install
	$(BIN)/python -m pytest -n 3 tests

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
