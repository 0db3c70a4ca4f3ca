"""The zone report against bytes laid out by hand after figures 35 and 37 of the Zoned Namespace Command Set."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from aionvme.nvme.opcodes import ReportingOptions, ZoneAttributes, ZoneState, ZoneType
from aionvme.nvme.zones import ZONE, encode_report, parse_extended_report, parse_report

HEADER = bytes.fromhex("0500000000000000") + bytes(56)  # number of zones in 7:0, the rest reserved
OPENED = bytes.fromhex(
    "02 20 00 00 00000000"  # ZT 2 in bits 3:0, ZS 2 in bits 7:4, ZA, ZAI, reserved
    "0030000000000000"  # ZCAP
    "0040000000000000"  # ZSLBA
    "0540000000000000"  # WP
) + bytes(32)
FULL = bytes.fromhex(
    "02 e0 85 06 00000000"  # ZS Eh; ZA: ZDEV bit 7, RZR bit 2, ZFC bit 0; ZAI
    "0030000000000000"
    "0000000080000000"
    "ffffffffffffffff"
) + bytes(32)

zones_lists = st.lists(
    st.tuples(
        *[st.integers(0, 2**64 - 1)] * 3,
        st.sampled_from([int(state) for state in ZoneState]),
        st.integers(0, 15),
        st.integers(0, 255),
        st.integers(0, 255),
    ),
    max_size=9,
)


def check_hand_built(zones: NDArray[np.void]) -> None:
    """The two descriptors above, field by field."""
    assert zones["zslba"].tolist() == [0x4000, 0x80_0000_0000]
    assert zones["zcap"].tolist() == [0x3000, 0x3000]
    assert zones["wp"].tolist() == [0x4005, 2**64 - 1]
    assert zones["zs"].tolist() == [ZoneState.IMPLICITLY_OPENED, ZoneState.FULL]
    assert zones["zt"].tolist() == [ZoneType.SEQUENTIAL_WRITE_REQUIRED] * 2
    assert zones["zai"].tolist() == [0, 6]
    assert ZoneAttributes(int(zones["za"][1])) == (
        ZoneAttributes.DESCRIPTOR_EXTENSION_VALID
        | ZoneAttributes.RESET_RECOMMENDED
        | ZoneAttributes.FINISHED_BY_CONTROLLER
    )


def test_parse_hand_built_report() -> None:
    """Fields come from the bytes and bits of the figure; the header counts more zones than the data holds."""
    nr_zones, zones = parse_report(HEADER + OPENED + FULL)
    assert nr_zones == 5
    check_hand_built(zones)


def test_encode_hand_built_report() -> None:
    """The same zones encode to the same bytes, reserved ones zero."""
    zones = np.array(
        [(0x4000, 0x3000, 0x4005, 0x2, 0x2, 0, 0), (0x80_0000_0000, 0x3000, 2**64 - 1, 0xE, 0x2, 0x85, 6)], ZONE
    )
    assert encode_report(5, zones) == HEADER + OPENED + FULL


def test_states_are_the_numbers_of_the_figure() -> None:
    """Zone states have the values of the zone descriptor."""
    assert {state.name: state.value for state in ZoneState} == {
        "EMPTY": 0x1,
        "IMPLICITLY_OPENED": 0x2,
        "EXPLICITLY_OPENED": 0x3,
        "CLOSED": 0x4,
        "READ_ONLY": 0xD,
        "FULL": 0xE,
        "OFFLINE": 0xF,
    }


def test_reporting_options_are_the_numbers_of_the_figure() -> None:
    """A report lists all zones, or those of one state, by the values of figure 34."""
    assert {option.name: option.value for option in ReportingOptions} == {
        "ALL": 0,
        "EMPTY": 1,
        "IMPLICITLY_OPENED": 2,
        "EXPLICITLY_OPENED": 3,
        "CLOSED": 4,
        "FULL": 5,
        "READ_ONLY": 6,
        "OFFLINE": 7,
    }


def test_attributes_are_the_bits_of_the_figure() -> None:
    """Zone attributes have the bits of the zone descriptor."""
    assert {flag.name: flag.value for flag in ZoneAttributes} == {
        "FINISHED_BY_CONTROLLER": 0x01,
        "FINISH_RECOMMENDED": 0x02,
        "RESET_RECOMMENDED": 0x04,
        "ZRWA_VALID": 0x08,
        "DESCRIPTOR_EXTENSION_VALID": 0x80,
    }


def test_data_longer_than_the_report() -> None:
    """A buffer beyond the last zone is not read as zones."""
    nr_zones, zones = parse_report(bytes.fromhex("02") + bytes(63) + OPENED + FULL + b"\xff" * 640)
    assert nr_zones == 2
    check_hand_built(zones)


def test_cut_off_descriptor_is_left_out() -> None:
    """A descriptor that was not transferred whole is not a zone."""
    assert len(parse_report(HEADER + OPENED + FULL[:63])[1]) == 1
    assert len(parse_report(HEADER)[1]) == 0


@pytest.mark.parametrize("held", [0, 4, 63])
def test_cut_off_header_is_refused(held: int) -> None:
    """Less than the header is no report."""
    with pytest.raises(ValueError, match=r"64"):
        parse_report(HEADER[:held])
    with pytest.raises(ValueError, match=r"64"):
        parse_extended_report(HEADER[:held], 64)


def test_hand_built_extended_report() -> None:
    """Each descriptor is followed by its extension; both come apart, and go together again."""
    first, second = bytes(range(128)), bytes(range(128, 256))
    data = HEADER + OPENED + first + FULL + second
    nr_zones, zones, extensions = parse_extended_report(data, 128)
    assert nr_zones == 5
    check_hand_built(zones)
    assert [each.tobytes() for each in extensions] == [first, second]
    assert encode_report(5, zones, extensions) == data


@pytest.mark.parametrize("cut", [1, 128, 129, 191])
def test_an_extended_descriptor_that_is_cut_off_is_left_out(cut: int) -> None:
    """A zone counts when its descriptor and the whole of its extension are there."""
    data = (HEADER + OPENED + bytes(128) + FULL + bytes(128))[:-cut]
    _, zones, extensions = parse_extended_report(data, 128)
    assert zones["zslba"].tolist() == [0x4000]
    assert extensions.shape == (1, 128)


def test_extensions_outlive_the_buffer() -> None:
    """They are a copy, as the zones are."""
    buffer = np.frombuffer(HEADER + OPENED + b"x" * 64, np.uint8).copy()
    _, _, extensions = parse_extended_report(buffer, 64)
    buffer[:] = 0
    assert extensions.tobytes() == b"x" * 64


def test_any_buffer_and_a_copy_of_it() -> None:
    """A report parses from bytes, memoryview and array alike, and outlives the buffer's next use."""
    buffer = np.frombuffer(HEADER + OPENED + FULL, np.uint8).copy()
    _, from_array = parse_report(buffer)
    _, from_view = parse_report(buffer.data)
    buffer[:] = 0
    check_hand_built(from_array)
    check_hand_built(from_view)


@settings(deadline=None)
@given(st.integers(0, 2**64 - 1), zones_lists)
def test_round_trip(nr_zones: int, rows: list[tuple[int, ...]]) -> None:
    """What is encoded is parsed again, as far as the header counts."""
    zones = np.array(rows, ZONE)
    parsed_nr, parsed = parse_report(encode_report(nr_zones, zones))
    assert parsed_nr == nr_zones
    assert parsed.tolist() == zones.tolist()[:nr_zones]
