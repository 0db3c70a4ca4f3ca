"""The emulated device against QEMU's controller: the same commands, valid and invalid, on a namespace of each.

Statuses with their Do Not Retry, results of what succeeded, data read, and zone reports must be equal. Where they are not, the
difference is in a list below, with the clause that decides it; all others end the test. The emulated device follows the
specifications, and where those leave a choice it does what QEMU does.

``AIONVME_SEED=100`` runs other sequences than those of every day, from seed 100 on; ``AIONVME_SEQUENCES=50`` as many of them.
"""

import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

import aionvme
from aionvme.nvme.opcodes import NvmOpcode, ZoneSendAction
from tests.conftest import node

from .steps import NUMBER_BYTES, numbers, step
from .twins import ZRWAV, Difference, DisagreementError, Outcome, Twins

pytestmark = pytest.mark.feature("the emulated device does what QEMU's controller does")

SEED = int(os.environ.get("AIONVME_SEED", "0"))
SEQUENCES = int(os.environ.get("AIONVME_SEQUENCES", "0"))
LENGTH = 400
"""Commands in a sequence."""

_SELECT_ALL, _ZRWAA = 0x100, 0x200
_ZDEV = 0x80
_COMPARE, _COPY, _DSM = NvmOpcode.COMPARE, NvmOpcode.COPY, NvmOpcode.DATASET_MANAGEMENT
_EXTEND, _FLUSH_AREA = ZoneSendAction.SET_ZONE_DESCRIPTOR_EXTENSION, ZoneSendAction.FLUSH_EXPLICIT_ZRWA_RANGE
_QEMU_8 = (8, 0)


def _copies(o: Outcome) -> bool:
    return o.command.opcode == _COPY


def _allocates(o: Outcome) -> bool:
    return bool(o.command.cdw13 & _ZRWAA) and bool(o.spec.zrwas)


