"""What is known of one zone."""

import numpy as np

from aionvme.nvme.opcodes import ZoneAttributes, ZoneState
from aionvme.zones.gate import Gate

OPEN_STATES = frozenset({ZoneState.IMPLICITLY_OPENED, ZoneState.EXPLICITLY_OPENED})
"""States that hold an open resource (Zoned Namespace Command Set 1.1, section 2.1.1.4.1)."""

ACTIVE_STATES = OPEN_STATES | {ZoneState.CLOSED}
"""States that hold an active resource (same section)."""

NO_WRITE_POINTER = frozenset({ZoneState.FULL, ZoneState.READ_ONLY, ZoneState.OFFLINE})
"""States in which the write pointer is not valid (same specification, figure 37)."""


class Record:
    """A zone as far as its commands' completions tell; shared by everybody who uses it on one queue."""

    __slots__ = ("changes", "gate", "known", "openers", "ours", "written", "za", "zcap", "zs", "zslba")

    def __init__(self, zslba: int) -> None:
        self.zslba = zslba
        self.zcap = 0
        self.zs = ZoneState.EMPTY
        self.written = 0
        """Blocks below the write pointer; the capacity where the state has none."""
        self.za = ZoneAttributes(0)
        self.known = False
        """False where a command ended in a way that leaves all of the above in doubt."""
        self.changes = 0
        """How often the zone was changed: a report that was asked for before is older than what is known."""
        self.ours = False
        """Whether anything was done with it through this namespace."""
        self.openers = 0
        """Tasks inside of a context that keeps it open."""
        self.gate = Gate()

    @property
    def wp(self) -> int | None:
        """The write pointer's LBA, where the state has one."""
        return None if self.zs in NO_WRITE_POINTER else self.zslba + self.written

    def learn(self, row: np.void) -> None:
        """Take over a row of a report."""
        self.zcap = int(row["zcap"])
        self.zs = ZoneState(int(row["zs"]))
        self.za = ZoneAttributes(int(row["za"]))
        self.written = self.zcap if self.zs in NO_WRITE_POINTER else int(row["wp"]) - self.zslba
        self.known = True

    def doubt(self) -> None:
        """Something was done to the zone, and nobody knows what came of it; a report that is under way may be older than that."""
        self.changes += 1
        self.known = False

    def advance(self, written: int) -> None:
        """Blocks up to ``written`` have been written: what that does to the state (section 2.1.1.3)."""
        self.changes += 1
        if written > self.written:
            self.written = written
        if self.written >= self.zcap:
            self.zs = ZoneState.FULL
        elif self.zs not in OPEN_STATES:
            self.zs = ZoneState.IMPLICITLY_OPENED

    def enter(self, zs: ZoneState) -> None:
        """The zone, which is known, was told to go to a state, and has."""
        self.changes += 1
        self.known = True
        self.zs = zs
        if zs is ZoneState.EMPTY:
            self.written = 0
            self.za = ZoneAttributes(0)
        elif zs in NO_WRITE_POINTER:
            self.written = self.zcap
