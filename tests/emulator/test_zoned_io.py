"""Reading and writing zones (Zoned Namespace Command Set 1.1, sections 2.1.1.5, 3.3 and 3.4.1).

Statuses are the specification's, with Do Not Retry as QEMU's controller sets it.
"""

from collections.abc import Callable

import pytest

from aionvme.emulator import Device
from aionvme.emulator.zone_states import Event
from aionvme.nvme import nvm, zoned
from aionvme.nvme.opcodes import ZoneSendAction

from .host import run, strike, zones

Open = Callable[[str], Device]
LBA, ZSZE, ZCAP = 512, 16, 12
IMPLICIT, CLOSED, FULL = 0x2, 0x4, 0xE


def blocks(nlb: int, octet: int = 0xAB) -> bytes:
    """``nlb`` blocks of one octet."""
    return bytes([octet]) * (LBA * nlb)


def read(device: Device, slba: int, nlb: int) -> bytes:
    """Blocks that can be read, over a buffer that held something else."""
    data = bytearray(b"\xee" * (LBA * nlb))
    assert run(device, nvm.read(slba, nlb), data) == (0, 0)
    return bytes(data)


def zone(device: Device, index: int) -> tuple[int, int]:
    """State and write pointer of a zone, as reported."""
    return zones(device)[index]


@pytest.fixture
def device(open_device: Open) -> Device:
    """Eight zones of 16 blocks, 12 of which can be written."""
    return open_device("emu:zns?zones=8&zone_size=8KiB&zone_capacity=6KiB&lba=512")


def test_appends_go_one_after_the_other(device: Device) -> None:
    """The result of an append is where its blocks went: where those of the append before ended."""
    results = [run(device, zoned.zone_append(32, nlb), blocks(nlb, nlb)) for nlb in (1, 3, 2)]
    assert results == [(0, 32), (0, 33), (0, 36)]
    assert read(device, 32, 8) == blocks(1, 1) + blocks(3, 3) + blocks(2, 2) + blocks(2, 0)
    assert zone(device, 2) == (IMPLICIT, 38)


def test_append_needs_the_start_of_the_zone(device: Device) -> None:
    """An address that does not start a zone is an invalid field."""
    assert run(device, zoned.zone_append(33, 1), blocks(1)) == (0x4002, 0)


def test_append_to_a_full_zone(device: Device) -> None:
    """41B9h, before anything else about the write."""
    assert run(device, zoned.zone_append(32, ZCAP), blocks(ZCAP)) == (0, 32)
    assert run(device, zoned.zone_append(32, 1), blocks(1)) == (0x41B9, 0)
    assert run(device, nvm.write(32 + ZCAP, 1), blocks(1)).status == 0x41B9


def test_append_to_a_full_zone_without_spare_blocks(open_device: Open) -> None:
    """With a capacity of the whole zone the next one starts at the write pointer, and is left alone."""
    device = open_device("emu:zns?zones=2&zone_size=8KiB&lba=512")
    for zslba in (0, 16):
        assert run(device, zoned.zone_append(zslba, 16), blocks(16)) == (0, zslba)
    assert run(device, zoned.zone_management_send(ZoneSendAction.RESET, 16)).status == 0
    assert run(device, zoned.zone_append(0, 1), blocks(1)) == (0x41B9, 0)
    assert zone(device, 1) == (1, 16)


@pytest.mark.parametrize("offset", [0, 1, 3, 11, 12, 15])
def test_writes_go_to_the_write_pointer_alone(device: Device, offset: int) -> None:
    """Below it and above it a write is invalid: 41BCh; there it moves the pointer."""
    assert run(device, nvm.write(32, 2), blocks(2)).status == 0
    assert run(device, nvm.write(32 + offset, 1), blocks(1)).status == 0x41BC
    assert zone(device, 2) == (IMPLICIT, 34)
    assert run(device, nvm.write(34, 1), blocks(1)).status == 0
    assert zone(device, 2) == (IMPLICIT, 35)


