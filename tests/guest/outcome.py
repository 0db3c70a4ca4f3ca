"""What the twins are given, how both carry it out, and where they may differ."""

import struct
from collections.abc import Callable
from typing import NamedTuple

from aionvme.emulator.spec import DeviceSpec
from aionvme.nvme.command import Command
from aionvme.nvme.opcodes import NvmOpcode
from aionvme.nvme.status import Completion

NAMES = {opcode.value: opcode.name for opcode in NvmOpcode}
ZRWAV = 0x08
"""Bit of a zone's attributes: it has a random write area."""


class Step(NamedTuple):
    """A command, and what it sends, or how many bytes it fills."""

    command: Command
    data: bytes = b""
    filled: int = 0


class ZoneNow(NamedTuple):
    """A zone as the emulated namespace has it; ``written`` counts the blocks below its write pointer."""

    number: int
    zs: int
    za: int
    written: int


class Outcome(NamedTuple):
    """How both carried out one command; ``zone`` is what it addresses, as it was before, None of a conventional namespace."""

    command: Command
    ours: Completion
    theirs: Completion
    same_data: bool
    zone: ZoneNow | None
    spec: DeviceSpec

    @property
    def statuses(self) -> tuple[int, int]:
        """Ours and theirs."""
        return self.ours.status, self.theirs.status

    @property
    def action(self) -> int | None:
        """The action of Zone Management Send, without Select All and other bits; None of other commands."""
        return self.command.cdw13 & 0xFF if self.command.opcode == NvmOpcode.ZONE_MANAGEMENT_SEND else None


class Leaves(NamedTuple):
    """What may be unlike in the two after a command: fields of the descriptor of the zone that it addresses (``own``), and of
    ``others``; with ``blocks``, what the blocks hold that it names. Nothing else may. With ``hidden`` QEMU has something else in
    mind about the zone than it reports, which shows later.

    Fields are named as in a report; "extension" is the zone descriptor extension.
    """

    own: frozenset[str] = frozenset()
    others: frozenset[str] = frozenset()
    blocks: bool = False
    hidden: bool = False


class Difference(NamedTuple):
    """Where the two may differ, who is right by which clause of the specification, and what tells that a difference is this one.

    One that is ``later`` need not show in how the command ends, but shows in what it ``leaves``. ``since`` is the first version
    of QEMU's that has it, and ``until`` the first one that no longer has it.
    """

    what: str
    right: str
    applies: Callable[[Outcome], bool]
    leaves: Leaves = Leaves()
    later: bool = False
    since: tuple[int, int] = (0, 0)
    until: tuple[int, int] = (99, 0)

    def is_in(self, qemu: tuple[int, int]) -> bool:
        """Whether a version of QEMU has it."""
        return self.since <= qemu < self.until


class DisagreementError(AssertionError):
    """The two did not do the same, and no known difference explains it."""


def describe(step: Step) -> str:
    """A command with all its numbers."""
    c = step.command
    name = NAMES.get(c.opcode, f"opcode {c.opcode:#x}")
    dwords = " ".join(f"{value:#x}" for value in (c.cdw2, c.cdw3, *c[6:10]))
    sent = step.data[:64].hex() if c.opcode in (NvmOpcode.COPY, NvmOpcode.DATASET_MANAGEMENT) else len(step.data)
    return f"{name} at {c.slba:#x}, cdw2 3 12 to 15 {dwords}, sends {sent}, fills {step.filled}"


def touched(step: Step) -> list[tuple[int, int]]:
    """Blocks whose content a command may have changed, as slba and nlb."""
    command = step.command
    match command.opcode:
        case NvmOpcode.DATASET_MANAGEMENT:
            return [(slba, nlb) for nlb, slba in struct.iter_unpack("<4xIQ", step.data)]
        case NvmOpcode.COPY:
            if command.cdw12 >> 8 & 0xF:
                return []  # a descriptor format that nobody offers
            sources = struct.iter_unpack("<8xQH14x", step.data)
            return [(command.slba, sum(nlb + 1 for _, nlb in sources))]
        case NvmOpcode.WRITE | NvmOpcode.WRITE_ZEROES | NvmOpcode.WRITE_UNCORRECTABLE:
            return [(command.slba, (command.cdw12 & 0xFFFF) + 1)]
    return []
