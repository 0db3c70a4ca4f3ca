"""Admin commands of the emulated controller (Base 2.0, section 5), field by field at the specification's offsets."""

from collections.abc import Callable
from typing import Any

import pytest

from aionvme.emulator import Device
from aionvme.emulator.zone_states import Event
from aionvme.nvme import admin, nvm, zoned
from aionvme.nvme.command import Command
from aionvme.nvme.status import Completion

from .host import run, strike

Open = Callable[[str], Device]
ZNS = "emu:zns?zones=8&zone_size=4KiB&zone_capacity=3KiB&lba=512&mar=4&mor=3&seed=1"
NVM = "emu:nvm?size=1MiB&lba=4096&seed=2"


def identify(device: Device, cns: int, *, nsid: int = 0, csi: int = 0, status: int = 0) -> bytes:
    """What Identify returns, over a buffer that held something else."""
    page = bytearray(b"\xee" * 4096)
    command = admin.identify(cns, nsid=nsid, csi=csi)
    assert device.execute(command, memoryview(page), admin=True) == (status, 0)
    return bytes(page)


def log_page(device: Device, lid: int, length: int, *, nsid: int = 0xFFFF_FFFF, status: int = 0, **more: Any) -> bytes:
    """A log page, over a buffer that held something else."""
    page = bytearray(b"\xee" * length)
    command = admin.get_log_page(lid, length, nsid=nsid, **more)
    assert device.execute(command, memoryview(page), admin=True) == (status, 0)
    return bytes(page)


def number(octets: bytes, first: int, last: int) -> int:
    """Bytes ``last``:``first`` of a structure, as the specification writes a field."""
    return int.from_bytes(octets[first : last + 1], "little")


@pytest.mark.parametrize("text", [ZNS, NVM])
def test_identify_controller(open_device: Open, text: str) -> None:
    """Names are padded with spaces; MDTS is 2**7 pages; one namespace; the optional commands that there are."""
    page = identify(open_device(text), 0x01)
    assert page[4:24].rstrip(b" ").isalnum()
    assert page[24:64] == b"aionvme emulated device".ljust(40)
    assert page[64:72] == b"1.0     "
    assert page[77] == 7
    assert number(page, 80, 83) == 0x0002_0000
    assert page[111] == 1
    assert (page[512], page[513]) == (0x66, 0x44)
    assert number(page, 516, 519) == 1
    assert number(page, 520, 521) == 0b1_1001_1111
    assert page[525] & 1
    assert number(page, 534, 535) == 1
    assert page[768:1024].rstrip(b"\0").startswith(b"nqn.2014-08.org.nvmexpress:uuid:")


def test_identify_namespace(open_device: Open) -> None:
    """Size and capacity in blocks, one LBA format without metadata, zeroes for what was deallocated."""
    page = identify(open_device(NVM), 0x00, nsid=1)
    assert [number(page, at, at + 7) for at in (0, 8, 16)] == [256, 256, 256]
    assert (page[25], page[26], page[33] & 7) == (0, 0, 1)
    assert (number(page, 74, 75), number(page, 76, 79), page[80]) == (128, 128, 127)
    assert page[128:132] == bytes([0, 0, 12, 0])


def test_identify_zoned_namespace(open_device: Open) -> None:
    """What can be written is less than the size; MAR and MOR are 0's based; the zone size is in blocks."""
    device = open_device(ZNS)
    page = identify(device, 0x00, nsid=1)
    assert [number(page, at, at + 7) for at in (0, 8)] == [64, 48]
    assert page[130] == 9
    page = identify(device, 0x05, nsid=1, csi=2)
    assert page[:4] == bytes(4)
    assert (number(page, 4, 7), number(page, 8, 11)) == (3, 2)
    assert page[2816:2832] == (8).to_bytes(8, "little") + bytes(8)


def test_descriptor_extensions_are_in_the_lba_format_extension(open_device: Open) -> None:
    """ZDES, byte 8 of the LBA Format Extension, counts 64 bytes."""
    page = identify(open_device(f"{ZNS}&zdes=192"), 0x05, nsid=1, csi=2)
    assert page[2816:2832] == (8).to_bytes(8, "little") + bytes([3]) + bytes(7)


