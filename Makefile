# `make demo` and `make test` need nothing but Python 3.11 or newer; `make help` lists the rest.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help setup setup-dev demo test test-fast up down status lint audit types messages versions statements bench gallery lock clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sort | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

# The locks are complete, so nothing is to be resolved; Python compiles what it imports, pip everything.
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps --no-compile

$(VENV)/base.stamp: requirements/base.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed; $$($(PYTHON) --version) is here. Name another one: make PYTHON=python3.12"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || \
		{ echo "Python cannot make a virtual environment. On Debian and Ubuntu: apt install python3-venv"; exit 1; }
	$(INSTALL) -r requirements/base.txt
	@touch $@

$(VENV)/dev.stamp: requirements/dev.txt $(VENV)/base.stamp
	$(INSTALL) -r requirements/dev.txt
	@touch $@

setup: $(VENV)/base.stamp ## install what running needs into .venv
setup-dev: $(VENV)/dev.stamp ## install what developing needs too

demo: $(VENV)/base.stamp ## certify the real catalogue in seven regions on the emulator and print the matrix
	$(BIN)/python manage.py demo

# Tests start some hundred Python processes, which would each compile the project anew without bytecode.
test test-fast: export PYTHONDONTWRITEBYTECODE =
PYTEST := $(BIN)/python -m pytest -q -n $(or $(WORKERS),3) --dist loadfile --no-loadscope-reorder --durations 60 --durations-min 1

test: $(VENV)/dev.stamp ## run every test, or those of TESTS="files and options", with three WORKERS
	$(PYTEST) $(TESTS)

test-fast: $(VENV)/dev.stamp ## unit and API tests without processes, a browser, or anything that takes seconds
	$(PYTEST) -m "not processes and not slow" --ignore tests/integration/test_api_schema.py \
		tests/unit tests/integration/test_api_*.py

up: $(VENV)/base.stamp ## the whole stack on this machine; Ctrl-C stops it
	$(BIN)/python manage.py up

down: $(VENV)/base.stamp ## stop the stack and its servers
	$(BIN)/python manage.py down

status: $(VENV)/base.stamp ## what runs
	$(BIN)/python manage.py status

lint: $(VENV)/dev.stamp ## style of code, templates and names, import directions
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/djhtml --tabwidth 2 --check templates
	$(BIN)/python scripts/glossary.py
	$(BIN)/lint-imports
	$(BIN)/bandit -q -c pyproject.toml -r certification myia scripts manage.py

audit: $(VENV)/dev.stamp ## known vulnerabilities of the locked packages (needs network)
	$(BIN)/python scripts/audit.py

types: $(VENV)/dev.stamp ## static types
	$(BIN)/mypy

bench: $(VENV)/dev.stamp ## the measured claims, compared with a baseline of the same run
	$(BIN)/python -m bench

versions: $(VENV)/dev.stamp ## write the versions of suite and policy after a change of their meaning
	$(BIN)/python scripts/versions.py

statements: $(VENV)/dev.stamp ## record what this release sends to the database, when a release is cut
	$(BIN)/python scripts/record_statements.py

gallery: $(VENV)/dev.stamp ## pictures of every page: both themes, both languages, three widths, in gallery/
	$(BIN)/python -m pytest -q tests/e2e/gallery.py

messages: $(VENV)/dev.stamp ## collect texts to translate, compile translations (needs GNU gettext)
	$(BIN)/python manage.py makemessages -l pt_BR --no-location --no-wrap --ignore '.venv/*' --ignore 'tests/*' --ignore 'bench/*'
	$(BIN)/python manage.py compilemessages

lock: ## lock the dependencies again, with hashes (needs uv)
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-header -q requirements/base.in -o requirements/base.txt
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-header -q requirements/dev.in -o requirements/dev.txt

clean: ## remove the environment and everything embedded (database included)
	-test ! -x $(BIN)/python || $(BIN)/python manage.py down
	rm -rf $(VENV) .myia
