"""Runs the command line in a process that may do less: ``confined.py LIMITS ARGUMENT...``.

LIMITS is a list with commas: ``errno=N`` has a seccomp filter answer io_uring's system calls with that errno, ``flags=N``
refuses rings with any of those flags, as a kernel does that is too old for them, ``memlock=N`` sets RLIMIT_MEMLOCK, ``nobody``
gives up root.
"""

import ctypes
import errno
import fcntl
import io
import os
import queue
import resource
import struct
import sys
import threading
from contextlib import redirect_stderr, redirect_stdout
from typing import Any

from aionvme.cli import main

PR_SET_SECCOMP = 22
PR_SET_NO_NEW_PRIVS = 38
SECCOMP_MODE_FILTER = 2
SECCOMP_RET_ERRNO = 0x0005_0000
SECCOMP_RET_ALLOW = 0x7FFF_0000
BPF_LD_W_ABS = 0x20
BPF_JMP_JEQ_K = 0x15
BPF_JMP_JGE_K = 0x35
BPF_JMP_JGT_K = 0x25
BPF_RET_K = 0x06
IO_URING_SETUP = 425
IO_URING_REGISTER = 427

SECCOMP = {"x86_64": 317, "aarch64": 277}
SECCOMP_SET_MODE_FILTER = 1
SECCOMP_FILTER_FLAG_NEW_LISTENER = 1 << 3
SECCOMP_RET_USER_NOTIF = 0x7FC0_0000
SECCOMP_USER_NOTIF_FLAG_CONTINUE = 1
SECCOMP_IOCTL_NOTIF_RECV = 0xC050_2100
SECCOMP_IOCTL_NOTIF_SEND = 0xC018_2101
NOTIF = struct.Struct("=QIIiIQ6Q")  # id, pid, flags; then seccomp_data: nr, arch, instruction pointer, arguments
RESPONSE = struct.Struct("=QqiI")  # id, value, error, flags

LIBC = ctypes.CDLL(None, use_errno=True)


class SockFprog(ctypes.Structure):
    """struct sock_fprog of linux/filter.h."""

    _fields_ = (("len", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def forbid_io_uring(number: int) -> None:
    """Answer io_uring_setup, io_uring_enter and io_uring_register with an errno from here on."""
    program = [
        (BPF_LD_W_ABS, 0, 0, 0),  # the number of the system call is the first field of seccomp_data
        (BPF_JMP_JGE_K, 0, 2, IO_URING_SETUP),
        (BPF_JMP_JGT_K, 1, 0, IO_URING_REGISTER),
        (BPF_RET_K, 0, 0, SECCOMP_RET_ERRNO | number),
        (BPF_RET_K, 0, 0, SECCOMP_RET_ALLOW),
    ]
    fprog = assembled(program)
    for arguments in (
        (PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0),
        (PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(fprog), 0, 0),
    ):
        called(LIBC.prctl, *arguments)


def forbid_flags(flags: int) -> None:
    """Refuse rings with any of these flags with EINVAL from here on, and let all others pass.

    The flags are in memory, where no filter can look: it has a thread of this process, which it does not bind, decide instead.
    """
    program = [
        (BPF_LD_W_ABS, 0, 0, 0),
        (BPF_JMP_JEQ_K, 0, 1, IO_URING_SETUP),
        (BPF_RET_K, 0, 0, SECCOMP_RET_USER_NOTIF),
        (BPF_RET_K, 0, 0, SECCOMP_RET_ALLOW),
    ]
    listener: queue.SimpleQueue[int] = queue.SimpleQueue()
    threading.Thread(target=decide, args=(listener, flags), daemon=True).start()
    fprog = assembled(program)
    called(LIBC.prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    number = SECCOMP[os.uname().machine]
    listener.put(
        called(LIBC.syscall, number, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, ctypes.byref(fprog))
    )


def decide(listener: "queue.SimpleQueue[int]", flags: int) -> None:
    """Answer the filter's questions, for as long as the process lives.

    The kernel wakes whoever waits in a system call for work of io_uring's, such as a closed ring's end, and has the call begin
    again: the question is then gone (ENOENT), whether it was read or not, and comes anew.
    """
    fd = listener.get()
    while True:
        question = bytearray(NOTIF.size)
        if not asked_or_answered(fd, SECCOMP_IOCTL_NOTIF_RECV, question):
            continue
        number, *_, params = NOTIF.unpack(question)[:8]
        (asked,) = struct.unpack(
            "=I", ctypes.string_at(params + 8, 4)
        )  # struct io_uring_params: sq_entries, cq_entries, flags
        if asked & flags:
            answer = RESPONSE.pack(number, 0, -errno.EINVAL, 0)
        else:
            answer = RESPONSE.pack(number, 0, 0, SECCOMP_USER_NOTIF_FLAG_CONTINUE)
        asked_or_answered(fd, SECCOMP_IOCTL_NOTIF_SEND, answer)


def asked_or_answered(fd: int, request: int, argument: bytes | bytearray) -> bool:
    """Whether a question was read or answered; it may be gone."""
    try:
        fcntl.ioctl(fd, request, argument)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.EINTR):
            return False
        os.close(fd)  # nobody answers any more: the kernel says ENOSYS to all who ask
        raise
    return True


def assembled(program: list[tuple[int, int, int, int]]) -> SockFprog:
    """A filter's instructions as the kernel takes them."""
    return SockFprog(len(program), b"".join(struct.pack("=HBBI", *instruction) for instruction in program))


def called(function: Any, *arguments: Any) -> int:
    """Call into libc. Raises OSError where that fails."""
    result: int = function(*arguments)
    if result < 0:
        raise OSError(ctypes.get_errno(), f"{function.__name__}{arguments}")
    return result


def confine(limits: str) -> None:
    """Apply what the first argument asks for."""
    for limit in limits.split(","):
        name, _, value = limit.partition("=")
        if name == "errno":
            forbid_io_uring(int(value))
        elif name == "flags":
            forbid_flags(int(value, 0))
        elif name == "memlock":
            resource.setrlimit(resource.RLIMIT_MEMLOCK, (int(value), int(value)))
        elif name == "nobody" and os.geteuid() == 0:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)


if __name__ == "__main__":
    # Once without limits: whatever is imported late is there when this user may no longer read it.
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        main(sys.argv[2:])
    confine(sys.argv[1])
    sys.exit(main(sys.argv[2:]))
