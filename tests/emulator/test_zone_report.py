"""Zone Management Receive (Zoned Namespace Command Set 1.1, section 3.4.2)."""

from collections.abc import Callable

import pytest

from aionvme.emulator import Device
from aionvme.emulator.zone_states import Event
from aionvme.nvme import zoned
from aionvme.nvme.command import Command
from aionvme.nvme.opcodes import ReportingOptions, ZoneReceiveAction, ZoneSendAction

from .host import run, strike

Open = Callable[[str], Device]
ZSZE = 8


def report(
    device: Device,
    slba: int,
    len_bytes: int,
    options: ReportingOptions = ReportingOptions.ALL,
    partial: bool = False,
) -> bytes:
    """A report, read over a buffer that held something else."""
    data = bytearray(b"\xee" * len_bytes)
    command = zoned.zone_management_receive(
        ZoneReceiveAction.REPORT_ZONES, slba, len_bytes, options=options, partial=partial
    )
    assert run(device, command, data) == (0, 0)
    return bytes(data)


def count(octets: bytes) -> int:
    """Number of Zones, the first 8 bytes of the header."""
    return int.from_bytes(octets[:8], "little")


def zslbas(octets: bytes) -> list[int]:
    """Start addresses of the descriptors that are there, bytes 23:16 of each; type 0 is no descriptor."""
    descriptors = [octets[at : at + 64] for at in range(64, len(octets) - 63, 64)]
    return [int.from_bytes(each[16:24], "little") for each in descriptors if each[0]]


@pytest.fixture
def device(open_device: Open) -> Device:
    """Zones in every state: empty, implicitly and explicitly opened, closed, full, read only, offline, empty."""
    device = open_device("emu:zns?zones=8&zone_size=4KiB&zone_capacity=3KiB&lba=512")
    for index in (1, 3):
        assert run(device, zoned.zone_append(index * ZSZE, 2), bytes(1024)).status == 0
    for index, action in ((2, ZoneSendAction.OPEN), (3, ZoneSendAction.CLOSE), (4, ZoneSendAction.FINISH)):
        assert run(device, zoned.zone_management_send(action, index * ZSZE)).status == 0
    strike(device, 5, Event.WEAR_OUT)
    strike(device, 6, Event.FAIL)
    return device


def test_descriptors_byte_by_byte(device: Device) -> None:
    """Type, state, capacity, start and write pointer are where figure 37 has them; the rest is zero."""
    octets = report(device, 0, 64 + 8 * 64)
    none = b"\xff" * 8
    expected = [
        (0x10, (0).to_bytes(8, "little")),
        (0x20, (10).to_bytes(8, "little")),
        (0x30, (16).to_bytes(8, "little")),
        (0x40, (26).to_bytes(8, "little")),
        (0xE0, none),
        (0xD0, none),
        (0xF0, none),
        (0x10, (56).to_bytes(8, "little")),
    ]
    assert octets[:64] == (8).to_bytes(8, "little") + bytes(56)
    for index, (zs, wp) in enumerate(expected):
        zslba = (index * ZSZE).to_bytes(8, "little")
        descriptor = bytes([0x02, zs]) + bytes(6) + (6).to_bytes(8, "little") + zslba + wp + bytes(32)
        assert octets[64 + index * 64 : 128 + index * 64] == descriptor


@pytest.mark.parametrize(
    ("option", "zones"),
    [
        (ReportingOptions.ALL, [0, 8, 16, 24, 32, 40, 48, 56]),
        (ReportingOptions.EMPTY, [0, 56]),
        (ReportingOptions.IMPLICITLY_OPENED, [8]),
        (ReportingOptions.EXPLICITLY_OPENED, [16]),
        (ReportingOptions.CLOSED, [24]),
        (ReportingOptions.FULL, [32]),
        (ReportingOptions.READ_ONLY, [40]),
        (ReportingOptions.OFFLINE, [48]),
    ],
)
def test_reporting_options(device: Device, option: ReportingOptions, zones: list[int]) -> None:
    """Each option lists the zones in its state, and counts those."""
    octets = report(device, 0, 4096, option)
    assert (count(octets), zslbas(octets)) == (len(zones), zones)


@pytest.mark.parametrize(("slba", "first"), [(0, 0), (8, 8), (15, 8), (55, 48), (63, 56)])
def test_a_report_starts_with_the_zone_of_the_address(device: Device, slba: int, first: int) -> None:
    """Any address inside a zone stands for it, and zones before it are neither listed nor counted."""
    octets = report(device, slba, 4096)
    assert zslbas(octets) == list(range(first, 64, ZSZE))
    assert count(octets) == (64 - first) // ZSZE


def test_the_count_of_a_full_and_of_a_partial_report(device: Device) -> None:
    """With room for three, a full report counts all the zones that match and a partial one those it holds."""
    full = report(device, 8, 64 + 3 * 64 + 60)
    partial = report(device, 8, 64 + 3 * 64 + 60, partial=True)
    assert (count(full), count(partial)) == (7, 3)
    assert zslbas(full) == zslbas(partial) == [8, 16, 24]
    assert full[64:] == partial[64:]
    assert full[-60:] == bytes(60)


def test_a_header_alone(device: Device) -> None:
    """64 bytes hold no descriptor: the zones are counted, and in a partial report there are none."""
    assert count(report(device, 0, 64)) == 8
    assert count(report(device, 0, 64, partial=True)) == 0


def test_a_partial_report_with_room_to_spare(device: Device) -> None:
    """Nothing is missing: both counts are the same."""
    assert report(device, 0, 4096, partial=True) == report(device, 0, 4096)


@pytest.mark.parametrize(
    ("cdw10", "cdw12", "cdw13", "status"),
    [
        (64, 15, 0x000, 0x4080),  # an address beyond the namespace
        (0, 14, 0x000, 0x4002),  # no room for the header
        (0, 0, 0x000, 0x4002),
        (0, 1023, 0x001, 0x4002),  # an extended report, without descriptor extensions
        (0, 1023, 0x002, 0x4002),  # no such action
        (0, 1023, 0x800, 0x4002),  # no such option
        (0, 0xFFFF_FFFF, 0x000, 0x4002),  # more than MDTS
        (0, 1024, 0x000, 0x400F),  # more than the host's memory
    ],
)
def test_reports_that_are_refused(device: Device, cdw10: int, cdw12: int, cdw13: int, status: int) -> None:
    """The host's memory stays as it was."""
    data = bytearray(b"\xee" * 4096)
    assert run(device, Command(0x7A, cdw10=cdw10, cdw12=cdw12, cdw13=cdw13), data) == (status, 0)
    assert data == b"\xee" * 4096


def test_many_zones(open_device: Open) -> None:
    """A report pages through more zones than one transfer holds."""
    device = open_device("emu:zns?zones=1000&zone_size=4KiB&lba=4096")
    found: list[int] = []
    while len(found) < 1000:
        octets = report(device, len(found), 4096, partial=True)
        found += zslbas(octets)
    assert found == list(range(1000))
    assert count(report(device, 0, 4096)) == 1000
