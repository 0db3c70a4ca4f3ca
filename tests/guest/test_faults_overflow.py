"""Completions that find no room in their ring, of a real device's commands: the kernel keeps them, and none is lost, or says so.

No use of the library makes this happen, since its rings have room for more than is ever in flight: ``tests/guest/narrow.py`` says
how it is brought about. What is kept, and how it comes back, is the kernel's; it differs by who runs the completions (the owner
when it enters, or a thread of the kernel's) and on a polled ring.
"""

import errno

import anyio
import numpy as np
import pytest

import aionvme
from aionvme.driver.turns import DRAIN_LIMIT_S
from aionvme.errors import ClosedError
from tests.conftest import leave_by_force, node
from tests.guest.faults import DRIVE, Buffers, Ends, FaultQueue, all_in_flight, on_each_path, target, until, works
from tests.guest.monitor import slowed, throttle
from tests.guest.narrow import NarrowRings, all_submitted, narrow, submitted

pytestmark = [pytest.mark.anyio, on_each_path, pytest.mark.feature("completions that find no room")]

__all__ = ["narrow"]

N = 32
"""Commands in flight, where their completions find room for a quarter."""

TRIES = 20
"""How often completions of a polled ring may be found too few at a time to overflow."""

with_a_thread_or_not = pytest.mark.parametrize("sqpoll", [False, True], ids=["", "sqpoll"])


@with_a_thread_or_not
async def test_appends_land_once(sqpoll: bool, queue: FaultQueue, narrow: NarrowRings) -> None:
    """Each of many appends ends once, with the address at which its own data is; also where its task was cancelled or has left,
    it keeps its buffer until its completion has been taken."""
    async with aionvme.open(node(2), queue=queue, depth=N, sqpoll=sqpoll) as ns:
        await ns.reset_zone(select_all=True)
        kept, zone = False, 0
        while not kept:
            assert zone < TRIES
            zslba, buffers, lands = zone * ns.zsze, Buffers(), dict[int, int]()

            def filled(i: int, buffers: Buffers = buffers) -> np.ndarray:
                data = buffers.new(ns.lba_size)
                data[:] = i
                return data

            async def append(i: int, zslba: int = zslba, lands: dict[int, int] = lands) -> None:
                lba = await ns.zone_append(zslba, filled(i))
                assert i not in lands
                lands[i] = lba

            async def append_in_vain(scope: anyio.CancelScope, i: int, zslba: int = zslba) -> None:
                with scope:
                    await ns.zone_append(zslba, filled(i))

            scopes = [anyio.CancelScope() for _ in range(4)]
            with slowed("nvme0n2", 4):
                async with anyio.create_task_group() as tasks:
                    before = submitted(ns)
                    for i in range(8, N):
                        tasks.start_soon(append, i)
                    for i, scope in enumerate(scopes):
                        tasks.start_soon(append_in_vain, scope, 4 + i)
                    for i in range(4):
                        leaving = ns.zone_append(zslba, filled(i))
                        leaving.send(None)
                        leave_by_force(leaving, "close")
                    await all_submitted(ns, before + N)
                    for scope in scopes:
                        scope.cancel()
                    await anyio.sleep(0.05)
                    in_flight = ns._io.in_flight
                    assert in_flight > N // 2
                    # From here on to the end of the block nothing else runs in this loop.
                    throttle("nvme0n2", 0)
                    kept = narrow.post(ns)
                    assert ns._io.in_flight == in_flight
                    assert buffers.living() >= in_flight
            assert ns._io.in_flight == 0
            assert sorted(lands) == list(range(8, N))
            data = (await ns.read(zslba, N)).reshape(N, -1)
            assert all((data[lba - zslba] == i).all() for i, lba in lands.items())
            assert sorted(data[:, 0].tolist()) == list(range(N))
            assert (data == data[:, :1]).all()
            await until(lambda buffers=buffers: not buffers.living())  # type: ignore[misc]
            assert not narrow.overflown(ns)
            zone += 1


