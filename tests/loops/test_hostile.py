"""What would go wrong only in company: forks, interrupts, garbage collection, arguments that run code of their own."""

import asyncio
import gc
import os
import signal
import subprocess
import sys
import threading
import time
import weakref
from typing import Any

import anyio
import numpy as np
import pytest
import trio
import trio.lowlevel

import aionvme
from aionvme.driver import process

SLOW = "emu:nvm?latency=50ms"


class Memory(bytearray):
    """Memory whose end can be seen."""


@pytest.mark.anyio
@pytest.mark.parametrize("short", [True, False])
async def test_a_cancelled_command_leaves_nothing_to_collect(short: bool) -> None:
    """When the task has gone so has the buffer, without the garbage collector."""
    async with aionvme.open("emu:nvm?latency=5ms") as ns:
        memory = Memory(ns.lba_size)
        gone = weakref.ref(memory)

        async def read(into: Memory) -> None:
            await ns.read(0, 1 if short else np.int64(1), into=into)

        gc.disable()
        try:
            with anyio.move_on_after(0.001):
                await read(memory)
            del memory
            assert gone() is None
        finally:
            gc.enable()


@pytest.mark.anyio
async def test_a_truth_value_that_raises(anyio_backend_name: str) -> None:
    """An argument that cannot be judged is told as it is, and nothing is written."""

    class Closing:
        def __bool__(self) -> bool:
            raise ValueError("boom")

    async with aionvme.open("emu:nvm") as ns:
        for fua in (Closing(), np.array([1, 2])):
            before = ns._io.submitted
            with pytest.raises(ValueError, match=r"boom|truth value"):
                await ns.write(0, np.ones(ns.lba_size, np.uint8), fua=fua)  # type: ignore[arg-type]
            assert ns._io.submitted == before
        assert not (await ns.read(0, 1)).any()


@pytest.mark.anyio
async def test_arguments_of_the_short_way_alone() -> None:
    """What stands for "as many blocks as there are" inside is no argument; objects are no data, whoever holds them."""
    async with aionvme.open("emu:nvm") as ns:
        with pytest.raises(TypeError):
            await ns.read(0, None, into=bytearray(512))  # type: ignore[call-overload]
        objects = np.array([None] * 64)
        for buffer in (objects, memoryview(objects)):  # type: ignore[arg-type]
            with pytest.raises(aionvme.UsageError, match="Python objects"):
                await ns.read(0, 1, into=buffer)
        with ns.latencies() as seen, pytest.raises(aionvme.UsageError, match="from 0 to 100"):
            seen.percentile_ns(101)


@pytest.mark.anyio
async def test_a_failure_is_told_when_its_buffer_has_gone(anyio_backend_name: str) -> None:
    """The error of a write is that of the device, also where the buffer was released while it was in flight."""
    async with aionvme.open("emu:zns?latency=5ms") as ns:
        view = memoryview(bytearray(ns.lba_size))
        caught: list[str] = []

        async def write() -> None:
            with pytest.raises(aionvme.ZoneInvalidWriteError) as error:
                await ns.write(5, view[:])
            caught.append(str(error.value))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(write)
            await anyio.sleep(0.001)
            view.release()
        assert "1 block at LBA 0x5" in caught[0]


def test_a_fork_beside_a_loop_that_was_closed() -> None:
    """A driver whose loop is closed, with somebody waiting, does not keep the others from being left behind in a child."""
    closed = asyncio.new_event_loop()

    async def leave_one_in_flight() -> list[Any]:
        context = aionvme.open(SLOW)
        ns = await context.__aenter__()
        tasks = [asyncio.create_task(ns.read(0, 1)) for _ in range(3)]
        await asyncio.sleep(0.005)
        return [context, ns, *tasks]

    kept = closed.run_until_complete(leave_one_in_flight())
    closed.close()

    async def main() -> None:
        async with aionvme.open(SLOW) as ns:
            pid = os.fork()
            if not pid:
                states = {ns._io._state.value, kept[1]._io._state.value}
                os._exit(states != {"left behind by a fork"} or bool(len(process.drivers)))
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
            assert (await ns.read(0, 1)).size == 512

    asyncio.run(main())
    with pytest.warns(ResourceWarning, match="never closed"):
        for driver in (kept[1]._io, kept[1]._admin):
            driver.__del__()
    for task in kept[2:]:
        task._log_destroy_pending = False
        task.get_coro().close()


def test_an_interrupt_of_a_trio_task_that_only_reads() -> None:
    """trio tells of Ctrl-C in a wait, which here declines: the command after that is where KeyboardInterrupt is raised."""
    reads = 0

    async def main() -> None:
        nonlocal reads
        async with aionvme.open("emu:nvm?latency=1ms") as ns:
            into = np.zeros(ns.lba_size, np.uint8)
            threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()
            end = time.monotonic() + 10
            while time.monotonic() < end:
                await ns.read(0, 1, into=into)
                reads += 1

    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        trio.run(main)
    assert reads > 1
    assert time.monotonic() - start < 5


def test_a_system_task_reads_on_when_the_turns_had_ended() -> None:
    """trio's main task has ended, and commands are in flight that nobody awaits: whoever submits then starts the turns anew."""
    sizes: list[int] = []

    async def late(ns: aionvme.Namespace) -> None:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                for _ in range(3):
                    sizes.append((await ns.read(0, 1)).size)
                    await trio.sleep(0.005)

    async def main() -> Any:
        context = aionvme.open("emu:nvm?latency=1ms-40ms&seed=5")
        ns = await context.__aenter__()
        trio.lowlevel.spawn_system_task(late, ns)
        await trio.lowlevel.checkpoint()
        for _ in range(6):
            coroutine = ns.read(0, 1)
            coroutine.send(None)
            coroutine.close()
        return context, ns

    context, ns = trio.run(main)
    assert sizes == [512] * 3
    with pytest.warns(ResourceWarning, match="never closed"):
        for driver in (ns._io, ns._admin):
            driver.__del__()
    del context


def test_closing_from_inside_of_a_call() -> None:
    """An argument that closes the namespace while a call judges it: the call is refused, and touches no ring. In a process of
    its own, because a mistake here is a crash."""
    program = """
import asyncio, os
import aionvme
from benchmarks.null_namespace import null_namespace


async def main():
    async with null_namespace(4) as ns:
        class Closing:
            def __bool__(self):
                try:
                    ns._io.aclose().send(None)
                except StopIteration:
                    pass
                return False

        try:
            await ns.write(0, bytes(512), fua=Closing())
        except aionvme.ClosedError:
            print("refused")


asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "refused\n"), done.stderr
