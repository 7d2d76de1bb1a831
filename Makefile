# `make explore` needs the core packages only; every other target installs the dev extra as well.
# After `make clean`, `make PYTHON=python3.12 explore` builds the environment with another Python.
PYTHON ?= python3
BIN := .venv/bin

# The build tools, too, are installed in the versions of constraints.txt.
export PIP_CONSTRAINT := constraints.txt
export PIP_BUILD_CONSTRAINT := constraints.txt

.PHONY: explore report test coverage mutants lint check bench clean

RUN ?= runs/fmnist-vgg-zcu102

explore: .venv/core
	$(BIN)/syq-dse explore --target zcu102 --fps 10000 --objective accuracy --objective lut

report: .venv/core
	$(BIN)/syq-dse report $(RUN) --open

test: .venv/dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto

# Half as long again as `make test`; docs/quality.md has the figures.
coverage: .venv/dev
	$(BIN)/coverage erase
	OMP_NUM_THREADS=1 $(BIN)/coverage run -m pytest -n auto
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

mutants: .venv/dev
	$(BIN)/python benchmarks/mutants.py

lint: .venv/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy syq_dse

check: lint test

bench: .venv/dev
	set -e; for file in $(filter-out benchmarks/mutants.py, $(wildcard benchmarks/*.py)); do $(BIN)/python "$$file"; done

clean:
	rm -rf .venv .coverage* build dist *.egg-info .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -prune -exec rm -rf {} +

# The two stamps are written last, so that an installation that broke off starts anew.
.venv/core: setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install -e .
	touch $@

.venv/dev: .venv/core tests/requirements.txt
	$(BIN)/python -m pip install -e '.[dev]'
	$(BIN)/python -m pip install --no-deps -r tests/requirements.txt
	touch $@
