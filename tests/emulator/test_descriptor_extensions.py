"""Zone descriptor extensions (Zoned Namespace Command Set 1.1, section 2.1.1.3, section 3.4.2 and section 3.4.3)."""

from collections.abc import Callable
from pathlib import Path

import pytest

from aionvme.emulator import Device
from aionvme.emulator.zone_states import Event
from aionvme.nvme import nvm, zoned
from aionvme.nvme.command import Command
from aionvme.nvme.opcodes import ReportingOptions, ZoneReceiveAction, ZoneSendAction

from .host import run, strike, zones

Open = Callable[[str], Device]
SPEC = "emu:zns?zones=8&zone_size=4KiB&zone_capacity=3KiB&lba=512&zdes=128&mar=3&mor=2"
ZSZE = 8
EMPTY, IMPLICIT, EXPLICIT, CLOSED, READ_ONLY, FULL, OFFLINE = 0x1, 0x2, 0x3, 0x4, 0xD, 0xE, 0xF


def set_extension(device: Device, zone: int, content: bytes, *, select_all: bool = False) -> int:
    """Status of Set Zone Descriptor Extension."""
    action = ZoneSendAction.SET_ZONE_DESCRIPTOR_EXTENSION
    return run(device, zoned.zone_management_send(action, zone * ZSZE, select_all=select_all), content).status


def send(device: Device, action: ZoneSendAction, zone: int) -> int:
    """Status of a Zone Management Send without data."""
    return run(device, zoned.zone_management_send(action, zone * ZSZE)).status


def extended(device: Device, slba: int = 0, len_bytes: int = 4096, **more: object) -> bytes:
    """An extended report, over a buffer that held something else."""
    data = bytearray(b"\xee" * len_bytes)
    action = ZoneReceiveAction.EXTENDED_REPORT_ZONES
    assert run(device, zoned.zone_management_receive(action, slba, len_bytes, **more), data) == (0, 0)  # type: ignore[arg-type]
    return bytes(data)


def entry(octets: bytes, i: int) -> tuple[int, int, bytes]:
    """State, attributes and extension of the ``i``-th zone of an extended report: 64 bytes of descriptor, then 128."""
    at = 64 + i * 192
    return octets[at + 1] >> 4, octets[at + 2], octets[at + 64 : at + 192]


@pytest.fixture
def device(open_device: Open) -> Device:
    """Eight empty zones with extensions of 128 bytes."""
    return open_device(SPEC)


def test_an_empty_zone_is_closed_by_its_extension(device: Device) -> None:
    """EMPTY to CLOSED, ZDEV is bit 7 of ZA, and the data comes back in an extended report."""
    content = bytes(range(128))
    assert set_extension(device, 2, content) == 0
    octets = extended(device)
    assert octets[:64] == (8).to_bytes(8, "little") + bytes(56)
    assert [entry(octets, i) for i in range(4)] == [
        (EMPTY, 0, bytes(128)),
        (EMPTY, 0, bytes(128)),
        (CLOSED, 0x80, content),
        (EMPTY, 0, bytes(128)),
    ]
    assert octets[64 + 2 * 192 + 16 : 64 + 2 * 192 + 32] == (16).to_bytes(8, "little") * 2  # ZSLBA and WP
    assert octets[64 + 8 * 192 :] == bytes(4096 - 64 - 8 * 192)
    plain = bytearray(4096)
    assert run(device, zoned.zone_management_receive(ZoneReceiveAction.REPORT_ZONES, 0, 4096), plain).status == 0
    assert plain[64 + 2 * 64 + 2] == 0x80


@pytest.mark.parametrize(
    ("commands", "state"),
    [
        ([nvm.write(8, 1)], IMPLICIT),
        ([zoned.zone_management_send(ZoneSendAction.OPEN, 8)], EXPLICIT),
        (
            [zoned.zone_management_send(ZoneSendAction.OPEN, 8), zoned.zone_management_send(ZoneSendAction.CLOSE, 8)],
            CLOSED,
        ),
        ([zoned.zone_management_send(ZoneSendAction.FINISH, 8)], FULL),
        ([nvm.write(8, 6)], FULL),
    ],
)
def test_it_stays_until_the_zone_is_reset(device: Device, commands: list[Command], state: int) -> None:
    """Written, opened, closed, finished: the extension is still valid. A reset takes it away."""
    assert set_extension(device, 1, b"x" * 128) == 0
    for command in commands:
        assert run(device, command, bytes(512 * 6)).status == 0
    assert entry(extended(device), 1) == (state, 0x80, b"x" * 128)
    assert send(device, ZoneSendAction.RESET, 1) == 0
    assert entry(extended(device), 1) == (EMPTY, 0, bytes(128))
    assert set_extension(device, 1, b"y" * 128) == 0
    assert entry(extended(device), 1) == (CLOSED, 0x80, b"y" * 128)


