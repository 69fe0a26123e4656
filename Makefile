# Two commands do everything on a fresh machine with Python 3.11+ and make: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
PYTEST_ARGS ?=
TEST_JOBS ?= auto
E2E_ARGS ?=

.PHONY: demo test check lint format types contracts e2e e2e-full e2e-oldest agree image bench fuzz proto lock clean help

help:            ## what can be made
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## */\t/'

$(VENV)/python.stamp:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Bastide needs Python 3.11 or newer; run: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)
	@touch $@

# The command itself: what a node of the lab needs at run time, nothing for development.
$(VENV)/run.stamp: $(VENV)/python.stamp requirements/node.txt requirements/build.txt pyproject.toml
	$(PIP) install -q --require-hashes -r requirements/node.txt
	$(PIP) install -q --require-hashes -r requirements/build.txt
	$(PIP) install -q --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/dev.stamp: $(VENV)/run.stamp requirements/dev.txt
	$(PIP) install -q --require-hashes -r requirements/dev.txt
	@touch $@

demo: $(VENV)/run.stamp          ## set up, then run the main job end to end in the lab (SIMULATION)
	$(BIN)/bastide lab run examples/sgx-test.yaml

test: $(VENV)/dev.stamp          ## set up, then run all tests, one process for each core (TEST_JOBS=0: none but this)
	$(BIN)/python -m pytest -n $(TEST_JOBS) --maxprocesses 8 --dist worksteal $(PYTEST_ARGS)

check: lint types contracts      ## style, types, architecture; runs no test

lint: $(VENV)/dev.stamp          ## ruff
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(VENV)/dev.stamp        ## mend what ruff can mend
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(VENV)/dev.stamp         ## mypy --strict
	$(BIN)/mypy

contracts: $(VENV)/dev.stamp     ## import-linter: the floors of the house
	$(BIN)/lint-imports

e2e: $(VENV)/dev.stamp           ## real Kubernetes parts in a box of their own (root, Go, Debian packages)
	tests/e2e/run.sh $(E2E_ARGS)

e2e-full: $(VENV)/dev.stamp      ## the same with every loop that CI keeps short at its full length
	BASTIDE_E2E_FULL=1 BASTIDE_AGREE=1000 tests/e2e/run.sh

e2e-oldest: $(VENV)/dev.stamp    ## the node's side of it with the oldest kubelet that we promise (1.34)
	tests/e2e/run.sh --oldest -k "not chart and not agreement"

agree: $(VENV)/dev.stamp         ## placement beside the real kube-scheduler on 1,000 random clusters
	BASTIDE_AGREE=1000 tests/e2e/run.sh -k agreement

image: $(VENV)/dev.stamp         ## container image, OCI archive and SBOM into dist/images (root, Debian 12)
	$(BIN)/python deploy/images/build.py --output dist/images

bench: $(VENV)/dev.stamp         ## measure; JSON to bench/results/local
	$(BIN)/python -m bench

FUZZ_SECONDS ?= 300
fuzz: $(VENV)/dev.stamp          ## every fuzz target for FUZZ_SECONDS (default 300) each
	$(PIP) install -q --require-hashes -r requirements/fuzz.txt
	$(BIN)/python fuzz/make_corpora.py fuzz/corpora
	@for target in fuzz/fuzz_*.py; do echo "== $$target"; \
	  mkdir -p fuzz/corpora/$$(basename $$target .py); \
	  $(BIN)/python $$target -max_total_time=$(FUZZ_SECONDS) -print_final_stats=1 fuzz/corpora/$$(basename $$target .py) || exit 1; done

proto: $(VENV)/dev.stamp         ## regenerate src/bastide/_proto from proto/
	$(BIN)/python tools/gen_proto.py

lock:                            ## re-pin requirements/*.txt (needs uv)
	sh tools/lock.sh

clean:                           ## remove the virtual environment and caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .hypothesis .import_linter_cache build dist
