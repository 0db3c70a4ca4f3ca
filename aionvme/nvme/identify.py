"""What Identify returns: controllers, namespaces and lists of them.

NVM Express Base Specification 2.0, section 5.17, and NVM Command Set Specification 1.0, section 4.1.5. The dtypes hold
every field by its name in the specification; the dataclasses hold what programs use, decoded, with everything else in
``raw``. The structures of zoned namespaces are defined in :mod:`aionvme.nvme.identify_zoned` and found here as well.
"""

from dataclasses import dataclass, field
from enum import IntEnum, IntFlag
from typing import Any, NamedTuple, Self
from uuid import UUID

import numpy as np

from aionvme.nvme.identify_zoned import IDENTIFY_ZONED_CONTROLLER as IDENTIFY_ZONED_CONTROLLER
from aionvme.nvme.identify_zoned import IDENTIFY_ZONED_NAMESPACE as IDENTIFY_ZONED_NAMESPACE
from aionvme.nvme.identify_zoned import IdentifyZonedController as IdentifyZonedController
from aionvme.nvme.identify_zoned import IdentifyZonedNamespace as IdentifyZonedNamespace
from aionvme.nvme.layout import U128, Data, layout, record, values


class Cns(IntEnum):
    """Controller or Namespace Structure, CNS: which data structure Identify returns (Base 2.0, figure 273)."""

    NAMESPACE = 0x00
    CONTROLLER = 0x01
    ACTIVE_NAMESPACE_LIST = 0x02
    NAMESPACE_DESCRIPTORS = 0x03
    NVM_SET_LIST = 0x04
    CSI_NAMESPACE = 0x05
    CSI_CONTROLLER = 0x06
    CSI_ACTIVE_NAMESPACE_LIST = 0x07
    CSI_INDEPENDENT_NAMESPACE = 0x08
    ALLOCATED_NAMESPACE_LIST = 0x10
    ALLOCATED_NAMESPACE = 0x11
    IO_COMMAND_SETS = 0x1C


class Oncs(IntFlag):
    """Optional NVM Command Support, ONCS (Identify Controller, bytes 521:520)."""

    COMPARE = 1 << 0
    WRITE_UNCORRECTABLE = 1 << 1
    DATASET_MANAGEMENT = 1 << 2
    WRITE_ZEROES = 1 << 3
    SAVE_AND_SELECT = 1 << 4
    RESERVATIONS = 1 << 5
    TIMESTAMP = 1 << 6
    VERIFY = 1 << 7
    COPY = 1 << 8


IDENTIFY_CONTROLLER = layout(4096, [
    ("vid", 0, "<u2"), ("ssvid", 2, "<u2"), ("sn", 4, "S20"), ("mn", 24, "S40"), ("fr", 64, "S8"), ("rab", 72, "u1"),
    ("ieee", 73, ("u1", (3,))), ("cmic", 76, "u1"), ("mdts", 77, "u1"), ("cntlid", 78, "<u2"), ("ver", 80, "<u4"),
    ("rtd3r", 84, "<u4"), ("rtd3e", 88, "<u4"), ("oaes", 92, "<u4"), ("ctratt", 96, "<u4"), ("rrls", 100, "<u2"),
    ("cntrltype", 111, "u1"), ("fguid", 112, U128), ("crdt1", 128, "<u2"), ("crdt2", 130, "<u2"),
    ("crdt3", 132, "<u2"), ("nvmsr", 253, "u1"), ("vwci", 254, "u1"), ("mec", 255, "u1"), ("oacs", 256, "<u2"),
    ("acl", 258, "u1"), ("aerl", 259, "u1"), ("frmw", 260, "u1"), ("lpa", 261, "u1"), ("elpe", 262, "u1"),
    ("npss", 263, "u1"), ("avscc", 264, "u1"), ("apsta", 265, "u1"), ("wctemp", 266, "<u2"), ("cctemp", 268, "<u2"),
    ("mtfa", 270, "<u2"), ("hmpre", 272, "<u4"), ("hmmin", 276, "<u4"), ("tnvmcap", 280, U128),
    ("unvmcap", 296, U128), ("rpmbs", 312, "<u4"), ("edstt", 316, "<u2"), ("dsto", 318, "u1"), ("fwug", 319, "u1"),
    ("kas", 320, "<u2"), ("hctma", 322, "<u2"), ("mntmt", 324, "<u2"), ("mxtmt", 326, "<u2"), ("sanicap", 328, "<u4"),
    ("hmminds", 332, "<u4"), ("hmmaxd", 336, "<u2"), ("nsetidmax", 338, "<u2"), ("endgidmax", 340, "<u2"),
    ("anatt", 342, "u1"), ("anacap", 343, "u1"), ("anagrpmax", 344, "<u4"), ("nanagrpid", 348, "<u4"),
    ("pels", 352, "<u4"), ("domainid", 356, "<u2"), ("megcap", 368, U128), ("sqes", 512, "u1"), ("cqes", 513, "u1"),
    ("maxcmd", 514, "<u2"), ("nn", 516, "<u4"), ("oncs", 520, "<u2"), ("fuses", 522, "<u2"), ("fna", 524, "u1"),
    ("vwc", 525, "u1"), ("awun", 526, "<u2"), ("awupf", 528, "<u2"), ("icsvscc", 530, "u1"), ("nwpc", 531, "u1"),
    ("acwu", 532, "<u2"), ("ocfs", 534, "<u2"), ("sgls", 536, "<u4"), ("mnan", 540, "<u4"), ("maxdna", 544, U128),
    ("maxcna", 560, "<u4"), ("subnqn", 768, "S256"), ("ioccsz", 1792, "<u4"), ("iorcsz", 1796, "<u4"),
    ("icdoff", 1800, "<u2"), ("fcatt", 1802, "u1"), ("msdbd", 1803, "u1"), ("ofcs", 1804, "<u2"),
    ("dctype", 1806, "u1"), ("psd", 2048, ("u1", (32, 32))), ("vs", 3072, ("u1", (1024,))),
])  # fmt: skip
"""Identify Controller, CNS 01h (Base 2.0, figure 275)."""
assert IDENTIFY_CONTROLLER.itemsize == 4096

