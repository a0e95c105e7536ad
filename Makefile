# Two commands do everything: `make demo` and `make test`. The others are listed by `make help`.

PYTHON ?= python3
VENV := .venv
AUDIT := .venv-audit
BIN := $(VENV)/bin
READY := $(VENV)/.ready
ARGS ?=

.DEFAULT_GOAL := help

help: ## List the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | sort | awk -F'\t' '{printf "  make %-14s %s\n", $$1, $$2}'

$(READY): requirements-dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed; give it with PYTHON=...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

setup: $(READY) ## Install everything into .venv, by hash

demo: $(READY) ## Start everything and run mints and redeems; ARGS='--requests 200' ends by itself
	$(BIN)/orchestrator demo $(ARGS)

test: $(READY) ## Check style and types, then run all tests on the embedded stack
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest $(ARGS)

SEEDS ?= 1000
START ?= 0
JOBS ?= 2
REPORT ?= simulation.json

simulate: $(READY) ## Whole clusters from seeds, with faults and kills; SEEDS=100000 START=0 JOBS=2, STORY=17 tells one
	$(BIN)/python -m tests.simulation $(if $(STORY),--story $(STORY),--seeds $(SEEDS) --start $(START) --jobs $(JOBS) --report $(REPORT))

bench: $(READY) ## Measure against the ceiling, into docs/benchmarks; ARGS='--only a,c --quick'
	$(BIN)/python -m orchestrator.dev.bench $(ARGS)

bench-api: $(READY) ## Pages over a million requests: p50, p95, p99 and plans, into docs/benchmarks
	$(BIN)/python -m tests.projections.bench_pages $(ARGS)

bench-compare: $(READY) ## What the last benchmark found better or worse than the one before
	$(BIN)/python -m orchestrator.dev.bench --compare

screenshots: $(READY) ## Run the demo and take docs/images anew from its page; needs chromium
	$(BIN)/python -m tests.page.screenshots

vectors: $(READY) ## Make the EIP-712 vectors anew with an independent library and compare
	$(BIN)/python -m tests.vectors.make --check

format: $(READY) ## Format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

stack: $(READY) ## Only the embedded stack; prints the environment for a service of your own
	$(BIN)/python -m orchestrator.dev.stack --data-dir .stack --print-env

contracts: $(READY) ## Compile the contract anew and compare with the committed artifact
	$(BIN)/python -m orchestrator.dev.compile_contract --check

lock: $(READY) ## Resolve the dependencies anew and pin them by hash

	$(BIN)/uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes --no-header --quiet -o requirements.txt
	$(BIN)/uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes --no-header --quiet --extra dev -c requirements.txt -o requirements-dev.txt
	printf 'cyclonedx-bom\npip-audit\n' | $(BIN)/uv pip compile - --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --quiet -o requirements-audit.txt

$(AUDIT)/.ready: requirements-audit.txt $(READY)
	$(PYTHON) -m venv $(AUDIT)
	$(AUDIT)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-audit.txt
	@touch $@

audit-dependencies: $(AUDIT)/.ready ## Ask the package index for known vulnerabilities of what the service is locked to
	$(AUDIT)/bin/pip-audit --strict --require-hashes --disable-pip -r requirements.txt

sbom: $(AUDIT)/.ready ## Write sbom.json: every locked dependency of the service with its hashes (CycloneDX)
	$(AUDIT)/bin/cyclonedx-py requirements requirements.txt --pyproject pyproject.toml --output-reproducible --of JSON -o sbom.json

clean: ## Remove the virtual environment and caches of tools
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis

.PHONY: help setup demo test simulate screenshots bench bench-api bench-compare vectors format stack contracts lock audit-dependencies sbom clean
