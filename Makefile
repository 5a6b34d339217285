# Everything runs in .venv, made from PYTHON (3.11 or 3.12) on first use.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# A release that installs without CUDA where one is at hand; any of the last two years does.
TORCH ?= torch==2.13.0

.PHONY: demo test test-long chaos test-tpu interop bench lint clean

demo: $(VENV)/.installed  ## pre-train, fine-tune and evaluate on embedded synthetic data
	$(BIN)/python -m big_ssl.demo --workdir=runs/demo

test: $(VENV)/.installed  ## all tests, two files at a time
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

test-long: $(VENV)/.installed  ## those that train for minutes: the demo's chain, real samples
	$(BIN)/python -m pytest -n 2 --dist loadfile -m long

chaos: $(VENV)/.installed  ## twenty times killed, four processes, disks that fail
	$(BIN)/python -m pytest -n 2 --dist loadfile -m chaos

test-tpu: $(VENV)/.libtpu  ## those that compile for TPUs, of which none need be there
	JAX_PLATFORMS=cpu PYTHONPATH=$(VENV)/libtpu $(BIN)/python -m pytest -m tpu tests/planning

interop: $(VENV)/.interop  ## PyTorch, timm, ONNX: with them, make test compares with theirs too

bench: $(VENV)/.bench  ## beside lightly and others on this CPU, about half an hour
	$(BIN)/python -m benchmarks --json=benchmarks/results.json

lint: $(VENV)/.installed  ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

$(VENV)/.installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "error: $(PYTHON) is older than 3.11; name another: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 2; }
	@echo "making $(VENV): about three minutes"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	PYTHONWARNINGS=ignore $(BIN)/python -m pip install --quiet --editable .[test]
	@touch $@

$(VENV)/.interop: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --editable .[interop] $(TORCH)
	@touch $@

$(VENV)/.bench: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --editable .[bench] $(TORCH)
	@touch $@

# Beside the environment, not in it: JAX would look for a TPU at every start.
$(VENV)/.libtpu: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --no-deps --target $(VENV)/libtpu "$$($(BIN)/python -c 'import importlib.metadata as m, re; print(next(re.match(r"libtpu[^;]*", r)[0] for r in m.requires("jax") if r.startswith("libtpu")).strip())')"
	@touch $@

clean:
	rm -rf $(VENV) runs build *.egg-info .pytest_cache .mypy_cache .ruff_cache
