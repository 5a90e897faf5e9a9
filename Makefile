# make train: set up, train the embedded default, evaluate it.   make test: the tests.
# make lint, make docs: style and types; the site of the documentation.
# make lock, make bounds: renew constraints.txt; the tests at the versions' bounds.
# make fuzz: 100 000 damaged inputs for each reader of files, about half an hour.
PYTHON ?= python3
VENV := .venv
WORKDIR ?= runs/shapes
EXTRAS ?= train,dev
# The versions that are installed; in a fresh .venv, LOCK= takes the newest instead.
LOCK ?= constraints.txt
# One stamp for each set of extras: asking for others installs them.
comma := ,
SETUP := $(VENV)/.installed-$(subst $(comma),-,$(EXTRAS))

.PHONY: setup train test lint docs fuzz lock bounds clean

setup: $(SETUP)

$(SETUP): pyproject.toml $(LOCK)
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet $(LOCK:%=--constraint=%) --editable ".[$(EXTRAS)]"
	touch $@

train: setup
	$(VENV)/bin/python train.py --config=configs/shapes.py --workdir=$(WORKDIR)
	$(VENV)/bin/python eval.py --workdir=$(WORKDIR)

# In the order of testpaths, the longest first: both workers end together.
test: setup
	$(VENV)/bin/python -m pytest --numprocesses=2 --dist=loadfile --no-loadscope-reorder

lint: setup
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/pyright --pythonpath $(VENV)/bin/python

fuzz: setup
	$(VENV)/bin/python tests/fuzz/run.py

# The site of docs/ and the docstrings, into site/; a warning is an error.
docs:
	$(MAKE) setup EXTRAS=train,dev,docs
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs build --strict --quiet

$(VENV)/bin/uv:
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet uv

# For every Python from 3.11. Without the CUDA packages that PyPI's torch asks for: the
# tests need none, and they would bind those of the extra cuda.
lock: $(VENV)/bin/uv
	$(VENV)/bin/uv pip compile --quiet --upgrade --universal --python-version=3.11 \
	  --extra=train,tensorboard,docs,dev,torch --no-annotate \
	  --custom-compile-command="make lock" --output-file=$(VENV)/lock.txt pyproject.toml
	grep -vE '^(cuda|nvidia|triton)' $(VENV)/lock.txt > constraints.txt

# BOUNDS="--python=3.13 tests/test_crf.py": what tests/bounds.py takes.
bounds: $(VENV)/bin/uv
	$(VENV)/bin/python tests/bounds.py $(BOUNDS)

clean:
	rm -rf $(VENV) runs site
