# Two commands set everything up and do their job: `make demo` and `make test`.
# Another interpreter: `make test PYTHON=python3.12`.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed
TYPES := .types/spikeship
PIP := $(BIN)/python -m pip install

.PHONY: demo test fuzz torture lint types contract check install clean

demo: $(INSTALLED)
	$(BIN)/spikeship demo --out demo-out

# many tests wait for processes they start, so three at once on two cores; TESTS_AT_ONCE=0 runs one
# after the other, in this process
TESTS_AT_ONCE ?= 3
test: $(INSTALLED)
	$(BIN)/python -m pytest -n $(TESTS_AT_ONCE) --dist loadfile

install: $(INSTALLED)

$(INSTALLED): export PIP_CONSTRAINT := constraints.txt
$(INSTALLED): export PIP_DISABLE_PIP_VERSION_CHECK := 1
# torch first and exact, so that no looser requirement of another package picks one
$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("spikeship needs Python 3.11 or newer, this is %d.%d; name another: make PYTHON=python3.12" % sys.version_info[:2] if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv .venv
	$(PIP) torch==2.13.0
	$(PIP) --quiet setuptools
	$(PIP) --quiet --no-build-isolation --editable '.[test]'
# what benchmarks run beside; two of them ask for torchvision and torchaudio and need neither here
	$(PIP) --quiet --no-deps spikingjelly neurobench snntorch tqdm loguru
	$(BIN)/python -m spikeship.deploy.verbs.install_lava
	@touch $@

# random graphs on every engine, up to an hour on two cores; SEED=7 draws others
SEED ?= 0
fuzz: $(INSTALLED)
	$(BIN)/python tests/fuzzing/fuzz.py --graphs 13500 --lava 200 --planted 250 --seed $(SEED) --json fuzz-out/run.json

# damaged files, signals over every verb, full disks and long runs, twenty minutes on two cores
torture: $(INSTALLED)
	$(BIN)/python tests/torture/torture.py --files 330 --kills 70 --images 2000 --lava 20 --seed $(SEED) --json torture-out/run.json

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(INSTALLED) $(TYPES)
	$(BIN)/mypy

contract: $(INSTALLED) $(TYPES)
	PYTHONPATH=.types $(BIN)/lint-imports

check: lint types contract

$(TYPES):
	mkdir -p .types
	rm -rf $@.new && mkdir $@.new
	ln -s ../../hw_models ../../training ../../deploy ../../deploy/facade/__init__.py $@.new/
	mv $@.new $@

clean:
	rm -rf .venv .types .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache build *.egg-info demo-out
	find . -name __pycache__ -prune -exec rm -rf {} +
