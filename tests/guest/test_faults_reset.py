"""A controller reset with commands in flight: each ends, and the same namespace works again."""

import errno
from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio
import numpy as np
import pytest

import aionvme
from aionvme.devices import find
from aionvme.errors import nvme_error
from aionvme.nvme.admin import identify
from aionvme.nvme.identify import Cns
from tests.conftest import node
from tests.guest.faults import (
    DRIVE,
    Buffers,
    Ends,
    FaultQueue,
    all_in_flight,
    answers_again,
    being_reset,
    controller,
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

NOT_SENT = (errno.EINVAL, errno.EFAULT)
"""What the kernel says, where it counts paths, of a command that comes while the only one is being reset."""

GIVEN_UP = (aionvme.CommandAbortedError, aionvme.SubmissionQueueDeletedError, aionvme.HostPathingError)
"""What the kernel, or a device, may have to say of a command that a reset ended."""


def unaccounted(ends: Ends) -> list[Exception]:
    """What is neither of a command that the reset ended nor, where the kernel counts paths, of one that came too early."""
    early = tuple(NOT_SENT) if find(Path(target())).paths else ()
    return [end for end in ends.others(*GIVEN_UP) if type(end) is not OSError or end.errno not in early]


async def test_a_reset_loses_nothing(queue: FaultQueue) -> None:
    """Each command is carried out or given up, and says which; what was acknowledged is there; commands that come while the
    controller is being reset wait for it; then all is as before."""
    async with aionvme.open(target(), queue=queue) as ns:
        old, new = np.full(ns.lba_size, 1, np.uint8), np.full(ns.lba_size, 2, np.uint8)
        await ns.write(0, np.tile(old, 3 * N))
        reads, writes, late = Ends(), Ends(), Ends()
        written: list[int] = []
        refused: list[int] = []
        folder, over = controller(target()), anyio.Event()

        def reset_now() -> int:
            in_flight = ns._io.in_flight
            (folder / "reset_controller").write_text("1")
            return in_flight

        async def reset_it() -> None:
            # Of what was in flight then the backend has answered one at most when the state changes, first thing in the kernel.
            assert await anyio.to_thread.run_sync(reset_now) >= N
            over.set()

        async def write(slba: int) -> None:
            try:
                await ns.write(slba, new)
            except OSError as error:
                if error.errno in NOT_SENT:
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
                tasks.start_soon(reset_it)
                await until(lambda: being_reset(folder) or over.is_set())
                for i in range(N):
                    tasks.start_soon(late.note, lambda i=i: write(2 * N + i))
        for ends in (reads, writes, late):
            assert len(ends.all) == N
            assert unaccounted(ends) == []
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
    ends = Ends()
    during = 0
    paths = bool(find(Path(target())).paths)

    def seen() -> bool:
        not_sent = [end for end in ends.failed() if isinstance(end, OSError) and end.errno in NOT_SENT]
        return any(isinstance(end, aionvme.CommandAbortedError) for end in not_sent) if paths else during > 0

    async with aionvme.open(target(), queue=queue) as ns:
        folder = controller(target())
        for _ in range(10):  # a reset can be over before the loop has seen it
            over = anyio.Event()

            async def reset_it(over: anyio.Event = over) -> None:
                await reset(target())
                over.set()

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(reset_it)
                while not over.is_set():
                    during += being_reset(folder)
                    await ends.note(lambda: ns.read(0, 1))
                    await anyio.sleep(0.01)
            if seen():
                break
        await answers_again(ns)
    assert seen()
    assert unaccounted(ends) == []


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
    """They are carried out, given up or refused as the kernel has it, also those that come during the reset, and always end;
    afterwards they work."""
    command = identify(Cns.CONTROLLER)
    ends = Ends()
    during = asked = 0
    async with aionvme.open(target(), queue=queue) as ns:

        async def submit() -> None:
            completion = await ns.submit_admin(command, into=bytearray(4096))
            if completion.status:
                raise nvme_error(completion.status, "Identify")

        folder = controller(target())
        for _ in range(10):  # a reset can be over before the loop has seen it
            over = anyio.Event()

            async def ask(over: anyio.Event = over) -> None:
                nonlocal asked, during
                while not over.is_set():
                    asked += 1
                    during += being_reset(folder)
                    await ends.note(submit)

            async with anyio.create_task_group() as tasks:
                for _ in range(3):
                    tasks.start_soon(ask)
                await reset(target())
                over.set()
            if during:
                break
        assert during
        assert len(ends.all) == asked
        assert ends.others(*GIVEN_UP) == []
        await until_it_succeeds(submit)


async def until_it_succeeds(command: Callable[[], Awaitable[None]]) -> None:
    """Repeat a command that the kernel refuses in the last moments of a reset."""
    ends = Ends()
    with anyio.fail_after(30):
        while True:
            await ends.note(command)
            if ends.all[-1] is None:
                return
            await anyio.sleep(0.02)
