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
    """Bytes of data that an admin command transfers, None where this module does not know."""
    if direction(command.opcode) is Direction.NONE:
        return 0
    if command.opcode == AdminOpcode.IDENTIFY:
        return IDENTIFY_LEN_BYTES
    if command.opcode == AdminOpcode.GET_LOG_PAGE:
        return ((command.cdw10 >> 16) + ((command.cdw11 & 0xFFFF) << 16) + 1) * 4
    if command.opcode == AdminOpcode.GET_FEATURES:
        return get_features_data_len(command.cdw10 & 0xFF, command.cdw10 >> 8 & 0x7, command.cdw11)
    if command.opcode == AdminOpcode.SET_FEATURES:
        return set_features_data_len(command.cdw10 & 0xFF, command.cdw11)
    return None


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
}
