# Two commands for users: `make run` and `make test`. Each sets itself up in .venv.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help setup run test check docs bench protos clean

help: ## show this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1\t/' | expand -t 16

setup: $(READY) ## make .venv with everything in it

# constraints.txt pins what was tested; without it the newest versions that fit are taken
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python >= 3.11 is needed: make PYTHON=python3.12 setup" >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check 'pip>=25.1'
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[examples]' --group dev
	@touch $@

run: $(READY) ## quantise, compile and run a real model on a leased virtual NPU
	@$(BIN)/python examples/quickstart.py

test: $(READY) ## run all tests
	$(BIN)/pytest -n auto --maxprocesses 4 --dist loadfile

check: $(READY) docs ## lint, types, import contracts, freshness of generated files, docs
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python scripts/unasync.py --check
	$(BIN)/python scripts/lease_states.py --check
	$(BIN)/python scripts/operator_table.py --check
	$(BIN)/python scripts/command_files.py --check
	$(BIN)/python scripts/requirements.py --check
	$(BIN)/pytest --quiet tests/packaging/test_stubs_fresh.py

docs: $(READY) ## build the documentation in build/docs; a warning is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --site-dir build/docs

bench: $(READY) ## measure; writes benchmarks/report.json and report.md
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --group bench
	$(BIN)/python -m benchmarks

protos: ## regenerate the protobuf stubs, with their own pinned generator
	test -x .venv-protos/bin/python || $(PYTHON) -m venv .venv-protos
	.venv-protos/bin/pip install --quiet --disable-pip-version-check grpcio-tools==1.71.2 mypy-protobuf==3.7.0 'setuptools<81'
	.venv-protos/bin/python scripts/gen_protos.py

clean: ## remove .venv, caches and what the example made
	rm -rf $(VENV) .venv-protos .cache .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis dist build
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
