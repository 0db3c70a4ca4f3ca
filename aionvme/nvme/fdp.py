"""Flexible Data Placement, FDP: its log pages, and the commands for reclaim unit handles (NVM Express Base Specification 2.1,
section 5.1.12, log pages 20h to 23h, and section 7; Technical Proposal 4146).

An endurance group has reclaim unit handles. A write with directive type 2 names one of them, and a reclaim group, by the
placement identifier in its directive specific field.
"""

from dataclasses import dataclass, field
from enum import IntEnum
from typing import Self

import numpy as np
from numpy.typing import NDArray

from aionvme.nvme.command import Command
from aionvme.nvme.layout import U128, Data, layout, record, u128, values
from aionvme.nvme.opcodes import NvmOpcode

CTRATT_FDP = 1 << 19
"""Flexible Data Placement Supported: bit 19 of CTRATT in Identify Controller."""


class ReclaimUnitHandleType(IntEnum):
    """Reclaim Unit Handle Type, RUHT: whether the controller may mix data of handles when it moves it."""

    INITIALLY_ISOLATED = 1
    PERSISTENTLY_ISOLATED = 2


class ReclaimUnitHandleAttribute(IntEnum):
    """Reclaim Unit Handle Attributes, RUHA: by whom a handle is used."""

    UNUSED = 0
    HOST_SPECIFIED = 1
    CONTROLLER_SPECIFIED = 2


class FdpEventType(IntEnum):
    """FDP Event Type: 00h to 7Fh are those of hosts, 80h and above of the controller."""

    RECLAIM_UNIT_NOT_FULLY_WRITTEN = 0x00
    RECLAIM_UNIT_TIME_LIMIT_EXCEEDED = 0x01
    CONTROLLER_RESET_MODIFIED_RECLAIM_UNIT_HANDLES = 0x02
    INVALID_PLACEMENT_IDENTIFIER = 0x03
    MEDIA_REALLOCATED = 0x80
    IMPLICITLY_MODIFIED_RECLAIM_UNIT_HANDLE = 0x81


FDP_CONFIGURATIONS = layout(16, [("numfdpc", 0, "<u2"), ("ver", 2, "u1"), ("sze", 4, "<u4")])
"""Header of the FDP Configurations log page; NUMFDPC is 0's based, SZE the bytes of the whole log page."""
assert FDP_CONFIGURATIONS.itemsize == 16

FDP_CONFIGURATION = layout(64, [
    ("dsze", 0, "<u2"), ("fdpa", 2, "u1"), ("vss", 3, "u1"), ("nrg", 4, "<u4"), ("nruh", 8, "<u2"),
    ("maxpids", 10, "<u2"), ("nns", 12, "<u4"), ("runs", 16, "<u8"), ("erutl", 24, "<u4"),
])  # fmt: skip
"""FDP Configuration Descriptor, without what follows: 4 bytes for each reclaim unit handle, of which the first is RUHT."""
assert FDP_CONFIGURATION.itemsize == 64

RECLAIM_UNIT_HANDLE_USAGE = layout(8, [("nruh", 0, "<u2")])
"""Header of the Reclaim Unit Handle Usage log page; 8 bytes follow for each handle, of which the first is RUHA."""
assert RECLAIM_UNIT_HANDLE_USAGE.itemsize == 8

FDP_STATISTICS = layout(64, [("hbmw", 0, U128), ("mbmw", 16, U128), ("mbe", 32, U128)])
"""FDP Statistics log page."""
assert FDP_STATISTICS.itemsize == 64

FDP_EVENT = layout(64, [
    ("fdpet", 0, "u1"), ("fdpef", 1, "u1"), ("pid", 2, "<u2"), ("timestamp", 4, ("u1", (8,))), ("nsid", 12, "<u4"),
    ("ets", 16, ("u1", (16,))), ("rgid", 32, "<u2"), ("ruhid", 34, "u1"), ("vs", 40, ("u1", (24,))),
])  # fmt: skip
"""FDP Event."""
assert FDP_EVENT.itemsize == 64

FDP_EVENTS = layout(64, [("n", 0, "<u4")])
"""Header of the FDP Events log page: how many follow."""
assert FDP_EVENTS.itemsize == 64