def test_random_write_areas_are_in_the_zoned_namespace(open_device: Open) -> None:
    """OZCS bit 1, NUMZRWA, ZRWAFG and ZRWASZ in blocks, and ZRWACAP bit 0: explicit flushes. Without areas all are zero."""
    page = identify(open_device(f"{ZNS}&zrwas=2KiB&zrwafg=1KiB&numzrwa=3"), 0x05, nsid=1, csi=2)
    assert page[2] == 0b10
    assert [number(page, *at) for at in ((44, 47), (48, 49), (50, 51), (52, 52))] == [3, 2, 4, 1]
    assert identify(open_device(ZNS), 0x05, nsid=1, csi=2)[44:53] == bytes(9)


def test_no_limits_are_all_ones(open_device: Open) -> None:
    """FFFFFFFFh stands for no limit."""
    page = identify(open_device("emu:zns"), 0x05, nsid=1, csi=2)
    assert page[4:12] == b"\xff" * 8


def test_identify_controller_of_a_command_set(open_device: Open) -> None:
    """ZASL is 2**5 pages, VSL 2**7; another command set is an invalid field."""
    device = open_device(ZNS)
    assert identify(device, 0x06, csi=2) == bytes([5]).ljust(4096, b"\0")
    assert identify(device, 0x06, csi=0) == bytes([7]).ljust(4096, b"\0")
    identify(device, 0x06, csi=1, status=0x4002)


@pytest.mark.parametrize(("text", "csi"), [(ZNS, 2), (NVM, 0)])
def test_lists_and_descriptors(open_device: Open, text: str, csi: int) -> None:
    """Namespace 1 is listed above 0, under its command set; its descriptors are a UUID and that command set."""
    device = open_device(text)
    one, none = (1).to_bytes(4, "little").ljust(4096, b"\0"), bytes(4096)
    assert [identify(device, 0x02, nsid=nsid) for nsid in (0, 1, 7)] == [one, none, none]
    assert [identify(device, 0x07, nsid=0, csi=each) for each in (csi, 2 - csi)] == [one, none]
    identify(device, 0x07, csi=1, status=0x4002)
    for nsid in (0xFFFF_FFFE, 0xFFFF_FFFF):
        identify(device, 0x02, nsid=nsid, status=0x400B)
    page = identify(device, 0x03, nsid=1)
    assert page[:4] == bytes([3, 16, 0, 0])
    assert any(page[4:20])
    assert page[20:] == bytes([4, 1, 0, 0, csi]).ljust(4076, b"\0")
    assert identify(device, 0x08, nsid=1)[14] == 1
    assert number(identify(device, 0x1C), 0, 7) == 0b101


def test_the_uuid_follows_the_seed(open_device: Open) -> None:
    """A namespace in memory has the same UUID for the same seed, and another for another."""
    pages = [identify(open_device(f"emu:nvm?seed={seed}"), 0x03, nsid=1) for seed in (1, 1, 2)]
    assert pages[0] == pages[1] != pages[2]


@pytest.mark.parametrize("cns", [0x00, 0x03, 0x05, 0x08])
@pytest.mark.parametrize("nsid", [0, 2, 0xFFFF_FFFF])
def test_identify_of_a_namespace_that_is_not_there(open_device: Open, cns: int, nsid: int) -> None:
    """Invalid Namespace or Format."""
    identify(open_device(ZNS), cns, nsid=nsid, csi=2 if cns == 5 else 0, status=0x400B)


def test_identify_what_is_not_there(open_device: Open) -> None:
    """A structure that is not supported, or one of zones without zones, is an invalid field; a short buffer 400Fh."""
    device = open_device(NVM)
    assert identify(device, 0x05, nsid=1, csi=0) == bytes(4096)
    identify(device, 0x05, nsid=1, csi=2, status=0x4002)
    for cns in (0x04, 0x10, 0x1F, 0xFF):
        identify(device, cns, nsid=1, status=0x4002)
    assert device.execute(admin.identify(1), memoryview(bytearray(4095)), admin=True) == (0x400F, 0)


