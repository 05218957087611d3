# Two commands do everything: `make demo` and `make test`. Each makes the environment it needs in .venv.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

# Arguments of the cache-analysis targets, for example: make cache-analysis n=10 days=7 format=json
n ?=
days ?=
format ?=
min_requests ?=
min_latency ?=
# Of `make fuzz`.
seconds ?= 60

.PHONY: help demo demo-once test fuzz faults bench-replay bench-advice bench-sizing lint audit format docs dashboards previews lock clean cache-analysis cache-analysis-relative
.DEFAULT_GOAL := help

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-26s %s\n", $$1, $$2}'

$(READY): pyproject.toml requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or newer is needed; name one with make PYTHON=/path/to/python3" >&2; exit 1; }
	@echo "Setting up $(VENV) (once, about half a minute)" >&2
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --requirement requirements.lock
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps --editable .
	@touch $@

demo: $(READY) ## Run everything on embedded servers: traffic, worker, rankings; stays up to look around
	@$(BIN)/otel-analytics demo

demo-once: $(READY) ## The same, and exit after the rankings
	@$(BIN)/otel-analytics demo --once

test: $(READY) ## Run all tests, fast ones first
	@$(BIN)/python -m pytest tests/unit -n 2 -q
	@$(BIN)/python -m pytest tests/contract tests/integration tests/acceptance tests/security \
		tests/bad_input tests/faults -n 2 --dist loadgroup

faults: $(READY) ## Kill, stop, fill and cut off everything, for long, and print what came of it
	@$(BIN)/python -m pytest tests/faults --long --timeout 1200 -q

fuzz: $(READY) ## Let a fuzzer look for input that breaks something, for a while: seconds=60 for each door
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check atheris
	@mkdir -p .cache/fuzz
	@for door in codec entry params span; do \
		echo "== $$door" && $(BIN)/python tests/bad_input/fuzz.py $$door -max_total_time=$(seconds) -timeout=5 \
			-rss_limit_mb=2048 -verbosity=0 -print_final_stats=1 -artifact_prefix=.cache/fuzz/ || exit 1; \
	done

bench: $(READY) ## Measure everything against peers and floors, in under ten minutes
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --requirement bench/requirements.txt
	@$(BIN)/python bench/run.py

bench-replay: $(READY) ## Measure the replay with 1 and 10 million requests
	@$(BIN)/python bench/replay.py

bench-advice: $(READY) ## Measure how much of what a cache can save each ranking finds
	@$(BIN)/python bench/advice.py

bench-sizing: $(READY) ## Measure what an event takes in Redis and PostgreSQL, and how many a worker stores
	@$(BIN)/python bench/sizing.py

lint: $(READY) ## Check style, types and the direction of imports
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

audit: ## Ask whether a package of the lock has a known vulnerability; says so where nobody can be asked
	@scripts/audit

format: $(READY) ## Put the code into the one style
	@$(BIN)/ruff check --fix-only .
	@$(BIN)/ruff format .

cache-analysis: $(READY) ## Rank cache candidates: n= days= format= min_requests= min_latency=
	@$(BIN)/otel-analytics rank $(if $(n),-n '$(n)') $(if $(days),--days '$(days)') $(if $(format),--format '$(format)') \
		$(if $(min_requests),--min-requests '$(min_requests)') $(if $(min_latency),--min-latency '$(min_latency)')

cache-analysis-relative: $(READY) ## Rank every route against the others: n= days= format=
	@$(BIN)/otel-analytics rank --relative $(if $(n),-n '$(n)') $(if $(days),--days '$(days)') \
		$(if $(format),--format '$(format)')

docs: $(READY) ## Write the pages that follow from the code anew: cli, fields, rules, settings
	@$(BIN)/python docs/build.py

dashboards: $(READY) ## Write Grafana's dashboards anew from their code
	@$(BIN)/python -m deploy.grafana.builder.build

previews: $(READY) ## Draw the dashboards anew from live servers into docs/dashboards; takes a quarter of an hour
	@$(BIN)/python -m deploy.grafana.preview

lock: $(READY) ## Resolve the dependencies anew into requirements.lock
	@$(BIN)/python -m pip install --quiet uv
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --all-extras --no-header --no-annotate \
		--prerelease if-necessary-or-explicit pyproject.toml --output-file requirements.lock

clean: ## Remove what the targets made
	@rm -rf $(VENV) .demo .cache .hypothesis .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
