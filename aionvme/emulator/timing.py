"""When the commands of an emulated device happen: no clock and no waiting, only times in nanoseconds.

A command is carried out at one time (an append gets its place, data moves, states change) and its completion is posted at
another, or the same. In between nobody knows of it but the device.
"""

from random import Random
from typing import Protocol

from aionvme.emulator.device import Device
from aionvme.emulator.flash import COMMAND_NS, FlashTiming
from aionvme.emulator.zoned import ZonedNamespace
from aionvme.nvme.command import Command
from aionvme.nvme.status import Completion


class Timing(Protocol):
    """Says when. Neither ``now`` nor ``at`` ever goes back."""

    def execute_at(self, now: int, command: Command) -> int:
        """When a command that arrives ``now`` is carried out."""

    def complete_at(self, at: int, command: Command, completion: Completion, data: memoryview) -> int:
        """When the completion of a command is posted that was carried out ``at`` its time, with this outcome."""


class DrawnTiming:
    """A latency for each command, drawn from a range; a command is carried out when it completes."""

    def __init__(self, random: Random, latency_ns: tuple[int, int]) -> None:
        """``latency_ns`` are the shortest and the longest."""
        self.latency_ns = latency_ns
        self._random = random

    def execute_at(self, now: int, command: Command) -> int:
        """See :meth:`Timing.execute_at`."""
        low, high = self.latency_ns
        return now + self._random.randrange(low, high + 1)

    def complete_at(self, at: int, command: Command, completion: Completion, data: memoryview) -> int:
        """See :meth:`Timing.complete_at`."""
        return at


def timing_of(device: Device, random: Random, *, admin: bool) -> Timing:
    """The timing that the device's spec asks for, of its I/O queue or of the ``admin`` one."""
    spec = device.spec
    if spec.flash is None:
        return DrawnTiming(random, spec.latency_ns)
    if admin:
        return DrawnTiming(random, (COMMAND_NS, COMMAND_NS))
    written = device.namespace.zones.written if isinstance(device.namespace, ZonedNamespace) else []
    return FlashTiming(spec, spec.flash, random, written)
