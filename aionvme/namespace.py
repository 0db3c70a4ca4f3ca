"""A namespace, and the commands of the NVM Command Set as awaitables."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from operator import index
from typing import SupportsIndex

import numpy as np
from numpy import ndarray
from numpy.typing import NDArray

from aionvme.batch_commands import BatchCommands, Completions
from aionvme.buffers import NOTHING, Buffer, BufferPool, Span, span_of
from aionvme.driver.driver import Driver
from aionvme.driver.limiter import Limiter
from aionvme.driver.request import Submission
from aionvme.errors import UsageError, nvme_error
from aionvme.geometry import Geometry
from aionvme.latency import Latencies
from aionvme.mover import READ, WRITE, Mover
from aionvme.nvme import nvm
from aionvme.nvme.command import Command
from aionvme.nvme.identify import IdentifyController, IdentifyNamespace
from aionvme.nvme.identify_zoned import IdentifyZonedNamespace
from aionvme.nvme.status import Completion, Status
from aionvme.prepare import buffer_of, describe, plain, prepare_admin, prepare_io
from aionvme.queues.attach import PathReport
from aionvme.queues.batch import Batch
from aionvme.zone_commands import ZoneCommands
from aionvme.zones.book import ZoneBook
from aionvme.zones.table import Zones

BYTE = np.dtype(np.uint8)

Ranges = Iterable[tuple[SupportsIndex, SupportsIndex]]
"""Pairs of slba and nlb."""


class Namespace(ZoneCommands, BatchCommands):
    """An open namespace; :func:`aionvme.open` makes one.

    Addresses and numbers of blocks are logical blocks, ``nlb`` 1-based. A command that the device fails raises the
    :class:`~aionvme.NvmeError` of its status, one that the operating system ends raises OSError, and a call that makes no
    sense raises :class:`~aionvme.UsageError` with nothing submitted. A task that is cancelled while its command is in flight
    goes on only when the command has completed, and buffers stay the command's until then.

    More commands than the queue is deep wait their turn, first come first served.

    Data is any contiguous memory: bytes, bytearray, memoryview, numpy arrays of any data type but object. ``fua`` (Force Unit
    Access) asks the device to go past its volatile cache. Sections named are those of the NVM Command Set Specification 1.0
    and, for zones, of the Zoned Namespace Command Set Specification 1.1.
    """

    def __init__(
        self,
        target: str,
        geometry: Geometry,
        path: PathReport,
        pool: BufferPool,
        io: Driver,
        admin: Driver,
        limiter: Limiter | None = None,
        book: ZoneBook | None = None,
        zone_counters: Callable[[], NDArray[np.void]] | None = None,
    ) -> None:
        """``book`` is that of the namespace that this one is a limited view of."""
        self._target = target
        self._path = path
        self._geometry = geometry
        self._pool = pool
        self._io = io
        self._admin = admin
        self._zone_counters = zone_counters
        self._limiter = limiter
        short = limiter is None and not geometry.separate_metadata
        zoned = geometry.zoned
        self._book = book or (ZoneBook(self, geometry) if zoned else None)
        self._zones = Zones(self, self._book) if self._book else None
        self._launch = Mover(
            io.flights,
            io.queue,
            pool,
            geometry.nsid,
            geometry.block_bytes,
            geometry.namespace.nsze,
            geometry.max_transfer_bytes if short else 0,
            self.max_append_bytes if short and zoned else 0,
            zoned.zsze if zoned else 0,
        ).launch

    @property
    def target(self) -> str:
        """What was opened."""
        return self._target

    @property
    def queue(self) -> PathReport:
        """The path that commands take, its depth, and why not a better one; ``str()`` says it in a line."""
        return self._path

    @property
    def nsid(self) -> int:
        """Namespace identifier."""
        return self._geometry.nsid

    @property
    def lba_size(self) -> int:
        """Bytes of data in a logical block."""
        return self._geometry.namespace.lba_size

    @property
    def nsze(self) -> int:
        """Size of the namespace in logical blocks."""
        return self._geometry.namespace.nsze

    @property
    def max_transfer_bytes(self) -> int:
        """Most data that one command moves: the controller's MDTS, or the kernel's limit. Reads and writes may be longer."""
        return self._geometry.max_transfer_bytes

    @property
    def controller(self) -> IdentifyController:
        """The controller's identify structure: model (mn), serial (sn), firmware (fr), version, limits."""
        return self._geometry.controller

    @property
    def identify(self) -> IdentifyNamespace:
        """The namespace's identify structure: its LBA formats, capacity and identifiers."""
        return self._geometry.namespace

    @property
    def identify_zoned(self) -> IdentifyZonedNamespace | None:
        """The zoned namespace's identify structure, None of a conventional namespace."""
        return self._geometry.zoned

    def __repr__(self) -> str:
        kind = "zoned" if self.zoned else "conventional"
        limits = "" if self._limiter is None else f", {self._limiter}"
        return (
            f"<Namespace {self.target}: {kind}, {self.nsze} blocks of {self.lba_size} bytes, {self.queue.kind} queue"
            f"{limits}>"
        )

    def limited(self, limiter: Limiter) -> "Namespace":
        """The same namespace, queue and buffers, for a group of tasks: each I/O command goes through ``limiter``. Admin commands
        do not. It is open as long as this one.

        Raises UsageError where this is a limited namespace itself: two limiters, each of which may be held while the other is
        waited for, could come to a standstill. WrongLoopError where the limiter was used on another event loop before.
        """
        if not isinstance(limiter, Limiter):
            raise UsageError(f"{limiter!r} is not a Limiter")
        if self._limiter is not None:
            raise UsageError(f"already limited by {self._limiter}: limit the namespace that this one was made from")
        self._io.bind(limiter)
        return Namespace(
            self._target,
            self._geometry,
            self._path,
            self._pool,
            self._io,
            self._admin,
            limiter,
            self._book,
            self._zone_counters,
        )

    def alloc(self, len_bytes: SupportsIndex) -> NDArray[np.uint8]:
        """A page-aligned buffer of zeroes, registered with the queue: commands that use it, or a slice of it, pin no pages.

        It belongs to this namespace's queue but lives as long as it is used. Where the kernel's limits are used up (1024
        buffers, RLIMIT_MEMLOCK) it is an ordinary buffer.
        """
        self._io.check_usable()
        return self._pool.alloc(index(len_bytes))

    def latencies(self) -> AbstractContextManager[Latencies]:
        """Record, inside of the context, how long I/O commands take: from the submission to the queue until they are reaped.

        Those of limited namespaces and of arrays are among them; commands that were in flight before are not. Entering raises
        UsageError where they are being recorded already.
        """
        return self._io.latencies()

    def zone_counters(self) -> NDArray[np.void]:
        """What happened to each zone of an emulated namespace since it was opened: a structured array with a row for each zone.

        Its fields: zslba; writes and write_blocks, appends and append_blocks (commands that wrote to the zone, and their logical
        blocks; Write Zeroes, Write Uncorrectable and the ranges of a Copy are writes); resets, finishes and explicit_opens (how
        often an action changed the zone's state); implicit_opens; implicit_closes (how often the device closed the zone to open
        another one); and open_ns, how long it was open. The sum of a field is the device's total.

        Raises UsageError on anything but an emulated zoned namespace: real devices do not tell.
        """
        self._io.check_usable()
        if self._zone_counters is None:
            raise UsageError(f"{self.target}: only an emulated zoned namespace counts what happens to its zones")
        return self._zone_counters()

    async def submit(self, command: Command, data: Buffer | None = None, into: Buffer | None = None) -> Completion:
        """Submit any I/O command and wait for its completion, status and 64-bit result; an error status does not raise.

        ``data`` is sent, ``into`` is filled; which of them an opcode takes is in its bits 1:0. The length must be the one the
        command moves. The library knows it of reads, writes, compares, appends, dataset management, copy and zone management; of
        any other command it is yours to get right, since a device that moves more writes past the buffer.
        """
        self._io.check_usable()
        command = plain(command)
        submission = prepare_io(command, buffer_of(command, data, into), self._geometry, self._pool)
        return (await self._io.run([submission], self._limiter))[0]

    async def submit_admin(
        self, command: Command, data: Buffer | None = None, into: Buffer | None = None
    ) -> Completion:
        """Submit any admin command to the namespace's controller; otherwise as :meth:`submit`.

        The length is checked for Identify and Get Log Page.
        """
        self._admin.check_usable()
        command = plain(command)
        return (await self._admin.run([prepare_admin(command, buffer_of(command, data, into))]))[0]

    async def read(
        self, slba: SupportsIndex, nlb: SupportsIndex, *, into: Buffer | None = None, fua: bool = False
    ) -> NDArray[np.uint8]:
        """Read ``nlb`` logical blocks from ``slba``, of any length: what exceeds one command is split and read at once
        (Read, section 3.2.4).

        Gives a flat uint8 array, which shows ``into`` where that was passed; it must hold exactly the blocks.
        """
        if into is None:
            self._io.check_usable()
            slba, nlb = self._check_range(slba, nlb)
            into = np.empty(nlb * self._geometry.block_bytes, np.uint8)
        flight = self._launch(READ, slba, nlb, into, fua)
        if flight is not None:
            if res := await flight:
                raise self._failure(res, nvm.read(index(slba), index(nlb)))
        else:
            self._io.check_usable()
            slba, nlb = self._check_range(slba, nlb)
            await self._move(nvm.read(slba, 1, fua=fua), self._exact(span_of(into, writable=True), nlb))
        if type(into) is ndarray and into.dtype is BYTE and into.ndim == 1:
            return into
        return np.frombuffer(into, np.uint8)  # type: ignore[arg-type]  # numpy asks for less than it takes

    async def write(self, slba: SupportsIndex, data: Buffer, *, fua: bool = False) -> None:
        """Write whole logical blocks at ``slba`` (Write, section 3.2.6).

        What exceeds one command is split: on a conventional namespace the parts go at once, on a zoned one each after the one
        before, as the write pointer demands. A failure leaves the parts written that were.
        """
        flight = self._launch(WRITE, slba, None, data, fua)
        if flight is not None:
            if res := await flight:
                raise self._failure(res, nvm.write(index(slba), flight.nlb))
            return
        self._io.check_usable()
        span = span_of(data, writable=False)
        slba, _ = self._check_range(slba, self._geometry.blocks_in(span.len_bytes))
        await self._move(nvm.write(slba, 1, fua=fua), span, in_order=self.zoned)

    async def flush(self) -> None:
        """Make everything that has completed survive a loss of power (Flush, NVM Express Base 2.0, section 7.1)."""
        await self._complete(nvm.flush())

    async def compare(self, slba: SupportsIndex, data: Buffer) -> None:
        """Compare stored blocks with ``data``; raises CompareFailureError where they differ (section 3.2.1)."""
        span = span_of(data, writable=False)
        slba, nlb = self._check_range(slba, self._geometry.blocks_in(span.len_bytes))
        await self._complete(nvm.compare(slba, nlb), span)

    async def verify(self, slba: SupportsIndex, nlb: SupportsIndex) -> None:
        """Have the controller check stored blocks without sending them; at most 65536 at once (section 3.2.5)."""
        await self._complete(nvm.verify(*self._check_command_range(slba, nlb)))

    async def write_zeroes(self, slba: SupportsIndex, nlb: SupportsIndex, *, deallocate: bool = False) -> None:
        """Set blocks to zero, and let the controller deallocate them; at most 65536 at once (section 3.2.8)."""
        await self._complete(nvm.write_zeroes(*self._check_command_range(slba, nlb), deac=deallocate))

    async def deallocate(self, ranges: Ranges) -> None:
        """Tell the controller that the blocks of 1 to 256 ``(slba, nlb)`` ranges hold nothing worth keeping (Dataset
        Management, section 3.2.3)."""
        checked = self._check_ranges(ranges, nvm.DSM_NLB_MAX)
        await self._complete(
            nvm.dataset_management(len(checked), deallocate=True), span_of(nvm.dsm_ranges(checked), writable=False)
        )

    async def copy(self, sdlba: SupportsIndex, ranges: Ranges) -> None:
        """Copy the blocks of 1 to 256 ``(slba, nlb)`` ranges, one after the other, to ``sdlba``, inside the controller
        (section 3.2.2)."""
        checked = self._check_ranges(ranges, nvm.NLB_MAX)
        first, _ = self._check_range(sdlba, sum(nlb for _, nlb in checked))
        await self._complete(nvm.copy(first, len(checked)), span_of(nvm.copy_ranges(checked), writable=False))

    async def _complete(self, command: Command, span: Span = NOTHING) -> Completion:
        self._io.check_usable()
        return (await self._run([command], [span]))[0]

    async def _move(self, first: Command, span: Span, *, in_order: bool = False) -> None:
        """Carry out a read or write of one block's command, stretched over all of ``span`` and split where it is too long."""
        block_bytes = self._geometry.block_bytes
        most = min(self.max_transfer_bytes // block_bytes, nvm.NLB_MAX) * block_bytes
        commands, spans = [], []
        for offset in range(0, span.len_bytes, most):
            part = Span(span.addr + offset, min(most, span.len_bytes - offset), span.owner)
            low, high = nvm.split_lba(first.slba + offset // block_bytes)
            nlb = nvm.wire_nlb(part.len_bytes // block_bytes)
            commands.append(first._replace(cdw10=low, cdw11=high, cdw12=first.cdw12 | nlb))
            spans.append(part)
        if in_order:
            for command, part in zip(commands, spans, strict=True):
                await self._run([command], [part])
        else:
            await self._run(commands, spans)

    async def _run(self, commands: Sequence[Command], spans: Sequence[Span]) -> list[Completion]:
        submissions: list[Submission] = [
            prepare_io(command, span, self._geometry, self._pool) for command, span in zip(commands, spans, strict=True)
        ]
        completions = await self._io.run(submissions, self._limiter)
        for command, completion in zip(commands, completions, strict=False):
            if completion.status:
                raise self._failure(completion.status, command)
        return completions

    def _failure(self, res: int, command: Command) -> Exception:
        """What to raise for a command that ended with anything but 0."""
        return self._io.os_error(res) if res < 0 else nvme_error(Status(res), f"{describe(command)} on {self.target}")

    def _check_usable(self) -> None:
        self._io.check_usable()

    async def _run_batch(self, batch: Batch) -> Completions:
        if batch.n:
            await self._io.run_batch(batch, self._limiter)
        return batch.completions

    def _exact(self, span: Span, nlb: int) -> Span:
        needed = nlb * self._geometry.block_bytes
        if span.len_bytes != needed:
            remedy = f"alloc({needed}) gives one" if span.len_bytes < needed else f"pass a slice, [:{needed}]"
            raise UsageError(f"a buffer of {span.len_bytes} bytes, and {nlb} blocks take exactly {needed}: {remedy}")
        return span

    def _check_range(self, slba: SupportsIndex, nlb: SupportsIndex) -> tuple[int, int]:
        slba, nlb = index(slba), index(nlb)
        if nlb < 1:
            raise UsageError(f"nlb = {nlb}: at least one logical block, counted from 1")
        if slba < 0 or slba + nlb > self.nsze:
            raise UsageError(f"{nlb} blocks at LBA {slba:#x}: the namespace has {self.nsze:#x} blocks, counted from 0")
        return slba, nlb

    def _check_command_range(self, slba: SupportsIndex, nlb: SupportsIndex, most: int = nvm.NLB_MAX) -> tuple[int, int]:
        slba, nlb = self._check_range(slba, nlb)
        if nlb > most:
            raise UsageError(f"nlb = {nlb}: one command takes at most {most} logical blocks")
        return slba, nlb

    def _check_ranges(self, ranges: Ranges, most: int) -> list[tuple[int, int]]:
        checked = [self._check_command_range(*_pair(item), most) for item in ranges]
        if not 1 <= len(checked) <= 256:
            raise UsageError(f"{len(checked)} ranges: one command takes 1 to 256")
        return checked


def _pair(item: tuple[SupportsIndex, SupportsIndex]) -> tuple[SupportsIndex, SupportsIndex]:
    try:
        slba, nlb = item
    except (TypeError, ValueError):
        raise UsageError(f"{item!r} is not a range: it takes (slba, nlb)") from None
    return slba, nlb
