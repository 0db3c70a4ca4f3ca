"""What a command may change, by its opcode: what only reads is listed, and whatever is not listed may change anything.

Opcodes are those of the NVM Express Base Specification 2.1 (figures 87 and 142) and of the I/O command sets.
"""

from aionvme.nvme.command import Command
from aionvme.nvme.opcodes import AdminOpcode, NvmOpcode

_ONLY_READ = frozenset(
    {
        NvmOpcode.FLUSH,
        NvmOpcode.READ,
        NvmOpcode.COMPARE,
        NvmOpcode.VERIFY,
        NvmOpcode.ZONE_MANAGEMENT_RECEIVE,
        NvmOpcode.RESERVATION_REPORT,
        NvmOpcode.IO_MANAGEMENT_RECEIVE,
    }
)

_ADMIN_ONLY_READ = frozenset(
    {AdminOpcode.IDENTIFY, AdminOpcode.GET_LOG_PAGE, AdminOpcode.GET_FEATURES, AdminOpcode.GET_LBA_STATUS}
)

_FORMAT_NVM = 0x80

_ADMIN_DESTROY = frozenset(
    {
        AdminOpcode.NAMESPACE_MANAGEMENT,
        AdminOpcode.NAMESPACE_ATTACHMENT,
        0x20,  # Capacity Management
        *range(0x80, 0x100),  # of an I/O command set: Format NVM, Sanitize, Security Send; from 0xC0 on vendor specific
    }
) - {AdminOpcode.SECURITY_RECEIVE, AdminOpcode.GET_LBA_STATUS}

_DEALLOCATE = 1 << 2
"""In dword 11 of Dataset Management."""
_SELECT_ALL = 1 << 8
"""In dword 13 of Zone Management Send."""
_RESET_OR_OFFLINE = 1 << 2
"""In its action, which has this bit for no other: so that the dwords of many commands can be judged together, or-ed."""


def only_reads(opcode: int) -> bool:
    """Whether an I/O command changes neither what the namespace holds nor how it is kept."""
    return opcode in _ONLY_READ


def admin_only_reads(opcode: int) -> bool:
    """Whether an admin command changes nothing."""
    return opcode in _ADMIN_ONLY_READ


def admin_destroys(opcode: int) -> bool:
    """Whether an admin command can destroy what namespaces hold, that of this controller or others beside it."""
    return opcode in _ADMIN_DESTROY


def changes_formats(opcode: int) -> bool:
    """Whether an admin command can give a namespace another block size."""
    return opcode in (AdminOpcode.NAMESPACE_MANAGEMENT, _FORMAT_NVM)


def destroys_much(command: Command) -> bool:
    """Whether an I/O command takes away what many blocks hold: it deallocates them, resets a zone, or acts on all zones."""
    if command.opcode == NvmOpcode.DATASET_MANAGEMENT:
        return bool(command.cdw11 & _DEALLOCATE)
    return command.opcode == NvmOpcode.ZONE_MANAGEMENT_SEND and bool(command.cdw13 & (_SELECT_ALL | _RESET_OR_OFFLINE))