@pytest.mark.parametrize("state", [IMPLICIT, EXPLICIT, CLOSED, READ_ONLY, FULL, OFFLINE])
def test_only_an_empty_zone_takes_one(device: Device, state: int) -> None:
    """Any other state: Invalid Zone State Transition, 41BFh, and an extension that was there stays as it was."""
    assert set_extension(device, 1, b"x" * 128) == 0
    if state in (IMPLICIT, EXPLICIT):
        assert run(device, nvm.write(8, 1), bytes(512)).status == 0
    if state == EXPLICIT:
        assert send(device, ZoneSendAction.OPEN, 1) == 0
    elif state == FULL:
        assert send(device, ZoneSendAction.FINISH, 1) == 0
    elif state in (READ_ONLY, OFFLINE):
        strike(device, 1, Event.WEAR_OUT if state == READ_ONLY else Event.FAIL)
    before = entry(extended(device), 1)
    assert before[0] == state
    assert set_extension(device, 1, b"y" * 128) == 0x41BF
    assert entry(extended(device), 1) == before
    assert before[2] == (bytes(128) if state == OFFLINE else b"x" * 128)


def test_it_takes_an_active_resource(device: Device) -> None:
    """With three zones active a fourth gets none: Too Many Active Zones, 41BDh. Open zones do not matter."""
    assert [send(device, ZoneSendAction.OPEN, zone) for zone in (6, 7)] == [0, 0]
    assert [set_extension(device, zone, bytes([zone]) * 128) for zone in (0, 1)] == [0, 0x41BD]
    assert entry(extended(device), 1) == (EMPTY, 0, bytes(128))
    assert send(device, ZoneSendAction.RESET, 7) == 0
    assert set_extension(device, 1, b"a" * 128) == 0


def test_what_is_refused(device: Device) -> None:
    """Select All and an address inside of a zone are invalid fields; less data than an extension is a data length error."""
    assert set_extension(device, 0, bytes(128), select_all=True) == 0x4002
    assert run(device, Command(0x79, cdw10=1, cdw13=0x10), bytes(128)).status == 0x4002
    assert set_extension(device, 0, bytes(127)) == 0x400F
    assert set_extension(device, 8, bytes(128)) == 0x4080
    assert zones(device) == [(EMPTY, zone * ZSZE) for zone in range(8)]


def test_a_report_holds_whole_entries(device: Device) -> None:
    """An entry is 192 bytes: 64 + 2 * 192 hold two, a byte less than three as well, and a full report counts all."""
    for partial in (False, True):
        octets = extended(device, ZSZE, 64 + 3 * 192 - 4, partial=partial)
        assert int.from_bytes(octets[:8], "little") == (2 if partial else 7)
        assert octets[64 + 16] == ZSZE
        assert octets[64 + 192 + 16] == 2 * ZSZE
        assert octets[64 + 2 * 192 :] == bytes(188)


def test_a_report_of_one_state(device: Device) -> None:
    """The reporting options hold for extended reports too."""
    for zone in (5, 3):
        assert set_extension(device, zone, bytes([zone]) * 128) == 0
    octets = extended(device, options=ReportingOptions.CLOSED)
    assert int.from_bytes(octets[:8], "little") == 2
    assert [entry(octets, i)[2] for i in range(2)] == [b"\3" * 128, b"\5" * 128]


def test_without_extensions_there_is_neither(open_device: Open) -> None:
    """On a namespace whose extensions have no length, setting one and asking for them are invalid fields."""
    device = open_device("emu:zns?zones=8&zone_size=4KiB&lba=512")
    assert set_extension(device, 0, bytes(64)) == 0x4002
    report = zoned.zone_management_receive(ZoneReceiveAction.EXTENDED_REPORT_ZONES, 0, 4096)
    assert run(device, report, bytearray(4096)).status == 0x4002


def test_they_are_kept_in_a_file(open_device: Open, tmp_path: Path) -> None:
    """A zone with an extension stays closed over a power cycle, also when nothing was written to it, and stays active."""
    text = f"{SPEC}&file={tmp_path}/image"
    first = open_device(text)
    assert [set_extension(first, zone, bytes([zone]) * 128) for zone in (0, 1, 7)] == [0, 0, 0]
    assert send(first, ZoneSendAction.OPEN, 1) == 0
    assert send(first, ZoneSendAction.FINISH, 7) == 0
    first.close()
    second = open_device(text)
    octets = extended(second)
    assert [entry(octets, i) for i in (0, 1, 7)] == [
        (CLOSED, 0x80, bytes(128)),
        (CLOSED, 0x80, b"\1" * 128),
        (FULL, 0x80, b"\7" * 128),
    ]
    assert [set_extension(second, zone, bytes(128)) for zone in (2, 3)] == [0, 0x41BD]
    assert send(second, ZoneSendAction.RESET, 7) == 0
    second.close()
    assert entry(extended(open_device(text)), 7) == (EMPTY, 0, bytes(128))
