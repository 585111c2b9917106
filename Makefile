# make demo | test | check | docs | bench | results: each makes the virtual environment first, once.
# make results DATA=FOLDER: the folder of mnist.npz and binary/nltcs.npz; NAMES="digits mnist-made" picks some.
# make recipes DATA=FOLDER ONLY="--data digits --budget 5s": default settings beside a search; it goes on where it stopped.

PYTHON ?= python3
VENV ?= .venv
WORKERS ?= 2
DATA ?= data
BIN = $(VENV)/bin
STAMP = $(VENV)/.installed

.PHONY: demo install test check docs bench results recipes

demo: $(STAMP)
	$(BIN)/python examples/demo.py

install: $(STAMP)

# One thread per worker: two workers that use two threads each would wait for one another.
test: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n $(WORKERS)

check: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyrefly check --python-interpreter-path $(BIN)/python
	$(BIN)/zensical build --clean --strict
	$(MAKE) --no-print-directory test

docs: $(STAMP)
	$(BIN)/zensical build --clean --strict

bench: $(STAMP)
	$(BIN)/python benchmarks/speed.py
	$(BIN)/python benchmarks/coding.py
	$(BIN)/python benchmarks/memory.py

results: $(STAMP)
	$(BIN)/python benchmarks/results.py --data $(DATA) $(NAMES)

recipes: $(STAMP)
	$(BIN)/python benchmarks/recipes.py recipes.jsonl --folder $(DATA) $(ONLY)

$(STAMP): pyproject.toml constraints.txt
	@echo "installing into $(VENV) (once; a few minutes where torch is not cached)"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@