def test_smart_counts_what_was_done(open_device: Open) -> None:
    """Data units are thousands of 512 bytes, rounded up; only reads, compares, writes and appends are counted."""
    device = open_device(ZNS)
    zeroes = bytes(16)
    page = log_page(device, 0x02, 512)
    assert page[32:96] == zeroes * 4
    assert run(device, zoned.zone_append(0, 2), bytes(1024)).status == 0
    assert run(device, nvm.write(2, 1), bytes(512)).status == 0
    assert run(device, nvm.write_zeroes(3, 1)).status == 0
    for _ in range(400):
        assert run(device, nvm.read(0, 3), bytearray(1536)).status == 0
    assert run(device, nvm.compare(0, 1), b"x" * 512).status == 0x4285
    page = log_page(device, 0x02, 512)
    assert [number(page, at, at + 15) for at in (32, 48, 64, 80)] == [2, 1, 401, 2]
    assert (page[0], number(page, 1, 2), page[3], page[5]) == (0, 308, 100, 0)
    assert number(page, 176, 191) == 1


def test_error_information(open_device: Open) -> None:
    """The newest error comes first, with its status above the phase tag and its address; there are 64 at most."""
    device = open_device(ZNS)
    assert run(device, nvm.write(9, 1), bytes(512)).status == 0x41BC
    assert run(device, nvm.read(63, 2), bytearray(1024)).status == 0x4080
    page = log_page(device, 0x01, 4096)
    assert [number(page, at, at + 7) for at in (0, 64, 128)] == [2, 1, 0]
    assert [number(page, at + 12, at + 13) >> 1 for at in (0, 64)] == [0x4080, 0x41BC]
    assert [number(page, at + 16, at + 23) for at in (0, 64)] == [63, 9]
    assert [number(page, at + 24, at + 27) for at in (0, 64)] == [1, 1]
    for _ in range(100):
        run(device, Command(0x99))
    page = log_page(device, 0x01, 4096)
    assert [number(page, at, at + 7) for at in (0, 4032)] == [102, 39]


@pytest.mark.parametrize("text", [ZNS, NVM])
def test_commands_supported_and_effects(open_device: Open, text: str) -> None:
    """Bit 0 for each command of a command set, bit 1 where it changes blocks."""
    device = open_device(text)
    conventional = {0x00: 1, 0x01: 3, 0x02: 1, 0x04: 3, 0x05: 1, 0x08: 3, 0x09: 3, 0x0C: 1, 0x19: 3}
    for csi, expected in ((0, conventional), (2, {**conventional, 0x79: 3, 0x7A: 1, 0x7D: 3})):
        page = log_page(device, 0x05, 4096, csi=csi)
        dwords = [number(page, at, at + 3) for at in range(0, 2048, 4)]
        assert {opcode: dword for opcode, dword in enumerate(dwords[:256]) if dword} == dict.fromkeys((2, 6, 9, 10), 1)
        assert {opcode: dword for opcode, dword in enumerate(dwords[256:]) if dword} == expected
        assert not any(page[2048:])
    log_page(device, 0x05, 4096, csi=1, status=0x4002)


def test_changed_zone_list(open_device: Open) -> None:
    """Zones that wore out or failed are listed once, and no more after a read that does not retain the event."""
    device = open_device(ZNS)
    strike(device, 5, Event.WEAR_OUT)
    strike(device, 2, Event.FAIL)
    for rae in (1, 0):
        page = log_page(device, 0xBF, 4096, nsid=1, rae=rae)
        assert (number(page, 0, 1), number(page, 8, 15), number(page, 16, 23)) == (2, 40, 16)
    assert log_page(device, 0xBF, 4096, nsid=1) == bytes(4096)
    log_page(device, 0xBF, 4096, status=0x400B)
    log_page(open_device(NVM), 0xBF, 4096, nsid=1, status=0x4109)


def test_parts_of_a_log_page(open_device: Open) -> None:
    """An offset reads the rest, zeroes follow the end, and an offset past the end is an invalid field."""
    device = open_device(NVM)
    whole = log_page(device, 0x03, 512)
    assert whole[:16] == bytes([1]).ljust(8, b"\0") + b"1.0     "
    assert log_page(device, 0x03, 4, offset_bytes=8) == b"1.0 "
    assert log_page(device, 0x03, 1024, offset_bytes=8) == whole[8:].ljust(1024, b"\0")
    log_page(device, 0x03, 4, offset_bytes=512, status=0x4002)
    log_page(device, 0x77, 4, status=0x4109)
    log_page(device, 0x02, 1 << 20, status=0x4002)
    assert device.execute(admin.get_log_page(2, 512), memoryview(bytearray(508)), admin=True) == (0x400F, 0)
    crooked = admin.get_log_page(2, 512)._replace(cdw12=2)
    assert device.execute(crooked, memoryview(bytearray(512)), admin=True) == (0x4002, 0)


