"""What is to be written when its turn comes: held as it was passed, whatever its caller does with it meanwhile."""

from typing import NamedTuple, TypedDict

from aionvme.buffers import NOTHING, Buffer, span_of
from aionvme.geometry import Geometry
from aionvme.protecting import Protection
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
    """Raise UsageError where data is no whole blocks."""
    held = tuple(data) if isinstance(data, (list, tuple)) else data
    memory = memory_of(held, writable=False)
    beside = NOTHING if metadata is None else span_of(metadata, writable=False)
    options: Options = {"fua": fua, "metadata": metadata, "protection": protection}
    return Held(held, geometry.blocks_in(memory.len_bytes), options, (memory, beside))
