"""How many commands a second can Python await, when the device costs nothing?

A uring_cmd on /dev/null (Linux 6.1) makes the whole way, from the await through the ring into the kernel and back, and does
nothing there. Contenders: one await for each read of a block into registered memory (asyncio, the same with the pure Python
that stands in where the native one is missing, uvloop, trio), as many tasks as the queue is deep; one await for an array of
reads (read_many); asyncio.to_thread with an empty call, the price of a thread; and the limit, one thread of C on the native core
(null_device.c), which lays commands out and reaps them by the queue's depth.
"""

import asyncio
import subprocess

import numpy as np
import trio
import uvloop

from benchmarks import harness, load, report
from benchmarks.null_namespace import null_namespace

LOOPS = ("asyncio", "asyncio, pure Python", "uvloop", "trio")
BATCHES = ("read_many 256", "read_many 4096", "read_many 4096, trio")


async def threads(depth: int, seconds: float) -> harness.Measures:
    """An empty call in a worker thread."""
    return await load.rate(lambda _: asyncio.to_thread(int), depth, seconds)


async def awaits(depth: int, seconds: float) -> harness.Measures:
    """Reads of a block, one await each."""
    async with null_namespace(depth) as ns:
        into = ns.alloc(ns.lba_size)
        return await load.rate(lambda _: ns.read(7, 1, into=into), depth, seconds)


async def batches(size: int, depth: int, seconds: float) -> harness.Measures:
    """Reads of a block each, so many with one await."""
    async with null_namespace(depth) as ns:
        into = ns.alloc(size * ns.lba_size)
        slba = np.arange(size, dtype=np.uint64)
        return await load.rate(lambda _: ns.read_many(slba, 1, into), 1, seconds, size)


def limit(depth: int, seconds: float) -> harness.Measures:
    """The same commands from C."""
    command = [str(harness.program("null_device")), str(depth), str(seconds)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return {"commands_per_second": float(done.stdout)}


def measure(contender: str, depth: int, seconds: float) -> harness.Measures:
    """One measurement, in this process."""
    if contender == "to_thread":
        return asyncio.run(threads(depth, seconds))
    if contender == "C":
        return limit(depth, seconds)
    if contender in BATCHES:
        size = int(contender.replace(",", "").split()[1])
        if contender.endswith("trio"):
            return trio.run(batches, size, depth, seconds)
        return asyncio.run(batches(size, depth, seconds))
    if contender == "trio":
        return trio.run(awaits, depth, seconds)
    run = uvloop.run if contender == "uvloop" else asyncio.run
    found: harness.Measures = run(awaits(depth, seconds))
    return found


def remarks(result: report.Result) -> list[str]:
    """How near Python comes to C."""
    pairs = [(contender, "C") for contender in (*BATCHES, *LOOPS)]
    return ["## Share of the limit", report.ratios(result["parts"]["null"], pairs)]


BENCHMARK = harness.Benchmark(
    name="null_device",
    title="Commands that Python can await when the device costs nothing",
    parts={
        "null": harness.Part(
            title="uring_cmd on /dev/null",
            contenders=("to_thread", *LOOPS, *BATCHES, "C"),
            measure=measure,
            full=harness.Settings(depths=(1, 2, 4, 8, 16, 32, 64, 128, 256), rounds=3, seconds=0.5),
            quick=harness.Settings(depths=(1, 64), rounds=1, seconds=0.3),
            environment={"asyncio, pure Python": {"AIONVME_PURE": "1"}},
        )
    },
    programs=("null_device",),
    remarks=remarks,
)

if __name__ == "__main__":
    harness.main(BENCHMARK)