LBA_FORMAT = layout(4, [("ms", 0, "<u2"), ("lbads", 2, "u1"), ("rp", 3, "u1")])
"""LBA Format (NVM Command Set 1.0, figure 98): RP is bits 1:0 of its byte."""
assert LBA_FORMAT.itemsize == 4

IDENTIFY_NAMESPACE = layout(4096, [
    ("nsze", 0, "<u8"), ("ncap", 8, "<u8"), ("nuse", 16, "<u8"), ("nsfeat", 24, "u1"), ("nlbaf", 25, "u1"),
    ("flbas", 26, "u1"), ("mc", 27, "u1"), ("dpc", 28, "u1"), ("dps", 29, "u1"), ("nmic", 30, "u1"),
    ("rescap", 31, "u1"), ("fpi", 32, "u1"), ("dlfeat", 33, "u1"), ("nawun", 34, "<u2"), ("nawupf", 36, "<u2"),
    ("nacwu", 38, "<u2"), ("nabsn", 40, "<u2"), ("nabo", 42, "<u2"), ("nabspf", 44, "<u2"), ("noiob", 46, "<u2"),
    ("nvmcap", 48, U128), ("npwg", 64, "<u2"), ("npwa", 66, "<u2"), ("npdg", 68, "<u2"), ("npda", 70, "<u2"),
    ("nows", 72, "<u2"), ("mssrl", 74, "<u2"), ("mcl", 76, "<u4"), ("msrc", 80, "u1"), ("nulbaf", 82, "u1"),
    ("anagrpid", 92, "<u4"), ("nsattr", 99, "u1"), ("nvmsetid", 100, "<u2"), ("endgid", 102, "<u2"),
    ("nguid", 104, U128), ("eui64", 120, ("u1", (8,))), ("lbaf", 128, (LBA_FORMAT, (64,))),
    ("vs", 384, ("u1", (3712,))),
])  # fmt: skip
"""Identify Namespace, CNS 00h (NVM Command Set 1.0, figure 97)."""
assert IDENTIFY_NAMESPACE.itemsize == 4096

IDENTIFY_NVM_CONTROLLER = layout(4096, [
    ("vsl", 0, "u1"), ("wzsl", 1, "u1"), ("wusl", 2, "u1"), ("dmrl", 3, "u1"), ("dmrsl", 4, "<u4"), ("dmsl", 8, "<u8"),
])  # fmt: skip
"""Identify Controller of the NVM Command Set, CNS 06h with CSI 00h (NVM Command Set 1.0, figure 102)."""
assert IDENTIFY_NVM_CONTROLLER.itemsize == 4096


@dataclass(frozen=True)
class IdentifyController:
    """A controller: who made it, what it can do and how much it takes at once (CNS 01h).

    ``ver`` has the major version in bits 31:16, the minor in 15:8, the tertiary in 7:0; ``vwc`` says whether a volatile
    write cache is present (its bit 0).
    """

    sn: str
    mn: str
    fr: str
    mdts: int
    cntlid: int
    ver: int
    nn: int
    oncs: Oncs
    vwc: bool
    subnqn: str
    raw: np.void = field(repr=False, compare=False)

    @classmethod
    def parse(cls, data: Data) -> Self:
        """Decode the 4096 bytes that Identify returned."""
        raw = record(data, IDENTIFY_CONTROLLER)
        return cls(
            **values(raw, "sn", "mn", "fr", "mdts", "cntlid", "ver", "nn", "subnqn"),
            oncs=Oncs(int(raw["oncs"])),
            vwc=bool(raw["vwc"] & 1),
            raw=raw,
        )

    def mdts_bytes(self, page_size: int = 4096) -> int | None:
        """Most bytes one command may transfer, None for no limit; ``page_size`` is the smallest it supports."""
        return page_size << self.mdts if self.mdts else None


