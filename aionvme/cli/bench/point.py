"""One point of a sweep: a pattern with one size at one depth, measured on a namespace opened for it.

Everything from the first submission to the last completion counts; while nothing is in flight, because zones are reset, the
clocks stand still.
"""

import time
from dataclasses import dataclass

import numpy as np

from aionvme.cli.bench.load import ArrayLoad, AwaitLoad
from aionvme.cli.bench.places import places_for
from aionvme.cli.bench.plan import Pattern, Plan
from aionvme.namespace import Namespace

US_PER_S = 1_000_000
NS_PER_US = 1000


@dataclass(frozen=True)
class Point:
    """What was measured. ``depth`` is what was asked for, ``queue_depth`` what the queue has.

    ``iops``, ``mb_per_s`` (10**6 bytes) and latencies are those of commands that succeeded, of which ``commands`` less ``errors``
    there were in ``seconds``. Latencies are measured by the ring, from submission to reaping; with single awaits by the
    task that awaits. ``cpu_s_per_s`` is the time that this process took on its processors. ``zone_resets`` were made while the
    clocks stood still. ``written_zones`` are those of the region that were not empty before, None without zones.
    """

    pattern: str
    size_bytes: int
    nlb: int
    depth: int
    queue_kind: str
    queue_depth: int
    commands: int
    seconds: float
    iops: float
    mb_per_s: float
    latency_mean_us: float | None
    latency_p50_us: float | None
    latency_p99_us: float | None
    latency_p99_9_us: float | None
    latency_max_us: float | None
    cpu_s_per_s: float
    cpu_us_per_command: float | None
    errors: int
    first_error: str | None
    zone_resets: int
    written_zones: int | None


async def measure(ns: Namespace, plan: Plan, pattern: Pattern, size_bytes: int, depth: int, region: int) -> Point:
    """Measure one point in the first ``region`` blocks of a namespace that was opened with its depth."""
    nlb = size_bytes // ns.lba_size
    rng = np.random.default_rng([plan.seed, nlb, depth])
    places = await places_for(ns, pattern, nlb, region, rng)
    load = (AwaitLoad if plan.await_each else ArrayLoad)(ns, pattern, nlb, places, rng)
    tally, latencies = load.tally, load.tally.latencies
    elapsed = cpu = 0.0
    while elapsed < plan.seconds:
        await places.start_lap()
        cpu_before, start = time.process_time(), time.perf_counter()
        await load.lap(start + plan.seconds - elapsed)
        elapsed += time.perf_counter() - start
        cpu += time.process_time() - cpu_before
    iops = (tally.commands - tally.errors) / elapsed

    def us(latency_ns: float) -> float | None:
        return latency_ns / NS_PER_US if latencies.n else None

    return Point(
        pattern=pattern.name,
        size_bytes=size_bytes,
        nlb=nlb,
        depth=depth,
        queue_kind=ns.queue.kind,
        queue_depth=ns.queue.depth,
        commands=tally.commands,
        seconds=elapsed,
        iops=iops,
        mb_per_s=iops * size_bytes / 1e6,
        latency_mean_us=us(latencies.mean_ns),
        latency_p50_us=us(latencies.percentile_ns(50)),
        latency_p99_us=us(latencies.percentile_ns(99)),
        latency_p99_9_us=us(latencies.percentile_ns(99.9)),
        latency_max_us=us(latencies.max_ns),
        cpu_s_per_s=cpu / elapsed,
        cpu_us_per_command=cpu * US_PER_S / tally.commands if tally.commands else None,
        errors=tally.errors,
        first_error=tally.first_error,
        zone_resets=places.resets,
        written_zones=places.written_zones,
    )
