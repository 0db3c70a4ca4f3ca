"""Queues on real rings that carry commands out without an NVMe device, and what these tests ask of the process.

The numbers are those of <linux/io_uring.h> in Linux 6.18.
"""

import ctypes
import errno
import gc
import math
import os
import select
import socket
import struct
import time
import traceback
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import anyio
import numpy as np
import pytest
from numpy.typing import NDArray

from aionvme.driver.request import Submission
from aionvme.queues.base import CQE, Entries
from aionvme.queues.ring import RingQueue

CompletionTuple = tuple[int, int, int]
"""user_data, res, and the 64-bit result of the completion entry."""

NOP, RECV = 0, 27
NOP_INJECT_RESULT = 1 << 0  # res = sqe->len
NOP_TW = 1 << 4  # completes by deferred work instead of at once
NOP_CQE32 = 1 << 5  # big_cqe[0] = sqe->off, big_cqe[1] = sqe->addr

IO_URING_SETUP = 425  # the same system call number on every architecture but alpha and mips


class NullQueue(RingQueue):
    """A queue on /dev/null, whose uring_cmd does nothing successfully (6.1). Counts what passes through."""

    port = None  # every command passes through here

    def __init__(
        self, kind: Literal["polled", "interrupt"] = "interrupt", depth: int = 8, sqpoll: bool = False
    ) -> None:
        fd = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        others = ring_fds()  # an event loop can have rings of its own
        try:
            super().__init__(fd, 1, kind=kind, depth=depth, sqpoll=sqpoll)
        finally:
            os.close(fd)  # the ring has its own reference
        (self.ring_fd,) = ring_fds() - others
        self.turns = 0
        self.in_flight = 0
        self.most_in_flight = 0

    def stage(self, user_data: int, entry: bytes, buf_index: int) -> None:
        """Count a command on its way in."""
        super().stage(user_data, entry, buf_index)
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)

    def tick(self, budget: int) -> Entries:
        """Count commands on their way out."""
        self.turns += 1
        completions = super().tick(budget)
        self.in_flight -= len(completions) // CQE.size
        return completions


class NopQueue(NullQueue):
    """Carries each command out as a NOP whose completion is the one that its entry names: see :func:`outcome`."""

    deferred = False
    """Complete by deferred work instead of in the submitting system call, which a polled ring does not do."""

    def stage(self, user_data: int, entry: bytes, buf_index: int) -> None:
        """Stage a NOP instead."""
        self._entry = entry
        super().stage(user_data, entry, buf_index)

    def stage_sqe(self, *fields: int | bytes) -> None:
        """Put the NOP's fields in place of the command's."""
        res, result = struct.unpack_from("<iQ", self._entry)
        flags = NOP_INJECT_RESULT | NOP_CQE32 | (NOP_TW if self.deferred else 0)
        super().stage_sqe(NOP, 0, 0, -1, result, 0xDEAD, res & 0xFFFFFFFF, flags, fields[8], 0, 0, 0, b"")


class HeldQueue(NullQueue):
    """Commands stay in the kernel until they are released: each waits for an empty message on a socket, and gives res 0."""

    def __init__(self, depth: int = 8, sqpoll: bool = False) -> None:
        self._socket, self._other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._byte = ctypes.create_string_buffer(1)
        super().__init__("interrupt", depth, sqpoll)

    def stage_sqe(self, *fields: int | bytes) -> None:
        """Receive a message instead of a uring_cmd."""
        fd, addr = self._socket.fileno(), ctypes.addressof(self._byte)
        super().stage_sqe(RECV, 0, 0, fd, 0, addr, 1, 0, fields[8], 0, 0, 0, b"")

    def release(self, n: int) -> None:
        """Let ``n`` commands complete, in flight or to come."""
        for _ in range(n):
            self._other.send(b"")

    async def __aenter__(self) -> None:
        """Nothing; for the sake of the end."""

    async def __aexit__(self, *_: object) -> None:
        """Let everything complete, so that a failing test does not wait for its own commands."""
        self._other.close()

    def close(self) -> None:
        """Close the sockets too."""
        super().close()
        self._socket.close()
        self._other.close()


def outcome(res: int = 0, result: int = 0) -> bytes:
    """The entry of a command that a :class:`NopQueue` completes with ``res`` and ``result``."""
    return struct.pack("<iQ60x", res, result)


