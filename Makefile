# `make demo` and `make test` need only Python 3.10 or newer and make; everything else goes into .venv.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
OUT := out

.PHONY: help install demo test test-s3 lint bench bench-training bench-data bench-full-size bench-starter bench-edges study study-small chaos fuzz monitoring-demo clean

help:  ## this list
	@sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/make \1|\2/p' Makefile | column -t -s '|'

$(VENV)/installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[fid,heic,pretrained,dev]'
	touch $@

install: $(VENV)/installed  ## the environment in .venv (about 6 GB with PyTorch's CUDA build)

demo: $(VENV)/installed  ## draw a sample catalog, correct it, show where the images and the report are
	$(BIN)/python jobs/make_sample_catalog.py --output $(OUT)/sample --images 120 --training-photos 0 --overwrite
	$(BIN)/python jobs/correct_catalog.py --catalog $(OUT)/sample/catalog --reference $(OUT)/sample/reference \
		--output $(OUT)/corrected --overwrite

test: lint  ## lint, types and the whole test suite
	$(BIN)/python -m pytest -m "not ray" --numprocesses 2 --dist loadfile --durations 20
	$(BIN)/python -m pytest -m ray --numprocesses 2 --dist loadfile --durations 40

test-s3: $(VENV)/installed  ## storage tests on Ceph's S3 gateway too (Debian: radosgw ceph-mon ceph-osd curl)
	CEPH=1 $(BIN)/python -m pytest tests/pipelines/storage/test_storage_servers.py tests/pipelines/storage/test_s3.py tests/pipelines/storage/test_lock.py

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/installed  ## speed in one table of ratios: job, steps beside the generator, FID, training, growth, start (half an hour)
	$(BIN)/python -m tests.benchmarks.speed --output $(OUT)/speed.json

bench-training: $(VENV)/installed  ## what labels and unpaired images are worth
	$(BIN)/python -m tests.benchmarks.labels_matter
	$(BIN)/python -m tests.benchmarks.corrupted_pairs

bench-data: $(VENV)/installed  ## memory while 50,000 drawn photos are prepared; how good masks without weights are (on ../shared's photos)
	$(BIN)/python -m tests.benchmarks.preparation_memory --folder $(OUT)/preparation_memory
	$(BIN)/python -m tests.benchmarks.saliency_quality

bench-full-size: $(VENV)/installed  ## corrections at 1,000 to 2,000 pixels against exact targets, and their cost
	$(BIN)/python -m tests.benchmarks.full_size

bench-starter: $(VENV)/installed  ## what the starter publishes of held-back real photos (../shared's), beside what one would try first
	$(BIN)/python -m tests.benchmarks.starter_quality --output $(OUT)/starter_quality

bench-edges: $(VENV)/installed  ## what is left of the old ground in soft edges, against exact targets, and other ways (on ../shared's objects)
	$(BIN)/python -m tests.benchmarks.edges

study: $(VENV)/installed  ## do the paper's claims hold on ../shared's photos? Trains for days, from where it was; then docs/study.md
	$(BIN)/python -m tests.benchmarks.study queue
	$(BIN)/python -m tests.benchmarks.study tables

study-small: $(VENV)/installed  ## the same machinery on drawn scenes, in minutes, which says nothing about the method
	$(BIN)/python -m tests.benchmarks.study queue --small

chaos: $(VENV)/installed  ## 2,000 images corrected through kills and faults, and a ledger of every row (about an hour on two cores)
	$(BIN)/python -m tests.chaos --rows 2000

fuzz: $(VENV)/installed  ## 20,000 damaged and crossed image files through the decoder of uploads (a few minutes)
	$(BIN)/python -m tests.fuzz

monitoring-demo: $(VENV)/installed  ## dashboard and alerts, answered by a real Prometheus that scrapes a local run (Debian: prometheus)
	$(BIN)/python -m tests.infra.monitoring_demo

clean:  ## remove the environment and the demo's output
	rm -rf $(VENV) $(OUT)
