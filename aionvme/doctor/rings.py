"""Whether there is io_uring, with what passthrough needs of it; and where there is not, who forbids it."""

import ctypes
import errno
import os
from collections.abc import Iterator

from aionvme._core import lib
from aionvme.devices import kernel_version
from aionvme.doctor.check import Check, one_line
from aionvme.doctor.process import filtered, in_group, sysctl
from aionvme.nvme.command import NVME_URING_CMD
from aionvme.privileges import CAP_SYS_ADMIN, capable
from aionvme.queues.ring import RingQueue

FILTER_REMEDY = (
    "have the filter allow io_uring_setup, io_uring_enter and io_uring_register (docker, podman: --security-opt "
    "seccomp=PROFILE)"
)

IO_URING_SETUP = 425
PARAMS_LEN_BYTES = 120
"""Of ``struct io_uring_params``."""


def rings() -> Iterator[Check]:
    """io_uring itself, its big entries, and polling."""
    try:
        _try_ring()
    except OSError as error:
        if error.errno == errno.EINVAL:
            yield from _refused_as_invalid(error)
        else:
            yield Check("io_uring", "fail", one_line(error), _remedy(error.errno))
            yield Check("big entries", "absent", "not tried without io_uring", "first io_uring")
        yield Check("polling", "absent", "not tried without such a ring", "first io_uring and its big entries")
        return
    yield Check("io_uring", "ok", f"a ring was set up and entered; {_disabled()}")
    yield Check("big entries", "ok", "128-byte submissions, 32-byte completions")
    if RingQueue.polling_supported():
        yield Check("polling", "ok", "IOPOLL ring with DEFER_TASKRUN")
    else:
        yield Check("polling", "warn", "polled passthrough needs Linux 6.1", "run Linux 6.1 or newer")


def _refused_as_invalid(error: OSError) -> Iterator[Check]:
    """Told from EINVAL by a ring without any flags, which every io_uring has."""
    number = _plain_ring()
    if number:
        name = errno.errorcode.get(number, str(number))
        who = "this process runs under a seccomp filter, so it is most likely that: " if filtered() else ""
        yield Check(
            "io_uring",
            "fail",
            f"even a ring without big entries is refused [{name}]; {_disabled()}",
            who + FILTER_REMEDY,
        )
        yield Check("big entries", "absent", "not tried without io_uring", "first io_uring")
        return
    yield Check("io_uring", "ok", f"there is one, without big entries; {_disabled()}")
    remedy = "run Linux 5.19 or newer"
    if kernel_version() >= (5, 19):
        remedy = "this kernel's version should have them, so something stands before it: run outside of the sandbox"
    yield Check("big entries", "fail", one_line(error), remedy)


def _try_ring() -> None:
    """Set up a ring just as a device's and enter it. /dev/null takes passthrough commands since 6.1, and does nothing."""
    fd = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    try:
        queue = RingQueue(fd, lib.NVME_URING_CMD_IO, kind="interrupt", depth=1)
        try:
            queue.stage(0, bytes(NVME_URING_CMD.size), -1)
            queue.tick(1)
        finally:
            queue.close()
    finally:
        os.close(fd)


def _plain_ring() -> int:
    """Set up a ring that asks for nothing: 0, or the errno."""
    libc = ctypes.CDLL(None, use_errno=True)
    fd = libc.syscall(IO_URING_SETUP, 1, ctypes.create_string_buffer(PARAMS_LEN_BYTES))
    if fd < 0:
        return ctypes.get_errno()
    os.close(fd)
    return 0


def _disabled() -> str:
    disabled = sysctl("io_uring_disabled")
    if disabled is None:
        return "this kernel has no sysctl kernel.io_uring_disabled"
    return f"kernel.io_uring_disabled is {disabled}{', for the privileged only' if disabled == '1' else ''}"


def _remedy(number: int | None) -> str:
    disabled, group = sysctl("io_uring_disabled"), sysctl("io_uring_group")
    if number == errno.EPERM and disabled == "2":
        return f"{_disabled()}, off for everybody: sysctl -w kernel.io_uring_disabled=0"
    if number == errno.EPERM and disabled == "1" and not capable(CAP_SYS_ADMIN) and not in_group(group):
        join = "name a group in kernel.io_uring_group" if group in (None, "-1") else f"join the group with id {group}"
        return f"{_disabled()} (CAP_SYS_ADMIN): {join}, or sysctl -w kernel.io_uring_disabled=0"
    if number in (errno.EPERM, errno.ENOSYS) and filtered():
        return (
            f"{_disabled()}, and this process runs under a seccomp filter, so it is most likely that: {FILTER_REMEDY}"
        )
    if number in (errno.EPERM, errno.EACCES):
        return (
            f"{_disabled()}, and no seccomp filter is at work: look for a security module's refusal in the kernel log"
        )
    if number == errno.ENOSYS:
        return "run a kernel built with CONFIG_IO_URING=y"
    return "lift that limit for this process"
