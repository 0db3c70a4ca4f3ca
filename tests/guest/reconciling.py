"""After a known difference: what it left unlike in the twins is what it may have, no more, and is made equal again.

Zones that are unlike are reset. Blocks get zeroes, on a conventional namespace; those of a Dataset Management are given to
the emulated namespace as QEMU has them.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from aionvme.nvme import nvm, zoned
from aionvme.nvme.opcodes import NvmOpcode, ZoneSendAction

from .outcome import DisagreementError, Leaves, Outcome, Step, touched

if TYPE_CHECKING:
    from .twins import Twins

NLB_MAX = 65536
Pieces = list[tuple[int, bytes]]
"""Blocks as the emulated namespace has them: where they start, and what they hold."""
_HEADER, _DESCRIPTOR = 64, 64
_FIELDS = {"zs": slice(1, 2), "za": slice(2, 3), "wp": slice(24, 32), "extension": slice(_DESCRIPTOR, None)}
"""Where in an entry of a report each field is."""


def held(twins: "Twins", step: Step) -> Pieces:
    """What the blocks hold that a Dataset Management names, which it must keep, or deallocate; nothing of other commands."""
    if step.command.opcode != NvmOpcode.DATASET_MANAGEMENT:
        return []
    return [(slba, twins.mine(slba, nlb)) for slba, nlb in _pieces(twins, touched(step))]


async def reconcile(twins: "Twins", outcome: Outcome, step: Step, before: Pieces, leaves: list[Leaves]) -> bool:
    """Make the two equal, and tell whether anything was unlike; DisagreementError where more was than ``leaves`` say.

    ``before`` is what `held` gave before the command.
    """
    own, others = (
        frozenset().union(*fields) for fields in zip(*((each.own, each.others) for each in leaves), strict=True)
    )
    blocks = any(each.blocks for each in leaves)
    unlike = False
    if twins.zones is not None:
        unlike = await _zones(twins, outcome, step, own, others)
        if outcome.zone is not None and any(each.hidden for each in leaves):
            await _reset(twins, outcome.zone.number)
    elif blocks and not before:
        await _zero(twins, step)
    if blocks:
        for slba, data in before:
            unlike |= await _deallocated(twins, slba, data)
    return unlike


async def compare_zones(
    twins: "Twins", named: int | None = None, own: frozenset[str] = frozenset(), others: frozenset[str] = frozenset()
) -> list[int]:
    """The zones that are unlike, in fields in which the one ``named`` and ``others`` may be."""
    mine, theirs = (report[_HEADER:].reshape(-1, _DESCRIPTOR + twins.spec.zdes) for report in await twins.reports())
    unlike: list[int] = np.flatnonzero((mine != theirs).any(axis=1)).tolist()
    for number in unlike:
        entries = mine[number].copy(), theirs[number].copy()
        for field in others | own if number == named else others:
            for entry in entries:
                entry[_FIELDS[field]] = 0
        if not np.array_equal(*entries):
            rows = mine[number].tobytes().hex(" ", 8), theirs[number].tobytes().hex(" ", 8)
            raise DisagreementError(f"{twins.history()}\nthen zone {number} is\n{rows[0]}, QEMU\n{rows[1]}")
    return unlike


def _pieces(twins: "Twins", extents: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Blocks in pieces that one Read may ask for."""
    most = (256 << 10) // twins.lba
    for slba, nlb in extents:
        end = min(slba + nlb, twins.nsze)
        while slba < end:
            edge = end if twins.zones is None else (slba // twins.zones.zsze + 1) * twins.zones.zsze
            part = min(most, end - slba, edge - slba)
            yield slba, part
            slba += part


async def _zones(twins: "Twins", outcome: Outcome, step: Step, own: frozenset[str], others: frozenset[str]) -> bool:
    named = outcome.zone.number if outcome.zone is not None else None
    unlike = await compare_zones(twins, named, own, others)
    if named in unlike and not any(outcome.statuses):
        for slba, nlb in _pieces(twins, touched(step)):
            if twins.mine(slba, nlb) != await twins.theirs(slba, nlb):
                raise DisagreementError(f"{twins.history()}\nthen blocks are other ones: {nlb} at {slba:#x}")
    for number in unlike:
        await _reset(twins, number)
    return bool(unlike)


async def _reset(twins: "Twins", number: int) -> None:
    assert twins.zones is not None
    await twins.both(Step(zoned.zone_management_send(ZoneSendAction.RESET, number * twins.zones.zsze)))


async def _zero(twins: "Twins", step: Step) -> None:
    for slba, nlb in touched(step):
        end = min(slba + nlb, twins.nsze)
        for at in range(slba, end, NLB_MAX):
            await twins.both(Step(nvm.write_zeroes(at, min(NLB_MAX, end - at))))


async def _deallocated(twins: "Twins", slba: int, before: bytes) -> bool:
    """Each block is as it was before, or zeroes."""
    nlb = len(before) // twins.lba
    mine, theirs = twins.mine(slba, nlb), await twins.theirs(slba, nlb)
    was = np.frombuffer(before, np.uint8).reshape(nlb, -1)
    for blocks in (mine, theirs):
        now = np.frombuffer(blocks, np.uint8).reshape(nlb, -1)
        if not ((now == was).all(axis=1) | ~now.any(axis=1)).all():
            raise DisagreementError(
                f"{twins.history()}\nthen blocks are neither zeroes nor as before: {nlb} at {slba:#x}"
            )
    if mine == theirs:
        return False
    twins.device.namespace.image.write_blocks(slba, memoryview(theirs))
    return True
