"""Open and active resources as something to wait for (Zoned Namespace Command Set 1.1, section 2.1.1.4).

A zone that is to be written needs an active resource (MAR) unless it has one, then an open one (MOR): zones wait for them in this
order, first come first served. An implicitly opened zone that nobody is writing to is closed for the first in line. Active
resources come back only when a zone becomes full, or is finished or reset: that is up to the tasks.
"""

from collections.abc import Awaitable, Callable
from typing import NamedTuple

from aionvme.errors import UsageError
from aionvme.nvme.opcodes import ZoneState
from aionvme.zones.line import Line
from aionvme.zones.record import ACTIVE_STATES, OPEN_STATES, Record


class ZoneHolder(NamedTuple):
    """A zone that is open, or about to be: its start and state, how many tasks are writing to it, and the name of the task that
    had it opened, None where it was open before."""

    zslba: int
    zs: ZoneState
    users: int
    task: str | None


class Resources:
    """Those of one namespace. ``learn`` looks a zone up; ``evict`` does, and closes one that was opened by writing to it."""

    def __init__(
        self,
        mor: int | None,
        mar: int | None,
        learn: Callable[[Record], Awaitable[None]],
        evict: Callable[[Record], Awaitable[None]],
    ) -> None:
        self.open = Line(mor, OPEN_STATES, "open", "close, finish or reset one", turns=True)
        self.active = Line(mar, ACTIVE_STATES, "active", "finish or reset one")
        self._learn = learn
        self._evict = evict

    def holders(self) -> list[ZoneHolder]:
        """The zones that are open."""
        return [ZoneHolder(record.zslba, record.zs, hold.users, hold.task) for record, hold in self.open.holds.items()]

    def waiting(self) -> list[Record]:
        """The zones of the tasks in line, those for an active resource first."""
        return [waiter.record for line in (self.active, self.open) for waiter in line.waiting]

    async def admit(self, record: Record) -> None:
        """Have an active and an open resource for the zone, for a task that goes on to :meth:`release` them; waits in line.

        Raises UsageError where all there is was taken by somebody else before.
        """
        await self.admit_active(record)
        if not self.open.take(record):
            try:
                await self._wait(self.open, record, self._vacate)
            except BaseException:
                self.release_active(record)
                raise

    async def admit_active(self, record: Record) -> None:
        """The same with an active resource alone."""
        if not self.active.take(record):
            await self._wait(self.active, record, self._look_up)

    def release(self, record: Record) -> None:
        """The task is done; the zone keeps what its state holds."""
        self.open.put_back(record)
        self.release_active(record)

    def release_active(self, record: Record) -> None:
        """The same after :meth:`admit_active`."""
        self.active.put_back(record)

    def settle(self, record: Record) -> None:
        """The zone's state has changed, or is in doubt."""
        self.open.settle(record)
        self.active.settle(record)

    async def _wait(self, line: Line, record: Record, make_room: Callable[[], Awaitable[bool]]) -> None:
        waiter = line.join(record)
        try:
            while not waiter.served:
                if line.is_first(waiter):
                    if await make_room():
                        continue
                    if line.all_strange():
                        zones = ", ".join(f"{zslba:#x}" for zslba in sorted(held.zslba for held in line.holds))
                        raise UsageError(
                            f"{line.most} zones may be {line.name} at a time, and as many were left so by somebody else, at "
                            f"{zones}: {line.remedy}"
                        )
                await waiter.wait()
        except BaseException:
            line.leave(waiter)
            raise

    async def _look_up(self) -> bool:
        """One of the zones whose state is in doubt may have no active resource any more."""
        for record in self.active.unused():
            if not record.known:
                await self._learn(record)
                return True
        return False

    async def _vacate(self) -> bool:
        """Close the zone that has not been written to for longest."""
        for record in self.open.unused():
            if record.zs is not ZoneState.EXPLICITLY_OPENED or not record.known:
                self.open.vacate(record)
                try:
                    await self._evict(record)
                finally:
                    self.open.vacated(record)
                return True
        return False
