"""Leaving in unusual ways: by force, on another loop, in a child, at the end of a run, at the end of the interpreter."""

import asyncio
import os
import subprocess
import sys
from typing import Any

import anyio
import anyio.lowlevel
import pytest
import trio
import trio.lowlevel

import aionvme
from tests.conftest import leave_by_force

SLOW = "emu:nvm?lba=4096&latency=20ms"


@pytest.mark.anyio
@pytest.mark.parametrize("how", ["close", "throw"])
async def test_a_waiter_that_leaves_by_force_gives_its_place_on(how: str) -> None:
    """A coroutine closed or thrown into while it waits its turn leaves the line: with one place, the next still gets it."""
    async with aionvme.open(SLOW, depth=1) as ns, anyio.create_task_group() as tasks:
        tasks.start_soon(ns.read, 0, 1)
        while not ns._io.submitted:
            await anyio.lowlevel.checkpoint()
        waiting = ns.read(1, 1)
        waiting.send(None)
        leave_by_force(waiting, how)
        with anyio.fail_after(5):
            await ns.read(2, 1)


@pytest.mark.anyio
@pytest.mark.parametrize("how", ["close", "throw"])
async def test_a_waiter_that_leaves_by_force_in_flight_is_not_woken(how: str) -> None:
    """A coroutine closed or thrown into with its command in flight: the task that drove it goes on undisturbed."""
    async with aionvme.open(SLOW, depth=2) as ns:
        waiting = ns.read(1, 1)
        waiting.send(None)
        assert ns._io.submitted == 1
        leave_by_force(waiting, how)
        with anyio.fail_after(5):
            await anyio.sleep(0.1)
            await ns.read(2, 1)
        assert ns._io.in_flight == 0


@pytest.mark.anyio
async def test_tasks_are_served_in_the_order_they_came() -> None:
    """With one place, commands complete first come, first served; one that is cancelled in line is passed over."""
    served: list[int] = []
    async with aionvme.open("emu:nvm?lba=4096", depth=1) as ns:

        async def read(i: int) -> None:
            await ns.read(i, 1)
            served.append(i)

        async with anyio.create_task_group() as tasks:
            scopes = []
            for i in range(6):
                scopes.append(scope := anyio.CancelScope())

                async def one(i: int = i, scope: anyio.CancelScope = scope) -> None:
                    with scope:
                        await read(i)

                tasks.start_soon(one)
                await anyio.lowlevel.checkpoint()
            scopes[3].cancel()
    assert sorted(served) == served
    assert set(served) >= {0, 1, 2, 4, 5}


@pytest.mark.anyio
async def test_a_context_is_entered_once() -> None:
    """Entering the same context again is refused, and the first entering goes on working."""
    context = aionvme.open("emu:nvm")
    async with context as ns:
        with pytest.raises(aionvme.UsageError, match="entered once"):
            await context.__aenter__()
        await ns.read(0, 1)


@pytest.mark.anyio
async def test_each_task_gets_an_exception_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """When a queue breaks, no exception object is raised in two tasks: tracebacks would grow together."""
    caught: list[OSError] = []

    async def read(ns: aionvme.Namespace) -> None:
        with pytest.raises(OSError, match="gone") as info:
            await ns.read(0, 1)
        caught.append(info.value)

    def broken(budget: int) -> bytes:
        raise OSError(19, "gone")

    async with aionvme.open(SLOW) as ns, anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(read, ns)
        while ns._io.submitted < 5:
            await anyio.lowlevel.checkpoint()
        monkeypatch.setattr(ns._io.queue, "tick", broken)
    assert len({id(error) for error in caught}) == 5


def test_leaving_on_another_loop_changes_nothing() -> None:
    """The wrong loop is refused before anything is closed; the command in flight completes, and the right loop can leave."""
    right, wrong = asyncio.new_event_loop(), asyncio.new_event_loop()
    context = aionvme.open(SLOW)
    ns = right.run_until_complete(context.__aenter__())
    task = right.create_task(ns.write(0, bytes(4096)))
    right.run_until_complete(asyncio.sleep(0))
    with pytest.raises(aionvme.WrongLoopError):
        wrong.run_until_complete(context.__aexit__(None, None, None))
    right.run_until_complete(task)
    right.run_until_complete(context.__aexit__(None, None, None))
    with pytest.raises(aionvme.ClosedError):
        right.run_until_complete(ns.read(0, 1))
    right.close()
    wrong.close()


def test_a_failure_of_a_cancelled_command_is_noted() -> None:
    """asyncio's CancelledError says so when the command it cut short had failed."""

    async def main() -> list[str]:
        async with aionvme.open("emu:zns?latency=20ms") as ns:
            before = ns._io.submitted
            task = asyncio.create_task(ns.write(5, bytes(4096)))
            while ns._io.submitted == before:
                await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError) as caught:
                await task
            return caught.value.__notes__

    (note,) = asyncio.run(main())
    assert "Zone Invalid Write" in note


def test_a_system_task_of_trio_may_outlive_main() -> None:
    """trio cancels its system tasks when main ends; one that waits for a command still gets its outcome."""
    outcomes: list[int] = []

    async def read(ns: aionvme.Namespace) -> None:
        outcomes.append((await ns.read(0, 1)).size)

    async def main() -> Any:
        context = aionvme.open(SLOW)
        ns = await context.__aenter__()
        trio.lowlevel.spawn_system_task(read, ns)
        while not ns._io.submitted:
            await trio.lowlevel.checkpoint()
        return context, ns

    context, ns = trio.run(main)
    assert outcomes == [4096]
    with pytest.warns(ResourceWarning, match="never closed"):
        for driver in (ns._io, ns._admin):
            driver.__del__()
    del context


@pytest.mark.trio
async def test_a_forked_child_can_leave() -> None:
    """A child that goes on in the inherited run ends its waits with ClosedError; asyncio lets no child go on in its loop."""
    async with aionvme.open("emu:nvm?latency=200ms") as ns, anyio.create_task_group() as tasks:
        ended: list[type] = []

        async def read() -> None:
            try:
                await ns.read(0, 1)
                ended.append(int)
            except aionvme.ClosedError:
                ended.append(aionvme.ClosedError)

        tasks.start_soon(read)
        while not ns._io.submitted:
            await anyio.lowlevel.checkpoint()
        child = os.fork()
        if child == 0:
            try:
                await trio.sleep(0.01)
            finally:
                os._exit(42 if ended == [aionvme.ClosedError] else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 42
    assert ended == [int]


EXIT = """
import asyncio, signal, sys, threading, time
import aionvme

# A shell ignores SIGINT for what it runs in the background, and its children inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

async def main():
    async with aionvme.open("emu:nvm?latency=1ms-5ms") as ns:
        ready.set()
        await asyncio.gather(*(forever(ns, i) for i in range(64)))

async def forever(ns, i):
    while True:
        await ns.read(i, 1)

ready = threading.Event()
"""


@pytest.mark.parametrize(
    "ending",
    [
        "threading.Thread(target=asyncio.run, args=[main()], daemon=True).start(); ready.wait(); time.sleep(0.05)",
        "threading.Timer(0.2, __import__('_thread').interrupt_main).start()\n"
        "try: asyncio.run(main())\n"
        "except KeyboardInterrupt: pass",
    ],
    ids=["daemon thread", "interrupt"],
)
def test_the_interpreter_ends_quietly(ending: str) -> None:
    """With commands in flight at its end the interpreter neither hangs nor complains."""
    done = subprocess.run(
        [sys.executable, "-c", EXIT + ending], capture_output=True, text=True, timeout=30, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
