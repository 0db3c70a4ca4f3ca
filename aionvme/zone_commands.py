"""The commands of the Zoned Namespace Command Set as awaitables."""

from abc import ABC, abstractmethod
from operator import index
from typing import SupportsIndex

import numpy as np
from numpy.typing import NDArray

from aionvme.buffers import NOTHING, Buffer, span_of
from aionvme.controller import Controller
from aionvme.errors import UsageError
from aionvme.geometry import Geometry
from aionvme.mover import ZONE_APPEND, Launch
from aionvme.nvme import zoned
from aionvme.nvme.command import Command
from aionvme.nvme.identify_zoned import IdentifyZonedNamespace
from aionvme.nvme.opcodes import ReportingOptions, ZoneAttributes, ZoneReceiveAction, ZoneSendAction
from aionvme.nvme.status import Completion
from aionvme.nvme.zones import (
    REPORT_HEADER_LEN_BYTES,
    ZONE,
    ZONE_DESCRIPTOR_LEN_BYTES,
    parse_extended_report,
    parse_report,
)
from aionvme.prepare import check_appended, refuse_writing
from aionvme.protecting import Protection, Transfer, plan
from aionvme.vectored import Data, Memory, memory_of
from aionvme.zones.book import ZoneBook
from aionvme.zones.report import ZoneReport
from aionvme.zones.table import Zones

REPORT_MAX_BYTES = 64 << 10
"""Length of the buffer that a long report is fetched with, piece by piece: 1023 zones at a time."""


