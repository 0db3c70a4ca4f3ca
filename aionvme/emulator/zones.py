"""The zones of an emulated namespace: state, blocks written, and the resources they share (ZNS 1.1, section 2.1.1.4).

Opening a zone takes an open resource, and an active one unless it held that already. Where Maximum Open Resources is
reached, the zone that has been implicitly opened for longest is closed to make room; explicitly opened ones stay as
they are, and with no other left the step is refused. Room is made before active resources are looked at, so a write
that ends in Too Many Active Zones may have closed a zone: the specification lets a controller do so at any time, and
QEMU's does.

An empty zone may be given a random write area, ZRWA (Technical Proposal 4076), when it is opened: a window above the write
pointer in which blocks are written in any order and over again. A write past the window moves it, and the write pointer with it,
as far as it takes, in steps of the flush granularity. Its blocks are zeroed beforehand, so that everything up to the zone's
capacity can be read: what was written into the window, and zeroes. The area is the zone's until that is no longer active, which
no loss of power changes: what the window holds is there afterwards.
"""

import numpy as np
from numpy.typing import NDArray

from aionvme.emulator.completions import (
    INVALID_FIELD,
    INVALID_ZONE_OPERATION,
    TOO_MANY_ACTIVE_ZONES,
    TOO_MANY_OPEN_ZONES,
    ZONE_BOUNDARY_ERROR,
    ZRWA_RESOURCES_UNAVAILABLE,
    StatusError,
)
from aionvme.emulator.image import Image
from aionvme.emulator.spec import DeviceSpec
from aionvme.emulator.zone_counters import ZoneCounters
from aionvme.emulator.zone_states import ACTIVE_STATES, OPEN_STATES, SELECTED_BY_ALL, TRANSITIONS, Event
from aionvme.errors import UsageError
from aionvme.nvme.opcodes import ZoneAttributes, ZoneState, ZoneType
from aionvme.nvme.status import Status
from aionvme.nvme.zones import ZONE

_EMPTY = ZoneState.EMPTY
_IMPLICITLY_OPENED = ZoneState.IMPLICITLY_OPENED
_NO_WRITE_POINTER = frozenset({ZoneState.FULL, ZoneState.READ_ONLY, ZoneState.OFFLINE})
_NO_ATTRIBUTES = frozenset({ZoneState.EMPTY, ZoneState.OFFLINE})
_ZRWA = ZoneAttributes.ZRWA_VALID.value
_ZDEV = ZoneAttributes.DESCRIPTOR_EXTENSION_VALID.value
_INVALID_WP = (1 << 64) - 1


