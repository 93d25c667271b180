# make install | test | lint | bench | steps | equality | reproduce | actsr | awrsr | compare-NAME of benchmarks/NAME.yaml
# | inside-ml-100k | inside-amazon-beauty.
# PYTHON=python3.10 picks another interpreter, DATA=../shared/data another folder with the data sets, RESULTS=FOLDER where
# results go.
PYTHON ?= python3
VENV ?= .venv
DATA ?= dataset
BIN := $(VENV)/bin
RESULTS ?= results
INSTALLED := $(VENV)/.installed-for-development

$(INSTALLED): setup.py constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q -c constraints.txt -e ".[dev]"
	touch $@

.PHONY: install test lint bench steps equality reproduce actsr awrsr

install: $(INSTALLED)

test: install
	$(BIN)/python -m pytest -n auto

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: install
	$(BIN)/python benchmarks/epochs.py --data_path=$(DATA)
	$(BIN)/python benchmarks/scaling.py

steps: install
	$(BIN)/python benchmarks/train_step.py --repeats=3 --steps=5

equality: install
	EQUALITY_DATA=$(DATA) $(BIN)/python -m pytest tests/test_equality.py

reproduce: install
	$(BIN)/python benchmarks/reproduce.py

# A comparison for each backbone of a paper.
actsr: compare-actsr compare-actsr-bert4rec
awrsr: compare-awrsr compare-awrstosa

compare-%: install
	$(BIN)/python run_recbole_attn.py --config_files=benchmarks/$*.yaml --results=$(RESULTS) --data_path=$(DATA)

inside-%: install
	$(BIN)/python run_recbole_attn.py --config_files=benchmarks/$@.yaml --results=$(RESULTS) --data_path=$(DATA)
	$(BIN)/python run_recbole_attn.py --analyze='$(RESULTS)/$@/*/training/best.pth' --baseline=AttnSASRec --results=$(RESULTS)
