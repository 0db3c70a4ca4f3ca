"""The commands of nvm.py, zoned.py and admin.py against entries written by hand from the specifications' figures."""

from collections.abc import Callable

import numpy as np
import pytest

from aionvme.nvme import admin, nvm, zoned
from aionvme.nvme.command import Command, encode
from aionvme.nvme.opcodes import CommandSetIdentifier, ReportingOptions, ZoneReceiveAction, ZoneSendAction


def entry(opcode: str, nsid: str, dwords: str) -> bytes:
    """The 72 bytes of an entry: opcode, nsid and dwords 10 to 15 as little-endian hex, zeroes everywhere else."""
    body = bytes.fromhex(dwords)
    assert len(body) == 24
    return bytes.fromhex(opcode) + bytes(3) + bytes.fromhex(nsid) + bytes(32) + body + bytes(8)


# Every command is submitted to namespace 1. Dwords are written byte by byte, least significant first: in dword 12,
# "07000040" is NLB 7 in bits 15:0 (0's based) and 40h in the most significant byte, bit 30.
NVM = {
    # Flush uses no dword (Base 2.0, section 7.1).
    "flush": (nvm.flush(), "00", "00000000 00000000 00000000 00000000 00000000 00000000"),
    # Read: SLBA in dwords 10 and 11, NLB 0 for one block.
    "read": (nvm.read(0x0123456789ABCDEF, 1), "02", "efcdab89 67452301 00000000 00000000 00000000 00000000"),
    # FUA bit 30, LR bit 31.
    "read fua": (nvm.read(0, 8, fua=True), "02", "00000000 00000000 07000040 00000000 00000000 00000000"),
    "read lr": (nvm.read(0, 8, limited_retry=True), "02", "00000000 00000000 07000080 00000000 00000000 00000000"),
    # The largest NLB, FFFFh, and the largest address.
    "read most": (nvm.read(2**64 - 1, 65536), "02", "ffffffff ffffffff ffff0000 00000000 00000000 00000000"),
    "write": (nvm.write(0x10, 256, fua=True), "01", "10000000 00000000 ff000040 00000000 00000000 00000000"),
    # DTYPE 2 in bits 23:20 of dword 12, DSPEC ABCDh in bits 31:16 of dword 13.
    "write dtype": (
        nvm.write(0x10, 1, limited_retry=True, dtype=2, dspec=0xABCD),
        "01",
        "10000000 00000000 00002080 0000cdab 00000000 00000000",
    ),
    "compare": (nvm.compare(0x20, 2), "05", "20000000 00000000 01000000 00000000 00000000 00000000"),
    "compare both": (
        nvm.compare(0x20, 2, fua=True, limited_retry=True),
        "05",
        "20000000 00000000 010000c0 00000000 00000000 00000000",
    ),
    "verify": (nvm.verify(0x30, 3, fua=True), "0c", "30000000 00000000 02000040 00000000 00000000 00000000"),
    "write zeroes": (nvm.write_zeroes(0x40, 4), "08", "40000000 00000000 03000000 00000000 00000000 00000000"),
    # DEAC bit 25.
    "write zeroes deac": (
        nvm.write_zeroes(0x40, 4, deac=True, fua=True),
        "08",
        "40000000 00000000 03000042 00000000 00000000 00000000",
    ),
    "write uncorrectable": (
        nvm.write_uncorrectable(0x1_0000_0005, 5),
        "04",
        "05000000 01000000 04000000 00000000 00000000 00000000",
    ),
    # NR in bits 7:0 of dword 10, 0's based; in dword 11 IDR is bit 0, IDW bit 1, AD bit 2.
    "dsm ad": (
        nvm.dataset_management(1, deallocate=True),
        "09",
        "00000000 04000000 00000000 00000000 00000000 00000000",
    ),
    "dsm idr": (
        nvm.dataset_management(256, integral_read=True),
        "09",
        "ff000000 01000000 00000000 00000000 00000000 00000000",
    ),
    "dsm idw": (
        nvm.dataset_management(2, integral_write=True),
        "09",
        "01000000 02000000 00000000 00000000 00000000 00000000",
    ),
    # SDLBA in dwords 10 and 11; in dword 12 NR is bits 7:0, 0's based, the descriptor format bits 11:8.
    "copy": (nvm.copy(0x1_0000_0002, 3), "19", "02000000 01000000 02000000 00000000 00000000 00000000"),
    "copy both": (
        nvm.copy(0, 256, fua=True, limited_retry=True),
        "19",
        "00000000 00000000 ff0000c0 00000000 00000000 00000000",
    ),
}

