"""A namespace of QEMU's controller and an emulated one of the same geometry, which are given the same commands."""

import fcntl
import os
import struct
from collections import Counter, deque
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

import aionvme
from aionvme.emulator import Device
from aionvme.emulator.spec import DeviceSpec
from aionvme.emulator.zoned import ZonedNamespace
from aionvme.emulator.zones import ZoneTable
from aionvme.nvme import nvm, zoned
from aionvme.nvme.command import Command
from aionvme.nvme.opcodes import NvmOpcode, ZoneReceiveAction, ZoneSendAction
from aionvme.nvme.status import Completion, Status

from .outcome import NAMES, Difference, DisagreementError, Outcome, Step, ZoneNow, describe
from .reconciling import compare_zones, held, reconcile

IO64 = 0xC0504E48
"""NVME_IOCTL_IO64_CMD of linux/nvme_ioctl.h."""
HISTORY = 12
"""How many commands a disagreement shows."""
BUSY = 1024
"""Blocks from the start of a conventional namespace in which most of what happens happens; and from its middle."""


class Twins:
    """The pair. ``counts`` has how often the emulated namespace ended an opcode, and its action, with a status; ``met`` how often
    each of the known ``differences`` was seen."""

    def __init__(
        self, ns: aionvme.Namespace, zones: NDArray[np.void] | None, differences: Iterable[Difference]
    ) -> None:
        """``ns`` is the guest's namespace, and ``zones`` its report if it is zoned."""
        self.ns = ns
        self.lba = ns.lba_size
        self.nsze = ns.nsze
        self.spec = spec_of(ns, zones)
        major, minor, *_ = ns.controller.fr.split(".")
        self.qemu = (int(major), int(minor))
        self.device = Device(self.spec)
        namespace = self.device.namespace
        self.zones: ZoneTable | None = namespace.zones if isinstance(namespace, ZonedNamespace) else None
        self.counts: Counter[tuple[str, int, int]] = Counter()
        self.met: Counter[str] = Counter()
        self._differences = [each for each in differences if each.is_in(self.qemu)]
        self._history: deque[str] = deque(maxlen=HISTORY)
        self._fd = os.open(ns.target, os.O_RDWR)

    def close(self) -> None:
        """Close what is not the caller's."""
        self.device.close()
        os.close(self._fd)

    async def start(self) -> None:
        """The same state on both: all zones empty, or zeroes where blocks are written mostly."""
        self._history.clear()
        if self.zones is not None:
            await self.both(Step(zoned.zone_management_send(ZoneSendAction.RESET, select_all=True)))
            return
        for slba, nlb in ((0, BUSY), (self.nsze // 2, BUSY), (self.nsze - 32, 32)):
            await self.both(Step(nvm.write_zeroes(slba, nlb)))

    async def run(self, step: Step) -> Completion:
        """Carry out a command on both, and give how the emulated one ended it; DisagreementError where they differ."""
        zone, before = self._zone(step.command), held(self, step)
        ours, theirs, same_data = await self._carry_out(step)
        self.counts[_key(step.command, ours.status)] += 1
        same_result = ours.result == theirs.result or ours.status != 0
        text = f"{describe(step)}: {ours.status:#x} {ours.result:#x}"
        same = ours.status == theirs.status and same_result and same_data
        if not same:
            text += f"; QEMU {theirs.status:#x} {theirs.result:#x}{'' if same_data else ', other data'}; zone {zone}"
        self._history.append(text)
        outcome = Outcome(step.command, ours, theirs, same_data, zone, self.spec)
        known = [each for each in self._differences if each.applies(outcome)]
        if not same and not any(ours.status != theirs.status or not each.later for each in known):
            raise DisagreementError(self.history())
        if known:
            unlike = await reconcile(self, outcome, step, before, [each.leaves for each in known])
            self.met.update(each.what for each in known if (unlike if each.later else not same))
        return ours

    async def check_zones(self) -> None:
        """All zones are the same in both, with their descriptor extensions where there are any."""
        if self.zones is not None:
            self.counts[_key(self._report().command, 0)] += 1
            await compare_zones(self)

    async def check_data(self, zones: Iterable[int]) -> None:
        """What was written is the same in both: every block of these zones, or where blocks are written mostly."""
        extents = [(0, BUSY)]
        if self.zones is not None:
            extents = [(zone * self.zones.zsze, self.zones.held(zone)) for zone in zones]
        most = (256 << 10) // self.lba
        for slba, nlb in extents:
            for offset in range(0, nlb, most):
                part = min(most, nlb - offset)
                await self.run(Step(nvm.read(slba + offset, part), filled=part * self.lba))

    def history(self) -> str:
        """The last commands, and how they ended."""
        return "\n".join(self._history)

    async def reports(self) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """All zones of each, as the device encodes them."""
        step = self._report()
        mine, theirs = np.empty(step.filled, np.uint8), np.empty(step.filled, np.uint8)
        statuses = (
            self.device.execute(step.command._replace(nsid=1), mine.data).status,
            (await self.ns.submit(step.command, into=theirs)).status,
        )
        assert statuses == (0, 0)
        return mine, theirs

    def mine(self, slba: int, nlb: int) -> bytes:
        """What blocks of the emulated namespace hold."""
        data = bytearray(nlb * self.lba)
        status = self.device.execute(nvm.read(slba, nlb)._replace(nsid=1), memoryview(data)).status
        assert status == 0
        return bytes(data)

    async def theirs(self, slba: int, nlb: int) -> bytes:
        """What blocks of QEMU's namespace hold."""
        data = np.empty(nlb * self.lba, np.uint8)
        status = (await self.ns.submit(nvm.read(slba, nlb), into=data)).status
        assert status == 0
        return data.tobytes()

    def _report(self) -> Step:
        action = ZoneReceiveAction.EXTENDED_REPORT_ZONES if self.spec.zdes else ZoneReceiveAction.REPORT_ZONES
        length = 64 + self.spec.zones * (64 + self.spec.zdes)
        return Step(zoned.zone_management_receive(action, 0, length), filled=length)

    def _zone(self, command: Command) -> ZoneNow | None:
        if self.zones is None or command.slba >= self.nsze:
            return None
        index = command.slba // self.zones.zsze
        return ZoneNow(index, self.zones.zs[index], self.zones.za[index], self.zones.written[index])

    async def both(self, step: Step) -> None:
        """Carry out a command that must succeed on both."""
        ours, theirs, _ = await self._carry_out(step)
        if (ours.status, theirs.status) != (0, 0):
            raise DisagreementError(
                f"{describe(step)}: {ours.status:#x}, QEMU {theirs.status:#x}, where both must succeed"
            )

    async def _carry_out(self, step: Step) -> tuple[Completion, Completion, bool]:
        command, data, filled = step
        if filled:
            # What a command does not fill stays as it is, on both sides.
            mine, other = np.full(filled, 0xEE, np.uint8), np.full(filled, 0xEE, np.uint8)
            ours = self.device.execute(command._replace(nsid=1), mine.data)
            theirs = await self.ns.submit(command, into=other)
            return ours, theirs, bool(ours.status or theirs.status or np.array_equal(mine, other))
        ours = self.device.execute(command._replace(nsid=1), memoryview(data))
        if command.opcode == NvmOpcode.ZONE_APPEND and len(data) > self.ns.max_append_bytes:
            return ours, self._ioctl(command, data), True
        return ours, await self.ns.submit(command, data if len(data) else None), True

    def _ioctl(self, command: Command, data: bytes) -> Completion:
        """What the library refuses: an append past ZASL."""
        buffer = np.array(np.frombuffer(data, np.uint8))
        dwords = command[4:10]
        packed = bytearray(
            struct.pack(
                "<BBHIIIQQII6IIIQ", command.opcode, 0, 0, self.ns.nsid, command.cdw2, command.cdw3, 0,
                buffer.ctypes.data, 0, buffer.nbytes, *dwords, 0, 0, 0,
            )
        )  # fmt: skip
        status = fcntl.ioctl(self._fd, IO64, packed)
        return Completion(Status(status), struct.unpack_from("<Q", packed, 72)[0])


def _key(command: Command, status: int) -> tuple[str, int, int]:
    match command.opcode:
        case NvmOpcode.ZONE_MANAGEMENT_SEND:
            action = command.cdw13 & 0x1FF
        case NvmOpcode.ZONE_MANAGEMENT_RECEIVE:
            action = command.cdw13 & 0xFF
        case _:
            action = 0
    return NAMES.get(command.opcode, "unknown"), action, status


def spec_of(ns: aionvme.Namespace, zones: NDArray[np.void] | None) -> DeviceSpec:
    """An emulated device with the geometry that Identify gives."""
    identified = ns.identify_zoned
    transfer = ns.controller.mdts_bytes()
    assert transfer is not None
    if identified is None or zones is None:
        return DeviceSpec(zoned=False, lba=ns.lba_size, size_bytes=ns.nsze * ns.lba_size, mdts_bytes=transfer)
    raw, lba = identified.raw, ns.lba_size
    assert (zones["zcap"] == zones["zcap"][0]).all()
    return DeviceSpec(
        zoned=True,
        lba=lba,
        size_bytes=ns.nsze * lba,
        zone_size=identified.zsze * lba,
        zone_capacity=int(zones["zcap"][0]) * lba,
        mar=identified.mar or 0,
        mor=identified.mor or 0,
        zdes=identified.zdes_bytes,
        zrwas=int(raw["zrwasz"]) * lba,
        zrwafg=int(raw["zrwafg"]) * lba,
        numzrwa=int(raw["numzrwa"]) if raw["zrwasz"] else 0,
        mdts_bytes=transfer,
        zasl_bytes=ns.max_append_bytes,
    )