@with_a_thread_or_not
async def test_reads_get_their_own_data(sqpoll: bool, queue: FaultQueue, narrow: NarrowRings) -> None:
    """Reads into memory of each kind, single ones and those of an array beside them: everyone finds its own blocks."""
    async with aionvme.open(target(), queue=queue, depth=N, sqpoll=sqpoll) as ns:
        await ns.write(0, np.repeat(np.arange(2 * N, dtype=np.uint8), ns.lba_size))
        ended: list[int] = []
        rows: list[np.ndarray] = []
        into = np.full((N, ns.lba_size), 0xFF, np.uint8)

        async def read(i: int) -> None:
            memory = ns.alloc(ns.lba_size) if i % 2 else np.empty(ns.lba_size, np.uint8)
            memory[:] = 0xFF
            await ns.read(i, 1, into=memory if i % 3 else [memory[:100], memory[100:]])
            assert (memory == i).all()
            ended.append(i)

        async def read_many() -> None:
            rows.append(await ns.read_many(np.arange(N, 2 * N), 1, into))

        kept = False
        for _ in range(TRIES):
            ended.clear()
            rows.clear()
            into[:] = 0xFF
            with slowed(DRIVE, 4):
                async with anyio.create_task_group() as tasks:
                    before = submitted(ns)
                    for i in range(N):
                        tasks.start_soon(read, i)
                    tasks.start_soon(read_many)
                    await all_submitted(ns, before + N + 2)  # two of the array's at a time, beside so many others
                    throttle(DRIVE, 0)
                    kept = narrow.post(ns)
            assert sorted(ended) == list(range(N))
            assert not rows[0]["status"].any()
            assert not rows[0]["errno"].any()
            assert (into == np.arange(N, 2 * N)[:, None]).all()
            assert ns._io.in_flight == 0
            assert not narrow.overflown(ns)
            if kept:
                break
        assert kept
        await works(ns)


async def test_a_completion_that_the_kernel_dropped(queue: FaultQueue, narrow: NarrowRings) -> None:
    """Nobody can tell whose it was: each task gets CompletionLostError, the buffers are kept also when the commands have ended;
    the namespace can only be closed, which does not wait, and opened again. Another controller is used all the while.

    The kernel drops one only where it has no memory left, so here its count of them is written for it.
    """
    buffers, ends, many = Buffers(), Ends(), Ends()
    async with aionvme.open(node(1, "nvme1"), queue=queue) as neighbour:
        with slowed(DRIVE, 4):
            async with aionvme.open(target(), queue=queue) as ns:

                async def write(slba: int) -> None:
                    await ns.write(slba, buffers.new(ns.lba_size))

                async def write_many() -> None:
                    await ns.write_many(np.arange(6), 1, buffers.new(6 * ns.lba_size))

                async with anyio.create_task_group() as tasks:
                    before = ns._io.submitted
                    for i in range(12):
                        tasks.start_soon(ends.note, lambda i=i: write(i))
                    tasks.start_soon(many.note, write_many)
                    await all_in_flight(ns, before + 18)
                    await works(neighbour)
                    narrow.drop_one(ns)
                    ns._io._host.kick()
                    await until(lambda: len(ends.all) == 12)
                lost = ends.failed() + many.failed()
                assert len(ends.failed()) > 6
                assert len(many.failed()) == 1
                assert {type(end) for end in lost} == {aionvme.CompletionLostError}
                assert {end.errno for end in lost if isinstance(end, OSError)} == {errno.EBADR}
                assert buffers.living() == len(lost)
                with pytest.raises(ClosedError, match="broken: open it again"):
                    await ns.read(0, 1)
                await works(neighbour)
                start = anyio.current_time()
            assert anyio.current_time() - start < DRAIN_LIMIT_S / 2
        async with aionvme.open(target(), queue=queue) as ns:
            await works(ns)
        await works(neighbour)
    assert buffers.living() == len(lost)
