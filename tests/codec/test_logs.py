"""Log pages against bytes placed where the specifications' figures have them."""

import numpy as np
import pytest

from aionvme.nvme.logs import (
    CHANGED_ZONE_LIST,
    COMMANDS_SUPPORTED_AND_EFFECTS,
    ERROR_INFORMATION,
    FIRMWARE_SLOT,
    SMART,
    CommandEffects,
    CommandsSupportedAndEffects,
    CriticalWarning,
    ErrorInformation,
    FirmwareSlots,
    Lid,
    SmartLog,
    parse_changed_namespaces,
    parse_changed_zone_list,
    parse_error_information,
)
from aionvme.nvme.status import Status

# Offset and size of every field as the figures give them; bytes of no field are reserved.
ERROR_INFORMATION_BYTES = {
    "error_count": (0, 8),
    "sqid": (8, 2),
    "cid": (10, 2),
    "status_field": (12, 2),
    "parameter_error_location": (14, 2),
    "lba": (16, 8),
    "nsid": (24, 4),
    "vendor_specific_information_available": (28, 1),
    "trtype": (29, 1),
    "command_specific_information": (32, 8),
    "transport_type_specific_information": (40, 2),
}
SMART_BYTES = {
    "critical_warning": (0, 1),
    "composite_temperature": (1, 2),
    "available_spare": (3, 1),
    "available_spare_threshold": (4, 1),
    "percentage_used": (5, 1),
    "endurance_group_critical_warning_summary": (6, 1),
    "data_units_read": (32, 16),
    "data_units_written": (48, 16),
    "host_read_commands": (64, 16),
    "host_write_commands": (80, 16),
    "controller_busy_time": (96, 16),
    "power_cycles": (112, 16),
    "power_on_hours": (128, 16),
    "unsafe_shutdowns": (144, 16),
    "media_and_data_integrity_errors": (160, 16),
    "number_of_error_information_log_entries": (176, 16),
    "warning_composite_temperature_time": (192, 4),
    "critical_composite_temperature_time": (196, 4),
    "temperature_sensor": (200, 16),
    "thermal_management_temperature_1_transition_count": (216, 4),
    "thermal_management_temperature_2_transition_count": (220, 4),
    "total_time_for_thermal_management_temperature_1": (224, 4),
    "total_time_for_thermal_management_temperature_2": (228, 4),
}
STRUCTURES = {
    "error information": (ERROR_INFORMATION, ERROR_INFORMATION_BYTES),
    "smart": (SMART, SMART_BYTES),
    "firmware slot": (FIRMWARE_SLOT, {"afi": (0, 1), "frs": (8, 56)}),
    "command effects": (COMMANDS_SUPPORTED_AND_EFFECTS, {"acs": (0, 1024), "iocs": (1024, 1024)}),
    "changed zones": (CHANGED_ZONE_LIST, {"nzid": (0, 2), "zids": (8, 4088)}),
}


def page(length: int, *placed: tuple[int, str]) -> bytearray:
    """Zeroes with bytes, in hex, at the offsets given."""
    data = bytearray(length)
    for offset, octets in placed:
        data[offset : offset + len(bytes.fromhex(octets))] = bytes.fromhex(octets)
    return data


def test_lids() -> None:
    """Log pages have the identifiers of the specifications."""
    assert {lid.name: lid.value for lid in Lid} == {
        "SUPPORTED_LOG_PAGES": 0x00,
        "ERROR_INFORMATION": 0x01,
        "SMART": 0x02,
        "FIRMWARE_SLOT": 0x03,
        "CHANGED_NAMESPACE_LIST": 0x04,
        "COMMANDS_SUPPORTED_AND_EFFECTS": 0x05,
        "DEVICE_SELF_TEST": 0x06,
        "TELEMETRY_HOST_INITIATED": 0x07,
        "TELEMETRY_CONTROLLER_INITIATED": 0x08,
        "ENDURANCE_GROUP": 0x09,
        "ASYMMETRIC_NAMESPACE_ACCESS": 0x0C,
        "PERSISTENT_EVENT": 0x0D,
        "FDP_CONFIGURATIONS": 0x20,
        "RECLAIM_UNIT_HANDLE_USAGE": 0x21,
        "FDP_STATISTICS": 0x22,
        "FDP_EVENTS": 0x23,
        "RESERVATION_NOTIFICATION": 0x80,
        "SANITIZE_STATUS": 0x81,
        "CHANGED_ZONE_LIST": 0xBF,
    }