DIFFERENCES: tuple[Difference, ...] = (
    Difference(
        "Compare: QEMU 7 does not set Do Not Retry when blocks differ",
        "both: the bit says what the controller expects (Base 2.0, status field of a completion)",
        lambda o: o.qemu < _QEMU_8 and o.command.opcode == _COMPARE and o.statuses == (0x4285, 0x0285),
    ),
    Difference(
        "Write Uncorrectable: there is none in QEMU",
        "both: it is optional, ONCS bit 1 (NVM Command Set 1.0, section 3.2.7)",
        lambda o: o.command.opcode == NvmOpcode.WRITE_UNCORRECTABLE and o.theirs.status == 0x4001,
    ),
    Difference(
        "Copy: QEMU has Invalid Format for a descriptor format that is not offered",
        "the emulated device: Invalid Field in Command (NVM Command Set 1.0, section 3.2.2)",
        lambda o: _copies(o) and o.command.cdw12 & 0xF00 != 0 and o.statuses == (0x4002, 0x410A),
    ),
    Difference(
        "Copy: QEMU looks at the number of ranges before the descriptor format",
        "both: the command has two errors",
        lambda o: _copies(o) and o.command.cdw12 & 0xF00 != 0 and o.statuses == (0x4002, 0x4183),
    ),
    Difference(
        "Copy: QEMU 7 does not look at MCL, the most blocks of all ranges together",
        "the emulated device: Command Size Limit Exceeded (NVM Command Set 1.0, section 3.2.2)",
        lambda o: o.qemu < _QEMU_8 and _copies(o) and o.ours.status == 0x4183,
    ),
    Difference(
        "Copy: QEMU 7 ends with Internal Error, whatever was wrong with a range",
        "the emulated device: the error has a status of its own (NVM Command Set 1.0, section 3.2.2)",
        lambda o: o.qemu < _QEMU_8 and _copies(o) and o.ours.status != 0 and o.theirs.status == 0x0006,
    ),
    Difference(
        "Copy: QEMU opens the destination before it looks at the write pointer, the capacity and the end: it runs out of "
        "resources for a write that cannot be, has an Invalid Zone State Transition for a full zone, and no Do Not Retry",
        "the emulated device: errors of a write come first, and a full zone is full (ZNS Command Set 1.1, section 3.3.2)",
        lambda o: (
            _copies(o)
            and o.ours.status in (0x4080, 0x41B8, 0x41B9, 0x41BC)
            and o.theirs.status in (0x01B8, 0x01B9, 0x01BC, 0x01BF, 0x41BD, 0x41BE)
        ),
    ),
    Difference(
        "Copy: QEMU has opened the destination, and closed another zone for it, by the time it refuses a source or the length",
        "both: zones are opened and closed by the controller as it likes; the emulated device leaves them as they were",
        lambda o: _copies(o) and o.zone is not None and o.ours.status in (0x4080, 0x4183, 0x41B8),
        later=True,
    ),
    Difference(
        "Dataset Management: QEMU skips a range that is beyond the end",
        "both: what is said of a range is a hint, and LBA Out of Range a status of every command with addresses",
        lambda o: o.command.opcode == _DSM and o.statuses == (0x4080, 0),
    ),
    Difference(
        "Dataset Management: QEMU keeps what was in deallocated blocks",
        "both: what they hold is up to the controller (NVM Command Set 1.0, section 3.2.3, deallocated blocks)",
        lambda o: o.command.opcode == _DSM and o.ours.status == 0,
        later=True,
    ),
    Difference(
        "Compare and Verify: QEMU lets them cross the boundary of a zone",
        "the emulated device: they are refused as a Read is (ZNS Command Set 1.1, sections 3.3.1 and 3.3.6)",
        lambda o: o.command.opcode in (_COMPARE, NvmOpcode.VERIFY) and o.ours.status == 0x41B8,
    ),
    Difference(
        "Open Zone with Select All: QEMU opens zones that it closes itself while it makes room, and so runs out of resources",
        "the emulated device: zones are opened that are closed when the command comes (ZNS Command Set 1.1, section 3.4.3)",
        lambda o: o.action == ZoneSendAction.OPEN and bool(o.command.cdw13 & _SELECT_ALL) and o.statuses == (0, 0x41BE),
    ),
    Difference(
        "Open Zone with Select All: QEMU has opened as many zones as it could by the time it refuses the rest",
        "the emulated device: all of them or none (ZNS Command Set 1.1, section 3.4.3)",
        lambda o: (
            o.action == ZoneSendAction.OPEN
            and bool(o.command.cdw13 & _SELECT_ALL)
            and o.ours.status in (0x41BD, 0x41BE)
        ),
        later=True,
    ),
    Difference(
        "Copy into a random write area: QEMU moves the write pointer by what was copied, as if there were no area",
        "the emulated device: the window moves as far as the blocks demand (Technical Proposal 4076)",
        lambda o: _copies(o) and o.ours.status == 0 and o.zone is not None and bool(o.zone.za & ZRWAV),
        later=True,
    ),
    Difference(
        "Open Zone with ZRWAA: QEMU gives a random write area to zones that are not empty",
        "the emulated device: Invalid Zone Operation Request (Technical Proposal 4076, Open Zone)",
        lambda o: o.action == ZoneSendAction.OPEN and _allocates(o) and o.ours.status == 0x41B6,
    ),
    Difference(
        "Open Zone with ZRWAA: QEMU looks for an area before it looks at a zone that is full",
        "both: the command has two errors",
        lambda o: o.action == ZoneSendAction.OPEN and _allocates(o) and o.statuses == (0x41BF, 0x41B7),
    ),
    Difference(
        "Open Zone with Select All and ZRWAA, where there are no areas: QEMU does not mind as long as no zone is closed",
        "both: there is no zone to give one to",
        lambda o: (
            o.action == ZoneSendAction.OPEN
            and o.command.cdw13 & (_SELECT_ALL | _ZRWAA) == _SELECT_ALL | _ZRWAA
            and not o.spec.zrwas
            and o.statuses == (0x41B6, 0)
        ),
    ),
    Difference(
        "Set Zone Descriptor Extension with ZRWAA: QEMU does not look at the bit",
        "the emulated device: an area is allocated, or there is none left (Technical Proposal 4076)",
        lambda o: o.action == _EXTEND and _allocates(o) and o.ours.status in (0x41B6, 0x41B7),
    ),
    Difference(
        "Set Zone Descriptor Extension with ZRWAA: QEMU does not look at the bit, and the zone has no area",
        "the emulated device: as above",
        lambda o: o.action == _EXTEND and _allocates(o) and o.ours.status == 0,
        later=True,
    ),
    Difference(
        "Set Zone Descriptor Extension: QEMU has stored the new one by the time it refuses a zone that is not empty",
        "the emulated device: a command that is aborted for its zone's state does nothing (ZNS Command Set 1.1, section 3.4.3)",
        lambda o: o.action == _EXTEND and o.ours.status == 0x41BF and o.zone is not None and bool(o.zone.za & _ZDEV),
        later=True,
    ),
    Difference(
        "Flush Explicit ZRWA Range: QEMU takes the window for a block longer, and dislikes the length of the range there",
        "the emulated device: Zone Boundary Error (Technical Proposal 4076)",
        lambda o: o.action == _FLUSH_AREA and o.statuses == (0x41B8, 0x4002),
    ),
    Difference(
        "Flush Explicit ZRWA Range: QEMU's window is as long as ever at the end of a zone, and a flush passes its capacity",
        "the emulated device: Zone Boundary Error (Technical Proposal 4076)",
        lambda o: o.action == _FLUSH_AREA and o.statuses == (0x41B8, 0),
    ),
)


