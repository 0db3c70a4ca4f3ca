"""How much each command moves and which way: what keeps a device from writing past a buffer."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aionvme.nvme import admin, fdp, nvm, zoned
from aionvme.nvme.command import Command
from aionvme.nvme.features import Fid
from aionvme.nvme.opcodes import AdminOpcode, NvmOpcode, ZoneReceiveAction, ZoneSendAction
from aionvme.nvme.transfer import Direction, admin_data_len, blocks_of, direction, io_data_len

OUT, IN, NONE = Direction.HOST_TO_CONTROLLER, Direction.CONTROLLER_TO_HOST, Direction.NONE

IO_DIRECTION = {
    NvmOpcode.FLUSH: NONE,
    NvmOpcode.WRITE: OUT,
    NvmOpcode.READ: IN,
    NvmOpcode.WRITE_UNCORRECTABLE: NONE,
    NvmOpcode.COMPARE: OUT,
    NvmOpcode.WRITE_ZEROES: NONE,
    NvmOpcode.DATASET_MANAGEMENT: OUT,
    NvmOpcode.VERIFY: NONE,
    NvmOpcode.RESERVATION_REGISTER: OUT,
    NvmOpcode.RESERVATION_REPORT: IN,
    NvmOpcode.RESERVATION_ACQUIRE: OUT,
    NvmOpcode.RESERVATION_RELEASE: OUT,
    NvmOpcode.IO_MANAGEMENT_RECEIVE: IN,
    NvmOpcode.COPY: OUT,
    NvmOpcode.IO_MANAGEMENT_SEND: OUT,
    NvmOpcode.ZONE_MANAGEMENT_SEND: OUT,
    NvmOpcode.ZONE_MANAGEMENT_RECEIVE: IN,
    NvmOpcode.ZONE_APPEND: OUT,
}
ADMIN_DIRECTION = {
    AdminOpcode.GET_LOG_PAGE: IN,
    AdminOpcode.IDENTIFY: IN,
    AdminOpcode.SET_FEATURES: OUT,
    AdminOpcode.GET_FEATURES: IN,
    AdminOpcode.NAMESPACE_MANAGEMENT: OUT,
    AdminOpcode.FIRMWARE_IMAGE_DOWNLOAD: OUT,
    AdminOpcode.NAMESPACE_ATTACHMENT: OUT,
    AdminOpcode.DIRECTIVE_SEND: OUT,
    AdminOpcode.DIRECTIVE_RECEIVE: IN,
    AdminOpcode.SECURITY_SEND: OUT,
    AdminOpcode.SECURITY_RECEIVE: IN,
    AdminOpcode.GET_LBA_STATUS: IN,
}

# command, bytes at 512 B blocks, bytes at 4096 B blocks, blocks addressed
IO_LENGTH: dict[str, tuple[Command, int | None, int | None, int | None]] = {
    "flush": (nvm.flush(), 0, 0, None),
    "read 1": (nvm.read(0, 1), 512, 4096, 1),
    "read 65536 fua": (nvm.read(0, 65536, fua=True, limited_retry=True), 65536 * 512, 65536 * 4096, 65536),
    "write 8 dtype": (nvm.write(0, 8, dtype=15, dspec=65535), 4096, 32768, 8),
    "compare 2": (nvm.compare(0, 2), 1024, 8192, 2),
    "append 16": (zoned.zone_append(0, 16, piremap=True), 8192, 65536, 16),
    "write zeroes": (nvm.write_zeroes(0, 8, deac=True), 0, 0, 8),
    "write uncorrectable": (nvm.write_uncorrectable(0, 8), 0, 0, 8),
    "verify": (nvm.verify(0, 8), 0, 0, 8),
    "dsm 1": (nvm.dataset_management(1), 16, 16, None),
    "dsm 256": (nvm.dataset_management(256, deallocate=True), 4096, 4096, None),
    "copy 1": (nvm.copy(0, 1, fua=True), 32, 32, None),
    "copy 128": (nvm.copy(0, 128), 4096, 4096, None),
    # The descriptor format is bits 11:8 of dword 12; entries of formats 1 and 3 have 40 bytes.
    "copy format 1": (Command(NvmOpcode.COPY, cdw12=0x165), 102 * 40, 102 * 40, None),
    "copy format 2": (Command(NvmOpcode.COPY, cdw12=0x201), 64, 64, None),
    "copy format 3": (Command(NvmOpcode.COPY, cdw12=0x301), 80, 80, None),
    "copy format 4": (Command(NvmOpcode.COPY, cdw12=0x401), None, None, None),
    "reset": (zoned.zone_management_send(ZoneSendAction.RESET, select_all=True), 0, 0, None),
    "open": (zoned.zone_management_send(ZoneSendAction.OPEN, 0, zsaso=True), 0, 0, None),
    "extension": (zoned.zone_management_send(ZoneSendAction.SET_ZONE_DESCRIPTOR_EXTENSION), 0, 0, None),
    "flush of a random write area": (
        zoned.zone_management_send(ZoneSendAction.FLUSH_EXPLICIT_ZRWA_RANGE, 7),
        0,
        0,
        None,
    ),
    "extended report": (
        zoned.zone_management_receive(ZoneReceiveAction.EXTENDED_REPORT_ZONES, 0, 4096),
        4096,
        4096,
        None,
    ),
    "report": (zoned.zone_management_receive(ZoneReceiveAction.REPORT_ZONES, 0, 4096), 4096, 4096, None),
    "handles' status": (fdp.reclaim_unit_handle_status(80), 80, 80, None),
    "handles' update": (fdp.reclaim_unit_handle_update(3), 6, 6, None),
    "no management": (Command(NvmOpcode.IO_MANAGEMENT_SEND, cdw10=0xFFFF0000), 0, 0, None),
    "management of tomorrow": (Command(NvmOpcode.IO_MANAGEMENT_SEND, cdw10=2), None, None, None),
    # Registering and acquiring send two keys of 8 bytes, releasing one; a report has NUMD dwords, 0's based.
    "register": (Command(0x0D, cdw10=2), 16, 16, None),
    "acquire": (Command(0x11, cdw10=0xF), 16, 16, None),
    "release": (Command(0x15, cdw10=1), 8, 8, None),
    "reservation report": (Command(0x0E, cdw10=1023, cdw11=1), 4096, 4096, None),
    "vendor out": (Command(0x81), None, None, None),
    "vendor none": (Command(0x80), 0, 0, None),
}


@pytest.mark.parametrize("opcode", NvmOpcode)
def test_io_direction(opcode: NvmOpcode) -> None:
    """Every I/O opcode moves data the way its figure says."""
    assert direction(opcode) is IO_DIRECTION[opcode]


@pytest.mark.parametrize("opcode", AdminOpcode)
def test_admin_direction(opcode: AdminOpcode) -> None:
    """Every admin opcode moves data the way its figure says."""
    assert direction(opcode) is ADMIN_DIRECTION[opcode]


def test_vendor_direction() -> None:
    """Vendor specific opcodes follow the same two bits, both set for both ways."""
    assert [direction(0xC0 + n) for n in range(4)] == [NONE, OUT, IN, Direction.BIDIRECTIONAL]


@pytest.mark.parametrize(("command", "small", "large", "blocks"), IO_LENGTH.values(), ids=IO_LENGTH)
def test_io_length(command: Command, small: int | None, large: int | None, blocks: int | None) -> None:
    """The bytes a command moves follow from its dwords and the block size; None where only its vendor knows."""
    assert (io_data_len(command, 512), io_data_len(command, 4096), blocks_of(command)) == (small, large, blocks)


def test_a_descriptor_extension_is_as_long_as_those_of_the_namespace() -> None:
    """Set Zone Descriptor Extension moves what the zoned identify structure says, and no other action moves anything."""
    for action in ZoneSendAction:
        moved = io_data_len(zoned.zone_management_send(action, select_all=True), 512, 192)
        assert moved == (192 if action == 0x10 else 0)
    assert io_data_len(nvm.read(0, 2), 512, 192) == 1024


def test_every_io_opcode_has_a_length() -> None:
    """No opcode goes to a device with an unchecked length."""
    for opcode in NvmOpcode:
        assert io_data_len(Command(opcode), 512) is not None
    assert {command.opcode for command, *_ in IO_LENGTH.values()} >= set(NvmOpcode)


def test_interleaved_metadata_is_counted_with_the_block() -> None:
    """Eight bytes of metadata a block, interleaved, make each block that much longer."""
    assert io_data_len(nvm.read(0, 8), 512 + 8) == 8 * 520


@settings(deadline=None)
@given(st.integers(1, 65536), st.sampled_from([512, 520, 4096, 4160]))
def test_block_commands_move_their_blocks(nlb: int, lba_size: int) -> None:
    """Read, write, compare and append move nlb blocks, whatever else the dwords hold."""
    for build in (nvm.read, nvm.write, nvm.compare, zoned.zone_append):
        for fua in (False, True):
            assert io_data_len(build(0, nlb, fua=fua), lba_size) == nlb * lba_size


@pytest.mark.parametrize("len_bytes", [4, 64, 4096, 1 << 20, 1 << 34])
def test_requested_lengths_come_back(len_bytes: int) -> None:
    """Log pages and zone reports move what was asked for, across the halves of the number of dwords too."""
    assert admin_data_len(admin.get_log_page(2, len_bytes, lsp=0x7F, rae=True)) == len_bytes
    assert io_data_len(zoned.zone_management_receive(ZoneReceiveAction.REPORT_ZONES, 0, len_bytes), 512) == len_bytes


def test_admin_length() -> None:
    """Identify moves 4096 bytes; deleting a queue moves nothing; a log page of a kind is as long as is asked for."""
    assert admin_data_len(admin.identify(1)) == 4096
    assert admin_data_len(Command(0x00, nsid=0)) == 0
    assert admin_data_len(admin.get_log_page(0x20, 0x4_0008, lsi=0xFFFF)) == 0x4_0008


ADMIN_LENGTH: dict[str, tuple[Command, int | None]] = {
    "create a namespace": (Command(0x0D, cdw10=0), 4096),
    "delete a namespace": (Command(0x0D, nsid=1, cdw10=1), 0),
    "namespace management of tomorrow": (Command(0x0D, cdw10=2), None),
    "attach": (Command(0x15, nsid=1, cdw10=0), 4096),
    "detach": (Command(0x15, nsid=1, cdw10=1), 4096),
    "firmware": (Command(0x11, cdw10=1023, cdw11=1024), 4096),  # NUMD, 0's based, and an offset
    "largest firmware": (Command(0x11, cdw10=0xFFFF_FFFF), 1 << 34),
    # Directives: NUMD in dword 10; in dword 11 the operation, the type and what is specific to it.
    "directives' parameters": (Command(0x1A, cdw10=1023, cdw11=0x0001), 4096),
    "enable a directive": (Command(0x19, cdw11=0x0001, cdw12=0x0101), 0),
    "streams' parameters": (Command(0x1A, cdw10=7, cdw11=0x0101), 32),
    "streams' status": (Command(0x1A, cdw10=0x7FFF, cdw11=0x0102), 128 << 10),
    "allocate streams": (Command(0x1A, cdw11=0x0103, cdw12=16), 0),
    "release a stream": (Command(0x19, cdw11=0xFFFF_0101), 0),
    "release streams": (Command(0x19, cdw11=0x0102), 0),
    "directive of tomorrow": (Command(0x19, cdw10=1, cdw11=0x0501), 8),
    # Lengths in bytes, which are not 0's based.
    "security send": (Command(0x81, cdw10=0x0100_0000, cdw11=512), 512),
    "security receive": (Command(0x82, cdw11=0xFFFF_FFFF), 0xFFFF_FFFF),
    "security receive of nothing": (Command(0x82), 0),
    "LBA status": (Command(0x86, nsid=1, cdw12=1023, cdw13=0x1000_0000), 4096),  # MNDW, 0's based
    "management interface": (Command(0x1D), None),
    "vendor out": (Command(0xC1), None),
    "vendor in": (Command(0xC2), None),
    "vendor none": (Command(0xC0), 0),
}


@pytest.mark.parametrize(("command", "moved"), ADMIN_LENGTH.values(), ids=ADMIN_LENGTH)
def test_admin_lengths_by_their_dwords(command: Command, moved: int | None) -> None:
    """The bytes that an admin command moves follow from its dwords, by its figures; None where they do not say."""
    assert admin_data_len(command) == moved


# What the figures of the features say that is moved: by Get Features, by Set Features, None what only its vendor knows.
FEATURES: dict[tuple[int, int], tuple[int | None, int | None]] = {
    **{
        (fid, 0): (0, 0) for fid in (0x01, 0x02, 0x04, 0x05, 0x06, 0x07, 0x08, 0x09, 0x0A, 0x0B, 0x0F, 0x10, 0x11, 0x12)
    },
    **{(fid, 0xFFFF_FFFF): (0, 0) for fid in (0x14, 0x15, 0x17, 0x18, 0x19, 0x1A, 0x1D, 0x80, 0x82, 0x83, 0x84)},
    (0x03, 0): (4096, 4096),  # LBA Range Type
    (0x0C, 0): (256, 256),  # Autonomous Power State Transition
    (0x0D, 0): (4096, 0),  # Host Memory Buffer: its descriptors are in memory of their own
    (0x0E, 0): (8, 8),  # Timestamp
    (0x13, 0): (512, 512),  # Predictable Latency Mode Config
    (0x16, 0): (512, 512),  # Host Behavior Support
    (0x1E, 5 << 16 | 0xFFFF): (10, 5),  # FDP Events: bits 23:16 are how many
    (0x7D, 0): (4096, 4096),  # metadata of controllers and namespaces
    (0x7E, 0): (4096, 4096),
    (0x7F, 0): (4096, 4096),
    (0x81, 0): (8, 8),  # Host Identifier, and the extended one
    (0x81, 1): (16, 16),
    (0x00, 0): (None, None),
    (0x1B, 0): (None, None),
    (0xC0, 0): (None, None),
}


@pytest.mark.parametrize(("feature", "moved"), FEATURES.items())
def test_features(feature: tuple[int, int], moved: tuple[int | None, int | None]) -> None:
    """Most features are a number and move nothing; what a feature supports (SEL 3) is a number in any case."""
    fid, cdw11 = feature
    assert admin_data_len(admin.get_features(fid, cdw11=cdw11)) == moved[0]
    assert admin_data_len(admin.get_features(fid, sel=2, cdw11=cdw11)) == moved[0]
    assert admin_data_len(admin.get_features(fid, sel=3, cdw11=cdw11)) == 0
    assert admin_data_len(admin.set_features(fid, cdw11, save=True)) == moved[1]


def test_every_feature_has_a_length() -> None:
    """No feature that has a name goes to a device with an unchecked length."""
    assert {fid for fid, _ in FEATURES if FEATURES[fid, _][0] is not None} == set(Fid)