ZONED = {
    # ZSLBA in dwords 10 and 11; PIREMAP is bit 25 of dword 12.
    "append": (zoned.zone_append(0x4000, 8), "7d", "00400000 00000000 07000000 00000000 00000000 00000000"),
    "append flags": (
        zoned.zone_append(0x4000, 8, fua=True, limited_retry=True, piremap=True),
        "7d",
        "00400000 00000000 070000c2 00000000 00000000 00000000",
    ),
    # ZSA in bits 7:0 of dword 13, Select All bit 8, the action's own option bit 9.
    "close": (
        zoned.zone_management_send(ZoneSendAction.CLOSE, 0x8000),
        "79",
        "00800000 00000000 00000000 01000000 00000000 00000000",
    ),
    "finish": (
        zoned.zone_management_send(ZoneSendAction.FINISH, 0x8000),
        "79",
        "00800000 00000000 00000000 02000000 00000000 00000000",
    ),
    "open zrwa": (
        zoned.zone_management_send(ZoneSendAction.OPEN, 0x2_0000_0000, zsaso=True),
        "79",
        "00000000 02000000 00000000 03020000 00000000 00000000",
    ),
    "reset all": (
        zoned.zone_management_send(ZoneSendAction.RESET, select_all=True),
        "79",
        "00000000 00000000 00000000 04010000 00000000 00000000",
    ),
    "offline": (
        zoned.zone_management_send(ZoneSendAction.OFFLINE, 0x8000),
        "79",
        "00800000 00000000 00000000 05000000 00000000 00000000",
    ),
    "descriptor extension": (
        zoned.zone_management_send(ZoneSendAction.SET_ZONE_DESCRIPTOR_EXTENSION, 0x8000),
        "79",
        "00800000 00000000 00000000 10000000 00000000 00000000",
    ),
    "flush zrwa": (
        zoned.zone_management_send(ZoneSendAction.FLUSH_EXPLICIT_ZRWA_RANGE, 0x8000),
        "79",
        "00800000 00000000 00000000 11000000 00000000 00000000",
    ),
    # Number of dwords in dword 12, 0's based: 4096 bytes are 1024 dwords, 3FFh. In dword 13 ZRA is bits 7:0, the
    # reporting options bits 15:8, Partial Report bit 16.
    "report": (
        zoned.zone_management_receive(ZoneReceiveAction.REPORT_ZONES, 0xC000, 4096),
        "7a",
        "00c00000 00000000 ff030000 00000000 00000000 00000000",
    ),
    "report full partial": (
        zoned.zone_management_receive(
            ZoneReceiveAction.REPORT_ZONES, 0, 64, options=ReportingOptions.FULL, partial=True
        ),
        "7a",
        "00000000 00000000 0f000000 00050100 00000000 00000000",
    ),
    "extended report": (
        zoned.zone_management_receive(ZoneReceiveAction.EXTENDED_REPORT_ZONES, 0, 4, options=ReportingOptions.OFFLINE),
        "7a",
        "00000000 00000000 00000000 01070000 00000000 00000000",
    ),
    "report longest": (
        zoned.zone_management_receive(ZoneReceiveAction.REPORT_ZONES, 0, 1 << 34),
        "7a",
        "00000000 00000000 ffffffff 00000000 00000000 00000000",
    ),
}


@pytest.mark.parametrize(("command", "opcode", "dwords"), (NVM | ZONED).values(), ids=NVM | ZONED)
def test_io_command(command: Command, opcode: str, dwords: str) -> None:
    """An I/O command has the opcode and dwords of its figures, and the namespace it is submitted to."""
    assert encode(command, nsid=1) == entry(opcode, "01000000", dwords)


