"""A namespace: what it is, the path to it, and any command."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from operator import index
from typing import SupportsIndex

import numpy as np
from numpy.typing import NDArray

from aionvme.admin_commands import submit_admin
from aionvme.batch_commands import BatchCommands, Completions
from aionvme.buffers import NOTHING, Buffer, BufferPool
from aionvme.controller import Controller
from aionvme.driver.driver import Driver
from aionvme.driver.limiter import Limiter
from aionvme.driver.request import Submission
from aionvme.errors import UsageError, nvme_error
from aionvme.fdp_commands import FdpCommands
from aionvme.geometry import Geometry
from aionvme.latency import Latencies
from aionvme.mover import Mover
from aionvme.nvm_commands import NvmCommands
from aionvme.nvme.command import Command
from aionvme.nvme.identify import IdentifyController, IdentifyNamespace
from aionvme.nvme.identify_zoned import IdentifyZonedNamespace
from aionvme.nvme.status import Completion, Status
from aionvme.prepare import buffer_of, describe, metadata_of, plain, prepare_io
from aionvme.protecting import Part
from aionvme.queues.attach import PathReport
from aionvme.queues.batch import Batch
from aionvme.vectored import Data, Memory
from aionvme.zone_commands import ZoneCommands
from aionvme.zones.book import ZoneBook
from aionvme.zones.table import Zones


class Namespace(NvmCommands, ZoneCommands, BatchCommands, FdpCommands):
    """An open namespace; :func:`aionvme.open` makes one.

    Addresses and numbers of blocks are logical blocks, ``nlb`` 1-based. A command that the device fails raises the
    :class:`~aionvme.NvmeError` of its status, one that the operating system ends raises OSError, and a call that makes no
    sense raises :class:`~aionvme.UsageError` with nothing submitted. A task that is cancelled while its command is in flight
    goes on only when the command has completed, and buffers stay the command's until then.

    More commands than the queue is deep wait their turn, first come first served.

    Data is any contiguous memory: bytes, bytearray, memoryview, numpy arrays of any data type but object, masked ones not. Or
    it is a list or tuple of such pieces, of any lengths, which one command moves one after the other, as os.preadv() and
    os.pwritev() do; arrays of commands take no lists. What the device cannot reach where it is the kernel copies: all pieces of a
    command, unless each but the first begins on a page and each but the last ends on one.

    ``fua`` (Force Unit Access) asks the device to go past its volatile cache. Sections named are those of the NVM Command Set
    Specification 1.0 and, for zones, of the Zoned Namespace Command Set Specification 1.1.
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
        short = limiter is None and geometry.nothing_beside
        writes = short and geometry.guard.why_not is None
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
            geometry.max_transfer_bytes if writes else 0,
            self.max_append_bytes if writes and zoned else 0,
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
    def block_bytes(self) -> int:
        """Bytes of a logical block in a data buffer: ``lba_size``, and the metadata where the format interleaves it with the data
        and it is more than protection information."""
        return self._geometry.block_bytes

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
        """The controller's identify structure: model (mn), serial (sn), firmware (fr), version, limits. What it says besides is
        asked through :attr:`admin`."""
        return self._geometry.controller

    @property
    def admin(self) -> Controller:
        """The namespace's controller, for admin commands: identify structures, log pages, features."""
        return Controller(f"the controller of {self.target}", self.submit_admin, self._geometry.controller)

    @property
    def identify(self) -> IdentifyNamespace:
        """The namespace's identify structure: its LBA formats, capacity and identifiers."""
        return self._geometry.namespace

    @property
    def identify_zoned(self) -> IdentifyZonedNamespace | None:
        """The zoned namespace's identify structure, None of a conventional namespace."""
        return self._geometry.zoned

    @property
    def why_not_writable(self) -> str | None:
        """Why commands that may change something are refused, as found when it was opened: ``readonly=True``, or who uses the
        block device. None where they are not refused."""
        return self._geometry.guard.why_not

    def check_writable(self) -> None:
        """Look anew who uses the block device, which takes some 200 us, and raise what a command that writes would raise:
        ReadOnlyError, NamespaceInUseError."""
        self._geometry.guard.look_again("what is to be done")

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
        self._check_usable()
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
        self._check_usable()
        if self._zone_counters is None:
            raise UsageError(f"{self.target}: only an emulated zoned namespace counts what happens to its zones")
        return self._zone_counters()

    async def submit(
        self,
        command: Command,
        data: Data | None = None,
        into: Data | None = None,
        *,
        metadata: Buffer | None = None,
    ) -> Completion:
        """Submit any I/O command and wait for its completion, status and 64-bit result; an error status does not raise.

        ``data`` is sent, ``into`` is filled; which of them an opcode takes is in its bits 1:0. The length must be the one the
        command moves. The library knows it of reads, writes, compares, appends, dataset management, copy, zone management,
        reservations and I/O management; of any other command it is yours to get right, since a device that moves more writes past
        the buffer, and to address 0 where there is none. ``metadata`` goes the way of the data: what blocks have in a buffer of
        its own, by the namespace's format (:attr:`identify`), and unless the command has the controller make all of it (PRACT).

        Raises UsageError where command and buffers do not agree, ReadOnlyError and NamespaceInUseError where it may change
        something that must not be changed, all with nothing submitted; OSError where the operating system ended it, which is
        PermissionError where the kernel keeps it from this user.
        """
        self._check_usable()
        command = plain(command)
        span, beside = buffer_of(command, data, into), metadata_of(command, metadata)
        submission = prepare_io(command, span, self._geometry, self._pool, beside)
        return (await self._io.run([submission], self._limiter))[0]

    async def submit_admin(self, command: Command, data: Data | None = None, into: Data | None = None) -> Completion:
        """Submit any admin command to the namespace's controller; otherwise as :meth:`submit`.

        For which commands the length is checked, :meth:`Controller.submit` says; :attr:`admin` has many of them with types.
        Format NVM and Namespace Management wait for the I/O commands in flight; others are refused from then on, those that
        wait for a place too (ClosedError), since blocks may have got another size: the namespace is to be opened again.

        Where the namespace was opened with readonly=True, only Identify, Get Log Page, Get Features and Get LBA Status are taken.
        What can destroy data (Format NVM, Sanitize, Security Send, namespace and capacity management, vendor specific commands)
        is refused while any namespace of the NVM subsystem is in use, but with ``force=True``.
        """
        return await submit_admin(self._admin, self._geometry.guard, command, data, into, io=self._io)

    async def _complete(self, command: Command, span: Memory = NOTHING) -> Completion:
        self._check_usable()
        return (await self._run([Part(command, span)]))[0]

    async def _run(self, parts: Sequence[Part]) -> list[Completion]:
        submissions: list[Submission] = [
            prepare_io(command, span, self._geometry, self._pool, metadata) for command, span, metadata in parts
        ]
        completions = await self._io.run(submissions, self._limiter)
        for part, completion in zip(parts, completions, strict=False):
            if completion.status:
                raise self._failure(completion.status, part.command)
        return completions

    def _failure(self, res: int, command: Command) -> Exception:
        """What to raise for a command that ended with anything but 0."""
        return (
            self._io.os_error(res, command)
            if res < 0
            else nvme_error(Status(res), f"{describe(command)} on {self.target}")
        )

    def _check_usable(self) -> None:
        self._io.check_usable()

    async def _run_batch(self, batch: Batch) -> Completions:
        if batch.n:
            await self._io.run_batch(batch, self._limiter)
        return batch.completions