@pytest.mark.parametrize("nlb", [ZCAP + 1, ZSZE, ZSZE + 1])
def test_writing_past_the_capacity(device: Device, nlb: int) -> None:
    """Beyond the capacity, the zone or into the next zone: Zone Boundary Error, and the zone stays empty."""
    assert run(device, nvm.write(32, nlb), blocks(nlb)).status == 0x41B8
    assert run(device, zoned.zone_append(32, nlb), blocks(nlb)) == (0x41B8, 0)
    assert zone(device, 2) == (1, 32)


def test_reading_above_the_write_pointer_and_past_the_capacity(device: Device) -> None:
    """Both succeed with zeroes, as the real controller had it."""
    assert run(device, nvm.write(32, 2), blocks(2)).status == 0
    assert read(device, 33, 15) == blocks(1) + blocks(14, 0)
    assert read(device, 44, 4) == blocks(4, 0)


def test_reading_across_a_zone_boundary(device: Device) -> None:
    """OZCS does not offer it: Zone Boundary Error."""
    assert run(device, nvm.read(31, 2), bytearray(1024)).status == 0x41B8
    assert run(device, nvm.read(31, 1), bytearray(512)).status == 0


def test_reset_leaves_nothing_to_read(device: Device) -> None:
    """After a reset the zone reads as zeroes, also where a shorter write comes after."""
    assert run(device, zoned.zone_append(32, ZCAP), blocks(ZCAP)).status == 0
    assert run(device, zoned.zone_management_send(ZoneSendAction.RESET, 32)) == (0, 0)
    assert read(device, 32, ZCAP) == blocks(ZCAP, 0)
    assert run(device, zoned.zone_append(32, 1), blocks(1, 7)) == (0, 32)
    assert read(device, 32, ZCAP) == blocks(1, 7) + blocks(ZCAP - 1, 0)


def test_finish_leaves_the_rest_unwritten(device: Device) -> None:
    """Blocks between the write pointer and the capacity read as zeroes, even where an older write had been."""
    assert run(device, zoned.zone_append(32, ZCAP), blocks(ZCAP)).status == 0
    assert run(device, zoned.zone_management_send(ZoneSendAction.RESET, 32)).status == 0
    assert run(device, zoned.zone_append(32, 2), blocks(2, 7)).status == 0
    assert run(device, zoned.zone_management_send(ZoneSendAction.FINISH, 32)).status == 0
    assert read(device, 32, ZCAP) == blocks(2, 7) + blocks(ZCAP - 2, 0)
    assert zone(device, 2) == (FULL, 2**64 - 1)


def test_a_worn_out_zone_can_be_read(device: Device) -> None:
    """A read only zone keeps its data, and its write pointer means nothing."""
    assert run(device, zoned.zone_append(32, 2), blocks(2)).status == 0
    strike(device, 2, Event.WEAR_OUT)
    assert read(device, 32, 3) == blocks(2) + blocks(1, 0)
    assert zone(device, 2) == (0xD, 2**64 - 1)


def test_append_limit(open_device: Open) -> None:
    """More than ZASL, 128 KiB unless asked otherwise, is an invalid field; a write of as much is fine."""
    device = open_device("emu:zns?zones=2&zone_size=4MiB&lba=4096")
    data = bytes(33 * 4096)
    assert run(device, zoned.zone_append(0, 33), data) == (0x4002, 0)
    assert run(device, zoned.zone_append(0, 32), data) == (0, 0)
    assert run(device, nvm.write(32, 33), data) == (0, 0)


def test_write_zeroes_moves_the_write_pointer(device: Device) -> None:
    """Write Zeroes is a write: at the write pointer, within the capacity."""
    assert run(device, zoned.zone_append(32, ZCAP), blocks(ZCAP)).status == 0
    assert run(device, zoned.zone_management_send(ZoneSendAction.RESET, 32)).status == 0
    assert run(device, nvm.write_zeroes(33, 1)).status == 0x41BC
    assert run(device, nvm.write_zeroes(32, 13)).status == 0x41B8
    assert run(device, nvm.write_zeroes(32, 3, deac=True)).status == 0
    assert zone(device, 2) == (IMPLICIT, 35)
    assert run(device, zoned.zone_append(32, 1), blocks(1)) == (0, 35)
    assert read(device, 32, 4) == blocks(3, 0) + blocks(1)


