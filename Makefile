# make train: set up, train the embedded default, evaluate it.   make test: the tests.
# make lint, make docs: style and types; the site of the documentation.
# make fuzz: 100 000 damaged inputs for each reader of files, about half an hour.
PYTHON ?= python3
VENV := .venv
WORKDIR ?= runs/shapes
EXTRAS ?= train,dev
# One stamp for each set of extras: asking for others installs them.
comma := ,
SETUP := $(VENV)/.installed-$(subst $(comma),-,$(EXTRAS))

.PHONY: setup train test lint docs fuzz clean

setup: $(SETUP)

$(SETUP): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --editable ".[$(EXTRAS)]"
	touch $@

train: setup
	$(VENV)/bin/python train.py --config=configs/shapes.py --workdir=$(WORKDIR)
	$(VENV)/bin/python eval.py --workdir=$(WORKDIR)

# In the order of testpaths, the longest files first: both workers end together.
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

clean:
	rm -rf $(VENV) runs site
