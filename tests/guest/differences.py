"""Where the emulated device and QEMU's controller differ: who is right, by which clause, and how the two end the command.

Random write areas are those of Technical Proposal 4076, which is not yet in the Zoned Namespace Command Set 1.1; section
numbers beside it are those of 1.1 that it amends.
"""

from collections.abc import Iterable

from aionvme.nvme.opcodes import NvmOpcode, ZoneSendAction, ZoneState

from .outcome import ZRWAV, Difference, Leaves, Outcome

_SELECT_ALL, _ZRWAA = 0x100, 0x200
_ZDEV = 0x80
_COMPARE, _COPY, _DSM, _VERIFY = NvmOpcode.COMPARE, NvmOpcode.COPY, NvmOpcode.DATASET_MANAGEMENT, NvmOpcode.VERIFY
_OPEN, _EXTEND = ZoneSendAction.OPEN, ZoneSendAction.SET_ZONE_DESCRIPTOR_EXTENSION
_FLUSH_AREA = ZoneSendAction.FLUSH_EXPLICIT_ZRWA_RANGE

_QEMU_8 = (8, 0)
_INTERNAL_ERROR = 0x0006
_NO_SUCH_COMMAND = 0x4001
_OUT_OF_RANGE = 0x4080
_TOO_LONG = 0x4183
_WRITE_STATUSES = (0, 0x4080, 0x41B8, 0x41B9, 0x41BC, 0x41BD, 0x41BE)
_SEVERAL_REASONS = (
    "both: where a command fails for several reasons, which status is returned is the vendor's choice "
    "(Base 2.0, section 3.3.3.2.1)"
)

_RESOURCES = frozenset({"zs"})
_WRITTEN = frozenset({"zs", "za", "wp"})
_OPENED = Leaves(own=_RESOURCES, others=_RESOURCES)
"""The zone was opened on one of them, and perhaps another closed for it."""


def _pairs(theirs: int, ours: Iterable[int]) -> set[tuple[int, int]]:
    return {(status, theirs) for status in ours}


_AT_FAULT = (_OUT_OF_RANGE, 0x41B8, 0x41BC)
_COPIED_IN_PART = (
    {(status, status) for status in _AT_FAULT}
    | {(0x41B8, 0x01B8)}
    | _pairs(0x01BC, (0, *_AT_FAULT))
    | _pairs(_INTERNAL_ERROR, (0, *_AT_FAULT))
)
"""How a Copy ends of which QEMU has copied some ranges."""


def _copies(o: Outcome) -> bool:
    return o.command.opcode == _COPY


def _opens_all(o: Outcome) -> bool:
    return o.action == _OPEN and bool(o.command.cdw13 & _SELECT_ALL)


def _allocates(o: Outcome) -> bool:
    """ZRWAA for one zone, where there are areas."""
    return o.command.cdw13 & (_SELECT_ALL | _ZRWAA) == _ZRWAA and bool(o.spec.zrwas)


