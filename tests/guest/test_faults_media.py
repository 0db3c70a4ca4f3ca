"""Sectors that the media does not give or take: the status of each command, and nobody else's business."""

import anyio
import numpy as np
import pytest

import aionvme
from tests.conftest import node
from tests.guest.faults import CONTROLLER, Ends, FaultQueue, on_each_path

pytestmark = [pytest.mark.anyio, on_each_path, pytest.mark.feature("media errors")]

# tests/vm/devices.py
READ, WRITE, ONCE = 100, 200, 300


async def test_bad_sectors_fail_by_the_direction(queue: FaultQueue) -> None:
    """Each read of the one sector is an UnrecoveredReadError, each write of the other a WriteFaultError; nothing else fails."""
    async with aionvme.open(node(1, CONTROLLER), queue=queue) as ns:
        data = np.random.default_rng().integers(0, 256, ns.lba_size, np.uint8)
        for _ in range(2):
            with pytest.raises(aionvme.UnrecoveredReadError) as read:
                await ns.read(READ, 1)
            with pytest.raises(aionvme.WriteFaultError) as write:
                await ns.write(WRITE, data)
        assert (read.value.sct, read.value.sc) == (2, 0x81)
        assert (write.value.sct, write.value.sc) == (2, 0x80)
        await ns.write(READ, data)
        await ns.read(WRITE, 1)
        with pytest.raises(aionvme.UnrecoveredReadError):
            await ns.read(READ - 4, 8)
        with pytest.raises(aionvme.WriteFaultError):
            await ns.write(WRITE - 4, bytes(8 * ns.lba_size))
        for slba in (READ - 1, READ + 1, WRITE - 1, WRITE + 1):
            await ns.write(slba, data)
            assert (await ns.read(slba, 1) == data).all()
        assert ns._io.in_flight == 0


async def test_an_error_that_comes_once(queue: FaultQueue) -> None:
    """After an error that does not come again the same command succeeds, with the data that was there."""
    async with aionvme.open(node(1, CONTROLLER), queue=queue) as ns:
        await ns.flush()
        with pytest.raises(aionvme.WriteFaultError) as caught:
            await ns.write(ONCE, bytes(ns.lba_size))
        assert not caught.value.dnr
        data = np.random.default_rng().integers(0, 256, ns.lba_size, np.uint8)
        await ns.write(ONCE, data)
        await ns.flush()
        with pytest.raises(aionvme.UnrecoveredReadError):
            await ns.read(ONCE, 1)
        assert (await ns.read(ONCE, 1) == data).all()


async def test_only_the_task_that_asked_gets_the_error(queue: FaultQueue) -> None:
    """Of sixty tasks that read, each gets its own blocks or its own error; an array tells it of the one command."""
    async with aionvme.open(node(1, CONTROLLER), queue=queue) as ns:
        first, n = READ - 30, 60
        data = np.repeat(np.arange(n, dtype=np.uint8), ns.lba_size)
        await ns.write(first, data)
        ends: dict[int, Ends] = {i: Ends() for i in range(n)}

        async def read(i: int) -> None:
            assert (await ns.read(first + i, 1) == i).all()

        async with anyio.create_task_group() as tasks:
            for i in range(n):
                tasks.start_soon(ends[i].note, lambda i=i: read(i))
        assert [type(end) for end in ends.pop(30).all] == [aionvme.UnrecoveredReadError]
        assert [end.all for end in ends.values()] == [[None]] * (n - 1)

        into = ns.alloc(n * ns.lba_size)
        done = await ns.read_many(np.arange(first, first + n), 1, into)
        assert done["status"].nonzero()[0].tolist() == [30]
        assert done["status"][30] & 0x7FF == 0x281
        assert (np.delete(into.reshape(n, -1), 30, 0) == np.delete(data.reshape(n, -1), 30, 0)).all()
        assert ns._io.in_flight == 0


async def test_a_long_transfer_fails_as_a_whole(queue: FaultQueue) -> None:
    """A read that is split fails where one of its parts does, when all that was submitted has ended."""
    async with aionvme.open(node(1, CONTROLLER), queue=queue) as ns:
        assert 4096 * ns.lba_size > 2 * ns.max_transfer_bytes
        with pytest.raises(aionvme.UnrecoveredReadError):
            await ns.read(0, 4096)
        assert ns._io.in_flight == 0
        await ns.read(READ + 1, 4096)
