"""Reads, writes and appends of one command, checked, packed and launched in one go: the short way, in pure Python.

``_native/mover.c`` is the same in C. Both leave alone what they cannot judge, and give None: the long way through
:mod:`aionvme.prepare`, which knows every case, then carries the command out or says what is wrong with it.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from aionvme._core import ffi
from aionvme.buffers import BufferPool, holds_objects, is_masked
from aionvme.driver.fast import IN_C, Flight, InFlight
from aionvme.nvme.command import NVME_URING_CMD
from aionvme.nvme.nvm import NLB_MAX
from aionvme.nvme.opcodes import NvmOpcode
from aionvme.queues.base import Queue
from aionvme.vectored import Data

READ, WRITE, ZONE_APPEND = int(NvmOpcode.READ), int(NvmOpcode.WRITE), int(NvmOpcode.ZONE_APPEND)

Launch = Callable[[int, object, object, Data, bool], Flight | None]
"""What :meth:`PureMover.launch` is."""

FUA = 1 << 30
"""Force Unit Access, in dword 12."""


class PureMover:
    """The short way of one namespace. Limits are 0 for what has to take the long way; ``zsze`` is 0 where there are no zones."""

    def __init__(
        self,
        flights: InFlight,
        queue: Queue,
        pool: BufferPool,
        nsid: int,
        block_bytes: int,
        nsze: int,
        max_read_bytes: int,
        max_write_bytes: int,
        max_append_bytes: int,
        zsze: int,
    ) -> None:
        self._flights = flights
        self._pool = pool
        self._nsid = nsid
        self._block_bytes = block_bytes
        self._nsze = nsze
        self._max_read_bytes = max_read_bytes
        self._max_write_bytes = max_write_bytes
        self._max_append_bytes = max_append_bytes
        self._zsze = zsze

    def launch(self, opcode: int, slba: object, nlb: object, buffer: Data, fua: bool) -> Flight | None:
        """Launch a command on ``nlb`` blocks, None for as many as the buffer holds, if it is one and all is well."""
        flights = self._flights
        if type(slba) is not int or (nlb is None and opcode == READ):
            return None
        fua = bool(fua)
        if holds_objects(buffer):  # type: ignore[arg-type]  # a list holds none: it has no memory, which is seen below
            return None
        if is_masked(buffer):
            return None
        try:
            owner = ffi.from_buffer("char[]", buffer, require_writable=opcode == READ)
        except (TypeError, ValueError, BufferError):
            return None
        len_bytes = len(owner)
        blocks, rest = divmod(len_bytes, self._block_bytes)
        if rest or not 1 <= blocks <= NLB_MAX or (nlb is not None and (type(nlb) is not int or nlb != blocks)):
            return None
        if slba < 0 or slba + blocks > self._nsze:
            return None
        if opcode == ZONE_APPEND:
            if len_bytes > self._max_append_bytes or slba % self._zsze:
                return None
        elif len_bytes > (self._max_read_bytes if opcode == READ else self._max_write_bytes):
            return None
        addr = int(ffi.cast("uintptr_t", owner))
        entry = NVME_URING_CMD.pack(
            opcode, 0, 0, self._nsid, 0, 0, 0, addr, 0, len_bytes,
            slba & 0xFFFF_FFFF, slba >> 32, blocks - 1 | FUA * fua, 0, 0, 0, 0, 0,
        )  # fmt: skip
        buf_index = self._pool.buf_index(addr, len_bytes)
        if not flights.admits():
            return None
        flights.free -= 1  # before a signal's handler can raise with the command in flight
        flight = flights.launch(entry, buf_index, owner)
        flight.nlb = blocks
        return flight


if TYPE_CHECKING or not IN_C:
    Mover = PureMover
else:
    import aionvme._flight

    Mover = aionvme._flight.Mover