ADMIN = {
    # Identify: CNS in bits 7:0 of dword 10, CNTID in 31:16; CSI in bits 31:24 of dword 11.
    "identify controller": (admin.identify(1), "00000000", "01000000 00000000 00000000 00000000 00000000 00000000"),
    "identify zoned": (
        admin.identify(5, nsid=2, csi=CommandSetIdentifier.ZONED),
        "02000000",
        "05000000 00000002 00000000 00000000 00000000 00000000",
    ),
    "identify cntid": (
        admin.identify(0x12, nsid=0xFFFFFFFF, cntid=0x1234),
        "ffffffff",
        "12003412 00000000 00000000 00000000 00000000 00000000",
    ),
    # Get Log Page: LID in bits 7:0 of dword 10, LSP 14:8, RAE 15, the low half of the number of dwords, 0's based, in
    # 31:16 and its high half in bits 15:0 of dword 11; the offset in dwords 12 and 13; CSI in bits 31:24 of dword 14.
    "log smart": (admin.get_log_page(2, 512), "ffffffff", "02007f00 00000000 00000000 00000000 00000000 00000000"),
    "log all": (
        admin.get_log_page(0xBF, 4096, nsid=3, lsp=0x7F, rae=True, offset_bytes=0x1_0000_0008, csi=2),
        "03000000",
        "bfffff03 00000000 08000000 01000000 00000002 00000000",
    ),
    "log long": (
        admin.get_log_page(7, 0x10_0000),
        "ffffffff",
        "0700ffff 03000000 00000000 00000000 00000000 00000000",
    ),
    "log longest": (
        admin.get_log_page(7, 1 << 34),
        "ffffffff",
        "0700ffff ffff0000 00000000 00000000 00000000 00000000",
    ),
    # Get Features: FID in bits 7:0 of dword 10, SEL in 10:8.
    "log of an endurance group": (
        admin.get_log_page(0x23, 0x4_0004, nsid=0, lsp=1, lsi=0xABCD),
        "00000000",
        "23010000 0100cdab 00000000 00000000 00000000 00000000",
    ),
    "get features": (
        admin.get_features(0x07, sel=3, nsid=4, cdw11=0x55),
        "04000000",
        "07030000 55000000 00000000 00000000 00000000 00000000",
    ),
    "get features current": (
        admin.get_features(0x0B),
        "00000000",
        "0b000000 00000000 00000000 00000000 00000000 00000000",
    ),
    # Set Features: FID in bits 7:0 of dword 10, Save bit 31.
    "set features": (
        admin.set_features(0x06, 1),
        "00000000",
        "06000000 01000000 00000000 00000000 00000000 00000000",
    ),
    "set features of two dwords": (
        admin.set_features(0x1E, 0x0001_0003, nsid=1, cdw12=1),
        "01000000",
        "1e000000 03000100 01000000 00000000 00000000 00000000",
    ),
    "set features save": (
        admin.set_features(0x06, 0xFFFFFFFF, save=True, nsid=1),
        "01000000",
        "06000080 ffffffff 00000000 00000000 00000000 00000000",
    ),
}
ADMIN_OPCODE = {"identify": "06", "log": "02", "get": "0a", "set": "09"}


@pytest.mark.parametrize("name", ADMIN)
def test_admin_command(name: str) -> None:
    """An admin command has the opcode and dwords of its figures, and names its own namespace."""
    command, nsid, dwords = ADMIN[name]
    assert encode(command, nsid=99) == entry(ADMIN_OPCODE[name.split()[0]], nsid, dwords)


def test_dsm_ranges() -> None:
    """A range is 16 bytes: context attributes, length in blocks as it is (not 0's based), starting LBA."""
    assert nvm.dsm_ranges([(0x1122334455667788, 0x80), (5, 0xFFFFFFFF)]) == bytes.fromhex(
        "00000000 80000000 8877665544332211"
        "00000000 ffffffff 0500000000000000"
    )  # fmt: skip
    assert nvm.dsm_ranges([]) == b""


def test_copy_ranges() -> None:
    """A source range of format 0 is 32 bytes: SLBA in 15:8, NLB in 17:16, 0's based, everything else zero."""
    assert nvm.copy_ranges([(0x1122334455667788, 0x80), (5, 65536)]) == bytes.fromhex(
        "0000000000000000 8877665544332211 7f00 000000000000 00000000 0000 0000"
        "0000000000000000 0500000000000000 ffff 000000000000 00000000 0000 0000"
    )  # fmt: skip


