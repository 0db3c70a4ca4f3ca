"""Commands that take longer than they may: the kernel ends them, by an Abort first and a reset then, in bounded time."""

import time

import anyio
import numpy as np
import pytest

import aionvme
from aionvme.errors import nvme_error
from aionvme.nvme import nvm as builders
from tests.conftest import node
from tests.guest.faults import (
    DRIVE,
    Buffers,
    Ends,
    FaultQueue,
    all_in_flight,
    answers_again,
    comes_back,
    cut_off,
    io_timeout,
    kept,
    limit_ms,
    on_each_path,
    target,
    until,
    works,
)
from tests.guest.monitor import slowed

pytestmark = [pytest.mark.anyio, on_each_path, pytest.mark.feature("time-out")]

GIVEN_UP = (
    aionvme.CommandAbortedError,
    aionvme.CommandAbortRequestedError,
    aionvme.SubmissionQueueDeletedError,
)
"""What the kernel says of a command that it gave up, and a device of one that it took back or whose queue was deleted."""

LIMIT_S = 30
"""What all of it takes at most: the limit of a second twice, rounded up; the reset; and a guest that is slow."""


async def submit(ns: aionvme.Namespace, command: aionvme.Command, **buffer: np.ndarray) -> None:
    """Submit a command and raise what came of it: submit() hands statuses out."""
    completion = await ns.submit(command, **buffer)
    if completion.status:
        raise nvme_error(completion.status, "a command with a limit of its own")


async def test_a_slow_backend_is_not_waited_for(queue: FaultQueue) -> None:
    """A command past its own timeout_ms is given up or taken back, or the reset has it carried out; others may go with it. No
    buffer is released before its command has ended; then all is as before."""
    with io_timeout(target(), 1000):
        async with aionvme.open(target(), queue=queue) as ns:
            ends, late, buffers = Ends(), Ends(), Buffers()
            command = builders.read(9, 1)._replace(timeout_ms=500)
            start = time.monotonic()
            with slowed(DRIVE, 1):
                async with anyio.create_task_group() as tasks:
                    before = ns._io.submitted
                    for i in range(8):
                        tasks.start_soon(ends.note, lambda i=i: ns.read(i, 1, into=buffers.new(ns.lba_size)))
                    tasks.start_soon(late.note, lambda: submit(ns, command, into=buffers.new(ns.lba_size)))
                    await all_in_flight(ns, before + 9)
                    tasks.start_soon(kept, buffers, ns)
            assert time.monotonic() - start < LIMIT_S
            assert len(ends.all) == 8
            assert len(late.all) == 1
            assert ends.others(*GIVEN_UP) == late.others(*GIVEN_UP) == []
            assert ends.failed() + late.failed()
            await until(lambda: not buffers.living())
            await answers_again(ns)
            await works(ns)


async def test_a_limit_of_its_own(queue: FaultQueue) -> None:
    """A command to a controller that answers nothing is given up when its own timeout_ms is over, long before others would be.

    It is the only one: with others in flight the kernel, which looks again when the Abort has not helped, does so only when one
    of those is late (seen on Linux 7.3).
    """
    async with aionvme.open(target(), queue=queue) as ns:
        late, buffers = Ends(), Buffers()
        command = builders.write(15, 1)._replace(timeout_ms=500)
        others_ms = limit_ms(target())
        cut_off(target())  # so that it cannot be carried out, however late it is given up
        start = time.monotonic()
        async with anyio.create_task_group() as tasks:
            before = ns._io.submitted
            tasks.start_soon(late.note, lambda: submit(ns, command, data=buffers.new(ns.lba_size)))
            await all_in_flight(ns, before + 1)
            assert ns._io.in_flight == 1
            tasks.start_soon(kept, buffers, ns)
        assert (time.monotonic() - start) * 1000 < others_ms
        assert [type(end) for end in late.all] == [aionvme.CommandAbortedError]
        await until(lambda: not buffers.living())
        await answers_again(ns)
        await works(ns)


async def test_a_controller_that_answers_nothing(queue: FaultQueue) -> None:
    """The kernel finds out by itself: every command is given up, the controller comes back, and so does the namespace.

    Buffers are kept until then. A namespace of another controller is used meanwhile, in the same loop.
    """
    with io_timeout(target(), 1000):
        async with aionvme.open(target(), queue=queue) as ns, aionvme.open(node(1, "nvme1"), queue=queue) as neighbour:
            ends, buffers = Ends(), Buffers()
            used = 0
            cut_off(target())  # first, so that no command is carried out, however slow this machine is
            start = time.monotonic()
            async with anyio.create_task_group() as tasks:
                before = ns._io.submitted
                for i in range(6):
                    tasks.start_soon(ends.note, lambda i=i: ns.write(i, buffers.new(ns.lba_size)))
                await all_in_flight(ns, before + 6)
                tasks.start_soon(kept, buffers, ns)
                while ns._io.in_flight:
                    await works(neighbour)
                    used += 1
                    await anyio.sleep(0.05)
            assert time.monotonic() - start < LIMIT_S
            assert used
            assert [type(end) for end in ends.all] == [aionvme.CommandAbortedError] * 6
            await until(lambda: not buffers.living())
            await answers_again(ns)
            await works(ns)


async def test_leaving_a_controller_that_answers_nothing(queue: FaultQueue) -> None:
    """Closing waits until the kernel has given every command up, and no longer, with their buffers; who awaits one is told."""
    ends, buffers = Ends(), Buffers()
    with io_timeout(target(), 1000):
        start = time.monotonic()
        async with anyio.create_task_group() as tasks:
            async with aionvme.open(target(), queue=queue) as ns:
                cut_off(target())
                before = ns._io.submitted
                for i in range(6):
                    tasks.start_soon(ends.note, lambda i=i: ns.write(i, buffers.new(ns.lba_size)))
                await all_in_flight(ns, before + 6)
                tasks.start_soon(kept, buffers, ns)
            assert ns._io.in_flight == 0
        assert time.monotonic() - start < LIMIT_S
    assert [type(end) for end in ends.all] == [aionvme.CommandAbortedError] * 6
    await until(lambda: not buffers.living())
    await comes_back("nvme3", 2)
