# make demo   sample pictures -> index -> search -> a contact sheet
# make test   lint and the whole test suite
# make faults every file-system call of every write to an index killed and failed, and 2,000 damaged indexes: half an hour
# make weights DATA=DIR   the shipped weights anew: about two hours on two cores; goes on where it was cut short
# All set up .venv first, once; delete .venv to start over.

PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test faults weights lint format setup browser clean

demo: setup
	$(BIN)/spyglass demo --out .demo

test: setup browser lint
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile --no-loadscope-reorder

faults: setup
	$(BIN)/python -m pytest tests/test_faults.py tests/test_readers.py tests/test_damaged_indexes.py --all-faults --verbose --capture=no

DATA ?= ../shared/data
WEIGHTS := .weights
MINI_IMAGENET = $(wildcard $(DATA)/mini-imagenet/mini-imagenet-train-*.parquet $(DATA)/mini-imagenet/mini-imagenet-val-*.parquet)

weights: setup
	@test -n "$(MINI_IMAGENET)" || { echo "expected mini-imagenet's parquet files below $(DATA), found none; give DATA=DIR" >&2; exit 1; }
	mkdir -p $(WEIGHTS)
	$(BIN)/python tests/benchmarks/halves.py $(DATA)/noto-emoji/noto-emoji-00.parquet \
	  --learn $(WEIGHTS)/icons-learn.parquet --measure $(WEIGHTS)/icons-measure.parquet
	$(BIN)/spyglass train embedder --data $(MINI_IMAGENET) --out $(WEIGHTS)/first
	$(BIN)/spyglass train embedder --data $(MINI_IMAGENET) --unlabelled $(WEIGHTS)/icons-learn.parquet --plain-unlabelled \
	  --init $(WEIGHTS)/first --image-size 112 --budget 118 --train-size 80 --epochs 10 --learning-rate 7e-4 --seed 1 \
	  --out $(WEIGHTS)/default

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

# The tests of the web page drive a real browser; Debian's will do.
browser:
	@command -v chromium >/dev/null \
	  || { apt-get update -q && apt-get install -qy --no-install-recommends chromium fonts-dejavu-core; } \
	  || { echo "expected chromium for the tests of the web page, found none; install it and try again" >&2; exit 1; }

clean:
	rm -rf $(VENV) .demo
