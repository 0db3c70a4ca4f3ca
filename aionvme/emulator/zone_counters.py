"""What happened to each zone since the device was made: a measuring instrument beside the device, not a part of NVMe."""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import astuple, dataclass

import numpy as np
from numpy.typing import NDArray

from aionvme.emulator.zone_states import OPEN_STATES, Event
from aionvme.nvme.opcodes import ZoneState

ZONE_COUNTERS = np.dtype(
    [
        ("zslba", "<u8"),
        ("writes", "<u8"),
        ("write_blocks", "<u8"),
        ("appends", "<u8"),
        ("append_blocks", "<u8"),
        ("resets", "<u8"),
        ("finishes", "<u8"),
        ("explicit_opens", "<u8"),
        ("implicit_opens", "<u8"),
        ("implicit_closes", "<u8"),
        ("open_ns", "<u8"),
    ]
)
"""A zone's counters, 0 when the device is made. The sum of a column is the device's total.

``writes`` are the commands that succeeded in writing to the zone, but for appends: Write, Write Zeroes, Write Uncorrectable, and
each range of a Copy; ``write_blocks`` are their logical blocks, each as often as it was written. ``appends`` and
``append_blocks`` are those of Zone Append. ``resets``, ``finishes`` and ``explicit_opens`` count how often an action changed the
state of the zone, alone or with Select All, and not where it found the zone in that state. ``implicit_opens`` is how often a
command that writes or flushes opened it, and ``implicit_closes`` how often the controller closed it to make room for
another (MOR). ``open_ns`` is how long it was open in all, until now if it is.
"""

_COUNTED = {
    Event.RESET: "resets",
    Event.FINISH: "finishes",
    Event.OPEN: "explicit_opens",
    Event.WRITE: "implicit_opens",
    Event.EVICT: "implicit_closes",
}


@dataclass(slots=True)
class _Zone:
    """The fields of :data:`ZONE_COUNTERS` after the first. While a zone is open its ``open_ns`` lacks the time of now."""

    writes: int = 0
    write_blocks: int = 0
    appends: int = 0
    append_blocks: int = 0
    resets: int = 0
    finishes: int = 0
    explicit_opens: int = 0
    implicit_opens: int = 0
    implicit_closes: int = 0
    open_ns: int = 0


class ZoneCounters:
    """The counters of the zones that something happened to."""

    def __init__(self, clock: Callable[[], int]) -> None:
        """``clock`` tells the time in nanoseconds, from wherever it likes."""
        self._clock = clock
        self._zones: defaultdict[int, _Zone] = defaultdict(_Zone)
        self._open: set[int] = set()

    def count_write(self, index: int, nlb: int) -> None:
        """One more command wrote to a zone."""
        zone = self._zones[index]
        zone.writes += 1
        zone.write_blocks += nlb

    def count_append(self, index: int, nlb: int) -> None:
        """One more command appended to a zone."""
        zone = self._zones[index]
        zone.appends += 1
        zone.append_blocks += nlb

    def count_change(self, index: int, event: Event, before: ZoneState, after: ZoneState) -> None:
        """A zone's state changed."""
        zone = self._zones[index]
        name = _COUNTED.get(event)
        if name is not None:
            setattr(zone, name, getattr(zone, name) + 1)
        if after in OPEN_STATES and before not in OPEN_STATES:
            self._open.add(index)
            zone.open_ns -= self._clock()
        elif after not in OPEN_STATES and index in self._open:  # not in it: a zone that was open when power was lost
            self._open.remove(index)
            zone.open_ns += self._clock()

    def rows(self, count: int, zsze: int) -> NDArray[np.void]:
        """An array of :data:`ZONE_COUNTERS` for ``count`` zones of ``zsze`` blocks."""
        now = self._clock()
        rows = np.zeros(count, ZONE_COUNTERS)
        rows["zslba"] = np.arange(count, dtype=np.uint64) * np.uint64(zsze)
        for index, zone in self._zones.items():
            *counts, open_ns = astuple(zone)
            rows[index] = (rows["zslba"][index], *counts, open_ns + now if index in self._open else open_ns)
        return rows
