"""Where the bytes of an emulated device are: anonymous memory, or a file that a killed process leaves intact.

Both are one flat range of zeroes at first, and cost no more memory or disk than was written to. What a file was given
by ``pwrite`` is in the kernel's page cache and survives the process; ``sync`` takes it to the disk, for the machine's
sake.
"""

import fcntl
import mmap
import os
import stat
from pathlib import Path
from typing import Protocol

from aionvme.errors import UsageError

_MAP_NORESERVE = 0x4000  # linux/mman.h; Python 3.11 has no name for it
_CHUNK = 1 << 20


class Media(Protocol):
    """A range of bytes that can be read, written, zeroed and made durable."""

    def read_into(self, offset: int, view: memoryview) -> None:
        """Fill ``view`` from ``offset``."""

    def write(self, offset: int, data: bytes | memoryview) -> None:
        """Store ``data`` at ``offset``."""

    def zero(self, offset: int, length: int) -> None:
        """Make ``length`` bytes from ``offset`` read as zeroes, and give their memory back."""

    def sync(self) -> None:
        """Return once everything written is durable."""

    def close(self) -> None:
        """Give everything back."""


class MemoryMedia:
    """Bytes that live as long as the process."""

    def __init__(self, length: int) -> None:
        """``length`` zeroes."""
        # Private and not reserved: a namespace much larger than memory is fine as long as little of it is written.
        self._map = mmap.mmap(-1, length, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_NORESERVE)
        self._view = memoryview(self._map)

    def read_into(self, offset: int, view: memoryview) -> None:
        """Fill ``view`` from ``offset``."""
        view[:] = self._view[offset : offset + view.nbytes]

    def write(self, offset: int, data: bytes | memoryview) -> None:
        """Store ``data`` at ``offset``."""
        self._view[offset : offset + len(data)] = data

    def zero(self, offset: int, length: int) -> None:
        """Make ``length`` bytes from ``offset`` read as zeroes, and give their memory back."""
        start, end = _whole_pages(offset, length)
        if start < end:
            self._map.madvise(mmap.MADV_DONTNEED, start, end - start)
        for edge, edge_length in _edges(offset, length, start, end):
            self._view[edge : edge + edge_length] = bytes(edge_length)

    def sync(self) -> None:
        """Nothing: memory is as durable as it gets."""

    def close(self) -> None:
        """Unmap."""
        self._view.release()
        self._map.close()


class FileMedia:
    """Bytes in a file that one device has to itself; ``length`` 0 until :meth:`extend` for a new one."""

    def __init__(self, path: Path) -> None:
        """Open and lock ``path``, and make it if it is not there; UsageError where it is in use or no regular file."""
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self._holes: mmap.mmap | None = None
        try:
            status = os.fstat(self._fd)
            if not stat.S_ISREG(status.st_mode):
                raise UsageError(f"{path} is not a regular file: an emulated device is kept in one")
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._fd)
            raise UsageError(f"{path} is in use by another emulated device: close that one first") from None
        except BaseException:
            os.close(self._fd)
            raise
        # Under the lock: whoever held it before may have extended the file.
        self.length = os.fstat(self._fd).st_size

    def extend(self, length: int, reserved: int) -> None:
        """Make the file at least ``length`` bytes long, zeroes, with room on the disk for the first ``reserved``."""
        if self.length < length:
            os.posix_fallocate(self._fd, 0, reserved)
            os.ftruncate(self._fd, length)
            self.length = length

    def read_into(self, offset: int, view: memoryview) -> None:
        """Fill ``view`` from ``offset``."""
        if os.preadv(self._fd, [view], offset) != view.nbytes:
            raise OSError(f"the file ends before byte {offset + view.nbytes}")

    def write(self, offset: int, data: bytes | memoryview) -> None:
        """Store ``data`` at ``offset``."""
        if os.pwrite(self._fd, data, offset) != len(data):
            raise OSError(f"the file takes no more bytes at {offset}")

    def zero(self, offset: int, length: int) -> None:
        """Make ``length`` bytes from ``offset`` read as zeroes, and give their disk space back where possible."""
        start, end = _whole_pages(offset, length)
        if start >= end or not self._punch(start, end):
            start = end = offset
        for edge, edge_length in _edges(offset, length, start, end):
            for at in range(edge, edge + edge_length, _CHUNK):
                self.write(at, bytes(min(_CHUNK, edge + edge_length - at)))

    def _punch(self, start: int, end: int) -> bool:
        # The os module has no fallocate(PUNCH_HOLE); MADV_REMOVE on a shared mapping is the same request. Data never
        # goes through the mapping, where a full disk would be a SIGBUS instead of an error.
        if self._holes is None:
            self._holes = mmap.mmap(self._fd, self.length)
        try:
            self._holes.madvise(mmap.MADV_REMOVE, start, end - start)
        except OSError:
            return False
        return True

    def sync(self) -> None:
        """Return once everything written is on the disk."""
        os.fdatasync(self._fd)

    def close(self) -> None:
        """Close the file, which also unlocks it."""
        if self._holes is not None:
            self._holes.close()
        os.close(self._fd)
        self._fd = -1  # the number may soon be another file's


def _whole_pages(offset: int, length: int) -> tuple[int, int]:
    page = mmap.PAGESIZE
    return -(-offset // page) * page, (offset + length) // page * page


def _edges(offset: int, length: int, start: int, end: int) -> list[tuple[int, int]]:
    """What of a range lies outside ``start`` to ``end``, as offsets and lengths."""
    if start >= end:
        return [(offset, length)]
    return [(offset, start - offset), (end, offset + length - end)]