def feature(device: Device, fid: int, *, sel: int = 0, cdw11: int = 0) -> Completion:
    """Get Features."""
    return device.execute(admin.get_features(fid, sel=sel, cdw11=cdw11), memoryview(b""), admin=True)


def set_feature(device: Device, fid: int, value: int, *, save: bool = False) -> Completion:
    """Set Features."""
    return device.execute(admin.set_features(fid, value, save=save), memoryview(b""), admin=True)


def test_volatile_write_cache(open_device: Open) -> None:
    """It is on by default, can be turned off, and cannot be saved."""
    device = open_device(NVM)
    assert [feature(device, 0x06, sel=sel) for sel in range(4)] == [(0, 1), (0, 1), (0, 1), (0, 4)]
    assert set_feature(device, 0x06, 0) == (0, 0)
    assert [feature(device, 0x06, sel=sel) for sel in range(2)] == [(0, 0), (0, 1)]
    assert set_feature(device, 0x06, 1, save=True) == (0x410D, 0)
    assert run(device, nvm.write(0, 1), bytes(4096)) == (0, 0)


def test_number_of_queues(open_device: Open) -> None:
    """64 pairs, 0's based, whatever is asked for; FFFFh asks for too many."""
    device = open_device(NVM)
    assert set_feature(device, 0x07, 0x0007_0003) == feature(device, 0x07) == (0, 0x003F_003F)
    assert set_feature(device, 0x07, 0xFFFF_0003) == set_feature(device, 0x07, 0xFFFF) == (0x4002, 0)


@pytest.mark.parametrize("nsid", [1, 2, 0xFFFF_FFFE])
def test_features_are_the_controllers(open_device: Open, nsid: int) -> None:
    """Set Features for one namespace: Feature Not Namespace Specific, and nothing is set. For all of them it is as for none."""
    device = open_device(NVM)
    for fid in (0x04, 0x06, 0x07):
        command = admin.set_features(fid, 0, nsid=nsid)
        assert device.execute(command, memoryview(b""), admin=True) == (0x410F, 0)
    assert feature(device, 0x06) == (0, 1)
    command = admin.set_features(0x06, 0, nsid=0xFFFF_FFFF)
    assert device.execute(command, memoryview(b""), admin=True) == (0, 0)
    assert feature(device, 0x06) == (0, 0)


def test_health_of_a_namespace(open_device: Open) -> None:
    """Bit 0 of LPA says that SMART is told for each namespace: for one that is not there it is Invalid Namespace or Format."""
    device = open_device(NVM)
    assert log_page(device, 0x02, 512, nsid=1) == log_page(device, 0x02, 512, nsid=0) == log_page(device, 0x02, 512)
    log_page(device, 0x02, 512, nsid=2, status=0x400B)


def test_temperature_threshold(open_device: Open) -> None:
    """Over and under temperature are kept apart, and the SMART log warns outside of them."""
    device = open_device(NVM)
    under = 1 << 20
    assert (feature(device, 0x04), feature(device, 0x04, cdw11=under)) == ((0, 343), (0, 0))
    assert set_feature(device, 0x04, 300) == (0, 0)
    assert set_feature(device, 0x04, under | 290) == (0, 0)
    assert (feature(device, 0x04), feature(device, 0x04, cdw11=under)) == ((0, 300), (0, 290))
    assert feature(device, 0x04, sel=1) == (0, 343)
    assert log_page(device, 0x02, 512)[0] == 0b10
    assert feature(device, 0x04, cdw11=2 << 20) == set_feature(device, 0x04, 1 << 16) == (0x4002, 0)


def test_what_is_not_supported(open_device: Open) -> None:
    """Another feature is an invalid field, another admin command an invalid opcode."""
    device = open_device(NVM)
    assert feature(device, 0x99) == set_feature(device, 0x99, 0) == feature(device, 0x06, sel=4) == (0x4002, 0)
    for opcode in {*range(256)} - {0x02, 0x06, 0x09, 0x0A}:
        assert device.execute(Command(opcode, nsid=1), memoryview(bytearray(4096)), admin=True) == (0x4001, 0)