DIFFERENCES: tuple[Difference, ...] = (
    Difference(
        "Compare: QEMU 7 does not set Do Not Retry when blocks differ",
        "both: the bit says whether the controller expects the same command to fail again (Base 2.0, section 3.3.3.2.1)",
        lambda o: o.command.opcode == _COMPARE and o.statuses == (0x4285, 0x0285),
        until=_QEMU_8,
    ),
    Difference(
        "Write Uncorrectable: there is none in QEMU",
        "both: it is optional, ONCS bit 1 (Base 2.0, section 5.17.2.1; NVM Command Set 1.0, section 3.2.7)",
        lambda o: (
            o.command.opcode == NvmOpcode.WRITE_UNCORRECTABLE
            and o.statuses in _pairs(_NO_SUCH_COMMAND, _WRITE_STATUSES)
        ),
        Leaves(own=_WRITTEN, others=_RESOURCES, blocks=True),
    ),
    Difference(
        "Copy: QEMU has Invalid Format for a descriptor format that is not offered",
        "the emulated device: Invalid Field in Command (NVM Command Set 1.0, section 3.2.2)",
        lambda o: _copies(o) and o.command.cdw12 & 0xF00 != 0 and o.statuses == (0x4002, 0x410A),
    ),
    Difference(
        "Copy: QEMU looks at the number of ranges before the descriptor format",
        _SEVERAL_REASONS,
        lambda o: _copies(o) and o.command.cdw12 & 0xF00 != 0 and o.statuses == (0x4002, _TOO_LONG),
    ),
    Difference(
        "Copy: QEMU 7 does not look at MCL, the most blocks of all ranges together",
        "the emulated device: Command Size Limit Exceeded (NVM Command Set 1.0, section 3.2.2)",
        lambda o: _copies(o) and o.statuses in {(_TOO_LONG, 0), (_TOO_LONG, _INTERNAL_ERROR)},
        Leaves(own=_WRITTEN, others=_RESOURCES, blocks=True),
        until=_QEMU_8,
    ),
    Difference(
        "Copy: QEMU 7 ends with Internal Error, whatever was wrong with a range",
        "the emulated device: LBA Out of Range, or what it is about the zone (NVM Command Set 1.0, section 3.2.2.1; "
        "ZNS Command Set 1.1, section 3.3.2.1)",
        lambda o: _copies(o) and o.statuses in _pairs(_INTERNAL_ERROR, (0x41B9, *_AT_FAULT)),
        _OPENED,
        until=_QEMU_8,
    ),
    Difference(
        "Copy: QEMU from 8 on does not set Do Not Retry when the destination is at fault",
        "both: the bit says whether the controller expects the same command to fail again (Base 2.0, section 3.3.3.2.1)",
        lambda o: _copies(o) and o.statuses in {(0x41B8, 0x01B8), (0x41B9, 0x01B9), (0x41BC, 0x01BC)},
        _OPENED,
        since=_QEMU_8,
    ),
    Difference(
        "Copy: QEMU opens the destination before it looks at the rest, and has Invalid Zone State Transition for a full zone",
        "the emulated device: a full zone is Zone Is Full (ZNS Command Set 1.1, section 2.1.1.2.1.1); where it is not the only "
        "reason, both (Base 2.0, section 3.3.3.2.1)",
        lambda o: (
            _copies(o)
            and o.zone is not None
            and o.zone.zs == ZoneState.FULL
            and o.statuses in _pairs(0x01BF, (_OUT_OF_RANGE, 0x41B8, 0x41B9))
        ),
    ),
    Difference(
        "Copy: QEMU opens the destination before it looks at the rest, and runs out of resources for a write that cannot be",
        _SEVERAL_REASONS,
        lambda o: _copies(o) and o.statuses in _pairs(0x41BD, _AT_FAULT) | _pairs(0x41BE, _AT_FAULT),
        _OPENED,
    ),
    Difference(
        "Copy: QEMU has opened the destination, and closed another zone for it, by the time it refuses a source or the length",
        "the emulated device: a zone is opened by a write that writes a block of it (ZNS Command Set 1.1, section 2.1.1.3.1); "
        "for another to be closed, both (section 2.1.1.4.1)",
        lambda o: (
            _copies(o) and o.zone is not None and o.statuses in {(s, s) for s in (_OUT_OF_RANGE, _TOO_LONG, 0x41B8)}
        ),
        _OPENED,
        since=_QEMU_8,
        later=True,
    ),
    Difference(
        "Dataset Management: QEMU skips a range that is beyond the end",
        "both: a controller may take no action, or check the range nonetheless (NVM Command Set 1.0, section 3.2.3.1)",
        lambda o: o.command.opcode == _DSM and o.statuses == (_OUT_OF_RANGE, 0),
        Leaves(blocks=True),
    ),
    Difference(
        "Dataset Management: QEMU keeps what was in deallocated blocks",
        "both: blocks may be deallocated, or not, and are not changed then (NVM Command Set 1.0, section 3.2.3, AD)",
        lambda o: o.command.opcode == _DSM and o.statuses == (0, 0),
        Leaves(blocks=True),
        later=True,
    ),
    Difference(
        "Compare and Verify: QEMU lets them cross the boundary of a zone",
        "the emulated device: commands that read are refused (ZNS Command Set 1.1, sections 2.1.1.2.1.2, 3.3.1 and 3.3.6)",
        lambda o: (
            (o.command.opcode in (_COMPARE, _VERIFY) and o.statuses == (0x41B8, 0))
            or (o.command.opcode == _COMPARE and o.statuses in {(0x41B8, 0x0285), (0x41B8, 0x4285)})
        ),
    ),
    Difference(
        "Open Zone with Select All: QEMU opens zones that it closes itself while it makes room, and so runs out of resources",
        "the emulated device: zones are opened that are closed when the command comes (ZNS Command Set 1.1, section 3.4.3.1.3)",
        lambda o: _opens_all(o) and o.statuses == (0, 0x41BE),
        Leaves(others=_RESOURCES),
    ),
    Difference(
        "Open Zone with Select All: QEMU has opened as many zones as it could by the time it refuses the rest",
        "the emulated device: no zone state transition occurs (ZNS Command Set 1.1, section 3.4.3.1.3)",
        lambda o: _opens_all(o) and o.statuses == (0x41BE, 0x41BE),
        Leaves(others=_RESOURCES),
        later=True,
    ),
    Difference(
        "Copy into a random write area: QEMU moves the write pointer by what was copied, as if there were no area, and so may "
        "refuse the next range",
        "the emulated device: the window moves as far as the blocks demand (Technical Proposal 4076, writing in a zone with an "
        "area; section 2.1.1.2.1.1)",
        lambda o: (
            _copies(o)
            and o.zone is not None
            and bool(o.zone.za & ZRWAV)
            and (o.statuses == (0, 0) or (o.theirs.result > 0 and o.statuses in _COPIED_IN_PART))
        ),
        Leaves(own=_WRITTEN, hidden=True),
        later=True,
    ),
    Difference(
        "Open Zone with ZRWAA: QEMU gives a random write area to zones that are not empty",
        "the emulated device: Invalid Zone Operation Request (Technical Proposal 4076, Open Zone; section 3.4.3.1.3)",
        lambda o: (
            o.action == _OPEN and _allocates(o) and o.statuses in {(0x41B6, 0), (0x41B6, 0x41B7), (0x41B6, 0x41BE)}
        ),
        Leaves(own=frozenset({"zs", "za"}), others=_RESOURCES),
    ),
    Difference(
        "Open Zone with Select All and ZRWAA: QEMU gives random write areas to closed zones, until there are none left",
        "the emulated device: Invalid Zone Operation Request (Technical Proposal 4076, Open Zone; section 3.4.3.1.3)",
        lambda o: (
            _opens_all(o)
            and bool(o.command.cdw13 & _ZRWAA)
            and bool(o.spec.zrwas)
            and o.statuses in {(0x41B6, 0), (0x41B6, 0x41B7), (0x41B6, 0x41BE)}
        ),
        Leaves(others=frozenset({"zs", "za"})),
    ),
    Difference(
        "Open Zone with ZRWAA: QEMU looks for an area before it looks at a zone that is full",
        _SEVERAL_REASONS,
        lambda o: o.action == _OPEN and _allocates(o) and o.statuses == (0x41BF, 0x41B7),
    ),
    Difference(
        "Open Zone with Select All and ZRWAA, where there are no areas: QEMU does not mind as long as no zone is closed",
        "both: there is no zone to give one to (Technical Proposal 4076, Open Zone; section 3.4.3.1.3)",
        lambda o: _opens_all(o) and bool(o.command.cdw13 & _ZRWAA) and not o.spec.zrwas and o.statuses == (0x41B6, 0),
    ),
    Difference(
        "Set Zone Descriptor Extension with ZRWAA: QEMU does not look at the bit, where there is no area left",
        "the emulated device: ZRWA Resources Unavailable (Technical Proposal 4076, Set Zone Descriptor Extension; "
        "section 3.4.3.1.6)",
        lambda o: o.action == _EXTEND and _allocates(o) and o.statuses == (0x41B7, 0),
        Leaves(own=frozenset({"zs", "za", "extension"})),
    ),
    Difference(
        "Set Zone Descriptor Extension with ZRWAA: QEMU does not look at the bit, and the zone has no area",
        "the emulated device: one is allocated (Technical Proposal 4076, Set Zone Descriptor Extension; section 3.4.3.1.6)",
        lambda o: o.action == _EXTEND and _allocates(o) and o.statuses == (0, 0),
        Leaves(own=frozenset({"za"})),
        later=True,
    ),
    Difference(
        "Set Zone Descriptor Extension: QEMU has stored the new one by the time it refuses a zone that is not empty",
        "the emulated device: it is set when the command completes successfully (ZNS Command Set 1.1, section 3.4.3.1.6)",
        lambda o: (
            o.action == _EXTEND and o.statuses == (0x41BF, 0x41BF) and o.zone is not None and bool(o.zone.za & _ZDEV)
        ),
        Leaves(own=frozenset({"extension"})),
        later=True,
    ),
    Difference(
        "Flush Explicit ZRWA Range: QEMU takes the window for a block longer, and dislikes the length of the range there",
        "the emulated device: Zone Boundary Error (Technical Proposal 4076, Flush Explicit ZRWA Range; section 3.4.3.1)",
        lambda o: o.action == _FLUSH_AREA and o.statuses == (0x41B8, 0x4002),
    ),
    Difference(
        "Flush Explicit ZRWA Range: QEMU's window is as long as ever at the end of a zone, and a flush passes its capacity",
        "the emulated device: Zone Boundary Error (Technical Proposal 4076, Flush Explicit ZRWA Range; section 3.4.3.1)",
        lambda o: o.action == _FLUSH_AREA and o.statuses == (0x41B8, 0),
        Leaves(own=_WRITTEN, others=_RESOURCES),
    ),
)
