# Everything runs in .venv, which each target prepares for itself.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin
STAMP := $(VENV)/.installed
# two workers, a file at a time, in the order that tests/conftest.py gives
TWO := -n 2 --dist loadfile --no-loadscope-reorder

.PHONY: setup demo quick test soak lint benchmark clean

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(RUN)/python -m pip install --quiet --upgrade pip
	$(RUN)/python -m pip install --quiet --constraint constraints.txt --editable ".[test]"
	touch $(STAMP)

# Compress and restore a scene: a simulated one, or make demo SOURCE=file.tif
demo: $(STAMP)
	$(RUN)/xsarcomp demo $(SOURCE)

# Laws and units, the loop of every day: not a minute and a half on two cores, once the kernels are compiled
quick: $(STAMP)
	$(RUN)/python -m pytest -q $(TWO) -m "not slow and not soak"

# Lint, and every test but the long forms: what CI runs
test: $(STAMP) lint
	$(RUN)/python -m pytest $(TWO)

# The long forms: full tables of values, hostile input, damage, kills and threads; hours
soak: $(STAMP)
	$(RUN)/python -m pytest -m soak

lint: $(STAMP)
	$(RUN)/ruff check .
	$(RUN)/ruff format --check .
	$(RUN)/lint-imports
	$(RUN)/mypy

# The README's table: make benchmark SCENES="a.tif b.tif"
benchmark: $(STAMP)
	$(RUN)/xsarcomp benchmark $(SCENES) --output docs/benchmarks

clean:
	rm -rf $(VENV) demo
