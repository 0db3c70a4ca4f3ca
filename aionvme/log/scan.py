"""Finding frames in a zone that nobody kept a record of."""

from typing import NamedTuple

import numpy as np

from aionvme.log.frame import decode_frame, frame_blocks, payload_len
from aionvme.log.space import Extent
from aionvme.namespace import Namespace
from aionvme.zones.zone import Zone

WINDOW_BYTES = 1 << 20
"""How much of a zone is read at a time."""


class Found(NamedTuple):
    """A frame that is whole: part of which record, and where it is."""

    sequence: int
    offset: int
    total: int
    moves: int
    len_bytes: int
    lba: int
    nlb: int


async def scan(ns: Namespace, zone: Zone) -> tuple[list[Found], int]:
    """The frames of a zone in their order on it, and how many blocks below its write pointer belong to none, but for zeroes."""
    found: list[Found] = []
    damaged = 0
    lba, end = zone.zslba, zone.zslba + zone.written
    least = 1
    while lba < end:
        nlb = min(max(WINDOW_BYTES // ns.lba_size, least), end - lba)
        window = (await ns.read(lba, nlb)).data
        at = 0
        least = 1
        while at < nlb:
            blocks = window[at * ns.lba_size :]
            length = payload_len(blocks)
            needed = 1 if length is None else frame_blocks(length, ns.lba_size)
            if at + needed > nlb and lba + at + needed <= end:
                least = needed
                break
            frame = decode_frame(blocks)
            if frame is None:
                damaged += int(np.frombuffer(blocks[: ns.lba_size], np.uint8).any())
                at += 1
                continue
            found.append(Found(*frame[:4], len(frame.payload), lba + at, needed))
            at += needed
        lba += at
    return found, damaged


def whole(found: list[Found]) -> tuple[Extent, ...] | None:
    """The frames that make up a record, None where some are missing.

    There may be several of one part, where the process ended while it was moved. The copy counts, because the room that is kept
    for reclaiming was reckoned for what has not been copied yet. It may be in pieces, some of which are missing.
    """
    at: dict[int, Found] = {}
    """From where on the rest of the record is there, and with which frame that begins."""
    total = found[0].total
    for frame in sorted(found, key=lambda frame: (-frame.offset, frame.moves)):
        end = frame.offset + frame.len_bytes
        if end == total or (frame.len_bytes and end in at):
            at[frame.offset] = frame
    extents: list[Extent] = []
    offset = 0
    while offset < total or not extents:
        part = at.get(offset)
        if part is None:
            return None
        extents.append(Extent(part.lba, part.nlb, part.offset, part.len_bytes))
        offset += part.len_bytes
    return tuple(extents)