def test_write_uncorrectable_moves_the_write_pointer(device: Device) -> None:
    """Its blocks lie below the write pointer and cannot be read: 4281h; a reset ends that."""
    assert run(device, nvm.write_uncorrectable(33, 1)).status == 0x41BC
    assert run(device, nvm.write_uncorrectable(32, 2)).status == 0
    assert zone(device, 2) == (IMPLICIT, 34)
    assert run(device, nvm.read(33, 1), bytearray(512)).status == 0x4281
    assert read(device, 34, 1) == blocks(1, 0)
    assert run(device, zoned.zone_management_send(ZoneSendAction.RESET, 32)).status == 0
    assert read(device, 32, 2) == blocks(2, 0)
    assert run(device, zoned.zone_append(32, 2), blocks(2)).status == 0
    assert read(device, 32, 2) == blocks(2)


def test_deallocate_leaves_zones_as_they_are(device: Device) -> None:
    """Deallocated blocks read as zeroes; state and write pointer stay, over any number of zones."""
    for zslba in (16, 32):
        assert run(device, zoned.zone_append(zslba, 3), blocks(3)).status == 0
    ranges = nvm.dsm_ranges([(18, 15), (34, 0)])
    assert run(device, nvm.dataset_management(2, deallocate=True), ranges).status == 0
    assert (zone(device, 1), zone(device, 2)) == ((IMPLICIT, 19), (IMPLICIT, 35))
    assert read(device, 16, 4) == blocks(2) + blocks(2, 0)
    assert read(device, 32, 4) == blocks(1, 0) + blocks(2) + blocks(1, 0)


def test_copy_writes_at_the_write_pointer(device: Device) -> None:
    """The destination of a copy is a write: consecutive ranges move the write pointer and may fill the zone."""
    assert run(device, zoned.zone_append(16, 8), b"".join(blocks(1, octet) for octet in range(8))).status == 0
    data = nvm.copy_ranges([(20, 4), (16, 2)])
    assert run(device, nvm.copy(33, 2), data) == (0x41BC, 0)
    assert run(device, nvm.copy(32, 2), data) == (0, 0)
    assert zone(device, 2) == (IMPLICIT, 38)
    assert read(device, 32, 6) == b"".join(blocks(1, octet) for octet in (4, 5, 6, 7, 0, 1))
    # The second range does not fit any more: the result says that it was the first not to be copied.
    assert run(device, nvm.copy(38, 2), nvm.copy_ranges([(16, 6), (16, 1)])) == (0x41B9, 1)
    assert zone(device, 2)[0] == FULL


def test_compare_and_verify_follow_the_read_rules(device: Device) -> None:
    """Unwritten blocks compare equal to zeroes, and neither command leaves its zone."""
    assert run(device, zoned.zone_append(32, 1), blocks(1)).status == 0
    assert run(device, nvm.compare(32, 2), blocks(1) + blocks(1, 0)).status == 0
    assert run(device, nvm.compare(32, 2), blocks(2)).status == 0x4285
    assert run(device, nvm.compare(31, 2), blocks(2)).status == 0x41B8
    assert run(device, nvm.verify(32, 16)).status == 0
    assert run(device, nvm.verify(31, 2)).status == 0x41B8


def test_beyond_the_namespace(device: Device) -> None:
    """Out of range comes before what the zones say."""
    assert run(device, nvm.read(127, 2), bytearray(1024)).status == 0x4080
    assert run(device, zoned.zone_append(128, 1), blocks(1)) == (0x4080, 0)
    assert run(device, nvm.write(2**64 - 1, 1), blocks(1)).status == 0x4080


def test_a_closed_zone_continues(device: Device) -> None:
    """Closing keeps the write pointer, and the next write opens the zone again."""
    assert run(device, zoned.zone_append(32, 2), blocks(2)).status == 0
    assert run(device, zoned.zone_management_send(ZoneSendAction.CLOSE, 32)).status == 0
    assert zone(device, 2) == (CLOSED, 34)
    assert run(device, nvm.write(34, 1), blocks(1)).status == 0
    assert zone(device, 2) == (IMPLICIT, 35)
