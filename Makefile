PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/installed
NOTEBOOKS ?= $(wildcard notebooks/*.ipynb notebooks/exercises/*.ipynb)
# Two side by side: what the smallest machine we build on has.
WORKERS ?= 2

export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Two processes side by side have no cores left for threads of the linear algebra.
export OMP_NUM_THREADS ?= 1

.PHONY: help book test pytest nbval lint bench nets clean
.DELETE_ON_ERROR:

help:
	@echo "make book    run the notebooks, build the book, print where it is (SITETRACE_DATA adds the measured pages)"
	@echo "make test    pytest, then nbval over all notebooks (SITETRACE_DATA adds the tests on measured runs)"
	@echo "make lint    ruff rules and format, numpydoc checks of public names"
	@echo "make nets    train the nets whose results the book shows (needs torch, about 15 minutes; goes on where it was)"
	@echo "make bench   fit, serving, generation and site time beside drawing normal numbers (vidur beside it where installed)"
	@echo "make clean   remove .venv, the built book and caches"
	@echo "PYTHON=...   the Python (3.11 to 3.13) that makes .venv; now: $(PYTHON)"

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet -c constraints.txt -e '.[book,test]'
	@# The font cache is built once, here: in a page its notice would be a warning.
	@$(BIN)/python -c "import logging; logging.disable(); import matplotlib.font_manager"
	@touch $@

book: $(STAMP)
	@$(BIN)/python book/build.py

# In order of names: the files with few tests are the slow ones, and last they would wait for each other.
PYTEST = $(BIN)/python -m pytest -q -n $(WORKERS) --dist loadfile --no-loadscope-reorder
NBVAL = --nbval-lax --nbval-sanitize-with tests/nbval.cfg $(NOTEBOOKS)

# One session, so that no worker waits between the tests and the notebooks.
test: $(STAMP)
	$(PYTEST) tests $(NBVAL)

pytest: $(STAMP)
	$(PYTEST) tests

nbval: $(STAMP)
	@test -n "$(NOTEBOOKS)" || { echo "nbval: there is no notebook in notebooks/" >&2; exit 1; }
	$(PYTEST) $(NBVAL)

lint: $(STAMP)
	$(BIN)/ruff check --quiet .
	$(BIN)/ruff format --quiet --check .
	$(BIN)/python -m pytest -q tests/test_docstrings.py

bench: $(STAMP)
	@$(BIN)/python tests/bench.py

nets: $(STAMP)
	$(BIN)/pip install --quiet -c constraints.txt -e '.[torch]'
	@OMP_NUM_THREADS=1 $(BIN)/python book/train.py

clean:
	rm -rf .venv .nets book/_build book/_generated .pytest_cache .ruff_cache .hypothesis dist
	find src tests book notebooks -name __pycache__ -prune -exec rm -rf {} +
