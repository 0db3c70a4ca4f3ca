"""Processes that signals end with commands in flight: the device is there for the next one at once."""

import asyncio
import gc
import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from contextlib import ExitStack
from multiprocessing.connection import Connection
from typing import Any, Self

import anyio
import pytest

import aionvme
from tests import interrupted
from tests.conftest import node
from tests.guest.faults import DRIVE, FAULT_QUEUES, FaultQueue, target, works
from tests.guest.monitor import slowed

FORK = multiprocessing.get_context("fork")


@pytest.fixture(params=FAULT_QUEUES)
def queue(request: pytest.FixtureRequest) -> FaultQueue:
    """Where a process may leave commands behind."""
    found: FaultQueue = request.param
    return found


def use(target: str, queue: FaultQueue) -> None:
    """Open, write, read, close."""

    async def main() -> None:
        async with aionvme.open(target, queue=queue) as ns:
            await works(ns)

    anyio.run(main)


class Child:
    """A fork that carries ``work`` out with the end of a pipe, to say "ready" and what else it has to say.

    A fresh interpreter, and all that it has to import, takes the guest seconds. What is left of pytest's in the fork is not used.
    """

    def __init__(self, work: Callable[..., None], *arguments: Any) -> None:
        self.pipe, end = FORK.Pipe()
        self._process = FORK.Process(target=_alone, args=(work, end, arguments))
        self._process.start()
        end.close()

    def __enter__(self) -> Self:
        """Wait until it is ready."""
        try:
            assert self.said(60) == "ready"
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Kill it, where it lives still."""
        self._process.kill()
        self._process.join(30)
        self.pipe.close()

    def said(self, limit_s: float) -> Any:
        """The next thing it has said."""
        assert self.pipe.poll(limit_s)
        return self.pipe.recv()

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        assert self._process.pid is not None
        os.kill(self._process.pid, number)

    def wait(self) -> int | None:
        """How it ended: a signal's number, negative, or its exit code."""
        self._process.join(30)
        return self._process.exitcode


def _alone(work: Callable[..., None], end: Connection, arguments: tuple[Any, ...]) -> None:
    gc.freeze()  # what pytest has need not be gone through when buffers are looked for
    signal.signal(signal.SIGINT, signal.default_int_handler)
    work(end, *arguments)


def write_and_read_on(end: Connection, where: str, queue: FaultQueue) -> None:
    """What SIGKILL ends: single commands and arrays, in registered and other memory."""

    async def work(ns: aionvme.Namespace, slba: int) -> None:
        data, into = ns.alloc(512), bytearray(512)
        while True:
            await ns.write(slba, data)
            await ns.read(slba, 1, into=into)

    async def many(ns: aionvme.Namespace) -> None:
        into = ns.alloc(1000 * 512)
        while True:
            await ns.read_many(range(1000), 1, into)

    async def main() -> None:
        async with aionvme.open(where, queue=queue) as ns:
            asyncio.get_running_loop().call_later(0.1, end.send, "ready")
            await asyncio.gather(many(ns), *(work(ns, i) for i in range(6)))

    asyncio.run(main())


def read_until_interrupted(end: Connection, loop: str, where: str, queue: FaultQueue) -> None:
    """What SIGINT ends."""
    try:
        interrupted.run(loop, interrupted.main, where, queue, lambda: end.send("ready"))
    except BaseException as error:
        end.send(interrupted.report(error))


@pytest.mark.feature("SIGKILL")
@pytest.mark.parametrize("slow", [False, True], ids=["fast", "slow"])
def test_killed_with_commands_in_flight(slow: bool, queue: FaultQueue) -> None:
    """SIGKILL ends two processes at once, however slow the device; the next one opens it, and reads and writes."""
    where = target() if slow else node(1, "nvme1")
    with ExitStack() as stack:
        if slow:
            stack.enter_context(slowed(DRIVE, 100))
        victims = [stack.enter_context(Child(write_and_read_on, where, queue)) for _ in range(2)]
        start = time.monotonic()
        for victim in victims:
            victim.send(signal.SIGKILL)
        assert [victim.wait() for victim in victims] == [-signal.SIGKILL] * 2
        assert time.monotonic() - start < 15
        use(where, queue)
        assert time.monotonic() - start < 30


@pytest.mark.feature("SIGINT")
@pytest.mark.parametrize(
    ("loop", "queue"),
    [(loop, "interrupt") for loop in ("asyncio", "uvloop", "trio")]
    + [("asyncio", "polled")] * ("polled" in FAULT_QUEUES),
)
def test_interrupted(loop: str, queue: FaultQueue) -> None:
    """Ctrl-C: what is in flight is waited for, the namespace is closed, every buffer is given up then and not before.

    What the process as a whole ends with is the business of ``tests/loops/test_interrupts.py``.
    """
    with slowed(DRIVE, 16), Child(read_until_interrupted, loop, target(), queue) as child:
        child.send(signal.SIGINT)
        assert child.said(10) == {
            "ended": 6, "in_flight": 0, "state": "closed", "too_early": 0, "living": 0, "abandoned": 0,
        }  # fmt: skip
        assert child.wait() == 0
    use(target(), queue)
