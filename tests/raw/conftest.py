"""Raw queues where they are: in the guest, on the kernel of _native/kernel. On other kernels there is nothing here to run."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from aionvme import devices
from aionvme.queues.raw import raw_queues
from tests.conftest import RAW, node

if not RAW:
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture
def nvm() -> str:
    """The namespace of 512-byte blocks."""
    return node(1)


@pytest.fixture
def slow() -> str:
    """The namespace whose backend answers four commands a second."""
    return node(4)


@pytest.fixture
def total(nvm: str) -> int:
    """How many raw queues the controller has."""
    return numbers(nvm)[0]


def numbers(target: str) -> tuple[int, int]:
    """How many raw queues a target's controller has, and how many of them are free."""
    found = raw_queues(devices.find(Path(target)))
    assert found is not None
    return found


@pytest.fixture(autouse=True)
def every_queue_comes_back(nvm: str, total: int) -> Iterator[None]:
    """No test leaves with a queue."""
    assert numbers(nvm) == (total, total)
    yield
    assert numbers(nvm) == (total, total)
