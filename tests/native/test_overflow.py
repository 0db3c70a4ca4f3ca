"""Completions that find no room: the kernel keeps them, and where it cannot, nobody waits for what will never come."""

import ctypes
import errno
import mmap
import os
import struct

import anyio
import pytest

import aionvme
from aionvme._core import lib
from aionvme.driver.request import Submission
from aionvme.errors import ClosedError
from aionvme.queues.base import CQE
from tests.native.conftest import OpenDriver
from tests.native.rings import (
    IO_URING_SETUP,
    CompletionTuple,
    HeldQueue,
    Kept,
    NopQueue,
    need_injected_results,
    outcome,
    reap,
    until,
)


def overflow_offset() -> int:
    """Where the kernel counts what it dropped, in what it maps of a ring: cq_off.overflow, which io_uring_setup(2) tells."""
    params = ctypes.create_string_buffer(120)
    os.close(ctypes.CDLL(None, use_errno=True).syscall(IO_URING_SETUP, 1, params))
    offset: int = struct.unpack_from("<I", params, 96)[0]
    return offset


@pytest.mark.parametrize("deferred", [False, True], ids=["at-once", "deferred"])
def test_more_completions_than_the_ring_holds(deferred: bool) -> None:
    """Three times what the completion queue holds, before anything is reaped: each comes, once, and with its own result."""
    need_injected_results()
    queue = NopQueue(depth=4)  # and so 8 completions
    queue.deferred = deferred
    for i in range(24):
        queue.stage(i, outcome(i, 1 << 40 | i), -1)
        assert len(queue.tick(0)) == 0
    got: list[CompletionTuple] = []
    while len(got) < 24:
        got += reap(queue)
    assert sorted(got) == [(i, i, 1 << 40 | i) for i in range(24)]
    assert reap(queue) == []
    assert CQE.size == 32
    queue.close()


@pytest.mark.anyio
async def test_a_completion_that_the_kernel_dropped(open_driver: OpenDriver) -> None:
    """Nobody can tell whose it was: every task gets CompletionLostError, no buffer is given up, closing does not wait, and
    another queue of the same loop is not concerned."""
    driver, other = open_driver(queue := HeldQueue()), open_driver(another := HeldQueue())
    kept, lost = Kept(), list[aionvme.CompletionLostError]()

    async def run() -> None:
        with pytest.raises(aionvme.CompletionLostError, match="a command's outcome is lost") as caught:
            await driver.run([kept.submission(bytes(72))])
        lost.append(caught.value)

    async with anyio.create_task_group() as tasks, queue, another:
        for _ in range(5):
            tasks.start_soon(run)
        await until(lambda: queue.in_flight == 5)
        with mmap.mmap(queue.ring_fd, 4096) as ring:  # the count that the kernel keeps, and the core looks at
            struct.pack_into("<I", ring, overflow_offset(), 1)
        assert lib.aionvme_ring_overflow(queue._ring) == 1
        driver._host.kick()
        await until(lambda: len(lost) == 5)
        another.release(1)
        assert await other.run([Submission(bytes(72))]) == [(0, 0)]
    assert {error.errno for error in lost} == {errno.EBADR}
    with pytest.raises(ClosedError, match="broken"):
        await driver.run([Submission(bytes(72))])
    with anyio.fail_after(1):
        await driver.aclose()
    assert kept.living() == 5
