"""The kernel as a witness: which commands had interrupts, and which files, buffers and thread a ring of the library's has."""

import errno
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

import aionvme
from aionvme.devices import find
from aionvme.queues.attach import QueueChoice
from tests.conftest import RAW, node
from tests.guest.traps import until

pytestmark = pytest.mark.anyio

QUEUES: list[QueueChoice] = ["interrupt"] if RAW else ["interrupt", "polled"]

WITH_OR_WITHOUT_A_THREAD = pytest.mark.parametrize("sqpoll", [False, True], ids=["plain", "sqpoll"])


@pytest.fixture
def anyio_backend() -> str:
    """What is looked at is the kernel's."""
    return "asyncio"


@pytest.fixture
def target() -> str:
    """The only namespace of a controller that nobody else has anything to do with."""
    return node(1, "nvme1")


def interrupts(target: str) -> int:
    """How many interrupts the I/O queues of a namespace's controller have had on all processors; queue 0 is the admin queue."""
    controller = find(Path(target)).controller.name
    rows = re.findall(
        rf"^ *\d+:((?: +\d+)+) .* {controller}q[1-9]\d*$", Path("/proc/interrupts").read_text(), re.MULTILINE
    )
    assert rows, "the controller has no queue with interrupts"
    return sum(int(count) for row in rows for count in row.split())


@dataclass(frozen=True)
class Ring:
    """What the kernel says of a ring: the files and buffers in its tables by index, and its thread's id, -1 without one."""

    files: dict[int, str]
    buffers: dict[int, tuple[int, int]]
    thread: int


def rings() -> Iterator[Ring]:
    """Those that this process has open. Of one that its thread is busy with the kernel may not say anything."""
    for fd in Path("/proc/self/fd").iterdir():
        try:
            if "io_uring" not in os.readlink(fd):
                continue
            text = Path("/proc/self/fdinfo", fd.name).read_text()
        except FileNotFoundError:  # that of the folder itself
            continue
        files, _, buffers = text.partition("UserFiles:")[2].partition("UserBufs:")
        threads = re.findall(r"^SqThread:\s*(-?\d+)$", text, re.MULTILINE)
        yield Ring(
            {int(index): name for index, name in re.findall(r"^ *(\d+): .*?([^/\s]+)$", files, re.MULTILINE)},
            {
                int(index): (int(start, 16), int(len_bytes))
                # What a place of the table that nothing was put into has on older kernels is at the last address there is.
                for index, start, len_bytes in re.findall(r"^ *(\d+): 0x([0-9a-f]+)/(\d+)$", buffers, re.MULTILINE)
                if int(start, 16) != (1 << 64) - 1
            },
            int(threads[0]) if threads else -1,
        )


if not RAW:

    @pytest.mark.feature("polling without interrupts")
    @pytest.mark.parametrize("queue", ["polled"])
    @WITH_OR_WITHOUT_A_THREAD
    async def test_polled_commands_have_no_interrupts(target: str, queue: QueueChoice, sqpoll: bool) -> None:
        """Thousands of reads and writes, one by one and in arrays, and not one interrupt of the controller's I/O queues.

        Each of those that move no data has one: they take the interrupt driven ring beside the polled one.
        """
        async with aionvme.open(target, queue=queue, depth=32, sqpoll=sqpoll) as ns:
            block, many = ns.alloc(ns.lba_size), ns.alloc(3000 * ns.lba_size)
            before = interrupts(target)
            for lba in range(300):
                await ns.write(lba, block)
                await ns.read(lba, 1, into=block)
            assert not (await ns.read_many(np.arange(3000), 1, many))["status"].any()
            assert interrupts(target) == before
            for _ in range(20):
                await ns.flush()
            assert interrupts(target) >= before + 20


@pytest.mark.feature("read, write")
@pytest.mark.parametrize("queue", ["interrupt"])
@WITH_OR_WITHOUT_A_THREAD
async def test_others_have_one_each(target: str, queue: QueueChoice, sqpoll: bool) -> None:
    """On an interrupt driven queue, where each read is submitted when the one before it has completed."""
    async with aionvme.open(target, queue=queue, sqpoll=sqpoll) as ns:
        block = ns.alloc(ns.lba_size)
        before = interrupts(target)
        for lba in range(300):
            await ns.read(lba, 1, into=block)
        assert interrupts(target) >= before + 300


