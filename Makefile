# `make` alone shows what there is to make.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
EXTRAS := dev,waeys,pyaileys,dashboard
comma := ,
NODE_PROJECTS := devstack tests/node examples/node lint
# The demo comes first, before all the rest is worth its download.
DEMO_NODE := devstack tests/node
# The npm of Debian 12 and 13 cannot read overrides of what comes from git: "Invalid comparator".
OLD_NPM = $(shell npm --version | sed -nE '/^[0-9]\./p')
NPM = $(if $(OLD_NPM),npx --yes npm@11.19.1,npm)

# Tests start hundreds of commands, which compile the package again wherever bytecode is not kept.
export PYTHONDONTWRITEBYTECODE :=

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

.PHONY: help
help: ## Show this
	@echo "Needs Python 3.11+ with venv, Node 20+ and npm; everything else is installed here."
	@sed -nE 's/^([a-z]+):.*## (.*)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

.PHONY: setup
setup: $(VENV)/.installed $(NODE_PROJECTS:%=%/node_modules/.installed) ## Install everything, into .venv/ and node_modules/

.PHONY: test
test: setup ## Run every test against real servers, on all cores; ARGS="-k lease" runs some
	$(BIN)/pytest -n auto $(ARGS)

.PHONY: matrix
matrix: setup ## Run the unit tests on the newest Python and other event loops; ARGS="--all" on every Python
	$(BIN)/python -m tests.matrix $(ARGS)

.PHONY: pgtap
pgtap: setup ## Run supabase/tests by psql and pgTAP, as `supabase test db` does; needs Debian and psql
	$(BIN)/python -m tests.pgtap

