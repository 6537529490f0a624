# The commands of the README. `make demo` and `make test` do all of their own set-up.
SHELL := /bin/bash
# Found before the virtual environment comes first in PATH.
PYTHON := $(or $(PYTHON),$(shell command -v python3))
VENV ?= .venv
BIN := $(VENV)/bin
export PATH := $(abspath $(BIN)):$(PATH)
export PERDURE_CACHE ?= $(HOME)/.cache/perdure

.DEFAULT_GOAL := help
.PHONY: help demo test pure unit lint e2e kind-e2e chart examples lock image bench fuzz faults soak clean

help:  ## list the targets
	@awk -F':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

NATIVE := $(wildcard operator/perdure/component/native/*)

$(VENV)/.installed: pyproject.toml setup.py requirements-dev.lock $(NATIVE)
	@echo "== setting up $(VENV)"
	@$(PYTHON) -m venv $(VENV) || { echo "install python3-venv (Debian: apt-get install python3-venv)"; exit 1; }
	@$(BIN)/python -m pip install --quiet --require-hashes -r requirements-dev.lock
	@.ci/install-compiler $(BIN)/python
	@$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	@touch $@

demo: $(VENV)/.installed  ## run the example: set, kill -9, get (embedded SQLite; no cluster, no Redis)
	@PATH="$(abspath $(BIN)):$$PATH" scripts/demo

# As many as there are processors, up to four: servers are started for each.
TEST_JOBS ?= auto
JOBS = --numprocesses $(TEST_JOBS) --maxprocesses 4 --dist loadfile

test: $(VENV)/.installed  ## every test that needs no cluster; brings the servers it needs
	@VENV=$(VENV) .ci/install-test-tools
	@$(MAKE) --no-print-directory lint
	@echo "== building the tests' guests" && .ci/build-guests >/dev/null \
	  && for name in counter cart inventory; do VENV=$(VENV) .ci/build-example $$name >/dev/null || exit 1; done
	@$(BIN)/python -m pytest tests --ignore=tests/e2e $(JOBS)
	@$(MAKE) --no-print-directory pure

# What depends on how guest and host meet; the rest of the tests knows nothing of it.
PURE := composition endings interleaving native python_guest resources runtime safety trampolines values waiting
pure: $(VENV)/.installed  ## the component runtime's tests without the extension
	@PERDURE_PURE=1 $(BIN)/python -m pytest -q $(JOBS) $(PURE:%=tests/component/test_%.py)

unit: $(VENV)/.installed  ## the tests that take seconds
	@$(BIN)/python -m pytest -q tests/unit

lint: $(VENV)/.installed  ## ruff, mypy --strict (also of benchmarks and tests), import contracts, the extension's warnings
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache
	@$${CC:-cc} -fsyntax-only -std=c11 -Wall -Wextra -Wpedantic -Wshadow -Werror $(filter %.c,$(NATIVE)) \
	  -isystem "$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("include"))')"

e2e: $(VENV)/.installed  ## the product on a real cluster ($$KUBECONFIG, or one of its own)
	@VENV=$(VENV) scripts/e2e

chart:  ## bring the chart's copies of crds/ and of the example up to date
	@mkdir -p charts/perdure/files/crds
	@cp crds/*.yaml charts/perdure/files/crds/
	@cp examples/key-value/key-value.wasm charts/perdure/files/

kind-e2e: $(VENV)/.installed  ## the same on kind (needs Docker)
	@VENV=$(VENV) scripts/kind-e2e

examples: $(VENV)/.installed  ## build the example components (cargo, componentize-py, npm, Go)
	@$(MAKE) --no-print-directory -C examples all VENV=$(abspath $(VENV))

image:  ## build the image (docker or buildah)
	@if command -v docker >/dev/null && docker info >/dev/null 2>&1; then docker build -t perdure:dev .; \
	 else STORAGE_DRIVER=vfs BUILDAH_ISOLATION=chroot buildah bud -t perdure:dev .; fi

bench: $(VENV)/.installed  ## ratios, side by side in one run
	@VENV=$(VENV) .ci/install-test-tools
	@for bench in benchmarks/*.py; do echo "== $$bench"; $(BIN)/python $$bench || exit 1; done

FUZZ_SEED ?= 1
FUZZ_JOBS ?= 1
FUZZ_MINUTES ?= 60
FUZZ_DECODER ?= 1000000
FUZZ_HOSTILE ?= 50000
FUZZ_DIFFERENTIAL ?= 2000
FUZZ_OPTIONS ?=
fuzz: $(VENV)/.installed  ## fuzz the component runtime, all three fuzzers (docs/fuzzing.md; $$FUZZ_MINUTES each at most)
	@cd tests && code=0; \
	for run in "decoder $(FUZZ_DECODER)" "hostile $(FUZZ_HOSTILE)" "differential $(FUZZ_DIFFERENTIAL)"; do \
	  set -- $$run; nice $(abspath $(BIN))/python -m fuzz.$$1 --cases $$2 --seed $(FUZZ_SEED) --jobs $(FUZZ_JOBS) \
	    --minutes $(FUZZ_MINUTES) --out ../fuzz-findings $(FUZZ_OPTIONS) || code=1; done; exit $$code

FAULTS_JOBS ?= 2
faults: $(VENV)/.installed  ## stop real hosts, stores and connections at every boundary (docs/faults.md; ten hours)
	@VENV=$(VENV) .ci/install-test-tools
	@PERDURE_GUESTS=$$(.ci/build-guests) nice $(BIN)/python tests/faults/all.py --jobs $(FAULTS_JOBS) --report docs/faults.md
	@$(BIN)/python -m pytest -q tests/faults

SOAK_EFFECTS ?= 1000000
SOAK_KILLS ?= 1000
SOAK_SEED ?= 1
soak: $(VENV)/.installed  ## random programs under kills ($$SOAK_EFFECTS, $$SOAK_KILLS, $$SOAK_SEED; half an hour)
	@VENV=$(VENV) .ci/install-test-tools
	@PERDURE_GUESTS=$$(.ci/build-guests) nice $(BIN)/python tests/faults/soak.py --effects $(SOAK_EFFECTS) \
	  --kills $(SOAK_KILLS) --seed $(SOAK_SEED)

lock: $(VENV)/.installed  ## pin every dependency, with hashes
	@$(BIN)/python -m pip install --quiet uv
	@$(BIN)/uv pip compile -q --extra all --group lint pyproject.toml --generate-hashes --no-emit-index-url \
	  --no-annotate --python-version 3.11 --universal --custom-compile-command "make lock" -o requirements-dev.lock
	@$(BIN)/uv pip compile -q --extra all pyproject.toml --generate-hashes --no-emit-index-url --no-annotate \
	  --python-version 3.11 --universal --custom-compile-command "make lock" -c requirements-dev.lock -o requirements.lock

clean:  ## remove what the targets made in the checkout
	@rm -rf $(VENV) .perdure .mypy_cache .ruff_cache .pytest_cache build dist $(filter-out %/key-value.wasm,$(wildcard examples/*/*.wasm)) \
	  operator/perdure.egg-info operator/perdure/component/*.so
