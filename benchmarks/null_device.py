"""How many commands a second can Python await, when the device costs nothing?

A uring_cmd on /dev/null (Linux 6.1) makes the whole way, from the await through the ring into the kernel and back, and does
nothing there. Contenders: one await for each read (asyncio, uvloop, trio), one await for an array of reads (read_many), both
through a namespace whose queue is on /dev/null; beside them what people use today, asyncio.to_thread with an empty call; and
the limit, C on the native core (null_device.c). Each figure is the median of several rounds, each in a fresh process, contenders
interleaved: ``python benchmarks/null_device.py [--json]``.
"""

import argparse
import asyncio
import json
import os
import platform
import statistics
import subprocess
import sys
import sysconfig
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np

import aionvme
from aionvme.buffers import BufferPool
from aionvme.driver.driver import Driver
from aionvme.queues.ring import RingQueue

ROUNDS = 5
DEPTHS = (1, 64)
SECONDS = 0.5
CONTENDERS = ("to_thread", "asyncio", "uvloop", "trio", "read_many 256", "read_many 4096", "C")
PROJECT = Path(__file__).resolve().parents[1]
C_LIMIT = PROJECT / ".cache/null_device"


async def rate(call: Callable[[], Awaitable[Any]], depth: int) -> float:
    """Calls a second, with ``depth`` tasks that each await one after the other."""
    import anyio

    calls = 0
    end = time.perf_counter() + SECONDS

    async def work() -> None:
        nonlocal calls
        while time.perf_counter() < end:
            for _ in range(16):
                await call()
                calls += 1

    start = time.perf_counter()
    async with anyio.create_task_group() as tasks:
        for _ in range(depth):
            tasks.start_soon(work)
    return calls / (time.perf_counter() - start)


async def threads(depth: int) -> float:
    """An empty call in a worker thread."""
    return await rate(lambda: asyncio.to_thread(int), depth)


@asynccontextmanager
async def null_namespace(depth: int) -> AsyncIterator[aionvme.Namespace]:
    """A namespace like an emulated one, whose commands go to /dev/null through a ring."""
    fd = os.open("/dev/null", os.O_RDWR)
    queue = RingQueue(fd, 0, kind="interrupt", depth=depth)
    pool = BufferPool(queue.register, queue.unregister, 1 << 20)
    driver = Driver(queue, "/dev/null")
    async with aionvme.open("emu:nvm?size=64MiB") as emulated:
        yield aionvme.Namespace("/dev/null", emulated._geometry, emulated.queue, pool, driver, driver)
    await driver.aclose()
    os.close(fd)


async def null_device(depth: int) -> float:
    """Reads of a block, one await each, into memory that is registered."""
    async with null_namespace(depth) as ns:
        into = ns.alloc(ns.lba_size)
        return await rate(lambda: ns.read(7, 1, into=into), depth)


async def batches(size: int, depth: int) -> float:
    """Reads of a block each, so many with one await."""
    async with null_namespace(depth) as ns:
        into = ns.alloc(size * ns.lba_size)
        slba = np.arange(size, dtype=np.uint64)
        return size * await rate(lambda: ns.read_many(slba, 1, into), 1)


def one(contender: str, depth: int) -> float:
    """One measurement, in this process."""
    if contender == "to_thread":
        return asyncio.run(threads(depth))
    if contender == "C":
        return float(subprocess.run([C_LIMIT, str(depth), str(SECONDS)], check=True, stdout=subprocess.PIPE).stdout)
    if contender.startswith("read_many"):
        return asyncio.run(batches(int(contender.split()[1]), depth))
    if contender == "asyncio":
        return asyncio.run(null_device(depth))
    if contender == "uvloop":
        import uvloop

        return float(uvloop.run(null_device(depth)))
    import trio

    return trio.run(null_device, depth)


def measure() -> dict[str, Any]:
    """Every contender at every depth, interleaved, with the machine they ran on."""
    C_LIMIT.parent.mkdir(exist_ok=True)
    native = PROJECT / "_native"
    sources = [PROJECT / "benchmarks/null_device.c", native / "core.c"]
    subprocess.run(["gcc", "-O2", f"-I{native}", "-o", C_LIMIT, *sources, "-luring"], check=True)
    rates: dict[tuple[str, int], list[float]] = {}
    for _ in range(ROUNDS):
        for depth in DEPTHS:
            for contender in CONTENDERS:
                command = [sys.executable, __file__, "--one", contender, str(depth)]
                output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
                rates.setdefault((contender, depth), []).append(float(output))
    return {
        "machine": {
            "kernel": platform.release(),
            "cpu": next((line.split(": ")[1].strip() for line in open("/proc/cpuinfo") if "model name" in line), "?"),
            "cpus": os.cpu_count(),
            "python": platform.python_version(),
            "optimised_python": "--enable-optimizations" in (sysconfig.get_config_var("CONFIG_ARGS") or ""),
        },
        "rounds": ROUNDS,
        "commands_per_second": {
            contender: {str(depth): round(statistics.median(rates[contender, depth])) for depth in DEPTHS}
            for contender in CONTENDERS
        },
    }


def main() -> None:
    """Run as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.add_argument("--one", nargs=2, metavar=("CONTENDER", "DEPTH"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(one(options.one[0], int(options.one[1])))
        return
    result = measure()
    if options.json:
        print(json.dumps(result, indent=2))
        return
    print(", ".join(f"{key}: {value}" for key, value in result["machine"].items()))
    print(f"{'commands a second':20}" + "".join(f"{'QD ' + str(depth):>12}" for depth in DEPTHS))
    for contender, by_depth in result["commands_per_second"].items():
        print(f"{contender:20}" + "".join(f"{value:>12,}" for value in by_depth.values()))


if __name__ == "__main__":
    main()
