"""The Report Zones and Extended Report Zones data structures as numpy arrays (Zoned Namespace Command Set Specification 1.1,
section 3.4.2.2)."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

REPORT_HEADER_LEN_BYTES = 64
ZONE_DESCRIPTOR_LEN_BYTES = 64

ZONE_DESCRIPTOR = np.dtype(
    {
        "names": ["zt", "zs", "za", "zai", "zcap", "zslba", "wp"],
        "formats": ["u1", "u1", "u1", "u1", "<u8", "<u8", "<u8"],
        "offsets": [0, 1, 2, 3, 8, 16, 24],
        "itemsize": ZONE_DESCRIPTOR_LEN_BYTES,
    }
)
"""A Zone Descriptor (figure 37), bytes as they are on the wire: ZT is bits 3:0 of byte 0, ZS bits 7:4 of byte 1."""

ZONE = np.dtype(
    [("zslba", "<u8"), ("zcap", "<u8"), ("wp", "<u8"), ("zs", "u1"), ("zt", "u1"), ("za", "u1"), ("zai", "u1")]
)
"""One zone of a report as callers see it: addresses and capacity in logical blocks, state and type as plain numbers.

``wp`` of a full zone is unspecified; it is 2**64 - 1 on many controllers.
"""


Extensions = NDArray[np.uint8]
"""A row of bytes for each zone of a report, as long as the namespace's zone descriptor extensions are."""


def parse_report(data: bytes | memoryview | NDArray[np.uint8]) -> tuple[int, NDArray[np.void]]:
    """The header's number of zones, and an array of :data:`ZONE` with the descriptors that ``data`` holds of them.

    Raises ValueError where ``data`` is shorter than the header.
    """
    nr_zones, zones, _ = parse_extended_report(data, 0)
    return nr_zones, zones


def parse_extended_report(
    data: bytes | memoryview | NDArray[np.uint8], zdes_bytes: int
) -> tuple[int, NDArray[np.void], Extensions]:
    """What :func:`parse_report` gives, and the descriptor extension that follows each descriptor, of ``zdes_bytes`` each.

    That of a zone without one (DESCRIPTOR_EXTENSION_VALID is not among its ``za``) means nothing. Raises ValueError where
    ``data`` is shorter than the header.
    """
    raw = np.frombuffer(data, np.uint8)
    if raw.size < REPORT_HEADER_LEN_BYTES:
        raise ValueError(f"{raw.size} bytes of data, where the header of a zone report has {REPORT_HEADER_LEN_BYTES}")
    nr_zones = int(raw[:8].view("<u8")[0])
    entry = _entry(zdes_bytes)
    held = min(nr_zones, (raw.size - REPORT_HEADER_LEN_BYTES) // entry.itemsize)
    body = raw[REPORT_HEADER_LEN_BYTES : REPORT_HEADER_LEN_BYTES + held * entry.itemsize].view(entry)
    descriptors = body["descriptor"]
    zones = np.empty(held, ZONE)
    for name in ("zslba", "zcap", "wp", "za", "zai"):
        zones[name] = descriptors[name]
    zones["zt"] = descriptors["zt"] & 0xF
    zones["zs"] = descriptors["zs"] >> 4
    return nr_zones, zones, body["extension"].copy()


def encode_report(nr_zones: int, zones: NDArray[Any], extensions: Extensions | None = None) -> bytes:
    """The wire form of a report: ``nr_zones`` for the header, then a descriptor for each of an array of ZONE, and after each its
    row of ``extensions`` where the report is an extended one."""
    body = np.zeros(len(zones), _entry(0 if extensions is None else extensions.shape[1]))
    if extensions is not None:
        body["extension"] = extensions
    descriptors = body["descriptor"]
    for name in ("zslba", "zcap", "wp", "za", "zai"):
        descriptors[name] = zones[name]
    descriptors["zt"] = zones["zt"] & 0xF
    descriptors["zs"] = zones["zs"] << 4
    return nr_zones.to_bytes(8, "little").ljust(REPORT_HEADER_LEN_BYTES, b"\0") + body.tobytes()


def _entry(zdes_bytes: int) -> np.dtype[np.void]:
    return np.dtype([("descriptor", ZONE_DESCRIPTOR), ("extension", "u1", (zdes_bytes,))])
