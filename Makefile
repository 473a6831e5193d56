# Everything a person or a CI job runs. Each target first sets up what it needs: .venv, made once by `make install`.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help install lint format test demo bench gpu build clean

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

install: $(STAMP) ## make .venv with the tested set of packages (constraints.txt)

# The stamp is newer than what it depends on only after an install that ended well.
$(STAMP): pyproject.toml constraints.txt
	@rm -f $@
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "diffmavil needs Python 3.11 or newer as $(PYTHON); name another: make install PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
		{ echo "$(PYTHON) has no venv with pip; install it (Debian: python3-venv) or name another: make install PYTHON=..." >&2; exit 1; }
	@echo 'installing into $(VENV): some 5 GB, two to four minutes'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

lint: $(STAMP) ## ruff, mypy --strict, import-linter
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(STAMP) ## sort imports and lay out the code
	$(BIN)/ruff check --fix --select I
	$(BIN)/ruff format

test: $(STAMP) ## the whole suite; one file: make test ARGS=tests/test_cli.py
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist worksteal $(ARGS)

demo: $(STAMP) ## the whole of it on made clips, and runs/demo/report.html
	$(BIN)/diffmavil demo --out runs/demo

bench: $(STAMP) ## what a training step costs on this machine; ARGS='--size tiny --growth true --out bench.md'
	$(BIN)/diffmavil bench $(ARGS)

gpu: $(STAMP) ## all that only a GPU can show, in eight minutes, and its page; ARGS='--out docs/benchmarks/gpu_mine.md'
	$(BIN)/python -m diffmavil bench gpu $(ARGS)

build: $(STAMP) ## the wheel, in dist/
	$(BIN)/python -m pip wheel --disable-pip-version-check --no-deps --wheel-dir dist .

clean: ## everything that was made here, but for runs/
	rm -rf $(VENV) dist .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
	find diffmavil tests -name __pycache__ -prune -exec rm -rf {} +
