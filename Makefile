# make demo   sample pictures -> index -> search -> a contact sheet
# make test   lint and the whole test suite
# Both set up .venv first, once; delete .venv to start over.

PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test lint format setup clean

demo: setup
	$(BIN)/spyglass demo --out .demo

test: setup lint
	$(BIN)/python -m pytest

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

setup: $(VENV)/.installed

# Debian splits venv out of its Python; with root at hand we add it, otherwise the error says what to install.
$(VENV)/.installed: pyproject.toml constraints.txt
	@test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV) \
	  || { apt-get update -q && apt-get install -qy --no-install-recommends $(notdir $(PYTHON))-venv && $(PYTHON) -m venv $(VENV); } \
	  || { echo "expected a Python with venv, got $(PYTHON) without it; install $(notdir $(PYTHON))-venv and try again" >&2; exit 1; }
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

clean:
	rm -rf $(VENV) .demo
