"""Commands for the twins, valid and invalid, each from one number and the state that the namespace is in.

The number is a string of decisions in mixed radix, and 0 decides for what is plain: so hypothesis, which looks for small numbers,
ends with commands that say what is wrong.
"""

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np

from aionvme.nvme import nvm
from aionvme.nvme.command import Command
from aionvme.nvme.opcodes import NvmOpcode, ZoneReceiveAction, ZoneSendAction, ZoneState
from aionvme.nvme.transfer import Direction, direction

from .outcome import ZRWAV, Step
from .twins import Twins

T = TypeVar("T")
NUMBER_BYTES = 32
"""Length of the number behind a command; none decides more."""
U64 = (1 << 64) - 1


class Choices:
    """Decisions taken from one number."""

    def __init__(self, number: int) -> None:
        self._rest = number

    def below(self, n: int) -> int:
        """A number from 0 on, less than ``n``."""
        self._rest, chosen = divmod(self._rest, n)
        return chosen

    def of(self, options: Sequence[T]) -> T:
        """One of them, the first if nothing speaks for another."""
        return options[self.below(len(options))]

    def once_in(self, n: int) -> bool:
        """Whether something happens that is not plain."""
        return self.below(n) == n - 1


def step(twins: Twins, number: int) -> Step:
    """The command that a number stands for, in the state that the twins are in."""
    choose = Choices(number)
    make = choose.of(CONVENTIONAL if twins.zones is None else WITH_AREAS if twins.spec.zrwas else ZONED)
    made = make(twins, choose)
    if not choose.once_in(8):
        return made
    return made._replace(command=_with_odd_bits(made.command, choose))


def _with_odd_bits(command: Command, choose: Choices) -> Command:
    """Bits that are reserved, or mean something rare; none that changes how much is transferred, or what a zone action does."""
    name = choose.of(("cdw12", "cdw13", "cdw14", "cdw15", "cdw2", "cdw3"))
    bits = 1 << choose.below(32) | choose.of((0, 1 << choose.below(32)))
    if name == "cdw12":
        bits &= ~0xFFFF if command.opcode != NvmOpcode.ZONE_MANAGEMENT_RECEIVE else 0
    elif name == "cdw13" and command.opcode in (NvmOpcode.ZONE_MANAGEMENT_SEND, NvmOpcode.ZONE_MANAGEMENT_RECEIVE):
        bits &= ~0x3FF if command.opcode == NvmOpcode.ZONE_MANAGEMENT_SEND else ~0x1FFFF
    return command._replace(**{name: getattr(command, name) | bits})


