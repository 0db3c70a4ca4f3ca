"""Opcodes and action codes, by the names the specifications give them."""

from enum import IntEnum, IntFlag


class NvmOpcode(IntEnum):
    """Opcodes of the I/O command sets (NVM Command Set 1.0, figure 18; Zoned Namespace Command Set 1.1, figure 12;
    reservations: Base 2.0, section 7; I/O management: Base 2.1, section 7)."""

    FLUSH = 0x00
    WRITE = 0x01
    READ = 0x02
    WRITE_UNCORRECTABLE = 0x04
    COMPARE = 0x05
    WRITE_ZEROES = 0x08
    DATASET_MANAGEMENT = 0x09
    VERIFY = 0x0C
    RESERVATION_REGISTER = 0x0D
    RESERVATION_REPORT = 0x0E
    RESERVATION_ACQUIRE = 0x11
    IO_MANAGEMENT_RECEIVE = 0x12
    RESERVATION_RELEASE = 0x15
    COPY = 0x19
    IO_MANAGEMENT_SEND = 0x1D
    ZONE_MANAGEMENT_SEND = 0x79
    ZONE_MANAGEMENT_RECEIVE = 0x7A
    ZONE_APPEND = 0x7D


class AdminOpcode(IntEnum):
    """Opcodes of the Admin Command Set (Base 2.0, figure 138; Get LBA Status: NVM Command Set 1.0, section 4.2.1) whose data
    has a length that this library knows."""

    GET_LOG_PAGE = 0x02
    IDENTIFY = 0x06
    SET_FEATURES = 0x09
    GET_FEATURES = 0x0A
    NAMESPACE_MANAGEMENT = 0x0D
    FIRMWARE_IMAGE_DOWNLOAD = 0x11
    NAMESPACE_ATTACHMENT = 0x15
    DIRECTIVE_SEND = 0x19
    DIRECTIVE_RECEIVE = 0x1A
    SECURITY_SEND = 0x81
    SECURITY_RECEIVE = 0x82
    GET_LBA_STATUS = 0x86


class ZoneSendAction(IntEnum):
    """Zone Send Action, ZSA (Zoned Namespace Command Set 1.1, section 3.4.3; 11h: Technical Proposal 4076)."""

    CLOSE = 0x01
    FINISH = 0x02
    OPEN = 0x03
    RESET = 0x04
    OFFLINE = 0x05
    SET_ZONE_DESCRIPTOR_EXTENSION = 0x10
    FLUSH_EXPLICIT_ZRWA_RANGE = 0x11


class ZoneReceiveAction(IntEnum):
    """Zone Receive Action, ZRA (Zoned Namespace Command Set 1.1, section 3.4.2)."""

    REPORT_ZONES = 0x00
    EXTENDED_REPORT_ZONES = 0x01


class ReportingOptions(IntEnum):
    """Zone Receive Action Specific Field of a report: which zones it lists (same section)."""

    ALL = 0x00
    EMPTY = 0x01
    IMPLICITLY_OPENED = 0x02
    EXPLICITLY_OPENED = 0x03
    CLOSED = 0x04
    FULL = 0x05
    READ_ONLY = 0x06
    OFFLINE = 0x07


class ZoneState(IntEnum):
    """Zone State, ZS (Zoned Namespace Command Set 1.1, figure 37)."""

    EMPTY = 0x1
    IMPLICITLY_OPENED = 0x2
    EXPLICITLY_OPENED = 0x3
    CLOSED = 0x4
    READ_ONLY = 0xD
    FULL = 0xE
    OFFLINE = 0xF


class ZoneType(IntEnum):
    """Zone Type, ZT (same figure)."""

    SEQUENTIAL_WRITE_REQUIRED = 0x2


class ZoneAttributes(IntFlag):
    """Zone Attributes, ZA (same figure; ZRWA: Technical Proposal 4076)."""

    FINISHED_BY_CONTROLLER = 1 << 0
    FINISH_RECOMMENDED = 1 << 1
    RESET_RECOMMENDED = 1 << 2
    ZRWA_VALID = 1 << 3
    DESCRIPTOR_EXTENSION_VALID = 1 << 7


class CommandSetIdentifier(IntEnum):
    """Command Set Identifier, CSI (Base 2.0, section 5.17)."""

    NVM = 0x00
    KEY_VALUE = 0x01
    ZONED = 0x02
