PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

# not the links at the root
CODE := featood tests benchmarks examples

.PHONY: demo test lint format index bench install clean

demo: $(VENV)/installed
	$(BIN)/featood demo --out demo

test: $(VENV)/installed
	$(BIN)/pytest -n 2

lint: $(VENV)/installed
	$(BIN)/ruff check $(CODE)
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/mypy

format: $(VENV)/installed
	$(BIN)/ruff check --fix $(CODE)
	$(BIN)/ruff format $(CODE)

index: $(VENV)/installed
	$(BIN)/python -m featood.heads.indexing

bench: $(VENV)/installed
	$(BIN)/python benchmarks/stores.py
	$(BIN)/python benchmarks/heads.py

install: $(VENV)/installed

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt torch torchvision
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info demo
