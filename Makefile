# `make demo` sets up and shows the main job on the embedded device, `make test` sets up and runs every check but those of
# `make test-raw`, which builds a kernel for them, `make bench` measures.

VENV := .venv
BIN := $(VENV)/bin
NATIVE := $(wildcard _native/*.c _native/*.h _native/*.py) setup.py pyproject.toml
RESULTS := .cache/results
BENCHMARKS := null_device today passthrough polling features
# In compat mode type checkers find an editable install as well.
PIP_INSTALL := $(BIN)/pip install --quiet --config-settings editable_mode=compat --editable
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# The commands that tests run find this environment first, as in an activated one.
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: demo test lint test-host test-vm test-faults kernels test-raw bench clean

demo: $(VENV)/.demo
	@$(BIN)/aionvme demo
	@echo
	@echo "To go on from here: . $(VENV)/bin/activate"

test: lint test-host test-vm
	@echo "== tests by path"
	@$(BIN)/python -m tests.paths $(RESULTS)/host.json $(RESULTS)/pure.json $(RESULTS)/guest-*.json $(RESULTS)/placement/guest-*.json
	@$(BIN)/python -m tests.features --check $(RESULTS)/guest-*.json $(RESULTS)/placement/guest-*.json

lint: $(VENV)/.test
	@echo "== ruff and mypy"
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/mypy

test-host: $(VENV)/.test
	@echo "== tests on this machine: the codec, the emulated device, the real ring, the command line"
	@mkdir -p $(RESULTS)
	@AIONVME_VM_RESULTS=$(CURDIR)/$(RESULTS) $(BIN)/python -m pytest -q
	@echo "== once more what awaits, with the hot path in pure Python"
	@AIONVME_PURE=1 AIONVME_VM_RESULTS=$(CURDIR)/$(RESULTS) $(BIN)/python -m pytest -q tests/api tests/loops tests/native \
		--deselect tests/native/test_core_c.py --deselect tests/native/test_ring_queue.py

# The kernels of Debian's that there are: 6.1, 6.12, newest. `make test-vm KERNEL=6.12` takes one of them. Two at a time, since an
# emulated machine keeps one processor busy.
KERNEL := 6.1 newest
GUEST_PYTEST := $(BIN)/python -m pytest -q -p no:cacheprovider
test-vm: $(VENV)/.test
	@rm -rf $(RESULTS)/guest-*.json $(RESULTS)/placement
	@$(MAKE) --no-print-directory --jobs=2 --output-sync=target $(addprefix guest-,$(KERNEL)) \
		$(if $(filter 6.1,$(KERNEL)),guest-6.1-placement)

guest-%:
	@echo "== the API in a virtual machine, against a real NVMe driver and QEMU's controllers: Linux $*"
	@mkdir -p $(RESULTS)
	@AIONVME_VM_RESULTS=$(CURDIR)/$(RESULTS) $(BIN)/python -m tests.vm --kernel $* --timeout 2400 -- \
		$(GUEST_PYTEST) tests/api tests/guest

# Linux 6.1 runs with the QEMU of Debian 12, whose controllers have no Flexible Data Placement: that once more, with a newer one.
guest-6.1-placement:
	@echo "== Flexible Data Placement: Linux 6.1"
	@mkdir -p $(RESULTS)/placement
	@AIONVME_VM_RESULTS=$(CURDIR)/$(RESULTS)/placement $(BIN)/python -m tests.vm --kernel 6.1 --newer-qemu -- \
		$(GUEST_PYTEST) tests/guest/test_fdp.py tests/guest/test_placement.py

# Whether the tests of faults always pass: each of them many times.
ROUNDS := 20
test-faults: $(VENV)/.test
	@rm -rf $(RESULTS)/faults
	@$(MAKE) --no-print-directory --jobs=2 --output-sync=target $(addprefix faults-,$(KERNEL))

faults-%:
	@echo "== every test of faults, $(ROUNDS) times: Linux $*"
	@mkdir -p $(RESULTS)/faults
	@AIONVME_FAULT_ROUNDS=$(ROUNDS) AIONVME_VM_RESULTS=$(CURDIR)/$(RESULTS)/faults $(BIN)/python -m tests.vm --kernel $* \
		--timeout 7200 -- $(GUEST_PYTEST) tests/guest/test_faults_*.py

# What works on which kernel, docs/kernels.md, from the tests on each of them, those of faults being repeated on the usual ones.
kernels:
	@$(MAKE) --no-print-directory test-vm KERNEL="6.1 6.12 newest"
	@$(MAKE) --no-print-directory test-faults
	@$(BIN)/python -m tests.features $(RESULTS)/guest-*.json $(RESULTS)/*/guest-*.json

# The kernel in it is that of _native/kernel: built by the first step (some minutes), and found again by all that follow.
test-raw: $(VENV)/.test
	@scripts/packages kernel
	@echo "== the kernel with raw queues"
	@_native/kernel/build
	@echo "== its own test: raw queues without the library"
	@$(CC) -O2 -Wall -pthread -o .cache/kernel/rawq_test _native/kernel/test/rawq_test.c
	@$(BIN)/python -m tests.vm --kernel raw --timeout 1800 -- .cache/kernel/rawq_test
	@echo "== the API tests over raw queues, and those of raw queues alone"
	@mkdir -p $(RESULTS)
	@AIONVME_VM_RESULTS=$(CURDIR)/$(RESULTS) $(BIN)/python -m tests.vm --kernel raw --raw-queues 4 --timeout 1800 -- \
		$(BIN)/python -m pytest -q -p no:cacheprovider tests/api tests/raw
	@$(BIN)/python -m tests.paths $(RESULTS)/raw.json
	@echo "== what a read costs on them"
	@$(BIN)/python -m benchmarks.raw_queue --check

# Measures little of everything, to see that it runs and what order of things to expect. The kernel of the virtual machine is that
# of _native/kernel, built where it is not there (some minutes); docs/benchmarks.md says how to measure for good.
bench: $(VENV)/.bench
	@_native/kernel/build >/dev/null
	@for name in $(BENCHMARKS); do $(BIN)/python -m benchmarks.$$name --quick || exit; done
	@$(BIN)/python -m benchmarks.raw_queue --check
	@echo "== with figures in .cache/bench"

$(VENV)/.demo: $(NATIVE)
	@scripts/packages run
	@echo "== building aionvme into $(VENV)"
	@python3 -m venv $(VENV)
	@$(PIP_INSTALL) '.[cli,trio,plots]'
	@touch $@

$(VENV)/.test: $(NATIVE)
	@scripts/packages test
	@echo "== building aionvme and installing what its tests need into $(VENV)"
	@python3 -m venv $(VENV)
	@$(PIP_INSTALL) '.[cli,test]'
	@touch $@ $(VENV)/.demo

$(VENV)/.bench: $(VENV)/.test
	@scripts/packages bench
	@echo "== installing what is compared with into $(VENV)"
	@$(PIP_INSTALL) '.[cli,test,bench]'
	@touch $@

clean:
	rm -rf $(VENV) .cache build *.egg-info aionvme/*.so aionvme/_core.c
