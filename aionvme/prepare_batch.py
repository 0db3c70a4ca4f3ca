"""From arrays of commands and their buffer to what a queue takes at once: what :mod:`aionvme.prepare` does for one command.

Nothing here loops over commands in Python, unless they are of a kind whose length only a function knows.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from aionvme.buffers import NOTHING, Buffer, BufferPool, Span, is_masked
from aionvme.errors import UsageError
from aionvme.geometry import Geometry
from aionvme.nvme import nvm
from aionvme.nvme.command import (
    ADDR_OFFSET,
    CDW10_OFFSET,
    CDW12_OFFSET,
    CDW14_OFFSET,
    DATA_LEN_OFFSET,
    METADATA_LEN_OFFSET,
    METADATA_OFFSET,
    NVME_URING_CMD_DTYPE,
    Command,
    DataPointers,
    encode,
)
from aionvme.nvme.opcodes import NvmOpcode
from aionvme.nvme.protection import PRACT
from aionvme.nvme.transfer import MOVES_BLOCKS, Direction, direction
from aionvme.prepare import check_passable, describe, refuse_writing
from aionvme.protecting import beside_blocks, by_the_controller
from aionvme.queues.batch import Batch, Column

COMMAND = np.dtype(
    [
        ("opcode", "u1"),
        *((f"cdw{i}", "<u4") for i in (2, 3, 10, 11, 12, 13, 14, 15)),
        ("timeout_ms", "<u4"),
        ("offset", "<u8"),
        ("data_len", "<u4"),
    ]
)
"""A command of an array: its fields as in :class:`~aionvme.Command`, and where in the buffer its data is, in bytes."""

DATA_LEN_MAX = (1 << 32) - 1
"""What the field data_len can say."""


def blocks_batch(
    opcode: NvmOpcode,
    slba: ArrayLike,
    nlb: ArrayLike,
    span: Span,
    geometry: Geometry,
    pool: BufferPool,
    metadata: Buffer | None = None,
) -> Batch:
    """Reads, writes or appends of ``nlb`` blocks each, whose data is one after the other in the buffer, as is their metadata."""
    refuse_writing(Command(opcode), geometry, f"an array of {opcode.name}")
    first = unsigned("slba", slba)
    n = first.size
    # A plain number stays one: as an array it would cost as much as a dozen commands.
    counts = np.uint64(nlb) if type(nlb) is int and 0 <= nlb <= nvm.NLB_MAX else unsigned("nlb", nlb)
    if first.ndim != 1 or counts.shape not in ((), first.shape):
        raise UsageError(
            f"slba of shape {first.shape} and nlb of shape {counts.shape}: a list, and a number or as many"
        )
    if counts.ndim == 0 or not n:
        least = most = int(counts) if n else 1
    else:
        least, most = int(counts.min()), int(counts.max())
    block_bytes = geometry.block_bytes
    limit_bytes = geometry.max_append_bytes if opcode == NvmOpcode.ZONE_APPEND else geometry.max_transfer_bytes
    limit = min(limit_bytes // block_bytes, nvm.NLB_MAX, DATA_LEN_MAX // block_bytes)
    if least < 1 or most > limit:
        raise UsageError(f"nlb from {least} to {most}: one command takes 1 to {limit} blocks")
    # No sum below overflows: the first of these bounds every LBA, the second is only reached where that holds.
    nsze = geometry.namespace.nsze
    last = int(first.max()) if n else 0
    # With one length for all the last block is that of the highest command.
    if (
        n
        and (last >= nsze or last + most > nsze)
        and (counts.ndim == 0 or last >= nsze or (first + counts).max() > nsze)
    ):
        raise UsageError(f"blocks beyond the end: the namespace has {nsze:#x}, counted from 0")
    columns = [Column(CDW10_OFFSET, first)]  # SLBA: dwords 10 and 11
    lengths: NDArray[np.uint64] | np.uint64
    if counts.ndim == 0:
        len_bytes = most * block_bytes
        total = len_bytes * n
        template = _template(opcode, geometry, most, len_bytes)
        lengths = np.uint64(len_bytes)
        addr = np.arange(span.addr, span.addr + total, len_bytes, dtype=np.uint64)
    else:
        template = _template(opcode, geometry, 1, 0)
        lengths = counts * np.uint64(block_bytes)
        ends = np.cumsum(lengths)
        total = int(ends[-1]) if n else 0
        addr = np.uint64(span.addr) + ends - lengths
        columns += [
            Column(CDW12_OFFSET, (counts - np.uint64(1)).astype(np.uint32) | _flags(template)),
            Column(DATA_LEN_OFFSET, (counts * np.uint64(block_bytes)).astype(np.uint32)),
        ]
    if span.len_bytes != total:
        raise UsageError(f"a buffer of {span.len_bytes} bytes, and the commands take exactly {total}")
    columns.append(Column(ADDR_OFFSET, addr))
    beside = NOTHING
    if geometry.namespace.ms or metadata is not None:
        beside = beside_blocks(total // block_bytes, geometry, metadata, reads=opcode == NvmOpcode.READ)
        check_passable(opcode.name, beside, geometry)
    if beside.len_bytes:
        ms = np.uint64(geometry.namespace.ms)
        before = (addr - np.uint64(span.addr)) // np.uint64(block_bytes)  # blocks of the commands before it
        columns += [
            Column(METADATA_OFFSET, np.uint64(beside.addr) + before * ms),
            Column(METADATA_LEN_OFFSET, np.broadcast_to((counts * ms).astype(np.uint32), n)),
        ]
    if geometry.protection is not None and geometry.protection.counts:
        columns.append(
            Column(CDW14_OFFSET, first.astype(np.uint32))
        )  # the low half of the address is the first reference tag
    return Batch(n, template, columns, buf_index=pool.buf_indices(addr, lengths, span), keep=(span.owner, beside.owner))


def _template(opcode: NvmOpcode, geometry: Geometry, nlb: int, len_bytes: int) -> bytes:
    """What reads, writes or appends of one length have in common."""
    if geometry.protection is None:
        return _plain_template(opcode, geometry.nsid, nlb, len_bytes)
    command = by_the_controller(Command(opcode, cdw12=nvm.wire_nlb(nlb)), geometry)
    return encode(command, geometry.nsid, DataPointers(0, len_bytes))


@lru_cache
def _plain_template(opcode: NvmOpcode, nsid: int, nlb: int, len_bytes: int) -> bytes:
    return encode(Command(opcode, cdw12=nvm.wire_nlb(nlb)), nsid, DataPointers(0, len_bytes))


def _flags(template: bytes) -> np.uint32:
    """What dword 12 of a template has above its nlb."""
    return np.uint32(int.from_bytes(template[CDW12_OFFSET : CDW12_OFFSET + 4], "little") & 0xFFFF_0000)


def rows_of(commands: Sequence[Command], geometry: Geometry) -> NDArray[np.void]:
    """Commands as an array, their data one after the other. Raises UsageError where the length of one is not known."""
    rows = np.zeros(len(commands), COMMAND)
    for i, command in enumerate(commands):
        if command.nsid not in (None, geometry.nsid):
            raise UsageError(f"nsid = {command.nsid}: the commands of an array go to this namespace, {geometry.nsid}")
        needed = geometry.data_len(command)
        if needed is None:
            raise UsageError(
                f"{describe(command)}: how much data it moves is not known; say so in an array of aionvme.COMMAND"
            )
        if needed > DATA_LEN_MAX:
            raise UsageError(f"{describe(command)}: it moves {needed} bytes, more than any command can")
        dwords = (command.cdw10, command.cdw11, command.cdw12, command.cdw13, command.cdw14, command.cdw15)
        rows[i] = (command.opcode, command.cdw2, command.cdw3, *dwords, command.timeout_ms, 0, needed)
    rows["offset"] = np.cumsum(rows["data_len"], dtype=np.uint64) - rows["data_len"]
    return rows


def rows_batch(rows: NDArray[np.void], span: Span, geometry: Geometry, pool: BufferPool) -> Batch:
    """The commands of an array of :data:`COMMAND`, each checked against what it moves and against the buffer."""
    offset, data_len = rows["offset"], rows["data_len"].astype(np.uint64)
    for code in np.unique(rows["opcode"]):
        mask = rows["opcode"] == code
        # Dwords of all of them together: whether one deallocates, resets, or selects all zones.
        together = {name: int(np.bitwise_or.reduce(rows[name][mask])) for name in ("cdw11", "cdw13")}
        refuse_writing(Command(int(code), **together), geometry, f"an array with opcode {code:#04x}")
        _check_lengths(int(code), rows[mask], geometry)
    if (offset > span.len_bytes).any() or (data_len > span.len_bytes - np.minimum(offset, span.len_bytes)).any():
        raise UsageError(f"a command's data ends beyond the buffer of {span.len_bytes} bytes")
    entries = np.zeros(len(rows), NVME_URING_CMD_DTYPE)
    for name in COMMAND.names or ():
        if name != "offset":
            entries[name] = rows[name]
    entries["nsid"] = geometry.nsid
    entries["addr"] = np.where(data_len > 0, span.addr + offset, 0)
    columns = [Column(place, entries[name]) for name, (_, place, *_) in (NVME_URING_CMD_DTYPE.fields or {}).items()]
    buf_index = pool.buf_indices(entries["addr"], data_len, span) if data_len.all() else -1
    return Batch(len(rows), bytes(NVME_URING_CMD_DTYPE.itemsize), columns, buf_index=buf_index, keep=span.owner)


def _check_lengths(opcode: int, rows: NDArray[np.void], geometry: Geometry) -> None:
    data_len = rows["data_len"]
    needed: Any
    if opcode in MOVES_BLOCKS:
        pract = (rows["cdw12"] & PRACT != 0) & (opcode != NvmOpcode.COMPARE)
        block_bytes = np.where(pract, geometry.block_bytes, geometry.stored_bytes).astype(np.uint64)
        needed = ((rows["cdw12"] & 0xFFFF).astype(np.uint64) + 1) * block_bytes
        refuse_metadata(geometry, made=bool(pract.all()))
    elif direction(opcode) is Direction.NONE:
        needed = np.uint64(0)
    else:
        lengths = [geometry.data_len(Command(opcode, None, *row.tolist()[1:10])) for row in rows]
        needed = np.array(
            [own if known is None else known for own, known in zip(data_len, lengths, strict=True)], np.uint64
        )
    wrong = data_len != needed
    if wrong.any():
        i = int(np.argmax(wrong))
        moved = np.broadcast_to(needed, data_len.shape)[i]
        what = describe(Command(opcode, None, *rows[i].tolist()[1:10]))
        raise UsageError(f"{what}: the command moves {moved} bytes, and its data_len is {data_len[i]}")
    limit = geometry.max_append_bytes if opcode == NvmOpcode.ZONE_APPEND else geometry.max_transfer_bytes
    if data_len.max() > limit:
        raise UsageError(f"{describe(Command(opcode))}: {data_len.max()} bytes, and one command takes at most {limit}")


def refuse_metadata(geometry: Geometry, *, made: bool = True) -> None:
    """Raise UsageError where commands on blocks move metadata in a buffer of its own: always, unless it is ``made`` by the
    controller (PRACT) and nothing but protection information."""
    form = geometry.protection
    if geometry.separate_metadata and not (made and form is not None and form.all_of_it):
        raise UsageError(
            f"the namespace keeps {geometry.namespace.ms} bytes of metadata for each block in a buffer of its own, and there is "
            "none here: read(), read_many(), submit() and the like take metadata="
        )


def refuse_masked(name: str, values: object) -> None:
    """Raise UsageError where some commands of an array would be masked, and carried out all the same."""
    if is_masked(values):
        raise UsageError(
            f"{name} is a masked array: pass its .compressed() for what is not masked, .filled() or .data for all of it"
        )


def unsigned(name: str, values: ArrayLike) -> NDArray[np.uint64]:
    """An array of integers from 0 to 2**64 - 1, contiguous and ours. Raises UsageError where one is something else."""
    refuse_masked(name, values)
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise UsageError(f"{name} is no array of integers: {error}") from None
    if array.size == 0:
        return np.zeros(array.shape, np.uint64)
    if array.dtype.kind not in "ui":
        raise UsageError(f"{name} is an array of {array.dtype}: it takes integers from 0 to 2**64 - 1")
    if array.dtype.kind == "i" and int(array.min()) < 0:
        raise UsageError(f"{name} has {int(array.min())}: it takes integers from 0 to 2**64 - 1")
    return array.astype(np.uint64)
