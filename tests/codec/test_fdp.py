"""Flexible Data Placement: log pages and commands, against bytes placed where the figures of the proposal, TP 4146, have them."""

import numpy as np
import pytest

from aionvme.nvme import fdp
from aionvme.nvme.fdp import FdpConfiguration, FdpEvent, FdpStatistics

STRUCTURES = {
    "configurations": (fdp.FDP_CONFIGURATIONS, {"numfdpc": (0, 2), "ver": (2, 1), "sze": (4, 4)}),
    "configuration": (
        fdp.FDP_CONFIGURATION,
        {
            "dsze": (0, 2),
            "fdpa": (2, 1),
            "vss": (3, 1),
            "nrg": (4, 4),
            "nruh": (8, 2),
            "maxpids": (10, 2),
            "nns": (12, 4),
            "runs": (16, 8),
            "erutl": (24, 4),
        },
    ),
    "usage": (fdp.RECLAIM_UNIT_HANDLE_USAGE, {"nruh": (0, 2)}),
    "statistics": (fdp.FDP_STATISTICS, {"hbmw": (0, 16), "mbmw": (16, 16), "mbe": (32, 16)}),
    "events": (fdp.FDP_EVENTS, {"n": (0, 4)}),
    "event": (
        fdp.FDP_EVENT,
        {
            "fdpet": (0, 1),
            "fdpef": (1, 1),
            "pid": (2, 2),
            "timestamp": (4, 8),
            "nsid": (12, 4),
            "ets": (16, 16),
            "rgid": (32, 2),
            "ruhid": (34, 1),
            "vs": (40, 24),
        },
    ),
    "status header": (fdp.RECLAIM_UNIT_HANDLE_STATUS_HEADER, {"nruhsd": (14, 2)}),
    "status": (
        fdp.RECLAIM_UNIT_HANDLE_STATUS,
        {"pid": (0, 2), "ruhid": (2, 2), "earutr": (4, 4), "ruamw": (8, 8)},
    ),
}


@pytest.mark.parametrize(("dtype", "figure"), STRUCTURES.values(), ids=STRUCTURES)
def test_fields_are_at_the_offsets_of_the_figure(dtype: np.dtype[np.void], figure: dict[str, tuple[int, int]]) -> None:
    """A field covers the bytes the figure gives it."""
    assert dtype.fields is not None
    assert {name: (entry[1], entry[0].itemsize) for name, entry in dtype.fields.items()} == figure


def configuration(fdpa: str, nruh: int, handles: str, *, vendor: int = 0) -> bytes:
    """A descriptor: 3 reclaim groups, at most 128 placement handles, 256 namespaces, units of 96 MiB and 60 s."""
    body = bytes.fromhex(handles) + bytes(vendor)
    head = bytes.fromhex(
        f"{(64 + len(body)).to_bytes(2, 'little').hex()} {fdpa} {vendor:02x} 03000000"
        f"{nruh.to_bytes(2, 'little').hex()} 7f00 00010000 0000000600000000 3c000000"
    )
    return head.ljust(64, b"\0") + body


def test_configurations() -> None:
    """Every descriptor of the page, with its handles and behind whatever its vendor has; counts are 1-based."""
    first = configuration("93", 2, "01000000 02000000", vendor=8)
    second = configuration("00", 1, "01000000")
    page = bytes.fromhex("0100 00 00") + (16 + len(first) + len(second)).to_bytes(4, "little") + bytes(8)
    found = fdp.parse_fdp_configurations(page + first + second)
    assert [(c.fdpcv, c.fdpvwc, c.rgif) for c in found] == [(True, True, 3), (False, False, 0)]
    assert [c.ruht for c in found] == [(1, 2), (1,)]
    for c in found:
        assert (c.nrg, c.maxpids, c.nns, c.runs, c.erutl) == (3, 128, 256, 96 << 20, 60)
    with pytest.raises(ValueError, match="with 1 handles, and 67 are here"):
        fdp.parse_fdp_configurations((page + first + second)[:-1])
    with pytest.raises(ValueError, match="with 9 handles"):
        FdpConfiguration.parse(configuration("80", 9, "01000000"))


