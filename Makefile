# Two commands: `make demo` sets up and shows the main job on the embedded device, `make test` sets up and runs every check.

VENV := .venv
BIN := $(VENV)/bin
NATIVE := $(wildcard _native/*.c _native/*.h _native/*.py) setup.py pyproject.toml
RESULTS := .cache/results
# In compat mode type checkers find an editable install as well.
PIP_INSTALL := $(BIN)/pip install --quiet --config-settings editable_mode=compat --editable
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# The commands that tests run find this environment first, as in an activated one.
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: demo test lint test-host test-vm clean

demo: $(VENV)/.demo
	@$(BIN)/aionvme demo
	@echo
	@echo "To go on from here: . $(VENV)/bin/activate"

test: lint test-host test-vm
	@echo "== tests by path"
	@$(BIN)/python -m tests.paths $(RESULTS)

lint: $(VENV)/.test
	@echo "== ruff and mypy"
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/mypy

test-host: $(VENV)/.test
	@echo "== tests on this machine: the codec, the emulated device, the real ring, the command line"
	@mkdir -p $(RESULTS)
	@AIONVME_VM_RESULTS=$(CURDIR)/$(RESULTS) $(BIN)/python -m pytest -q

test-vm: $(VENV)/.test
	@echo "== the API tests in a virtual machine, against a real NVMe driver and QEMU's controller"
	@mkdir -p $(RESULTS)
	@AIONVME_VM_RESULTS=$(CURDIR)/$(RESULTS) $(BIN)/python -m tests.vm -- $(BIN)/python -m pytest -q -p no:cacheprovider tests/api

$(VENV)/.demo: $(NATIVE)
	@scripts/packages run
	@echo "== building aionvme into $(VENV)"
	@python3 -m venv $(VENV)
	@$(PIP_INSTALL) '.[cli,trio]'
	@touch $@

$(VENV)/.test: $(NATIVE)
	@scripts/packages test
	@echo "== building aionvme and installing what its tests need into $(VENV)"
	@python3 -m venv $(VENV)
	@$(PIP_INSTALL) '.[cli,test]'
	@touch $@ $(VENV)/.demo

clean:
	rm -rf $(VENV) .cache build *.egg-info aionvme/_core.*.so aionvme/_core.c
