"""From a command and its buffers to what a queue takes: the last place where bad input is refused.

A controller moves as much data as the command says, whatever the buffer holds. So the two are compared here, for every command
whose length is known, and nothing that does not fit goes further.
"""

from aionvme.buffers import NOTHING, Buffer, BufferPool, Span, span_of
from aionvme.driver.request import Submission
from aionvme.errors import UsageError
from aionvme.geometry import Geometry
from aionvme.nvme.command import Command, DataPointers, encode, normalized
from aionvme.nvme.effects import destroys_much, only_reads
from aionvme.nvme.opcodes import AdminOpcode, NvmOpcode, ZoneReceiveAction, ZoneSendAction
from aionvme.nvme.transfer import Direction, admin_data_len, blocks_of, direction
from aionvme.queues.attach import SEGMENTS
from aionvme.vectored import Data, Memory, check_pieces, memory_of, pointers_of

_ZONE_ACTIONS: dict[int, dict[int, str]] = {
    NvmOpcode.ZONE_MANAGEMENT_SEND: {action.value: action.name for action in ZoneSendAction},
    NvmOpcode.ZONE_MANAGEMENT_RECEIVE: {action.value: action.name for action in ZoneReceiveAction},
}


def describe(command: Command, *, admin: bool = False) -> str:
    """A command in words, for messages: ``READ of 8 blocks at LBA 0x100``."""
    names = {opcode.value: opcode.name for opcode in (AdminOpcode if admin else NvmOpcode)}
    name = names.get(command.opcode, f"opcode {command.opcode:#04x}")
    blocks = None if admin else blocks_of(command)
    if blocks is not None:
        return f"{name} of {blocks} block{'s' * (blocks > 1)} at LBA {command.slba:#x}"
    if not admin and command.opcode in _ZONE_ACTIONS:
        code = command.cdw13 & 0xFF
        action = _ZONE_ACTIONS[command.opcode].get(code, f"action {code:#04x}")
        return f"{name} ({action}) at LBA {command.slba:#x}"
    return name


def plain(command: Command) -> Command:
    """A command from outside, with each field checked and made a plain integer. Raises UsageError naming the one that is not."""
    try:
        return normalized(command)
    except ValueError as error:
        raise UsageError(str(error)) from None


def buffer_of(command: Command, data: Data | None, into: Data | None, *, admin: bool = False) -> Memory:
    """The memory of a command, checked against the direction its opcode allows."""
    way = direction(command.opcode)
    if data is not None and into is not None:
        raise UsageError("a command has one buffer: pass data= to send or into= to receive")
    if data is not None:
        if not way & Direction.HOST_TO_CONTROLLER:
            raise UsageError(
                f"{describe(command, admin=admin)} sends no data (opcode bits 1:0): pass into=, or nothing"
            )
        return memory_of(data, writable=bool(way & Direction.CONTROLLER_TO_HOST))
    if into is not None:
        if not way & Direction.CONTROLLER_TO_HOST:
            raise UsageError(
                f"{describe(command, admin=admin)} receives no data (opcode bits 1:0): pass data=, or nothing"
            )
        return memory_of(into, writable=True)
    return NOTHING


def metadata_of(command: Command, metadata: Buffer | None) -> Span:
    """The memory of a command's metadata, which goes the way of its data."""
    if metadata is None:
        return NOTHING
    return span_of(metadata, writable=bool(direction(command.opcode) & Direction.CONTROLLER_TO_HOST))


def refuse_writing(command: Command, geometry: Geometry, what: str = "") -> None:
    """Raise ReadOnlyError or NamespaceInUseError where an I/O command may change something, and nothing may be changed.

    ``what`` is the command in words, where :func:`describe` would not do.
    """
    if only_reads(command.opcode):
        return
    if geometry.guard.why_not is not None:
        raise geometry.guard.error(what or describe(command))
    if destroys_much(command):
        geometry.guard.look_again(what or describe(command))


