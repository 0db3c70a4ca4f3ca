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
from aionvme.nvme.status import Completion
from aionvme.vectored import Data, Memory, cut, memory_of

BYTE = np.dtype(np.uint8)

Ranges = Iterable[tuple[SupportsIndex, SupportsIndex]]
"""Pairs of slba and nlb."""


class NvmCommands(ABC):
    """What every namespace can do, conventional or zoned."""

    _geometry: Geometry
    _launch: Launch

    @overload
    async def read(
        self, slba: SupportsIndex, nlb: SupportsIndex, *, into: Buffer | None = None, fua: bool = False
    ) -> NDArray[np.uint8]: ...

    @overload
    async def read(
        self, slba: SupportsIndex, nlb: SupportsIndex, *, into: Sequence[Buffer], fua: bool = False
    ) -> list[NDArray[np.uint8]]: ...

    async def read(
        self, slba: SupportsIndex, nlb: SupportsIndex, *, into: Data | None = None, fua: bool = False
    ) -> NDArray[np.uint8] | list[NDArray[np.uint8]]:
        """Read ``nlb`` logical blocks from ``slba``, of any length: what exceeds one command is split and read at once
        (Read, section 3.2.4).

        Gives a flat uint8 array, which shows ``into`` where that was passed; it must hold exactly the blocks. Where ``into`` is a
        list or tuple of buffers, they are filled one after the other, and a list of such arrays is given.
        """
        if into is None:
            self._check_usable()
            slba, nlb = self._check_range(slba, nlb)
            into = np.empty(nlb * self._geometry.block_bytes, np.uint8)
        flight = self._launch(READ, slba, nlb, into, fua)
        if flight is not None:
            if res := await flight:
                raise self._failure(res, nvm.read(index(slba), index(nlb)))
        else:
            self._check_usable()
            slba, nlb = self._check_range(slba, nlb)
            await self._move(nvm.read(slba, 1, fua=fua), self._exact(memory_of(into, writable=True), nlb))
        if type(into) is ndarray and into.dtype is BYTE and into.ndim == 1:
            return into
        if isinstance(into, (list, tuple)):
            return [_flat(buffer) for buffer in into]
        return _flat(cast(Buffer, into))

    async def write(self, slba: SupportsIndex, data: Data, *, fua: bool = False) -> None:
        """Write whole logical blocks at ``slba`` (Write, section 3.2.6).

        What exceeds one command is split: on a conventional namespace the parts go at once, on a zoned one each after the one
        before, as the write pointer demands. A failure leaves the parts written that were.
        """
        flight = self._launch(WRITE, slba, None, data, fua)
        if flight is not None:
            if res := await flight:
                raise self._failure(res, nvm.write(index(slba), flight.nlb))
            return
        self._check_usable()
        span = memory_of(data, writable=False)
        slba, _ = self._check_range(slba, self._geometry.blocks_in(span.len_bytes))
        await self._move(nvm.write(slba, 1, fua=fua), span, in_order=self._geometry.zoned is not None)

    async def flush(self) -> None:
        """Make everything that has completed survive a loss of power (Flush, NVM Express Base 2.0, section 7.1)."""
        await self._complete(nvm.flush())

    async def compare(self, slba: SupportsIndex, data: Data) -> None:
        """Compare stored blocks with ``data``; raises CompareFailureError where they differ (section 3.2.1)."""
        span = memory_of(data, writable=False)
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

    async def _move(self, first: Command, span: Memory, *, in_order: bool = False) -> None:
        """Carry out a read or write of one block's command, stretched over all of ``span`` and split where it is too long."""
        block_bytes = self._geometry.block_bytes
        geometry = self._geometry
        limit = geometry.max_transfer_bytes if isinstance(span, Span) else geometry.max_vectored_bytes
        most = min(limit // block_bytes, nvm.NLB_MAX) * block_bytes
        commands, spans, slba = [], [], first.slba
        for part in cut(span, most, block_bytes):
            low, high = nvm.split_lba(slba)
            nlb = part.len_bytes // block_bytes
            commands.append(first._replace(cdw10=low, cdw11=high, cdw12=first.cdw12 | nvm.wire_nlb(nlb)))
            spans.append(part)
            slba += nlb
        if in_order:
            for command, part in zip(commands, spans, strict=True):
                await self._run([command], [part])
        else:
            await self._run(commands, spans)

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
    async def _run(self, commands: Sequence[Command], spans: Sequence[Memory]) -> list[Completion]:
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
