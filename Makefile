# `make` lists the targets. Nothing is installed outside $(VENV).
PYTHON ?= python3
VENV ?= .venv
# A package index for torch alone: PyTorch's CPU index saves the gigabytes of CUDA that the default build brings.
TORCH_INDEX ?=
# What to run: SCALE names a file of config/, SEEDS is a list like 0,1,2, ARGS goes to Snakemake (targets, options).
SCALE ?=
SEEDS ?=
ARGS ?=

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
SETTINGS := $(strip $(if $(SCALE),scale=$(SCALE)) $(if $(SEEDS),"seeds=[$(SEEDS)]"))
RESULTS := results/$(or $(SCALE),mini)
TORCH := $(shell grep '^torch==' requirements.lock)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help reproduce report test test-all lint lock unlock clean distclean

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## */\t/' | expand -t 14
	@echo 'Variables: SCALE=smoke SEEDS=0,1,2 ARGS="table4" PYTHON=python3.12 TORCH_INDEX=URL'

reproduce: $(VENV)/.installed  ## install, run everything, print the headline numbers
	$(BIN)/snakemake --cores all $(ARGS) $(if $(SETTINGS),--config $(SETTINGS))
	@if [ -f $(RESULTS)/comparison.md ]; then $(BIN)/mis compare --config $(RESULTS)/config.yaml; fi
	@if [ -f $(RESULTS)/scores.csv ]; then $(BIN)/mis headline --config $(RESULTS)/config.yaml; fi

report: $(VENV)/.installed  ## a finished run as one HTML page: tables, figures, configuration, run times
	$(BIN)/snakemake --cores all --report $(RESULTS)/report.html $(if $(SETTINGS),--config $(SETTINGS))

test: $(VENV)/.installed-dev  ## the tests that take seconds, and the whole study at the smoke scale
	$(BIN)/python -m pytest -q -m 'not slow'

test-all: $(VENV)/.installed-dev  ## all tests
	$(BIN)/python -m pytest -q -rs --durations=10

lint: $(VENV)/.installed-dev  ## ruff, snakefmt, snakemake --lint, import-linter
	$(BIN)/ruff check .
	$(BIN)/snakefmt --check Snakefile workflow
	$(BIN)/snakemake --lint > /dev/null
	$(BIN)/lint-imports

$(VENV)/.installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, found %d.%d; name one: make PYTHON=python3.12" % sys.version_info[:2] if sys.version_info < (3, 11) else 0)'
	@$(PYTHON) -c 'import venv, ensurepip' || { echo 'Python cannot make a virtual environment; on Debian install python3-venv'; exit 1; }
	@echo 'Installing the pinned packages into $(VENV); about a minute'
	@[ -x $(BIN)/python ] || $(PYTHON) -m venv $(VENV)
	$(if $(TORCH_INDEX),$(PIP) install -qq --no-deps --index-url $(TORCH_INDEX) $(TORCH))
	$(PIP) install -qq -r requirements.lock
	$(PIP) install -qq --no-deps -e .
	@touch $@

$(VENV)/.installed-dev: requirements-dev.lock $(VENV)/.installed
	$(PIP) install -qq -r requirements-dev.lock
	@touch $@

# CUDA's libraries come with the build of torch and are left out, as is a local version.
FREEZE = build/lock/bin/pip freeze --exclude mis | grep -vE '^(nvidia|cuda|triton)' | sed -E 's/^(torch==[^+]+)\+.*/\1/' | LC_ALL=C sort -f
lock:  ## pin anew what pyproject.toml names
	rm -rf build/lock && $(PYTHON) -m venv build/lock
	build/lock/bin/pip install -q . && $(FREEZE) > build/lock/study.txt
	build/lock/bin/pip install -q '.[test,sharded,lora,serving,construction,cluster,small]' && $(FREEZE) > build/lock/all.txt
	{ grep '^#' requirements.lock; cat build/lock/study.txt; } > build/lock/requirements.lock
	{ grep -E '^(#|-r)' requirements-dev.lock; grep -vxFf build/lock/study.txt build/lock/all.txt; } > build/lock/requirements-dev.lock
	mv build/lock/requirements.lock build/lock/requirements-dev.lock .

unlock:  ## after Snakemake itself was killed: remove the lock that it left
	$(BIN)/snakemake --unlock

clean:  ## remove what a scale made (SCALE, else mini), but not the cached base models
	rm -rf build/$(or $(SCALE),mini) $(RESULTS) figures/$(or $(SCALE),mini) logs/$(or $(SCALE),mini)

distclean:  ## remove everything that was made or installed, reference results excepted
	rm -rf build logs .snakemake $(VENV) src/*.egg-info
	find results figures -mindepth 1 -maxdepth 1 ! -name reference ! -name README.md -exec rm -rf {} +