COMMON = {
    ("READ", 0): {0, 0x4080},
    ("WRITE", 0): {0, 0x4080},
    ("WRITE_ZEROES", 0): {0, 0x4080},
    ("COMPARE", 0): {0, 0x4080, 0x4285},
    ("VERIFY", 0): {0, 0x4002, 0x4080},
    ("COPY", 0): {0, 0x4002, 0x4080, 0x4183},
    ("DATASET_MANAGEMENT", 0): {0, 0x4080},
    ("FLUSH", 0): {0},
    ("WRITE_UNCORRECTABLE", 0): {0},
    ("unknown", 0): {0x4001},
}
_CLOSE, _FINISH, _OPEN, _RESET, _OFFLINE = 1, 2, 3, 4, 5
ZONED = {
    **COMMON,
    ("READ", 0): {0, 0x4080, 0x41B8},
    ("WRITE", 0): {0, 0x4080, 0x41B8, 0x41B9, 0x41BC, 0x41BD},
    ("WRITE_ZEROES", 0): {0, 0x4080, 0x41B8, 0x41B9, 0x41BC, 0x41BD},
    ("ZONE_APPEND", 0): {0, 0x4002, 0x4080, 0x41B8, 0x41B9, 0x41BD, 0x41BE},
    ("COMPARE", 0): {0, 0x4080, 0x41B8, 0x4285},
    ("VERIFY", 0): {0, 0x4002, 0x41B8},
    ("COPY", 0): {0, 0x4002, 0x4080, 0x4183, 0x41B8, 0x41B9, 0x41BC, 0x41BD},
    ("ZONE_MANAGEMENT_SEND", _CLOSE): {0, 0x4002, 0x41BF},
    ("ZONE_MANAGEMENT_SEND", _FINISH): {0},
    ("ZONE_MANAGEMENT_SEND", _OPEN): {0, 0x4002, 0x41BD, 0x41BE, 0x41BF},
    ("ZONE_MANAGEMENT_SEND", _RESET): {0, 0x4002},
    ("ZONE_MANAGEMENT_SEND", _OFFLINE): {0x41BF},
    **{("ZONE_MANAGEMENT_SEND", _SELECT_ALL | action): {0} for action in (_CLOSE, _FINISH, _OPEN, _RESET, _OFFLINE)},
    ("ZONE_MANAGEMENT_SEND", 0xFF): {0x4002},
    ("ZONE_MANAGEMENT_RECEIVE", 0): {0, 0x4002, 0x4080},
    ("ZONE_MANAGEMENT_RECEIVE", 0xFF): {0x4002},
}
WITHOUT_AREAS = {
    **ZONED,
    ("ZONE_MANAGEMENT_SEND", _EXTEND): {0x4002},
    ("ZONE_MANAGEMENT_SEND", _FLUSH_AREA): {0x41B6},
    ("ZONE_MANAGEMENT_RECEIVE", 1): {0x4002},
}
WITH_AREAS = {
    **ZONED,
    ("WRITE_ZEROES", 0): ZONED["WRITE_ZEROES", 0] | {0x41BE},
    ("ZONE_APPEND", 0): ZONED["ZONE_APPEND", 0] | {0x41B6},
    ("ZONE_MANAGEMENT_SEND", _OPEN): ZONED["ZONE_MANAGEMENT_SEND", _OPEN] | {0x41B6, 0x41B7},
    ("ZONE_MANAGEMENT_SEND", _SELECT_ALL | _OPEN): {0, 0x41BE},
    ("ZONE_MANAGEMENT_SEND", _EXTEND): {0, 0x41BD, 0x41BF},
    ("ZONE_MANAGEMENT_SEND", _FLUSH_AREA): {0, 0x4002, 0x41B8},
    ("ZONE_MANAGEMENT_RECEIVE", 1): {0, 0x4002},
}
"""What must have been among the commands, by opcode and action (Select All is 100h), and how the emulated device must have ended
it: a generator that has become weak shows here."""