def need_injected_results() -> None:
    """Skip where this kernel's NOP cannot do what :class:`NopQueue` asks of it: found out by asking."""
    queue = NopQueue()
    queue.deferred = True
    queue.stage(1, outcome(5, 1 << 40), -1)
    completions = drain(queue, 1)
    queue.close()
    if completions == [(1, -errno.EINVAL, 0)]:
        pytest.skip("this kernel's NOP gives no chosen 32-byte completion: Linux 6.18")
    assert completions == [(1, 5, 1 << 40)]


def reap(queue: RingQueue, budget: int = 64) -> list[CompletionTuple]:
    """What one tick gives."""
    return list(CQE.iter_unpack(queue.tick(budget)))


def drain(queue: RingQueue, n: int, budget: int = 64) -> list[CompletionTuple]:
    """Tick until ``n`` completions have come, sleeping as a driver would; fails after 10 s."""
    got: list[CompletionTuple] = []
    deadline = time.monotonic() + 10
    while len(got) < n:
        assert time.monotonic() < deadline, f"{len(got)} of {n} completions"
        completions = reap(queue, budget)
        got += completions
        if not completions and queue.pause(False) == math.inf:
            assert readable(queue, 10), "armed, and not woken"
    return got


def readable(queue: RingQueue, timeout_s: float = 0) -> bool:
    """Whether the queue's file descriptor is readable."""
    fd = queue.fileno()
    assert fd is not None
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(timeout_s * 1000))


def holdings() -> tuple[int, int]:
    """How many files the process has open, and how many mappings of rings it has."""
    return len(os.listdir("/proc/self/fd")), Path("/proc/self/maps").read_text().count("[io_uring]")


def ring_fds() -> set[int]:
    """The file descriptors of the process's rings."""
    links = {int(fd.name): fd for fd in Path("/proc/self/fd").iterdir()}
    return {number for number, fd in links.items() if fd.is_symlink() and "[io_uring]" in os.readlink(fd)}


def break_ring(queue: NullQueue) -> None:
    """Put something that is no ring in the place of the queue's, so that entering it fails."""
    null = os.open("/dev/null", os.O_RDWR)
    os.dup2(null, queue.ring_fd, inheritable=False)
    os.close(null)


class Kept:
    """Buffers kept by submissions, watched: which of them live.

    They are arrays because those are no part of the garbage collector's cycles: a weak reference to an array ends with the array.
    """

    def __init__(self) -> None:
        self._refs: list[weakref.ref[NDArray[np.uint8]]] = []

    def submission(self, entry: bytes) -> Submission:
        """A command that keeps a new one."""
        keep = np.zeros(1, np.uint8)
        self._refs.append(weakref.ref(keep))
        return Submission(entry, keep=keep)

    def living(self) -> int:
        """How many are left."""
        gc.collect()
        return sum(ref() is not None for ref in self._refs)


async def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition, for 10 s."""
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        await anyio.sleep(0.001)


def in_child(run: Callable[[], None]) -> None:
    """Run a function in a forked child, and fail where it does."""
    child = os.fork()
    if child == 0:
        try:
            run()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def forbid(syscall: int, number: int) -> None:
    """From now on a system call fails with errno ``number`` in this process: only for a child."""
    load_nr, jump_if_equal, give = 0x20, 0x15, 0x06  # BPF_LD | BPF_W | BPF_ABS, BPF_JMP | BPF_JEQ, BPF_RET
    allow, errno_of = 0x7FFF0000, 0x00050000  # SECCOMP_RET_ALLOW, SECCOMP_RET_ERRNO
    program = b"".join(
        struct.pack("<HBBI", *step)
        for step in (
            (load_nr, 0, 0, 0),
            (jump_if_equal, 0, 1, syscall),
            (give, 0, 0, errno_of | number),
            (give, 0, 0, allow),
        )
    )
    steps = ctypes.create_string_buffer(program)
    fprog = struct.pack("@HP", 4, ctypes.addressof(steps))
    libc = ctypes.CDLL(None, use_errno=True)
    no_new_privs, set_seccomp, filter_mode = 38, 22, 2
    assert libc.prctl(no_new_privs, 1, 0, 0, 0) == 0
    assert libc.prctl(set_seccomp, filter_mode, fprog, 0, 0) == 0, os.strerror(ctypes.get_errno())
