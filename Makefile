# `make demo` and `make test` each set everything up on a machine that has Python 3.11+, make and a package index.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# PyTorch goes first and by version: left to the resolver, a plain `torch` is whatever is newest that day. On Linux, what
# the usual index has brings 5 GB of CUDA packages along; so where there is no NVIDIA driver, the index of PyTorch's CPU
# builds (0.2 GB) is asked too, if it can be reached. The CUDA build: make setup TORCH_INDEX=
# Another version or a wheel's path: make setup TORCH=torch==2.14.1
TORCH ?= torch==2.13.0
TORCH_INDEX ?= $(shell [ "$$(uname -s)" = Linux ] && ! command -v nvidia-smi >/dev/null && echo https://download.pytorch.org/whl/cpu)
READY := $(VENV)/.ready
UNFINISHED := $(VENV)/.unfinished
DEMO ?= demo

.PHONY: setup demo docs docs-serve test lint format clean

setup: $(READY)

# Done once, and again when pyproject.toml changes. A setup that was cut short leaves its mark, and the next starts anew.
$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else "Palpate needs Python 3.11 or newer, this is " + sys.version.split()[0] + "; name another: make PYTHON=python3.12")'
	@echo "setting up $(VENV): about 2 GB, a few minutes"
	mkdir -p $(VENV) && touch $(UNFINISHED)
	$(PYTHON) -m venv $(if $(wildcard $(UNFINISHED)),--clear) $(VENV)
	touch $(UNFINISHED)
	$(BIN)/python -m pip install --quiet --upgrade pip
	@index=""; \
	if [ -n "$(TORCH_INDEX)" ] && $(BIN)/python -c 'import urllib.request as u; u.urlopen("$(TORCH_INDEX)/torch/", timeout=10)' 2>/dev/null; then \
		index="--extra-index-url $(TORCH_INDEX)"; echo "$(TORCH): the CPU build, 0.2 GB, from $(TORCH_INDEX)"; \
	else \
		echo "$(TORCH): from the usual index, 0.2 GB, unless all that it has are builds for GPUs"; \
	fi; \
	$(BIN)/python -m pip install --quiet $$index "$(TORCH)"
	$(BIN)/python -m pip install --quiet -e ".[all,dev]"
	mv $(UNFINISHED) $@

# A synthetic scan, or your own: make demo SCAN=scan.nii.gz CLICK=120,88,45
demo: $(READY)
	@$(BIN)/python examples/demo.py --folder "$(DEMO)" $(if $(SCAN),--scan "$(SCAN)") $(if $(CLICK),--click "$(CLICK)")

# The pages as a site, in site/; any warning fails.
docs: $(READY)
	$(BIN)/python -m mkdocs build --strict

# The same on http://127.0.0.1:8000, built anew whenever a page is saved.
docs-serve: $(READY)
	$(BIN)/python -m mkdocs serve --strict --dev-addr 127.0.0.1:8000

test: lint
	$(BIN)/python -m pytest --durations=10

lint: $(READY)
	$(BIN)/ruff check --no-cache . # a cached verdict outlives files that came since: imports sort by what exists
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# Generated folders by their own names: $(VENV) and $(DEMO) may have been pointed at something precious.
clean:
	rm -rf .venv demo site .mypy_cache .ruff_cache .pytest_cache .hypothesis