def test_usage() -> None:
    """The first byte of eight says who uses a handle."""
    page = bytes.fromhex("0300 000000000000 0100000000000000 0000000000000000 0200000000000000")
    assert fdp.parse_reclaim_unit_handle_usage(page) == (1, 0, 2)
    with pytest.raises(ValueError, match="3 reclaim unit handles in 31 bytes"):
        fdp.parse_reclaim_unit_handle_usage(page[:-1])


def test_statistics() -> None:
    """They are numbers of 128 bits."""
    page = b"".join(n.to_bytes(16, "little") for n in (7, 1 << 64, (1 << 128) - 1)) + bytes(16)
    assert FdpStatistics.parse(page) == FdpStatistics(7, 1 << 64, (1 << 128) - 1)


def event(flags: str) -> bytes:
    """Invalid Placement Identifier 1234h of namespace 5, in reclaim group 6 and by handle 7, at 00-01-02-03-04-05h ms."""
    return bytes.fromhex(f"03 {flags} 3412 0504030201000200 05000000 {'a5' * 16} 0600 07 0000000000 {'00' * 24}")


def test_events() -> None:
    """What an event does not say is None, whatever its bytes; the timestamp is 48 bits, its attributes follow."""
    page = (3).to_bytes(4, "little").ljust(64, b"\0") + event("07") + event("02") + event("00") + bytes(64)
    events = fdp.parse_fdp_events(page)
    assert [(e.pid, e.nsid, e.rgid, e.ruhid) for e in events] == [
        (0x1234, 5, 6, 7),
        (None, 5, None, None),
        (None, None, None, None),
    ]
    for e in events:
        assert (e.fdpet, e.timestamp, e.ets) == (3, 0x000102030405, b"\xa5" * 16)
    assert events[1] == FdpEvent.parse(event("02"))
    assert fdp.parse_fdp_events(page[:255]) == events[:2]
    with pytest.raises(ValueError, match="has 64"):
        fdp.parse_fdp_events(bytes(63))


def test_status() -> None:
    """As many descriptors as there are whole in the data, and no more than there are at all."""
    page = bytes(14) + bytes.fromhex(
        f"0300 3412 0500 0a000000 0102030405060708 {'00' * 16} ffff 0100 00000000 ffffffffffffffff {'00' * 16}"
    )
    found = fdp.parse_reclaim_unit_handle_status(page + bytes(31))
    assert found.tolist() == [(0x1234, 5, 10, 0x0807060504030201), (0xFFFF, 1, 0, 2**64 - 1)]
    assert len(fdp.parse_reclaim_unit_handle_status(page + bytes(64))) == 3
    with pytest.raises(ValueError, match="has 16"):
        fdp.parse_reclaim_unit_handle_status(bytes(15))


def test_commands() -> None:
    """MO is 1 in bits 7:0 of dword 10; NUMD is dword 11, NPID bits 31:16 of dword 10, both 0's based."""
    received = fdp.reclaim_unit_handle_status(16 + 2 * 32)
    assert (received.opcode, received.cdw10, received.cdw11) == (0x12, 1, 19)
    sent = fdp.reclaim_unit_handle_update(65536)
    assert (sent.opcode, sent.cdw10, sent.cdw11) == (0x1D, 0xFFFF_0001, 0)
    for len_bytes in (0, 2, 17, (1 << 34) + 4):
        with pytest.raises(ValueError, match="len_bytes"):
            fdp.reclaim_unit_handle_status(len_bytes)
    for npid in (0, 65537):
        with pytest.raises(ValueError, match="npid"):
            fdp.reclaim_unit_handle_update(npid)


def test_codes() -> None:
    """Types, attributes and events have the numbers of the figures."""
    assert {t.name: t.value for t in fdp.FdpEventType} == {
        "RECLAIM_UNIT_NOT_FULLY_WRITTEN": 0x00,
        "RECLAIM_UNIT_TIME_LIMIT_EXCEEDED": 0x01,
        "CONTROLLER_RESET_MODIFIED_RECLAIM_UNIT_HANDLES": 0x02,
        "INVALID_PLACEMENT_IDENTIFIER": 0x03,
        "MEDIA_REALLOCATED": 0x80,
        "IMPLICITLY_MODIFIED_RECLAIM_UNIT_HANDLE": 0x81,
    }
    assert [t.value for t in fdp.ReclaimUnitHandleType] == [1, 2]
    assert [a.value for a in fdp.ReclaimUnitHandleAttribute] == [0, 1, 2]
