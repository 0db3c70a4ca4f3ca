"""How often is a polled queue asked in vain, and how often would it be if it were asked at every turn of the loop?

Random reads of 4 KiB in the test bed's virtual machine on a polled queue, one await for each and one for an array of them. The
native core counts three things: polls, those that found nothing, and the turns at which it did not poll because it was too early
for a completion. "Before" is what planning the polls spares: the share that would have been in vain with a poll at each of those
turns as well. Waiting has its price, up to 100 us for a completion; the medians of the latencies are beside it.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable

import numpy as np

import aionvme
from aionvme.queues.split import SplitQueue
from benchmarks import harness, load
from benchmarks.passthrough import CHARACTER, SIZE

CONTENDERS = ("await", "array")


async def polled(contender: str, depth: int, seconds: float) -> harness.Measures:
    """One way of reading."""
    async with aionvme.open(CHARACTER, queue="polled", depth=depth) as ns:
        queue = ns._io.queue
        assert isinstance(queue, SplitQueue)
        nlb = SIZE // ns.lba_size
        n = 64 * depth if contender == "array" else depth
        into = ns.alloc(n * SIZE)
        slba = np.random.default_rng(1).integers(ns.nsze // nlb, size=n) * nlb
        each, parts = slba.tolist(), np.split(into, n)
        call: Callable[[int], Awaitable[object]]
        if contender == "array":
            call = lambda _: ns.read_many(slba, nlb, into)  # noqa: E731
        else:
            call = lambda task: ns.read(each[task], nlb, into=parts[task])  # noqa: E731
        tasks = 1 if contender == "array" else depth
        await load.rate(call, tasks, seconds / 4)  # the plan settles
        before = queue.polls()
        with ns.latencies() as seen:
            found = await load.rate(call, tasks, seconds, n // tasks)
        polls, empty, spared = (b - a for a, b in zip(before, queue.polls(), strict=True))
        return {
            "commands_per_second": found["commands_per_second"],
            "latency_p50_us": seen.percentile_ns(50) / 1000,
            "polls_per_command": polls / seen.n,
            "percent_in_vain": 100 * empty / max(polls, 1),
            "percent_in_vain_before": 100 * (empty + spared) / max(polls + spared, 1),
        }


def measure(contender: str, depth: int, seconds: float) -> harness.Measures:
    """One measurement, on one processor."""
    os.sched_setaffinity(0, {0})
    return asyncio.run(polled(contender, depth, seconds))


BENCHMARK = harness.Benchmark(
    name="polling",
    title="Polls of a polled queue that find nothing",
    parts={
        "device": harness.Part(
            title="Random reads of 4 KiB from one namespace, polled",
            contenders=CONTENDERS,
            measure=measure,
            full=harness.Settings(depths=(1, 4, 16, 64, 128), rounds=3, seconds=1.0),
            quick=harness.Settings(depths=(1, 64), rounds=1, seconds=0.4),
            guest=True,
        )
    },
)

if __name__ == "__main__":
    harness.main(BENCHMARK)
