"""The driver over real rings: closing, threads and loops, fork, drivers nobody closed, and the processor it does not use."""

import asyncio
import atexit
import errno
import gc
import subprocess
import sys
import threading
import weakref
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from aionvme.driver import process as process_module
from aionvme.driver import turns
from aionvme.driver.driver import Driver
from aionvme.driver.request import Submission
from aionvme.errors import ClosedError, WrongLoopError
from tests.native.conftest import OpenDriver
from tests.native.rings import HeldQueue, Kept, NullQueue, holdings, in_child, until

COMMAND = Submission(bytes(72))


@pytest.mark.anyio
async def test_closing_drains(open_driver: OpenDriver) -> None:
    """aclose refuses new commands at once, ends when those in flight have completed, and gives the ring back."""
    before = holdings()
    driver = open_driver(queue := HeldQueue(depth=2))
    answers: list[object] = []
    refused: list[str] = []
    closed = False

    async def run() -> None:
        try:
            answers.append(await driver.run([COMMAND]))
        except ClosedError as error:
            refused.append(str(error))

    async def close() -> None:
        nonlocal closed
        await driver.aclose()
        closed = True

    async with anyio.create_task_group() as tasks, queue:
        for _ in range(3):  # one of them has to wait for a place
            tasks.start_soon(run)
        await until(lambda: queue.in_flight == 2)
        tasks.start_soon(close)
        await anyio.sleep(0.01)
        await run()
        assert (answers, closed) == ([], False)
        queue.release(2)
    assert (answers, closed) == ([[(0, 0)]] * 2, True)
    assert "is closing" in refused[0]
    assert len(refused) == 2
    assert holdings() == before
    await driver.aclose()
    with pytest.raises(ClosedError, match="closed: open it again"):
        await driver.run([COMMAND])
    with pytest.raises(ClosedError):
        await driver.run([])


