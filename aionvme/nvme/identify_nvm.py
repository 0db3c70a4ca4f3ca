"""What Identify returns of the NVM Command Set (NVM Command Set Specification 1.0, section 4.1.5)."""

from dataclasses import dataclass, field
from typing import NamedTuple, Self

import numpy as np

from aionvme.nvme.identify import IDENTIFY_NVM_CONTROLLER
from aionvme.nvme.layout import Data, layout, record, values

IDENTIFY_NVM_NAMESPACE = layout(4096, [("lbstm", 0, "<u8"), ("pic", 8, "u1"), ("elbaf", 12, ("<u4", (64,)))])
"""Identify Namespace of the NVM Command Set, CNS 05h with CSI 00h (figure 100)."""
assert IDENTIFY_NVM_NAMESPACE.itemsize == 4096


class ExtendedLbaFormat(NamedTuple):
    """What an LBA format has of protection information: bits of its storage tag, and its format, PIF: 0 a guard of 16 bits, 1 of
    32, 2 of 64."""

    sts: int
    pif: int


@dataclass(frozen=True)
class IdentifyNvmNamespace:
    """The protection information of a namespace (CNS 05h, CSI 00h): ``lbstm`` masks the storage tag, ``pic`` are its
    capabilities, and ``elbafs`` extends the LBA formats by their index."""

    lbstm: int
    pic: int
    elbafs: tuple[ExtendedLbaFormat, ...]
    raw: np.void = field(repr=False, compare=False)

    @classmethod
    def parse(cls, data: Data) -> Self:
        """Decode the 4096 bytes that Identify returned."""
        raw = record(data, IDENTIFY_NVM_NAMESPACE)
        elbafs = tuple(ExtendedLbaFormat(elbaf & 0x7F, elbaf >> 7 & 0x3) for elbaf in raw["elbaf"].tolist())
        return cls(**values(raw, "lbstm", "pic"), elbafs=elbafs, raw=raw)


@dataclass(frozen=True)
class IdentifyNvmController:
    """Limits of commands that move no data to or from the host (CNS 06h, CSI 00h).

    ``vsl``, ``wzsl`` and ``wusl`` are those of Verify, Write Zeroes and Write Uncorrectable, powers of two in units of the
    smallest page; ``dmrl`` is how many ranges a Dataset Management command may have, ``dmrsl`` how many logical blocks one of
    them, ``dmsl`` how many all. 0 is no limit.
    """

    vsl: int
    wzsl: int
    wusl: int
    dmrl: int
    dmrsl: int
    dmsl: int
    raw: np.void = field(repr=False, compare=False)

    @classmethod
    def parse(cls, data: Data) -> Self:
        """Decode the 4096 bytes that Identify returned."""
        raw = record(data, IDENTIFY_NVM_CONTROLLER)
        return cls(**values(raw, "vsl", "wzsl", "wusl", "dmrl", "dmrsl", "dmsl"), raw=raw)
