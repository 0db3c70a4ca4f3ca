"""The processor a driver over a real ring uses while it has nothing to do but wait: next to none."""

import os
import time

import anyio
import pytest

from aionvme.driver.driver import Driver
from aionvme.driver.request import Submission
from aionvme.queues.polled import PolledQueue
from tests.native.conftest import OpenDriver
from tests.native.rings import HeldQueue, NopQueue, NullQueue, break_ring, need_injected_results, outcome, until

pytestmark = pytest.mark.anyio


class LateQueue(NopQueue):
    """A polled queue whose commands reach the ring only when the test says so: until then they take their time."""

    def __init__(self) -> None:
        super().__init__("polled")
        self._waiting: list[tuple[int, bytes, int]] = []

    def stage(self, user_data: int, entry: bytes, buf_index: int) -> None:
        """Hold a command back."""
        self._waiting.append((user_data, entry, buf_index))

    def release(self) -> None:
        """Hand over what was held back."""
        for command in self._waiting:
            super().stage(*command)
        self._waiting.clear()


class Usage:
    """Turns of a queue and processor time of the process, from here on."""

    def __init__(self, queue: NullQueue) -> None:
        self._queue = queue
        self._turns = queue.turns
        self._cpu = time.process_time()

    def turns(self) -> int:
        """Turns made since."""
        return self._queue.turns - self._turns

    def cpu_s(self) -> float:
        """Seconds of processor time since."""
        return time.process_time() - self._cpu


async def percent_of_a_processor(queue: NullQueue) -> float:
    """What the process uses of a processor while all sleep, without a turn: the least of some seconds, since a noisy machine adds
    to it and nothing takes away. The longer ones are for what it takes to go to sleep."""
    least = 100.0
    for seconds in (1, 2, 4):
        usage = Usage(queue)
        await anyio.sleep(seconds)
        assert usage.turns() == 0
        least = min(least, 100 * usage.cpu_s() / seconds)
        if least < 0.1:
            break
    return least


@pytest.mark.parametrize("kind", ["interrupt", "polled"])
async def test_idle(kind: str, open_driver: OpenDriver) -> None:
    """An open driver with nothing in flight makes no turns and uses no processor, before its first command and after it."""
    need_injected_results()
    queue = NopQueue("polled" if kind == "polled" else "interrupt")
    driver = open_driver(queue)
    for _ in range(2):
        await anyio.sleep(0.02)
        assert await percent_of_a_processor(queue) < 0.1
        await driver.run([Submission(outcome())] * 100)


async def test_idle_after_a_late_signal(open_driver: OpenDriver) -> None:
    """A signal that comes when all is done, as the kernel's sometimes do, costs one turn and does not keep the loop awake."""
    driver = open_driver(queue := NullQueue())
    await driver.run([Submission(bytes(72))])
    await anyio.sleep(0.01)
    usage = Usage(queue)
    fd = queue.fileno()
    assert fd is not None
    os.eventfd_write(fd, 1)
    await anyio.sleep(0.3)
    assert 1 <= usage.turns() <= 2
    assert usage.cpu_s() < 0.01


async def test_idle_after_a_late_signal_beside_a_polled_ring() -> None:
    """It is no different where the interrupt driven ring is the second one of a polled queue."""
    fd = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    queue = PolledQueue(fd, 1, depth=8)
    os.close(fd)
    driver = Driver(queue, "the device")
    try:
        await driver.run([Submission(bytes(72))])
        eventfd = queue.fileno()
        assert eventfd is not None
        os.eventfd_write(eventfd, 1)
        cpu = time.process_time()
        await anyio.sleep(0.3)
        assert time.process_time() - cpu < 0.01
    finally:
        await driver.aclose()


async def test_idle_after_a_late_signal_when_broken(open_driver: OpenDriver) -> None:
    """So it is when the ring has broken: such a signal does not keep the loop awake until the driver is closed."""
    driver = open_driver(queue := HeldQueue())
    async with anyio.create_task_group() as tasks, queue:
        tasks.start_soon(ended_by_the_system, driver)
        await until(lambda: queue.in_flight == 1)
        break_ring(queue)
        queue.release(1)
    usage = Usage(queue)
    fd = queue.fileno()
    assert fd is not None
    os.eventfd_write(fd, 1)
    await anyio.sleep(0.3)
    assert usage.cpu_s() < 0.01


async def ended_by_the_system(driver: Driver) -> None:
    """Run a command that the operating system ends."""
    with pytest.raises(OSError, match="entering an io_uring"):
        await driver.run([Submission(bytes(72))])


@pytest.mark.parametrize("cancelled", [False, True], ids=["waited-for", "cancelled"])
async def test_a_slow_command(cancelled: bool, open_driver: OpenDriver) -> None:
    """Waiting for one sleeps on the eventfd, also when the waiting task has been cancelled: no turns, no processor."""
    driver = open_driver(queue := HeldQueue())
    async with anyio.create_task_group() as tasks, queue:
        tasks.start_soon(driver.run, [Submission(bytes(72))])
        await until(lambda: queue.in_flight == 1)
        if cancelled:
            tasks.cancel_scope.cancel()
        with anyio.CancelScope(shield=True):
            await anyio.sleep(0.02)
            assert await percent_of_a_processor(queue) < 0.1
        assert driver.in_flight == 1
        queue.release(1)
    assert driver.in_flight == 0


@pytest.mark.parametrize("cancelled", [False, True], ids=["waited-for", "cancelled"])
async def test_a_slow_command_on_a_polled_ring(cancelled: bool, open_driver: OpenDriver) -> None:
    """Nobody wakes a poller, so it looks again, ever less often: at most a few dozen times a fifth of a second."""
    need_injected_results()
    driver = open_driver(queue := LateQueue())
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(driver.run, [Submission(outcome())])
        with anyio.CancelScope(shield=True):
            await anyio.sleep(0.1)
            if cancelled:
                tasks.cancel_scope.cancel()
            usage = Usage(queue)
            await anyio.sleep(0.2)
            turns, cpu_s = usage.turns(), usage.cpu_s()
            queue.release()
    assert driver.in_flight == 0
    assert 5 <= turns <= 40
    assert cpu_s < 0.05
