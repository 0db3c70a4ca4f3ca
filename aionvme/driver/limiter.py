"""Limits for the commands of a group of tasks: how many in flight, how many and how many bytes of them a second.

Passthrough goes past the block layer, and so past its I/O scheduler and the limits of cgroups. A limiter stands before the queue:
a command passes it first and takes its place in the queue then, so that commands that wait here hold no place there.

A rate is kept as a time and not as a number of tokens: ``due``, when what has gone is paid for. The next command may go from then
on, whatever it costs itself, and moves ``due`` by its cost. So a command of any size goes, long-term rates are exact, and what
is first in line never depends on its own size. A timer is due a millisecond from now at the earliest, and lets all go that may.
"""

import math
from collections import OrderedDict
from contextlib import suppress
from numbers import Real
from operator import index
from time import monotonic
from typing import SupportsIndex

from aionvme.driver.host import Alarm, Host
from aionvme.driver.request import Waiter
from aionvme.errors import UsageError, WrongLoopError

BURST_S = 0.02
"""How much of a rate an idle group saves up. As a rule timers and a busy loop's passes are late by less, which then costs nothing
of the rate."""

TICK_S = 0.001
"""The shortest wait: loops have no finer timers, and one that rounds down would spin."""

LEAST_PER_S, MOST_PER_S = 1e-6, 1e15
"""Rates beyond these cannot be told from none, or from no limit: the clock is a double."""


class _Rate:
    """A rate that commands are charged to."""

    __slots__ = ("_per_s", "due")

    def __init__(self, per_s: float) -> None:
        self._per_s = per_s
        self.due = -math.inf

    def charge(self, cost: int, now: float) -> None:
        self.due = max(self.due, now - BURST_S) + cost / self._per_s

    def refund(self, cost: int) -> None:
        self.due -= cost / self._per_s


class Limiter:
    """Limits that a group of tasks shares: :meth:`Namespace.limited` gives the namespace that the group uses.

    ``depth`` is the most commands of the group that are in flight, ``commands_per_s`` and ``bytes_per_s`` are rates. Each may be
    left out, not all of them. Commands are what counts, not calls: a read that is split takes a place for each of its parts, one
    after the other. Bytes are the data that commands move between host and device: write zeroes, verify or flush move none.

    Commands that have to wait go first come, first served, and a task that is cancelled meanwhile has submitted nothing. A group
    that was idle may go ahead by 20 ms of its rate, and a command is never too large for a rate: it goes, and those after it
    wait until it is paid for. So in any t seconds a group gets at most its rate times t + 0.02, and one command.

    One limiter can limit several namespaces, and stays usable when they are closed. It belongs to the event loop on which it was
    first handed to one. Raises UsageError where a limit makes no sense. Its methods are for the driver.
    """

    def __init__(
        self,
        *,
        depth: SupportsIndex | None = None,
        commands_per_s: float | None = None,
        bytes_per_s: float | None = None,
    ) -> None:
        limits = {"depth": depth, "commands_per_s": commands_per_s, "bytes_per_s": bytes_per_s}
        self._limits = {name: limit for name, limit in limits.items() if limit is not None}
        if not self._limits:
            raise UsageError("a limiter without a limit: pass depth=, commands_per_s= or bytes_per_s=")
        # What is not limited is infinite, so that nothing below need ask.
        self._free = math.inf if depth is None else _whole("depth", depth)
        self._commands = _Rate(_rate("commands_per_s", commands_per_s))
        self._bytes = _Rate(_rate("bytes_per_s", bytes_per_s))
        # In order of arrival; a waiter that leaves is taken out of the middle. While there are any, either no place is free,
        # and one that is given back comes to them, or the alarm is set.
        self._line: OrderedDict[Waiter, tuple[Host, int]] = OrderedDict()
        self._alarm: Alarm | None = None
        self._loop: object = None

    def __repr__(self) -> str:
        return f"Limiter({', '.join(f'{name}={limit}' for name, limit in self._limits.items())})"

    def bind(self, host: Host) -> None:
        """Belong to the loop of ``host``. Raises WrongLoopError where it is another one already."""
        if self._loop is None:
            self._loop = host.loop
        elif self._loop is not host.loop:
            raise WrongLoopError(f"{self} belongs to the thread and event loop that first used it: make one for each")

    def take_nowait(self, len_bytes: int) -> bool:
        """Let a command of ``len_bytes`` pass if that is possible at once."""
        if self._line or not self._free:
            return False
        now = monotonic()
        if self._due > now:
            return False
        self._take(len_bytes, now)
        return True

    async def take(self, host: Host, waiter: Waiter, len_bytes: int) -> bool:
        """Wait in line to pass; False where ``waiter`` was woken before its turn. The wait can be cancelled.

        To be called where :meth:`take_nowait` has just said no.
        """
        self._line[waiter] = (host, len_bytes)
        if self._free and self._alarm is None:
            self._set_alarm(monotonic())
        try:
            await host.wait_or_leave(waiter)
        except BaseException:
            if not self._leave(waiter):
                self.undo(len_bytes)  # its turn had come already
            raise
        return not self._leave(waiter)

    def give(self) -> None:
        """A command that passed has completed."""
        self._free += 1
        if self._line:
            self._serve()

    def undo(self, len_bytes: int) -> None:
        """A command that passed will not be submitted: it leaves its place and what it was charged to others."""
        self._commands.refund(1)
        self._bytes.refund(len_bytes)
        self._clear_alarm()  # that was set for a later time
        self.give()

    @property
    def _due(self) -> float:
        return max(self._commands.due, self._bytes.due)

    def _take(self, len_bytes: int, now: float) -> None:
        self._free -= 1
        self._commands.charge(1, now)
        self._bytes.charge(len_bytes, now)

    def _leave(self, waiter: Waiter) -> bool:
        """Leave the line; whether it was still in it."""
        if self._line.pop(waiter, None) is None:
            return False
        if not self._line:
            self._clear_alarm()
        return True

    def _serve(self) -> None:
        now = monotonic()
        while self._line and self._free:
            if self._due > now:
                if self._alarm is None:
                    self._set_alarm(now)
                return
            waiter, (host, len_bytes) = self._line.popitem(last=False)
            self._take(len_bytes, now)
            host.wake(waiter)
        if not self._line:
            self._clear_alarm()

    def _set_alarm(self, now: float) -> None:
        host, _ = next(iter(self._line.values()))  # all are on the same loop
        with suppress(RuntimeError):  # which is over: none of them will go on
            self._alarm = host.call_later(max(self._due - now, TICK_S), self._ring)

    def _clear_alarm(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    def _ring(self) -> None:
        self._alarm = None
        self._serve()


def _whole(name: str, value: SupportsIndex) -> int:
    try:
        number = index(value)
    except TypeError:
        number = 0
    if number < 1 or isinstance(value, bool):
        raise UsageError(f"{name}={value!r}: a whole number of commands, at least 1")
    return number


def _rate(name: str, value: float | None) -> float:
    if value is None:
        return math.inf
    if isinstance(value, bool) or not isinstance(value, Real) or not LEAST_PER_S <= value <= MOST_PER_S:
        raise UsageError(f"{name}={value!r}: a rate is a number from {LEAST_PER_S:g} to {MOST_PER_S:g}")
    return float(value)