class ZoneCommands(ABC):
    """What a zoned namespace can do more. On a conventional namespace all of it but ``zoned`` raises UsageError."""

    _geometry: Geometry
    _launch: Launch
    _zones: Zones | None
    _book: ZoneBook | None

    @property
    @abstractmethod
    def target(self) -> str:
        """What was opened."""

    @property
    def zoned(self) -> bool:
        """Whether this is a zoned namespace."""
        return self._geometry.zoned is not None

    @property
    def zones(self) -> Zones:
        """The zones as objects, which keep the order of writes and the limits on open and active zones."""
        if self._zones is None:
            raise self._no_zones()
        return self._zones

    @property
    def zsze(self) -> int:
        """Size of every zone in logical blocks; its capacity may be smaller, see :meth:`report_zones`."""
        return self._zoned.zsze

    @property
    def nr_zones(self) -> int:
        """Number of zones."""
        return self._geometry.namespace.nsze // self.zsze

    @property
    def mar(self) -> int | None:
        """Most zones that may be active (open or closed) at a time, None for no limit."""
        return self._zoned.mar

    @property
    def mor(self) -> int | None:
        """Most zones that may be open at a time, None for no limit."""
        return self._zoned.mor

    @property
    def max_append_bytes(self) -> int:
        """Most data that one append takes: the controller's ZASL, a zone or 65536 blocks. An append is never split."""
        self._check_zslba(0)
        return self._geometry.max_append_bytes

    async def zone_append(
        self,
        zslba: SupportsIndex,
        data: Data,
        *,
        fua: bool = False,
        metadata: Buffer | None = None,
        protection: Protection | None = None,
    ) -> int:
        """Append whole logical blocks to the zone that starts at ``zslba``; gives the LBA at which the device put them.

        Appends to one zone may be in flight together, and land in any order. A task that is cancelled meanwhile does not
        learn where its data went (Zone Append, section 3.4.1). ``metadata`` and ``protection`` as with
        :meth:`~aionvme.Namespace.write`; the controller has reference tags follow the place it chooses (PIREMAP).

        Raises ZoneBoundaryError where the data does not fit what is left of the zone, ZoneFullError where nothing is left,
        TooManyActiveZonesError and TooManyOpenZonesError where the zone would have to be opened beyond ``mar`` or ``mor``.
        """
        beside = metadata is not None or protection is not None
        flight = None if beside else self._launch(ZONE_APPEND, zslba, None, data, fua)
        if flight is not None:
            if res := await flight:
                raise self._failure(res, zoned.zone_append(index(zslba), flight.nlb))
            return flight.value
        self._check_usable()
        zslba = self._check_zslba(zslba)
        span = memory_of(data, writable=False)
        self._geometry.blocks_in(span.len_bytes)
        check_appended(span, self._geometry, protection is not None)
        transfer = plan(zoned.zone_append(zslba, 1, fua=fua), span, self._geometry, metadata, protection)
        return (await self._move_at_once(transfer)).result

    async def report_zones(
        self,
        slba: SupportsIndex = 0,
        *,
        nr_zones: SupportsIndex | None = None,
        options: ReportingOptions = ReportingOptions.ALL,
    ) -> NDArray[np.void]:
        """The zones from the one that holds ``slba``, at most ``nr_zones`` of them, in the state that ``options`` asks for.

        Gives a structured array with the fields zslba, zcap and wp (logical blocks; the wp of a full zone means nothing and is
        2**64 - 1 on many controllers), zs (a :class:`~aionvme.ZoneState`), zt (2: sequential write required), za and zai
        (zone attributes, and information on them). A notebook shows it as a table. Report Zones, section 3.4.2.
        """
        zsze = self._zoned.zsze
        nsze = self._geometry.namespace.nsze
        slba = index(slba)
        if not 0 <= slba < nsze:
            raise UsageError(f"LBA {slba:#x}: the namespace has {nsze:#x} blocks, counted from 0")
        if options not in list(ReportingOptions):
            raise UsageError(f"options = {options!r}: choose one of ReportingOptions")
        left = self.nr_zones - slba // zsze
        if nr_zones is not None:
            if index(nr_zones) < 1:
                raise UsageError(f"nr_zones = {nr_zones}: ask for at least one")
            left = min(left, index(nr_zones))
        pieces: list[NDArray[np.void]] = []
        while left > 0 and slba < nsze:
            wanted = REPORT_HEADER_LEN_BYTES + left * ZONE_DESCRIPTOR_LEN_BYTES
            buffer = np.zeros(min(wanted, REPORT_MAX_BYTES, self._geometry.max_transfer_bytes), np.uint8)
            command = zoned.zone_management_receive(
                ZoneReceiveAction.REPORT_ZONES, slba, buffer.size, options=options, partial=True
            )
            await self._complete(command, span_of(buffer, writable=True))
            _, zones = parse_report(buffer)
            if not len(zones):
                break
            pieces.append(zones)
            left -= len(zones)
            slba = int(zones["zslba"][-1]) + zsze
        return (np.concatenate(pieces) if pieces else np.empty(0, ZONE)).view(ZoneReport)

    async def open_zone(
        self, zslba: SupportsIndex | None = None, *, select_all: bool = False, zrwa: bool = False
    ) -> None:
        """Open a zone explicitly, or with ``select_all`` every closed one (section 3.4.3).

        With ``zrwa`` an empty zone gets a random write area (Technical Proposal 4076), where :attr:`identify_zoned` has some.
        """
        await self._manage(ZoneSendAction.OPEN, zslba, select_all, zsaso=zrwa)

    async def close_zone(self, zslba: SupportsIndex | None = None, *, select_all: bool = False) -> None:
        """Close a zone, or with ``select_all`` every open one (section 3.4.3)."""
        await self._manage(ZoneSendAction.CLOSE, zslba, select_all)

    async def finish_zone(self, zslba: SupportsIndex | None = None, *, select_all: bool = False) -> None:
        """Make a zone full, or with ``select_all`` every open and closed one (section 3.4.3)."""
        await self._manage(ZoneSendAction.FINISH, zslba, select_all)

    async def reset_zone(self, zslba: SupportsIndex | None = None, *, select_all: bool = False) -> None:
        """Make a zone empty, or with ``select_all`` every one that is not; what they held is gone (section 3.4.3)."""
        await self._manage(ZoneSendAction.RESET, zslba, select_all)

    async def offline_zone(self, zslba: SupportsIndex | None = None, *, select_all: bool = False) -> None:
        """Take a read-only zone, or with ``select_all`` every one, offline; there is no way back (section 3.4.3)."""
        await self._manage(ZoneSendAction.OFFLINE, zslba, select_all)

    async def flush_zrwa(self, lba: SupportsIndex) -> None:
        """Move the write pointer of a zone with a random write area behind ``lba``: blocks up to there are written for good
        (Flush Explicit ZRWA Range, Technical Proposal 4076). How many that are is a multiple of the granularity, ZRWAFG."""
        lba = index(lba)
        zslba = self._check_zslba(lba - lba % self._zoned.zsze)
        await self._change_zones(zoned.zone_management_send(ZoneSendAction.FLUSH_EXPLICIT_ZRWA_RANGE, lba), zslba)

    async def set_zone_descriptor_extension(self, zslba: SupportsIndex, data: Buffer) -> None:
        """Give an empty zone a descriptor extension of ``zdes_bytes`` (:attr:`identify_zoned`), which makes it closed and active;
        a reset takes it away (section 3.4.3)."""
        zslba = self._check_zslba(zslba)
        self._check_extensions()
        command = zoned.zone_management_send(ZoneSendAction.SET_ZONE_DESCRIPTOR_EXTENSION, zslba)
        await self._change_zones(command, zslba, span_of(data, writable=False))

    async def zone_descriptor_extension(self, zslba: SupportsIndex) -> NDArray[np.uint8] | None:
        """The descriptor extension of a zone, None where it has none (Extended Report Zones, section 3.4.2)."""
        zslba = self._check_zslba(zslba)
        zdes_bytes = self._check_extensions()
        buffer = np.zeros(REPORT_HEADER_LEN_BYTES + ZONE_DESCRIPTOR_LEN_BYTES + zdes_bytes, np.uint8)
        command = zoned.zone_management_receive(
            ZoneReceiveAction.EXTENDED_REPORT_ZONES, zslba, buffer.size, partial=True
        )
        await self._complete(command, span_of(buffer, writable=True))
        _, (zone,), (extension,) = parse_extended_report(buffer, zdes_bytes)
        return extension if zone["za"] & ZoneAttributes.DESCRIPTOR_EXTENSION_VALID else None

    async def changed_zones(self) -> NDArray[np.uint64] | None:
        """The zslba of the zones that the controller itself changed since this was asked last (Changed Zone List log page,
        section 4.1.4); None where they are too many to be listed: then report all."""
        self._check_zslba(0)
        return await self.admin.changed_zones(self.nsid)

    @property
    @abstractmethod
    def nsid(self) -> int:
        """Namespace identifier."""

    @property
    @abstractmethod
    def admin(self) -> Controller:
        """The namespace's controller."""

    @abstractmethod
    def _failure(self, res: int, command: Command) -> Exception:
        """What to raise for a command that ended with anything but 0."""

    @abstractmethod
    def _check_usable(self) -> None:
        """Raise unless commands can be submitted from here."""

    @abstractmethod
    async def _move_at_once(self, transfer: Transfer) -> Completion:
        """Carry out a transfer with one command."""

    @abstractmethod
    async def _complete(self, command: Command, span: Memory = ...) -> Completion:
        """Carry out one command; raises where it fails."""

    async def _manage(
        self, action: ZoneSendAction, zslba: SupportsIndex | None, select_all: bool, *, zsaso: bool = False
    ) -> None:
        if (zslba is None) != select_all:
            raise UsageError("name the zone by its zslba, or pass select_all=True, not both and not neither")
        slba = self._check_zslba(0 if zslba is None else zslba)
        command = zoned.zone_management_send(action, slba, select_all=select_all, zsaso=zsaso)
        await self._change_zones(command, None if select_all else slba)

    async def _change_zones(self, command: Command, zslba: int | None, span: Memory = NOTHING) -> None:
        """Carry out a command that changes a zone, or all of them, past what their objects know."""
        refuse_writing(command, self._geometry)
        try:
            await self._complete(command, span)
        finally:
            self._forget(zslba)

    def _forget(self, zslba: int | None = None) -> None:
        """A zone, or all of them, are changed past their objects."""
        if self._book is not None:
            self._book.forget(zslba)

    def _check_extensions(self) -> int:
        if not self._zoned.zdes_bytes:
            raise UsageError(
                f"zones of {self.target} have no descriptor extensions: its format says that they are 0 bytes long"
            )
        return self._zoned.zdes_bytes

    def _check_zslba(self, zslba: SupportsIndex) -> int:
        zslba = index(zslba)
        zsze = self._zoned.zsze
        if zslba % zsze or not 0 <= zslba < self._geometry.namespace.nsze:
            raise UsageError(
                f"LBA {zslba:#x} does not start a zone: the namespace has {self.nr_zones} zones of {zsze:#x} blocks"
            )
        return zslba

    @property
    def _zoned(self) -> IdentifyZonedNamespace:
        zoned = self._geometry.zoned
        if zoned is None:
            raise self._no_zones()
        return zoned

    def _no_zones(self) -> UsageError:
        return UsageError(f"{self.target} is a conventional namespace: it has no zones")
