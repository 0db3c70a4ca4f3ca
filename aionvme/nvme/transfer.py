"""How much data a command moves, and which way.

A controller follows the command, not the buffer: physical region pages carry no length, so a command that asks for
more than its buffer holds makes the device write past the end of it. What a command will transfer must therefore be
known before it is submitted. Bits 1:0 of every opcode give the direction (Base 2.0, notes of figure 138); the length is
in the dwords.
"""

from collections.abc import Callable
from enum import IntFlag

from aionvme.nvme.admin import IDENTIFY_LEN_BYTES
from aionvme.nvme.command import Command
from aionvme.nvme.features import get_features_data_len, set_features_data_len
from aionvme.nvme.opcodes import AdminOpcode, NvmOpcode, ZoneSendAction


class Direction(IntFlag):
    """Which way an opcode may move data."""

    NONE = 0
    HOST_TO_CONTROLLER = 1
    CONTROLLER_TO_HOST = 2
    BIDIRECTIONAL = 3


def direction(opcode: int) -> Direction:
    """Direction of the data of ``opcode``, in I/O and admin commands alike, vendor specific ones included."""
    return Direction(opcode & 0x3)


def blocks_of(command: Command) -> int | None:
    """Number of logical blocks, 1-based, that an I/O command addresses, or None where it addresses none."""
    return (command.cdw12 & 0xFFFF) + 1 if command.opcode in ADDRESSES_BLOCKS else None


def io_data_len(command: Command, lba_size: int, zdes_bytes: int = 0) -> int | None:
    """Bytes of data that an I/O command transfers on a namespace of ``lba_size``-byte blocks, whose zone descriptor extensions
    are ``zdes_bytes`` long.

    Where metadata is interleaved with the data, ``lba_size`` must include it. None for a command whose length only its
    vendor or a later specification knows.
    """
    if direction(command.opcode) is Direction.NONE:
        return 0
    if command.opcode == NvmOpcode.ZONE_MANAGEMENT_SEND:
        # The only action with data.
        return zdes_bytes if command.cdw13 & 0xFF == ZoneSendAction.SET_ZONE_DESCRIPTOR_EXTENSION else 0
    measure = _IO_DATA_LEN.get(command.opcode)
    return None if measure is None else measure(command, lba_size)


def admin_data_len(command: Command) -> int | None:
    """Bytes of data that an admin command transfers, None where only its vendor or another specification knows."""
    if direction(command.opcode) is Direction.NONE:
        return 0
    measure = _ADMIN_DATA_LEN.get(command.opcode)
    return None if measure is None else measure(command)


ADDRESSES_BLOCKS = frozenset(
    {
        NvmOpcode.WRITE,
        NvmOpcode.READ,
        NvmOpcode.WRITE_UNCORRECTABLE,
        NvmOpcode.COMPARE,
        NvmOpcode.WRITE_ZEROES,
        NvmOpcode.VERIFY,
        NvmOpcode.ZONE_APPEND,
    }
)


MOVES_BLOCKS = frozenset({NvmOpcode.WRITE, NvmOpcode.READ, NvmOpcode.COMPARE, NvmOpcode.ZONE_APPEND})
"""Commands whose data are logical blocks, with their metadata."""


def _block_data(command: Command, lba_size: int) -> int:
    return ((command.cdw12 & 0xFFFF) + 1) * lba_size


def _copy_data(command: Command, lba_size: int) -> int | None:
    # By descriptor format; 1 and 3 carry larger tags; 2 and 3, of later revisions, name a source namespace.
    entry = {0: 32, 1: 40, 2: 32, 3: 40}.get(command.cdw12 >> 8 & 0xF)
    return None if entry is None else ((command.cdw12 & 0xFF) + 1) * entry


def _management_data(command: Command, lba_size: int) -> int | None:
    # Management operation 1 takes placement identifiers, of 2 bytes each; 0 does nothing.
    operation = command.cdw10 & 0xFF
    return {0: 0, 1: ((command.cdw10 >> 16) + 1) * 2}.get(operation)


