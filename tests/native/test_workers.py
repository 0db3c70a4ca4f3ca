"""The kernel's workers for what it cannot submit at once: one_worker() in _native/core.c says why there is to be only one."""

import ctypes
import struct
from typing import Literal

import pytest

from tests.native.rings import NullQueue

IO_URING_REGISTER = 427
IORING_REGISTER_IOWQ_MAX_WORKERS = 19


@pytest.mark.parametrize("kind", ["interrupt", "polled"])
def test_one_worker_of_each_kind(kind: Literal["interrupt", "polled"]) -> None:
    """Asked how many there may be, bounded and unbounded, the kernel says one. (Zeroes ask, and change nothing.)"""
    queue = NullQueue(kind)
    most = ctypes.create_string_buffer(struct.pack("<2I", 0, 0))
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.syscall(IO_URING_REGISTER, queue.ring_fd, IORING_REGISTER_IOWQ_MAX_WORKERS, most, 2) == 0
    queue.close()
    assert struct.unpack("<2I", most.raw[:8]) == (1, 1)
