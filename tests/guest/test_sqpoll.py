"""A ring with a thread of the kernel's that submits, on the device: data, results, vectored commands, batches, closing."""

from typing import Any, Literal

import anyio
import numpy as np
import pytest

import aionvme
from tests.conftest import RAW, node

pytestmark = [pytest.mark.anyio, pytest.mark.feature("submission by a kernel thread (SQPOLL)")]

QUEUES: list[Any] = ["interrupt"] if RAW else ["interrupt", "polled"]
Queue = Literal["interrupt", "polled"]


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    """The thread is the kernel's: what differs is how a loop waits."""
    return request.param


@pytest.mark.parametrize("queue", QUEUES)
async def test_data_arrives(queue: Queue) -> None:
    """Tasks write and read, in registered and other memory, single and as arrays, and each finds its own data."""
    async with aionvme.open(node(3), queue=queue, depth=16, sqpoll=True) as ns:
        assert (ns.queue.kind, ns.queue.sqpoll) == (queue, True)
        assert "submitted by a thread of the kernel's" in str(ns.queue)

        async def work(i: int) -> None:
            memory = ns.alloc(8192) if i % 2 else np.empty(8192, np.uint8)
            memory[:] = i
            await ns.write(2 * i, memory)
            memory[:] = 0xFF
            await ns.read(2 * i, 2, into=memory if i % 3 else [memory[:100], memory[100:5000], memory[5000:]])
            assert (memory == i).all()

        async with anyio.create_task_group() as tasks:
            for i in range(60):
                tasks.start_soon(work, i)
        into = np.empty((60, 4096), np.uint8)
        done = await ns.read_many(np.arange(60) * 2, 1, into)
        assert not done["status"].any()
        assert not done["errno"].any()
        assert (into == np.arange(60)[:, None]).all()
        await ns.flush()


@pytest.mark.parametrize("queue", QUEUES)
async def test_the_thread_sleeps_and_wakes(queue: Queue) -> None:
    """A command after a while of nothing, in which the thread has gone to sleep, completes like any other."""
    async with aionvme.open(node(2), queue=queue, sqpoll=True) as ns:
        await ns.reset_zone(select_all=True)
        for i in range(5):
            assert await ns.zone_append(ns.zsze, np.full(4096, i, np.uint8)) == ns.zsze + i
            await anyio.sleep(0.05)
        assert ((await ns.read(ns.zsze, 5)).reshape(5, -1) == np.arange(5)[:, None]).all()


@pytest.mark.parametrize("queue", QUEUES)
async def test_leaving_drains_first(queue: Queue) -> None:
    """Whoever leaves with commands in flight waits for them; cancelled tasks and a new ring change nothing about that."""
    with anyio.CancelScope() as scope:
        async with aionvme.open(node(6), queue=queue, sqpoll=True) as ns, anyio.create_task_group() as tasks:
            for _ in range(20):
                tasks.start_soon(ns.flush)  # each takes the device 0.3 s
            while ns._io.submitted < 20:
                await anyio.lowlevel.checkpoint()
            scope.cancel()
    assert ns._io.in_flight == 0
    async with aionvme.open(node(3), queue=queue, sqpoll=True) as ns:
        await ns.read(0, 8)


async def test_statuses() -> None:
    """What the device says of a command comes back."""
    async with aionvme.open(node(1), queue="interrupt", sqpoll=True) as ns:
        await ns.write(0, bytes(512))
        with pytest.raises(aionvme.CompareFailureError):
            await ns.compare(0, b"\1" * 512)
        assert (await ns.submit(aionvme.Command(0xC0))).status.sc == 1  # Invalid Command Opcode


if RAW:

    async def test_not_for_raw_queues() -> None:
        """A raw queue has no such thread; auto takes another queue."""
        with pytest.raises(aionvme.UsageError, match="sqpoll=True is for the other queues"):
            async with aionvme.open(node(1), queue="raw", sqpoll=True):
                pass
        async with aionvme.open(node(1), sqpoll=True) as ns:
            assert ns.queue.kind == "interrupt"
