"""Zone random write areas where no real controller is asked: other commands that write, worn-out zones, loss of power.

The rest is in tests/api/test_zone_extensions.py, on QEMU's controller too, and in test_zrwa_oracle.py against a model.
"""

from collections.abc import Callable
from pathlib import Path

import pytest

from aionvme.emulator import Device
from aionvme.emulator.zone_states import Event
from aionvme.nvme import nvm
from aionvme.nvme.command import Command

from .host import run, strike, zones

Open = Callable[[str], Device]
ZSZE = 8
SPEC = "emu:zns?zones=4&zone_size=4KiB&zone_capacity=3KiB&lba=512&zrwas=2KiB&zrwafg=1KiB&numzrwa=2"
CLOSED, READ_ONLY, OFFLINE, EXPLICIT, FULL = 0x4, 0xD, 0xF, 0x3, 0xE


def allocate(device: Device, zone: int) -> int:
    """Status of Open Zone with ZRWAA: action 3, bit 9."""
    return run(device, Command(0x79, cdw10=zone * ZSZE, cdw13=0x203)).status


def blocks(device: Device, zone: int) -> bytes:
    """The first byte of each block of a zone."""
    data = bytearray(ZSZE * 512)
    assert run(device, nvm.read(zone * ZSZE, ZSZE), data).status == 0
    return bytes(data[::512])


@pytest.fixture
def device(open_device: Open) -> Device:
    """Four zones, two of which may have an area of four blocks; the first has one."""
    device = open_device(SPEC)
    assert allocate(device, 0) == 0
    return device


def test_everything_that_writes_writes_into_the_window(device: Device) -> None:
    """Write Zeroes, Copy and Write Uncorrectable go where Write may go, and move the window where they go past it."""
    assert run(device, nvm.write(0, 4), b"".join(bytes([n]) * 512 for n in b"abcd")).status == 0
    assert run(device, nvm.write_zeroes(1, 1)).status == 0
    assert run(device, nvm.copy(3, 1), nvm.copy_ranges([(0, 1)])).status == 0
    assert blocks(device, 0) == b"a\0ca\0\0\0\0"
    assert zones(device)[0] == (EXPLICIT, 0)
    assert run(device, nvm.copy(4, 1), nvm.copy_ranges([(2, 1)])).status == 0
    assert blocks(device, 0) == b"a\0cac\0\0\0"
    assert zones(device)[0] == (EXPLICIT, 2)
    assert run(device, nvm.write_zeroes(1, 1)).status == 0x41BC
    assert run(device, nvm.write_uncorrectable(3, 1)).status == 0
    assert run(device, nvm.read(0, 4), bytearray(2048)).status == 0x4281
    assert run(device, nvm.write(3, 1), b"x" * 512).status == 0
    assert blocks(device, 0) == b"a\0cxc\0\0\0"


def test_a_mark_does_not_outlive_the_zone(device: Device) -> None:
    """Blocks declared bad before a reset can be read when the zone gets an area again."""
    assert run(device, nvm.write_uncorrectable(2, 2)).status == 0
    assert run(device, nvm.read(2, 1), bytearray(512)).status == 0x4281
    assert run(device, Command(0x79, cdw13=0x04)).status == 0
    assert allocate(device, 0) == 0
    assert blocks(device, 0) == bytes(8)


def test_deallocate_reaches_the_window(device: Device) -> None:
    """Blocks above the write pointer read as zeroes, and can be written on."""
    assert run(device, nvm.write(0, 3), b"abc".ljust(1536, b"x")).status == 0
    assert run(device, nvm.dataset_management(1, deallocate=True), nvm.dsm_ranges([(0, 8)])).status == 0
    assert blocks(device, 0) == bytes(8)
    assert run(device, nvm.write(1, 1), b"y" * 512).status == 0
    assert blocks(device, 0) == b"\0y" + bytes(6)


@pytest.mark.parametrize(("event", "state"), [(Event.WEAR_OUT, READ_ONLY), (Event.FAIL, OFFLINE)])
def test_a_zone_out_of_service_gives_its_area_back(device: Device, event: Event, state: int) -> None:
    """A worn-out zone can still be read, window and all; the area is free for another zone."""
    assert run(device, nvm.write(3, 1), b"z" * 512).status == 0
    assert [allocate(device, 1), allocate(device, 2)] == [0, 0x41B7]
    strike(device, 0, event)
    assert zones(device)[0] == (state, 2**64 - 1)
    assert allocate(device, 2) == 0
    if state == READ_ONLY:
        assert blocks(device, 0) == b"\0\0\0z\0\0\0\0"


def test_it_is_there_after_a_power_cycle(open_device: Open, tmp_path: Path) -> None:
    """A zone with an area comes back closed, with the area, what is in its window and the write pointer: also one to which
    nothing was written, or nothing committed."""
    text = f"{SPEC}&file={tmp_path}/image"
    first = open_device(text)
    assert [allocate(first, zone) for zone in (0, 1)] == [0, 0]
    assert run(first, nvm.write(2, 1), b"w" * 512).status == 0
    first.close()
    second = open_device(text)
    assert zones(second)[:3] == [(CLOSED, 0), (CLOSED, 8), (1, 16)]
    assert blocks(second, 0) == b"\0\0w\0\0\0\0\0"
    assert allocate(second, 2) == 0x41B7
    assert run(second, nvm.write(1, 1), b"v" * 512).status == 0
    assert run(second, Command(0x79, cdw10=3, cdw13=0x11)).status == 0
    assert zones(second)[0] == (2, 4)
    assert blocks(second, 0) == b"\0vw\0\0\0\0\0"
    assert run(second, Command(0x79, cdw13=0x02)).status == 0
    second.close()
    third = open_device(text)
    assert zones(third)[:2] == [(FULL, 2**64 - 1), (CLOSED, 8)]
    assert blocks(third, 0) == b"\0vw\0\0\0\0\0"
    assert allocate(third, 2) == 0