_IO_DATA_LEN: dict[int, Callable[[Command, int], int | None]] = {
    NvmOpcode.WRITE: _block_data,
    NvmOpcode.READ: _block_data,
    NvmOpcode.COMPARE: _block_data,
    NvmOpcode.ZONE_APPEND: _block_data,
    NvmOpcode.DATASET_MANAGEMENT: lambda command, _: ((command.cdw10 & 0xFF) + 1) * 16,
    NvmOpcode.COPY: _copy_data,
    NvmOpcode.IO_MANAGEMENT_RECEIVE: lambda command, _: (command.cdw11 + 1) * 4,
    NvmOpcode.IO_MANAGEMENT_SEND: _management_data,
    NvmOpcode.ZONE_MANAGEMENT_RECEIVE: lambda command, _: (command.cdw12 + 1) * 4,
    # Keys of 8 bytes: the current one, and with the first two another one (Base 2.0, sections 7.2 to 7.4).
    NvmOpcode.RESERVATION_REGISTER: lambda *_: 16,
    NvmOpcode.RESERVATION_ACQUIRE: lambda *_: 16,
    NvmOpcode.RESERVATION_RELEASE: lambda *_: 8,
    NvmOpcode.RESERVATION_REPORT: lambda command, _: (command.cdw10 + 1) * 4,
}


_NO_DATA_DIRECTIVES = frozenset(
    {
        (AdminOpcode.DIRECTIVE_SEND, 0x00, 0x01),  # Identify: Enable Directive
        (AdminOpcode.DIRECTIVE_SEND, 0x01, 0x01),  # Streams: Release Identifier
        (AdminOpcode.DIRECTIVE_SEND, 0x01, 0x02),  # Streams: Release Resources
        (AdminOpcode.DIRECTIVE_RECEIVE, 0x01, 0x03),  # Streams: Allocate Resources
    }
)
"""Directive operations without data, by opcode, directive type and operation (Base 2.0, section 8.7)."""


def _log_page_data(command: Command) -> int:
    return ((command.cdw10 >> 16) + ((command.cdw11 & 0xFFFF) << 16) + 1) * 4


def _directive_data(command: Command) -> int:
    dtype, doper = command.cdw11 >> 8 & 0xFF, command.cdw11 & 0xFF
    return 0 if (command.opcode, dtype, doper) in _NO_DATA_DIRECTIVES else (command.cdw10 + 1) * 4


_ADMIN_DATA_LEN: dict[int, Callable[[Command], int | None]] = {
    AdminOpcode.GET_LOG_PAGE: _log_page_data,
    AdminOpcode.IDENTIFY: lambda _: IDENTIFY_LEN_BYTES,
    AdminOpcode.SET_FEATURES: lambda command: set_features_data_len(command.cdw10 & 0xFF, command.cdw11),
    AdminOpcode.GET_FEATURES: lambda command: get_features_data_len(
        command.cdw10 & 0xFF, command.cdw10 >> 8 & 0x7, command.cdw11
    ),
    # To create a namespace, its properties; to delete one, nothing (section 5.23).
    AdminOpcode.NAMESPACE_MANAGEMENT: lambda command: {0: 4096, 1: 0}.get(command.cdw10 & 0xF),
    AdminOpcode.FIRMWARE_IMAGE_DOWNLOAD: lambda command: (command.cdw10 + 1) * 4,
    # A controller list, to attach and to detach (section 5.22).
    AdminOpcode.NAMESPACE_ATTACHMENT: lambda command: {0: 4096, 1: 4096}.get(command.cdw10 & 0xF),
    AdminOpcode.DIRECTIVE_SEND: _directive_data,
    AdminOpcode.DIRECTIVE_RECEIVE: _directive_data,
    # Transfer length and allocation length, in bytes and not 0's based (sections 5.26 and 5.25).
    AdminOpcode.SECURITY_SEND: lambda command: command.cdw11,
    AdminOpcode.SECURITY_RECEIVE: lambda command: command.cdw11,
    AdminOpcode.GET_LBA_STATUS: lambda command: (command.cdw12 + 1) * 4,
}