def test_critical_warning_bits() -> None:
    """Each warning has its own bit, from bit 0 on in this order."""
    assert {flag.name: flag.value for flag in CriticalWarning} == {
        "AVAILABLE_SPARE_LOW": 0x01,
        "TEMPERATURE": 0x02,
        "RELIABILITY_DEGRADED": 0x04,
        "READ_ONLY": 0x08,
        "VOLATILE_BACKUP_FAILED": 0x10,
        "PERSISTENT_MEMORY_UNRELIABLE": 0x20,
    }


@pytest.mark.parametrize(("dtype", "figure"), STRUCTURES.values(), ids=STRUCTURES)
def test_fields_are_at_the_offsets_of_the_figure(dtype: np.dtype[np.void], figure: dict[str, tuple[int, int]]) -> None:
    """A field covers the bytes the figure gives it."""
    assert dtype.fields is not None
    assert {name: (entry[1], entry[0].itemsize) for name, entry in dtype.fields.items()} == figure


def error_entry(count: str) -> bytes:
    """An entry with every field set."""
    return bytes(
        page(
            64,
            (0, count),  # error count
            (8, "0300"),  # SQID
            (10, "3412"),  # CID
            (12, "0b85"),  # status field: 4285h in bits 15:1, the phase tag in bit 0
            (14, "2a01"),  # parameter error location
            (16, "8877665544332211"),  # LBA
            (24, "02000000"),  # NSID
            (32, "0100000000000000"),  # command specific information
        )
    )


def test_error_information_entry() -> None:
    """The status comes without its phase tag, so that it compares with a completion's."""
    entry = ErrorInformation.parse(error_entry("0900000000000000"))
    assert (entry.error_count, entry.sqid, entry.cid, entry.nsid) == (9, 3, 0x1234, 2)
    assert entry.status == 0x4285
    assert isinstance(entry.status, Status)
    assert entry.lba == 0x1122334455667788
    assert entry.parameter_error_location == 0x012A
    assert int(entry.raw["command_specific_information"]) == 1


def test_error_information_page() -> None:
    """Entries come in the order of the page; those with an error count of 0 and a cut-off last one are not entries."""
    data = error_entry("09") + error_entry("08") + bytes(64) + error_entry("07")[:63]
    assert [entry.error_count for entry in parse_error_information(data)] == [9, 8]
    assert parse_error_information(b"") == []


def test_smart() -> None:
    """Temperatures are in Kelvin, counters of 16 bytes are whole."""
    data = page(
        512,
        (0, "05"),  # critical warning: bits 2 and 0
        (1, "3701"),  # composite temperature 311 K, across an odd offset
        (3, "64"),  # available spare
        (4, "0a"),  # its threshold
        (5, "ff"),  # percentage used
        (32, "00000000000000000100000000000000"),  # data units read 2**64
        (48, "02000000000000000000000000000000"),
        (64, "03000000000000000000000000000000"),
        (80, "04000000000000000000000000000000"),
        (96, "05000000000000000000000000000000"),
        (112, "06000000000000000000000000000000"),
        (128, "07000000000000000000000000000000"),
        (144, "08000000000000000000000000000000"),
        (160, "09000000000000000000000000000000"),
        (176, "ffffffffffffffffffffffffffffffff"),
        (192, "0b000000"),  # warning composite temperature time
        (200, "3801"),  # temperature sensor 1
        (214, "3901"),  # temperature sensor 8
    )
    smart = SmartLog.parse(data)
    assert smart.critical_warning == CriticalWarning.AVAILABLE_SPARE_LOW | CriticalWarning.RELIABILITY_DEGRADED
    assert smart.composite_temperature == 311
    assert (smart.available_spare, smart.available_spare_threshold, smart.percentage_used) == (100, 10, 255)
    assert (smart.data_units_read, smart.data_units_written) == (2**64, 2)
    assert (smart.host_read_commands, smart.host_write_commands, smart.controller_busy_time) == (3, 4, 5)
    assert (smart.power_cycles, smart.power_on_hours, smart.unsafe_shutdowns) == (6, 7, 8)
    assert smart.media_and_data_integrity_errors == 9
    assert smart.number_of_error_information_log_entries == 2**128 - 1
    assert smart.temperature_sensors == (312, None, None, None, None, None, None, 313)
    assert int(smart.raw["warning_composite_temperature_time"]) == 11


