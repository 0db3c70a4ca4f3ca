"""What ends commands in flight on a raw queue: a reset, a time-out, removal, the end of the task or of the process.

Each time every command comes to an end, no task waits for ever, and the queue or the device is there for the next.
"""

import errno
import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import anyio
import anyio.lowlevel
import numpy as np
import pytest

import aionvme
from aionvme.nvme import nvm as builders
from tests.conftest import node
from tests.raw.conftest import numbers

pytestmark = pytest.mark.anyio

READS = 8


def controller(target: str) -> Path:
    """The sysfs folder of a target's controller."""
    return Path("/sys/class/nvme-generic", Path(target).name, "device").resolve()


async def outcome(ns: aionvme.Namespace, ends: list[int | None], slba: int) -> None:
    """Read a block; note the errno that it ended with, None for success."""
    try:
        await ns.read(slba, 1)
        ends.append(None)
    except OSError as error:
        ends.append(error.errno)


async def all_in_flight(ns: aionvme.Namespace, n: int) -> None:
    """Until n commands have been submitted, and then until the ring has them."""
    while ns._io.submitted < n:
        await anyio.lowlevel.checkpoint()
    await anyio.sleep(0.01)


async def answers_again(ns: aionvme.Namespace) -> None:
    """After a reset: commands are refused as busy for a while, and then carried out."""
    with anyio.fail_after(30):
        while True:
            try:
                await ns.read(0, 1)
                return
            except OSError as error:
                if error.errno != errno.EBUSY:
                    raise
                await anyio.sleep(0.05)


async def test_a_controller_reset_ends_what_is_in_flight(slow: str) -> None:
    """Commands in flight end with EINTR; the same open namespace works again when the controller does."""
    async with aionvme.open(slow, queue="raw") as ns:
        ends: list[int | None] = []
        async with anyio.create_task_group() as tasks:
            for i in range(READS):
                tasks.start_soon(outcome, ns, ends, i)
            await all_in_flight(ns, READS)
            (controller(slow) / "reset_controller").write_text("1")
        assert len(ends) == READS
        assert set(ends) <= {None, errno.EINTR}
        assert errno.EINTR in ends
        assert ns._io.in_flight == 0
        await answers_again(ns)


async def test_a_command_past_its_time_is_aborted(slow: str) -> None:
    """timeout_ms ends a command that the device holds: Abort first, then a reset. Those it takes along say so too."""
    async with aionvme.open(slow, queue="raw") as ns:
        into = np.zeros(512, np.uint8)
        ends: list[int | None] = []
        async with anyio.create_task_group() as tasks:
            for i in range(READS):
                tasks.start_soon(outcome, ns, ends, i)
            await all_in_flight(ns, READS)
            start = time.monotonic()
            command = builders.read(READS, 1)._replace(timeout_ms=300)
            try:
                completion = await ns.submit(command, into=into)
            except OSError as error:
                if error.errno != errno.EINTR:
                    raise
            else:
                # Command Abort Requested, where the device could still take it back; else it was just quicker
                assert completion.status.sc in (0x07, 0x00)
            assert time.monotonic() - start < 30
        assert len(ends) == READS
        assert set(ends) <= {None, errno.EINTR}
        await answers_again(ns)


async def test_removal_ends_what_is_in_flight() -> None:
    """Pulling the controller ends every task with the operating system's word, leaving works, and it can come back."""
    target = node(1, controller="nvme1")
    device = controller(target) / "device"
    loops = 16

    async def read_on(slba: int) -> None:
        with pytest.raises(OSError, match="command to") as caught:
            while True:
                await ns.read(slba, 1)
        ends.append(caught.value.errno or 0)

    ends: list[int] = []
    try:
        async with aionvme.open(target, queue="raw") as ns:
            async with anyio.create_task_group() as tasks:
                for i in range(loops):
                    tasks.start_soon(read_on, i)
                await all_in_flight(ns, loops)
                await anyio.to_thread.run_sync((device / "remove").write_text, "1")
            with pytest.raises(OSError, match="gone"):
                await ns.read(0, 1)
        assert len(ends) == loops
        assert set(ends) <= {errno.EINTR, errno.EBUSY, errno.ENODEV}
    finally:
        Path("/sys/bus/pci/rescan").write_text("1")
        with anyio.fail_after(30, shield=True):
            while True:
                try:
                    if numbers(target := node(1, controller="nvme1"))[1]:
                        break
                except (LookupError, aionvme.UsageError, OSError):
                    await anyio.sleep(0.05)
    async with aionvme.open(target, queue="raw") as ns:
        await ns.read(0, 1)


async def test_a_cancelled_task_leaves_when_its_command_ends(slow: str) -> None:
    """Cancelled with a slow command in flight, a task goes on when that has completed, and the buffer is filled by then."""
    async with aionvme.open(slow, queue="raw") as ns:
        data = np.full(512, 0x5A, np.uint8)
        await ns.write(77, data)
        into = np.zeros(512, np.uint8)
        with anyio.move_on_after(0.05):
            await ns.read(77, 1, into=into)
        assert ns._io.in_flight == 0
        assert (into == data).all()


async def test_leaving_waits_for_commands_in_flight(slow: str) -> None:
    """A namespace is closed when the last of its commands has completed: each task gets its answer."""
    ends: list[int | None] = []
    async with anyio.create_task_group() as tasks:
        async with aionvme.open(slow, queue="raw") as ns:
            for i in range(4):
                tasks.start_soon(outcome, ns, ends, i)
            await all_in_flight(ns, 4)
        assert ns._io.in_flight == 0
    assert ends == [None] * 4


VICTIM = """
import asyncio, sys, aionvme
async def main():
    async with aionvme.open(sys.argv[1], queue="raw") as ns:
        asyncio.get_running_loop().call_later(0.1, lambda: print("ready", flush=True))
        await asyncio.gather(*(work(ns, i) for i in range(4)))
async def work(ns, i):
    buffer = ns.alloc(512)
    while True:
        await ns.write(i, buffer)
asyncio.run(main())
"""


@pytest.mark.parametrize("times", [1, 3])
def test_killed_with_commands_in_flight(times: int, slow: str, nvm: str, total: int) -> None:
    """SIGKILL with commands in flight: the kernel waits for them, then each queue is free and the next process gets it."""
    for target in (slow, nvm):
        with ExitStack() as stack:
            command = [sys.executable, "-c", VICTIM, target]
            victims = [stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE)) for _ in range(times)]
            for victim in victims:
                stack.callback(victim.kill)
                assert victim.stdout is not None
                assert victim.stdout.readline() == b"ready\n"
            assert numbers(nvm) == (total, total - times)
            for victim in victims:
                os.kill(victim.pid, signal.SIGKILL)
            assert [victim.wait() for victim in victims] == [-signal.SIGKILL] * times
        deadline = time.monotonic() + 60
        while numbers(nvm)[1] < total and time.monotonic() < deadline:
            time.sleep(0.02)
        assert numbers(nvm) == (total, total)
