"""How many commands a second can Python await, when the device costs nothing?

A uring_cmd on /dev/null (Linux 6.1) makes the whole way, from the await through the ring into the kernel and back, and does
nothing there. Beside it: what people use today, asyncio.to_thread, with an empty call. Each figure is the median of several
rounds, each in a fresh process, contenders interleaved: ``python benchmarks/null_device.py [--json]``.
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
from collections.abc import Awaitable, Callable
from typing import Any

ROUNDS = 5
DEPTHS = (1, 64)
SECONDS = 0.5
CONTENDERS = ("to_thread", "asyncio", "uvloop", "trio")


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
            calls += 16

    start = time.perf_counter()
    async with anyio.create_task_group() as tasks:
        for _ in range(depth):
            tasks.start_soon(work)
    return calls / (time.perf_counter() - start)


async def threads(depth: int) -> float:
    """An empty call in a worker thread."""
    return await rate(lambda: asyncio.to_thread(int), depth)


async def null_device(depth: int) -> float:
    """A uring_cmd on /dev/null, through the driver and a ring like a namespace's."""
    from aionvme.driver.driver import Driver
    from aionvme.driver.request import Submission
    from aionvme.queues.ring import RingQueue

    fd = os.open("/dev/null", os.O_RDWR)
    driver = Driver(RingQueue(fd, 0, kind="interrupt", depth=depth), "/dev/null")
    submissions = [Submission(bytes(72))]
    try:
        return await rate(lambda: driver.run(submissions), depth)
    finally:
        await driver.aclose()
        os.close(fd)


def one(contender: str, depth: int) -> float:
    """One measurement, in this process."""
    if contender == "to_thread":
        return asyncio.run(threads(depth))
    if contender == "asyncio":
        return asyncio.run(null_device(depth))
    if contender == "uvloop":
        import uvloop

        return float(uvloop.run(null_device(depth)))
    import trio

    return trio.run(null_device, depth)


def measure() -> dict[str, Any]:
    """Every contender at every depth, interleaved, with the machine they ran on."""
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
