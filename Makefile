# SPDX-License-Identifier: Apache-2.0
# `make demo` and `make test` set themselves up: a virtual environment in .venv, then the work.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test lint clean

$(STAMP): pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "kvtrain needs Python 3.11 or newer; set PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev,examples]'
	touch $(STAMP)

demo: $(STAMP)
	$(BIN)/kvtrain launch -n 4 examples/train_digits.py

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: lint
	$(BIN)/python -m pytest
	$(BIN)/python -m kvtrain.testing.simulate --first 1000 --seeds 1000 --jobs 2
	$(BIN)/python -m pytest -m integration

clean:
	rm -rf $(VENV) build dist *.egg-info
