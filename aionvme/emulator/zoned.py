"""The commands of the Zoned Namespace Command Set on an emulated namespace (specification 1.1, sections 3.3 and 3.4).

Reads stay within a zone, since OZCS does not offer reads across zone boundaries, and find zeroes at and above the write
pointer whatever the media holds there: that is what lets a reset change a table entry and nothing else. Writes, and so
Write Zeroes, Write Uncorrectable and the destination of a Copy, go to the write pointer alone, or into the zone's random write
area where it has one (Technical Proposal 4076), which in turn takes no appends.
"""

from collections.abc import Callable
from typing import ClassVar

from aionvme.emulator.completions import (
    DONE,
    INVALID_FIELD,
    INVALID_ZONE_OPERATION,
    LBA_OUT_OF_RANGE,
    ZONE_BOUNDARY_ERROR,
    ZONE_INVALID_WRITE,
    ZONE_IS_OFFLINE,
    StatusError,
    from_host,
    to_host,
)
from aionvme.emulator.counters import Counters
from aionvme.emulator.image import Image
from aionvme.emulator.nvm import NvmNamespace
from aionvme.emulator.spec import DeviceSpec
from aionvme.emulator.zone_counters import ZoneCounters
from aionvme.emulator.zone_states import TRANSITIONS, Event
from aionvme.emulator.zones import ZoneTable
from aionvme.nvme.command import Command
from aionvme.nvme.opcodes import (
    CommandSetIdentifier,
    NvmOpcode,
    ReportingOptions,
    ZoneAttributes,
    ZoneReceiveAction,
    ZoneSendAction,
    ZoneState,
)
from aionvme.nvme.status import SUCCESS, Completion, Status
from aionvme.nvme.zones import REPORT_HEADER_LEN_BYTES, ZONE_DESCRIPTOR_LEN_BYTES, encode_report

_OFFLINE = ZoneState.OFFLINE
_FUA = 1 << 30
_SELECT_ALL = 1 << 8
_ZRWA_ALLOCATE = 1 << 9
_PARTIAL = 1 << 16

_ACTIONS: dict[int, Event] = {
    action: Event(action) for action in ZoneSendAction if action != ZoneSendAction.FLUSH_EXPLICIT_ZRWA_RANGE
}
_ALLOCATING = frozenset({Event.OPEN, Event.EXTEND})
"""What may allocate a random write area."""
_REPORTED_STATES: dict[int, ZoneState | None] = {
    ReportingOptions.ALL: None,
    **{option: ZoneState[option.name] for option in ReportingOptions if option},
}


