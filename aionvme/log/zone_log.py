"""The log: records of any length over one zone or many."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import chain
from operator import index
from typing import NamedTuple, Self, SupportsIndex

import anyio.lowlevel

from aionvme.buffers import Buffer, span_of
from aionvme.driver.limiter import Limiter
from aionvme.errors import NvmeError, UsageError, ZoneBoundaryError, ZoneFullError, ZoneOfflineError, ZoneReadOnlyError
from aionvme.log.errors import DamagedRecordError, LogFullError
from aionvme.log.frame import HEADER_LEN_BYTES, Frame, decode_frame, encode_frame, frame_blocks
from aionvme.log.ready import check_format
from aionvme.log.scan import Found, scan, whole
from aionvme.log.side_by_side import side_by_side
from aionvme.log.space import Extent, LogZone, Policy, Space, ZoneUsage, least_live
from aionvme.namespace import Namespace
from aionvme.nvme.opcodes import ZoneState
from aionvme.zones.record import ACTIVE_STATES
from aionvme.zones.zone import Zone

_REFUSED = (ZoneFullError, ZoneBoundaryError, ZoneReadOnlyError, ZoneOfflineError)
"""Statuses of a zone that takes no more: the frame goes to another one."""


@dataclass(eq=False)
class _Part:
    """A frame that is to be appended, and the zone in which it was given ``blocks``."""

    zone: LogZone
    blocks: int
    frame: Frame
    refused: bool = False
    """Whether it was not submitted at all."""


class LogRecord(NamedTuple):
    """A record of the log: its number, its length, and where its parts are, in their order. Reclaiming moves them."""

    sequence: int
    len_bytes: int
    extents: tuple[Extent, ...]


class ZoneLog:
    """A log over zones of a namespace: :meth:`create` makes one, :meth:`recover` finds one again from its zones alone.

    A record is split into frames of at most what one append takes, each with a checksum, which are appended to ``width`` zones
    side by side; the next zone is begun when one is full. When :meth:`append` has returned, the record survives the process; with
    ``fua``, or after :meth:`aionvme.Namespace.flush`, also a loss of power.

    The log has its zones to itself: nobody else may write to them, not another log either. Those that it is writing to stay
    active, so the widths of all logs of a namespace, and what else is written to, have to fit its ``mar`` together.
    """

    def __init__(self, ns: Namespace, space: Space, in_flight: int, *, fua: bool) -> None:
        """For :meth:`create` and :meth:`recover`."""
        self._ns = ns
        self._space = space
        self._in_flight = in_flight
        self._fua = fua
        self._records: dict[int, LogRecord] = {}
        self._next = 0
        self._reclaiming = anyio.Lock()
        self._most = ns.max_append_bytes // ns.lba_size
        self.appended_blocks = 0
        """Blocks written for records that were appended, since the log was opened."""
        self.moved_blocks = 0
        """Blocks written to move records in reclaiming: with the others, all that was written."""
        self.damaged_blocks = 0
        """Blocks that recovery found to belong to no whole frame."""

    @classmethod
    async def create(
        cls,
        ns: Namespace,
        zones: Iterable[Zone] | None = None,
        *,
        width: SupportsIndex = 1,
        in_flight: SupportsIndex = 32,
        spare: SupportsIndex = 0,
        fua: bool = False,
    ) -> Self:
        """Make a log of some zones, all of the namespace's by default. They are reset: what they held is gone.

        ``width`` zones are written to side by side, with ``in_flight`` appends under way in all. The room of ``spare`` zones is
        kept for reclaiming, which needs that of one where the others may be full. ``fua``: past the device's volatile cache.

        Raises UsageError where numbers, zones or the namespace's format do not suit, ReadOnlyError or NamespaceInUseError where
        it must not be written to, and what resetting a zone raises.
        """
        log = cls._over(ns, zones, width, in_flight, spare, fua)
        ns.check_writable()
        await side_by_side(log._in_flight, (zone.zone.reset for zone in log._space.zones.values()))
        log._space.begin()
        return log

    @classmethod
    async def recover(
        cls,
        ns: Namespace,
        zones: Iterable[Zone] | None = None,
        *,
        width: SupportsIndex = 1,
        in_flight: SupportsIndex = 32,
        spare: SupportsIndex = 0,
        fua: bool = False,
    ) -> Self:
        """Find the log that was made of these zones, and go on with it; the parameters are those of :meth:`create`.

        Every record whose append had returned is there, but for those that were discarded and their zones reclaimed. Some whose
        append had not returned may be there, and some that were discarded. Parts of records, and damage, are left out.

        A zone that was written to and holds nothing of a log is left alone, it may be somebody else's (:attr:`strange_zones`);
        where all of them do, UsageError is raised. So it is, as by :meth:`create`, where blocks have metadata: frames have none.
        """
        log = cls._over(ns, zones, width, in_flight, spare, fua)
        await log._recover()
        log._space.begin()
        return log

    @classmethod
    def _over(
        cls,
        ns: Namespace,
        zones: Iterable[Zone] | None,
        width: SupportsIndex,
        in_flight: SupportsIndex,
        spare: SupportsIndex,
        fua: bool,
    ) -> Self:
        own = list(ns.zones if zones is None else zones)
        if not own or len(set(own)) < len(own) or any(ns.zones.at(zone.zslba) != zone for zone in own):
            raise UsageError("a log takes at least one zone, each once, of its own namespace")
        if index(width) < 1 or index(in_flight) < 1:
            raise UsageError(f"width = {width}, in_flight = {in_flight}: at least 1 of each")
        if not 0 <= index(spare) < len(own):
            raise UsageError(
                f"spare = {spare}: of {len(own)} zones, the room of 0 to {len(own) - 1} can be kept for reclaiming"
            )
        if ns.mar is not None and index(width) > ns.mar:
            raise UsageError(f"width = {width}: zones that are written to are active, and at most {ns.mar} may be")
        check_format(ns)
        limited = ns.limited(Limiter(depth=index(in_flight)))
        space = Space([limited.zones[zone.index] for zone in own], ns.zsze, index(width), index(spare))
        return cls(limited, space, index(in_flight), fua=fua)

    def __len__(self) -> int:
        """Records in the log."""
        return len(self._records)

    def __iter__(self) -> Iterator[LogRecord]:
        """The records in the order in which they were appended."""
        return iter([self._records[sequence] for sequence in sorted(self._records)])

    def __getitem__(self, sequence: SupportsIndex) -> LogRecord:
        """A record by its number. Raises UsageError where it is not in the log."""
        record = self._records.get(index(sequence))
        if record is None:
            raise UsageError(f"record {index(sequence)} is not in the log: it never was, or it was discarded")
        return record

    @property
    def free_zones(self) -> int:
        """Empty zones that are not being written to."""
        return self._space.free_zones

    @property
    def strange_zones(self) -> list[Zone]:
        """Zones that recovery has left alone. One that is not somebody else's can be reset, and the log recovered again."""
        return [zone.zone for zone in self._space.zones.values() if zone.strange]

    def usage(self) -> list[ZoneUsage]:
        """The zones that nothing more is written to, as a policy sees them."""
        return [zone.usage for zone in self._space.reclaimable()]

    async def append(self, data: Buffer) -> LogRecord:
        """Append a record of any length. When this returns, it is in the log.

        Raises LogFullError where there is not as much room, with nothing written, and UsageError where it is refused. After
        another error, or where the task is cancelled, the record is not in the log, but recovery may find it.
        """
        payload = _bytes_of(data)
        sequence, self._next = self._next, self._next + 1
        if self._space.suspects:
            await self._finish_stuck()
        extents = await self._write(Frame(sequence, 0, len(payload), 0, payload))
        self.appended_blocks += sum(extent.nlb for extent in extents)
        record = self._records[sequence] = LogRecord(sequence, len(payload), tuple(extents))
        for extent in extents:
            self._space.put(sequence, extent)
        if self._space.suspects:
            with anyio.CancelScope(shield=True):  # the record is in the log, and its caller is to know
                await self._finish_stuck()
        return record

    async def read(self, record: LogRecord | SupportsIndex) -> bytes:
        """What was appended. Raises UsageError where the record is not in the log, DamagedRecordError where its checksums are not
        those of what the zones hold."""
        sequence = record.sequence if isinstance(record, LogRecord) else index(record)
        while True:
            current = self[sequence]
            frames = await side_by_side(
                self._in_flight, [partial(self._read, sequence, extent) for extent in current.extents]
            )
            if None not in frames:
                return b"".join(frame.payload for frame in frames if frame is not None)
            if self._records.get(sequence) is current:  # it was not moved meanwhile
                raise DamagedRecordError(f"record {sequence} of {self._ns.target} is damaged")

    def discard(self, record: LogRecord | SupportsIndex) -> None:
        """Take a record out of the log: reclaiming does not keep it. Until then recovery finds it."""
        sequence = record.sequence if isinstance(record, LogRecord) else index(record)
        for extent in self[sequence].extents:
            self._space.drop(sequence, extent)
        del self._records[sequence]

    async def reclaim(self, policy: Policy = least_live) -> ZoneUsage | None:
        """Move what is still in the log out of a zone that ``policy`` chooses, and reset it.

        Gives what that zone was, None where the policy chose none. Raises LogFullError where there is no room for what has to be
        moved, DamagedRecordError where some of it is damaged: then the zone is left as it is.
        """
        async with self._reclaiming:
            await self._finish_stuck()
            offered = self.usage()
            usage = policy(offered)
            if usage is None:
                return None
            if usage not in offered:
                raise UsageError(f"the policy chose {usage!r}, which is none of the zones that it was asked about")
            zone = self._space.zones[usage.zone.zslba]
            live = list(zone.live.items())
            await side_by_side(
                self._in_flight, [partial(self._move_whole, sequence, extent) for (sequence, _), extent in live]
            )
            # A copy must not be less safe than what it is a copy of; recovery may have found one that was made without FUA.
            await self._ns.flush()
            try:
                await zone.zone.reset()
            except NvmeError:
                zone.lost = True  # worn out, or offline: the next call chooses another
                raise
            self._space.reclaimed(zone)
            return usage

    async def _move_whole(self, sequence: int, extent: Extent) -> None:
        """Move a frame or do not: a copy that no record points to would take room for nothing."""
        await anyio.lowlevel.checkpoint_if_cancelled()
        with anyio.CancelScope(shield=True):
            await self._move(sequence, extent)

    async def _move(self, sequence: int, extent: Extent) -> None:
        """Append a frame anew, and have its record point there."""
        frame = await self._read(sequence, extent)
        if sequence not in self._records:
            return
        if frame is None:
            raise DamagedRecordError(f"record {sequence} of {self._ns.target} is damaged, and cannot be moved")
        moved = await self._write(frame._replace(moves=frame.moves + 1), reclaiming=True)
        self.moved_blocks += sum(extent.nlb for extent in moved)
        record = self._records.get(sequence)
        if record is None:  # it was discarded meanwhile
            return
        extents = sorted([*(other for other in record.extents if other != extent), *moved], key=lambda e: e.offset)
        self._records[sequence] = record._replace(extents=tuple(extents))
        self._space.drop(sequence, extent)
        for new in moved:
            self._space.put(sequence, new)

    async def _read(self, sequence: int, extent: Extent) -> Frame | None:
        """The frame at an extent, None where it is not what was written there."""
        frame = decode_frame((await self._ns.read(extent.lba, extent.nlb)).data)
        if frame is None or (frame.sequence, frame.offset, len(frame.payload)) != (
            sequence,
            extent.offset,
            extent.len_bytes,
        ):
            return None
        return frame

    async def _write(self, frame: Frame, *, reclaiming: bool = False) -> list[Extent]:
        """Append a record or a part of one, given as one frame however long it is, in as many as it takes.

        The caller tells ``space`` of them before anything else can happen, so that their zones are not taken for empty ones.
        """
        parts = self._place(frame, reclaiming=reclaiming)
        try:
            done = await side_by_side(
                self._in_flight, [partial(self._write_part, part, parts, reclaiming) for part in list(parts)]
            )
        except Exception:
            self._give_up(parts)
            raise
        except BaseException as error:
            self._give_up(parts)
            if not isinstance(error, GeneratorExit):  # who is closed by force cannot wait
                with anyio.CancelScope(shield=True):
                    await self._finish_stuck()
            raise
        for part in parts:
            part.zone.in_flight -= 1
        return [extent for extents in done for extent in extents]

    def _give_up(self, parts: list[_Part]) -> None:
        for part in reversed(parts):
            part.zone.in_flight -= 1
            if not part.refused or not self._space.give_back(part.zone, part.blocks):
                self._space.suspects.add(part.zone)

    def _place(self, frame: Frame, *, reclaiming: bool) -> list[_Part]:
        """Find room for all of it, or raise LogFullError with none taken."""
        lba_size, payload = self._ns.lba_size, frame.payload
        parts: list[_Part] = []
        taken: list[tuple[LogZone, int]] = []
        lanes = self._space.lanes
        at = 0
        while at < len(payload) or not parts:
            needed = frame_blocks(len(payload) - at, lba_size)
            try:
                zone, blocks = self._space.take(min(needed, self._most), reclaiming=reclaiming)
            except LogFullError:
                self._space.untake(taken, lanes)
                raise
            taken.append((zone, blocks))
            end = min(len(payload), at + blocks * lba_size - HEADER_LEN_BYTES)
            parts.append(_Part(zone, blocks, frame._replace(offset=frame.offset + at, payload=payload[at:end])))
            at = end
        return parts

    async def _write_part(self, part: _Part, parts: list[_Part], reclaiming: bool) -> list[Extent]:
        """Append a frame, in pieces elsewhere where its zone takes no more; ``parts`` gets those."""
        zone, frame = part.zone, part.frame
        blocks = encode_frame(frame, self._ns.lba_size)
        try:
            lba = await zone.zone.append(blocks, fua=self._fua)
        except UsageError:
            part.refused = True
            raise
        except _REFUSED as refusal:
            self._space.seal(zone)
            try:
                others = self._place(frame, reclaiming=reclaiming)
            except LogFullError:
                raise refusal from None  # other parts may have been written already
            parts += others
            return [extent for other in others for extent in await self._write_part(other, parts, reclaiming)]
        return [Extent(lba, len(blocks) // self._ns.lba_size, frame.offset, len(frame.payload))]

    async def _finish_stuck(self) -> None:
        for zone in self._space.stuck():
            await zone.zone.refresh()
            if zone in self._space.stuck() and zone.zone.zs in ACTIVE_STATES:
                await zone.zone.finish()
            self._space.suspects.discard(zone)

    async def _recover(self) -> None:
        zones = list(self._space.zones.values())
        await self._ns.zones.refresh()
        found = await side_by_side(self._in_flight, [partial(self._scan, zone) for zone in zones])
        if self.damaged_blocks and not any(found):
            raise UsageError("the zones were written to, and hold nothing of a log: they are somebody else's")
        frames: dict[int, list[Found]] = {}
        for frame in chain.from_iterable(found):
            frames.setdefault(frame.sequence, []).append(frame)
        self._next = max(frames, default=-1) + 1
        for sequence, parts in frames.items():
            extents = whole(parts)
            if extents is not None:
                self._records[sequence] = LogRecord(sequence, parts[0].total, extents)
                for extent in extents:
                    self._space.put(sequence, extent)

    async def _scan(self, zone: LogZone) -> list[Found]:
        zone.lost = zone.zone.zs in (ZoneState.READ_ONLY, ZoneState.OFFLINE)
        if zone.zone.zs is ZoneState.OFFLINE:
            return []
        found, damaged = await scan(self._ns, zone.zone)
        zone.strange = damaged > 0 and not found
        self.damaged_blocks += damaged
        return found


def _bytes_of(data: Buffer) -> memoryview:
    """What a buffer holds; it may be nothing. Raises UsageError where it is no contiguous memory of plain data."""
    try:
        view = memoryview(data)  # type: ignore[arg-type]  # numpy declares the protocol from Python 3.12 on
        if not view.nbytes:
            return memoryview(b"")
    except (TypeError, ValueError, BufferError):
        pass
    span_of(data, writable=False)
    return memoryview(data).cast("B")  # type: ignore[arg-type]
