# The commands of a developer. Each target first makes what it needs, if it is not there yet.

.DEFAULT_GOAL := help
BIN := .venv/bin
BASELINE := f7e32f1
HAS_BASELINE := $(shell git cat-file -e $(BASELINE) 2>/dev/null && echo yes)

# The first Python 3.11 or newer that is found; `make PYTHON=...` names another.
PYTHON ?= $(shell for python in python3 python python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)

# The reference runs on Python 3.13 or newer; `make PEER_PYTHON=...` names one.
PEER_PYTHON ?= $(shell for python in python3.13 python3.14 python3 "$$HOME"/.pyenv/versions/3.13*/bin/python; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 13))' 2>/dev/null && echo $$python && break; done)

# The number of processes that run the tests with coverage, and of those that run the tests without it. They
# mostly wait, so four keep two processors busy.
PROCESSES ?= 2
SHARED = --dist=worksteal --numprocesses

# Keep compiled Python files, whatever the caller's setting: the tests start hundreds of programs.
unexport PYTHONDONTWRITEBYTECODE

# The oldest supported PostgreSQL, if this machine has it.
OLD_POSTGRES ?= $(wildcard /usr/lib/postgresql/15/bin)

PGBOUNCER ?= $(shell PATH="$$PATH:/usr/sbin" command -v pgbouncer)

.PHONY: help demo check test test-all test-untraced test-traced test-fast test-journeys run-journeys test-mcp \
	test-postgres test-pooler test-pythons clusters conformance container engines soak rolling crash failover bench \
	bench-peers docs dist sbom constraints upgrade clean

help: ## show this list
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' Makefile | expand -t 22

demo: .venv/runtime ## start a kernel and a worker, and let them answer a turn
	@$(BIN)/cg demo

check: .venv/development ## check format, lint, import contracts, types and spelling, without tests
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/lint-imports --no-logo --cache-dir .venv/import-linter
	$(BIN)/mypy
	$(BIN)/codespell README.md CHANGELOG.md CONTRIBUTING.md SECURITY.md docs examples src

test: .venv/development ## run the gate: `make check`, and the tests with coverage, but for the long journeys
	@$(MAKE) --no-print-directory --jobs=3 check test-all
	@$(BIN)/python -c 'from tests.marks import JOURNEYS; print("Left to `make test-journeys`:", len(JOURNEYS), \
		"files of tests, and MCP, PostgreSQL 15, PgBouncer and newer Pythons.")'

# Tests without coverage beside those with it, and last, one by one, those that a neighbour would disturb.
test-all: test-untraced test-traced
	$(BIN)/pytest -m serial --cov --cov-append --cov-fail-under=0 --hypothesis-profile=gate

test-untraced: .venv/development
	$(BIN)/pytest -m "untraced and not serial and not journey" --hypothesis-profile=gate $(SHARED)=$(PROCESSES)

test-traced: .venv/development
	$(BIN)/pytest -m "not untraced and not serial and not journey" --cov --cov-fail-under=0 --cov-report= \
		--hypothesis-profile=gate $(SHARED)=$(PROCESSES)

test-journeys: .venv/development ## run what `make test` leaves out: browsers, shells, kills, MCP, PostgreSQL 15, PgBouncer
	@$(MAKE) --no-print-directory --jobs=3 run-journeys test-mcp test-postgres test-pooler test-pythons

# The floor of coverage is that of `make test` and these together.
run-journeys: .venv/development
	@test -f .coverage || { echo "Run make test first: the coverage of both counts" >&2; exit 1; }
	$(BIN)/pytest -m "journey and untraced" --hypothesis-profile=gate $(SHARED)=$(PROCESSES)
	$(BIN)/pytest -m "journey and not untraced" --cov --cov-append --hypothesis-profile=gate $(SHARED)=$(PROCESSES)

# The tests whose result may depend on the version of PostgreSQL.
test-postgres: .venv/development
	$(if $(OLD_POSTGRES),CG_TEST_PG_BIN=$(OLD_POSTGRES) $(BIN)/pytest -q --hypothesis-profile=gate \
		$(foreach file,claims hand_over long_poll many migrate states write_cost,tests/kernel/test_$(file).py),\
		@echo "PostgreSQL 15 is not installed: it is NOT tested here")

# A few tests of the kernel behind a pooler; `make engines` runs all.
test-pooler: .venv/development
	$(if $(PGBOUNCER),CG_TEST_PGBOUNCER=transaction $(BIN)/pytest -q --hypothesis-profile=gate \
		$(foreach file,claims hand_over messages,tests/kernel/test_$(file).py),\
		@echo "pgbouncer is not installed: the kernel is NOT tested behind a pooler here")

engines: .venv/development ## run the kernel's tests behind PgBouncer, in session and in transaction mode
	@test -n "$(PGBOUNCER)" || { echo "pgbouncer is not installed: apt-get install pgbouncer" >&2; exit 1; }
	CG_TEST_PGBOUNCER=session $(BIN)/pytest -q --hypothesis-profile=gate $(SHARED)=2 tests/kernel
	CG_TEST_PGBOUNCER=transaction $(BIN)/pytest -q --hypothesis-profile=gate $(SHARED)=2 tests/kernel

