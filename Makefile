PYTHON ?= python3
VENV = .venv
BIN = $(VENV)/bin
INSTALLED = $(VENV)/.installed
INSTALLED_DEV = $(VENV)/.installed-dev
TOM = .venv-tom
TOM_INSTALLED = $(TOM)/.installed-3.1.0
SCRIPTS_INSTALLED = tests/web/node_modules/.package-lock.json

.PHONY: install run test quality bench lint

install: $(INSTALLED_DEV)

# What running needs.
$(INSTALLED): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

# The same, with what tests and checks need.
$(INSTALLED_DEV): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[dev,oracles]'
	touch $(INSTALLED) $@

# A TOM to upload light curves to, for the tests; it needs older libraries than ours.
$(TOM_INSTALLED):
	test -x $(TOM)/bin/python || $(PYTHON) -m venv $(TOM)
	$(TOM)/bin/python -m pip install --quiet tomtoolkit==3.1.0
	touch $(TOM_INSTALLED)

# Scripts that no part of Archiver is but its portal can serve, for the tests.
$(SCRIPTS_INSTALLED): tests/web/package-lock.json
	npm ci --prefix tests/web --ignore-scripts --no-audit --no-fund --loglevel error
	touch $@

run: $(INSTALLED)
	$(BIN)/obsarchive run config.json

# Several machines on one, a batch system among them, need it to themselves.
MACHINES = tests/deploy/test_machines.py

# Three processes on two cores, since many tests wait for a daemon of their own; so no process needs several threads.
test: install $(TOM_INSTALLED) $(SCRIPTS_INSTALLED)
	OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 3 tests --ignore=$(MACHINES)
	OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(MACHINES)

# How good the results are, and whether their errors are true: hours of simulations, written to benchmarks/QUALITY.md.
quality: install
	$(BIN)/python -m benchmarks.quality

# How fast, beside peers and beside an earlier commit (make bench BEFORE=COMMIT), written to benchmarks/RESULTS.md:
# about 45 minutes, at most two hours. Whether all of it runs: bench_all.py --quick.
bench: install
	$(BIN)/python benchmarks/bench_all.py $(if $(BEFORE),--before $(BEFORE))

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
