"""What is to be written when its turn comes: held as it was passed, whatever its caller does with it meanwhile."""

from typing import NamedTuple, TypedDict

from aionvme.buffers import NOTHING, Buffer, span_of
from aionvme.geometry import Geometry
from aionvme.prepare import check_passable
from aionvme.protecting import Protection, check_written
from aionvme.vectored import Data, Memory, memory_of


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


def hold(data: Data, geometry: Geometry, *, fua: bool, metadata: Buffer | None, protection: Protection | None) -> Held:
    """Raise UsageError where it could not be written anywhere: no whole blocks, or metadata or protection that do not suit the
    format."""
    held = tuple(data) if isinstance(data, (list, tuple)) else data
    memory = memory_of(held, writable=False)
    nlb = geometry.blocks_in(memory.len_bytes)
    beside = NOTHING if metadata is None else span_of(metadata, writable=False)
    if geometry.namespace.ms or metadata is not None or protection is not None:
        check_written(nlb, geometry, metadata, protection)
        check_passable("a write", beside, geometry)
    options: Options = {"fua": fua, "metadata": metadata, "protection": protection}
    return Held(held, nlb, options, (memory, beside))