class LbaFormat(NamedTuple):
    """One LBA format: metadata bytes a block, block size as a power of two (0: not available), relative performance."""

    ms: int
    lbads: int
    rp: int

    @property
    def lba_size(self) -> int:
        """Bytes of data in a logical block; 0 for a format that is not available."""
        return 1 << self.lbads if self.lbads else 0


@dataclass(frozen=True)
class IdentifyNamespace:
    """A namespace: its size, and the format of its logical blocks (CNS 00h).

    ``flbas`` is the index of the format in use; with ``extended_lba`` each block's metadata follows its data in the
    same buffer. ``dps`` has the type of its protection information in bits 2:0, 0 for none, and in bit 3 whether that is the
    first 8 bytes of the metadata instead of the last. ``nguid`` and ``eui64`` are None where the controller gives none.
    """

    nsze: int
    ncap: int
    nuse: int
    lba_size: int
    ms: int
    flbas: int
    extended_lba: bool
    lba_formats: tuple[LbaFormat, ...]
    dps: int
    dlfeat: int
    nguid: bytes | None
    eui64: bytes | None
    raw: np.void = field(repr=False, compare=False)

    @classmethod
    def parse(cls, data: Data) -> Self:
        """Decode the 4096 bytes that Identify returned.

        Raises ValueError where the format in use has no block size, as in the zeroes that stand for an inactive
        namespace: no length could be checked against it.
        """
        raw = record(data, IDENTIFY_NAMESPACE)
        count = min(int(raw["nlbaf"]) + 1 + int(raw["nulbaf"]), 64)
        formats = tuple(LbaFormat(int(f["ms"]), int(f["lbads"]), int(f["rp"] & 0x3)) for f in raw["lbaf"][:count])
        flbas = int(raw["flbas"])
        # FLBAS bits 6:5 extend the index in 3:0, and mean nothing where four bits count all formats.
        index = flbas & 0xF | (flbas >> 1 & 0x30 if count > 16 else 0)
        if index >= count or formats[index].lbads < 9:
            raise ValueError(f"no block size in the LBA format in use, {index} of {count}: is the namespace active?")
        used = formats[index]
        return cls(
            **values(raw, "nsze", "ncap", "nuse", "dps", "dlfeat"),
            lba_size=used.lba_size,
            ms=used.ms,
            flbas=index,
            extended_lba=bool(flbas & 0x10) and used.ms > 0,
            lba_formats=formats,
            nguid=raw["nguid"].tobytes() if raw["nguid"].any() else None,
            eui64=raw["eui64"].tobytes() if raw["eui64"].any() else None,
            raw=raw,
        )


@dataclass(frozen=True)
class NamespaceDescriptors:
    """The identifiers of a namespace and its command set, each None where the controller gives none (CNS 03h)."""

    eui64: bytes | None = None
    nguid: bytes | None = None
    uuid: UUID | None = None
    csi: int | None = None


_NIDT = {1: ("eui64", 8), 2: ("nguid", 16), 3: ("uuid", 16), 4: ("csi", 1)}


def parse_namespace_descriptors(data: Data) -> NamespaceDescriptors:
    """Decode the Namespace Identification Descriptors (Base 2.0, figure 277); other types of identifier are skipped."""
    octets = np.frombuffer(data, np.uint8).tobytes()
    found: dict[str, Any] = {}
    start = 0
    while start + 4 <= len(octets) and octets[start + 1]:
        nidt, nidl = octets[start], octets[start + 1]
        nid = octets[start + 4 : start + 4 + nidl]
        name, length = _NIDT.get(nidt, ("", nidl))
        if not len(nid) == nidl == length:
            raise ValueError(f"identifier type {nidt} at byte {start}: {nidl} bytes long, {len(nid)} of them here")
        if name:
            found[name] = UUID(bytes=nid) if name == "uuid" else nid[0] if name == "csi" else nid
        start += 4 + nidl
    return NamespaceDescriptors(**found)


def parse_command_sets(data: Data) -> list[frozenset[int]]:
    """The combinations of I/O command sets that may be used at a time (Base 2.0, figure 284; CNS 1Ch), by their index, of which
    each is a set of command set identifiers."""
    vectors: list[int] = np.frombuffer(data, np.uint8)[:4096].view("<u8").tolist()
    while vectors and not vectors[-1]:
        vectors.pop()
    return [frozenset(csi for csi in range(64) if vector >> csi & 1) for vector in vectors]


def parse_namespace_list(data: Data) -> list[int]:
    """The identifiers of a Namespace List (Base 2.0, section 4.4.2; CNS 02h, 07h and 10h), ascending, 0 ends it."""
    octets = np.frombuffer(data, np.uint8)
    nsids: list[int] = octets[: octets.size // 4 * 4].view("<u4").tolist()
    return nsids[: nsids.index(0)] if 0 in nsids else nsids
