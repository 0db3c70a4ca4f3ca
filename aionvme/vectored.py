"""Data in several pieces of memory, which one command moves one after the other: the vectored passthrough of Linux.

What the kernel makes of the pieces depends on where they are (block/blk-map.c). A controller that takes addresses of pages alone
(PRPs) reaches them where they are if all but the first begin on a page and all but the last end on one, and one that takes SGLs
from Linux 6.18 on if all are aligned to 4 bytes. Otherwise the kernel copies them to or from pages of its own. It does not copy
because there are more pieces than the device has segments: such a command fails with EINVAL. So that one is never made;
see :func:`pointers_of`.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from aionvme._core import ffi
from aionvme.buffers import NOTHING, Buffer, Span, span_of
from aionvme.errors import UsageError
from aionvme.queues.raw import PAGE_SIZE

Data = Buffer | Sequence[Buffer]
"""Contiguous memory, or a list or tuple of pieces of it, of any lengths."""

PIECES_MAX = 1023
"""Most pieces of one command: Linux takes 1024 (UIO_MAXIOV), and one of ours may become two."""


class Vector(NamedTuple):
    """At least two pieces of memory, none of them empty."""

    parts: tuple[Span, ...]
    len_bytes: int


Memory = Span | Vector


def memory_of(data: Data, *, writable: bool) -> Memory:
    """Where data is. Raises UsageError where a piece cannot be handed to a device."""
    if not isinstance(data, (list, tuple)):
        return span_of(data, writable=writable)  # type: ignore[arg-type]  # any other sequence is one buffer, or none
    parts = []
    for i, piece in enumerate(data):
        try:
            parts.append(span_of(piece, writable=writable))
        except UsageError as error:
            raise UsageError(f"piece {i} of the data: {error}") from None
    return _joined(parts)


def cut(memory: Memory, most_bytes: int, block_bytes: int) -> Iterator[Memory]:
    """Whole blocks of memory for one command after the other, no more than ``most_bytes`` and :data:`PIECES_MAX` for each."""
    if isinstance(memory, Span):
        for offset in range(0, memory.len_bytes, most_bytes):
            yield Span(memory.addr + offset, min(most_bytes, memory.len_bytes - offset), memory.owner)
        return
    if memory.len_bytes <= most_bytes and len(memory.parts) <= PIECES_MAX:
        yield memory
        return
    left = deque(memory.parts)
    while left:
        taken: list[Span] = []
        room = most_bytes
        while left and room and len(taken) < PIECES_MAX:
            piece, rest = _split(left.popleft(), room)
            taken.append(piece)
            room -= piece.len_bytes
            if rest.len_bytes:
                left.appendleft(rest)
        too_much = (most_bytes - room) % block_bytes
        while too_much:  # the pieces were too many, and the last are not a whole block
            piece, rest = _split(taken[-1], max(0, taken.pop().len_bytes - too_much))
            too_much -= rest.len_bytes
            left.appendleft(rest)
            if piece.len_bytes:
                taken.append(piece)
        if not taken:
            raise UsageError(f"a logical block in more than {PIECES_MAX} pieces: one command takes no more")
        yield _joined(taken)


def check_pieces(vector: Vector) -> None:
    """Raise UsageError where data is in more pieces than one command takes."""
    if len(vector.parts) > PIECES_MAX:
        raise UsageError(f"{len(vector.parts)} pieces of data: one command takes at most {PIECES_MAX}")


def pointers_of(vector: Vector, segments: int | None) -> tuple[int, int, object]:
    """Address and number of the ``struct iovec`` of a vector, and what keeps them and the data there.

    Where the pieces may be more than the device's ``segments``, the kernel has to copy. It does where one is not aligned to
    4 bytes, and a piece that is can be told as two that are not.
    """
    check_pieces(vector)
    pieces = [(part.addr, part.len_bytes) for part in vector.parts]
    if segments is not None and sum(_pages(*piece) for piece in pieces) > segments:
        addr, len_bytes = pieces[0]
        if len_bytes > 1:  # otherwise it is not aligned as it is
            pieces[:1] = [(addr, 1), (addr + 1, len_bytes - 1)]
    array = ffi.new("uint64_t[]", [word for piece in pieces for word in piece])
    return int(ffi.cast("uintptr_t", array)), len(pieces), (array, vector)


def _pages(addr: int, len_bytes: int) -> int:
    return (addr + len_bytes - 1) // PAGE_SIZE - addr // PAGE_SIZE + 1


def _split(span: Span, at: int) -> tuple[Span, Span]:
    at = min(at, span.len_bytes)
    return Span(span.addr, at, span.owner), Span(span.addr + at, span.len_bytes - at, span.owner)


def _joined(parts: Sequence[Span]) -> Memory:
    """The same memory in as few pieces as can be. What needs only one is an ordinary command, which may use registered memory."""
    joined: list[Span] = []
    end = total = 0
    for part in parts:
        addr, len_bytes, owner = part
        if not len_bytes:
            continue
        if joined and addr == end:
            before = joined.pop()
            part = Span(before.addr, before.len_bytes + len_bytes, (before.owner, owner))
        joined.append(part)
        end = addr + len_bytes
        total += len_bytes
    if len(joined) < 2:
        return joined[0] if joined else NOTHING
    return Vector(tuple(joined), total)
