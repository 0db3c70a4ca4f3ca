"""Rings with less room than the library gives them, and what the kernel does with completions while nobody takes them.

The library's rings have room for as many entries as commands may be in flight, and for twice as many completions; arrays may
add a quarter of the depth (``_native/core.c``). So no use of it makes a completion queue overflow, and a submission queue is full
only for the moment that a thread of the kernel's may take. Here a ring has room for a part of the depth, which is the one thing
that is changed. The driver keeps as much in flight as it would otherwise.
"""

import ctypes
import mmap
import os
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

import aionvme
from aionvme._core import ffi, lib
from aionvme.queues import ring as rings
from aionvme.queues.ring import RingQueue
from aionvme.queues.split import SplitQueue
from tests.guest.faults import until
from tests.native.rings import IO_URING_SETUP, ring_fds

CQ_OVERFLOW = 1 << 1
"""IORING_SQ_CQ_OVERFLOW: the kernel keeps completions that found no room."""

SQ_OFF, CQ_OFF = 40, 80
"""Of io_sqring_offsets and io_cqring_offsets in struct io_uring_params."""


class NarrowRings:
    """The rings that are opened meanwhile, by their address, each with its file descriptor."""

    part = 4
    """They hold the depth divided by this, entries as well as completions."""

    def __init__(self) -> None:
        self.fds: dict[int, int] = {}
        self.refused = 0
        """How often one was full when the driver had more for it."""
        params = ctypes.create_string_buffer(120)
        os.close(ctypes.CDLL(None, use_errno=True).syscall(IO_URING_SETUP, 1, params))
        (self._flags,) = struct.unpack_from("<I", params, SQ_OFF + 16)
        (self._overflow,) = struct.unpack_from("<I", params, CQ_OFF + 16)

    def open(self, depth: int, iopoll: bool, sqpoll: bool = False) -> Any:
        """In the place of the library's own: the same ring, but for its size."""
        before, out, n = ring_fds(), ffi.new("struct aionvme_ring **"), max(depth // self.part, 1)
        if sqpoll:
            ret = lib.aionvme_ring_open_sqpoll(n, n, iopoll, rings.SQ_IDLE_MS, out)
        else:
            ret = lib.aionvme_ring_open(n, n, iopoll, out)
        assert ret == 0
        (self.fds[_address(out[0])],) = ring_fds() - before
        return out[0]

    @contextmanager
    def shared(self, ns: aionvme.Namespace) -> Iterator[mmap.mmap]:
        """What the kernel maps of the ring for a namespace's commands with data."""
        with mmap.mmap(self.fds[_address(io_ring(ns)._ring)], 4096) as ring:
            yield ring

    def overflown(self, ns: aionvme.Namespace) -> bool:
        """Whether the kernel keeps completions that found no room."""
        with self.shared(ns) as ring:
            return bool(struct.unpack_from("<I", ring, self._flags)[0] & CQ_OVERFLOW)

    def drop_one(self, ns: aionvme.Namespace) -> None:
        """Count a completion as dropped, as the kernel does where it has no memory to keep one."""
        with self.shared(ns) as ring:
            struct.pack_into("<I", ring, self._overflow, 1)
        assert lib.aionvme_ring_overflow(io_ring(ns)._ring) == 1

    def post(self, ns: aionvme.Namespace) -> bool:
        """Enter the kernel as the driver does, but take no completion, until some find no room; False where none do in a second.

        A polled ring is not asked again once it has any completion: so it may have found too few.
        """
        nothing, accepted, ring = ffi.new("struct aionvme_cqe[]", 1), ffi.new("unsigned *"), io_ring(ns)._ring
        deadline = time.monotonic() + 1
        while not self.overflown(ns) and time.monotonic() < deadline:
            time.sleep(0.05)
            assert lib.aionvme_ring_tick(ring, ffi.NULL, 0, accepted, nothing, 0) == 0
        return self.overflown(ns)


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> NarrowRings:
    """Whatever is opened has narrow rings."""
    narrow = NarrowRings()
    keep_rest = RingQueue._keep_rest

    def counting(queue: RingQueue, staged: int) -> None:
        narrow.refused += queue._accepted[0] < staged
        keep_rest(queue, staged)

    monkeypatch.setattr(rings, "_open_ring", narrow.open)
    monkeypatch.setattr(RingQueue, "_keep_rest", counting)
    return narrow


def io_ring(ns: aionvme.Namespace) -> RingQueue:
    """The ring for a namespace's commands with data."""
    queue: Any = ns._io.queue
    found: RingQueue = queue._better if isinstance(queue, SplitQueue) else queue
    return found


def submitted(ns: aionvme.Namespace) -> int:
    """How many commands the kernel has been given so far."""
    n: int = lib.aionvme_ring_submitted(io_ring(ns)._ring)
    return n


async def all_submitted(ns: aionvme.Namespace, n: int) -> None:
    """Until the kernel has been given ``n`` commands in all, however little room there is to hand them over."""
    await until(lambda: submitted(ns) >= n)


def _address(ring: Any) -> int:
    return int(ffi.cast("uintptr_t", ring))
