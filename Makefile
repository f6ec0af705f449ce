# make demo    set up, train the embedded model on the embedded screens, open runs/*/report.html
# make test    the whole quick test suite
PYTHON_VERSION ?= 3.11
VENV ?= .venv
PY = $(VENV)/bin/python
RANKS ?= 2
VLRL_FAULT_SEED ?= 0
STAMP = $(VENV)/.installed

export HF_HUB_OFFLINE ?= 1
export DS_ACCELERATOR ?= cpu
export TOKENIZERS_PARALLELISM ?= false

.PHONY: demo setup test test-slow test-faults lint types wheel check clean

$(STAMP): requirements/all.txt pyproject.toml scripts/setup.sh
	@scripts/setup.sh $(VENV) $(PYTHON_VERSION)
	@touch $@

setup: $(STAMP)

demo: $(STAMP)
	@rm -rf runs/tiny_gui
	PATH="$(CURDIR)/$(VENV)/bin:$$PATH" $(VENV)/bin/deepspeed --num_gpus $(RANKS) \
		scripts/train_grpo.py --config configs/gui_grounding/tiny.yaml

# Two processes with one file at a time each, since one alone leaves a core idle, and one thread each: with
# two threads they wait for each other and the suite takes twice as long. In the order of tests/conftest.py.
test: $(STAMP)
	OMP_NUM_THREADS=1 $(PY) -m pytest -m "not slow and not faults" -n 2 --dist loadgroup --no-loadscope-reorder \
		--durations=10

test-slow: $(STAMP)
	$(PY) -m pytest -m slow --durations=10

# Kills, damaged files, configs and checkpoints, false servers and clients; prints a table at its end.
# Another seed: make test-faults VLRL_FAULT_SEED=7
test-faults: $(STAMP)
	OMP_NUM_THREADS=1 VLRL_FAULT_SEED=$(VLRL_FAULT_SEED) $(PY) -m pytest tests/faults -n 2 \
		--dist loadgroup --no-loadscope-reorder --durations=10

lint: $(STAMP)
	$(VENV)/bin/ruff check . && $(VENV)/bin/ruff format --check .

# As installed: rewards, tasks and eval lie inside the vlrl namespace there.
types: $(STAMP)
	@rm -rf build/types && mkdir -p build/types && cp -r vlrl build/types/
	@cp -r rewards tasks eval build/types/vlrl/
	cd build/types && $(abspath $(VENV))/bin/mypy --config-file ../../pyproject.toml -p vlrl

check: lint types test

wheel: $(STAMP)
	scripts/check_wheel.sh $(VENV)

clean:
	rm -rf runs build dist *.egg-info
