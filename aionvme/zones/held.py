"""What is to be written when its turn comes: held as it was passed, whatever its caller does with it meanwhile."""

from collections import deque
from typing import NamedTuple, TypedDict

from aionvme.buffers import NOTHING, Buffer, span_of
from aionvme.errors import UsageError
from aionvme.geometry import Geometry
from aionvme.prepare import check_appended, check_passable
from aionvme.protecting import Protection, check_written
from aionvme.vectored import PIECES_MAX, Data, Memory, Vector, cut, memory_of


class Options(TypedDict):
    """Keywords of the commands that write."""

    fua: bool
    metadata: Buffer | None
    protection: Protection | None


class Held(NamedTuple):
    """Data of ``nlb`` blocks. As long as ``memory`` is there, none of its buffers can be resized."""

    data: Data
    nlb: int
    options: Options
    memory: tuple[Memory, Memory]


def hold(data: Data, geometry: Geometry, first: range, options: Options, *, append: bool = False) -> Held:
    """Hold what is to be written from one of the ``first`` addresses on, or appended to the zone that starts there.

    Raises UsageError where it could be written at none of them: no whole blocks, too many for an append, a block in too many
    pieces, metadata or protection that do not suit the format, or a namespace that is not to be written to.
    """
    if geometry.guard.why_not is not None:
        raise geometry.guard.error(f"a write to the zone of LBA {first[0]:#x}")
    metadata, protection = options["metadata"], options["protection"]
    held = tuple(data) if isinstance(data, (list, tuple)) else data
    memory = memory_of(held, writable=False)
    nlb = geometry.blocks_in(memory.len_bytes)
    beside = NOTHING if metadata is None else span_of(metadata, writable=False)
    if geometry.namespace.ms or metadata is not None or protection is not None:
        check_written(nlb, geometry, first, metadata, protection)
        check_passable("a write", beside, geometry)
    if append:
        check_appended(memory, geometry, protection is not None)
    elif isinstance(memory, Vector) and len(memory.parts) > PIECES_MAX and protection is None:
        deque(cut(memory, geometry.max_vectored_bytes, geometry.block_bytes), 0)
    return Held(held, nlb, options, (memory, beside))


def check_extension(data: Buffer, geometry: Geometry) -> None:
    """Raise UsageError where no zone could have it as its descriptor extension."""
    len_bytes, zdes_bytes = span_of(data, writable=False).len_bytes, geometry.zoned.zdes_bytes if geometry.zoned else 0
    if len_bytes != zdes_bytes:
        raise UsageError(
            f"{len_bytes} bytes: a zone descriptor extension has exactly {zdes_bytes} in the namespace's format"
            if zdes_bytes
            else "the zones have no descriptor extensions: the namespace's format says that they are 0 bytes long"
        )
