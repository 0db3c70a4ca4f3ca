"""Keeping a number of awaits under way, and what they cost."""

import time
from collections.abc import Awaitable, Callable
from typing import Any

import anyio

Call = Callable[[int], Awaitable[Any]]
"""One piece of work, given the number of the task that awaits it, from 0."""


CALLS = 8
"""Calls between two looks at the clock, which costs a good part of what the fastest of them do."""


async def keep(call: Call, depth: int, going: Callable[[], bool]) -> int:
    """Have ``depth`` tasks await one call after the other for as long as ``going`` says, and tell how many it were."""
    calls = 0

    async def work(task: int) -> None:
        nonlocal calls
        while going():
            for _ in range(CALLS):
                await call(task)
            calls += CALLS

    async with anyio.create_task_group() as tasks:
        for task in range(depth):
            tasks.start_soon(work, task)
    return calls


async def repeat(call: Call, depth: int, calls: int) -> None:
    """Carry out a number of calls, ``depth`` of them at a time."""

    async def work(task: int) -> None:
        for _ in range(task, calls, depth):
            await call(task)

    async with anyio.create_task_group() as tasks:
        for task in range(depth):
            tasks.start_soon(work, task)


async def rate(call: Call, depth: int, seconds: float, commands: int = 1) -> dict[str, float]:
    """Commands a second, and microseconds of processor time for each, where a call carries out so many ``commands``."""
    await repeat(call, depth, depth)  # what happens only once, such as anyio's import of its backend, is not measured
    clock = Clock(seconds)
    return clock.measures(commands * await keep(call, depth, clock.going))


class Clock:
    """A measurement that is under way for a number of seconds."""

    def __init__(self, seconds: float) -> None:
        self._processor = time.process_time()
        self._start = time.perf_counter()
        self._end = self._start + seconds

    def going(self) -> bool:
        """Whether there is time left."""
        return time.perf_counter() < self._end

    def measures(self, commands: int) -> dict[str, float]:
        """What has been measured until now, if so many commands were carried out."""
        elapsed, processor = time.perf_counter() - self._start, time.process_time() - self._processor
        return {"commands_per_second": commands / elapsed, "processor_us_per_command": processor / commands * 1e6}