@pytest.mark.feature("registered buffers")
@pytest.mark.parametrize("queue", QUEUES)
async def test_files_and_buffers_are_registered(target: str, queue: QueueChoice) -> None:
    """Each ring has its device as file 0. One of them has the buffers, each piece where it is in memory, until they are gone."""
    device = find(Path(target))
    async with aionvme.open(target, queue=queue) as ns:
        names = [ring.files for ring in rings()]
        assert sorted(name for files in names for name in files.values()) == sorted(
            [device.controller.name] + [device.name] * (2 if queue == "polled" else 1)
        )
        assert all(list(files) == [0] for files in names)
        assert not any(ring.buffers for ring in rings())
        small, large = ns.alloc(5000), ns.alloc(3 << 20)
        (ring,) = (ring for ring in rings() if ring.buffers)
        assert ring.files == {0: device.name}
        seen = dict(ring.buffers.values())
        assert seen.pop(small.ctypes.data) == small.nbytes
        at = large.ctypes.data
        for start in sorted(seen):  # without gaps
            assert start == at
            at += seen[start]
        assert at == large.ctypes.data + large.nbytes
        del large
        await ns.read(0, 1, into=small[:512])  # where it is looked up, what is gone is given up
        (ring,) = (ring for ring in rings() if ring.buffers)
        assert list(ring.buffers.values()) == [(small.ctypes.data, small.nbytes)]


@pytest.mark.feature("registered buffers")
@pytest.mark.parametrize("queue", QUEUES)
async def test_commands_name_their_registered_buffer(target: str, queue: QueueChoice) -> None:
    """A command with memory of alloc() cannot do without its registration: taken from the ring's table behind the library's back,
    it is missed by each of them, single or in an array, and by no other command. Put there again, all is well."""
    async with aionvme.open(target, queue=queue) as ns:
        data = np.arange(2048, dtype=np.uint16).view(np.uint8)
        await ns.write(8, data)
        registered, ordinary = ns.alloc(4096), np.zeros(4096, np.uint8)
        address = registered.ctypes.data
        index = ns._pool.buf_index(address, 4096)
        assert [ring.buffers for ring in rings() if ring.buffers] == [{index: (address, 4096)}]
        ns._io.queue.unregister(index)
        assert not any(ring.buffers for ring in rings())
        for call in (ns.read(8, 8, into=registered), ns.write(8, registered), ns.read(9, 1, into=registered[512:1024])):
            with pytest.raises(OSError, match=rf"\[Errno {errno.EFAULT}\]"):
                await call
        done = await ns.read_many(np.arange(8, 16), 1, registered)
        assert done["errno"].tolist() == [errno.EFAULT] * 8
        assert not registered.any()
        await ns.read(8, 8, into=ordinary)
        assert (ordinary == data).all()
        pieces = [registered[2048:], registered[:2048]]  # which go without, since not each kernel has both
        await ns.read(8, 8, into=pieces)
        assert (np.concatenate(pieces) == data).all()

        registered[:] = 0
        assert ns._io.queue.register(address, 4096) == index
        await ns.read(8, 4, into=registered[:2048])
        done = await ns.read_many(np.arange(12, 16), 1, registered[2048:])
        assert not done["errno"].any()
        assert (registered == data).all()


@pytest.mark.feature("submission by a kernel thread (SQPOLL)")
@pytest.mark.parametrize("queue", QUEUES)
@WITH_OR_WITHOUT_A_THREAD
async def test_a_thread_of_the_kernels(target: str, queue: QueueChoice, sqpoll: bool) -> None:
    """It is there where it was asked for, for the ring that has the buffers, as a thread of this process, and nowhere else."""

    def threads() -> list[Ring]:
        return [ring for ring in rings() if ring.thread != -1]

    async with aionvme.open(target, queue=queue, sqpoll=sqpoll) as ns:
        buffer = ns.alloc(4096)
        await ns.read(0, 8, into=buffer)
        if not sqpoll:
            assert threads() == []
            return
        until(lambda: [bool(ring.buffers) for ring in threads()] == [True])
        names = [Path(f"/proc/self/task/{ring.thread}/comm").read_text() for ring in threads()]
        assert all(re.match(r"iou-sqp-\d+$", name) for name in names)
