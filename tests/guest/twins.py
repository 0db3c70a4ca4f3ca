"""A namespace of QEMU's controller and an emulated one of the same geometry, which are given the same commands."""

import fcntl
import os
import struct
from collections import Counter, deque
from collections.abc import Callable, Iterable
from typing import NamedTuple

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

NAMES = {opcode.value: opcode.name for opcode in NvmOpcode}
IO64 = 0xC0504E48
"""NVME_IOCTL_IO64_CMD of linux/nvme_ioctl.h."""
HISTORY = 12
"""How many commands a disagreement shows."""
NLB_MAX = 65536
BUSY = 1024
"""Blocks from the start of a conventional namespace in which most of what happens happens; and from its middle."""
ZRWAV = 0x08
"""Bit of a zone's attributes: it has a random write area."""


class Step(NamedTuple):
    """A command, and what it sends, or how many bytes it fills."""

    command: Command
    data: bytes = b""
    filled: int = 0


class ZoneNow(NamedTuple):
    """A zone as the emulated namespace has it; ``written`` counts the blocks below its write pointer."""

    zs: int
    za: int
    written: int


class Outcome(NamedTuple):
    """How both carried out one command; ``zone`` is what it addresses, as it was before, None of a conventional namespace.
    ``qemu`` is the version of QEMU."""

    command: Command
    ours: Completion
    theirs: Completion
    same_data: bool
    zone: ZoneNow | None
    spec: DeviceSpec
    qemu: tuple[int, int]

    @property
    def statuses(self) -> tuple[int, int]:
        """Ours and theirs."""
        return self.ours.status, self.theirs.status

    @property
    def action(self) -> int | None:
        """The action of Zone Management Send, without Select All and other bits; None of other commands."""
        return self.command.cdw13 & 0xFF if self.command.opcode == NvmOpcode.ZONE_MANAGEMENT_SEND else None


class Difference(NamedTuple):
    """Where the two may differ, who is right by which clause of the specification, and what tells that a difference is this one.

    One that is ``later`` does not show in how the command ends, but in what it leaves.
    """

    what: str
    right: str
    applies: Callable[[Outcome], bool]
    later: bool = False


