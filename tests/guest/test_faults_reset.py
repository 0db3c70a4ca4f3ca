"""A controller reset with commands in flight: each ends, and the same namespace works again."""

import errno
from pathlib import Path

import anyio
import numpy as np
import pytest

import aionvme
from aionvme.devices import find
from tests.conftest import node
from tests.guest.faults import (
    DRIVE,
    Buffers,
    Ends,
    FaultQueue,
    all_in_flight,
    answers_again,
    lost,
    on_each_path,
    reset,
    target,
    until,
    works,
)
from tests.guest.monitor import slowed

pytestmark = [pytest.mark.anyio, on_each_path, pytest.mark.feature("controller reset")]

N = 6
"""Commands in flight, of which the backend answers one or two at once, the others so slowly that the reset finds some there."""

GIVEN_UP = (aionvme.CommandAbortedError, aionvme.SubmissionQueueDeletedError, aionvme.HostPathingError)
"""What the kernel, or a device, may have to say of a command that a reset ended."""


async def test_a_reset_loses_nothing(queue: FaultQueue) -> None:
    """Each command is carried out or given up, and says which; what was acknowledged is there; commands that come while the
    controller is being reset wait for it; then all is as before."""
    async with aionvme.open(target(), queue=queue) as ns:
        old, new = np.full(ns.lba_size, 1, np.uint8), np.full(ns.lba_size, 2, np.uint8)
        await ns.write(0, np.tile(old, 3 * N))
        reads, writes, late = Ends(), Ends(), Ends()
        written: list[int] = []
        refused: list[int] = []

        async def write(slba: int) -> None:
            try:
                await ns.write(slba, new)
            except OSError as error:
                if error.errno == errno.EINVAL:
                    refused.append(slba)
                raise
            written.append(slba)

        with slowed(DRIVE, 12):
            async with anyio.create_task_group() as tasks:
                before = ns._io.submitted
                for i in range(N):
                    tasks.start_soon(writes.note, lambda i=i: write(i))
                    tasks.start_soon(reads.note, lambda i=i: ns.read(N + i, 1))
                await all_in_flight(ns, before + 2 * N)
                tasks.start_soon(reset, target())
                await anyio.sleep(0.05)
                for i in range(N):
                    tasks.start_soon(late.note, lambda i=i: write(2 * N + i))
        for ends in (reads, writes, late):
            assert len(ends.all) == N
        assert reads.others(*GIVEN_UP) == writes.others(*GIVEN_UP) == []
        # They are refused where the kernel counts paths: answers_again().
        assert {end.errno for end in late.others(*GIVEN_UP) if isinstance(end, OSError)} <= {errno.EINVAL}
        assert ns._io.in_flight == 0
        await answers_again(ns)
        data = (await ns.read(0, 3 * N)).reshape(3 * N, -1)
        never = {*range(N, 2 * N), *refused}
        for slba in range(3 * N):
            expected = (2,) if slba in written else (1,) if slba in never else (1, 2)
            assert any((data[slba] == value).all() for value in expected)
        await works(ns)


async def test_commands_while_no_path_is_there(queue: FaultQueue) -> None:
    """Where the kernel counts paths what comes during a reset is not sent, and a CommandAbortedError says so; else it waits."""
    ends, over = Ends(), anyio.Event()
    async with aionvme.open(target(), queue=queue) as ns, anyio.create_task_group() as tasks:

        async def reset_it() -> None:
            await reset(target())
            over.set()

        tasks.start_soon(reset_it)
        while not over.is_set():
            await ends.note(lambda: ns.read(0, 1))
            await anyio.sleep(0.01)
        await answers_again(ns)
    numbers = {end.errno for end in ends.failed() if isinstance(end, aionvme.CommandAbortedError)}
    assert (errno.EINVAL in numbers) == bool(find(Path(target())).paths)


async def test_what_a_lost_controller_had_is_given_up(queue: FaultQueue) -> None:
    """Commands that a controller does not answer any more end with CommandAbortedError when it is reset, single ones and those of
    an array. Their buffers are kept until then, also where the tasks were cancelled; and another controller is not concerned."""
    other = node(1, "nvme1")
    async with aionvme.open(target(), queue=queue) as ns, aionvme.open(other, queue=queue) as neighbour:
        ends, vain, buffers = Ends(), Ends(), Buffers()
        rows: list[np.ndarray] = []

        async def write(slba: int) -> None:
            await ns.write(slba, buffers.new(ns.lba_size))

        async def write_in_vain(scope: anyio.CancelScope, slba: int) -> None:
            with scope:
                await vain.note(lambda: write(slba))  # on trio the outcome is not lost

        async def write_many() -> None:
            rows.append(await ns.write_many(np.arange(N), 1, buffers.new(N * ns.lba_size)))

        with slowed(DRIVE, 4):
            async with anyio.create_task_group() as tasks:
                before = ns._io.submitted
                for i in range(N):
                    tasks.start_soon(ends.note, lambda i=i: write(i))
                tasks.start_soon(write_many)
                await all_in_flight(ns, before + 2 * N)
                async with lost(target()):
                    scopes = [anyio.CancelScope() for _ in range(N)]
                    for i, scope in enumerate(scopes):
                        tasks.start_soon(write_in_vain, scope, i)
                    await all_in_flight(ns, before + 3 * N)
                    for scope in scopes:
                        scope.cancel()
                    await anyio.sleep(0.05)
                    in_flight = ns._io.in_flight
                    assert in_flight >= N
                    assert buffers.living() >= in_flight
                    await works(neighbour)
        assert len(ends.all) == N
        assert ends.others(aionvme.CommandAbortedError) == []
        assert vain.others(aionvme.CommandAbortedError) == []
        numbers = {end.errno for end in ends.failed() + vain.failed() if isinstance(end, OSError)}
        assert numbers | set(rows[0]["errno"].tolist()) | {0} == {0, errno.EINTR}
        assert not rows[0]["status"].any()
        await until(lambda: not buffers.living())
        await answers_again(ns)
        await works(ns)
        await works(neighbour)


async def test_admin_commands_beside_a_reset(queue: FaultQueue) -> None:
    """They are carried out, given up or refused as the kernel has it, and always end; afterwards they work."""
    identify = aionvme.Command(opcode=0x06, cdw10=1)
    ends = Ends()
    async with aionvme.open(target(), queue=queue) as ns:

        async def ask() -> None:
            for _ in range(20):
                await ends.note(lambda: ns.submit_admin(identify, into=bytearray(4096)))

        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(ask)
            await reset(target())
        assert len(ends.all) == 60
        assert ends.others(aionvme.CommandAbortedError) == []
        with anyio.fail_after(30):
            while (await ns.submit_admin(identify, into=bytearray(4096))).status:
                await anyio.sleep(0.02)
