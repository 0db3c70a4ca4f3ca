"""Latencies that are recorded while commands run."""

import time

import numpy as np
import pytest

import aionvme
from aionvme.latency import BUCKETS, Latencies

MS = 1_000_000


@pytest.mark.anyio
async def test_a_slow_device() -> None:
    """Single commands, split ones, arrays and limited ones are all in it, and took no less than the device did."""
    async with aionvme.open("emu:nvm?lba=4096&mdts=16KiB&latency=2ms-4ms", depth=8) as ns:
        await ns.read(0, 1)
        with ns.latencies() as seen:
            assert (seen.n, seen.mean_ns, seen.max_ns, seen.percentile_ns(99)) == (0, 0, 0, 0)
            start = time.monotonic_ns()
            await ns.read(0, 1)
            assert seen.n == 1
            assert 2 * MS <= seen.max_ns <= time.monotonic_ns() - start
            assert seen.mean_ns == seen.percentile_ns(50) == seen.max_ns
            await ns.read(0, 16)  # four commands
            done = await ns.read_many(np.arange(10), 1, np.zeros(10 * 4096, np.uint8))
            await ns.limited(aionvme.Limiter(depth=2)).write(0, bytes(4096))
            assert (await ns.submit(aionvme.Command(0x90))).status == 0x4001
            assert seen.n == 1 + 4 + 10 + 1 + 1
            assert seen.max_ns >= done["latency_ns"].max()
            assert 2 * MS <= seen.percentile_ns(1) <= seen.percentile_ns(50) <= seen.percentile_ns(100) == seen.max_ns
            assert str(seen).startswith("<17 latencies: p50 ")
        await ns.read(0, 1)
        assert seen.n == 17
        with ns.latencies() as again:
            assert again.n == 0


@pytest.mark.anyio
async def test_one_recording_at_a_time() -> None:
    """A second one is refused, also through a limited namespace, until the first has ended; closing ends it."""
    async with aionvme.open("emu:nvm") as ns:
        with ns.latencies(), pytest.raises(aionvme.UsageError, match="being recorded already"):
            ns.limited(aionvme.Limiter(depth=1)).latencies().__enter__()
        with pytest.raises(ValueError, match="boom"), ns.latencies():
            raise ValueError("boom")
        last = ns.latencies()
        last.__enter__()
    last.__exit__(None, None, None)
    with pytest.raises(aionvme.ClosedError):
        ns.latencies().__enter__()


def test_buckets() -> None:
    """Every 64-bit latency has a bucket whose end is at most 0.8 % above it; percentiles are those of the sorted list."""
    ends = Latencies().ends_ns.tolist()
    assert len(ends) == BUCKETS
    assert ends == sorted(set(ends))
    assert (ends[0], ends[-1]) == (0, 2**64 - 1)
    random = np.random.default_rng(1)
    sample = [int(2 ** (random.random() * 62)) for _ in range(2000)] + [0, 1, 127, 128, 255, 256, 2**63, 2**64 - 1]
    for latency in sample:
        single = Latencies()
        single.add(latency)
        (bucket,) = np.flatnonzero(single.counts)
        end = ends[bucket]
        assert latency <= end <= latency * 1.0079
        assert bucket == 0 or ends[bucket - 1] < latency
    some = [value for value in sample if value < 2**50]
    all_of_them = Latencies()
    for latency in some:
        all_of_them.add(latency)
    together = Latencies()
    together.add_many(np.array(some, np.uint64))
    together.add_many(np.zeros(0, np.uint64))
    assert (together.record == all_of_them.record).all()
    assert all_of_them.n == len(some)
    assert all_of_them.mean_ns == pytest.approx(np.mean(some))
    for percent in (0.1, 1, 25, 50, 99, 99.9, 100):
        exact = int(np.percentile(some, percent, method="inverted_cdf"))
        assert exact <= all_of_them.percentile_ns(percent) <= max(exact * 1.0079, exact + 1)