class DisagreementError(AssertionError):
    """The two did not do the same, and no known difference explains it."""


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
        self.spec = _spec(ns, zones)
        major, minor, *_ = ns.controller.fr.split(".")
        self.qemu = (int(major), int(minor))
        self.device = Device(self.spec)
        namespace = self.device.namespace
        self.zones: ZoneTable | None = namespace.zones if isinstance(namespace, ZonedNamespace) else None
        self.counts: Counter[tuple[str, int, int]] = Counter()
        self.met: Counter[str] = Counter()
        self._differences = list(differences)
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
            await self._both(Step(zoned.zone_management_send(ZoneSendAction.RESET, select_all=True)))
            return
        for slba, nlb in ((0, BUSY), (self.nsze // 2, BUSY), (self.nsze - 32, 32)):
            await self._both(Step(nvm.write_zeroes(slba, nlb)))

    async def run(self, step: Step) -> Completion:
        """Carry out a command on both, and give how the emulated one ended it; DisagreementError where they differ."""
        zone = self._zone(step.command.slba)
        ours, theirs, same_data = await self._carry_out(step)
        self.counts[_key(step.command, ours.status)] += 1
        same_result = ours.result == theirs.result or ours.status != 0
        text = f"{describe(step)}: {ours.status:#x} {ours.result:#x}"
        same = ours.status == theirs.status and same_result and same_data
        if not same:
            text += f"; QEMU {theirs.status:#x} {theirs.result:#x}{'' if same_data else ', other data'}; zone {zone}"
        self._history.append(text)
        outcome = Outcome(step.command, ours, theirs, same_data, zone, self.spec, self.qemu)
        for difference in self._differences:
            if difference.later == same and difference.applies(outcome):
                self.met[difference.what] += 1
                await self._make_equal(outcome, step)
                return ours
        if not same:
            raise DisagreementError("\n".join(self._history))
        return ours

    async def _make_equal(self, outcome: Outcome, step: Step) -> None:
        """Take both back to one state where a difference may have left them in two: all zones empty, or zeroes in the blocks that
        the command names."""
        extents = touched(step)
        if self.zones is not None and extents:
            # What failed on both may have opened a zone on one of them, and have closed another for it, which a report shows.
            held = outcome.zone is not None and outcome.zone.za & ZRWAV
            if not all(outcome.statuses) or held or not await self._same_zones():
                await self._both(Step(zoned.zone_management_send(ZoneSendAction.RESET, select_all=True)))
            return
        for slba, nlb in extents:
            end = min(slba + nlb, self.nsze)
            for at in range(slba, end, NLB_MAX):
                await self._both(Step(nvm.write_zeroes(at, min(NLB_MAX, end - at))))

    async def check_zones(self) -> None:
        """All zones are the same in both, with their descriptor extensions where there are any."""
        if self.zones is not None:
            await self.run(self._report())

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

    def _report(self) -> Step:
        action = ZoneReceiveAction.EXTENDED_REPORT_ZONES if self.spec.zdes else ZoneReceiveAction.REPORT_ZONES
        length = 64 + self.spec.zones * (64 + self.spec.zdes)
        return Step(zoned.zone_management_receive(action, 0, length), filled=length)

    async def _same_zones(self) -> bool:
        return (await self._carry_out(self._report()))[2]

    def _zone(self, slba: int) -> ZoneNow | None:
        if self.zones is None or slba >= self.nsze:
            return None
        index = slba // self.zones.zsze
        return ZoneNow(self.zones.zs[index], self.zones.za[index], self.zones.written[index])

    async def _both(self, step: Step) -> None:
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


def describe(step: Step) -> str:
    """A command with all its numbers."""
    c = step.command
    name = NAMES.get(c.opcode, f"opcode {c.opcode:#x}")
    dwords = " ".join(f"{value:#x}" for value in (c.cdw2, c.cdw3, *c[6:10]))
    sent = step.data[:64].hex() if c.opcode in (NvmOpcode.COPY, NvmOpcode.DATASET_MANAGEMENT) else len(step.data)
    return f"{name} at {c.slba:#x}, cdw2 3 12 to 15 {dwords}, sends {sent}, fills {step.filled}"


def touched(step: Step) -> list[tuple[int, int]]:
    """Blocks that a command may have changed, as slba and nlb."""
    command = step.command
    match command.opcode:
        case NvmOpcode.DATASET_MANAGEMENT:
            return [(slba, nlb) for nlb, slba in struct.iter_unpack("<4xIQ", step.data)]
        case NvmOpcode.COPY:
            if command.cdw12 >> 8 & 0xF:
                return []  # a descriptor format that nobody offers
            sources = struct.iter_unpack("<8xQH14x", step.data)
            return [(command.slba, sum(nlb + 1 for _, nlb in sources))]
        case NvmOpcode.ZONE_MANAGEMENT_SEND:
            return [(0, 1 << 64)] if command.cdw13 & 0x100 else [(command.slba, 1)]
        case (
            NvmOpcode.READ | NvmOpcode.COMPARE | NvmOpcode.VERIFY | NvmOpcode.ZONE_MANAGEMENT_RECEIVE | NvmOpcode.FLUSH
        ):
            return []
    return [(command.slba, (command.cdw12 & 0xFFFF) + 1)]


def _key(command: Command, status: int) -> tuple[str, int, int]:
    match command.opcode:
        case NvmOpcode.ZONE_MANAGEMENT_SEND:
            action = command.cdw13 & 0x1FF
        case NvmOpcode.ZONE_MANAGEMENT_RECEIVE:
            action = command.cdw13 & 0xFF
        case _:
            action = 0
    return NAMES.get(command.opcode, "unknown"), action, status


def _spec(ns: aionvme.Namespace, zones: NDArray[np.void] | None) -> DeviceSpec:
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
