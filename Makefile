# `make demo` and `make test` each set everything up on a machine that has Python 3.11+, make and a package index.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# PyTorch goes first and by version: left to the resolver, a CPU-only machine may get the newest build and with it
# gigabytes of CUDA packages. On a machine with a GPU: make setup TORCH=torch
TORCH ?= torch==2.13.0
READY := $(VENV)/.ready
DEMO ?= demo

.PHONY: setup demo test lint format clean

setup: $(READY)

$(READY): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet "$(TORCH)"
	$(BIN)/python -m pip install --quiet -e ".[dev]"
	touch $@

# A synthetic scan, or your own: make demo SCAN=scan.nii.gz CLICK=120,88,45
demo: $(READY)
	@$(BIN)/python examples/demo.py --folder $(DEMO) $(if $(SCAN),--scan "$(SCAN)" --click "$(CLICK)")

test: lint
	$(BIN)/python -m pytest --durations=10

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) $(DEMO) .mypy_cache .ruff_cache .pytest_cache .hypothesis
