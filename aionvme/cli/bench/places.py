"""Where the commands of a measurement go, some thousands of addresses at a time.

On a conventional namespace that is all of the region. On a zoned one commands stay inside of zones, and those that write take
the zones one after the other, each from its start: they use zones up, so their measurement is made of laps, and between two laps,
with the clock stopped, zones are reset.
"""

import asyncio
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aionvme.cli.bench.plan import Pattern
from aionvme.errors import UsageError
from aionvme.namespace import Namespace
from aionvme.nvme.opcodes import NvmOpcode, ZoneState

LBAs = NDArray[np.uint64]

ACTIVE = (ZoneState.IMPLICITLY_OPENED, ZoneState.EXPLICITLY_OPENED, ZoneState.CLOSED)
UNREADABLE = (ZoneState.OFFLINE,)
UNWRITABLE = (ZoneState.OFFLINE, ZoneState.READ_ONLY)

LAP_BYTES = 1 << 30
"""About how much a lap writes: so much that its start and end do not count, so little that few zones are reset for it."""


@dataclass(frozen=True)
class Extents:
    """Where they start, and how many blocks each of them has that commands can use; ``written_zones`` are not empty."""

    starts: LBAs
    capacity: int
    written_zones: int | None = None


class Places:
    """Addresses of ``nlb`` blocks each in extents.

    ``resets`` counts the zones reset for them, ``written_zones`` those that were not empty before; None where there are no zones.
    """

    def __init__(self, extents: Extents, nlb: int) -> None:
        self.resets = 0
        self.written_zones = extents.written_zones
        self._starts = extents.starts
        self._nlb = nlb
        self._in_each = extents.capacity // nlb
        self._n = len(self._starts) * self._in_each
        self._next = 0

    async def start_lap(self) -> None:
        """Get ready; nothing is in flight."""

    def take(self, n: int) -> LBAs:
        """The next ``n`` addresses, fewer where the lap ends with them, none after it."""
        first, self._next = self._next, (self._next + n) % self._n
        return self._slba(np.arange(first, first + n) % self._n)

    def _slba(self, numbers: NDArray[np.int64]) -> LBAs:
        extent, place = np.divmod(numbers, self._in_each)
        slba: LBAs = self._starts[extent] + (place * self._nlb).astype(np.uint64)
        return slba


class RandomPlaces(Places):
    """Any of them at any time."""

    def __init__(self, extents: Extents, nlb: int, rng: np.random.Generator) -> None:
        super().__init__(extents, nlb)
        self._rng = rng

    def take(self, n: int) -> LBAs:
        """See :meth:`Places.take`."""
        return self._slba(self._rng.integers(0, self._n, n))


class ZonePlaces(Places):
    """Zones to be written, one after the other; for appends a command's address is its zone's."""

    def __init__(self, ns: Namespace, extents: Extents, nlb: int, region: int, *, append: bool) -> None:
        super().__init__(extents, nlb)
        self._ns = ns
        self._region = region
        self._append = append
        self._end = 0

    async def start_lap(self) -> None:
        """Choose the next zones, as many as may be active at a time, and reset those of them that are not empty."""
        report = await self._ns.report_zones()
        inside = report["zslba"] < self._region
        active = np.isin(report["zs"], ACTIVE)
        most = max(1, LAP_BYTES // (self._in_each * self._nlb * self._ns.lba_size))
        if self._ns.mar is not None:
            # Zones that are left with a few blocks to spare stay active. Those of the region are reset below.
            most = min(most, self._ns.mar - int((active & ~inside).sum()))
            if most < 1:
                raise UsageError(f"all of the {self._ns.mar} zones that may be active are, outside of the region")
        first = self._end // self._in_each % len(self._starts)
        self._starts = np.roll(self._starts, -first)
        lap = self._starts[:most]
        self._next, self._end = 0, len(lap) * self._in_each
        used = np.isin(report["zslba"], lap) & (report["zs"] != ZoneState.EMPTY)
        stale = report["zslba"][used | (active & inside)].tolist()
        await asyncio.gather(*(self._ns.reset_zone(zslba) for zslba in stale))
        self.resets += len(stale)

    def take(self, n: int) -> LBAs:
        """See :meth:`Places.take`."""
        first, self._next = self._next, min(self._next + n, self._end)
        numbers = np.arange(first, self._next)
        return self._starts[numbers // self._in_each] if self._append else self._slba(numbers)


async def places_for(ns: Namespace, pattern: Pattern, nlb: int, region: int, rng: np.random.Generator) -> Places:
    """Places for a pattern's commands of ``nlb`` blocks, in the first ``region`` blocks of the namespace."""
    extents = await extents_of(ns, region, overwrites=pattern.overwrites)
    if pattern.random:
        return RandomPlaces(extents, nlb, rng)
    if ns.zoned and pattern.overwrites:
        return ZonePlaces(ns, extents, nlb, region, append=pattern.opcode == NvmOpcode.ZONE_APPEND)
    return Places(extents, nlb)


async def extents_of(ns: Namespace, region: int, *, overwrites: bool) -> Extents:
    """The pieces of the region that commands stay inside of: its usable zones, or all of it."""
    if not ns.zoned:
        return Extents(np.zeros(1, np.uint64), region)
    report = await ns.report_zones()
    report = report[report["zslba"] < region]
    zones = report[~np.isin(report["zs"], UNWRITABLE if overwrites else UNREADABLE)]
    if not len(zones):
        raise UsageError(f"no zone of the region can be {'written' if overwrites else 'read'}")
    written = int((report["zs"] != ZoneState.EMPTY).sum())
    return Extents(zones["zslba"].astype(np.uint64), int(zones["zcap"].min()), written)
