"""Processes that signals end with commands in flight: the device is there for the next one at once."""

import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack

import anyio
import pytest

import aionvme
from tests.conftest import node
from tests.guest.faults import DRIVE, FAULT_QUEUES, FaultQueue, target, works
from tests.guest.monitor import slowed
from tests.interrupting import interrupt


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


VICTIM = """
import asyncio, sys, aionvme
async def main():
    async with aionvme.open(sys.argv[1], queue=sys.argv[2]) as ns:
        asyncio.get_running_loop().call_later(0.1, lambda: print("ready", flush=True))
        await asyncio.gather(many(ns), *(work(ns, i) for i in range(6)))
async def work(ns, i):
    buffer, into = ns.alloc(512), bytearray(512)
    while True:
        await ns.write(i, buffer)
        await ns.read(i, 1, into=into)
async def many(ns):
    buffer = ns.alloc(1000 * 512)
    while True:
        await ns.read_many(range(1000), 1, buffer)
asyncio.run(main())
"""


@pytest.mark.feature("SIGKILL")
@pytest.mark.parametrize("slow", [False, True], ids=["fast", "slow"])
def test_killed_with_commands_in_flight(slow: bool, queue: FaultQueue) -> None:
    """SIGKILL ends two processes at once, however slow the device; the next one opens it, and reads and writes."""
    where = target() if slow else node(1, "nvme1")
    with ExitStack() as stack:
        if slow:
            stack.enter_context(slowed(DRIVE, 100))
        command = [sys.executable, "-c", VICTIM, where, queue]
        victims = [stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE)) for _ in range(2)]
        for victim in victims:
            stack.callback(victim.kill)
        for victim in victims:
            assert victim.stdout is not None
            assert victim.stdout.readline() == b"ready\n"
        start = time.monotonic()
        for victim in victims:
            os.kill(victim.pid, signal.SIGKILL)
        assert [victim.wait(30) for victim in victims] == [-signal.SIGKILL] * 2
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
    """Ctrl-C: what is in flight is waited for, the namespace is closed, every buffer is given up then and not before."""
    with slowed(DRIVE, 16):
        report = interrupt(loop, target(), queue)
        assert report.returncode == -signal.SIGINT
        assert report.answer == {
            "ended": 6, "in_flight": 0, "state": "closed", "too_early": 0, "living": 0, "abandoned": 0,
        }  # fmt: skip
        assert report.took_s < 10
    use(target(), queue)
