"""The log pages of the emulated controller (Base 2.0, section 5.16; Zoned Namespace Command Set 1.1, section 4.1.4)."""

from collections import deque
from collections.abc import Iterable

import numpy as np

from aionvme.emulator.counters import Counters
from aionvme.emulator.identify_pages import ERROR_LOG_ENTRIES, FIRMWARE_REVISION
from aionvme.nvme.command import Command
from aionvme.nvme.logs import CHANGED_ZONE_LIST, COMMANDS_SUPPORTED_AND_EFFECTS, ERROR_INFORMATION, SMART
from aionvme.nvme.opcodes import NvmOpcode
from aionvme.nvme.status import Status

COMPOSITE_TEMPERATURE = 308
"""In Kelvin; nothing here gets warm."""

_CSUPP = 1 << 0
_LBCC = 1 << 1
_CHANGES_BLOCKS = frozenset(
    {
        NvmOpcode.WRITE,
        NvmOpcode.WRITE_UNCORRECTABLE,
        NvmOpcode.WRITE_ZEROES,
        NvmOpcode.DATASET_MANAGEMENT,
        NvmOpcode.COPY,
        NvmOpcode.ZONE_MANAGEMENT_SEND,
        NvmOpcode.ZONE_APPEND,
    }
)


class ErrorLog:
    """The newest commands that ended with an error, newest first, and how many there ever were."""

    def __init__(self) -> None:
        """It starts empty with every device."""
        self.count = 0
        self._entries: deque[tuple[int, Command, Status]] = deque(maxlen=ERROR_LOG_ENTRIES)

    def add(self, command: Command, status: Status) -> None:
        """Take note of an error."""
        self.count += 1
        self._entries.appendleft((self.count, command, status))

    def page(self) -> bytes:
        """Error Information, LID 01h. The device knows neither queues nor command identifiers: both are FFFFh."""
        entries = np.zeros(ERROR_LOG_ENTRIES, ERROR_INFORMATION)
        for entry, (count, command, status) in zip(entries, self._entries, strict=False):
            entry["error_count"] = count
            entry["sqid"] = entry["cid"] = entry["parameter_error_location"] = 0xFFFF
            entry["status_field"] = status << 1
            entry["lba"] = command.slba
            entry["nsid"] = command.nsid or 0
        return entries.tobytes()


def smart(counters: Counters, error_count: int, too_warm: bool) -> bytes:
    """SMART / Health Information, LID 02h. Data units are thousands of 512 bytes, rounded up."""
    page = np.zeros((), SMART)
    page["critical_warning"] = too_warm << 1
    page["composite_temperature"] = COMPOSITE_TEMPERATURE
    page["available_spare"] = 100
    page["available_spare_threshold"] = 10
    for name, value in {
        "data_units_read": -(-counters.bytes_read // 512_000),
        "data_units_written": -(-counters.bytes_written // 512_000),
        "host_read_commands": counters.host_reads,
        "host_write_commands": counters.host_writes,
        "power_cycles": 1,
        "number_of_error_information_log_entries": error_count,
    }.items():
        page[name] = np.frombuffer(value.to_bytes(16, "little"), np.uint8)
    return page.tobytes()


def firmware_slot() -> bytes:
    """Firmware Slot Information, LID 03h: slot 1 is the active one."""
    return (b"\x01".ljust(8, b"\0") + FIRMWARE_REVISION.ljust(8).encode()).ljust(512, b"\0")


def commands_supported(admin_opcodes: Iterable[int], io_opcodes: Iterable[int]) -> bytes:
    """Commands Supported and Effects, LID 05h."""
    page = np.zeros((), COMMANDS_SUPPORTED_AND_EFFECTS)
    page["acs"][list(admin_opcodes)] = _CSUPP
    for opcode in io_opcodes:
        page["iocs"][opcode] = _CSUPP | (_LBCC if opcode in _CHANGES_BLOCKS else 0)
    return page.tobytes()


def changed_zones(zslbas: list[int]) -> bytes:
    """Changed Zone List, LID BFh; FFFFh stands for more zones than fit."""
    page = np.zeros((), CHANGED_ZONE_LIST)
    if len(zslbas) > len(page["zids"]):
        page["nzid"] = 0xFFFF
    else:
        page["nzid"] = len(zslbas)
        page["zids"][: len(zslbas)] = zslbas
    return page.tobytes()
