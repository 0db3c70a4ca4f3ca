"""Thousands of commands with one await: arrays in, an array of completions out."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from aionvme.buffers import NOTHING, Buffer, BufferPool, span_of
from aionvme.errors import UsageError
from aionvme.geometry import Geometry
from aionvme.nvme.command import Command
from aionvme.nvme.opcodes import NvmOpcode
from aionvme.nvme.transfer import Direction, direction
from aionvme.prepare import plain
from aionvme.prepare_batch import COMMAND, blocks_batch, refuse_masked, rows_batch, rows_of, unsigned
from aionvme.queues.batch import Batch

Completions = NDArray[np.void]


class BatchCommands(ABC):
    """Commands by the thousand. Errors are told for each command and raise nothing: look at ``status`` and ``errno``.

    Each call gives an array with a row for each command, in the order of the arguments: ``status`` (0 for success, else the
    status as :class:`~aionvme.Status` takes it), ``errno`` (0, or the errno where the operating system ended the command),
    ``result`` (the 64-bit result of the completion) and ``latency_ns`` (from its submission to the ring until it was reaped;
    0 on a limited or traced namespace).

    ``metadata``, where the format keeps it apart, is a buffer for all of the blocks, too: needed by what writes, unless all of it
    is protection information, which the controller makes and checks.

    Arrays longer than the queue is deep flow through it, and other tasks' commands beside them. A task that is cancelled submits
    no more of its array, and goes on when what was submitted has completed.

    Raised is only what concerns the whole array: UsageError where arguments and buffer do not agree, ReadOnlyError and
    NamespaceInUseError where it writes and may not, all three with nothing submitted; ClosedError where the namespace was closed
    before all of it had been submitted, and OSError where the queue broke.
    """

    _geometry: Geometry
    _pool: BufferPool

    async def read_many(
        self, slba: ArrayLike, nlb: ArrayLike, into: Buffer, *, metadata: Buffer | None = None
    ) -> Completions:
        """Read ``nlb`` blocks (one number, or one for each) from each of ``slba``, one after the other into a buffer of exactly
        that size."""
        self._check_usable()
        span = span_of(into, writable=True)
        return await self._run_batch(
            blocks_batch(NvmOpcode.READ, slba, nlb, span, self._geometry, self._pool, metadata)
        )

    async def write_many(
        self, slba: ArrayLike, nlb: ArrayLike, data: Buffer, *, metadata: Buffer | None = None
    ) -> Completions:
        """Write ``nlb`` blocks (one number, or one for each) at each of ``slba``, from one after the other in the buffer.

        They are in flight together and complete in any order: on a zoned namespace use :meth:`append_many`.
        """
        self._check_usable()
        span = span_of(data, writable=False)
        return await self._run_batch(
            blocks_batch(NvmOpcode.WRITE, slba, nlb, span, self._geometry, self._pool, metadata)
        )

    async def append_many(
        self, zslba: ArrayLike, nlb: ArrayLike, data: Buffer, *, metadata: Buffer | None = None
    ) -> Completions:
        """Append ``nlb`` blocks (one number, or one for each) to the zone that starts at each of ``zslba``, from one after the
        other in the buffer; ``result`` says at which LBA each is."""
        self._check_usable()
        if (unsigned("zslba", zslba) % np.uint64(self.zsze)).any():
            raise UsageError(f"an LBA in zslba does not start a zone: zones have {self.zsze:#x} blocks")
        span = span_of(data, writable=False)
        return await self._run_batch(
            blocks_batch(NvmOpcode.ZONE_APPEND, zslba, nlb, span, self._geometry, self._pool, metadata)
        )

    async def submit_many(
        self, commands: Sequence[Command] | NDArray[np.void], buffer: Buffer | None = None
    ) -> Completions:
        """Submit any I/O commands.

        Given as :class:`~aionvme.Command`, their data is one after the other in the buffer. Given as an array of dtype
        :data:`aionvme.COMMAND`, ``offset`` and ``data_len`` say where in the buffer it is. The lengths must be those that the
        commands move, as with :meth:`~aionvme.Namespace.submit`; a command of which the library does not know it is only taken
        in an array.
        """
        self._check_usable()
        refuse_masked("commands", commands)
        if not isinstance(commands, np.ndarray):
            rows = rows_of([plain(command) for command in commands], self._geometry)
        elif commands.dtype == COMMAND and commands.ndim == 1:
            # A plain array of our own: what is checked is what is submitted, whatever a subclass or another thread does.
            rows = np.array(commands, copy=True, subok=False)
        else:
            raise UsageError(f"an array of {commands.dtype}: commands come in a list of dtype aionvme.COMMAND")
        filled = any(direction(int(opcode)) & Direction.CONTROLLER_TO_HOST for opcode in np.unique(rows["opcode"]))
        span = NOTHING if buffer is None else span_of(buffer, writable=filled)
        return await self._run_batch(rows_batch(rows, span, self._geometry, self._pool))

    @property
    @abstractmethod
    def zsze(self) -> int:
        """Size of every zone in logical blocks."""

    @abstractmethod
    def _check_usable(self) -> None:
        """Raise unless commands can be submitted from here: before buffers are looked up, which is this thread's alone."""

    @abstractmethod
    async def _run_batch(self, batch: Batch) -> Completions:
        """Carry out a batch."""
