"""The memory of a command as a device sees it: at the addresses in its data pointers, whoever owns that by then."""

from collections.abc import Iterator

from aionvme._core import ffi
from aionvme.nvme.command import IOVEC, DataPointers


def memory_of(pointers: DataPointers) -> memoryview:
    """The data: where it is, or a copy where it is in several pieces."""
    if not pointers.iovecs:
        return _at(pointers.addr, pointers.data_len)
    return memoryview(bytearray().join(_pieces(pointers)))


def scatter(memory: memoryview, pointers: DataPointers) -> None:
    """Put a copy, with what the device made of it, where it came from."""
    if pointers.iovecs:
        offset = 0
        for piece in _pieces(pointers):
            piece[:] = memory[offset : offset + len(piece)]
            offset += len(piece)


def _pieces(pointers: DataPointers) -> Iterator[memoryview]:
    for addr, len_bytes in IOVEC.iter_unpack(_at(pointers.addr, pointers.iovecs * IOVEC.size)):
        yield _at(addr, len_bytes)


def _at(addr: int, len_bytes: int) -> memoryview:
    return memoryview(ffi.buffer(ffi.cast("char *", addr), len_bytes)).cast("B")
