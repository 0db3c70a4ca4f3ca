"""All zones of a namespace."""

from collections.abc import Iterator, Sequence
from operator import index
from typing import SupportsIndex, overload

from aionvme.errors import UsageError
from aionvme.zones.book import ZoneBook, ZoneDifference
from aionvme.zones.commands import Commands
from aionvme.zones.display import ROWS, zone_table
from aionvme.zones.resources import ZoneHolder
from aionvme.zones.zone import Zone


class Zones(Sequence[Zone]):
    """The zones of a namespace, by their number; ``ns.zones``.

    Open and active zones are limited (MOR, MAR), and tasks that write to zones wait for what is left, first come first served. A
    zone that was opened by writing to it is closed for another when nobody is writing to it, or when it had its turn while
    others waited; one that was opened explicitly stays open. A zone becomes inactive only by getting full, :meth:`Zone.finish`
    or :meth:`Zone.reset`: tasks that each leave a zone half written, more of them than may be active, wait for each other for
    good.
    """

    def __init__(self, commands: Commands, book: ZoneBook) -> None:
        self._commands = commands
        self._book = book

    def __repr__(self) -> str:
        return f"<Zones: {len(self)} of {self._commands.target}, {len(self.holders())} open>"

    def _repr_html_(self) -> str:
        """What is known of the zones, for a notebook: of all of them, or of those that are active where they are many."""
        resources = self._book.resources
        if len(self) <= ROWS:
            records, left_out = [zone._record for zone in self], ""
        else:
            records = sorted(resources.active.holds, key=lambda record: record.zslba)
            left_out = (
                f"{len(self) - min(len(records), ROWS)} zones are not shown, those that are not active among them"
            )
        caption = f"{self._commands.target}: {len(self)} zones of {self._commands.zsze} blocks, " + ", ".join(
            f"{len(line.holds)}" + ("" if line.most is None else f" of at most {line.most}") + f" {line.name}"
            for line in (resources.open, resources.active)
        )
        return zone_table(caption, records, left_out)

    def __len__(self) -> int:
        return self._commands.nr_zones

    @overload
    def __getitem__(self, i: SupportsIndex) -> Zone: ...

    @overload
    def __getitem__(self, i: slice) -> list[Zone]: ...

    def __getitem__(self, i: SupportsIndex | slice) -> Zone | list[Zone]:
        if isinstance(i, slice):
            return [self._zone(k) for k in range(*i.indices(len(self)))]
        k = index(i)
        if not -len(self) <= k < len(self):
            raise IndexError(f"zone {k}: the namespace has {len(self)}, counted from 0")
        return self._zone(k % len(self))

    def __iter__(self) -> Iterator[Zone]:
        return map(self._zone, range(len(self)))

    def at(self, lba: SupportsIndex) -> Zone:
        """The zone that a block belongs to. Raises UsageError where there is no such block."""
        lba = index(lba)
        if not 0 <= lba < len(self) * self._commands.zsze:
            raise UsageError(
                f"LBA {lba:#x}: the namespace has {len(self) * self._commands.zsze:#x} blocks, counted from 0"
            )
        return self._zone(lba // self._commands.zsze)

    async def refresh(self) -> None:
        """Ask the device for all zones, as opening the namespace does."""
        await self._book.refresh()

    async def check(self) -> list[ZoneDifference]:
        """Compare what is known with a report, and give the zones that differ: somebody else changed them."""
        return await self._book.check()

    async def changed(self) -> list[Zone]:
        """The zones that the controller changed by itself since this was asked last (worn out, failed, finished), and what they
        are now."""
        zslbas = await self._commands.changed_zones()
        await self._book.refresh()
        return list(self) if zslbas is None else [self.at(zslba) for zslba in zslbas]

    def holders(self) -> list[ZoneHolder]:
        """The zones that are open, or about to be, and who had them opened; those not used for longest first."""
        return self._book.resources.holders()

    def waiting(self) -> list[Zone]:
        """The zone of each task that waits for one to be closed, or to become inactive."""
        return [self._zone(record.zslba // self._commands.zsze) for record in self._book.resources.waiting()]

    def _zone(self, k: int) -> Zone:
        return Zone(self._commands, self._book, self._book.record(k * self._commands.zsze))
