"""A program that SIGINT ends with commands in flight: ``python -m tests.interrupted LOOP TARGET QUEUE``.

It prints "ready" when they are in flight, and once it is interrupted what a user would want to know, as a line of JSON.
"""

import asyncio
import gc
import json
import signal
import sys
import weakref
from collections.abc import Callable, Coroutine
from typing import Any

import anyio
import anyio.lowlevel
import numpy as np
import trio
import uvloop
from numpy.typing import NDArray

import aionvme
from aionvme.driver import process
from aionvme.queues.attach import QueueChoice

TASKS = 6

refs: list[weakref.ref[NDArray[np.uint8]]] = []
ended = 0
too_early = 0
inherited = 0
opened: list[aionvme.Namespace] = []


def living() -> int:
    """How many of the buffers are left."""
    gc.collect()
    return sum(ref() is not None for ref in refs)


async def read_on(ns: aionvme.Namespace, slba: int) -> None:
    """Read for ever, into a buffer that nobody else holds."""
    global ended
    try:
        while True:
            into = np.zeros(ns.lba_size, np.uint8)
            refs.append(weakref.ref(into))
            await ns.read(slba, 1, into=into)
    finally:
        ended += 1


async def main(target: str, queue: QueueChoice, ready: Callable[[], object]) -> None:
    """Have reads in flight, say that they are ``ready``, and wait to be interrupted."""
    global too_early, inherited
    inherited = len(process.abandoned)  # of whom this is a fork
    async with aionvme.open(target, queue=queue) as ns:
        opened.append(ns)
        before = ns._io.submitted
        try:
            async with anyio.create_task_group() as tasks:
                for i in range(TASKS):
                    tasks.start_soon(read_on, ns, i)
                while ns._io.submitted < before + TASKS:
                    await anyio.lowlevel.checkpoint()
                await anyio.sleep(0.05)
                ready()
                await anyio.sleep_forever()
        finally:
            too_early += living() < ns._io.in_flight


def run(loop: str, entry: Callable[..., Coroutine[Any, Any, None]], *arguments: Any) -> None:
    """As a program of that loop's would."""
    if loop == "trio":
        trio.run(entry, *arguments)
        return
    with asyncio.Runner(loop_factory=uvloop.new_event_loop if loop == "uvloop" else None) as runner:
        runner.run(entry(*arguments))


def report(error: BaseException) -> dict[str, Any]:
    """What came of it, after ``error`` has ended ``run()``; raises what was more than the interruption."""
    # trio raises it inside of the task group, which wraps it.
    rest = error.split(KeyboardInterrupt)[1] if isinstance(error, BaseExceptionGroup) else error
    if rest is not None and not isinstance(rest, KeyboardInterrupt):
        raise error
    (ns,) = opened
    return {
        "ended": ended,
        "in_flight": ns._io.in_flight,
        "state": ns._io._state.value,
        "too_early": too_early,
        "living": living(),
        "abandoned": len(process.abandoned) - inherited,
    }


if __name__ == "__main__":
    # A shell ignores SIGINT for what it runs in the background, and its children inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        run(sys.argv[1], main, *sys.argv[2:], lambda: print("ready", flush=True))
    except BaseException as error:
        print(json.dumps(report(error)), flush=True)
        raise KeyboardInterrupt from None
