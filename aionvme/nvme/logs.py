"""What Get Log Page returns: errors, health, command effects, changed zones.

NVM Express Base Specification 2.0, section 5.16, and Zoned Namespace Command Set Specification 1.1, section 4.1.4. As
for Identify, the dtypes hold every field and the dataclasses what programs use.
"""

from dataclasses import dataclass, field
from enum import IntEnum, IntFlag
from typing import Self

import numpy as np
from numpy.typing import NDArray

from aionvme.nvme.identify import parse_namespace_list
from aionvme.nvme.layout import U128, Data, layout, record, u128, values
from aionvme.nvme.status import Status


class Lid(IntEnum):
    """Log Page Identifier, LID (Base 2.0, figure 202).

    20h to 23h are those of flexible data placement (Technical Proposal 4146), BFh that of the Zoned Namespace Command
    Set (1.1, figure 45).
    """

    SUPPORTED_LOG_PAGES = 0x00
    ERROR_INFORMATION = 0x01
    SMART = 0x02
    FIRMWARE_SLOT = 0x03
    CHANGED_NAMESPACE_LIST = 0x04
    COMMANDS_SUPPORTED_AND_EFFECTS = 0x05
    DEVICE_SELF_TEST = 0x06
    TELEMETRY_HOST_INITIATED = 0x07
    TELEMETRY_CONTROLLER_INITIATED = 0x08
    ENDURANCE_GROUP = 0x09
    ASYMMETRIC_NAMESPACE_ACCESS = 0x0C
    PERSISTENT_EVENT = 0x0D
    FDP_CONFIGURATIONS = 0x20
    RECLAIM_UNIT_HANDLE_USAGE = 0x21
    FDP_STATISTICS = 0x22
    FDP_EVENTS = 0x23
    RESERVATION_NOTIFICATION = 0x80
    SANITIZE_STATUS = 0x81
    CHANGED_ZONE_LIST = 0xBF


class CriticalWarning(IntFlag):
    """Critical Warning of the SMART / Health Information log page (byte 0)."""

    AVAILABLE_SPARE_LOW = 1 << 0
    TEMPERATURE = 1 << 1
    RELIABILITY_DEGRADED = 1 << 2
    READ_ONLY = 1 << 3
    VOLATILE_BACKUP_FAILED = 1 << 4
    PERSISTENT_MEMORY_UNRELIABLE = 1 << 5


ERROR_INFORMATION = layout(64, [
    ("error_count", 0, "<u8"), ("sqid", 8, "<u2"), ("cid", 10, "<u2"), ("status_field", 12, "<u2"),
    ("parameter_error_location", 14, "<u2"), ("lba", 16, "<u8"), ("nsid", 24, "<u4"),
    ("vendor_specific_information_available", 28, "u1"), ("trtype", 29, "u1"),
    ("command_specific_information", 32, "<u8"), ("transport_type_specific_information", 40, "<u2"),
])  # fmt: skip
"""Error Information Log Entry (Base 2.0, figure 206); the phase tag is bit 0 of ``status_field``."""
assert ERROR_INFORMATION.itemsize == 64

SMART = layout(512, [
    ("critical_warning", 0, "u1"), ("composite_temperature", 1, "<u2"), ("available_spare", 3, "u1"),
    ("available_spare_threshold", 4, "u1"), ("percentage_used", 5, "u1"),
    ("endurance_group_critical_warning_summary", 6, "u1"), ("data_units_read", 32, U128),
    ("data_units_written", 48, U128), ("host_read_commands", 64, U128), ("host_write_commands", 80, U128),
    ("controller_busy_time", 96, U128), ("power_cycles", 112, U128), ("power_on_hours", 128, U128),
    ("unsafe_shutdowns", 144, U128), ("media_and_data_integrity_errors", 160, U128),
    ("number_of_error_information_log_entries", 176, U128), ("warning_composite_temperature_time", 192, "<u4"),
    ("critical_composite_temperature_time", 196, "<u4"), ("temperature_sensor", 200, ("<u2", (8,))),
    ("thermal_management_temperature_1_transition_count", 216, "<u4"),
    ("thermal_management_temperature_2_transition_count", 220, "<u4"),
    ("total_time_for_thermal_management_temperature_1", 224, "<u4"),
    ("total_time_for_thermal_management_temperature_2", 228, "<u4"),
])  # fmt: skip
"""SMART / Health Information log page (Base 2.0, figure 207)."""
assert SMART.itemsize == 512

FIRMWARE_SLOT = layout(512, [("afi", 0, "u1"), ("frs", 8, ("S8", (7,)))])
"""Firmware Slot Information log page (Base 2.0, figure 209)."""
assert FIRMWARE_SLOT.itemsize == 512

CHANGED_NAMESPACES_LEN_BYTES = 4096
"""The Changed Namespace List log page: 1024 identifiers."""

COMMANDS_SUPPORTED_AND_EFFECTS = layout(4096, [("acs", 0, ("<u4", (256,))), ("iocs", 1024, ("<u4", (256,)))])
"""Commands Supported and Effects log page: a dword for each admin opcode, then one for each I/O opcode."""
assert COMMANDS_SUPPORTED_AND_EFFECTS.itemsize == 4096

CHANGED_ZONE_LIST = layout(4096, [("nzid", 0, "<u2"), ("zids", 8, ("<u8", (511,)))])
"""Changed Zone List log page (Zoned Namespace Command Set 1.1, figure 46): number of zone identifiers, identifiers."""
assert CHANGED_ZONE_LIST.itemsize == 4096