# MCP has an environment of its own, because nanobot-ai needs mcp below 2. Types are checked with mcp's own.
test-mcp: .venv-mcp/development ## test the MCP server with the clients of mcp and fastmcp, in an environment of its own
	sed '/^follow_imports = "skip"/d; /^exclude = "^tests/d; s|^omit = .*|include = ["*/adapters/mcp_*.py"]|' \
		pyproject.toml >.venv-mcp/pyproject.toml
	.venv-mcp/bin/mypy --config-file .venv-mcp/pyproject.toml --cache-dir .venv-mcp/mypy \
		$(wildcard src/cgworker/adapters/mcp_*.py) tests/adapters/mcp_clients
	COVERAGE_FILE=$(CURDIR)/.venv-mcp/coverage .venv-mcp/bin/pytest --cov --cov-config=.venv-mcp/pyproject.toml \
		--hypothesis-profile=gate tests/adapters/mcp_clients tests/test_examples.py -k "mcp"

test-pythons:
	@sh tests/pythons.sh

test-fast: .venv/development ## run the tests that start no process and are not slow
	$(BIN)/pytest -m "not slow and not serial" $(SHARED)=2

conformance: .venv/development ## test against recordings of the reference and against its own software
	@test -n "$(PEER_PYTHON)" || { echo "The reference needs Python 3.13 or newer and there is none on the" \
		"PATH. Name one: make conformance PEER_PYTHON=/path/to/python3.13" >&2; exit 1; }
	peer=$$(mktemp -d) && trap 'rm -rf "$$peer"' EXIT \
		&& $(PEER_PYTHON) -m venv "$$peer" \
		&& "$$peer/bin/python" -m pip install --quiet 'commonground-kernel[server]==3.1.0' \
		&& CG_REFERENCE_PYTHON="$$peer/bin/python" $(BIN)/pytest tests/conformance

container: .venv/development ## build the container of examples/deploy and run its worker as PID 1 (root on Linux)
	@command -v buildah >/dev/null && command -v debootstrap >/dev/null || \
		{ echo "There is no builder: apt-get install buildah debootstrap" >&2; exit 1; }
	test -f .peers/container/options || sh tests/deploy/base_image.sh .peers/container
	$(BIN)/pytest tests/deploy/test_container.py

clusters: .venv-clusters/development ## test the handlers that run functions on Ray and Dask, in an environment of its own
	.venv-clusters/bin/pytest tests/clusters tests/test_examples.py -k "clusters or ray"

soak: .venv/development ## kill workers, kernels and databases for two minutes (Linux); SOAK="--seed 7" repeats a run
	$(BIN)/python -m tests.soak $(SOAK)

rolling: .venv/development $(if $(HAS_BASELINE),.peers/baseline) ## upgrade 0.1 one by one while turns run (Linux); ROLLING=--kill kills the old
	$(if $(HAS_BASELINE),$(BIN)/python -m tests.rolling .peers/baseline/bin/python .peers/baseline-source $(ROLLING),\
		@echo "This clone has no commit $(BASELINE) (git fetch --unshallow): the upgrade from 0.1 is NOT tested here")

crash: .venv/development ## kill a worker at each step after its handler's return, 20 minutes; CRASH="--each 10" is shorter
	$(BIN)/python -m tests.crash $(CRASH)

failover: .venv/development ## kill, stall and cut off a primary under load, an hour; FAILOVER="--seeds 1" is shorter
	$(BIN)/python -m tests.failover $(or $(FAILOVER),--seeds 20)

bench: .venv/development ## run all benchmarks beside their peers, and write docs/benchmarks.md (Linux, 30 minutes)
	$(BIN)/python -m benchmarks $(ROWS)

bench-peers: ## install the programs that the benchmarks compare with, below .peers/
	@test -n "$(PEER_PYTHON)" || { echo "The reference needs Python 3.13 or newer and there is none on the" \
		"PATH. Name one: make bench-peers PEER_PYTHON=/path/to/python3.13" >&2; exit 1; }
	$(PEER_PYTHON) -m venv .peers/reference
	.peers/reference/bin/python -m pip install --quiet 'commonground-kernel[server]==3.1.0'
	$(PEER_PYTHON) -m venv .peers/queues
	.peers/queues/bin/python -m pip install --quiet 'pgqueuer[asyncpg,web]>=1.6' 'procrastinate>=3.10' uvloop \
		'absurd-sdk>=0.5.1' 'absurdctl>=0.5.1' 'dbos>=3.4'
	$(PEER_PYTHON) -m venv .peers/harnesses
	.peers/harnesses/bin/python -m pip install --quiet 'dbos-openai-agents>=0.3.0' 'dbos>=3.4' uvloop
	@$(MAKE) --no-print-directory .peers/baseline

