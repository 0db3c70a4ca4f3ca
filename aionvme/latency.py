"""Latencies of any number of commands, in memory that does not grow with them."""

import math

import numpy as np
from numpy.typing import NDArray

from aionvme.errors import UsageError

STEPS = 128
"""Buckets for each power of two; below that many nanoseconds each has its own."""

BUCKETS = 58 * STEPS
"""As many as 64-bit latencies have; see ``aionvme_latency_bucket`` in _native/core.c."""


class Latencies:
    """How long commands took, from their submission to the queue until they were reaped: counts in buckets 0.8 % wide at most.

    :meth:`aionvme.Namespace.latencies` has them recorded. Number, mean and maximum are exact; a percentile is its bucket's end,
    so never too low and at most 0.8 % too high. In nanoseconds; 0 before there was any.
    """

    def __init__(self) -> None:
        self.record: NDArray[np.uint64] = np.zeros(BUCKETS + 2, np.uint64)
        """As ``struct aionvme_latencies`` has them: the counts, their sum, their maximum."""

    def __repr__(self) -> str:
        p50, p99 = self.percentile_ns(50), self.percentile_ns(99)
        return (
            f"<{self.n} latencies: p50 {p50 / 1000:.1f} us, p99 {p99 / 1000:.1f} us, max {self.max_ns / 1000:.1f} us>"
        )

    @property
    def counts(self) -> NDArray[np.uint64]:
        """How many there were in each bucket; :attr:`ends_ns` says which those are."""
        return self.record[:BUCKETS]

    @property
    def ends_ns(self) -> NDArray[np.uint64]:
        """The longest latency of each bucket."""
        index = np.arange(BUCKETS, dtype=np.uint64)
        shift = np.maximum(index // STEPS, 1) - 1
        ends: NDArray[np.uint64] = (index - shift * STEPS + 1 << shift) - 1
        return ends

    @property
    def n(self) -> int:
        """How many there were."""
        return int(self.counts.sum())

    @property
    def mean_ns(self) -> float:
        """The arithmetic mean."""
        return int(self.record[BUCKETS]) / max(self.n, 1)

    @property
    def max_ns(self) -> int:
        """The longest."""
        return int(self.record[BUCKETS + 1])

    def percentile_ns(self, percent: float) -> int:
        """What ``percent`` of 100 of them do not exceed. Raises UsageError where it is not from 0 to 100."""
        if not 0 <= percent <= 100:
            raise UsageError(f"percent = {percent}: a percentage, from 0 to 100")
        up_to = np.cumsum(self.counts)
        if not up_to[-1]:
            return 0
        bucket = np.searchsorted(up_to, max(math.ceil(int(up_to[-1]) * percent / 100), 1))
        return min(int(self.ends_ns[bucket]), self.max_ns)

    def add(self, latency_ns: int) -> None:
        """Count one more."""
        shift = max(latency_ns.bit_length() - 8, 0)
        self.record[shift * STEPS + (latency_ns >> shift)] += 1
        self.record[BUCKETS] += latency_ns
        self.record[BUCKETS + 1] = max(self.max_ns, latency_ns)

    def add_many(self, latency_ns: NDArray[np.uint64]) -> None:
        """Count these, each below 2**53."""
        if not latency_ns.size:
            return
        bit_length = np.frexp(latency_ns.astype(np.float64))[1]
        shift = np.maximum(bit_length - 8, 0).astype(np.uint64)
        buckets = shift * np.uint64(STEPS) + (latency_ns >> shift)
        self.record[:BUCKETS] += np.bincount(buckets.astype(np.int64), minlength=BUCKETS).astype(np.uint64)
        self.record[BUCKETS] += latency_ns.sum()
        self.record[BUCKETS + 1] = max(self.max_ns, int(latency_ns.max()))
