"""Log pages against bytes placed where the specifications' figures have them."""

import numpy as np
import pytest

from aionvme.nvme.logs import (
    CHANGED_ZONE_LIST,
    COMMANDS_SUPPORTED_AND_EFFECTS,
    ERROR_INFORMATION,
    SMART,
    CommandEffects,
    CommandsSupportedAndEffects,
    CriticalWarning,
    ErrorInformation,
    Lid,
    SmartLog,
    parse_changed_zone_list,
    parse_error_information,
)
from aionvme.nvme.status import Status


def page(length: int, *placed: tuple[int, str]) -> bytearray:
    """Zeroes with bytes, in hex, at the offsets given."""
    data = bytearray(length)
    for offset, octets in placed:
        data[offset : offset + len(bytes.fromhex(octets))] = bytes.fromhex(octets)
    return data


def test_lids() -> None:
    """Log pages have the identifiers of the specifications."""
    assert [Lid.ERROR_INFORMATION, Lid.SMART, Lid.FIRMWARE_SLOT, Lid.CHANGED_NAMESPACE_LIST] == [1, 2, 3, 4]
    assert [Lid.COMMANDS_SUPPORTED_AND_EFFECTS, Lid.FDP_CONFIGURATIONS, Lid.CHANGED_ZONE_LIST] == [5, 0x20, 0xBF]


def test_offsets_of_the_figures() -> None:
    """Fields whose neighbours are reserved or unaligned are where the figures have them."""
    assert SMART.fields is not None
    assert {
        name: SMART.fields[name][1] for name in ("composite_temperature", "percentage_used", "data_units_read")
    } == {
        "composite_temperature": 1,
        "percentage_used": 5,
        "data_units_read": 32,
    }
    assert SMART.fields["temperature_sensor"][1] == 200
    assert SMART.fields["total_time_for_thermal_management_temperature_2"][1] == 228
    assert ERROR_INFORMATION.fields is not None
    assert ERROR_INFORMATION.fields["command_specific_information"][1] == 32
    assert COMMANDS_SUPPORTED_AND_EFFECTS.fields is not None
    assert COMMANDS_SUPPORTED_AND_EFFECTS.fields["iocs"][1] == 1024
    assert CHANGED_ZONE_LIST.fields is not None
    assert CHANGED_ZONE_LIST.fields["zids"][1] == 8


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
        (1024 + 4 * 0x01, "03000100"),  # Write: CSUPP, LBCC; CSE 1
    )
    effects = CommandsSupportedAndEffects.parse(data)
    assert (len(effects.acs), len(effects.iocs)) == (256, 256)
    features, format_nvm, write = effects.acs[0x09], effects.acs[0x80], effects.iocs[0x01]
    assert bits(features) == (True, False, False, False, True, 0, False)
    assert bits(format_nvm) == (True, True, True, True, False, 2, True)
    assert bits(write) == (True, True, False, False, False, 1, False)
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
