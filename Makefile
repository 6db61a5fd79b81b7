# `make demo` and `make test` need Python >= 3.10 and make; the rest is set up in .venv.
# A stamp file per group of packages: nothing is installed while pyproject.toml is unchanged.

PYTHON ?= python3
VENV   ?= .venv
ARGS   ?=

BIN := $(VENV)/bin
PY  := $(BIN)/python
PIP := $(PY) -m pip --disable-pip-version-check

# The pure half: pyproject.toml forbids it the world, `make coverage` asks 100 % of it.
PURE := errors events _head receipts interfaces _config _context _enrich _encode \
        _repair _routing plugins _batching _retry _items _order _lanes _ledger \
        _patience _verdict _outlet _delivery _flushes destinations

empty :=
comma := ,
PURE_FILES := $(subst $(empty) $(empty),$(comma),$(strip \
    $(patsubst %,*/analytics_sdk/%.py,$(filter-out destinations,$(PURE))) */analytics_sdk/destinations/*))

.DEFAULT_GOAL := help
.NOTPARALLEL:
.DELETE_ON_ERROR:
.PHONY: help demo test soak coverage lint fmt types arch docs wheel wheel-test \
        lower-bounds bench bench-quick dev clean

help: ## Show this list.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/.core ## Replay real purchases to four destinations and check the totals.
	@$(PY) -m analytics_sdk demo $(ARGS)

test: $(VENV)/.test ## Run the tests (ARGS="-k name" to choose).
	@$(PY) -m pytest $(ARGS)

soak: $(VENV)/.test ## Run the long tests.
	HYPOTHESIS_PROFILE=soak $(PY) -m pytest -m soak $(ARGS)

coverage: $(VENV)/.test ## Run all but the long tests; 100 % of the pure half, 95 % of all.
	@$(PY) -m coverage erase
	$(PY) -m coverage run -m pytest -m "not soak" $(ARGS)
	@$(PY) -m coverage combine --quiet
	$(PY) -m coverage report --include='$(PURE_FILES)' --fail-under=100
	$(PY) -m coverage report --fail-under=95

lint: $(VENV)/.lint ## Check style and formatting.
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .

fmt: $(VENV)/.lint ## Format, and fix what can be fixed safely.
	$(PY) -m ruff format .
	$(PY) -m ruff check --fix .

types: $(VENV)/.types ## Check types inside (mypy) and as users see them (pyright).
	$(PY) -m mypy
	$(PY) -m pyright --pythonpath $(PY)

arch: $(VENV)/.lint ## Check that imports point down.
	$(BIN)/lint-imports

docs: $(VENV)/.docs ## Build the documentation; a warning is an error.
	$(PY) -m sphinx -E -W --keep-going -q -b html docs docs/_build/html

wheel: $(VENV)/.release ## Build the sdist, and the wheel from it.
	@rm -rf dist
	$(PY) -m build --outdir dist .

# The tests of the sdist, its source deleted, on the wheel and the four core packages.
wheel-test: wheel ## Test the built wheel without its source.
	@rm -rf build/wheel && mkdir -p build/wheel/src
	@tar -xzf dist/*.tar.gz -C build/wheel/src --strip-components=1
	@rm -r build/wheel/src/analytics_sdk
	@$(PY) -m venv build/wheel/venv
	build/wheel/venv/bin/python -m pip install --quiet --upgrade 'pip>=25.1'
	build/wheel/venv/bin/python -m pip install --quiet dist/*.whl
	build/wheel/venv/bin/python -m pip check
	build/wheel/venv/bin/analytics-sdk --help >/dev/null
	cd build/wheel/src && ../venv/bin/python -m pip install --quiet --group test-core
	cd build/wheel/src && ANALYTICS_SDK_TESTS=core ../venv/bin/python -m pytest $(ARGS)

# Old releases and new Pythons do not meet: take the oldest supported Python at hand.
lower-bounds: $(VENV)/.core ## Test on the lowest versions that pyproject.toml allows.
	@rm -rf build/lower && mkdir -p build/lower
	@for python in python3.10 python3.11 python3.12 $(PYTHON); do \
	    $$python -c '' 2>/dev/null && exec $$python -m venv build/lower/venv; done
	@$(PY) -c 'from importlib.metadata import requires; print(*(r.replace(">=", "==") \
	    for r in requires("analytics-sdk-server") if "extra ==" not in r), sep="\n")' \
	    > build/lower/bounds.txt
	build/lower/venv/bin/python -m pip install --quiet --upgrade 'pip>=25.1'
	build/lower/venv/bin/python -m pip install --quiet -r build/lower/bounds.txt -e . --group test-core
	@cat build/lower/bounds.txt && build/lower/venv/bin/python --version
	ANALYTICS_SDK_TESTS=core build/lower/venv/bin/python -m pytest $(ARGS)

bench: $(VENV)/.bench ## Measure ours, the floor and the peers.
	$(PY) -m benchmarks $(ARGS)

bench-quick: $(VENV)/.bench ## The same in a minute or two, with two peers.
	$(PY) -m benchmarks --quick $(ARGS)

dev: $(VENV)/.dev ## Install every tool into .venv.

clean: ## Remove what the targets above made, .venv too.
	rm -rf $(VENV) build dist docs/_build .coverage .coverage.* .hypothesis \
	    .mypy_cache .nox .pytest_cache .ruff_cache

# A virtual environment that is there already is used, not replaced; one that was left half
# made (Debian's python3 without python3-venv does that) is made again.
RECENT := -c 'import sys; sys.exit(sys.version_info < (3, 10))'
$(VENV)/.pip:
	@$(PY) -m pip --version >/dev/null 2>&1 || $(PY) -m ensurepip >/dev/null 2>&1 || { \
	    $(PYTHON) $(RECENT) || { \
	        echo 'Python 3.10 or newer is needed; name one: make PYTHON=/path/to/python3'; exit 1; }; \
	    $(PYTHON) -m venv --clear $(VENV) || { \
	        echo 'venv failed; on Debian and Ubuntu first: apt-get install python3-venv'; exit 1; }; }
	@$(PY) $(RECENT) || { \
	    echo '$(VENV) holds an older Python than 3.10: remove it, then run make again'; exit 1; }
	@$(PIP) install --quiet --upgrade 'pip>=25.1'
	@touch $@

$(VENV)/.core: $(VENV)/.pip pyproject.toml
	@echo 'Setting up $(VENV): the four core packages'
	@$(PIP) install --quiet --editable .
	@touch $@

$(VENV)/.test $(VENV)/.lint $(VENV)/.types $(VENV)/.docs $(VENV)/.release $(VENV)/.bench $(VENV)/.dev: \
$(VENV)/.%: $(VENV)/.core pyproject.toml
	@echo 'Setting up $(VENV): the packages for $*'
	@$(PIP) install --quiet --group $*
	@touch $@
