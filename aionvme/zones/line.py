"""A resource of which only so many zones can have one: which of them do, and who waits for it in which order."""

from collections.abc import Set

import anyio

from aionvme.nvme.opcodes import ZoneState
from aionvme.zones.record import Record

TURN = 64
"""For how many commands a zone keeps its place while others wait for one; then its own tasks get in line behind them."""


class Hold:
    """A zone's place: how many tasks are using it, how many have since its turn began, and who took it, None for somebody before
    us."""

    __slots__ = ("served", "task", "users")

    def __init__(self, task: str | None) -> None:
        self.users = 0
        self.served = 0
        self.task = task


class Waiter:
    """A task in line. ``called`` is set when it is ``served``, or when it is first and there may be something to be done."""

    def __init__(self, record: Record) -> None:
        self.record = record
        self.task = anyio.get_current_task().name
        self.served = False
        self.called = anyio.Event()

    async def wait(self) -> None:
        """Until it is called again."""
        await self.called.wait()
        self.called = anyio.Event()


class Line:
    """At most ``most`` zones have a place, None for no limit: those whose state is one of ``states``, and those about to be.

    Tasks whose zone has one are not held up by those whose zones have none. With ``turns`` that ends when its turn is over,
    unless it was opened explicitly: whoever did that says when it ends.
    """

    def __init__(
        self, most: int | None, states: Set[ZoneState], name: str, remedy: str, *, turns: bool = False
    ) -> None:
        """``name`` and ``remedy`` are for messages."""
        self.most = most
        self.turns = turns
        self.name = name
        self.remedy = remedy
        self.holds: dict[Record, Hold] = {}
        """Those not used for longest first."""
        self.waiting: dict[Waiter, None] = {}
        self._states = states
        self._vacating = 0

    def take(self, record: Record) -> bool:
        """Use the zone's place, or give it one, unless somebody comes first."""
        hold = self.holds.get(record)
        if hold is None:
            if self.waiting or not self._free():
                return False
            hold = self.holds[record] = Hold(anyio.get_current_task().name)
        elif self.waiting and self._turn_over(record, hold):
            return False
        hold.users += 1
        hold.served += 1
        return True

    def put_back(self, record: Record) -> None:
        """A task does not use the zone's place any more."""
        hold = self.holds[record]
        hold.users -= 1
        if not hold.users:
            self.holds[record] = self.holds.pop(record)  # used last
        self.settle(record)

    def settle(self, record: Record) -> None:
        """The zone's state has changed, or is in doubt: then it keeps its place."""
        hold = self.holds.get(record)
        if hold is None:
            if record.known and record.zs in self._states:
                self.holds[record] = Hold(None)
        elif not hold.users:
            if record.known and record.zs not in self._states:
                del self.holds[record]
                self._serve()
            elif self.waiting:
                next(iter(self.waiting)).called.set()

    def join(self, record: Record) -> Waiter:
        """Get in line."""
        waiter = Waiter(record)
        self.waiting[waiter] = None
        return waiter

    def leave(self, waiter: Waiter) -> None:
        """Get out of it, and give back what one has got meanwhile."""
        if waiter.served:
            self.put_back(waiter.record)
        else:
            del self.waiting[waiter]
            self._serve()

    def is_first(self, waiter: Waiter) -> bool:
        """Whether nobody waits for longer."""
        return next(iter(self.waiting)) is waiter

    def unused(self) -> list[Record]:
        """The zones whose places nobody uses, those not used for longest first."""
        return [record for record, hold in self.holds.items() if not hold.users]

    def all_strange(self) -> bool:
        """Whether nothing was ever done here with any of the zones that have a place: nobody is going to give one back."""
        return not self._vacating and not any(record.ours for record in self.holds)

    def vacate(self, record: Record) -> None:
        """Nobody may use the zone's place any more; it is free when :meth:`vacated` is called."""
        del self.holds[record]
        self._vacating += 1

    def vacated(self, record: Record) -> None:
        """Its state is another now, or it keeps its place after all."""
        self._vacating -= 1
        if record.zs in self._states or not record.known:
            self.holds.setdefault(record, Hold(None))
        self._serve()

    def _free(self) -> bool:
        return self.most is None or len(self.holds) + self._vacating < self.most

    def _turn_over(self, record: Record, hold: Hold) -> bool:
        return self.turns and hold.served >= TURN and record.zs is not ZoneState.EXPLICITLY_OPENED

    def _serve(self) -> None:
        """Let those go on whose zones have a place now."""
        first = True
        for waiter in list(self.waiting):
            hold = self.holds.get(waiter.record)
            if hold is None:
                if not first or not self._free():
                    first = False
                    continue
                hold = self.holds[waiter.record] = Hold(waiter.task)
            elif self._turn_over(waiter.record, hold):
                if not first:
                    continue
                hold.served = 0
            hold.users += 1
            hold.served += 1
            del self.waiting[waiter]
            waiter.served = True
            waiter.called.set()
        if self.waiting:
            next(iter(self.waiting)).called.set()
