"""Fixtures of the driver's tests: drivers that are closed when the test ends. The event loops: tests/conftest.py."""

import mmap
import os
import time
from collections.abc import AsyncIterator, Callable

import pytest

from aionvme.buffers import span_of
from aionvme.driver.driver import Driver
from tests.native.rings import NullQueue

OpenDriver = Callable[[NullQueue], Driver]


@pytest.fixture(autouse=True)
def memory_that_may_be_locked() -> None:
    """What an ordinary user may lock is given back some time after a ring closes: each test starts when it is there again."""
    if os.geteuid() == 0:
        return
    memory = mmap.mmap(-1, 6 << 20)  # of the 8 MiB that a user may lock unless configured otherwise
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            queue = NullQueue()
        except OSError:
            time.sleep(0.01)
            continue
        fits = queue.register(span_of(memory, writable=True).addr, len(memory)) is not None
        queue.close()
        time.sleep(0.05)
        if fits:
            return


@pytest.fixture
async def open_driver() -> AsyncIterator[OpenDriver]:
    """Make drivers over queues, on the test's event loop."""
    drivers: list[Driver] = []

    def make(queue: NullQueue) -> Driver:
        drivers.append(Driver(queue, "the device"))
        return drivers[-1]

    yield make
    for driver in drivers:
        await driver.aclose()
