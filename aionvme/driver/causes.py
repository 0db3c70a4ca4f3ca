"""What it likely means when the operating system, not the device, ends a command, and how a failure is told in passing."""

import errno
import os
from types import MappingProxyType
from typing import Literal

from aionvme.devices import Presence
from aionvme.driver.permission import Access, rule_against
from aionvme.errors import CommandAbortedError, DeviceGoneError, os_error
from aionvme.nvme.command import Command
from aionvme.nvme.status import Status

CQE_CAUSES = MappingProxyType(
    {
        errno.EINTR: "the kernel gave the command up: the controller was reset, or the command timed out",
        errno.EIO: "the kernel gave the command up without having sent it: the controller was being reset or removed",
        errno.EINVAL: "the kernel refused it: a wrong nsid, more data than the controller or the block layer takes at once, "
        "or no path to the namespace",
        errno.EFAULT: "a buffer is not where it was registered, or not there at all; or the command waited in the kernel for a "
        "controller that was being reset, and was not sent",
        errno.ENOTTY: "an admin command needs the controller's device node, an I/O command the namespace's",
        errno.EOPNOTSUPP: "this device takes no passthrough commands through io_uring: that needs Linux 5.19, polling 6.1",
        errno.ENODEV: "the device is gone",
        errno.ENXIO: "the device is gone",
        errno.ENOMEM: "not enough memory that may be locked or mapped",
    }
)


def present() -> Literal["present"]:
    """It is there."""
    return "present"


GIVEN_UP = frozenset((errno.EINTR, errno.EIO))
"""What a command ends with that the kernel has given up."""

OF_WHAT_IS_GONE = GIVEN_UP | {errno.EINVAL}
"""What a command may end with as its device is removed. EINVAL is that of a namespace to which no path leads any more."""

NOT_SENT = MappingProxyType(
    {
        errno.EINVAL: "the kernel did not send it: no path to the namespace while its controller is being reset",
        errno.EFAULT: "the kernel did not send it: it waited for its controller, which is being reset",
    }
)
"""What a command may end with that came during a reset of the only path. EFAULT, seen of Linux 7.3, is one that the kernel took,
and gave to a worker."""


def command_error(res: int, command: Command, target: str, access: Access, presence: Presence) -> OSError:
    """The exception of a command that the operating system ended with a negative ``res``, with its likely cause.

    ``presence`` is asked where the errno may be that of a device that has been removed or is being reset, but does not say so.
    """
    number, doing = -res, f"a command to {target}"
    seen = presence() if number in OF_WHAT_IS_GONE or number in NOT_SENT else "present"
    if seen == "gone" and number in OF_WHAT_IS_GONE:
        return DeviceGoneError(number, f"{os.strerror(number)}, {doing}: the device is gone")
    if seen == "away" and number in NOT_SENT:
        return CommandAbortedError(number, f"{os.strerror(number)}, {doing}: {NOT_SENT[number]}")
    if number in GIVEN_UP:
        return CommandAbortedError(number, f"{os.strerror(number)}, {doing}: {CQE_CAUSES[number]}")
    if number in (errno.EACCES, errno.EPERM):
        return os_error(number, doing, {number: rule_against(command, access)})
    return os_error(number, doing, CQE_CAUSES)


def note_failure(cancellation: BaseException, res: int) -> None:
    """Say so in the cancellation that a task gets instead, where a command of its own failed."""
    if res:
        what = repr(Status(res)) if res > 0 else os.strerror(-res)
        cancellation.add_note(f"its command had failed meanwhile: {what}")
