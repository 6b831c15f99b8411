# Every target first sets up what it needs in .venv; `make train` and `make test` are all that a newcomer needs to type.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed
EXPORT_INSTALLED := .venv/.export-installed
DEMO_INSTALLED := .venv/.demo-installed
SAY := $(BIN)/python -m finegym.commands.first_run
# Without a GPU, two processes of one thread each train the encoders. SlowOnly's recipe takes one process.
PROCESSES ?= $(shell command -v nvidia-smi >/dev/null || [ "$$(getconf _NPROCESSORS_ONLN)" -lt 2 ] && echo 1 || echo 2)
TRAIN := $(BIN)/python -m torch.distributed.run --standalone --nproc_per_node $(PROCESSES) train.py
WORKERS ?= 2
IN_PARALLEL := -n $(WORKERS) --dist worksteal
BENCHES := synthgym encoders_study grid slowonly decode features resume explanations flow table3 throughput

.PHONY: install train test fuzz test-kernels test-slow lint bench $(addprefix bench-,$(BENCHES)) bench-gpu clean

install: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed, this is %s: make PYTHON=python3.12 ..." % sys.version.split()[0])'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install -q --disable-pip-version-check -c constraints.txt -e '.[test]'
	touch $@

# Render SynthGym, train SlowOnly, and train both encoders on its features; resumes after an interruption.
train: $(INSTALLED)
	@$(SAY) plan
	@$(SAY) 1
	$(BIN)/python -m finegym synthgym data/synthgym
	@$(SAY) 2
	$(BIN)/python train.py --config configuration/synthgym/slowonly.yaml
	@$(SAY) 3
	$(TRAIN) --config configuration/synthgym/vision_encoder.yaml
	@$(SAY) 4
	$(TRAIN) --config configuration/synthgym/video_text.yaml
	$(BIN)/python -m finegym table outputs/synthgym
	@$(SAY) next

test: $(INSTALLED)
	$(BIN)/ruff check --quiet .
	$(BIN)/ruff format --check --quiet .
	$(BIN)/lint-imports
	$(BIN)/python -m tests.hf_common.common_tests
	$(BIN)/python -m pytest $(IN_PARALLEL)

# Run the suite with other kernels of torch, oneDNN, MKL and NumPy than this processor's own: half an hour.
test-kernels: $(INSTALLED)
	$(BIN)/python -m tests.kernels $(IN_PARALLEL)

test-slow: $(DEMO_INSTALLED)
	$(BIN)/python -m pytest -m slow

lint: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/lint-imports

# Try ten thousand mutated videos and a hundred thousand mutated files of every other kind; resumes where it stopped.
fuzz: $(EXPORT_INSTALLED)
	$(BIN)/python -m benchmarks.robustness

bench: $(addprefix bench-,$(BENCHES))

$(DEMO_INSTALLED): $(EXPORT_INSTALLED)
	$(BIN)/pip install -q --disable-pip-version-check -c constraints.txt -e '.[demo]'
	touch $@

$(EXPORT_INSTALLED): $(INSTALLED)
	$(BIN)/pip install -q --disable-pip-version-check -c constraints.txt -e '.[test,bench,export]'
	touch $@

$(addprefix bench-,$(BENCHES)): bench-%: $(EXPORT_INSTALLED)
	$(BIN)/python -m benchmarks.$*

# Nine minutes on a machine with a GPU; needs torch and what `finegym` needs, nothing of the network.
bench-gpu: $(INSTALLED)
	$(BIN)/python -m benchmarks.gpu

clean:
	rm -rf .venv build .ruff_cache .pytest_cache