@dataclass(frozen=True)
class ErrorInformation:
    """One entry of the Error Information log page (LID 01h); ``error_count`` tells entries apart.

    ``sqid`` and ``cid`` are FFFFh where the error belongs to no command.
    """

    error_count: int
    sqid: int
    cid: int
    status: Status
    parameter_error_location: int
    lba: int
    nsid: int
    raw: np.void = field(repr=False, compare=False)

    @classmethod
    def parse(cls, data: Data) -> Self:
        """Decode one entry of 64 bytes."""
        raw = record(data, ERROR_INFORMATION)
        return cls(
            **values(raw, "error_count", "sqid", "cid", "parameter_error_location", "lba", "nsid"),
            status=Status(int(raw["status_field"]) >> 1),
            raw=raw,
        )


def parse_error_information(data: Data) -> list[ErrorInformation]:
    """The valid entries of an Error Information log page, newest first; an error count of 0 marks the others."""
    octets = np.frombuffer(data, np.uint8)
    size = ERROR_INFORMATION.itemsize
    entries = [ErrorInformation.parse(octets[at : at + size]) for at in range(0, octets.size // size * size, size)]
    return [entry for entry in entries if entry.error_count]


@dataclass(frozen=True)
class SmartLog:
    """Health of a controller or namespace over its life (LID 02h).

    Temperatures are in Kelvin, ``temperature_sensors`` None for a sensor that is not there. Data units are thousands of
    512 bytes, rounded up; ``controller_busy_time`` is in minutes. ``percentage_used`` may exceed 100.
    """

    critical_warning: CriticalWarning
    composite_temperature: int
    available_spare: int
    available_spare_threshold: int
    percentage_used: int
    data_units_read: int
    data_units_written: int
    host_read_commands: int
    host_write_commands: int
    controller_busy_time: int
    power_cycles: int
    power_on_hours: int
    unsafe_shutdowns: int
    media_and_data_integrity_errors: int
    number_of_error_information_log_entries: int
    temperature_sensors: tuple[int | None, ...]
    raw: np.void = field(repr=False, compare=False)

    @classmethod
    def parse(cls, data: Data) -> Self:
        """Decode the 512 bytes of the log page."""
        raw = record(data, SMART)
        spare = values(raw, "composite_temperature", "available_spare", "available_spare_threshold", "percentage_used")
        counters = {name: u128(raw[name]) for name in SMART.names or () if SMART[name].shape == (16,)}
        return cls(
            **spare,
            **counters,
            critical_warning=CriticalWarning(int(raw["critical_warning"])),
            temperature_sensors=tuple(int(kelvin) or None for kelvin in raw["temperature_sensor"]),
            raw=raw,
        )


@dataclass(frozen=True)
class FirmwareSlots:
    """Which firmware a controller runs (LID 03h): from slot ``active``, 1 to 7; from ``next`` after a reset, None where that
    does not change. ``revisions`` are those of slots 1 to 7, None of an empty one."""

    active: int
    next: int | None
    revisions: tuple[str | None, ...]
    raw: np.void = field(repr=False, compare=False)

    @classmethod
    def parse(cls, data: Data) -> Self:
        """Decode the 512 bytes of the log page."""
        raw = record(data, FIRMWARE_SLOT)
        afi = int(raw["afi"])
        names = (revision.decode("ascii", "replace").strip() for revision in raw["frs"].tolist())
        return cls(active=afi & 0x7, next=afi >> 4 & 0x7 or None, revisions=tuple(n or None for n in names), raw=raw)


def parse_changed_namespaces(data: Data) -> list[int] | None:
    """The identifiers of the namespaces that have changed (LID 04h), ascending, None where there are too many to be listed."""
    nsids = parse_namespace_list(data)
    return None if nsids[:1] == [0xFFFF_FFFF] else nsids


class CommandEffects(int):
    """What a controller says of one opcode: whether it has it, and what the command changes."""

    __slots__ = ()

    @property
    def csupp(self) -> bool:
        """Command Supported."""
        return bool(self & 1)

    @property
    def lbcc(self) -> bool:
        """Logical Block Content Change: it may modify data."""
        return bool(self >> 1 & 1)

    @property
    def ncc(self) -> bool:
        """Namespace Capability Change."""
        return bool(self >> 2 & 1)

    @property
    def nic(self) -> bool:
        """Namespace Inventory Change."""
        return bool(self >> 3 & 1)

    @property
    def ccc(self) -> bool:
        """Controller Capability Change."""
        return bool(self >> 4 & 1)

    @property
    def cse(self) -> int:
        """Command Submission and Execution: 1 alone on its namespace, 2 alone on the controller, 0 no restriction."""
        return self >> 16 & 0x7

    @property
    def uuid_selection(self) -> bool:
        """UUID Selection Supported."""
        return bool(self >> 19 & 1)


@dataclass(frozen=True)
class CommandsSupportedAndEffects:
    """The commands of a controller by opcode: those of the Admin Command Set, and of one I/O command set (LID 05h)."""

    acs: tuple[CommandEffects, ...]
    iocs: tuple[CommandEffects, ...]

    @classmethod
    def parse(cls, data: Data) -> Self:
        """Decode the 4096 bytes of the log page."""
        raw = record(data, COMMANDS_SUPPORTED_AND_EFFECTS)
        return cls(tuple(map(CommandEffects, raw["acs"].tolist())), tuple(map(CommandEffects, raw["iocs"].tolist())))


def parse_changed_zone_list(data: Data) -> NDArray[np.uint64] | None:
    """The start addresses of the zones that have changed (LID BFh), None where there are too many to be listed."""
    raw = record(data, CHANGED_ZONE_LIST)
    nzid = int(raw["nzid"])
    if nzid == 0xFFFF:
        return None
    zids: NDArray[np.uint64] = raw["zids"]
    return zids[:nzid]
