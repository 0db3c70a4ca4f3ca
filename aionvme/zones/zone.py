"""A zone as an object: what can be done with it, in an order that the device accepts."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from operator import index
from typing import SupportsIndex, overload

import anyio
import numpy as np
from numpy.typing import NDArray

from aionvme.buffers import Buffer
from aionvme.errors import NvmeError, UsageError
from aionvme.nvme.opcodes import ZoneAttributes, ZoneState
from aionvme.protecting import Protection
from aionvme.vectored import Data
from aionvme.zones.book import ZoneBook
from aionvme.zones.commands import Commands
from aionvme.zones.held import Held, Options, check_extension, hold
from aionvme.zones.record import NO_WRITE_POINTER, Record


class Zone:
    """One zone of a namespace; ``ns.zones[i]`` gives it.

    State and write pointer are kept from what commands through zone objects do. Whoever else writes to the device (another
    process, :meth:`~aionvme.Namespace.zone_append` and the like) is noticed by an error, or with :meth:`refresh`.

    A command that would open the zone waits until it may: there are never more zones open or active than the namespace allows,
    see :class:`~aionvme.Zones`. A wait can be cancelled; a command in flight is waited for. Where a command was cancelled or its
    coroutine closed, the device is asked before anybody relies on the zone's state again.

    Raises what the commands of :class:`~aionvme.Namespace` do, and UsageError where all open or active zones were left
    so by somebody else, and nobody here is going to close or finish one.
    """

    __slots__ = ("_book", "_commands", "_record")

    def __init__(self, commands: Commands, book: ZoneBook, record: Record) -> None:
        self._commands = commands
        self._book = book
        self._record = record

    def __repr__(self) -> str:
        record = self._record
        what = f"{record.zs.name}, {record.written} of {record.zcap} blocks" if record.known else "to be looked up"
        return f"<Zone {self.index} of {self._commands.target}, at {record.zslba:#x}: {what}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Zone) and self._record is other._record

    def __hash__(self) -> int:
        return hash(self._record)

    @property
    def index(self) -> int:
        """Its number, from 0."""
        return self._record.zslba // self._commands.zsze

    @property
    def zslba(self) -> int:
        """LBA of its first block."""
        return self._record.zslba

    @property
    def zcap(self) -> int:
        """Blocks that can be written."""
        return self._known.zcap

    @property
    def zs(self) -> ZoneState:
        """Its state."""
        return self._known.zs

    @property
    def za(self) -> ZoneAttributes:
        """Its attributes, as the device last reported them."""
        return self._known.za

    @property
    def wp(self) -> int | None:
        """LBA of the next block to be written, None where the state has no write pointer (full, read only, offline)."""
        return self._known.wp

    @property
    def written(self) -> int:
        """Blocks below the write pointer, all of them where there is none."""
        return self._known.written

    @property
    def room(self) -> int:
        """Blocks that can still be written."""
        return self._known.zcap - self._known.written

    async def append(
        self,
        data: Data,
        *,
        fua: bool = False,
        metadata: Buffer | None = None,
        protection: Protection | None = None,
    ) -> int:
        """Append whole blocks, at most :attr:`~aionvme.Namespace.max_append_bytes`; gives the LBA where the device put them.

        Those of many tasks are in flight together. ``metadata`` and ``protection`` are as with :meth:`~aionvme.Namespace.write`.
        """
        record = self._record
        options = Options(fua=fua, metadata=metadata, protection=protection)
        held = hold(data, self._book.geometry, range(record.zslba, record.zslba + 1), options, append=True)
        record.ours = True
        if not record.known:
            await self._book.find_out(record)
        if record.known and record.zs in NO_WRITE_POINTER:
            async with record.gate.alone():
                if record.known and record.zs in NO_WRITE_POINTER:
                    return await self._refused(held)
        await self._book.resources.admit(record)
        try:
            await record.gate.enter()
            try:
                lba = await self._commands.zone_append(record.zslba, held.data, **held.options)
                record.advance(lba - record.zslba + held.nlb)
            except UsageError:
                raise
            except BaseException:
                record.doubt()
                raise
            finally:
                record.gate.leave()
        except NvmeError as error:
            await self._book.mend(record, error)
            raise
        finally:
            self._book.resources.release(record)
        return lba

    async def write(
        self,
        data: Data,
        *,
        fua: bool = False,
        metadata: Buffer | None = None,
        protection: Protection | None = None,
    ) -> int:
        """Write whole blocks at the write pointer, of any length; gives their LBA.

        Writes of many tasks go one after the other, in the order in which they were called for, unless some of them had to wait
        for an open or active zone. Raises UsageError where there is not as much room, or where the zone has a random write
        area: :meth:`write_zrwa`.
        """
        record = self._record
        options = Options(fua=fua, metadata=metadata, protection=protection)
        held = hold(data, self._book.geometry, range(record.zslba, record.zslba + self._commands.zsze), options)
        self._check_room(held.nlb)
        record.ours = True
        await self._book.resources.admit(record)
        try:
            async with record.gate.alone():
                if not record.known:
                    await self._book.look_up(record)
                if ZoneAttributes.ZRWA_VALID in record.za:
                    raise UsageError(
                        f"the zone at {record.zslba:#x} has a random write area: say where, with write_zrwa()"
                    )
                self._check_room(held.nlb)
                slba = record.zslba + record.written
                try:
                    await self._commands.write(slba, held.data, **held.options)
                except UsageError:
                    raise
                except BaseException:
                    record.doubt()
                    raise
                record.advance(slba - record.zslba + held.nlb)
        except NvmeError as error:
            await self._book.mend(record, error)
            raise
        finally:
            self._book.resources.release(record)
        return slba

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
        """Read blocks of this zone, as :meth:`aionvme.Namespace.read` does. Raises UsageError where they are not."""
        slba, nlb = index(slba), index(nlb)
        self._check_range(slba, nlb)
        return await self._commands.read(slba, nlb, into=into, fua=fua, metadata=metadata, protection=protection)

    async def open(self, *, zrwa: bool = False) -> None:
        """Open it explicitly: it stays open until it is closed, or becomes full.

        With ``zrwa`` it gets a random write area, if it is empty and the namespace has one left (Technical Proposal 4076).
        """
        self._check_writable("opening")
        await self._book.resources.admit(self._record)
        try:
            await self._change(lambda zslba: self._commands.open_zone(zslba, zrwa=zrwa), ZoneState.EXPLICITLY_OPENED)
            if zrwa:
                self._record.za |= ZoneAttributes.ZRWA_VALID
        finally:
            self._book.resources.release(self._record)

    @asynccontextmanager
    async def opened(self, *, zrwa: bool = False) -> AsyncIterator["Zone"]:
        """Keep it open inside of the context; the last of those who do closes it. ``zrwa`` is as for :meth:`open`."""
        self._check_writable("opening")
        self._record.openers += 1
        try:
            await self.open(zrwa=zrwa)
            yield self
        finally:
            self._record.openers -= 1
            if not self._record.openers:
                with anyio.CancelScope(shield=True):
                    await self._book.close(self._record)

    async def write_zrwa(
        self,
        slba: SupportsIndex,
        data: Data,
        *,
        fua: bool = False,
        metadata: Buffer | None = None,
        protection: Protection | None = None,
    ) -> None:
        """Write whole blocks into the random write area, which begins at the write pointer: in any order, and again.

        What goes beyond its end moves it, and the write pointer with it: blocks that it leaves behind are written for good.
        Writes of many tasks are in flight together. Where the pointer is then, :meth:`refresh` tells.
        """
        record = self._record
        slba = index(slba)
        options = Options(fua=fua, metadata=metadata, protection=protection)
        held = hold(data, self._book.geometry, range(slba, slba + 1), options)
        self._check_range(slba, held.nlb)
        record.ours = True
        await self._book.resources.admit(record)
        try:
            await record.gate.enter()
            try:
                await self._commands.write(slba, held.data, **held.options)
            finally:
                record.doubt()  # whether it moved is the device's to say
                record.gate.leave()
        except NvmeError as error:
            await self._book.mend(record, error)
            raise
        finally:
            self._book.resources.release(record)

    async def flush_zrwa(self, nlb: SupportsIndex) -> None:
        """Move the write pointer over the next ``nlb`` blocks, which are written for good then: a multiple of the namespace's
        flush granularity, ZRWAFG."""
        nlb = index(nlb)
        record = self._record
        self._check_writable("a flush")
        try:
            async with record.gate.alone():
                if not record.known:
                    await self._book.look_up(record)
                if not 1 <= nlb <= self.room:
                    raise UsageError(
                        f"nlb = {nlb}: the zone at {record.zslba:#x} has room for {self.room}, counted from 1"
                    )
                written = record.written + nlb
                await self._commands.flush_zrwa(record.zslba + written - 1)
                record.advance(written)
                record.known = True
        except NvmeError as error:
            await self._book.mend(record, error)
            raise
        finally:
            self._book.resources.settle(record)

    async def extension(self) -> NDArray[np.uint8] | None:
        """Its descriptor extension, None where it has none."""
        return await self._commands.zone_descriptor_extension(self._record.zslba)

    async def set_extension(self, data: Buffer) -> None:
        """Give it a descriptor extension while it is empty, which makes it closed; a reset takes it away."""
        self._check_writable("a descriptor extension")
        check_extension(data, self._book.geometry)
        await self._book.resources.admit_active(self._record)
        try:
            await self._change(
                lambda zslba: self._commands.set_zone_descriptor_extension(zslba, data), ZoneState.CLOSED
            )
            self._record.za |= ZoneAttributes.DESCRIPTOR_EXTENSION_VALID
        finally:
            self._book.resources.release_active(self._record)

    async def close(self) -> None:
        """Close it. It stays active until it is full or reset, also where nothing was written."""
        await self._change(self._commands.close_zone, ZoneState.CLOSED)

    async def finish(self) -> None:
        """Make it full."""
        await self._change(self._commands.finish_zone, ZoneState.FULL)

    async def reset(self) -> None:
        """Make it empty; what it held is gone."""
        await self._change(self._commands.reset_zone, ZoneState.EMPTY)

    async def offline(self) -> None:
        """Take it offline, where it is read only; there is no way back."""
        await self._change(self._commands.offline_zone, ZoneState.OFFLINE)

    async def refresh(self) -> None:
        """Ask the device for state, write pointer and capacity."""
        async with self._record.gate.alone():
            await self._book.look_up(self._record)

    @property
    def _known(self) -> Record:
        if not self._record.known:
            raise UsageError(
                f"the state of the zone at {self._record.zslba:#x} is in doubt since a command to it was cancelled or went past "
                "its object: await refresh() first"
            )
        return self._record

    async def _change(self, command: Callable[[int], Awaitable[None]], zs: ZoneState) -> None:
        record = self._record
        self._check_writable("a change")
        record.ours = True
        try:
            async with record.gate.alone():
                if not record.known:
                    await self._book.look_up(record)
                await command(record.zslba)
                record.enter(zs)
        except NvmeError as error:
            await self._book.mend(record, error)
            raise
        finally:
            self._book.resources.settle(record)

    async def _refused(self, held: Held) -> int:
        """Have the device say why it takes nothing more, which needs no resources."""
        try:
            lba = await self._commands.zone_append(self._record.zslba, held.data, **held.options)
        except NvmeError as error:
            await self._book.mend(self._record, error)
            raise
        self._record.doubt()  # somebody else has reset it
        return lba

    def _check_room(self, nlb: int) -> None:
        if not self._record.known:
            self._check_range(self.zslba, nlb)
        elif nlb > self.room:
            raise UsageError(
                f"{nlb} blocks to write: the zone at {self.zslba:#x} is {self.zs.name} and has room for {self.room}"
            )

    def _check_range(self, slba: int, nlb: int) -> None:
        zslba, zsze = self._record.zslba, self._commands.zsze
        if not zslba <= slba or slba + nlb > zslba + zsze:
            raise UsageError(
                f"{nlb} blocks at LBA {slba:#x} are not all of the zone's, {zslba:#x} to {zslba + zsze - 1:#x}"
            )

    def _check_writable(self, what: str) -> None:
        """Refuse what a read-only namespace does not take before anything is waited for, or somebody else's zone closed."""
        guard = self._book.geometry.guard
        if guard.why_not is not None:
            raise guard.error(f"{what} of the zone at {self._record.zslba:#x}")
