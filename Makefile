# distill: `make help` lists the targets. PYTHON chooses the interpreter that .venv is made with.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export OMP_NUM_THREADS ?= 1

.PHONY: help demo test lint smoke slow planted bench chaos fuzz same-numbers docs clean

help:  ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | sort | expand -t 14

demo: $(VENV)/.installed  ## set up, distil on the embedded digits over five seeds, name the page to open
	$(BIN)/distill distill experiment=digits -m seed=5,6,7,8,9

test: $(VENV)/.installed  ## set up and pass the tests
	$(BIN)/python -m pytest -n auto --dist worksteal -m "not slow"

slow: $(VENV)/.installed  ## the slow tests: packaging, the longest runs, and real data from DISTILL_TEST_DATA=FOLDER with mitdb/ and mnist/
	$(BIN)/python -m pytest -m slow

lint: $(VENV)/.installed  ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

smoke: $(VENV)/.installed  ## a tiny run on synthetic beats, under 15 s
	$(BIN)/distill distill experiment=smoke

planted: $(VENV)/.installed  ## plant each known bug and see its test fail
	$(BIN)/python tests/plant_bugs.py

chaos: $(VENV)/.installed  ## kill runs at random moments, let them go on, compare to the bit; CHAOS=--short for the short form
	$(BIN)/python benchmarks/chaos.py $(CHAOS)

docs: $(VENV)/.installed  ## the documentation as a site in site/; fails on a warning or a stale reference page
	$(BIN)/python docs/generate_reference.py --check
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

bench: $(VENV)/.installed  ## the fit loop against a bare loop, and start-up times
	$(BIN)/python benchmarks/loop.py

fuzz: $(VENV)/.installed  ## 1,000 spoiled files and 300 random override lines; CASES=130 takes as many of them
	$(BIN)/python benchmarks/fuzz.py $(if $(CASES),--cases $(CASES))

same-numbers: $(VENV)/.installed  ## the same commands give the stored numbers, to the last digit; ONLY=digits,smoke takes these cases
	$(BIN)/python benchmarks/same_numbers.py --jobs 2 $(if $(ONLY),--only $(ONLY))

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[all,test,docs]'
	touch $@

clean:  ## remove the virtual environment and caches; data and outputs stay
	rm -rf $(VENV) .pytest_cache .hypothesis .mypy_cache .ruff_cache build dist
