"""Nothing here runs outside of the guest, nor what its machine has no device for."""

import os

import pytest

from tests.conftest import IN_VM, controller_node

if not IN_VM:
    collect_ignore_glob = ["test_*.py"]
else:
    try:
        controller_node("fdp")
    except LookupError:  # QEMU has it from 8.0 on
        collect_ignore = ["test_fdp.py", "test_placement.py"]

FAULT_ROUNDS = int(os.environ.get("AIONVME_FAULT_ROUNDS", "1"))
"""How often each test of faults runs, for who wants to know whether it always passes."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Repeat the tests of faults."""
    if FAULT_ROUNDS > 1 and metafunc.module.__name__.rpartition(".")[2].startswith("test_faults_"):
        metafunc.fixturenames.append("fault_round")
        metafunc.parametrize(
            "fault_round",
            [
                pytest.param(i, marks=pytest.mark.feature(f"every test of faults, {FAULT_ROUNDS} times"))
                for i in range(FAULT_ROUNDS)
            ],
        )


@pytest.fixture
def fault_round() -> None:
    """Which time it is."""
