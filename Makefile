# Every target makes the virtual environment it needs; nothing but a Python and make has to be there first.
# ARGS is handed on: make test ARGS="-k deadline -x"

PYTHON ?=
VENV   := .venv
PY     := $(VENV)/bin/python
READY  := $(VENV)/.installed

NEW_ENOUGH := import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))
PIP        := $(PY) -m pip --quiet --quiet --disable-pip-version-check --no-input
COMPILE    := $(PY) -m uv pip compile pyproject.toml --quiet --universal --python-version 3.11 --generate-hashes \
              --no-emit-index-url --no-emit-find-links --custom-compile-command "make requirements"
REGISTRIES := uv[.]lock|py[p]i[.]org|pythonhost[e]d[.]org|n[p]mjs[.](org|com)

.PHONY: help run test check bench soak generate requirements format clean

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1|\2/p' $(firstword $(MAKEFILE_LIST)) | awk -F'|' '{ printf "%-20s %s\n", $$1, $$2 }'

run: $(READY) ## run the shop with a first order placed; Ctrl-C ends it
	@if [ -t 0 ]; then set -m; fi; cd examples/shop && ../../$(PY) -m shop $(ARGS) # -m: Ctrl-C is the shop's, not make's

test: $(READY) ## run the tests
	@$(PY) -m pytest $(ARGS)

check: $(READY) ## format, lint, types, architecture, stale generated code
	@echo "format";       $(PY) -m ruff format --check --quiet . || { echo "make format puts this right" >&2; exit 1; }
	@echo "lint";         $(PY) -m ruff check --quiet .
	@echo "types";        $(PY) -m mypy
	@echo "architecture"; $(PY) -m pytest --quiet tests/test_architecture.py
	@echo "generated";    $(PY) tools/generate.py --check
	@echo "registries";   \
	if git rev-parse --is-inside-work-tree >/dev/null 2>&1 && git grep -InE --untracked '$(REGISTRIES)'; then \
	  echo "No file may name a package registry's host: versions are pinned in requirements/, free of hosts." >&2; exit 1; \
	fi

bench: $(READY) ## run the benchmarks
	@$(PY) -m bench $(ARGS)

soak: $(READY) ## move money between two services that are killed all the while; half an hour
	@$(PY) -m bench.soak $(ARGS)

generate: $(READY) ## write all generated code anew
	@$(PY) tools/generate.py

requirements: $(READY) ## pin the dependencies of pyproject.toml anew; ARGS=--upgrade takes newer versions
	@$(COMPILE) --group dev --group bench --output-file requirements/dev.txt $(ARGS)
	@$(COMPILE) --no-annotate --constraints requirements/dev.txt --output-file requirements/runtime.txt $(ARGS)

format: $(READY) ## format the code and put right what the linter can
	@$(PY) -m ruff format --quiet .
	@$(PY) -m ruff check --fix --exit-zero --quiet .

clean: ## remove the virtual environment, caches and built packages; what services stored in var/ stays
	@rm -rf $(VENV) build dist .cache .coverage htmlcov .hypothesis .mypy_cache .pytest_cache .ruff_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# An environment that works is kept and brought up to date; any other is made from the newest suitable Python.
$(READY): requirements/dev.txt pyproject.toml
	@set -e; \
	if $(PY) -c '$(NEW_ENOUGH)' >/dev/null 2>&1; then \
	  echo "Bringing $(VENV) up to date ..."; \
	else \
	  found=; \
	  for candidate in $(PYTHON) python3.13 python3.12 python3.11 python3; do \
	    if "$$candidate" -c '$(NEW_ENOUGH)' >/dev/null 2>&1; then found=$$candidate; break; fi; \
	  done; \
	  if [ -z "$$found" ]; then \
	    echo "No Python 3.11 or newer with venv was found (on Debian: apt-get install python3 python3-venv)." >&2; \
	    echo "Name one with: make PYTHON=/path/to/python3" >&2; \
	    exit 1; \
	  fi; \
	  echo "Setting up $(VENV) (once, about a minute) ..."; \
	  "$$found" -m venv --clear $(VENV); \
	fi; \
	$(PIP) install --require-hashes -r requirements/dev.txt; \
	$(PIP) install --no-deps --no-build-isolation -e .; \
	touch $@
