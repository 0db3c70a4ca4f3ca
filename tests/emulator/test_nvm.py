"""The NVM Command Set on a namespace without zones (NVM Command Set Specification 1.0, section 3.2)."""

from collections.abc import Callable

import pytest

from aionvme.emulator import Device
from aionvme.nvme import nvm, zoned
from aionvme.nvme.command import Command

from .host import run

Open = Callable[[str], Device]


def read(device: Device, slba: int, nlb: int) -> bytes:
    """Blocks that can be read, over a buffer that held something else."""
    data = bytearray(b"\xee" * (device.spec.lba * nlb))
    assert run(device, nvm.read(slba, nlb), data) == (0, 0)
    return bytes(data)


@pytest.fixture(params=[512, 4096])
def lba(request: pytest.FixtureRequest) -> int:
    """Both LBA formats."""
    size: int = request.param
    return size


@pytest.fixture(params=["memory", "file"])
def device(
    open_device: Open, lba: int, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Device:
    """1024 blocks, in memory and in a file."""
    where = f"&file={tmp_path_factory.mktemp('emu')}/image" if request.param == "file" else ""
    return open_device(f"emu:nvm?size={1024 * lba}&lba={lba}{where}")


def test_what_is_written_is_read(device: Device, lba: int) -> None:
    """A read gives the last write of each block, and zeroes where there was none."""
    assert run(device, nvm.write(5, 3), b"a" * 3 * lba) == (0, 0)
    assert run(device, nvm.write(6, 1, fua=True), b"b" * lba) == (0, 0)
    assert read(device, 4, 5) == bytes(lba) + b"a" * lba + b"b" * lba + b"a" * lba + bytes(lba)


def test_a_longer_buffer_is_used_from_its_start(device: Device, lba: int) -> None:
    """The command's length counts, not the buffer's."""
    data = bytearray(b"x" * 2 * lba)
    assert run(device, nvm.write(0, 1), b"y" * lba + b"z" * lba) == (0, 0)
    assert run(device, nvm.read(0, 1), data) == (0, 0)
    assert data == b"y" * lba + b"x" * lba
    assert read(device, 1, 1) == bytes(lba)


@pytest.mark.parametrize("nlb", [1, 3, 64])
def test_write_zeroes(device: Device, lba: int, nlb: int) -> None:
    """With and without DEAC the blocks read as zeroes, and their neighbours keep their data."""
    for deac in (False, True):
        assert run(device, nvm.write(0, 66), b"a" * 66 * lba) == (0, 0)
        assert run(device, nvm.write_zeroes(1, nlb, deac=deac)) == (0, 0)
        assert read(device, 0, 66) == b"a" * lba + bytes(nlb * lba) + b"a" * (65 - nlb) * lba


def test_write_zeroes_has_no_transfer_limit(device: Device, lba: int) -> None:
    """It moves no data, so MDTS does not apply to it."""
    assert run(device, nvm.write(1023, 1), b"a" * lba) == (0, 0)
    assert run(device, nvm.write_zeroes(0, 1024)) == (0, 0)
    assert read(device, 1023, 1) == bytes(lba)


def test_uncorrectable_blocks_until_they_are_written(device: Device, lba: int) -> None:
    """Reading, comparing, verifying and copying them fails with 4281h; writes and Write Zeroes heal what they cover."""
    assert run(device, nvm.write(0, 8), b"a" * 8 * lba) == (0, 0)
    assert run(device, nvm.write_uncorrectable(2, 4)) == (0, 0)
    assert run(device, nvm.read(0, 3), bytearray(3 * lba)) == (0x4281, 0)
    assert run(device, nvm.compare(5, 1), b"a" * lba) == (0x4281, 0)
    assert run(device, nvm.verify(5, 2)) == (0x4281, 0)
    assert run(device, nvm.copy(100, 1), nvm.copy_ranges([(5, 1)])) == (0x4281, 0)
    assert run(device, nvm.write(2, 1), b"b" * lba) == (0, 0)
    assert run(device, nvm.write_zeroes(3, 1)) == (0, 0)
    assert run(device, nvm.copy(4, 1), nvm.copy_ranges([(0, 1)])) == (0, 0)
    assert run(device, nvm.dataset_management(1, deallocate=True), nvm.dsm_ranges([(5, 1)])) == (0, 0)
    assert read(device, 0, 8) == b"".join(bytes([octet]) * lba for octet in b"aab\0a\0aa")


def test_compare(device: Device, lba: int) -> None:
    """Equal is success, any difference Compare Failure: 4285h, as the real controller gave."""
    assert run(device, nvm.write(3, 2), b"a" * 2 * lba) == (0, 0)
    assert run(device, nvm.compare(3, 2), b"a" * 2 * lba) == (0, 0)
    assert run(device, nvm.compare(3, 2), b"a" * (2 * lba - 1) + b"b") == (0x4285, 0)


def test_deallocate(device: Device, lba: int) -> None:
    """Deallocated blocks read as zeroes; without the attribute ranges are hints that change nothing."""
    assert run(device, nvm.write(0, 32), b"a" * 32 * lba) == (0, 0)
    ranges = nvm.dsm_ranges([(1, 2), (30, 1), (8, 16)])
    assert run(device, nvm.dataset_management(3, integral_read=True), ranges) == (0, 0)
    assert read(device, 0, 32) == b"a" * 32 * lba
    assert run(device, nvm.dataset_management(3, deallocate=True), ranges) == (0, 0)
    kept = [0, 3, 4, 5, 6, 7, 24, 25, 26, 27, 28, 29, 31]
    assert read(device, 0, 32) == b"".join((b"a" if index in kept else b"\0") * lba for index in range(32))


def test_deallocating_out_of_range_changes_nothing(device: Device, lba: int) -> None:
    """One range beyond the namespace, and none is deallocated."""
    assert run(device, nvm.write(0, 1), b"a" * lba) == (0, 0)
    ranges = nvm.dsm_ranges([(0, 1), (1023, 2)])
    assert run(device, nvm.dataset_management(2, deallocate=True), ranges) == (0x4080, 0)
    assert read(device, 0, 1) == b"a" * lba


def test_copy(device: Device, lba: int) -> None:
    """Source ranges follow each other at the destination, in their order."""
    assert run(device, nvm.write(0, 8), b"".join(bytes([n]) * lba for n in range(8))) == (0, 0)
    assert run(device, nvm.copy(100, 3), nvm.copy_ranges([(6, 2), (0, 1), (3, 2)])) == (0, 0)
    assert read(device, 100, 5) == b"".join(bytes([n]) * lba for n in (6, 7, 0, 3, 4))


def test_copy_says_which_range_failed(device: Device) -> None:
    """Dword 0 is the lowest number of a range that was not copied."""
    assert run(device, nvm.copy(100, 3), nvm.copy_ranges([(0, 1), (1, 1), (1024, 1)])) == (0x4080, 2)
    assert run(device, nvm.copy(1023, 2), nvm.copy_ranges([(0, 1), (1, 1)])) == (0x4080, 1)


@pytest.mark.parametrize("ranges", [[(0, 129)], [(0, 100), (0, 29)], [(0, 1)] * 129])
def test_copy_limits(device: Device, ranges: list[tuple[int, int]]) -> None:
    """More than MSSRL a range, MCL altogether or MSRC ranges: Command Size Limit Exceeded, and nothing is copied."""
    assert run(device, nvm.copy(500, len(ranges)), nvm.copy_ranges(ranges)) == (0x4183, 0)


def test_copy_descriptor_formats(device: Device) -> None:
    """Only format 0 is offered."""
    command = nvm.copy(100, 1)
    assert run(device, command._replace(cdw12=command.cdw12 | 1 << 8), bytes(64)) == (0x4002, 0)


def test_verify_transfers_nothing(device: Device) -> None:
    """It needs no data and succeeds on blocks never written."""
    assert run(device, nvm.verify(0, 64)) == (0, 0)


def test_flush(device: Device) -> None:
    """Flush takes the namespace or all of them."""
    assert run(device, nvm.flush()) == (0, 0)
    assert device.execute(Command(0x00, nsid=0xFFFF_FFFF), memoryview(b"")) == (0, 0)


@pytest.mark.parametrize("slba", [1023, 1024, 2**32, 2**64 - 1])
def test_out_of_range(device: Device, lba: int, slba: int) -> None:
    """Any block beyond the namespace, and nothing is done: 4080h."""
    data = b"a" * 2 * lba
    commands = [nvm.write(slba, 2), nvm.compare(slba, 2), nvm.write_zeroes(slba, 2)]
    commands += [nvm.verify(slba, 2), nvm.write_uncorrectable(slba, 2)]
    assert [run(device, command, data).status for command in commands] == [0x4080] * 5
    assert run(device, nvm.read(slba, 2), bytearray(data)) == (0x4080, 0)
    assert read(device, 1023, 1) == bytes(lba)


def test_data_shorter_than_the_command_asks_for(device: Device, lba: int) -> None:
    """Data SGL Length Invalid, 400Fh, for everything that moves data, and nothing is written."""
    short = bytearray(b"a" * (2 * lba - 1))
    assert [run(device, make(0, 2), short).status for make in (nvm.write, nvm.read, nvm.compare)] == [0x400F] * 3
    assert run(device, nvm.dataset_management(2, deallocate=True), bytes(31)) == (0x400F, 0)
    assert run(device, nvm.copy(0, 2), bytes(63)) == (0x400F, 0)
    assert read(device, 0, 2) == bytes(2 * lba)


def test_transfers_above_mdts(device: Device, lba: int) -> None:
    """512 KiB can be transferred at once, a block more is an invalid field."""
    most = (512 << 10) // lba
    data = bytearray((most + 1) * lba)
    for nlb, status in ((min(most, 1024), 0), (most + 1, 0x4002)):
        assert [run(device, make(0, nlb), data).status for make in (nvm.write, nvm.read, nvm.compare)] == [status] * 3


@pytest.mark.parametrize("nsid", [0, 2, 0xFFFF_FFFE])
def test_namespaces_that_are_not_there(device: Device, lba: int, nsid: int) -> None:
    """Invalid Namespace or Format, 400Bh, whatever the command."""
    for command in (nvm.flush(), nvm.read(0, 1), Command(0x99)):
        assert device.execute(command._replace(nsid=nsid), memoryview(bytearray(lba))) == (0x400B, 0)


def test_all_namespaces_at_once(device: Device, lba: int) -> None:
    """Only Flush may be sent to all; anything else is an invalid field."""
    assert device.execute(nvm.read(0, 1)._replace(nsid=0xFFFF_FFFF), memoryview(bytearray(lba))) == (0x4002, 0)


def test_opcodes_that_are_not_there(device: Device) -> None:
    """Invalid Opcode, 4001h, as the real controller gave; so are zone commands without zones."""
    for opcode in {*range(256)} - {0x00, 0x01, 0x02, 0x04, 0x05, 0x08, 0x09, 0x0C, 0x19}:
        assert run(device, Command(opcode), bytearray(4096)) == (0x4001, 0)
    assert run(device, zoned.zone_append(0, 1), bytes(4096)) == (0x4001, 0)


def test_memory_that_cannot_be_written(device: Device, lba: int) -> None:
    """A read into read-only memory is a data transfer error, not an exception."""
    assert run(device, nvm.read(0, 1), bytes(lba)) == (0x4004, 0)


def test_a_large_namespace_costs_nothing(open_device: Open) -> None:
    """1 TiB in memory, of which only what is written takes any."""
    device = open_device("emu:nvm?size=1TiB&lba=4096")
    last = (1 << 40) // 4096 - 1
    assert run(device, nvm.write(last, 1), b"z" * 4096) == (0, 0)
    assert read(device, last - 1, 2) == bytes(4096) + b"z" * 4096
    assert run(device, nvm.dataset_management(1, deallocate=True), nvm.dsm_ranges([(0, last + 1)])) == (0, 0)
    assert read(device, last, 1) == bytes(4096)


def test_a_closed_device(device: Device, lba: int) -> None:
    """After close every command fails, an internal error without Do Not Retry; closing again does nothing."""
    device.close()
    device.close()
    assert run(device, nvm.read(0, 1), bytearray(lba)) == (0x0006, 0)
