"""A frame: what one append puts into a zone, so that it can be told from the zone alone what it is and whether it is whole.

::

    0   8s  magic
    8   u64 sequence: the record's number
    16  u64 offset: where in the record the payload belongs
    24  u64 total: bytes of the record
    32  u32 length of the payload
    36  u32 how often it was moved
    40  u32 CRC-32 of the 40 bytes above and the payload
    44      payload, then zeroes up to a whole block

All little-endian. Frames begin at a block, and a payload never does: data that looks like a frame is not taken for one.
"""

import zlib
from struct import Struct
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_HEADER = Struct("<8sQQQII")
_CRC = Struct("<I")
_MAGIC = b"aionvlog"

HEADER_LEN_BYTES = _HEADER.size + _CRC.size
assert HEADER_LEN_BYTES == 44


class Frame(NamedTuple):
    """A part of a record: ``payload`` belongs at ``offset`` of the ``total`` bytes of record number ``sequence``.

    ``moves`` tells a copy from what it was copied from.
    """

    sequence: int
    offset: int
    total: int
    moves: int
    payload: memoryview


def frame_blocks(payload_len_bytes: int, lba_size: int) -> int:
    """How many blocks the frame of such a payload takes."""
    return -(-(HEADER_LEN_BYTES + payload_len_bytes) // lba_size)


def encode_frame(frame: Frame, lba_size: int) -> NDArray[np.uint8]:
    """The blocks of a frame."""
    header = _HEADER.pack(_MAGIC, frame.sequence, frame.offset, frame.total, len(frame.payload), frame.moves)
    crc = zlib.crc32(frame.payload, zlib.crc32(header))
    blocks = np.zeros(frame_blocks(len(frame.payload), lba_size) * lba_size, np.uint8)
    view = blocks.data
    view[:HEADER_LEN_BYTES] = header + _CRC.pack(crc)
    view[HEADER_LEN_BYTES : HEADER_LEN_BYTES + len(frame.payload)] = frame.payload
    return blocks


def payload_len(blocks: memoryview) -> int | None:
    """Length of the payload of what claims to be a frame at the start of some blocks, None where nothing does."""
    if len(blocks) < HEADER_LEN_BYTES:
        return None
    magic, _, offset, total, length, _ = _HEADER.unpack_from(blocks)
    return length if magic == _MAGIC and offset + length <= total else None


def decode_frame(blocks: memoryview) -> Frame | None:
    """The frame at the start of some blocks, None where there is none, or a damaged one, or not all of it."""
    length = payload_len(blocks)
    if length is None or HEADER_LEN_BYTES + length > len(blocks):
        return None
    _, sequence, offset, total, _, moves = _HEADER.unpack_from(blocks)
    payload = blocks[HEADER_LEN_BYTES : HEADER_LEN_BYTES + length]
    (crc,) = _CRC.unpack_from(blocks, _HEADER.size)
    if zlib.crc32(payload, zlib.crc32(blocks[: _HEADER.size])) != crc:
        return None
    return Frame(sequence, offset, total, moves, payload)
