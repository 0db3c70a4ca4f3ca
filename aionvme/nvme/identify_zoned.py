"""What Identify returns for zoned namespaces (Zoned Namespace Command Set Specification 1.1, section 4.1.5).

The fields of the zone random write area, ZRWA, are those of Technical Proposal 4076.
"""

from dataclasses import dataclass, field
from enum import IntFlag
from typing import Self

import numpy as np

from aionvme.nvme.layout import Data, layout, record


class Zoc(IntFlag):
    """Zone Operation Characteristics, ZOC (figure 48, bytes 1:0)."""

    VARIABLE_ZONE_CAPACITY = 1 << 0
    ZONE_ACTIVE_EXCURSIONS = 1 << 1


class Ozcs(IntFlag):
    """Optional Zoned Command Support, OZCS (figure 48, bytes 3:2)."""

    READ_ACROSS_ZONE_BOUNDARIES = 1 << 0
    ZRWA = 1 << 1


LBA_FORMAT_EXTENSION = layout(16, [("zsze", 0, "<u8"), ("zdes", 8, "u1")])
"""LBA Format Extension (figure 49): zone size in logical blocks, zone descriptor extension size in 64-byte units."""
assert LBA_FORMAT_EXTENSION.itemsize == 16

IDENTIFY_ZONED_NAMESPACE = layout(4096, [
    ("zoc", 0, "<u2"), ("ozcs", 2, "<u2"), ("mar", 4, "<u4"), ("mor", 8, "<u4"), ("rrl", 12, "<u4"), ("frl", 16, "<u4"),
    ("rrl1", 20, "<u4"), ("rrl2", 24, "<u4"), ("rrl3", 28, "<u4"), ("frl1", 32, "<u4"), ("frl2", 36, "<u4"),
    ("frl3", 40, "<u4"), ("numzrwa", 44, "<u4"), ("zrwafg", 48, "<u2"), ("zrwasz", 50, "<u2"), ("zrwacap", 52, "u1"),
    ("lbafe", 2816, (LBA_FORMAT_EXTENSION, (64,))), ("vs", 3840, ("u1", (256,))),
])  # fmt: skip
"""Identify Namespace of the Zoned Namespace Command Set, CNS 05h with CSI 02h (figure 48)."""
assert IDENTIFY_ZONED_NAMESPACE.itemsize == 4096

IDENTIFY_ZONED_CONTROLLER = layout(4096, [("zasl", 0, "u1")])
"""Identify Controller of the Zoned Namespace Command Set, CNS 06h with CSI 02h (figure 50)."""
assert IDENTIFY_ZONED_CONTROLLER.itemsize == 4096


@dataclass(frozen=True)
class IdentifyZonedNamespace:
    """The zones of a namespace: their size in logical blocks, and how many may be active and open (CNS 05h, CSI 02h).

    ``mar`` and ``mor`` are 1-based, None for no limit.
    """

    zsze: int
    zdes_bytes: int
    mar: int | None
    mor: int | None
    zoc: Zoc
    ozcs: Ozcs
    raw: np.void = field(repr=False, compare=False)

    @classmethod
    def parse(cls, data: Data, flbas: int) -> Self:
        """Decode the 4096 bytes that Identify returned; ``flbas`` is the index of the LBA format in use.

        Raises ValueError where that format has no zone size.
        """
        raw = record(data, IDENTIFY_ZONED_NAMESPACE)
        used = raw["lbafe"][flbas]
        if not used["zsze"]:
            raise ValueError(f"no zone size for LBA format {flbas}")
        return cls(
            zsze=int(used["zsze"]),
            zdes_bytes=int(used["zdes"]) * 64,
            mar=_limit(int(raw["mar"])),
            mor=_limit(int(raw["mor"])),
            zoc=Zoc(int(raw["zoc"])),
            ozcs=Ozcs(int(raw["ozcs"])),
            raw=raw,
        )


@dataclass(frozen=True)
class IdentifyZonedController:
    """What a controller takes in one Zone Append (CNS 06h, CSI 02h)."""

    zasl: int
    raw: np.void = field(repr=False, compare=False)

    @classmethod
    def parse(cls, data: Data) -> Self:
        """Decode the 4096 bytes that Identify returned."""
        raw = record(data, IDENTIFY_ZONED_CONTROLLER)
        return cls(int(raw["zasl"]), raw)

    def zasl_bytes(self, page_size: int = 4096) -> int | None:
        """Most bytes one append may transfer, None where it is MDTS that limits it; ``page_size`` as for MDTS."""
        return page_size << self.zasl if self.zasl else None


def _limit(wire: int) -> int | None:
    return None if wire == 0xFFFF_FFFF else wire + 1