class ZonedNamespace(NvmNamespace):
    """A namespace of zones that are written in order."""

    csi = CommandSetIdentifier.ZONED

    def __init__(self, spec: DeviceSpec, image: Image, counters: Counters, zone_counters: ZoneCounters) -> None:
        """The zones are as the image has them, after a power cycle."""
        super().__init__(spec, image, counters)
        self.zones = ZoneTable(spec, image, zone_counters)
        self._zsze = self.zones.zsze
        self._report_actions = set(ZoneReceiveAction) if spec.zdes else {ZoneReceiveAction.REPORT_ZONES}

    def _zone_append(self, command: Command, data: memoryview) -> Completion:
        """Section 3.4.1."""
        zslba, nlb = self._extent(command)
        length = nlb * self._lba
        self._check_transfer(length)
        self._check_range(zslba, nlb)
        index, offset = divmod(zslba, self._zsze)
        if self.zones.has_zrwa(index):
            raise StatusError(INVALID_ZONE_OPERATION)
        if offset or length > self.spec.zasl_bytes:
            raise StatusError(INVALID_FIELD)
        blocks = from_host(data, length)
        offset = self.zones.written[index]
        self._admit_write(index, offset, nlb)
        slba = zslba + offset
        self.image.write_blocks(slba, blocks)
        self.zones.wrote(index, offset, nlb)
        self._settle(command.cdw12 & _FUA)
        self.counters.count_write(length)
        self.zones.counters.count_append(index, nlb)
        return Completion(SUCCESS, slba)

    def _zone_management_send(self, command: Command, data: memoryview) -> Completion:
        """Section 3.4.3; the action that flushes a random write area names the last block to flush, all others the zone."""
        action, select_all = command.cdw13 & 0xFF, command.cdw13 & _SELECT_ALL
        if action == ZoneSendAction.FLUSH_EXPLICIT_ZRWA_RANGE and not select_all:
            self._flush_zrwa(command.slba)
            self._settle(0)
            return DONE
        index = 0 if select_all else self._zone_at_start(command.slba)
        event = _ACTIONS.get(action)
        if event is None:
            raise StatusError(INVALID_FIELD)
        if event is Event.EXTEND and (select_all or not self.spec.zdes):
            raise StatusError(INVALID_FIELD)
        attributes = 0
        if event in _ALLOCATING and command.cdw13 & _ZRWA_ALLOCATE:
            # Select All opens closed zones, and an area is for empty ones.
            if select_all or not self.spec.zrwas:
                raise StatusError(INVALID_ZONE_OPERATION)
            attributes = ZoneAttributes.ZRWA_VALID.value
        if event is Event.EXTEND:
            self.zones.extend(index, from_host(data, self.spec.zdes), attributes)
        elif select_all:
            self.zones.fire_all(event)
        else:
            self.zones.fire(index, event, attributes)
        self._settle(0)
        return DONE

    def _zone_management_receive(self, command: Command, data: memoryview) -> Completion:
        """Section 3.4.2; an extended report has each zone's descriptor extension after its descriptor."""
        length = (command.cdw12 + 1) * 4
        if command.slba >= self._nsze:
            raise StatusError(LBA_OUT_OF_RANGE)
        action, options = command.cdw13 & 0xFF, command.cdw13 >> 8 & 0xFF
        if action not in self._report_actions or options not in _REPORTED_STATES:
            raise StatusError(INVALID_FIELD)
        if length < REPORT_HEADER_LEN_BYTES:
            raise StatusError(INVALID_FIELD)
        self._check_transfer(length)
        view = to_host(data, length)
        zones = self.zones.report(command.slba // self._zsze, _REPORTED_STATES[options])
        zdes = self.spec.zdes if action == ZoneReceiveAction.EXTENDED_REPORT_ZONES else 0
        held = zones[: (length - REPORT_HEADER_LEN_BYTES) // (ZONE_DESCRIPTOR_LEN_BYTES + zdes)]
        extensions = self.zones.extensions(held) if zdes else None
        report = encode_report(len(held) if command.cdw13 & _PARTIAL else len(zones), held, extensions)
        view[: len(report)] = report
        view[len(report) :] = bytes(length - len(report))
        return DONE

    def _flush_zrwa(self, slba: int) -> None:
        if slba >= self._nsze:
            raise StatusError(LBA_OUT_OF_RANGE)
        if not self.spec.zrwas:
            raise StatusError(INVALID_ZONE_OPERATION)
        self.zones.flush_zrwa(*divmod(slba, self._zsze))

    def _zone_at_start(self, zslba: int) -> int:
        if zslba >= self._nsze:
            raise StatusError(LBA_OUT_OF_RANGE)
        index, offset = divmod(zslba, self._zsze)
        if offset:
            raise StatusError(INVALID_FIELD)
        return index

    def _readable(self, slba: int, nlb: int) -> int:
        index, offset = divmod(slba, self._zsze)
        if self.zones.zs[index] is _OFFLINE:
            raise StatusError(ZONE_IS_OFFLINE)
        if offset + nlb > self._zsze:
            raise StatusError(ZONE_BOUNDARY_ERROR)
        return min(nlb, max(self.zones.held(index) - offset, 0))

    def _begin_write(self, slba: int, nlb: int) -> None:
        index, offset = divmod(slba, self._zsze)
        self._admit_write(index, offset, nlb)

    def _admit_write(self, index: int, offset: int, nlb: int) -> None:
        """Section 2.1.1.2.1.1: state, write pointer and capacity are looked at first, only then are resources taken.

        An append comes with the zone it names: the write pointer of a full one may be where the next zone starts.
        """
        zones = self.zones
        outcome = TRANSITIONS[zones.zs[index], Event.WRITE]
        if isinstance(outcome, Status):
            raise StatusError(outcome)
        if not zones.takes(index, offset, nlb):
            raise StatusError(ZONE_INVALID_WRITE)
        if offset + nlb > zones.zcap:
            raise StatusError(ZONE_BOUNDARY_ERROR)
        zones.fire(index, Event.WRITE)

    def _end_write(self, slba: int, nlb: int) -> None:
        index, offset = divmod(slba, self._zsze)
        self.zones.wrote(index, offset, nlb)
        self.zones.counters.count_write(index, nlb)

    def _deallocate(self, slba: int, nlb: int) -> None:
        """Blocks that can hold data read as zeroes from now on; states and write pointers stay (section 3.3.3)."""
        end = slba + nlb
        while slba < end:
            index, offset = divmod(slba, self._zsze)
            part = min(end - slba, self._zsze - offset)
            held = min(part, self.zones.held(index) - offset)
            if held > 0:
                self.image.zero_blocks(slba, held)
            slba += part

    METHODS: ClassVar[dict[int, Callable[..., Completion]]] = {
        **NvmNamespace.METHODS,
        NvmOpcode.ZONE_MANAGEMENT_SEND: _zone_management_send,
        NvmOpcode.ZONE_MANAGEMENT_RECEIVE: _zone_management_receive,
        NvmOpcode.ZONE_APPEND: _zone_append,
    }
