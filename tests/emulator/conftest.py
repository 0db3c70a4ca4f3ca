"""Fixtures of the emulated device's tests."""

from collections.abc import Callable, Iterator

import pytest

from aionvme.emulator import Device, parse_spec


@pytest.fixture
def open_device() -> Iterator[Callable[[str], Device]]:
    """Make devices from their description; they are closed when the test ends."""
    devices: list[Device] = []

    def make(text: str) -> Device:
        devices.append(Device(parse_spec(text)))
        return devices[-1]

    yield make
    for device in devices:
        device.close()
