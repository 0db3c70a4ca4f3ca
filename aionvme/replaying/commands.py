"""What replaying needs to know of a command: how it is sent again, and what it may change."""

from aionvme.nvme.command import Command
from aionvme.nvme.nvm import split_lba
from aionvme.nvme.opcodes import NvmOpcode

CHANGES = (
    NvmOpcode.WRITE,
    NvmOpcode.WRITE_UNCORRECTABLE,
    NvmOpcode.WRITE_ZEROES,
    NvmOpcode.ZONE_MANAGEMENT_SEND,
    NvmOpcode.ZONE_APPEND,
)
"""What changes blocks or zones."""


def command_of(opcode: int, slba: int, cdw12: int, cdw13: int) -> Command:
    """The command of a row of a trace."""
    low, high = split_lba(slba)
    return Command(opcode, cdw10=low, cdw11=high, cdw12=cdw12, cdw13=cdw13)
