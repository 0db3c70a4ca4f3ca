"""Fixtures of the driver's tests: drivers that are closed when the test ends. The event loops: tests/conftest.py."""

from collections.abc import AsyncIterator, Callable

import pytest

from aionvme.driver.driver import Driver
from tests.native.rings import NullQueue

OpenDriver = Callable[[NullQueue], Driver]


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
