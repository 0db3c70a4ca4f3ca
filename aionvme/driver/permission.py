"""Which rule of the kernel's it is that keeps a command from a user, as far as command and process tell.

The rules are those of ``nvme_cmd_allowed`` (drivers/nvme/host/ioctl.c); their refusals are -EACCES, all of them.
"""

from typing import NamedTuple

from aionvme.devices import kernel_version
from aionvme.nvme.command import Command
from aionvme.nvme.opcodes import AdminOpcode
from aionvme.nvme.transfer import Direction, direction
from aionvme.privileges import CAP_SYS_ADMIN, capable

_CNS_FOR_ALL = frozenset({0x00, 0x01, 0x05, 0x06, 0x08})
"""Namespace and controller, both also as a command set has them, and a namespace whatever its command set."""

_VENDOR, _FABRICS = 0x80, 0x7F
"""The kernel calls every opcode from 80h on a vendor's, of I/O and admin commands alike."""


class Access(NamedTuple):
    """How a process came to send commands: those of the ``admin`` queue, or to a namespace that it opened ``readonly``."""

    admin: bool = False
    readonly: bool = False


FULL_ACCESS = Access()
"""I/O commands of a device that is open for writing."""


def rule_against(command: Command, access: Access) -> str:
    """Why a command that ended with EACCES or EPERM is not allowed to this process."""
    if capable(CAP_SYS_ADMIN):
        return (
            "though this process has CAP_SYS_ADMIN: the driver keeps it to itself (from Linux 7 on Set Features of the Number of "
            "Queues), a security module or a seccomp filter forbids it, or the capability is one of a container's user "
            "namespace, which does not count here"
        )
    if kernel_version() < (6, 2):
        return "before Linux 6.2 passthrough needs CAP_SYS_ADMIN: run as root, or a newer kernel"
    if command.opcode >= _VENDOR or command.opcode == _FABRICS:
        return f"vendor specific and fabrics commands (opcodes 0x7f to 0xff, here {command.opcode:#04x}) need CAP_SYS_ADMIN"
    if access.admin:
        if command.opcode != AdminOpcode.IDENTIFY:
            return "admin commands other than Identify need CAP_SYS_ADMIN"
        if command.cdw10 & 0xFF not in _CNS_FOR_ALL:
            return (
                f"Identify with CNS {command.cdw10 & 0xFF:#04x} needs CAP_SYS_ADMIN: without it there are CNS 0x00, 0x01, 0x05, "
                "0x06 and 0x08"
            )
        return "a security module or a seccomp filter forbids it"
    if access.readonly and direction(command.opcode) & Direction.HOST_TO_CONTROLLER:
        return "a command that sends data, or changes it, needs the device opened for writing, or CAP_SYS_ADMIN"
    return (
        "without CAP_SYS_ADMIN a command needs to be in the controller's Commands Supported and Effects log, and with no other "
        "effect than that it changes blocks"
        + (", for which the device has to be opened for writing" if access.readonly else "")
    )
