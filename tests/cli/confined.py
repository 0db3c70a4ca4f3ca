"""Runs the command line in a process that may do less: ``confined.py LIMITS ARGUMENT...``.

LIMITS is a list with commas: ``errno=N`` has a seccomp filter answer io_uring's system calls with that errno, ``memlock=N``
sets RLIMIT_MEMLOCK, ``nobody`` gives up root.
"""

import ctypes
import io
import os
import resource
import struct
import sys
from contextlib import redirect_stderr, redirect_stdout

from aionvme.cli import main

PR_SET_SECCOMP = 22
PR_SET_NO_NEW_PRIVS = 38
SECCOMP_MODE_FILTER = 2
SECCOMP_RET_ERRNO = 0x0005_0000
SECCOMP_RET_ALLOW = 0x7FFF_0000
BPF_LD_W_ABS = 0x20
BPF_JMP_JGE_K = 0x35
BPF_JMP_JGT_K = 0x25
BPF_RET_K = 0x06
IO_URING_SETUP = 425
IO_URING_REGISTER = 427


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
    code = b"".join(struct.pack("=HBBI", *instruction) for instruction in program)
    fprog = SockFprog(len(program), code)
    libc = ctypes.CDLL(None, use_errno=True)
    for arguments in (
        (PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0),
        (PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(fprog), 0, 0),
    ):
        if libc.prctl(*arguments):
            raise OSError(ctypes.get_errno(), f"prctl{arguments}")


def confine(limits: str) -> None:
    """Apply what the first argument asks for."""
    for limit in limits.split(","):
        name, _, value = limit.partition("=")
        if name == "errno":
            forbid_io_uring(int(value))
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