def test_command_effects() -> None:
    """A dword for each opcode, admin opcodes first, each bit under its own name."""
    data = page(
        4096,
        (4 * 0x09, "11000000"),  # Set Features: CSUPP, CCC
        (4 * 0x80, "0f000a00"),  # Format NVM: CSUPP, LBCC, NCC, NIC; CSE 2, UUID selection
        (4 * 0x0D, "05000300"),  # Namespace Management: CSUPP, NCC; both low bits of CSE
        (1024 + 4 * 0x01, "03000400"),  # Write: CSUPP, LBCC; the high bit of CSE
    )
    effects = CommandsSupportedAndEffects.parse(data)
    assert (len(effects.acs), len(effects.iocs)) == (256, 256)
    features, format_nvm, write = effects.acs[0x09], effects.acs[0x80], effects.iocs[0x01]
    assert bits(features) == (True, False, False, False, True, 0, False)
    assert bits(format_nvm) == (True, True, True, True, False, 2, True)
    assert bits(effects.acs[0x0D]) == (True, False, True, False, False, 3, False)
    assert bits(write) == (True, True, False, False, False, 4, False)
    assert not effects.acs[0x01].csupp
    assert not effects.iocs[0x80].csupp


def bits(effects: CommandEffects) -> tuple[bool, bool, bool, bool, bool, int, bool]:
    """All fields of an entry."""
    return (
        effects.csupp, effects.lbcc, effects.ncc, effects.nic, effects.ccc, effects.cse, effects.uuid_selection,
    )  # fmt: skip


def test_changed_zone_list() -> None:
    """The count says how many of the identifiers after the header are valid."""
    data = page(4096, (0, "0200"), (8, "0040000000000000"), (16, "0080000000000000"), (24, "ff"))
    changed = parse_changed_zone_list(data)
    assert changed is not None
    assert changed.tolist() == [0x4000, 0x8000]
    none = parse_changed_zone_list(page(4096))
    assert none is not None
    assert none.tolist() == []


def test_changed_zone_list_that_overflowed() -> None:
    """FFFFh is not a count: every zone may have changed."""
    assert parse_changed_zone_list(page(4096, (0, "ffff"))) is None


@pytest.mark.parametrize(
    ("parse", "length"),
    [
        (ErrorInformation.parse, 64),
        (SmartLog.parse, 512),
        (CommandsSupportedAndEffects.parse, 4096),
        (parse_changed_zone_list, 4096),
    ],
)
def test_short_data_is_refused(parse: object, length: int) -> None:
    """A log page is whole or not at all."""
    assert callable(parse)
    with pytest.raises(ValueError, match=rf"{length - 1} bytes of data, where the structure has {length}"):
        parse(bytes(length - 1))


def test_logs_outlive_the_buffer() -> None:
    """A parsed log stays what it was when its buffer is used for the next command."""
    buffer = np.frombuffer(page(4096, (0, "0100"), (8, "0040000000000000")), np.uint8).copy()
    changed = parse_changed_zone_list(buffer)
    buffer[:] = 0
    assert changed is not None
    assert changed.tolist() == [0x4000]


def test_firmware_slots() -> None:
    """AFI has the slot that runs in bits 2:0 and the one after a reset in 6:4, 0 for no other; revisions are padded text."""
    data = page(512, (0, "21"), (8, b"1.0     ".hex()), (16, b"2.0-beta".hex()), (56, b"x\0\0\0\0\0\0\0".hex()))
    slots = FirmwareSlots.parse(data)
    assert (slots.active, slots.next) == (1, 2)
    assert slots.revisions == ("1.0", "2.0-beta", None, None, None, None, "x")
    assert FirmwareSlots.parse(page(512, (0, "07"))).next is None


def test_changed_namespaces() -> None:
    """Identifiers up to the first 0; FFFFFFFFh alone stands for more than 1024."""
    assert parse_changed_namespaces(page(4096, (0, "02000000 05000000"))) == [2, 5]
    assert parse_changed_namespaces(bytes(4096)) == []
    assert parse_changed_namespaces(b"\1\0\0\0" * 1024) == [1] * 1024
    assert parse_changed_namespaces(page(4096, (0, "ffffffff"))) is None