REFUSED: dict[str, tuple[Callable[[], object], str]] = {
    "read nlb 0": (lambda: nvm.read(0, 0), "nlb"),
    "read nlb 65537": (lambda: nvm.read(0, 65537), "nlb"),
    "read slba -1": (lambda: nvm.read(-1, 1), "slba"),
    "write slba 2**64": (lambda: nvm.write(2**64, 1), "slba"),
    "write dtype": (lambda: nvm.write(0, 1, dtype=16), "dtype"),
    "write dspec": (lambda: nvm.write(0, 1, dspec=65536), "dspec"),
    "write zeroes nlb": (lambda: nvm.write_zeroes(0, -1), "nlb"),
    "compare nlb": (lambda: nvm.compare(0, 1 << 20), "nlb"),
    "dsm nr 0": (lambda: nvm.dataset_management(0), "nr"),
    "dsm nr 257": (lambda: nvm.dataset_management(257), "nr"),
    "dsm range slba": (lambda: nvm.dsm_ranges([(2**64, 1)]), "slba"),
    "dsm range nlb": (lambda: nvm.dsm_ranges([(0, 2**32)]), "nlb"),
    "copy sdlba": (lambda: nvm.copy(-1, 1), "sdlba"),
    "copy nr 0": (lambda: nvm.copy(0, 0), "nr"),
    "copy nr 257": (lambda: nvm.copy(0, 257), "nr"),
    "copy range slba": (lambda: nvm.copy_ranges([(-1, 1)]), "slba"),
    "copy range slba 2**64": (lambda: nvm.copy_ranges([(2**64, 1)]), "slba"),
    "copy range nlb": (lambda: nvm.copy_ranges([(0, 65537)]), "nlb"),
    "append zslba": (lambda: zoned.zone_append(2**64, 1), "zslba"),
    "append nlb": (lambda: zoned.zone_append(0, 0), "nlb"),
    "send action": (lambda: zoned.zone_management_send(256), "action"),  # type: ignore[arg-type]
    "send slba": (lambda: zoned.zone_management_send(ZoneSendAction.OPEN, -1), "slba"),
    "receive action": (lambda: zoned.zone_management_receive(256, 0, 64), "action"),  # type: ignore[arg-type]
    "receive options": (
        lambda: zoned.zone_management_receive(ZoneReceiveAction.REPORT_ZONES, 0, 64, options=256),  # type: ignore[arg-type]
        "options",
    ),
    "receive 0 bytes": (lambda: zoned.zone_management_receive(ZoneReceiveAction.REPORT_ZONES, 0, 0), "len_bytes"),
    "receive 66 bytes": (lambda: zoned.zone_management_receive(ZoneReceiveAction.REPORT_ZONES, 0, 66), "len_bytes"),
    "receive too long": (
        lambda: zoned.zone_management_receive(ZoneReceiveAction.REPORT_ZONES, 0, (1 << 34) + 4),
        "len_bytes",
    ),
    "identify cns": (lambda: admin.identify(256), "cns"),
    "identify cntid": (lambda: admin.identify(0, cntid=65536), "cntid"),
    "identify csi": (lambda: admin.identify(0, csi=256), "csi"),
    "log lid": (lambda: admin.get_log_page(256, 64), "lid"),
    "log lsp": (lambda: admin.get_log_page(2, 64, lsp=128), "lsp"),
    "log lsi": (lambda: admin.get_log_page(2, 64, lsi=1 << 16), "lsi"),
    "log csi": (lambda: admin.get_log_page(2, 64, csi=256), "csi"),
    "log 2 bytes": (lambda: admin.get_log_page(2, 2), "len_bytes"),
    "log 0 bytes": (lambda: admin.get_log_page(2, 0), "len_bytes"),
    "log 513 bytes": (lambda: admin.get_log_page(2, 513), "len_bytes"),
    "log too long": (lambda: admin.get_log_page(2, (1 << 34) + 4), "len_bytes"),
    "log offset 2": (lambda: admin.get_log_page(2, 64, offset_bytes=2), "offset_bytes"),
    "log offset -4": (lambda: admin.get_log_page(2, 64, offset_bytes=-4), "offset_bytes"),
    "log offset 2**64": (lambda: admin.get_log_page(2, 64, offset_bytes=2**64), "offset_bytes"),
    "get features fid": (lambda: admin.get_features(256), "fid"),
    "get features sel": (lambda: admin.get_features(0, sel=8), "sel"),
    "set features fid": (lambda: admin.set_features(256, 0), "fid"),
}


@pytest.mark.parametrize(("build", "name"), REFUSED.values(), ids=REFUSED)
def test_out_of_range_field_is_named(build: Callable[[], object], name: str) -> None:
    """A value that does not fit its field is refused by name, before it can spill into a neighbouring one."""
    with pytest.raises(ValueError, match=rf"^{name} = "):
        build()


@pytest.mark.parametrize("integer", [np.int32, np.uint16, np.int64, np.uint64])
def test_numpy_integers_build_the_same_command(integer: type[np.integer]) -> None:
    """Numbers out of a numpy array, of any width, encode as Python's do."""
    slba, nlb = integer(0x1234), integer(8)
    assert nvm.read(slba, nlb, fua=True) == nvm.read(0x1234, 8, fua=True)  # type: ignore[arg-type]
    assert encode(zoned.zone_append(slba, nlb), 1) == encode(zoned.zone_append(0x1234, 8), 1)  # type: ignore[arg-type]
    assert nvm.dsm_ranges([(slba, nlb)]) == nvm.dsm_ranges([(0x1234, 8)])  # type: ignore[list-item]


def test_command_set_identifiers() -> None:
    """The command sets have the identifiers that Identify and Get Log Page select them by."""
    assert [CommandSetIdentifier.NVM, CommandSetIdentifier.KEY_VALUE, CommandSetIdentifier.ZONED] == [0, 1, 2]


def test_builders_leave_the_namespace_open() -> None:
    """I/O commands name no namespace: the queue they are submitted to does."""
    assert {command.nsid for command, _, _ in (NVM | ZONED).values()} == {None}