def prepare_io(
    command: Command, span: Memory, geometry: Geometry, pool: BufferPool, metadata: Span = NOTHING
) -> Submission:
    """An I/O command ready for its queue. Raises UsageError where command and buffers do not agree, or it is refused.

    Without its metadata no command leaves that has any: the controller would move it to or from address 0.
    """
    refuse_writing(command, geometry)
    needed = geometry.data_len(command)
    if needed is not None and span.len_bytes != needed:
        raise UsageError(_disagreement(describe(command), needed, span))
    limit = geometry.max_append_bytes if command.opcode == NvmOpcode.ZONE_APPEND else geometry.max_transfer_bytes
    if not isinstance(span, Span):
        limit = min(limit, geometry.max_vectored_bytes)
    if span.len_bytes > limit:
        raise UsageError(f"{describe(command)}: {span.len_bytes} bytes, and one command takes at most {limit}")
    if metadata.len_bytes or geometry.separate_metadata:
        _check_metadata(command, metadata, geometry)
    buf_index = pool.buf_index(span.addr, span.len_bytes) if isinstance(span, Span) and span.len_bytes else -1
    return _pack(command, span, geometry.nsid, buf_index, geometry.segments, metadata)


def _check_metadata(command: Command, metadata: Span, geometry: Geometry) -> None:
    needed = geometry.metadata_len(command)
    if needed is not None and metadata.len_bytes != needed:
        beside = f"metadata= holds {metadata.len_bytes}" if metadata.len_bytes else "metadata= was not passed"
        raise UsageError(
            f"{describe(command)}: the command moves {needed} bytes of metadata beside its data, and {beside}"
        )
    check_passable(describe(command), metadata, geometry)


def check_appended(memory: Memory, geometry: Geometry, protected: bool) -> None:
    """Raise UsageError where whole blocks are more than one append takes, to which the host adds protection information if they
    are ``protected``."""
    len_bytes, limit, whose = memory.len_bytes, geometry.max_append_bytes, "ZASL, a zone or 65536 blocks"
    if protected:
        # In one piece, and with all that the format interleaves.
        len_bytes = geometry.blocks_in(len_bytes) * geometry.stored_bytes
    elif not isinstance(memory, Span):
        check_pieces(memory)
        if geometry.max_vectored_bytes < limit:
            limit, whose = (
                geometry.max_vectored_bytes,
                "as many segments as the device takes, of data in several pieces",
            )
    if len_bytes > limit:
        raise UsageError(
            f"{len_bytes} bytes to append: one command takes at most {limit} ({whose}), and an append is not split because its "
            "parts need not stay together"
        )


def check_passable(what: str, metadata: Span, geometry: Geometry) -> None:
    """Raise UsageError where a command has metadata, and the kernel passes none to this namespace."""
    if metadata.len_bytes and geometry.no_metadata:
        raise UsageError(f"{what}: its metadata cannot be passed: {geometry.no_metadata}")


def prepare_admin(command: Command, span: Memory) -> Submission:
    """An admin command ready for its queue. Raises UsageError where command and buffer do not agree."""
    needed = admin_data_len(command)
    if needed is not None and span.len_bytes != needed:
        raise UsageError(_disagreement(describe(command, admin=True), needed, span))
    return _pack(command, span, 0, -1, SEGMENTS)


def _disagreement(what: str, needed: int, span: Memory) -> str:
    return f"{what}: the command moves {needed} bytes, and its buffer holds {span.len_bytes}"


def _pack(
    command: Command, span: Memory, nsid: int, buf_index: int, segments: int | None, metadata: Span = NOTHING
) -> Submission:
    addr, iovecs, keep = (span.addr, 0, span.owner) if isinstance(span, Span) else pointers_of(span, segments)
    if metadata.len_bytes:
        keep = (keep, metadata.owner)
    try:
        entry = encode(
            command, nsid, DataPointers(addr, span.len_bytes, metadata.addr, metadata.len_bytes, iovecs=iovecs)
        )
    except ValueError as error:
        raise UsageError(str(error)) from None
    return Submission(entry, buf_index, keep)
