# Everything a newcomer types. Each target makes what it needs first; nothing is done twice.

.DEFAULT_GOAL := help
BIN := .venv/bin
BASELINE := f7e32f1

# The first Python of 3.11 or newer that can be found; `make PYTHON=...` names another.
PYTHON ?= $(shell for python in python3 python python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)

# The reference runs on Python 3.13 or newer; `make PEER_PYTHON=...` names one.
PEER_PYTHON ?= $(shell for python in python3.13 python3.14 python3 "$$HOME"/.pyenv/versions/3.13*/bin/python; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 13))' 2>/dev/null && echo $$python && break; done)

# How many processes run the tests: they wait more than they work, so two for each processor.
PROCESSES ?= 4
SHARED = -p xdist --dist=worksteal --numprocesses

# What Python compiles is kept, whatever the caller says: the tests start hundreds of programs.
unexport PYTHONDONTWRITEBYTECODE

# The oldest PostgreSQL that is promised, where this machine has it.
OLD_POSTGRES ?= $(wildcard /usr/lib/postgresql/15/bin)

.PHONY: help demo check test test-all test-fast test-postgres test-pythons conformance soak bench bench-peers \
	docs dist sbom constraints upgrade clean

help: ## show this list
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' Makefile | expand -t 20

demo: .venv/runtime ## the whole path, from nothing to an answered turn
	@$(BIN)/cg demo

check: .venv/development ## what needs no run: format, lint, floors and types
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/lint-imports --no-logo --cache-dir .venv/import-linter
	$(BIN)/mypy

test: .venv/development ## all that the gate runs: `make check`, and beside it every test with coverage
	@$(MAKE) --no-print-directory --jobs=2 check test-all test-postgres test-pythons

test-all: .venv/development
	$(BIN)/pytest -m "not serial" --cov --cov-fail-under=0 --cov-report= --hypothesis-profile=gate $(SHARED)=$(PROCESSES)
	$(BIN)/pytest -m serial --cov --cov-append --hypothesis-profile=gate

# Claims, states, waiting and the schema are what a PostgreSQL may see otherwise.
test-postgres: .venv/development
	$(if $(OLD_POSTGRES),CG_TEST_PG_BIN=$(OLD_POSTGRES) $(BIN)/pytest -q --hypothesis-profile=gate \
		$(foreach file,claims hand_over long_poll many migrate states,tests/kernel/test_$(file).py),\
		@echo "PostgreSQL 15 is not installed: it is NOT tested here")

test-pythons:
	@sh tests/pythons.sh

test-fast: .venv/development ## the tests that start no process and tell no long story, for the loop at the desk
	$(BIN)/pytest -m "not slow and not serial" $(SHARED)=2

conformance: .venv/development ## replay the recordings, and let the reference's own software be the peer
	@test -n "$(PEER_PYTHON)" || { echo "The reference needs Python 3.13 or newer and there is none on the" \
		"PATH. Name one: make conformance PEER_PYTHON=/path/to/python3.13" >&2; exit 1; }
	peer=$$(mktemp -d) && trap 'rm -rf "$$peer"' EXIT \
		&& $(PEER_PYTHON) -m venv "$$peer" \
		&& "$$peer/bin/python" -m pip install --quiet 'commonground-kernel[server]==3.1.0' \
		&& CG_REFERENCE_PYTHON="$$peer/bin/python" $(BIN)/pytest tests/conformance

soak: .venv/development ## two minutes of killed workers, kernels and databases (Linux); SOAK="--seed 7" repeats one
	$(BIN)/python -m tests.soak $(SOAK)

bench: .venv/development ## measure every row beside its peer, and write docs/benchmarks.md (Linux, under 30 minutes)
	$(BIN)/python -m benchmarks $(ROWS)

bench-peers: ## install what the benchmarks compare with, each in an environment of its own below .peers/
	@test -n "$(PEER_PYTHON)" || { echo "The reference needs Python 3.13 or newer and there is none on the" \
		"PATH. Name one: make bench-peers PEER_PYTHON=/path/to/python3.13" >&2; exit 1; }
	$(PEER_PYTHON) -m venv .peers/reference
	.peers/reference/bin/python -m pip install --quiet 'commonground-kernel[server]==3.1.0'
	$(PEER_PYTHON) -m venv .peers/queues
	.peers/queues/bin/python -m pip install --quiet 'pgqueuer[asyncpg]>=1.6' 'procrastinate>=3.10' uvloop
	rm -rf .peers/baseline-source && mkdir -p .peers/baseline-source
	git archive $(BASELINE) | tar -x -C .peers/baseline-source
	$(PEER_PYTHON) -m venv .peers/baseline
	.peers/baseline/bin/python -m pip install --quiet '.peers/baseline-source[kernel]'

docs: .venv/development ## fill in what the pages say about the code, and build them in site/
	$(BIN)/python docs/generate.py
	$(BIN)/mkdocs build --quiet --strict

dist: .venv/development ## build what a release consists of, check it, and run the demo from it
	rm -rf dist
	$(BIN)/python -m build --no-isolation
	$(BIN)/twine check --strict dist/*
	fresh=$$(mktemp -d) && trap 'rm -rf "$$fresh"' EXIT \
		&& $(BIN)/python -m venv "$$fresh/env" \
		&& "$$fresh/env/bin/python" -m pip install --quiet --constraint constraints.txt \
			"cgworker[kernel] @ file://$$(echo "$(CURDIR)"/dist/*.whl)" \
		&& cd "$$fresh" && env/bin/cg --version && env/bin/cg demo

sbom: .venv/development ## write dist/cgworker.cdx.json: what `pip install 'cgworker[kernel]'` brings (CycloneDX)
	mkdir -p dist
	fresh=$$(mktemp -d) && trap 'rm -rf "$$fresh"' EXIT \
		&& $(BIN)/python -m venv --without-pip "$$fresh" \
		&& $(BIN)/python -m pip --python "$$fresh/bin/python" install --quiet --constraint constraints.txt '.[kernel]' \
		&& $(BIN)/python -m pip --python "$$fresh/bin/python" uninstall --quiet --yes cgworker \
		&& $(BIN)/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible \
			--output-file dist/cgworker.cdx.json "$$fresh/bin/python"

constraints: .venv/development ## write what this environment holds into constraints.txt, for every other one
	@sed -n '/^#/p' constraints.txt >.venv/constraints
	@$(BIN)/python -m pip list --format=freeze --exclude-editable --exclude pip --exclude setuptools >>.venv/constraints
	@mv .venv/constraints constraints.txt && touch .venv/runtime .venv/development

upgrade: .venv/development ## take the newest of everything into .venv; then `make test`, then `make constraints`
	$(BIN)/python -m pip install --quiet --upgrade --upgrade-strategy eager --editable '.[all]' --group dev

clean: ## remove the environment and everything built
	rm -rf .venv .peers build dist site .coverage* .mypy_cache .ruff_cache .pytest_cache .hypothesis

# The two stamps say that the environment holds what pyproject.toml asks for, in the versions of constraints.txt,
# so that no release of somebody else's turns the gate red: what the demo needs, or everything.
.venv/runtime: pyproject.toml constraints.txt
	@test -x $(BIN)/python || test -n "$(PYTHON)" || { echo "cgworker needs Python 3.11 or newer and found" \
		"none on the PATH. Install one, or name it: make PYTHON=/path/to/python" >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[kernel]'
	@touch $@

.venv/development: .venv/runtime
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[all]' --group dev
	@touch $@
