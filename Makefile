# One environment for everything: .venv, made from pyproject.toml with the versions of constraints.txt.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO := demo_output
INSTALLED := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help install demo test full faults fuzz soak lint bench licences audit clean

help:            ## List what make can do
	@grep -hE '^[a-z]+: .*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /make \1	/'

install: $(INSTALLED)  ## Make the environment alone

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' || { \
	  echo "make: $(PYTHON) is not Python 3.10 to 3.13. Install one, then: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@echo "Installing into $(VENV) (TensorFlow is about 600 MB; a few minutes) …"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade pip
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt ".[dev]"
	@touch $@

demo: $(INSTALLED)  ## Two minutes: draw a dataset, convert, train, evaluate, export, classify
	$(BIN)/python -m datasets.sample --output_dir=$(DEMO)/photographs
	$(BIN)/python convert_data.py --dataset_name=animals --output_dir=$(DEMO)/animals \
	  --image_dir=$(DEMO)/photographs/images --annotations_dir=$(DEMO)/photographs/annotations
	$(BIN)/python train_image_classifier.py --dataset_dir=$(DEMO)/animals --train_dir=$(DEMO)/train \
	  --model_name=mobilenet_v1_025 --train_image_size=64 --max_number_of_steps=1500 \
	  --optimizer=adam --opt_epsilon=1e-7 --learning_rate=0.006 --learning_rate_decay_type=cosine \
	  --end_learning_rate=0.00001 --batch_norm_decay=0.99 --log_every_n_steps=100
	$(BIN)/python eval_image_classifier.py --checkpoint_path=$(DEMO)/train --eval_dir=$(DEMO)/eval \
	  --dataset_split_name=validation
	@if [ $(DEMO)/export/export.json -nt $(DEMO)/train/checkpoint ]; then \
	  echo "$(DEMO)/export is newer than the checkpoint: reused."; \
	else set -x; $(BIN)/python export_model.py --checkpoint_path=$(DEMO)/train \
	  --output_dir=$(DEMO)/export --overwrite; fi
	$(BIN)/python classify_image.py --model=$(DEMO)/export \
	  --image=$$(ls $(DEMO)/photographs/images/* | head -n 1)
	@sed -n '/^<!-- after the demo -->/,/^<!-- end -->/{/^<!--/d;/^```/d;p;}' README.md

test: $(INSTALLED)  ## The whole suite
	@$(BIN)/python -m pytest --numprocesses=auto --maxprocesses=4 --dist=loadfile --no-loadscope-reorder

full: $(INSTALLED)    ## The long forms of tests that the suite runs for a few
	@$(BIN)/python -m pytest -m full --numprocesses=auto --maxprocesses=4 --dist=load

faults: $(INSTALLED)  ## Kills at hundreds of moments, full and failing disks, data that changes; long
	@$(BIN)/python -m pytest -m faults -o faulthandler_timeout=0 tests/faults --numprocesses=auto --maxprocesses=4 --dist=load

soak: $(INSTALLED)  ## Half an hour of training, evaluation and demo at once: memory, files, threads
	@$(BIN)/python -m benchmarks.soak

lint: $(INSTALLED)  ## Style and format
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

fuzz: $(INSTALLED)  ## 100,000 unsound files for each reader (INPUTS=…, SEED=…): hours
	@$(BIN)/python -m pytest -m fuzz -o faulthandler_timeout=0 -p no:xdist -q tests/test_fuzz.py tests/test_unusual_classes.py \
	  --fuzz_inputs=$(or $(INPUTS),100000) --fuzz_seed=$(or $(SEED),0)

bench: $(INSTALLED)  ## The benchmarks that need nothing but this repository
	@$(BIN)/python -m benchmarks.run

licences: $(INSTALLED)  ## The licence of each pinned package
	@$(BIN)/python -m runs.licences

audit: $(INSTALLED)  ## Known vulnerabilities of the pins; asks PyPI, with pip-audit in an environment of its own
	@$(PYTHON) -m venv build/audit
	@build/audit/bin/python -m pip install --quiet --disable-pip-version-check pip-audit
	@build/audit/bin/pip-audit --strict --disable-pip --no-deps --requirement constraints.txt

clean:           ## Remove what the commands above made
	rm -rf $(VENV) demo_output build *.egg-info .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
