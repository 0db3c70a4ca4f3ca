"""Commands that take longer than they may: the kernel ends them, by an Abort first and a reset then, in bounded time."""

import time

import anyio
import pytest

import aionvme
from aionvme.nvme import nvm as builders
from tests.conftest import node
from tests.guest.faults import (
    DRIVE,
    Ends,
    FaultQueue,
    all_in_flight,
    answers_again,
    comes_back,
    cut_off,
    io_timeout,
    on_each_path,
    target,
    works,
)
from tests.guest.monitor import slowed

pytestmark = [pytest.mark.anyio, on_each_path, pytest.mark.feature("time-out")]

LIMIT_S = 30
"""What all of it takes at most: the limit of a second twice, rounded up; the reset; and a guest that is slow."""


async def test_a_slow_backend_is_not_waited_for(queue: FaultQueue) -> None:
    """A command past its own timeout_ms is given up or taken back; the others may be with it; then all is as before."""
    with io_timeout(target(), 1000):
        async with aionvme.open(target(), queue=queue) as ns:
            ends, late = Ends(), Ends()
            command = builders.read(9, 1)._replace(timeout_ms=500)
            start = time.monotonic()
            with slowed(DRIVE, 1):
                async with anyio.create_task_group() as tasks:
                    before = ns._io.submitted
                    for i in range(8):
                        tasks.start_soon(ends.note, lambda i=i: ns.read(i, 1))
                    tasks.start_soon(late.note, lambda: ns.submit(command, into=bytearray(512)))
                    await all_in_flight(ns, before + 9)
            assert time.monotonic() - start < LIMIT_S
            assert len(ends.all) == 8
            assert len(late.all) == 1
            given_up = (
                aionvme.CommandAbortedError,
                aionvme.CommandAbortRequestedError,
                aionvme.SubmissionQueueDeletedError,
            )
            assert (ends.others(*given_up), late.others(*given_up)) == ([], [])
            assert any(isinstance(end, given_up) for end in ends.all + late.all)
            await answers_again(ns)
            await works(ns)


async def test_a_controller_that_answers_nothing(queue: FaultQueue) -> None:
    """The kernel finds out by itself: every command is given up, the controller comes back, and so does the namespace.

    A namespace of another controller is used meanwhile, in the same loop.
    """
    with io_timeout(target(), 1000):
        async with aionvme.open(target(), queue=queue) as ns, aionvme.open(node(1, "nvme1"), queue=queue) as neighbour:
            ends = Ends()
            used = 0
            start = time.monotonic()
            with slowed(DRIVE, 4):
                async with anyio.create_task_group() as tasks:
                    before = ns._io.submitted
                    for i in range(6):
                        tasks.start_soon(ends.note, lambda i=i: ns.write(i, bytes(512)))
                    await all_in_flight(ns, before + 6)
                    cut_off(target())
                    while ns._io.in_flight:
                        await works(neighbour)
                        used += 1
                        await anyio.sleep(0.05)
            assert time.monotonic() - start < LIMIT_S
            assert used > 5
            assert len(ends.all) == 6
            assert ends.others(aionvme.CommandAbortedError) == []
            assert ends.failed()
            await answers_again(ns)
            await works(ns)


async def test_leaving_a_controller_that_answers_nothing(queue: FaultQueue) -> None:
    """Closing waits until the kernel has given every command up, and no longer; who awaits one is told."""
    ends = Ends()
    with io_timeout(target(), 1000):
        start = time.monotonic()
        with slowed(DRIVE, 4):
            async with anyio.create_task_group() as tasks:
                async with aionvme.open(target(), queue=queue) as ns:
                    before = ns._io.submitted
                    for i in range(6):
                        tasks.start_soon(ends.note, lambda i=i: ns.write(i, bytes(512)))
                    await all_in_flight(ns, before + 6)
                    cut_off(target())
                assert ns._io.in_flight == 0
        assert time.monotonic() - start < LIMIT_S
    assert len(ends.all) == 6
    assert ends.others(aionvme.CommandAbortedError) == []
    assert ends.failed()
    await comes_back("nvme3", 2)
