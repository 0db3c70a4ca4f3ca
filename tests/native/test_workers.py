"""The kernel's workers for what it cannot submit at once: one_worker() in _native/core.c says why there is to be only one."""

import ctypes
import os
import struct
import threading
from typing import Literal

import pytest

from tests.native.rings import IO_URING_SETUP, NullQueue

IO_URING_REGISTER = 427
IORING_REGISTER_IOWQ_MAX_WORKERS = 19


def limits(ring_fd: int) -> tuple[int, int]:
    """How many workers there may be, bounded and unbounded. (Zeroes ask, and change nothing.)"""
    most = ctypes.create_string_buffer(struct.pack("<2I", 0, 0))
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.syscall(IO_URING_REGISTER, ring_fd, IORING_REGISTER_IOWQ_MAX_WORKERS, most, 2) == 0
    bounded, unbounded = struct.unpack("<2I", most.raw[:8])
    return bounded, unbounded


@pytest.mark.parametrize("sqpoll", [False, True], ids=["", "sqpoll"])
@pytest.mark.parametrize("kind", ["interrupt", "polled"])
def test_one_bounded_worker(kind: Literal["interrupt", "polled"], sqpoll: bool) -> None:
    """The kernel says one of those that commands are given to; those of sockets and pipes are left alone."""
    queue = NullQueue(kind, sqpoll=sqpoll)
    bounded, unbounded = limits(queue.ring_fd)
    queue.close()
    assert bounded == 1
    assert unbounded > 1


def test_whose_limit_it_is() -> None:
    """With a kernel thread that submits it is that thread's: this one's rings have as many workers as before."""
    seen: list[int] = []

    def look() -> None:
        with_thread = NullQueue(sqpoll=True)
        plain = ctypes.create_string_buffer(120)
        fd = ctypes.CDLL(None).syscall(IO_URING_SETUP, 8, plain)
        seen.append(limits(fd)[0])
        own = NullQueue()
        seen.append(limits(fd)[0])
        with_thread.close()
        own.close()
        os.close(fd)

    # A thread that has had no ring yet.
    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert seen[0] > 1
    assert seen[1:] == [1]
