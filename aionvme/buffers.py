"""Memory that commands read from and write to.

Two kinds go down the same way. Whatever supports the buffer protocol and is contiguous can be handed to a command; the kernel
pins its pages for each. Buffers from :class:`BufferPool` are page aligned and registered with the ring once, so that nothing is
pinned per command.
"""

import mmap
import re
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from aionvme._core import ffi
from aionvme.errors import UsageError

if TYPE_CHECKING:
    from typing_extensions import Buffer as _Buffer

    Buffer = _Buffer | NDArray[Any]
else:
    Buffer = Any
"""Contiguous memory of any data type: bytes, bytearray, memoryview, numpy arrays, mmap."""


_FIELD_NAME = re.compile(":[^:]*:")
"""In the format of a structure (PEP 3118)."""


class Span(NamedTuple):
    """A contiguous piece of memory: its address, its length, and the object whose life keeps it there."""

    addr: int
    len_bytes: int
    owner: object


NOTHING = Span(0, 0, None)


def span_of(buffer: Buffer, *, writable: bool) -> Span:
    """Where a buffer is. Raises UsageError where it cannot be handed to a device."""
    if holds_objects(buffer):
        raise UsageError("the array holds Python objects, not data")
    if is_masked(buffer):
        raise UsageError("a masked array: a command moves masked data as well; pass its .filled(), or its .data")
    owned = buffer
    if isinstance(buffer, memoryview) and buffer.c_contiguous and buffer.nbytes:
        # Not the memoryview itself: Python before 3.11.8 crashes when it collects garbage with an exported one in it.
        owned = np.frombuffer(buffer, np.uint8)
    try:
        # The cdata holds the buffer's export: a bytearray cannot be resized, a mmap not closed, while it lives.
        owner = ffi.from_buffer("char[]", owned, require_writable=writable)
    except TypeError:
        raise UsageError(
            f"{type(buffer).__name__!r} object holds no memory for a command: pass a numpy array, bytes, a bytearray or a "
            "memoryview"
        ) from None
    except (BufferError, ValueError) as error:
        raise UsageError(f"the buffer cannot be handed to a device: {_flaw(buffer, writable) or error}") from None
    return Span(int(ffi.cast("uintptr_t", owner)), len(owner), owner)


def holds_objects(buffer: Buffer) -> bool:
    """Whether what a buffer says it holds are references, which no device may write to, nor anybody read from one."""
    if isinstance(buffer, np.ndarray):
        return buffer.dtype.hasobject
    try:
        format_ = memoryview(buffer).format
    except (TypeError, ValueError, BufferError):
        return False  # no memory, or none that can be seen: refused elsewhere, with the reason
    return "O" in format_ and "O" in _FIELD_NAME.sub("", format_)


def is_masked(array: object) -> bool:
    """Whether it is an array that says which of its values do not count, which no command looks at."""
    # numpy.ma is imported with the first subclass of an array that comes along.
    return type(array) is not np.ndarray and isinstance(array, np.ndarray) and isinstance(array, np.ma.MaskedArray)


def _flaw(buffer: Buffer, writable: bool) -> str | None:
    try:
        view = memoryview(buffer)  # type: ignore[arg-type]  # numpy declares the protocol from Python 3.12 on
    except ValueError:
        return None
    if not view.c_contiguous:
        return "it is not contiguous; copy it with numpy.ascontiguousarray()"
    if writable and view.readonly:
        return "it is read-only, and the command writes to it"
    return None


class BufferPool:
    """Registered buffers of one queue.

    ``register`` and ``unregister`` are the queue's. ``chunk_bytes`` is the largest piece one registration may have: kernels
    before 6.12 refuse even a small command on a registered buffer of more pages than the device has segments.
    """

    def __init__(
        self, register: Callable[[int, int], int | None], unregister: Callable[[int], None], chunk_bytes: int
    ) -> None:
        self._register = register
        self._unregister = unregister
        self._chunk_bytes = chunk_bytes
        self._starts: list[int] = []
        self._chunks: list[tuple[int, int]] = []  # (end, buf_index), beside _starts, in order of address
        self._dead: deque[mmap.mmap] = deque()
        self.registered: bytes | None = b""
        """The chunks for C: start, end and buf_index of each, 64 bits each, in order of address. None while some are dead."""

    def alloc(self, len_bytes: int) -> NDArray[np.uint8]:
        """A page-aligned array of zeroes, registered as far as the kernel's limits allow.

        The memory goes back when the last array that shows it, and the last command that uses it, are gone.
        """
        if len_bytes < 1:
            raise UsageError(f"a buffer of {len_bytes} bytes: ask for at least 1")
        self._release_dead()
        # Shared with a child rather than copied on write: after a fork, a write by the parent to a private page with a
        # transfer in flight would leave the device writing to the child's copy.
        try:
            memory = mmap.mmap(-1, len_bytes)
        except OverflowError:
            raise UsageError(f"a buffer of {len_bytes} bytes: more than there are addresses") from None
        base = span_of(memory, writable=True).addr
        for offset in range(0, len_bytes, self._chunk_bytes):
            size = min(self._chunk_bytes, len_bytes - offset)
            buf_index = self._register(base + offset, size)
            if buf_index is None:
                break
            at = bisect_right(self._starts, base + offset)
            self._starts.insert(at, base + offset)
            self._chunks.insert(at, (base + offset + size, buf_index))
        self._pack()
        # When the last array is gone the mapping moves to the list of the dead, on whatever thread that happens. It must not
        # go away at once: its address could be mapped again, by anybody, while the ring's table still has the old pages there.
        lease = ffi.gc(ffi.cast("char *", base), lambda _: self._bury(memory))
        return np.frombuffer(ffi.buffer(lease, len_bytes), np.uint8)

    def buf_index(self, addr: int, len_bytes: int) -> int:
        """The registered buffer that holds all of a piece of memory, or -1."""
        if self._dead:
            self._release_dead()
        at = bisect_right(self._starts, addr) - 1
        if at < 0:
            return -1
        end, buf_index = self._chunks[at]
        return buf_index if addr + len_bytes <= end else -1

    def buf_indices(
        self, addr: NDArray[np.uint64], len_bytes: NDArray[np.uint64] | np.uint64, span: Span
    ) -> NDArray[np.uint16] | int:
        """The registered buffers that hold these pieces of a span: one for all, one for each, or -1 where not each is in one."""
        whole = self.buf_index(span.addr, span.len_bytes)
        if whole >= 0 or not self._starts or self.buf_index(span.addr, 1) < 0:
            return whole
        at = np.searchsorted(np.array(self._starts, np.uint64), addr, "right") - 1
        chunks = np.array(self._chunks, np.uint64)
        if (at < 0).any() or (addr + len_bytes > chunks[at, 0]).any():
            return -1
        buf_indices: NDArray[np.uint16] = chunks[at, 1].astype(np.uint16)
        return buf_indices

    def _bury(self, memory: mmap.mmap) -> None:
        self._dead.append(memory)
        self.registered = None

    def _release_dead(self) -> None:
        while self._dead:
            memory = self._dead[0]
            base = span_of(memory, writable=True).addr
            first = bisect_left(self._starts, base)
            last = bisect_left(self._starts, base + len(memory))
            for _, buf_index in self._chunks[first:last]:
                self._unregister(buf_index)
            del self._starts[first:last], self._chunks[first:last]
            self._pack()
            self._dead.popleft()

    def _pack(self) -> None:
        rows = [(start, *chunk) for start, chunk in zip(self._starts, self._chunks, strict=True)]
        self.registered = np.array(rows, np.uint64).tobytes()
