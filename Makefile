PYTHON ?= python3
BIN := .venv/bin
export PIP_CONSTRAINT := $(CURDIR)/constraints.txt
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: demo browser test test-slow test-gpu benchmark benchmark-gpu record check count format

demo: .venv/installed  ## the whole job on a mock sky
	$(BIN)/hubblefork demo --out demo

test: .venv/installed-dev browser  ## the test suite
	$(BIN)/python -m pytest

browser:  ## a browser for the tests of the gallery, where it can be installed; they are skipped without
	@command -v chromium >/dev/null || { test "$$(id -u)" = 0 && command -v apt-get >/dev/null && \
		{ apt-get install -qq -y chromium || { apt-get update -qq && apt-get install -qq -y chromium; }; } \
		>/dev/null 2>&1; } || echo "no chromium: tests in a browser are skipped"

test-slow: .venv/installed-dev  ## tests that take minutes
	$(BIN)/python -m pytest -m slow

test-gpu: .venv/installed-dev  ## tests that need a CUDA device
	$(BIN)/python -m pytest -m gpu

KAGGLE ?=
ROUNDS ?= 3
KEPT = --record $(or $(RECORD),benchmark)
benchmark: .venv/installed  ## all that need no GPU, as one table: make benchmark KAGGLE=files/ ZOOBOT=python KERAS=python
	$(BIN)/python benchmarks/stages.py $(KAGGLE) $(KEPT)
	$(BIN)/python benchmarks/stamps.py $(KAGGLE) --rounds $(ROUNDS) $(KEPT)
	$(BIN)/python benchmarks/train_lab_cnn.py --rounds $(ROUNDS) $(KERAS:%=--keras-python %) $(KEPT)
	$(BIN)/python benchmarks/predict.py $(KAGGLE) --rounds $(ROUNDS) $(ZOOBOT:%=--zoobot-python %) \
		$(KERAS:%=--keras-python %) $(KEPT)

benchmark-gpu: .venv/installed  ## images/s of training beside the device's peak; RECORD=FOLDER keeps the table
	$(BIN)/python benchmarks/train_gpu.py $(if $(RECORD),--record $(RECORD))

DATA ?= data/
RECIPES ?= lab-cnn fork
record: .venv/installed  ## the speed-run: make record DATA=data/ RECIPES="lab-cnn fork" MORE="--seeds 5 --target 0.119"
	$(BIN)/python benchmarks/record.py $(DATA) $(RECIPES:%=--recipe %) $(if $(RECORD),--record $(RECORD)) $(MORE)

check: .venv/installed-dev  ## lint, format, types, import contracts
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports
	$(BIN)/mypy

count: .venv/bin/python  ## files, lines, functions and templates of the package, beside their limits
	$(BIN)/python benchmarks/count.py

format: .venv/installed-dev
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/installed: .venv/bin/python pyproject.toml constraints.txt
	$(BIN)/pip install --quiet --editable '.[train,mock,openvino]'
	touch $@

.venv/installed-dev: .venv/installed
	$(BIN)/pip install --quiet --editable '.[dev]'
	touch $@

clean:
	rm -rf .venv demo