@contextmanager
def twins_of(nsid: int) -> Iterator[tuple[Twins, asyncio.Runner]]:
    """A namespace of the guest's with its twin, and the loop on which it was opened."""

    async def opened() -> Twins:
        namespace = await ns.__aenter__()
        return Twins(namespace, await namespace.report_zones() if namespace.zoned else None, DIFFERENCES)

    ns = aionvme.open(node(nsid), queue="interrupt")
    with asyncio.Runner() as runner:
        twins = runner.run(opened())
        try:
            yield twins, runner
        finally:
            twins.close()
            runner.run(ns.__aexit__(None, None, None))


async def play(twins: Twins, sequence: list[int]) -> None:
    """A sequence from the same state on both, and then all zones, and some of the data."""
    await twins.start()
    for place, number in enumerate(sequence, start=1):
        await twins.run(step(twins, number))
        if place % 50 == 0:
            await twins.check_zones()
    await twins.check_zones()
    await twins.check_data(number % max(1, twins.spec.zones) for number in sequence[:3])


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("nsid", "sequences", "wanted"),
    [(1, 7, COMMON), (3, 7, COMMON), (2, 18, WITHOUT_AREAS), (8, 20, WITH_AREAS)],
    ids=["512", "4096", "zones", "random-write-areas"],
)
def test_sequences(nsid: int, sequences: int, wanted: dict[tuple[str, int], set[int]]) -> None:
    """Twenty thousand commands in long sequences, which the four share."""
    first = SEED or 1
    last = first + (SEQUENCES or sequences)
    unexplained = []
    with twins_of(nsid) as (twins, runner):
        for which in range(first, last):
            try:
                runner.run(play(twins, numbers(which, LENGTH)))
            except DisagreementError as disagreement:
                unexplained.append(f"sequence {which}:\n{disagreement}")
                print(unexplained[-1])
    n = sum(twins.counts.values())
    print(f"\n{n} commands on namespace {nsid} and its twin, QEMU {twins.qemu}")
    for what, count in twins.met.most_common():
        print(f"{count:6} {what}")
    assert not unexplained, "\n\n".join(unexplained)
    assert n >= (last - first) * LENGTH
    if not SEQUENCES:
        seen = {(name, action, status) for name, action, status in twins.counts}
        missing = {(*key, status) for key, statuses in wanted.items() for status in statuses} - seen
        assert not missing, f"the sequences are not what they were: no {missing}"


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("nsid", "examples"), [(1, 12), (2, 25), (8, 25)])
def test_short_sequences(nsid: int, examples: int) -> None:
    """A few commands at a time, of which hypothesis finds the fewest that show a disagreement."""
    with twins_of(nsid) as (twins, runner):

        @seed(SEED)
        @settings(
            max_examples=examples * max(1, SEQUENCES),
            derandomize=not SEED,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        @given(st.lists(st.binary(min_size=NUMBER_BYTES, max_size=NUMBER_BYTES), min_size=1, max_size=40))
        def same(sequence: list[bytes]) -> None:
            runner.run(play(twins, [int.from_bytes(number, "little") for number in sequence]))

        same()
        assert sum(twins.counts.values()) >= examples