.PHONY: lint
lint: setup $(VENV)/.installed-bench ## Check style, types, SQL, shell, workflows, Markdown and spelling
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/squawk supabase/migrations/*.sql
	$(BIN)/shellcheck .ci/run
	$(BIN)/zizmor --offline --quiet .github
	$(BIN)/codespell
	lint/node_modules/.bin/markdownlint-cli2

.PHONY: docs
docs: $(VENV)/.installed-docs ## Build the documentation into site/; ARGS="serve" shows it while you write
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs $(or $(ARGS),build --strict --quiet)

.PHONY: coverage
coverage: setup ## Run every test, and fail below the floor of covered lines
	$(BIN)/pytest -n auto --cov --cov-report=term:skip-covered $(ARGS)

.PHONY: format
format: setup ## Let ruff lay out the code, and mend what it can
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

.PHONY: screenshots
screenshots: setup ## Take the pictures of the dashboard that the documentation shows; needs Debian's chromium
	$(BIN)/python -m tests.browser.screenshots

.PHONY: demo
demo: $(VENV)/.installed-stack $(DEMO_NODE:%=%/node_modules/.installed) ## A Baileys folder into a local Supabase and back, opened by real Baileys
	$(BIN)/python -m demo

.PHONY: bench
bench: setup $(VENV)/.installed-bench ## Measure beside the alternatives; prints a table, draws plots
	$(BIN)/python -m benchmarks $(ARGS)

.PHONY: statistics
statistics: setup ## What looking at 10,000 companies costs, and counting them: docs/operations.md
	$(BIN)/python -m benchmarks.operations $(ARGS)

.PHONY: prometheus
prometheus: setup ## Load the Grafana dashboard's and rules' expressions into a real Prometheus
	$(BIN)/python -m grafana

.PHONY: faults
faults: setup ## Two minutes of random faults; ARGS="--faults 10000 --seed 1" for more, or the same again
	$(BIN)/python -m faults $(ARGS)

.PHONY: soak
soak: setup $(VENV)/.installed-bench ## A simulated day of 200 companies; ARGS="--real-time" takes 24 hours
	$(BIN)/python -m soak $(ARGS)

.PHONY: fuzz
fuzz: setup ## Bad input by the million, a minute each; ARGS="--seconds 600 --only answer"
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[fuzz]'
	$(BIN)/python -m fuzz $(ARGS)

.PHONY: crashes
crashes: setup ## SIGKILL every command at each of its requests and file operations
	$(BIN)/python -m faults.crashes $(ARGS)

# Write a lock with hashes for some extras, under the words that it begins with.
define compile
	head -n 2 $(1) > .devstack/lock/$(1)
	.devstack/lock/bin/uv pip compile pyproject.toml $(addprefix --extra ,$(subst $(comma), ,$(2))) -c constraints.txt \
		--universal --python-version 3.11 --generate-hashes --no-header --no-annotate >> .devstack/lock/$(1)
	mv .devstack/lock/$(1) $(1)
endef

.PHONY: lock
lock: ## Renew constraints.txt, both requirements locks and every package-lock.json
	rm -rf .devstack/lock
	$(PYTHON) -m venv .devstack/lock
	.devstack/lock/bin/pip install --quiet -e '.[$(EXTRAS),bench,docs]'
	head -n 1 constraints.txt > .devstack/lock/constraints.txt
	.devstack/lock/bin/pip freeze --exclude-editable >> .devstack/lock/constraints.txt
	mv .devstack/lock/constraints.txt constraints.txt
	.devstack/lock/bin/pip install --quiet uv
	$(call compile,requirements.lock,$(EXTRAS))
	$(call compile,requirements-stack.lock,stack)
	for project in $(NODE_PROJECTS); do $(NPM) install --package-lock-only --prefix $$project || exit 1; done

.PHONY: types
types: setup ## Renew the types of the tables' rows, by the Supabase CLI
	$(BIN)/python -m devstack.row_types

.PHONY: dist
dist: setup ## Build the sdist and the wheel, into dist/
	rm -rf dist
	$(BIN)/python -m build --outdir dist

.PHONY: packages
packages: setup ## Install them in clean environments, on every Python and with each extra alone
	$(BIN)/python -m tests.packages

.PHONY: notes
notes: ## Print the notes of a release: VERSION=0.4.0
	@$(BIN)/python -m devstack.release_notes "$(VERSION)"

.PHONY: audit
audit: setup ## Look for known vulnerabilities in what is locked; asks PyPI and npm for their advisories
	$(PYTHON) -m venv .devstack/audit
	.devstack/audit/bin/pip install --quiet --disable-pip-version-check pip-audit==2.10.1
	.devstack/audit/bin/pip-audit --strict --disable-pip --require-hashes -r requirements.lock
	for project in $(NODE_PROJECTS); do $(NPM) audit --prefix $$project || exit 1; done

.PHONY: clean
clean: ## Remove everything that was installed or built
	rm -rf $(VENV) $(NODE_PROJECTS:%=%/node_modules) .devstack build dist site
	rm -rf .hypothesis .mypy_cache .pytest_cache .ruff_cache

$(VENV)/pyvenv.cfg:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "pyaileys and waton, which the tests drive, need Python 3.11: make PYTHON=..." >&2; \
		exit 1; }
	$(PYTHON) -m venv $(VENV)

# What the demo needs, which is a tenth of all; it is part of what `setup` installs.
$(VENV)/.installed-stack: pyproject.toml constraints.txt requirements-stack.lock $(VENV)/pyvenv.cfg
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-stack.lock
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[stack]'
	@touch $@

$(VENV)/.installed: pyproject.toml constraints.txt requirements.lock $(VENV)/pyvenv.cfg
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[$(EXTRAS)]'
	@touch $@

$(VENV)/.installed-bench: $(VENV)/.installed
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[bench]'
	@touch $@

$(VENV)/.installed-docs: $(VENV)/.installed
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	@touch $@

# No install scripts: the one that is needed is done by devstack/binaries.py.
%/node_modules/.installed: %/package.json %/package-lock.json
	$(NPM) ci --prefix $* --ignore-scripts --no-audit --no-fund --loglevel=error
	@touch $@
