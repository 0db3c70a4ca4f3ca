"""Which commands of a trace have to wait for which.

A zone is written at its write pointer, is reset before it is written anew, and is read where something has been written; blocks
hold what was written last. Whoever sent the commands saw to that by waiting for one before sending the next, and it shows in
the trace: the one had completed when the other was submitted. So a command waits, at any speed, for every earlier one that

- had completed, in the trace, when it was submitted,
- and touches the same zone, or on a conventional namespace some of the same blocks,
- unless neither of the two changes anything.

A flush, a report of zones and whatever selects all zones touch everything. What overlapped in the trace was left to the device,
and still is; it is submitted in the trace's order.
"""

from dataclasses import dataclass, field

import numpy as np

from aionvme.nvme.opcodes import NvmOpcode
from aionvme.replaying.commands import CHANGES
from aionvme.trace import Trace

_EVERYWHERE = (NvmOpcode.FLUSH, NvmOpcode.ZONE_MANAGEMENT_RECEIVE)

_PLAN = np.dtype(
    [
        ("submit_ns", "u8"), ("complete_ns", "u8"), ("slba", "u8"), ("end", "u8"), ("first", "u8"), ("last", "u8"),
        ("changes", "?"), ("everywhere", "?"),
    ]
)  # fmt: skip
_NEVER = np.uint64(2**64 - 1)


@dataclass(eq=False, slots=True)
class _Open:
    """A command that has not completed again."""

    number: int
    submit_ns: int
    complete_ns: int
    slba: int
    end: int
    first: int
    last: int
    changes: bool
    everywhere: bool
    waits_for: int = 0
    followers: list["_Open"] = field(default_factory=list)


class Order:
    """The commands of a trace that were admitted and have not completed again; admitted in the order of the trace."""

    def __init__(self, trace: Trace) -> None:
        """``trace`` is in the order of submission."""
        self._zoned = bool(len(trace)) and bool(trace["zsze"][0])
        plan = np.zeros(len(trace), _PLAN)
        blocks = np.maximum(trace["nlb"], 1).astype(np.uint64)
        # Commands are looked up by the stretches that they touch: zones, or stretches so long that no command has more than two.
        stretch = trace["zsze"] if self._zoned else np.max(blocks, initial=1)
        plan["submit_ns"] = trace["submit_ns"]
        plan["complete_ns"] = np.where(trace["complete_ns"] == 0, _NEVER, trace["complete_ns"])
        plan["slba"] = trace["slba"]
        plan["end"] = np.maximum(trace["slba"] + blocks, trace["slba"])  # sums beyond 64 bits are nowhere
        plan["first"] = trace["slba"] // stretch
        plan["last"] = np.maximum(plan["end"] - np.uint64(1), trace["slba"]) // stretch
        plan["changes"] = np.isin(trace["opcode"], CHANGES)
        plan["everywhere"] = np.isin(trace["opcode"], _EVERYWHERE) | trace["select_all"]
        self._plan = plan
        self._open: dict[int, _Open] = {}
        self._everywhere: dict[_Open, None] = {}
        self._stretches: dict[int, dict[_Open, None]] = {}

    def __len__(self) -> int:
        return len(self._open)

    def admit(self, number: int) -> bool:
        """Whether the next command may go at once; if not, :meth:`done` gives it."""
        command = _Open(number, *self._plan[number].item())
        for near in self._near(command):
            since = -1
            for other in reversed(near):
                if since < other.complete_ns <= command.submit_ns and self._clash(command, other):
                    other.followers.append(command)
                    command.waits_for += 1
                    if other.changes and self._zoned:
                        since = max(since, other.submit_ns)  # what had completed by then, the other waits for itself
        self._open[number] = command
        for place in self._places(command):
            place[command] = None
        return not command.waits_for

    def done(self, number: int) -> list[int]:
        """A command has completed: those that may go now."""
        command = self._open.pop(number)
        for place in self._places(command):
            del place[command]
        if not command.everywhere:
            for stretch in range(command.first, command.last + 1):
                if not self._stretches[stretch]:
                    del self._stretches[stretch]
        ready = []
        for follower in command.followers:
            follower.waits_for -= 1
            if not follower.waits_for:
                ready.append(follower.number)
        return ready

    def _places(self, command: _Open) -> list[dict[_Open, None]]:
        if command.everywhere:
            return [self._everywhere]
        return [self._stretches.setdefault(stretch, {}) for stretch in range(command.first, command.last + 1)]

    def _near(self, command: _Open) -> list[dict[_Open, None]]:
        """Those open that touch a stretch of the command's, by stretch."""
        if command.everywhere:
            return [self._everywhere, *self._stretches.values()]
        near = [self._everywhere] if self._everywhere else []
        return near + [self._stretches.get(stretch, {}) for stretch in range(command.first, command.last + 1)]

    def _clash(self, one: _Open, other: _Open) -> bool:
        if not (one.changes or other.changes):
            return False
        return self._zoned or one.everywhere or other.everywhere or (one.slba < other.end and other.slba < one.end)