RECLAIM_UNIT_HANDLE_STATUS_HEADER = layout(16, [("nruhsd", 14, "<u2")])
"""Header of the reclaim unit handle status: how many descriptors follow."""
assert RECLAIM_UNIT_HANDLE_STATUS_HEADER.itemsize == 16

RECLAIM_UNIT_HANDLE_STATUS = layout(
    32, [("pid", 0, "<u2"), ("ruhid", 2, "<u2"), ("earutr", 4, "<u4"), ("ruamw", 8, "<u8")]
)
"""Reclaim Unit Handle Status Descriptor: the placement identifier ``pid``, its handle ``ruhid``, ``earutr`` seconds for which the
reclaim unit that it writes to stays active (0: not reported), and ``ruamw`` logical blocks that can still be written there."""
assert RECLAIM_UNIT_HANDLE_STATUS.itemsize == 32


def reclaim_unit_handle_status(len_bytes: int) -> Command:
    """I/O Management Receive of the status of a namespace's reclaim unit handles, ``len_bytes`` of it, a multiple of 4."""
    if not 4 <= len_bytes <= 1 << 34 or len_bytes % 4:
        raise ValueError(f"len_bytes = {len_bytes}: a status is received as 1 to 2**32 dwords of 4 bytes")
    return Command(NvmOpcode.IO_MANAGEMENT_RECEIVE, cdw10=1, cdw11=len_bytes // 4 - 1)


def reclaim_unit_handle_update(npid: int) -> Command:
    """I/O Management Send that has the reclaim unit handles of ``npid`` placement identifiers, 1 to 65536, go on in other reclaim
    units. The data are the identifiers, 2 bytes each."""
    if not 1 <= npid <= 1 << 16:
        raise ValueError(f"npid = {npid}: a reclaim unit handle update takes 1 to 65536 placement identifiers")
    return Command(NvmOpcode.IO_MANAGEMENT_SEND, cdw10=1 | npid - 1 << 16)


@dataclass(frozen=True)
class FdpConfiguration:
    """One way in which an endurance group may be configured (FDP Configurations, LID 20h).

    ``runs`` is the nominal size of a reclaim unit in bytes, ``nrg`` the number of reclaim groups, ``nruh`` that of reclaim unit
    handles, whose types are ``ruht``; ``maxpids`` how many placement handles a namespace may have, 1-based, ``nns`` how many
    namespaces there may be. ``erutl`` is for how many seconds a reclaim unit stays active, 0 where that is not reported.
    ``rgif`` is how many high bits of a placement identifier are the reclaim group, ``fdpvwc`` whether there is a volatile write
    cache, and ``fdpcv`` whether the configuration is valid.
    """

    fdpcv: bool
    fdpvwc: bool
    rgif: int
    nrg: int
    nruh: int
    maxpids: int
    nns: int
    runs: int
    erutl: int
    ruht: tuple[int, ...]
    raw: np.void = field(repr=False, compare=False)

    @classmethod
    def parse(cls, data: Data) -> Self:
        """Decode one descriptor; ValueError where it says that it is longer than ``data``, or too short for its handles."""
        octets = np.frombuffer(data, np.uint8)
        raw = record(octets, FDP_CONFIGURATION)
        dsze, nruh, start = int(raw["dsze"]), int(raw["nruh"]), FDP_CONFIGURATION.itemsize
        if not start + 4 * nruh <= dsze <= octets.size:
            raise ValueError(f"an FDP configuration of {dsze} bytes with {nruh} handles, and {octets.size} are here")
        fdpa = int(raw["fdpa"])
        return cls(
            **values(raw, "nrg", "nruh", "nns", "runs", "erutl"),
            fdpcv=bool(fdpa >> 7),
            fdpvwc=bool(fdpa >> 4 & 1),
            rgif=fdpa & 0xF,
            maxpids=int(raw["maxpids"]) + 1,
            ruht=tuple(octets[start : start + 4 * nruh : 4].tolist()),
            raw=raw,
        )


def parse_fdp_configurations(data: Data) -> list[FdpConfiguration]:
    """The configurations of an FDP Configurations log page, in order: the index is the one that the FDP feature takes."""
    octets = np.frombuffer(data, np.uint8)
    count = int(record(octets, FDP_CONFIGURATIONS)["numfdpc"]) + 1
    found: list[FdpConfiguration] = []
    start = FDP_CONFIGURATIONS.itemsize
    for _ in range(count):
        found.append(FdpConfiguration.parse(octets[start:]))
        start += int(found[-1].raw["dsze"])
    return found


def parse_reclaim_unit_handle_usage(data: Data) -> tuple[int, ...]:
    """By whom each reclaim unit handle is used (LID 21h): values of :class:`ReclaimUnitHandleAttribute`, by handle."""
    octets = np.frombuffer(data, np.uint8)
    nruh, start = int(record(octets, RECLAIM_UNIT_HANDLE_USAGE)["nruh"]), RECLAIM_UNIT_HANDLE_USAGE.itemsize
    if octets.size < start + 8 * nruh:
        raise ValueError(f"the usage of {nruh} reclaim unit handles in {octets.size} bytes")
    return tuple(octets[start : start + 8 * nruh : 8].tolist())


@dataclass(frozen=True)
class FdpStatistics:
    """Bytes of an endurance group since FDP was enabled (LID 22h), metadata included: ``hbmw`` hosts have written, ``mbmw`` the
    controller has written to the media, ``mbe`` it has erased. Write amplification is mbmw / hbmw."""

    hbmw: int
    mbmw: int
    mbe: int

    @classmethod
    def parse(cls, data: Data) -> Self:
        """Decode the 64 bytes of the log page."""
        raw = record(data, FDP_STATISTICS)
        return cls(*(u128(raw[name]) for name in ("hbmw", "mbmw", "mbe")))


@dataclass(frozen=True)
class FdpEvent:
    """Something that changed a reclaim unit handle or what it writes to (LID 23h).

    ``fdpet`` is a :class:`FdpEventType`, ``timestamp`` in milliseconds as the Timestamp feature counts them. ``pid``, ``nsid``,
    and ``rgid`` with ``ruhid`` are None where the event does not say. ``ets`` is what the type has of its own.
    """

    fdpet: int
    timestamp: int
    pid: int | None
    nsid: int | None
    rgid: int | None
    ruhid: int | None
    ets: bytes
    raw: np.void = field(repr=False, compare=False)

    @classmethod
    def parse(cls, data: Data) -> Self:
        """Decode one event of 64 bytes."""
        raw = record(data, FDP_EVENT)
        piv, nsidv, lv = (bool(raw["fdpef"] >> bit & 1) for bit in range(3))
        return cls(
            fdpet=int(raw["fdpet"]),
            timestamp=int.from_bytes(raw["timestamp"].tobytes()[:6], "little"),
            pid=int(raw["pid"]) if piv else None,
            nsid=int(raw["nsid"]) if nsidv else None,
            rgid=int(raw["rgid"]) if lv else None,
            ruhid=int(raw["ruhid"]) if lv else None,
            ets=raw["ets"].tobytes(),
            raw=raw,
        )


def parse_fdp_events(data: Data) -> list[FdpEvent]:
    """The events of an FDP Events log page, in its order, those that ``data`` holds of them."""
    octets = np.frombuffer(data, np.uint8)
    start, size = FDP_EVENTS.itemsize, FDP_EVENT.itemsize
    count = min(int(record(octets, FDP_EVENTS)["n"]), (octets.size - start) // size)
    return [FdpEvent.parse(octets[at : at + size]) for at in range(start, start + count * size, size)]


def parse_reclaim_unit_handle_status(data: Data) -> NDArray[np.void]:
    """An array of :data:`RECLAIM_UNIT_HANDLE_STATUS`, of those descriptors that ``data`` holds."""
    octets = np.frombuffer(data, np.uint8)
    start, size = RECLAIM_UNIT_HANDLE_STATUS_HEADER.itemsize, RECLAIM_UNIT_HANDLE_STATUS.itemsize
    count = min(int(record(octets, RECLAIM_UNIT_HANDLE_STATUS_HEADER)["nruhsd"]), (octets.size - start) // size)
    return octets[start : start + count * size].view(RECLAIM_UNIT_HANDLE_STATUS).copy()
