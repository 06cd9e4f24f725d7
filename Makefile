PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

# not the links at the root
CODE := featood tests benchmarks examples docs

.PHONY: demo test lint format index bench bench-compare install clean

demo: $(VENV)/installed
	$(BIN)/featood demo --out demo

test: $(VENV)/installed
	$(BIN)/pytest -n 2 --dist loadfile

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
	$(BIN)/featood bench --peers --page docs/guides/speed.md --json benchmarks/results/speed.json
	$(BIN)/featood bench --io --extract --train --classes 10 --threads 1 --repeat 5 --page docs/guides/speed.md --json benchmarks/results/pipeline.json

# what became slower since a commit: make bench-compare SINCE=main BENCH="knn vim --io"
SINCE ?= main
BENCH ?= --io --extract --train
bench-compare: $(VENV)/installed
	$(BIN)/python benchmarks/compare_commits.py $(SINCE) $(BENCH)

.PHONY: docs test-lower-bounds release-check

# pages into site/; the examples of the gallery are run
docs: $(VENV)/docs
	$(BIN)/mkdocs build --strict

# the least versions that pyproject.toml allows, and the tests of what depends on them most; damaged files and the pixels
# of resized images are left out, for they are those of the newest timm and Pillow
LOWER := tests/cache/test_cache.py tests/metrics tests/readers tests/report tests/data/test_tables.py tests/training \
	tests/heads/test_knn.py tests/heads/test_gaussian_heads.py tests/heads/test_logit_heads.py tests/heads/test_flow_heads.py \
	tests/heads/test_artefacts.py tests/extractors/test_live.py tests/cli/test_cli.py tests/data/test_data_images.py \
	tests/extractors/test_backbones.py

test-lower-bounds:
	$(PYTHON) -m venv $(VENV)/lower
	$(VENV)/lower/bin/pip install --quiet --disable-pip-version-check uv
	$(VENV)/lower/bin/uv pip install --quiet --python $(VENV)/lower/bin/python --resolution lowest-direct '.[testing]'
	$(VENV)/lower/bin/python -m pytest $(LOWER) -k "not odd_files"

# what a release must pass: both archives, and the wheel in an environment of its own
release-check: $(VENV)/installed
	$(BIN)/pip install --quiet --disable-pip-version-check build twine
	rm -rf dist $(VENV)/release
	$(BIN)/pyproject-build
	$(BIN)/twine check --strict dist/*
	$(PYTHON) -m venv $(VENV)/release
	$(VENV)/release/bin/pip install --quiet --disable-pip-version-check --constraint constraints.txt dist/*.whl
	cd dist && ../$(VENV)/release/bin/featood --help && ../$(VENV)/release/bin/featood heads

install: $(VENV)/installed

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt torch torchvision
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

$(VENV)/docs: $(VENV)/installed
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[docs]'
	touch $@

clean:
	rm -rf $(VENV) build dist site *.egg-info demo
