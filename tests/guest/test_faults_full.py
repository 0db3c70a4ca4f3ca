"""More commands than there is room for: in the ring, and in the kernel, which has no request left to carry one in.

The library opens no deeper queue than ``queue/nr_requests`` says. But other openings of a controller take from the same requests,
and the number can be lowered at any time. A command for which there is none goes to a worker of the kernel's, where it waits.
"""

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import anyio
import numpy as np
import pytest

import aionvme
from tests.conftest import leave_by_force, node
from tests.guest.faults import (
    CONTROLLER,
    DRIVE,
    Buffers,
    FaultQueue,
    all_in_flight,
    on_each_path,
    queue_attribute,
    target,
    until,
    works,
)
from tests.guest.monitor import slowed
from tests.guest.narrow import NarrowRings, narrow

pytestmark = [pytest.mark.anyio, on_each_path, pytest.mark.feature("ring full")]

__all__ = ["narrow"]

TAGS = 4
"""Requests for each of the controller's queues: the least that Linux can be told."""

N = 16
"""Commands of each opening, far more than the queues of two processors have requests."""


@contextmanager
def few_requests(target: str) -> Iterator[None]:
    """Lower the number of the kernel's requests for a target's controller, for all of its namespaces."""
    requests = queue_attribute(target, "nr_requests")
    assert "[none]" in requests.with_name("scheduler").read_text()  # another one has requests of its own
    before = requests.read_text()
    requests.write_text(str(TAGS))
    try:
        yield
    finally:
        requests.write_text(before)


def worker_waits() -> bool:
    """Whether a worker of the kernel's waits there for a request, for one of this thread's commands."""
    name = f"iou-wrk-{threading.get_native_id()}"
    for task in Path("/proc/self/task").iterdir():
        try:
            if (task / "comm").read_text().strip() == name and "blk_mq_get_tag" in (task / "stack").read_text():
                return True
        except (FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
            continue
    return False


class Work:
    """Blocks that are written and read back, each from and into other memory of the kind that falls to it."""

    def __init__(self, ns: aionvme.Namespace, first: int) -> None:
        self._ns, self._first = ns, first
        self.done: list[int] = []

    async def one(self, i: int) -> None:
        """Write a block that nobody else uses, read it, and compare; and again with an array of two blocks."""
        ns, slba, size = self._ns, self._first + 2 * i, self._ns.lba_size
        data = np.random.default_rng(slba).integers(0, 256, size, np.uint8)
        memory = ns.alloc(size) if i % 3 == 0 else np.empty(size, np.uint8)
        pieces = [memory[:100], memory[100:356], memory[356:]] if i % 3 == 1 else memory
        memory[:] = data
        await ns.write(slba, pieces)
        memory[:] = 0
        await ns.read(slba, 1, into=pieces)
        assert (memory == data).all()
        self.done.append(i)

    async def many(self) -> None:
        """The same of an array of commands, in blocks behind the others."""
        slba, n = self._first + 2 * N, 2 * N
        data = np.random.default_rng(slba).integers(0, 256, n * self._ns.lba_size, np.uint8)
        into = np.zeros_like(data)
        for rows in (
            await self._ns.write_many(slba + np.arange(n), 1, data),
            await self._ns.read_many(slba + np.arange(n), 1, into),
        ):
            assert not rows["status"].any()
            assert not rows["errno"].any()
        assert (into == data).all()
        self.done.append(-1)


@pytest.mark.parametrize("sqpoll", [False, True], ids=["", "sqpoll"])
async def test_the_ring_is_full(sqpoll: bool, queue: FaultQueue, narrow: NarrowRings) -> None:
    """A ring that takes an eighth of what is to be submitted at once gets the rest as it takes it, and nothing is lost: single
    commands and arrays, each with its own data."""
    narrow.part = 8
    async with aionvme.open(target(), queue=queue, depth=64, sqpoll=sqpoll) as ns:
        jobs = [Work(ns, 4 * N * i) for i in range(6)]
        async with anyio.create_task_group() as tasks:
            for job in jobs:
                tasks.start_soon(job.many)
                for i in range(N):
                    tasks.start_soon(job.one, i)
        assert narrow.refused
        assert [sorted(job.done) for job in jobs] == [list(range(-1, N))] * len(jobs)
        assert ns._io.in_flight == 0
        await works(ns)


async def test_no_request_is_left(queue: FaultQueue) -> None:
    """Openings of a namespace and of its neighbour at the controller want more than there is: all wait, and each command ends
    with its own data. What is cancelled meanwhile, or left by force, keeps its buffer; another controller is used."""
    buffers, cancelled = Buffers(), list[int]()
    async with (
        aionvme.open(target(), queue=queue, depth=64) as first,
        aionvme.open(target(), queue=queue, depth=64) as second,
        aionvme.open(node(1, CONTROLLER), queue=queue, depth=64) as beside,
        aionvme.open(target(), queue=queue, depth=64) as left,
        aionvme.open(node(1, "nvme1"), queue=queue) as other,
    ):
        jobs = [Work(first, 100), Work(second, 200), Work(beside, 400)]

        async def write_in_vain(scope: anyio.CancelScope, slba: int) -> None:
            with scope:
                await left.write(slba, buffers.new(left.lba_size))
            cancelled.append(slba)

        with few_requests(target()):
            async with anyio.create_task_group() as tasks:
                with slowed(DRIVE, 8):
                    scopes = [anyio.CancelScope() for _ in range(N)]
                    for i, scope in enumerate(scopes):
                        tasks.start_soon(write_in_vain, scope, i)
                    leaving = left.write(N, buffers.new(left.lba_size))
                    leaving.send(None)
                    leave_by_force(leaving, "close")
                    for job in jobs:
                        tasks.start_soon(job.many)
                        for i in range(N):
                            tasks.start_soon(job.one, i)
                    await all_in_flight(second, N)
                    await until(worker_waits)
                    for scope in scopes:
                        scope.cancel()
                    for _ in range(3):
                        await works(other)
                    assert worker_waits()
                    assert buffers.living() >= left._io.in_flight > 0
                # The backend is fast again, and requests are as few as before.
            assert sorted(cancelled) == list(range(N))
            assert [sorted(job.done) for job in jobs] == [list(range(-1, N))] * len(jobs)
            await until(lambda: not left._io.in_flight)  # for whom nobody waits
            await until(lambda: not buffers.living())
        for ns in (first, second, beside, left, other):
            await works(ns)


async def test_leaving_while_no_request_is_left(queue: FaultQueue) -> None:
    """Closing waits also for what waits in the kernel, and the buffers are kept until then."""
    buffers = Buffers()
    with ExitStack() as stack:
        with anyio.CancelScope() as scope:
            async with aionvme.open(target(), queue=queue, depth=64) as ns:
                stack.enter_context(few_requests(target()))
                stack.enter_context(slowed(DRIVE, 16))
                for i in range(2 * N):
                    leaving = ns.write(i, buffers.new(ns.lba_size))
                    leaving.send(None)
                    leave_by_force(leaving, "close")
                await until(worker_waits)
                assert buffers.living() >= ns._io.in_flight > TAGS
                scope.cancel()
        assert ns._io.in_flight == 0
        assert not buffers.living()
    async with aionvme.open(target(), queue=queue) as ns:
        await works(ns)
