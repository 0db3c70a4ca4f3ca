"""What is known of all zones of a namespace, who may use them, and how what is in doubt is found out."""

from collections.abc import Set
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from aionvme.errors import NvmeError, TooManyActiveZonesError, TooManyOpenZonesError
from aionvme.geometry import Geometry
from aionvme.nvme.opcodes import ZoneState
from aionvme.zones.commands import Commands
from aionvme.zones.record import ACTIVE_STATES, OPEN_STATES, Record
from aionvme.zones.resources import Resources


class ZoneDifference(NamedTuple):
    """A zone of which a report says otherwise than its commands' completions. Write pointers are LBAs."""

    zslba: int
    zs: ZoneState
    wp: int | None
    reported_zs: ZoneState
    reported_wp: int | None


class ZoneBook:
    """The records of a namespace's zones. One for each queue, also where limited namespaces share it."""

    def __init__(self, commands: Commands, geometry: Geometry) -> None:
        self.geometry = geometry
        self._commands = commands
        self._zsze = commands.zsze
        self._report: NDArray[np.void] | None = None
        self._records: dict[int, Record] = {}
        self.resources = Resources(commands.mor, commands.mar, self.look_up, self.evict)

    def record(self, zslba: int) -> Record:
        """That of the zone that starts there."""
        record = self._records.get(zslba)
        if record is None:
            record = self._records[zslba] = Record(zslba)
            if self._report is not None:
                record.learn(self._report[zslba // self._zsze])
        return record

    def forget(self, zslba: int | None) -> None:
        """Something is done to a zone, None for all of them, past what is noted here."""
        if zslba is None:
            self._report = None
        for record in list(self._records.values()) if zslba is None else [self.record(zslba)]:
            record.doubt()
            self.resources.settle(record)  # who waits may look whether there is a place now

    async def refresh(self) -> None:
        """Ask the device for all zones. What completions say meanwhile is newer, and stays."""
        before = self._changes()
        self._report = report = await self._commands.report_zones()
        for row in report[np.isin(report["zs"], list(ACTIVE_STATES))]:
            self.record(int(row["zslba"]))
        for zslba, record in self._records.items():
            if not record.gate.inside and record.changes == before.get(zslba, 0):
                record.learn(report[zslba // self._zsze])
            self.resources.settle(record)

    async def check(self) -> list[ZoneDifference]:
        """Where a report differs from what is known; zones that are being used meanwhile are left out."""
        before = self._changes()
        differences = []
        for row in await self._commands.report_zones():
            zslba = int(row["zslba"])
            record = self.record(zslba)
            if not record.known or record.gate.inside or record.changes != before.get(zslba, 0):
                continue
            reported = Record(zslba)
            reported.learn(row)
            if (reported.zs, reported.wp) != (record.zs, record.wp):
                differences.append(ZoneDifference(zslba, record.zs, record.wp, reported.zs, reported.wp))
        return differences

    async def look_up(self, record: Record) -> None:
        """Ask the device for one zone, of which nothing must be changed meanwhile for the answer to count."""
        changes = record.changes
        (row,) = await self._commands.report_zones(record.zslba, nr_zones=1)
        if record.changes == changes:
            record.learn(row)
        self.resources.settle(record)

    async def find_out(self, record: Record) -> None:
        """Look a zone up if it is in doubt, when nobody is using it."""
        async with record.gate.alone():
            if not record.known:
                await self.look_up(record)

    async def mend(self, record: Record, error: NvmeError) -> None:
        """A command to a zone failed: what is known may be wrong."""
        if isinstance(error, TooManyOpenZonesError | TooManyActiveZonesError):
            await self.refresh()  # others are open than we think
        record.doubt()
        await self.look_up(record)

    async def evict(self, record: Record) -> None:
        """Close a zone if it was opened by writing to it."""
        await self.close(record, of=frozenset({ZoneState.IMPLICITLY_OPENED}))

    async def close(self, record: Record, of: Set[ZoneState] = OPEN_STATES) -> None:
        """Close a zone if it is in one of these states."""
        async with record.gate.alone():
            if not record.known:
                await self.look_up(record)
            if record.zs in of:
                try:
                    await self._commands.close_zone(record.zslba)
                    record.enter(ZoneState.CLOSED)
                except NvmeError:
                    await self.look_up(record)
                    if record.zs in OPEN_STATES:
                        raise
        self.resources.settle(record)

    def _changes(self) -> dict[int, int]:
        return {zslba: record.changes for zslba, record in self._records.items()}
