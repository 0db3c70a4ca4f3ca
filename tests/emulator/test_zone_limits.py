"""Maximum Open and Maximum Active Resources (Zoned Namespace Command Set 1.1, section 2.1.1.4.1)."""

from collections.abc import Callable

import pytest

from aionvme.emulator import Device
from aionvme.nvme import nvm, zoned
from aionvme.nvme.opcodes import ZoneSendAction

from .host import run, zones

Open = Callable[[str], Device]
ZSZE = 8
EMPTY, IMPLICIT, EXPLICIT, CLOSED, FULL = 0x1, 0x2, 0x3, 0x4, 0xE


def write(device: Device, zone: int) -> int:
    """Append a block to a zone."""
    return run(device, zoned.zone_append(zone * ZSZE, 1), bytes(512)).status


def send(device: Device, action: ZoneSendAction, zone: int = 0, *, select_all: bool = False) -> int:
    """Status of a Zone Management Send."""
    return run(device, zoned.zone_management_send(action, zone * ZSZE, select_all=select_all)).status


def zone_states(device: Device) -> list[int]:
    """State of every zone, as reported."""
    return [zs for zs, _ in zones(device)]


@pytest.fixture
def device(open_device: Open) -> Device:
    """Eight zones, four of them active at most and two open."""
    return open_device("emu:zns?zones=8&zone_size=4KiB&lba=512&mar=4&mor=2")


def test_too_many_explicit_opens(device: Device) -> None:
    """Explicitly opened zones are never closed for another: 41BEh, as a real controller gave."""
    assert [send(device, ZoneSendAction.OPEN, zone) for zone in range(3)] == [0, 0, 0x41BE]
    assert write(device, 2) == 0x41BE
    assert zone_states(device)[:3] == [EXPLICIT, EXPLICIT, EMPTY]


def test_the_zone_opened_implicitly_for_longest_is_closed_to_make_room(device: Device) -> None:
    """Writing to one zone more closes the one that became implicitly opened first, not the one written last."""
    for zone in (1, 0, 1):
        assert write(device, zone) == 0
    assert write(device, 2) == 0
    assert zone_states(device)[:3] == [IMPLICIT, CLOSED, IMPLICIT]
    assert write(device, 3) == 0
    assert zone_states(device)[:4] == [CLOSED, CLOSED, IMPLICIT, IMPLICIT]


def test_an_explicit_open_makes_room_too(device: Device) -> None:
    """An implicitly opened zone gives way to an explicit open."""
    assert [write(device, 0), send(device, ZoneSendAction.OPEN, 1), send(device, ZoneSendAction.OPEN, 2)] == [0, 0, 0]
    assert zone_states(device)[:3] == [CLOSED, EXPLICIT, EXPLICIT]


def test_opening_an_open_zone_needs_no_more_resources(device: Device) -> None:
    """At the limit an implicitly opened zone can still become explicitly opened, and stays written to."""
    assert [write(device, 0), write(device, 1)] == [0, 0]
    assert [send(device, ZoneSendAction.OPEN, 0), send(device, ZoneSendAction.OPEN, 1), write(device, 0)] == [0, 0, 0]
    assert zone_states(device)[:2] == [EXPLICIT, EXPLICIT]


def test_too_many_active_zones(device: Device) -> None:
    """Closed zones stay active: with four of them an empty one can be neither opened nor written, 41BDh."""
    assert [write(device, zone) for zone in range(4)] == [0] * 4
    assert send(device, ZoneSendAction.CLOSE, select_all=True) == 0
    assert (write(device, 4), send(device, ZoneSendAction.OPEN, 4)) == (0x41BD, 0x41BD)
    assert zone_states(device) == [CLOSED] * 4 + [EMPTY] * 4
    assert write(device, 0) == 0


@pytest.mark.parametrize("action", [ZoneSendAction.FINISH, ZoneSendAction.RESET])
def test_full_and_empty_zones_hold_no_resources(device: Device, action: ZoneSendAction) -> None:
    """Finish and reset give back what the zone held."""
    for _ in range(3):
        assert [write(device, zone) for zone in range(4)] == [0] * 4
        assert [send(device, action, zone) for zone in range(4)] == [0] * 4
        assert send(device, ZoneSendAction.RESET, select_all=True) == 0
    assert [send(device, ZoneSendAction.OPEN, zone) for zone in range(2)] == [0, 0]


def test_a_zone_written_full_gives_its_resources_back(device: Device) -> None:
    """Filling a zone frees what it held, once for each zone."""
    for zone in range(8):
        assert run(device, nvm.write(zone * ZSZE, ZSZE), bytes(4096)) == (0, 0)
    assert zone_states(device) == [FULL] * 8


def test_finishing_an_empty_zone_needs_none(device: Device) -> None:
    """Empty to full takes no resources, even where there are none left."""
    assert [send(device, ZoneSendAction.OPEN, zone) for zone in range(2)] == [0, 0]
    assert send(device, ZoneSendAction.FINISH, 2) == 0


def test_opening_all_closed_zones_is_all_or_nothing(device: Device) -> None:
    """More closed zones than can be open: Too Many Open Zones, and none is opened."""
    assert [write(device, zone) for zone in range(3)] == [0] * 3
    assert send(device, ZoneSendAction.CLOSE, select_all=True) == 0
    assert send(device, ZoneSendAction.OPEN, select_all=True) == 0x41BE
    assert zone_states(device)[:3] == [CLOSED] * 3
    assert send(device, ZoneSendAction.FINISH, 0) == 0
    assert send(device, ZoneSendAction.OPEN, select_all=True) == 0
    assert zone_states(device)[:3] == [FULL, EXPLICIT, EXPLICIT]


def test_no_limits(open_device: Open) -> None:
    """MAR and MOR 0: every zone can be open at once."""
    device = open_device("emu:zns?zones=8&zone_size=4KiB&lba=512")
    assert [send(device, ZoneSendAction.OPEN, zone) for zone in range(8)] == [0] * 8