@pytest.mark.anyio
async def test_closing_gives_up(open_driver: OpenDriver, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a command does not complete in time, aclose and the waiting task get ETIMEDOUT, and its buffer stays for good."""
    monkeypatch.setattr(turns, "DRAIN_LIMIT_S", 0.05)
    before = holdings()
    queue = HeldQueue()
    driver = Driver(queue, "the device")
    kept = Kept()

    async def run() -> None:
        with pytest.raises(TimeoutError):
            await driver.run([kept.submission(bytes(72))])

    async with anyio.create_task_group() as tasks, queue:
        tasks.start_soon(run)
        await until(lambda: queue.in_flight == 1)
        with pytest.raises(TimeoutError, match="closing the device with 1 commands in flight") as caught:
            await driver.aclose()
        assert caught.value.errno == errno.ETIMEDOUT
    assert holdings() == before
    assert kept.living() == 1


@pytest.mark.anyio
async def test_the_loop_forgets_a_closed_driver() -> None:
    """After closing, with completions that came in while it drained, nothing of the loop refers to the driver any more."""
    driver = Driver(queue := HeldQueue(), "the device")
    async with anyio.create_task_group() as tasks, queue:
        for _ in range(5):
            tasks.start_soon(driver.run, [COMMAND])
        await until(lambda: queue.in_flight == 5)
        tasks.start_soon(driver.aclose)
        for left in range(4, -1, -1):
            await anyio.sleep(0.005)
            queue.release(1)
            await until(lambda left=left: queue.in_flight == left)  # type: ignore[misc]
    ref = weakref.ref(driver)
    del driver, tasks
    for _ in range(3):
        await anyio.lowlevel.checkpoint()
        gc.collect()
    assert ref() is None


CLOSE_TWICE = """
import sys
import anyio
import anyio.lowlevel
from aionvme.driver.driver import Driver
from aionvme.driver.request import Submission
from tests.native.rings import HeldQueue, until

async def main():
    driver = Driver(queue := HeldQueue(), "the device")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(driver.run, [Submission(bytes(72))])
        await until(lambda: queue.in_flight == 1)
        tasks.start_soon(driver.aclose)
        tasks.start_soon(driver.aclose)
        await anyio.sleep(0.01)
        queue.release(1)

anyio.run(main, backend=sys.argv[1])
"""


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_closing_twice_at_a_time(backend: str) -> None:
    """Two tasks that close the same driver, with a command in flight, both come back."""
    subprocess.run([sys.executable, "-c", CLOSE_TWICE, backend], check=True, timeout=3)


@pytest.mark.anyio
async def test_another_thread_is_refused(open_driver: OpenDriver) -> None:
    """Another thread, with or without a loop of its own, gets WrongLoopError before anything is submitted."""
    driver = open_driver(queue := NullQueue())
    refused: list[str] = []

    def use(loop: str | None) -> None:
        with pytest.raises(WrongLoopError, match="belongs to the thread and event loop that opened it"):
            if loop is None:
                driver.check_usable()
            else:
                anyio.run(driver.run, [COMMAND], backend=loop)
        refused.append(str(loop))

    for loop in (None, "asyncio", "trio"):
        thread = threading.Thread(target=use, args=(loop,))
        thread.start()
        thread.join()
    assert refused == ["None", "asyncio", "trio"]
    assert queue.most_in_flight == 0
    assert await driver.run([COMMAND]) == [(0, 0)]


async def _with_a_command_in_flight(queue: HeldQueue, kept: Kept) -> Driver:
    driver = Driver(queue, "the device")
    assert driver._places.take_nowait()
    driver.flights.launch(*kept.submission(bytes(72)))
    await until(lambda: queue.turns > 0)
    return driver


def test_another_loop_of_the_same_thread_is_refused() -> None:
    """A second loop gets WrongLoopError; on the first the driver works on."""
    first, second = asyncio.new_event_loop(), asyncio.new_event_loop()
    queue = HeldQueue()
    driver = first.run_until_complete(_with_a_command_in_flight(queue, Kept()))
    with pytest.raises(WrongLoopError):
        second.run_until_complete(driver.run([COMMAND]))
    queue.release(2)
    assert first.run_until_complete(driver.run([COMMAND])) == [(0, 0)]
    first.run_until_complete(driver.aclose())
    first.close()
    second.close()


def test_closing_on_another_loop_is_refused() -> None:
    """aclose on a loop that the driver does not belong to raises WrongLoopError; the command and its buffer stay."""
    first, second = asyncio.new_event_loop(), asyncio.new_event_loop()
    queue, kept = HeldQueue(), Kept()
    driver = first.run_until_complete(_with_a_command_in_flight(queue, kept))
    try:
        with pytest.raises(WrongLoopError):
            second.run_until_complete(driver.aclose())
        assert kept.living() == 1
        queue.release(1)
    finally:
        first.run_until_complete(driver.aclose())
        first.close()
        second.close()


@pytest.mark.anyio
async def test_a_forked_child_is_refused(open_driver: OpenDriver) -> None:
    """The child gets ClosedError from everything but aclose, which does nothing; the parent's command completes."""
    driver = open_driver(queue := HeldQueue())

    def child() -> None:
        for call in (driver.run([COMMAND]), driver.run([])):
            with pytest.raises(ClosedError, match="left behind by a fork"):
                call.send(None)
        with pytest.raises(StopIteration):
            driver.aclose().send(None)

    done: list[object] = []

    async def run() -> None:
        done.append(await driver.run([COMMAND]))

    async with anyio.create_task_group() as tasks, queue:
        tasks.start_soon(run)
        await until(lambda: queue.in_flight == 1)
        in_child(child)
        queue.release(1)
        await until(lambda: done == [[(0, 0)]])
        queue.release(1)
        assert await driver.run([COMMAND]) == [(0, 0)]


@pytest.mark.anyio
async def test_a_forked_child_that_exits_leaves_the_ring_alone(open_driver: OpenDriver) -> None:
    """What Python does at the exit of a forked child takes no wake-up and no completion from the parent."""
    driver = open_driver(queue := HeldQueue())
    done: list[object] = []

    def child() -> None:
        process_module.ORPHAN_DRAIN_LIMIT_S = 0.05
        atexit._run_exitfuncs()

    async def run() -> None:
        done.append(await driver.run([COMMAND]))

    async with anyio.create_task_group() as tasks, queue:
        tasks.start_soon(run)
        await until(lambda: queue.in_flight == 1)
        await anyio.sleep(0.01)  # asleep on the eventfd
        in_child(child)
        queue.release(1)
        await anyio.sleep(0.2)
        woken = list(done)
        queue.release(1)
        await driver.run([COMMAND])  # another command makes a turn, whatever became of the wake-up
    assert woken == [[(0, 0)]]


def _leave_open(anyio_backend: tuple[str, dict[str, Any]], queue: HeldQueue, kept: Kept) -> Driver:
    """Open a driver, submit a command that no task waits for, and let the event loop end."""
    backend, options = anyio_backend
    return anyio.run(_with_a_command_in_flight, queue, kept, backend=backend, backend_options=options)


def test_a_driver_nobody_closed(anyio_backend: tuple[str, dict[str, Any]]) -> None:
    """When it is collected there is a ResourceWarning, its commands have been waited for, and the ring is given back."""
    gc.collect()
    before = holdings()
    queue, kept = HeldQueue(), Kept()
    driver = _leave_open(anyio_backend, queue, kept)
    threading.Timer(0.05, queue.release, [1]).start()
    assert kept.living() == 1
    with pytest.warns(ResourceWarning, match="the device was never closed"):
        del driver
        gc.collect()
    assert kept.living() == 0
    del queue
    gc.collect()
    assert holdings() == before


def test_a_driver_nobody_closed_with_a_command_that_hangs(
    anyio_backend: tuple[str, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is waited for for a bounded time, and its buffer then stays for as long as the process."""
    monkeypatch.setattr(process_module, "ORPHAN_DRAIN_LIMIT_S", 0.02)
    kept = Kept()
    driver = _leave_open(anyio_backend, queue := HeldQueue(), kept)
    with pytest.warns(ResourceWarning, match="the device was never closed"):
        del driver
        gc.collect()
    assert kept.living() == 1
    assert queue.in_flight == 1
