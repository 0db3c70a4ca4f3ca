"""Tasks that await commands are tasks like others: their context, time-outs, other kinds of Task, what they raise."""

import asyncio
import contextvars
import time
from contextlib import nullcontext
from typing import Any

import anyio
import numpy as np
import pytest

import aionvme

FAST = "emu:nvm?latency=50us-300us&seed=1"
SLOW = "emu:nvm?latency=50ms"

name: contextvars.ContextVar[str] = contextvars.ContextVar("name")


@pytest.mark.anyio
async def test_a_task_keeps_its_context() -> None:
    """After an await each task finds the variables that it set, and is the task that the loop says is running."""

    async def work(ns: aionvme.Namespace, own: str) -> None:
        name.set(own)
        me = anyio.get_current_task().id
        for lba in range(20):
            await ns.read(lba, 1)
            assert name.get() == own
            assert anyio.get_current_task().id == me

    async with aionvme.open(FAST) as ns, anyio.create_task_group() as tasks:
        for i in range(30):
            tasks.start_soon(work, ns, f"task {i}")
    assert name.get(None) is None


@pytest.mark.anyio
async def test_a_time_out_waits_for_the_command(anyio_backend_name: str) -> None:
    """A time-out that passes meanwhile ends nothing before the command has completed. asyncio raises it then; on trio the outcome
    is not lost, and it is the next checkpoint that would raise."""
    sizes: list[int] = []
    async with aionvme.open(SLOW) as ns:
        start = time.monotonic()
        with nullcontext() if anyio_backend_name == "trio" else pytest.raises(TimeoutError):
            with anyio.fail_after(0.005):
                sizes.append((await ns.read(0, 1)).size)
        assert time.monotonic() - start >= 0.05
        assert ns._io.in_flight == 0
        assert len(sizes) == (anyio_backend_name == "trio")
        assert (await ns.read(0, 1)).size == ns.lba_size


def test_what_asyncio_waits_with() -> None:
    """wait_for, timeout, gather, shield and as_completed do with a read what they do with any coroutine."""

    async def main() -> None:
        async with aionvme.open(FAST) as ns, aionvme.open(SLOW) as slow:
            await ns.write(7, np.full(ns.lba_size, 7, np.uint8))
            assert (await asyncio.wait_for(ns.read(7, 1), 5))[0] == 7
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(slow.read(0, 1), 0.001)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.001):
                    await slow.read(0, 1)
            assert [data[0] for data in await asyncio.gather(*(ns.read(lba, 1) for lba in (6, 7, 8)))] == [0, 7, 0]
            shielded = asyncio.create_task(slow.read(0, 1))
            waiting = asyncio.ensure_future(asyncio.shield(shielded))
            await asyncio.sleep(0)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            assert (await shielded).size == slow.lba_size
            sizes = [(await each).size for each in asyncio.as_completed([ns.read(0, n) for n in (1, 2, 3)])]
            assert sorted(sizes) == [512, 1024, 1536]

    asyncio.run(main())


@pytest.mark.parametrize("debug", [False, True])
def test_other_kinds_of_task(debug: bool) -> None:
    """asyncio's Task in Python serves as well as the one in C, cancellations included, and so does a loop that debugs."""
    ended: list[str] = []

    async def work(ns: aionvme.Namespace) -> None:
        try:
            for lba in range(50):
                await ns.read(lba, 1)
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise
        ended.append("done")

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_task_factory(lambda loop, coro, **options: asyncio.tasks._PyTask(coro, loop=loop, **options))  # type: ignore[attr-defined]
        async with aionvme.open(FAST) as ns:
            tasks = [asyncio.create_task(work(ns)) for _ in range(40)]
            assert type(tasks[0]) is asyncio.tasks._PyTask  # type: ignore[attr-defined]
            await asyncio.sleep(0.002)
            for task in tasks[::2]:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            assert ns._io.in_flight == 0

    asyncio.run(main(), debug=debug)
    assert (ended.count("cancelled"), ended.count("done")) == (20, 20)


@pytest.mark.parametrize("uvloop", [False, True], ids=["asyncio", "uvloop"])
def test_an_interrupt_in_a_task(uvloop: bool) -> None:
    """KeyboardInterrupt, raised in a task that a completion has just woken, ends the run; nobody else's completion is lost."""
    ended: list[str] = []
    tasks: list[asyncio.Task[None]] = []

    async def work(ns: aionvme.Namespace, i: int) -> None:
        try:
            for lba in range(10):
                await ns.read(lba, 1)
                if i == 5 and lba == 3:
                    raise KeyboardInterrupt
        finally:
            ended.append("ended")

    async def main() -> Any:
        async with aionvme.open("emu:nvm?latency=1ms") as ns:
            tasks.extend(asyncio.create_task(work(ns, i)) for i in range(20))
            await asyncio.wait(tasks)

    import uvloop as other

    with pytest.raises(KeyboardInterrupt):
        if uvloop:
            other.run(main())
        else:
            asyncio.run(main())
    assert len(ended) == 20
    assert isinstance(tasks[5].exception(), KeyboardInterrupt)


def test_a_flight_of_a_closed_coroutine_wakes_nobody() -> None:
    """Closed by force, or left by an exception thrown in, a task leaves its command in flight, and the loop in order."""

    async def main() -> None:
        async with aionvme.open(SLOW) as ns:
            into = np.zeros(ns.lba_size, np.uint8)
            for leave in ("close", "throw"):
                coroutine = ns.read(0, 1, into=into)
                coroutine.send(None)
                assert ns._io.in_flight == 1
                if leave == "close":
                    coroutine.close()
                else:
                    with pytest.raises(KeyError):
                        coroutine.throw(KeyError("boom"))
                assert ns._io.in_flight == 1
                while ns._io.in_flight:
                    await asyncio.sleep(0.01)

    asyncio.run(main())
