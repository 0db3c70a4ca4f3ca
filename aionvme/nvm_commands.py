"""The commands of the NVM Command Set as awaitables."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from operator import index
from typing import SupportsIndex, cast, overload

import numpy as np
from numpy import ndarray
from numpy.typing import NDArray

from aionvme.buffers import NOTHING, Buffer, Span, span_of
from aionvme.errors import UsageError
from aionvme.geometry import Geometry
from aionvme.mover import READ, WRITE, Launch
from aionvme.nvme import nvm
from aionvme.nvme.command import Command
from aionvme.nvme.fdp import CTRATT_FDP
from aionvme.nvme.status import Completion
from aionvme.protecting import Part, Protection, Transfer, by_the_controller, copying, plan, verifying
from aionvme.vectored import Data, Memory, memory_of

BYTE = np.dtype(np.uint8)

DATA_PLACEMENT = 2
"""Directive Type of Flexible Data Placement (Base 2.1, figure 606)."""

Ranges = Iterable[tuple[SupportsIndex, SupportsIndex]]
"""Pairs of slba and nlb."""


class NvmCommands(ABC):
    """What every namespace can do, conventional or zoned."""

    _geometry: Geometry
    _launch: Launch

    @overload
    async def read(
        self,
        slba: SupportsIndex,
        nlb: SupportsIndex,
        *,
        into: Buffer | None = None,
        fua: bool = False,
        metadata: Buffer | None = None,
        protection: Protection | None = None,
    ) -> NDArray[np.uint8]: ...

    @overload
    async def read(
        self,
        slba: SupportsIndex,
        nlb: SupportsIndex,
        *,
        into: Sequence[Buffer],
        fua: bool = False,
        metadata: Buffer | None = None,
        protection: Protection | None = None,
    ) -> list[NDArray[np.uint8]]: ...

    async def read(
        self,
        slba: SupportsIndex,
        nlb: SupportsIndex,
        *,
        into: Data | None = None,
        fua: bool = False,
        metadata: Buffer | None = None,
        protection: Protection | None = None,
    ) -> NDArray[np.uint8] | list[NDArray[np.uint8]]:
        """Read ``nlb`` logical blocks from ``slba``, of any length: what exceeds one command is split and read at once
        (Read, section 3.2.4).

        Gives a flat uint8 array, which shows ``into`` where that was passed; it must hold exactly the blocks, of
        :attr:`~aionvme.Namespace.block_bytes` each. Where ``into`` is a list or tuple of buffers, they are filled one after the
        other, and a list of such arrays is given.

        ``metadata``, where the format keeps it apart, is filled with that of the blocks. Protection information is checked by the
        controller, or with ``protection`` by the host as well: ProtectionError says what that has found, with the data in the
        buffer.
        """
        if into is None:
            self._check_usable()
            slba, nlb = self._check_range(slba, nlb)
            into = np.empty(nlb * self._geometry.block_bytes, np.uint8)
        beside = metadata is not None or protection is not None
        flight = None if beside else self._launch(READ, slba, nlb, into, fua)
        if flight is not None:
            if res := await flight:
                raise self._failure(res, nvm.read(index(slba), index(nlb)))
        else:
            self._check_usable()
            slba, nlb = self._check_range(slba, nlb)
            if isinstance(into, (list, tuple)):
                into = tuple(into)  # the caller may change a list meanwhile
            memory = self._exact(memory_of(into, writable=True), nlb)
            await self._move(plan(nvm.read(slba, 1, fua=fua), memory, self._geometry, metadata, protection))
        if type(into) is ndarray and into.dtype is BYTE and into.ndim == 1:
            return into
        if isinstance(into, (list, tuple)):
            return [_flat(buffer) for buffer in into]
        return _flat(cast(Buffer, into))

    async def write(
        self,
        slba: SupportsIndex,
        data: Data,
        *,
        fua: bool = False,
        metadata: Buffer | None = None,
        protection: Protection | None = None,
        placement: SupportsIndex | None = None,
    ) -> None:
        """Write whole logical blocks at ``slba`` (Write, section 3.2.6).

        What exceeds one command is split: on a conventional namespace the parts go at once, on a zoned one each after the one
        before, as the write pointer demands. A failure leaves the parts written that were.

        ``metadata`` is needed where the format keeps it apart, unless all of it is protection information: that is made by the
        controller, or with ``protection`` by the host. ``placement`` is a placement identifier, of a controller with Flexible
        Data Placement: the blocks go to the reclaim unit that its handle refers to (Base 2.1, section 8.1.10).
        """
        beside = metadata is not None or protection is not None or placement is not None
        flight = None if beside else self._launch(WRITE, slba, None, data, fua)
        if flight is not None:
            if res := await flight:
                raise self._failure(res, nvm.write(index(slba), flight.nlb))
            return
        self._check_usable()
        span = memory_of(data, writable=False)
        slba, _ = self._check_range(slba, self._geometry.blocks_in(span.len_bytes))
        dtype, dspec = (0, 0) if placement is None else (DATA_PLACEMENT, self._check_placement(placement))
        command = nvm.write(slba, 1, fua=fua, dtype=dtype, dspec=dspec)
        transfer = plan(command, span, self._geometry, metadata, protection)
        await self._move(transfer, in_order=self._geometry.zoned is not None)

    async def flush(self) -> None:
        """Make everything that has completed survive a loss of power (Flush, NVM Express Base 2.0, section 7.1)."""
        await self._complete(nvm.flush())

    async def compare(
        self,
        slba: SupportsIndex,
        data: Data,
        *,
        metadata: Buffer | None = None,
        protection: Protection | None = None,
    ) -> None:
        """Compare stored blocks with ``data``; raises CompareFailureError where they differ (section 3.2.1).

        Metadata is compared, too, but for protection information. That is checked, with what the host makes for ``data`` in any
        case: a compare has the controller make none.
        """
        self._check_usable()
        span = memory_of(data, writable=False)
        slba, _ = self._check_command_range(slba, self._geometry.blocks_in(span.len_bytes))
        await self._move_at_once(plan(nvm.compare(slba, 1), span, self._geometry, metadata, protection))

    async def verify(self, slba: SupportsIndex, nlb: SupportsIndex, *, protection: Protection | None = None) -> None:
        """Have the controller check stored blocks without sending them, with their protection information if they have any; at
        most 65536 at once (section 3.2.5)."""
        command = nvm.verify(*self._check_command_range(slba, nlb))
        await self._complete(verifying(command, self._geometry, protection))

    async def write_zeroes(self, slba: SupportsIndex, nlb: SupportsIndex, *, deallocate: bool = False) -> None:
        """Set blocks to zero, and let the controller deallocate them; at most 65536 at once (section 3.2.8).

        Protection information is made by the controller; other metadata is set to zero.
        """
        command = nvm.write_zeroes(*self._check_command_range(slba, nlb), deac=deallocate)
        await self._complete(by_the_controller(command, self._geometry))

    async def deallocate(self, ranges: Ranges) -> None:
        """Tell the controller that the blocks of 1 to 256 ``(slba, nlb)`` ranges hold nothing worth keeping (Dataset
        Management, section 3.2.3)."""
        checked = self._check_ranges(ranges, nvm.DSM_NLB_MAX)
        await self._complete(
            nvm.dataset_management(len(checked), deallocate=True), span_of(nvm.dsm_ranges(checked), writable=False)
        )

    async def copy(self, sdlba: SupportsIndex, ranges: Ranges) -> None:
        """Copy the blocks of 1 to 256 ``(slba, nlb)`` ranges, one after the other, to ``sdlba``, inside the controller
        (section 3.2.2). Protection information is checked by the controller, and made anew."""
        checked = self._check_ranges(ranges, nvm.NLB_MAX)
        first, _ = self._check_range(sdlba, sum(nlb for _, nlb in checked))
        counts = self._geometry.protection is not None and self._geometry.protection.counts
        data = nvm.copy_ranges(checked, ref_tags=counts)
        await self._complete(copying(nvm.copy(first, len(checked)), self._geometry), span_of(data, writable=False))

    async def _move(self, transfer: Transfer, *, in_order: bool = False) -> None:
        """Carry out a transfer, split where it is too long for one command."""
        geometry = self._geometry
        limit = geometry.max_transfer_bytes if isinstance(transfer.span, Span) else geometry.max_vectored_bytes
        parts = list(transfer.parts(min(limit // transfer.block_bytes, nvm.NLB_MAX)))
        if in_order:
            for part in parts:
                await self._run([part])
        else:
            await self._run(parts)
        if transfer.finish is not None:
            transfer.finish()

    async def _move_at_once(self, transfer: Transfer) -> Completion:
        """Carry out a transfer with one command."""
        return (await self._run([transfer.whole()]))[0]

    def _check_placement(self, placement: SupportsIndex) -> int:
        placement = index(placement)
        if not self._geometry.controller.raw["ctratt"] & CTRATT_FDP:
            raise UsageError(f"placement = {placement}: the controller has no Flexible Data Placement (CTRATT bit 19)")
        if not 0 <= placement < 1 << 16:
            raise UsageError(f"placement = {placement}: a placement identifier has 16 bits")
        return placement

    def _exact(self, span: Memory, nlb: int) -> Memory:
        needed = nlb * self._geometry.block_bytes
        if span.len_bytes != needed:
            remedy = f"alloc({needed}) gives one" if span.len_bytes < needed else f"pass a slice, [:{needed}]"
            raise UsageError(f"a buffer of {span.len_bytes} bytes, and {nlb} blocks take exactly {needed}: {remedy}")
        return span

    def _check_range(self, slba: SupportsIndex, nlb: SupportsIndex) -> tuple[int, int]:
        slba, nlb = index(slba), index(nlb)
        if nlb < 1:
            raise UsageError(f"nlb = {nlb}: at least one logical block, counted from 1")
        nsze = self._geometry.namespace.nsze
        if slba < 0 or slba + nlb > nsze:
            raise UsageError(f"{nlb} blocks at LBA {slba:#x}: the namespace has {nsze:#x} blocks, counted from 0")
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

    @abstractmethod
    def _check_usable(self) -> None:
        """Raise unless commands can be submitted from here."""

    @abstractmethod
    async def _complete(self, command: Command, span: Memory = NOTHING) -> Completion:
        """Carry out one command; raises for any status but success."""

    @abstractmethod
    async def _run(self, parts: Sequence[Part]) -> list[Completion]:
        """Carry out commands together; raises for the first that failed."""

    @abstractmethod
    def _failure(self, res: int, command: Command) -> Exception:
        """What to raise for a command that ended with anything but 0."""


def _flat(buffer: Buffer) -> NDArray[np.uint8]:
    return np.frombuffer(buffer, np.uint8)  # type: ignore[arg-type]  # numpy asks for less than it takes


def _pair(item: tuple[SupportsIndex, SupportsIndex]) -> tuple[SupportsIndex, SupportsIndex]:
    try:
        slba, nlb = item
    except (TypeError, ValueError):
        raise UsageError(f"{item!r} is not a range: it takes (slba, nlb)") from None
    return slba, nlb