class ZoneTable:
    """Every zone by its index.

    ``written`` counts the blocks below the write pointer, of a full zone those that may have been written; ``za`` has the zone
    attributes.
    """

    def __init__(self, spec: DeviceSpec, image: Image, counters: ZoneCounters) -> None:
        """Zones as the image has them, after a power cycle: none is open."""
        self.counters = counters
        self.zsze = spec.zone_size // spec.lba
        self.zcap = spec.zone_capacity // spec.lba
        self._zdes = spec.zdes
        self._mar = spec.mar or spec.zones
        self._mor = spec.mor or spec.zones
        self._zrwas = spec.zrwas // spec.lba
        self._zrwafg = spec.zrwafg // spec.lba
        self._numzrwa = spec.numzrwa or spec.zones
        self._image = image
        try:
            loaded = image.load_zones(spec.zones)
        except ValueError as error:
            raise UsageError(f"the zone table in {spec.file} is damaged: {error}") from None
        self.written = [written for written, _, _ in loaded]
        self.zs: list[ZoneState] = [zs for _, zs, _ in loaded]
        self.za = [za for _, _, za in loaded]
        self.nr_active = sum(zs in ACTIVE_STATES for zs in self.zs)
        self.nr_open = sum(zs in OPEN_STATES for zs in self.zs)
        self.nr_zrwa = sum(bool(za & _ZRWA) for za in self.za)
        # Insertion order is the order of eviction.
        self._implicit = {index: None for index, zs in enumerate(self.zs) if zs is _IMPLICITLY_OPENED}
        self.changed: dict[int, None] = {}
        """Zones the controller took out of service since the host last asked, oldest first."""
        for index, zs in enumerate(self.zs):
            if zs in ACTIVE_STATES:
                used = self.written[index] or self.za[index]
                self.fire(index, Event.POWER_LOSS if used else Event.POWER_LOSS_UNUSED)

    def fire(self, index: int, event: Event, attributes: int = 0) -> None:
        """Let ``event`` happen to a zone, which gets ``attributes``, or raise the StatusError that ends it.

        ZRWA_VALID among them allocates a random write area.
        """
        before = self.zs[index]
        after = TRANSITIONS[before, event]
        if isinstance(after, Status):
            raise StatusError(after)
        zrwa = attributes & _ZRWA
        if zrwa and before is not _EMPTY:
            raise StatusError(INVALID_ZONE_OPERATION)
        if after is before:
            return
        self._acquire(before, after, zrwa)
        if zrwa:
            self._image.zero_blocks(index * self.zsze, self.zcap)
            self.nr_zrwa += 1
        self.zs[index] = after
        self.counters.count_change(index, event, before, after)
        self.nr_open += (after in OPEN_STATES) - (before in OPEN_STATES)
        self.nr_active += (after in ACTIVE_STATES) - (before in ACTIVE_STATES)
        if before is _IMPLICITLY_OPENED:
            del self._implicit[index]
        if after is _IMPLICITLY_OPENED:
            self._implicit[index] = None
        if after not in ACTIVE_STATES and self.za[index] & _ZRWA:
            self.nr_zrwa -= 1
            self.za[index] &= ~_ZRWA
            self.written[index] = self.zcap  # what its window holds can be read on
        self.za[index] = 0 if after in _NO_ATTRIBUTES else self.za[index] | attributes
        if after is _EMPTY:
            self.written[index] = 0
        if event in (Event.WEAR_OUT, Event.FAIL):
            self.changed[index] = None
        self._save(index)

    def extend(self, index: int, extension: memoryview, attributes: int) -> None:
        """Give an empty zone a descriptor extension, which makes it an active one, and ``attributes`` besides."""
        outcome = TRANSITIONS[self.zs[index], Event.EXTEND]
        if isinstance(outcome, Status):
            raise StatusError(outcome)
        # Nobody sees what an empty zone has there before its entry says so.
        self._image.save_extension(index, extension)
        self.fire(index, Event.EXTEND, attributes | _ZDEV)

    def has_zrwa(self, index: int) -> bool:
        """Whether a zone has a random write area."""
        return bool(self.za[index] & _ZRWA)

    def held(self, index: int) -> int:
        """How many of a zone's blocks, from its first, can hold data."""
        return self.zcap if self.za[index] & _ZRWA else self.written[index]

    def takes(self, index: int, offset: int, nlb: int) -> bool:
        """Whether blocks may be written at ``offset``: at the write pointer, or where a random write area is or moves to."""
        written = self.written[index]
        if self.za[index] & _ZRWA:
            return written <= offset and offset + nlb <= written + 2 * self._zrwas
        return offset == written

    def wrote(self, index: int, offset: int, nlb: int) -> None:
        """Move the write pointer as far as blocks that have just been written demand."""
        end = offset + nlb
        if not self.za[index] & _ZRWA:
            self._commit(index, end)
        elif (beyond := end - self.written[index] - self._zrwas) > 0:
            self._commit(index, self.written[index] - (-beyond // self._zrwafg) * self._zrwafg)

    def flush_zrwa(self, index: int, offset: int) -> None:
        """Commit the blocks of a random write area up to the one at ``offset``, or raise the StatusError that ends it."""
        written = self.written[index]
        if not self.za[index] & _ZRWA:
            raise StatusError(INVALID_FIELD)
        if not written <= offset < min(written + self._zrwas, self.zcap):
            raise StatusError(ZONE_BOUNDARY_ERROR)
        if (offset + 1 - written) % self._zrwafg:
            raise StatusError(INVALID_FIELD)
        self.fire(index, Event.WRITE)
        self._commit(index, offset + 1)

    def _commit(self, index: int, written: int) -> None:
        """Move the write pointer; at the capacity the zone is full."""
        self.written[index] = written
        if written == self.zcap:
            self.fire(index, Event.FILL)
        else:
            self._save(index)

    def fire_all(self, event: Event) -> None:
        """Let ``event`` happen to every zone that Select All takes, or to none where resources do not suffice."""
        selected = [index for index, zs in enumerate(self.zs) if zs in SELECTED_BY_ALL[event]]
        if event is Event.OPEN and self.nr_open - len(self._implicit) + len(selected) > self._mor:
            raise StatusError(TOO_MANY_OPEN_ZONES)
        for index in selected:
            self.fire(index, event)

    def report(self, first: int, zs: int | None) -> NDArray[np.void]:
        """Every zone from ``first`` on that is in state ``zs``, None for any, as an array of ``ZONE``."""
        states = np.array(self.zs[first:], np.uint8)
        indices = np.arange(first, len(self.zs)) if zs is None else first + np.flatnonzero(states == zs)
        zones = np.zeros(len(indices), ZONE)
        zones["zslba"] = indices * self.zsze
        zones["zcap"] = self.zcap
        zones["zs"] = states[indices - first]
        zones["zt"] = ZoneType.SEQUENTIAL_WRITE_REQUIRED
        zones["za"] = np.array(self.za[first:], np.uint8)[indices - first]
        zones["wp"] = zones["zslba"] + np.array(self.written, np.uint64)[indices]
        zones["wp"][np.isin(zones["zs"], list(_NO_WRITE_POINTER))] = _INVALID_WP
        return zones

    def extensions(self, zones: NDArray[np.void]) -> NDArray[np.uint8]:
        """The descriptor extension of each zone of a report, zeroes for one without."""
        extensions = np.zeros((len(zones), self._zdes), np.uint8)
        for i in np.flatnonzero(zones["za"] & _ZDEV):
            self._image.load_extension(int(zones["zslba"][i]) // self.zsze, memoryview(extensions[i]))
        return extensions

    def _acquire(self, before: ZoneState, after: ZoneState, zrwa: int) -> None:
        opens = after in OPEN_STATES and before not in OPEN_STATES
        if opens and self.nr_open == self._mor and self._implicit:
            self.fire(next(iter(self._implicit)), Event.EVICT)
        if after in ACTIVE_STATES and before not in ACTIVE_STATES and self.nr_active == self._mar:
            raise StatusError(TOO_MANY_ACTIVE_ZONES)
        if opens and self.nr_open == self._mor:
            raise StatusError(TOO_MANY_OPEN_ZONES)
        if zrwa and self.nr_zrwa == self._numzrwa:
            raise StatusError(ZRWA_RESOURCES_UNAVAILABLE)

    def _save(self, index: int) -> None:
        self._image.save_zone(index, self.written[index], self.zs[index], self.za[index])