def pattern(tag: int, nlb: int, lba: int) -> bytes:
    """Blocks that can be told from others, and from each other."""
    tags = np.arange(nlb, dtype="<u8") + np.uint64(tag << 16 | 1)
    return np.repeat(tags, lba // 8).tobytes()


def _blocks(opcode: int, slba: int, nlb: int, flags: int = 0) -> Command:
    return Command(opcode, cdw10=slba & 0xFFFF_FFFF, cdw11=slba >> 32, cdw12=nlb - 1 | flags)


def _most(twins: Twins) -> int:
    """Blocks in the longest transfer: 256 KiB, which every kernel passes on."""
    return (256 << 10) // twins.lba


def _beyond_mdts(twins: Twins) -> int:
    return twins.spec.mdts_bytes // twins.lba + 1


# Addresses and lengths


def _far(twins: Twins, choose: Choices) -> int:
    """At the end of the namespace and beyond, where sums overflow too."""
    edge: int = choose.of((twins.nsze - 1, twins.nsze, 1 << 32, 1 << 63, U64, U64 - 0xFFFF, twins.nsze - 16))
    before = choose.below(4)
    return edge - before if edge > before else 0


def _conventional_extent(twins: Twins, choose: Choices) -> tuple[int, int]:
    slba = choose.below(64) if not choose.once_in(8) else choose.of((_far(twins, choose), twins.nsze // 2))
    nlb = choose.of((1, 2, 3, 8, 16, 64, 5, 4, 1 + choose.below(64)))
    return slba, choose.of((_most(twins), 1 + choose.below(_most(twins)))) if choose.once_in(16) else nlb


def _zone(twins: Twins, choose: Choices) -> int:
    """A few of the zones, so that each meets much, more than may be active; and the last."""
    index: int = choose.of((*range(10), twins.spec.zones - 1))
    return index


def _write_extent(twins: Twins, choose: Choices) -> tuple[int, int]:
    """Mostly at the write pointer or in the random write area, and then beside it, at the edges, or anywhere."""
    zones = twins.zones
    assert zones is not None
    index = _zone(twins, choose)
    written = zones.written[index]
    area = 2 * twins.spec.zrwas // twins.lba if zones.za[index] & ZRWAV else 0
    offset = written
    if area and not choose.once_in(4):
        offset += choose.below(area + 2)
    elif choose.once_in(6):
        offset = choose.of(
            (written + 1, written - 1, zones.zcap - 1, zones.zcap, zones.zsze - 1, choose.below(zones.zsze))
        )
    if choose.once_in(40):
        return _far(twins, choose), 1 + choose.below(16)
    rest = zones.zcap - offset
    nlb = choose.of((1, 2, 4, 3, 8, rest, rest, 16, rest + 1, 17, rest - 1, 64, 128, zones.zsze - offset + 1))
    return max(0, index * zones.zsze + offset), max(1, nlb)


def _read_extent(twins: Twins, choose: Choices) -> tuple[int, int]:
    """What was written, what was not, over the end of a zone, and beyond the namespace."""
    zones = twins.zones
    if zones is None:
        return _conventional_extent(twins, choose)
    if choose.once_in(24):
        return _far(twins, choose), 1 + choose.below(16)
    index = _zone(twins, choose)
    written = zones.written[index]
    offset = choose.of(
        (0, written - 1, written, written // 2, zones.zcap - 1, zones.zcap, zones.zsze - 2, choose.below(zones.zsze))
    )
    nlb = choose.of((1, 2, 3, 8, 32, 1 + choose.below(_most(twins))))
    return max(0, index * zones.zsze + offset), nlb


# Commands of both


def _write(twins: Twins, choose: Choices) -> Step:
    slba, nlb = (_conventional_extent if twins.zones is None else _write_extent)(twins, choose)
    nlb = min(nlb, _most(twins))
    flags = choose.of((0, 0, 0, 1 << 30))
    return Step(_blocks(NvmOpcode.WRITE, slba, nlb, flags), pattern(choose.below(1 << 30), nlb, twins.lba))


def _write_zeroes(twins: Twins, choose: Choices) -> Step:
    slba, nlb = (_conventional_extent if twins.zones is None else _write_extent)(twins, choose)
    if twins.zones is None and choose.once_in(32):
        nlb = choose.of((_beyond_mdts(twins), 65536))
    nlb = min(nlb, 65536)
    return Step(_blocks(NvmOpcode.WRITE_ZEROES, slba, nlb, choose.of((0, 0, 1 << 25, 1 << 30))))


def _write_uncorrectable(twins: Twins, choose: Choices) -> Step:
    slba, nlb = (_conventional_extent if twins.zones is None else _write_extent)(twins, choose)
    return Step(_blocks(NvmOpcode.WRITE_UNCORRECTABLE, slba, min(nlb, 65536)))


def _read(twins: Twins, choose: Choices) -> Step:
    slba, nlb = _read_extent(twins, choose)
    return Step(_blocks(NvmOpcode.READ, slba, nlb, choose.of((0, 0, 0, 1 << 30))), filled=nlb * twins.lba)


def _verify(twins: Twins, choose: Choices) -> Step:
    slba, nlb = _read_extent(twins, choose)
    return Step(
        _blocks(NvmOpcode.VERIFY, slba, choose.of((nlb, nlb, nlb, _beyond_mdts(twins), _beyond_mdts(twins) - 1, 65536)))
    )


def _compare(twins: Twins, choose: Choices) -> Step:
    """With what is there, or with a bit of it changed."""
    slba, nlb = _read_extent(twins, choose)
    data = np.zeros(nlb * twins.lba, np.uint8)
    twins.device.execute(_blocks(NvmOpcode.READ, slba, nlb)._replace(nsid=1), data.data)
    if choose.once_in(2):
        data[choose.of((0, data.size - 1, choose.below(data.size)))] ^= 1 << choose.below(8)
    return Step(_blocks(NvmOpcode.COMPARE, slba, nlb), data.tobytes())


def _flush(twins: Twins, choose: Choices) -> Step:
    return Step(Command(NvmOpcode.FLUSH))


def _dataset_management(twins: Twins, choose: Choices) -> Step:
    ranges = []
    for _ in range(choose.of((1, 2, 3, 8))):
        slba, nlb = _read_extent(twins, choose)
        ranges.append((slba, choose.of((nlb, 0)) if choose.once_in(8) else nlb))
    data = nvm.dsm_ranges(ranges)
    attributes = choose.of((4, 4, 1, 2, 3, 0, 7))
    return Step(Command(NvmOpcode.DATASET_MANAGEMENT, cdw10=len(ranges) - 1, cdw11=attributes), data)


def _copy(twins: Twins, choose: Choices) -> Step:
    if twins.zones is None:
        sdlba, _ = _conventional_extent(twins, choose)
    else:
        sdlba, _ = _write_extent(twins, choose)
    ranges = []
    for _ in range(choose.of((1, 1, 2, 3))):
        slba, nlb = _read_extent(twins, choose)
        ranges.append((slba, min(nlb, choose.of((8, 1, 128, 129, 40)))))
    if choose.once_in(16):
        ranges = [(choose.below(16), 1)] * choose.of((128, 129, 256))
    command = nvm.copy(min(sdlba, U64), len(ranges))
    if choose.once_in(8):  # descriptor formats 1 to 3 are no longer than a whole page
        form = 1 + choose.below(3)
        data = nvm.copy_ranges(ranges)
        length = len(ranges) * (40 if form in (1, 3) else 32)
        return Step(command._replace(cdw12=command.cdw12 | form << 8), data.ljust(length, b"\0"))
    return Step(command, nvm.copy_ranges(ranges))


def _unknown(twins: Twins, choose: Choices) -> Step:
    """Opcodes that no command set here has, vendor specific ones among them; with data, or without."""
    known = {*NvmOpcode, *RESERVATIONS, *LATER}
    opcode = choose.of([code for code in range(256) if code not in known])
    command = Command(opcode, cdw10=choose.below(8), cdw12=choose.below(8))
    length = choose.of((0, 512, 4096))
    match direction(opcode):
        case Direction.NONE:
            return Step(command)
        case Direction.HOST_TO_CONTROLLER:
            return Step(command, bytes(length))
    return Step(command, filled=length)


RESERVATIONS = (0x0D, 0x0E, 0x11, 0x15)
LATER = (0x12, 0x1D)
"""I/O Management Receive and Send, of later specifications, and of later versions of QEMU's controller."""


# Commands of zones


def _append(twins: Twins, choose: Choices) -> Step:
    zones = twins.zones
    assert zones is not None
    index = _zone(twins, choose)
    zslba = index * zones.zsze
    if choose.once_in(20):
        zslba = choose.of((zslba + 1, zslba + zones.written[index], zslba + zones.zsze - 1, _far(twins, choose)))
    most = twins.ns.max_append_bytes // twins.lba
    rest = zones.zcap - zones.written[index]
    nlb = min(choose.of((1, 2, 3, rest, 8, rest + 1, most, most - 1, rest - 1, 16, rest)), most)
    if choose.once_in(32):
        nlb = most + 1 + choose.below(2)
    nlb = max(1, nlb)
    return Step(_blocks(NvmOpcode.ZONE_APPEND, min(zslba, U64), nlb), pattern(choose.below(1 << 30), nlb, twins.lba))


_ACTIONS = (
    ZoneSendAction.OPEN, ZoneSendAction.OPEN, ZoneSendAction.CLOSE, ZoneSendAction.FINISH, ZoneSendAction.RESET,
    ZoneSendAction.OPEN, ZoneSendAction.OPEN, ZoneSendAction.CLOSE, ZoneSendAction.RESET, ZoneSendAction.OPEN,
    ZoneSendAction.SET_ZONE_DESCRIPTOR_EXTENSION, ZoneSendAction.OFFLINE,
)  # fmt: skip
_LIKELY = {
    ZoneSendAction.OPEN: (ZoneState.CLOSED, ZoneState.IMPLICITLY_OPENED, ZoneState.EMPTY),
    ZoneSendAction.CLOSE: (ZoneState.EXPLICITLY_OPENED, ZoneState.IMPLICITLY_OPENED),
    ZoneSendAction.FINISH: (ZoneState.IMPLICITLY_OPENED, ZoneState.CLOSED, ZoneState.EXPLICITLY_OPENED),
    ZoneSendAction.RESET: (ZoneState.FULL, ZoneState.CLOSED),
    ZoneSendAction.SET_ZONE_DESCRIPTOR_EXTENSION: (ZoneState.EMPTY, ZoneState.CLOSED),
}
"""States in which an action changes something, or is refused too late by QEMU; half of the time a zone in one is looked for."""


def _likely_zone(twins: Twins, choose: Choices, action: int) -> int:
    index, likely = _zone(twins, choose), _LIKELY.get(ZoneSendAction(action), ())
    assert twins.zones is not None
    if choose.once_in(2):
        return index
    wanted = choose.of(likely) if likely else None
    return next((i for i in range(index, index + 10) if twins.zones.zs[i % 10] == wanted), index) % twins.spec.zones


def _send(twins: Twins, choose: Choices) -> Step:
    zones = twins.zones
    assert zones is not None
    action: int = choose.of(_ACTIONS)
    slba = _likely_zone(twins, choose, action) * zones.zsze
    if choose.once_in(20):
        action = choose.of((0, 6, 0x0F, 0x11, 0x12, 0x7F, 0xFF))
    bits = 0x200 if choose.once_in(6) else 0
    if choose.once_in(24):
        slba = choose.of((slba + 1, slba + zones.zsze - 1, _far(twins, choose)))
    elif choose.once_in(16):
        bits |= 0x100
        slba = choose.of((0, slba, slba + 1, _far(twins, choose)))
    extends = action == ZoneSendAction.SET_ZONE_DESCRIPTOR_EXTENSION and twins.spec.zdes
    if action == ZoneSendAction.OPEN and slba < twins.nsze and zones.za[slba // zones.zsze] & ZRWAV:
        bits &= ~0x200  # QEMU would count an area more, which no reset gives back
    return _sent(slba, action | bits, pattern(choose.below(1 << 30), 1, twins.spec.zdes) if extends else b"")


def _sent(slba: int, cdw13: int, data: bytes = b"") -> Step:
    slba = min(slba, U64)
    return Step(Command(NvmOpcode.ZONE_MANAGEMENT_SEND, cdw10=slba & 0xFFFF_FFFF, cdw11=slba >> 32, cdw13=cdw13), data)


def _random_write_area(twins: Twins, choose: Choices) -> Step:
    """Give a zone a random write area; write into one, or flush it, or what else there is that it makes a difference to."""
    zones, spec = twins.zones, twins.spec
    assert zones is not None
    with_area = [i for i in range(spec.zones) if zones.za[i] & ZRWAV]
    if not with_area or choose.once_in(8):
        first = _zone(twins, choose)
        if choose.once_in(3):  # so that there is an empty zone, and one more may be active
            return _sent(first * zones.zsze, ZoneSendAction.RESET)
        order = [i % spec.zones for i in range(first, first + spec.zones)]
        wanted = ZoneState.FULL if choose.once_in(4) else ZoneState.EMPTY
        index = next((i for i in order if zones.zs[i] == wanted), first)
        area = 0 if zones.za[index] & ZRWAV else 0x200
        if choose.once_in(6):
            extension = pattern(choose.below(1 << 30), 1, spec.zdes)
            return _sent(index * zones.zsze, ZoneSendAction.SET_ZONE_DESCRIPTOR_EXTENSION | area, extension)
        return _sent(index * zones.zsze, ZoneSendAction.OPEN | area)
    index = choose.of(with_area)
    if choose.once_in(2):  # so that one of them comes to its end
        index = max(with_area, key=lambda i: zones.written[i])
    start, window, granularity = index * zones.zsze, spec.zrwas // twins.lba, max(1, spec.zrwafg // twins.lba)
    wp = start + zones.written[index]
    do = choose.below(16)
    if do < 9:
        nlb = choose.of((1, granularity, window, 2, window + 1, 1 + choose.below(2 * window)))
        furthest = 2 * window - nlb
        slba = wp + choose.of((0, window - 1, window, furthest, furthest, choose.below(2 * window + 2)))
        if do < 7:
            return Step(_blocks(NvmOpcode.WRITE, slba, nlb), pattern(choose.below(1 << 30), nlb, twins.lba))
        return Step(_blocks(NvmOpcode.WRITE_ZEROES, slba, nlb))
    if do < 13:
        last = choose.of(
            (granularity, window, 2 * granularity, window + granularity, 1, granularity + 1, window + 1, 0)
        )
        return _sent(max(0, wp + last - 1), ZoneSendAction.FLUSH_EXPLICIT_ZRWA_RANGE)
    if do == 13:
        return Step(_blocks(NvmOpcode.ZONE_APPEND, start, 1), pattern(choose.below(1 << 30), 1, twins.lba))
    if do == 14:
        return Step(_blocks(NvmOpcode.READ, wp, window + 1), filled=(window + 1) * twins.lba)
    return _sent(start, choose.of((ZoneSendAction.CLOSE, ZoneSendAction.OPEN, ZoneSendAction.FINISH)))


def _receive(twins: Twins, choose: Choices) -> Step:
    zones = twins.zones
    assert zones is not None
    slba = choose.of((0, choose.below(twins.nsze), _zone(twins, choose) * zones.zsze, 0, 0))
    if choose.once_in(16):
        slba = _far(twins, choose)
    action: int = choose.of((ZoneReceiveAction.REPORT_ZONES, ZoneReceiveAction.EXTENDED_REPORT_ZONES))
    if choose.once_in(32):
        action = choose.of((2, 3, 0x80, 0xFF))
    options = choose.below(8)
    if choose.once_in(16):
        options = choose.of((8, 9, 0x10, 0xFF))
    length = choose.of((4096, 64, 128, 320, 188, 192, 256, 60, 4, 132, 3072))
    cdw13 = action | options << 8 | choose.below(2) << 16
    command = Command(
        NvmOpcode.ZONE_MANAGEMENT_RECEIVE,
        cdw10=slba & 0xFFFF_FFFF,
        cdw11=slba >> 32,
        cdw12=length // 4 - 1,
        cdw13=cdw13,
    )
    return Step(command, filled=length)


Make = Callable[[Twins, Choices], Step]


def _weighted(weights: dict[Make, int]) -> list[Make]:
    return [make for make, weight in weights.items() for _ in range(weight)]


CONVENTIONAL = _weighted(
    {
        _read: 12, _write: 12, _write_zeroes: 5, _compare: 6, _verify: 4, _copy: 6, _flush: 1, _dataset_management: 2,
        _unknown: 2, _write_uncorrectable: 1,
    }
)  # fmt: skip
_ZONED: dict[Make, int] = {
    _append: 24, _write: 30, _send: 40, _receive: 12, _read: 14, _write_zeroes: 10, _compare: 6, _verify: 5, _copy: 8,
    _flush: 2, _unknown: 2, _dataset_management: 2, _write_uncorrectable: 1,
}  # fmt: skip
ZONED = _weighted(_ZONED)
WITH_AREAS = _weighted({**_ZONED, _random_write_area: 50})