# The version of 1 of 7, 0.1.
.peers/baseline: | .venv/runtime
	rm -rf .peers/baseline-source && mkdir -p .peers/baseline-source
	git archive $(BASELINE) | tar -x -C .peers/baseline-source
	$(or $(PEER_PYTHON),$(BIN)/python) -m venv .peers/baseline
	.peers/baseline/bin/python -m pip install --quiet '.peers/baseline-source[kernel]'

docs: .venv/development ## fill in the generated parts of the pages, and build the site in site/
	$(BIN)/python docs/generate.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

dist: .venv/development ## build a release, check it, and run the demo from it
	rm -rf dist
	$(BIN)/python -m build --no-isolation
	$(BIN)/twine check --strict dist/*
	fresh=$$(mktemp -d) && trap 'rm -rf "$$fresh"' EXIT \
		&& $(BIN)/python -m venv "$$fresh/env" \
		&& "$$fresh/env/bin/python" -m pip install --quiet --constraint constraints.txt \
			"cgworker[kernel] @ file://$$(echo "$(CURDIR)"/dist/*.whl)" \
		&& cd "$$fresh" && env/bin/cg --version && env/bin/cg demo

sbom: .venv/sbom/development ## write dist/cgworker.cdx.json: all that `pip install 'cgworker[kernel]'` installs (CycloneDX)
	mkdir -p dist
	fresh=$$(mktemp -d) && trap 'rm -rf "$$fresh"' EXIT \
		&& $(BIN)/python -m venv --without-pip "$$fresh" \
		&& $(BIN)/python -m pip --python "$$fresh/bin/python" install --quiet --constraint constraints.txt '.[kernel]' \
		&& $(BIN)/python -m pip --python "$$fresh/bin/python" uninstall --quiet --yes cgworker \
		&& .venv/sbom/bin/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible \
			--output-file dist/cgworker.cdx.json "$$fresh/bin/python"

constraints: .venv/development .venv-mcp/development .venv-clusters/development .venv/sbom/development ## write the versions of the environments to constraints*.txt
	@sed -n '/^#/p' constraints.txt >.venv/constraints
	@$(BIN)/python -m pip list --format=freeze --exclude-editable --exclude pip --exclude setuptools >>.venv/constraints
	@mv .venv/constraints constraints.txt
	@for own in mcp clusters; do \
		sed -n '/^#/p' constraints-$$own.txt >.venv-$$own/constraints; \
		.venv-$$own/bin/python -m pip list --format=freeze --exclude-editable --exclude pip --exclude setuptools \
			| grep -Fxvf constraints.txt >>.venv-$$own/constraints; \
		mv .venv-$$own/constraints constraints-$$own.txt; \
	done
	@sed -n '/^#/p' constraints-sbom.txt >.venv/sbom/constraints
	@$(BIN)/python -m pip --python .venv/sbom/bin/python list --format=freeze \
		| grep -Fxvf constraints.txt >>.venv/sbom/constraints
	@mv .venv/sbom/constraints constraints-sbom.txt
	@touch .venv/runtime .venv/development .venv-mcp/development .venv-clusters/development .venv/sbom/development

upgrade: .venv/development ## upgrade all packages in .venv; then run `make test` and `make constraints`
	$(BIN)/python -m pip install --quiet --upgrade --upgrade-strategy eager --editable '.[all]' --group dev

clean: ## remove the environment and everything built
	rm -rf .venv .venv-clusters .venv-mcp .peers build dist site .coverage* .mypy_cache .ruff_cache .pytest_cache .hypothesis

# Two stamps: the environment has what pyproject.toml asks for, in the versions of constraints.txt, so that a new
# release of a dependency does not turn the gate red. The first is what the demo needs, the second is everything.
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

# What only this environment has, or has in another version, is pinned in constraints-mcp.txt.
.venv-mcp/development: .venv/runtime constraints-mcp.txt
	test -x .venv-mcp/bin/python || $(BIN)/python -m venv .venv-mcp
	sed '/^mcp==/d' constraints.txt >.venv-mcp/constraints
	.venv-mcp/bin/python -m pip install --quiet --upgrade 'pip>=25.1'
	.venv-mcp/bin/python -m pip install --quiet --constraint .venv-mcp/constraints --constraint constraints-mcp.txt \
		--editable '.[kernel,mcp]' --group mcp
	@touch $@

# What only this environment has is pinned in constraints-sbom.txt.
.venv/sbom/development: .venv/runtime constraints-sbom.txt
	$(BIN)/python -m venv --without-pip .venv/sbom
	$(BIN)/python -m pip --python .venv/sbom/bin/python install --quiet \
		--constraint constraints.txt --constraint constraints-sbom.txt --group sbom

.venv-clusters/development: .venv/runtime constraints-clusters.txt
	test -x .venv-clusters/bin/python || $(BIN)/python -m venv .venv-clusters
	.venv-clusters/bin/python -m pip install --quiet --upgrade 'pip>=25.1'
	.venv-clusters/bin/python -m pip install --quiet --constraint constraints.txt \
		--constraint constraints-clusters.txt --editable '.[kernel,ray,dask]' --group tests
	@touch $@
