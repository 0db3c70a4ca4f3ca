"""A stream, appended to zones piece by piece: several in flight, told in the order of the stream."""

import asyncio
import os
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from aionvme.cli.render import plural
from aionvme.cli.streams import readable
from aionvme.doctor import one_line
from aionvme.errors import AionvmeError
from aionvme.namespace import Namespace
from aionvme.zones.zone import Zone

IN_FLIGHT = 16
"""Most commands in flight, each with a buffer of its own."""


@dataclass(frozen=True)
class Piece:
    """Blocks that lie side by side: where in the stream they begin, in bytes, and where the device put them."""

    offset: int
    lba: int
    nlb: int

    def __str__(self) -> str:
        return f"{self.lba:#x} {self.nlb}"


class Appending:
    """Appends a stream to ``zones``, one after the other, in commands of at most ``len_bytes``.

    ``tell`` is called with each piece, in the order of the stream up to the first that failed. Afterwards ``error`` says why the
    rest of the stream was not appended, None where all of it was, and ``stranded`` are the pieces that were although one before
    them was not.
    """

    def __init__(
        self, ns: Namespace, zones: Sequence[Zone], len_bytes: int, tell: Callable[[Piece], None], *, pad: bool
    ) -> None:
        self._lba_size = ns.lba_size
        self._zones = deque(zones)
        self._room = zones[0].room
        self._buffers = deque(np.split(ns.alloc(IN_FLIGHT * len_bytes), IN_FLIGHT))
        self._tell = tell
        self._pad = pad
        self._in_flight: deque[asyncio.Task[Piece]] = deque()
        self._offset = 0
        self._failed = False
        self.told = 0
        """Pieces that were told."""
        self.told_bytes = 0
        self.padding_bytes = 0
        self.stranded: list[Piece] = []
        self.error: str | None = None
        self.interrupted = False

    async def run(self, fd: int) -> None:
        """Read ``fd`` up to its end, or to what cannot be appended. Interrupted, it still waits for what is in flight."""
        try:
            while self.error is None and await self._take_piece(fd):
                while len(self._in_flight) == IN_FLIGHT:
                    await asyncio.wait([self._in_flight[0]])
                    self._land()
        except asyncio.CancelledError:
            self.interrupted = True
        finally:
            if self._in_flight:
                await asyncio.wait(self._in_flight)
            self._land()
        if self.interrupted:
            self.error = self.error or "interrupted"

    async def _take_piece(self, fd: int) -> bool:
        """Read a piece and have it appended; False where there is none left, or no room for it."""
        if not self._room and len(self._zones) > 1:
            self._zones.popleft()
            self._room = self._zones[0].room
        buffer = self._buffers[0]
        self._buffers.rotate(-1)
        # Without room, one more byte tells whether the stream has ended.
        len_bytes = await self._fill(fd, buffer[: self._room * self._lba_size or 1])
        if not len_bytes:
            return False
        if not self._room:
            self.error = f"zone {self._zones[0].index} has no room left, and no other zone is to be used"
            return False
        if lacking := -len_bytes % self._lba_size:
            if self._pad:
                buffer[len_bytes : len_bytes + lacking] = 0
                self.padding_bytes = lacking
                len_bytes += lacking
            else:
                rest = self._lba_size - lacking
                self.error = (
                    f"the last {plural(rest, 'byte')} are no whole block of {self._lba_size}: --pad adds zeroes"
                )
                len_bytes -= rest
        if nlb := len_bytes // self._lba_size:
            self._in_flight.append(asyncio.create_task(_append(self._zones[0], self._offset, buffer[:len_bytes], nlb)))
            self._offset += len_bytes
            self._room -= nlb
        return not lacking

    async def _fill(self, fd: int, buffer: NDArray[np.uint8]) -> int:
        """Fill the buffer, less only at the end of the stream; meanwhile tell what has landed. 0 after a failure."""
        filled = 0
        while filled < len(buffer):
            waiting = asyncio.create_task(readable(fd))
            try:
                while not waiting.done():
                    await asyncio.wait([waiting, *islice(self._in_flight, 1)], return_when=asyncio.FIRST_COMPLETED)
                    self._land()
                    if self._failed:
                        return 0
            finally:
                waiting.cancel()
            n = os.readv(fd, [buffer[filled:].data])
            if not n:
                break
            filled += n
        return filled

    def _land(self) -> None:
        """Tell the pieces that have landed, with none before them still in flight."""
        while self._in_flight and self._in_flight[0].done():
            done = self._in_flight.popleft()
            failure = done.exception()
            if failure is not None:
                if not isinstance(failure, AionvmeError | OSError):
                    raise failure
                if not self._failed:
                    self.error = one_line(failure)
                self._failed = True
            elif self._failed:
                self.stranded.append(done.result())
            else:
                piece = done.result()
                self.told += 1
                self.told_bytes += piece.nlb * self._lba_size
                self._tell(piece)


async def _append(zone: Zone, offset: int, data: NDArray[np.uint8], nlb: int) -> Piece:
    return Piece(offset, await zone.append(data), nlb)
