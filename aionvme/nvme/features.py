"""Features of a controller, and how much data comes with each (NVM Express Base Specification 2.0, section 5.27.1; 1Dh and 1Eh:
Technical Proposal 4146).

Most features are a number: command dword 11 of Set Features, dword 0 of the completion of Get Features. Some have data besides.
"""

from enum import IntEnum


class Fid(IntEnum):
    """Feature Identifier, FID (Base 2.0, figure 317; NVM Command Set 1.0, figure 79)."""

    ARBITRATION = 0x01
    POWER_MANAGEMENT = 0x02
    LBA_RANGE_TYPE = 0x03
    TEMPERATURE_THRESHOLD = 0x04
    ERROR_RECOVERY = 0x05
    VOLATILE_WRITE_CACHE = 0x06
    NUMBER_OF_QUEUES = 0x07
    INTERRUPT_COALESCING = 0x08
    INTERRUPT_VECTOR_CONFIGURATION = 0x09
    WRITE_ATOMICITY_NORMAL = 0x0A
    ASYNCHRONOUS_EVENT_CONFIGURATION = 0x0B
    AUTONOMOUS_POWER_STATE_TRANSITION = 0x0C
    HOST_MEMORY_BUFFER = 0x0D
    TIMESTAMP = 0x0E
    KEEP_ALIVE_TIMER = 0x0F
    HOST_CONTROLLED_THERMAL_MANAGEMENT = 0x10
    NON_OPERATIONAL_POWER_STATE_CONFIG = 0x11
    READ_RECOVERY_LEVEL_CONFIG = 0x12
    PREDICTABLE_LATENCY_MODE_CONFIG = 0x13
    PREDICTABLE_LATENCY_MODE_WINDOW = 0x14
    LBA_STATUS_INFORMATION_REPORT_INTERVAL = 0x15
    HOST_BEHAVIOR_SUPPORT = 0x16
    SANITIZE_CONFIG = 0x17
    ENDURANCE_GROUP_EVENT_CONFIGURATION = 0x18
    IO_COMMAND_SET_PROFILE = 0x19
    SPINUP_CONTROL = 0x1A
    FLEXIBLE_DATA_PLACEMENT = 0x1D
    FDP_EVENTS = 0x1E
    ENHANCED_CONTROLLER_METADATA = 0x7D
    CONTROLLER_METADATA = 0x7E
    NAMESPACE_METADATA = 0x7F
    SOFTWARE_PROGRESS_MARKER = 0x80
    HOST_IDENTIFIER = 0x81
    RESERVATION_NOTIFICATION_MASK = 0x82
    RESERVATION_PERSISTENCE = 0x83
    NAMESPACE_WRITE_PROTECTION_CONFIG = 0x84


CAPABILITIES = 3
"""Select, SEL, of Get Features that asks for what is supported, which is no data."""

_WITH_DATA = {
    Fid.LBA_RANGE_TYPE: 4096,
    Fid.AUTONOMOUS_POWER_STATE_TRANSITION: 256,
    Fid.TIMESTAMP: 8,
    Fid.PREDICTABLE_LATENCY_MODE_CONFIG: 512,
    Fid.HOST_BEHAVIOR_SUPPORT: 512,
    Fid.ENHANCED_CONTROLLER_METADATA: 4096,
    Fid.CONTROLLER_METADATA: 4096,
    Fid.NAMESPACE_METADATA: 4096,
}


def get_features_data_len(fid: int, sel: int, cdw11: int) -> int | None:
    """Bytes of data that Get Features transfers, None for a feature that is not among :class:`Fid`."""
    if sel == CAPABILITIES:
        return 0
    if fid == Fid.HOST_MEMORY_BUFFER:
        return 4096
    if fid == Fid.FDP_EVENTS:
        return (cdw11 >> 16 & 0xFF) * 2  # a descriptor for each of NOET event types
    return _data_len(fid, cdw11)


def set_features_data_len(fid: int, cdw11: int) -> int | None:
    """Bytes of data that Set Features transfers, None for a feature that is not among :class:`Fid`."""
    if fid == Fid.FDP_EVENTS:
        return cdw11 >> 16 & 0xFF  # NOET event types
    return _data_len(fid, cdw11)


def _data_len(fid: int, cdw11: int) -> int | None:
    if fid == Fid.HOST_IDENTIFIER:
        return 16 if cdw11 & 1 else 8  # EXHID
    return _WITH_DATA.get(Fid(fid), 0) if fid in _KNOWN else None


_KNOWN = frozenset(Fid)
