"""What it likely means when the operating system, not the device, ends a command, and how a failure is told in passing."""

import errno
import os
from types import MappingProxyType

from aionvme.nvme.status import Status

CQE_CAUSES = MappingProxyType(
    {
        errno.EINTR: "the host cancelled it: the controller was reset, or the command timed out",
        errno.EIO: "the host gave the command up: the controller was reset or removed",
        errno.EINVAL: "the kernel refused it: a wrong nsid, more data than the controller or the block layer takes at once, "
        "or no path to the namespace",
        errno.EFAULT: "a buffer is not where it was registered",
        errno.ENOTTY: "an admin command needs the controller's device node, an I/O command the namespace's",
        errno.EOPNOTSUPP: "this device takes no passthrough commands through io_uring: that needs Linux 5.19, polling 6.1",
        errno.EACCES: "not allowed to this user: unprivileged passthrough needs Linux 6.2 and permission to write to the device",
        errno.EPERM: "not allowed to this user, or forbidden by a security module",
        errno.ENODEV: "the device is gone",
        errno.ENXIO: "the device is gone",
        errno.ENOMEM: "not enough memory that may be locked or mapped",
    }
)


def note_failure(cancellation: BaseException, res: int) -> None:
    """Say so in the cancellation that a task gets instead, where a command of its own failed."""
    if res:
        what = repr(Status(res)) if res > 0 else os.strerror(-res)
        cancellation.add_note(f"its command had failed meanwhile: {what}")
