"""Where in its zones a log puts frames, and what of them is still of use."""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from aionvme.log.errors import LogFullError
from aionvme.zones.zone import Zone


class Extent(NamedTuple):
    """A frame of a record: ``nlb`` blocks at ``lba`` hold ``len_bytes`` of it, from ``offset`` on."""

    lba: int
    nlb: int
    offset: int
    len_bytes: int


class ZoneUsage(NamedTuple):
    """A zone that could be reclaimed: blocks that were written, blocks of records still in the log, and the number of the newest
    record that was put there."""

    zone: Zone
    written: int
    live: int
    newest: int


Policy = Callable[[Sequence[ZoneUsage]], ZoneUsage | None]
"""Chooses the zone to be reclaimed next, or None for none of them."""


def least_live(zones: Sequence[ZoneUsage]) -> ZoneUsage | None:
    """The zone of which least has to be moved; none where all are full of records that are still in the log."""
    best = min(zones, key=lambda usage: usage.live, default=None)
    return best if best is not None and best.live < best.written else None


class LogZone:
    """One of the log's zones: ``given`` counts blocks from its start that frames were given, written or not."""

    def __init__(self, zone: Zone) -> None:
        self.zone = zone
        self.zcap = 0
        self.given = 0
        self.in_flight = 0
        self.lost = False
        """It can be neither written to nor reset any more."""
        self.strange = False
        """What was written to it is nothing of a log's: it may be somebody else's, and is left alone."""
        self.live: dict[tuple[int, int], Extent] = {}
        """The frames of records that are in the log, by sequence and offset."""
        self.newest = 0

    @property
    def room(self) -> int:
        """Blocks that frames can still be given."""
        return self.zcap - self.given

    @property
    def usage(self) -> ZoneUsage:
        """For a policy."""
        return ZoneUsage(self.zone, self.given, sum(extent.nlb for extent in self.live.values()), self.newest)

    def begin(self) -> None:
        """Go on behind what is written."""
        self.zcap = self.zone.zcap
        self.given = self.zcap if self.strange else self.zone.written


class Space:
    """The zones of a log. ``width`` of them are written to side by side; room of ``spare`` zones is left to reclaiming.

    It is room that is kept, not empty zones: a process that ends in the middle of reclaiming has begun those.
    """

    def __init__(self, zones: Iterable[Zone], zsze: int, width: int, spare: int) -> None:
        self.zones = {zone.zslba: LogZone(zone) for zone in zones}
        self._zsze = zsze
        self._width = width
        self._spare = spare
        self._room = 0
        self._kept = 0
        """Blocks of the room that only reclaiming may take."""
        self._lanes: list[LogZone] = []
        self._next: deque[LogZone] = deque()
        self.suspects: set[LogZone] = set()
        """Zones in which something that was given room may not have been written."""

    def begin(self) -> None:
        """Their contents are known: zones that have room are written to, those that were begun before the empty ones."""
        for zone in self.zones.values():
            zone.begin()
        self._room = sum(zone.room for zone in self.zones.values())
        self._kept = self._spare * max(zone.zcap for zone in self.zones.values())
        roomy = (zone for zone in self.zones.values() if zone.room)
        self._next = deque(sorted(roomy, key=lambda zone: not zone.given))

    @property
    def lanes(self) -> list[LogZone]:
        """Those that are written to side by side."""
        return list(self._lanes)

    @property
    def free_zones(self) -> int:
        """Empty zones, without those that are being written to."""
        return sum(not zone.given for zone in self._next)

    def take(self, most: int, *, reclaiming: bool = False) -> tuple[LogZone, int]:
        """A zone for a frame, and how many blocks of it, at most ``most``. Raises LogFullError where there is none."""
        most = min(most, self._room if reclaiming else self._room - self._kept)
        if most < 1:
            kept = f", the room of {self._spare} of them kept for reclaiming" if self._spare else ""
            raise LogFullError(
                f"no room in the log's {len(self.zones)} zones{kept}: reclaim one, or discard records first"
            )
        self._lanes = [zone for zone in self._lanes if zone.room]
        while len(self._lanes) < self._width and self._next:
            self._lanes.append(self._next.popleft())
        zone = min(self._lanes, key=lambda lane: (lane.in_flight, lane.given))
        blocks = min(most, zone.room)
        zone.given += blocks
        zone.in_flight += 1
        self._room -= blocks
        return zone, blocks

    def untake(self, taken: Sequence[tuple[LogZone, int]], lanes: Sequence[LogZone]) -> None:
        """Take back what :meth:`take` has given since these were the :attr:`lanes`, before anything else happened."""
        for zone, blocks in taken:
            zone.given -= blocks
            zone.in_flight -= 1
            self._room += blocks
        begun = [zone for zone in {**dict(taken), **dict.fromkeys(self._lanes)} if zone not in lanes]
        self._next.extendleft(sorted(begun, key=lambda zone: bool(zone.given)))  # those with frames come out first
        self._lanes = list(lanes)

    def give_back(self, zone: LogZone, blocks: int) -> bool:
        """Take back what :meth:`take` gave, of which nothing was submitted. False where the zone gets no more frames, because
        another one was begun in its stead."""
        sealed = zone in self.suspects and not zone.room
        if sealed or (zone not in self._lanes and zone.given > blocks and len(self._lanes) >= self._width):
            return False
        zone.given -= blocks
        self._room += blocks
        if zone.given:
            if zone not in self._lanes:
                self._lanes.append(zone)
        else:
            if zone in self._lanes:
                self._lanes.remove(zone)
            self._next.appendleft(zone)
        return True

    def reclaimable(self) -> list[LogZone]:
        """Those that nothing more is put into, and that are the log's."""
        return [zone for zone in self.zones.values() if not (zone.room or zone.in_flight or zone.lost or zone.strange)]

    def reclaimed(self, zone: LogZone) -> None:
        """It is empty again."""
        if zone in self._lanes:
            self._lanes.remove(zone)
        self.suspects.discard(zone)
        zone.begin()
        self._room += zone.room
        zone.newest = 0
        self._next.append(zone)

    def seal(self, zone: LogZone) -> None:
        """Put nothing more into a zone."""
        self._room -= zone.room
        zone.given = zone.zcap
        self.suspects.add(zone)

    def stuck(self) -> list[LogZone]:
        """Suspects that nothing more is put into: they will not get full, and hold an active resource for nothing."""
        return [zone for zone in self.suspects if not zone.room and not zone.in_flight]

    def put(self, sequence: int, extent: Extent) -> None:
        """A frame of a record is in the log."""
        zone = self._zone_at(extent)
        zone.live[sequence, extent.offset] = extent
        zone.newest = max(zone.newest, sequence)

    def drop(self, sequence: int, extent: Extent) -> None:
        """It is not any more."""
        self._zone_at(extent).live.pop((sequence, extent.offset), None)

    def _zone_at(self, extent: Extent) -> LogZone:
        return self.zones[extent.lba - extent.lba % self._zsze]
