"""Identify structures against pages in which single bytes are placed where the specifications' figures have them."""

from uuid import UUID

import numpy as np
import pytest

from aionvme.nvme.identify import (
    IDENTIFY_CONTROLLER,
    IDENTIFY_NAMESPACE,
    IDENTIFY_NVM_CONTROLLER,
    IDENTIFY_ZONED_CONTROLLER,
    IDENTIFY_ZONED_NAMESPACE,
    Cns,
    IdentifyController,
    IdentifyNamespace,
    IdentifyZonedController,
    IdentifyZonedNamespace,
    LbaFormat,
    NamespaceDescriptors,
    Oncs,
    parse_command_sets,
    parse_namespace_descriptors,
    parse_namespace_list,
)
from aionvme.nvme.identify_nvm import IDENTIFY_NVM_NAMESPACE, IdentifyNvmController, IdentifyNvmNamespace
from aionvme.nvme.identify_zoned import Ozcs, Zoc
from aionvme.nvme.layout import u128


def page(*placed: tuple[int, str]) -> bytearray:
    """A page of zeroes with bytes, in hex, at the offsets given."""
    data = bytearray(4096)
    for offset, octets in placed:
        data[offset : offset + len(bytes.fromhex(octets))] = bytes.fromhex(octets)
    return data


# Offset and size of every field as the figures give them ("bytes 521:520" is 520, 2); bytes of no field are reserved.
CONTROLLER_BYTES = {
    "vid": (0, 2), "ssvid": (2, 2), "sn": (4, 20), "mn": (24, 40), "fr": (64, 8), "rab": (72, 1), "ieee": (73, 3),
    "cmic": (76, 1), "mdts": (77, 1), "cntlid": (78, 2), "ver": (80, 4), "rtd3r": (84, 4), "rtd3e": (88, 4),
    "oaes": (92, 4), "ctratt": (96, 4), "rrls": (100, 2), "cntrltype": (111, 1), "fguid": (112, 16),
    "crdt1": (128, 2), "crdt2": (130, 2), "crdt3": (132, 2), "nvmsr": (253, 1), "vwci": (254, 1), "mec": (255, 1),
    "oacs": (256, 2), "acl": (258, 1), "aerl": (259, 1), "frmw": (260, 1), "lpa": (261, 1), "elpe": (262, 1),
    "npss": (263, 1), "avscc": (264, 1), "apsta": (265, 1), "wctemp": (266, 2), "cctemp": (268, 2),
    "mtfa": (270, 2), "hmpre": (272, 4), "hmmin": (276, 4), "tnvmcap": (280, 16), "unvmcap": (296, 16),
    "rpmbs": (312, 4), "edstt": (316, 2), "dsto": (318, 1), "fwug": (319, 1), "kas": (320, 2), "hctma": (322, 2),
    "mntmt": (324, 2), "mxtmt": (326, 2), "sanicap": (328, 4), "hmminds": (332, 4), "hmmaxd": (336, 2),
    "nsetidmax": (338, 2), "endgidmax": (340, 2), "anatt": (342, 1), "anacap": (343, 1), "anagrpmax": (344, 4),
    "nanagrpid": (348, 4), "pels": (352, 4), "domainid": (356, 2), "megcap": (368, 16), "sqes": (512, 1),
    "cqes": (513, 1), "maxcmd": (514, 2), "nn": (516, 4), "oncs": (520, 2), "fuses": (522, 2), "fna": (524, 1),
    "vwc": (525, 1), "awun": (526, 2), "awupf": (528, 2), "icsvscc": (530, 1), "nwpc": (531, 1), "acwu": (532, 2),
    "ocfs": (534, 2), "sgls": (536, 4), "mnan": (540, 4), "maxdna": (544, 16), "maxcna": (560, 4),
    "subnqn": (768, 256), "ioccsz": (1792, 4), "iorcsz": (1796, 4), "icdoff": (1800, 2), "fcatt": (1802, 1),
    "msdbd": (1803, 1), "ofcs": (1804, 2), "dctype": (1806, 1), "psd": (2048, 1024), "vs": (3072, 1024),
}  # fmt: skip
NAMESPACE_BYTES = {
    "nsze": (0, 8), "ncap": (8, 8), "nuse": (16, 8), "nsfeat": (24, 1), "nlbaf": (25, 1), "flbas": (26, 1),
    "mc": (27, 1), "dpc": (28, 1), "dps": (29, 1), "nmic": (30, 1), "rescap": (31, 1), "fpi": (32, 1),
    "dlfeat": (33, 1), "nawun": (34, 2), "nawupf": (36, 2), "nacwu": (38, 2), "nabsn": (40, 2), "nabo": (42, 2),
    "nabspf": (44, 2), "noiob": (46, 2), "nvmcap": (48, 16), "npwg": (64, 2), "npwa": (66, 2), "npdg": (68, 2),
    "npda": (70, 2), "nows": (72, 2), "mssrl": (74, 2), "mcl": (76, 4), "msrc": (80, 1), "nulbaf": (82, 1),
    "anagrpid": (92, 4), "nsattr": (99, 1), "nvmsetid": (100, 2), "endgid": (102, 2), "nguid": (104, 16),
    "eui64": (120, 8), "lbaf": (128, 256), "vs": (384, 3712),
}  # fmt: skip
ZONED_NAMESPACE_BYTES = {
    "zoc": (0, 2), "ozcs": (2, 2), "mar": (4, 4), "mor": (8, 4), "rrl": (12, 4), "frl": (16, 4), "rrl1": (20, 4),
    "rrl2": (24, 4), "rrl3": (28, 4), "frl1": (32, 4), "frl2": (36, 4), "frl3": (40, 4), "numzrwa": (44, 4),
    "zrwafg": (48, 2), "zrwasz": (50, 2), "zrwacap": (52, 1), "lbafe": (2816, 1024), "vs": (3840, 256),
}  # fmt: skip
NVM_CONTROLLER_BYTES = {"vsl": (0, 1), "wzsl": (1, 1), "wusl": (2, 1), "dmrl": (3, 1), "dmrsl": (4, 4), "dmsl": (8, 8)}

STRUCTURES = {
    "controller": (IDENTIFY_CONTROLLER, CONTROLLER_BYTES),
    "namespace": (IDENTIFY_NAMESPACE, NAMESPACE_BYTES),
    "zoned namespace": (IDENTIFY_ZONED_NAMESPACE, ZONED_NAMESPACE_BYTES),
    "nvm controller": (IDENTIFY_NVM_CONTROLLER, NVM_CONTROLLER_BYTES),
    "nvm namespace": (IDENTIFY_NVM_NAMESPACE, {"lbstm": (0, 8), "pic": (8, 1), "elbaf": (12, 256)}),
    "zoned controller": (IDENTIFY_ZONED_CONTROLLER, {"zasl": (0, 1)}),
}


@pytest.mark.parametrize(("dtype", "figure"), STRUCTURES.values(), ids=STRUCTURES)
def test_fields_are_at_the_offsets_of_the_figure(dtype: np.dtype[np.void], figure: dict[str, tuple[int, int]]) -> None:
    """A field covers the bytes the figure gives it, and no two fields share one."""
    assert dtype.fields is not None
    placed = {name: (entry[1], entry[0].itemsize) for name, entry in dtype.fields.items()}
    assert placed == figure
    ends = 0
    for offset, size in sorted(placed.values()):
        assert offset >= ends
        ends = offset + size
    assert ends <= dtype.itemsize == 4096


def test_cns_values() -> None:
    """The data structures have the selectors of the Base Specification."""
    assert {cns.name: cns.value for cns in Cns} == {
        "NAMESPACE": 0x00,
        "CONTROLLER": 0x01,
        "ACTIVE_NAMESPACE_LIST": 0x02,
        "NAMESPACE_DESCRIPTORS": 0x03,
        "NVM_SET_LIST": 0x04,
        "CSI_NAMESPACE": 0x05,
        "CSI_CONTROLLER": 0x06,
        "CSI_ACTIVE_NAMESPACE_LIST": 0x07,
        "CSI_INDEPENDENT_NAMESPACE": 0x08,
        "ALLOCATED_NAMESPACE_LIST": 0x10,
        "ALLOCATED_NAMESPACE": 0x11,
        "IO_COMMAND_SETS": 0x1C,
    }


def test_controller() -> None:
    """Strings lose their padding, numbers are Python's, flags have names."""
    data = page(
        (78, "0201"),  # CNTLID
        (77, "07"),  # MDTS
        (80, "00040100"),  # VER 1.4.0
        (516, "00010000"),  # NN 256
        (520, "5d01"),  # ONCS: bits 8, 6, 4, 3, 2, 0
        (525, "07"),  # VWC: bit 0 present, bits 2:1 flush behaviour
        (280, "00000000000000000100000000000000"),  # TNVMCAP 2**64
    )
    data[4:24] = b"S1234".ljust(20)
    data[24:64] = b"QEMU NVMe Ctrl".ljust(40)
    data[64:72] = b"7.2\0\0\0\0\0"
    data[768:1024] = b"nqn.2019-08.org.qemu:x".ljust(256, b"\0")
    controller = IdentifyController.parse(data)
    assert (controller.sn, controller.mn, controller.fr) == ("S1234", "QEMU NVMe Ctrl", "7.2")
    assert (controller.mdts, controller.cntlid, controller.ver, controller.nn) == (7, 0x0102, 0x10400, 256)
    assert controller.oncs == (
        Oncs.COMPARE | Oncs.DATASET_MANAGEMENT | Oncs.WRITE_ZEROES | Oncs.SAVE_AND_SELECT | Oncs.TIMESTAMP | Oncs.COPY
    )
    assert controller.vwc is True
    assert controller.subnqn == "nqn.2019-08.org.qemu:x"
    assert u128(controller.raw["tnvmcap"]) == 2**64
    assert {type(value) for value in (controller.mdts, controller.nn, controller.ver)} == {int}


def test_mdts_is_a_power_of_two_of_pages() -> None:
    """MDTS 7 is 128 smallest pages; 0 is no limit."""
    controller = IdentifyController.parse(page((77, "07")))
    assert controller.mdts_bytes() == 128 * 4096
    assert controller.mdts_bytes(page_size=16384) == 128 * 16384
    assert IdentifyController.parse(page()).mdts_bytes() is None


def test_absent_write_cache() -> None:
    """Only bit 0 of VWC says that there is a cache; the flush behaviour beside it does not."""
    assert IdentifyController.parse(page((525, "06"))).vwc is False


def test_oncs_bits() -> None:
    """Each optional command has its own bit, from bit 0 on in this order."""
    order = (
        "COMPARE WRITE_UNCORRECTABLE DATASET_MANAGEMENT WRITE_ZEROES SAVE_AND_SELECT RESERVATIONS TIMESTAMP VERIFY COPY"
    )
    assert {flag.name: flag.value for flag in Oncs} == {name: 1 << bit for bit, name in enumerate(order.split())}


def test_unknown_oncs_bits_survive() -> None:
    """A command a later specification added does not break the parser."""
    assert IdentifyController.parse(page((520, "0180"))).oncs == Oncs.COMPARE | 0x8000


def test_namespace() -> None:
    """The format in use gives block size and metadata; identifiers keep their big-endian order."""
    data = page(
        (0, "0000100000000000"),  # NSZE
        (8, "0000080000000000"),  # NCAP
        (16, "3412000000000000"),  # NUSE
        (25, "02"),  # NLBAF: three formats, 0's based
        (26, "12"),  # FLBAS: format 2, bit 4 metadata interleaved
        (33, "09"),  # DLFEAT
        (104, "00112233445566778899aabbccddeeff"),  # NGUID
        (120, "0011223344556677"),  # EUI64
        (128, "00000902"),  # format 0: MS 0, LBADS 9, RP 2
        (132, "00000c00"),  # format 1: LBADS 12
        (136, "08000cfd"),  # format 2: MS 8, LBADS 12, RP 1 with reserved bits set
        (140, "ffffffff"),  # format 3 is not one
    )
    namespace = IdentifyNamespace.parse(data)
    assert (namespace.nsze, namespace.ncap, namespace.nuse) == (0x100000, 0x80000, 0x1234)
    assert (namespace.flbas, namespace.lba_size, namespace.ms, namespace.extended_lba) == (2, 4096, 8, True)
    assert namespace.lba_formats == (LbaFormat(0, 9, 2), LbaFormat(0, 12, 0), LbaFormat(8, 12, 1))
    assert [fmt.lba_size for fmt in namespace.lba_formats] == [512, 4096, 4096]
    assert namespace.dlfeat == 9
    assert namespace.nguid == bytes.fromhex("00112233445566778899aabbccddeeff")
    assert namespace.eui64 == bytes.fromhex("0011223344556677")


def test_namespace_without_identifiers_or_metadata() -> None:
    """Zeroes are no identifier, and interleaving means nothing without metadata."""
    namespace = IdentifyNamespace.parse(page((26, "10"), (128, "00000900")))
    assert (namespace.nguid, namespace.eui64, namespace.extended_lba) == (None, None, False)


def test_separate_metadata_is_not_extended() -> None:
    """Metadata without bit 4 of FLBAS is in a buffer of its own."""
    namespace = IdentifyNamespace.parse(page((25, "01"), (26, "01"), (132, "08000c00")))
    assert (namespace.ms, namespace.extended_lba) == (8, False)


def test_a_byte_of_metadata_is_metadata() -> None:
    """The smallest metadata can be interleaved too."""
    namespace = IdentifyNamespace.parse(page((26, "10"), (128, "01000c00")))
    assert (namespace.ms, namespace.extended_lba) == (1, True)


def test_format_index_beyond_15() -> None:
    """With more than 16 formats, bits 6:5 of FLBAS are the upper bits of the index; with fewer they are ignored."""
    format_37 = (128 + 37 * 4, "00000c00")
    assert IdentifyNamespace.parse(page((25, "3f"), (26, "45"), format_37)).flbas == 37
    assert IdentifyNamespace.parse(page((25, "0f"), (26, "45"), (128 + 5 * 4, "00000900"))).flbas == 5
    assert IdentifyNamespace.parse(page((25, "10"), (26, "20"), (128 + 16 * 4, "00000900"))).flbas == 16
    assert IdentifyNamespace.parse(page((25, "3f"), (26, "02"), (128 + 2 * 4, "00000900"))).flbas == 2


def test_formats_with_unique_attributes_count() -> None:
    """NULBAF formats follow those that NLBAF counts."""
    data = page((25, "00"), (26, "01"), (82, "01"), (128, "00000900"), (132, "00000c00"))
    assert IdentifyNamespace.parse(data).lba_size == 4096


@pytest.mark.parametrize(
    "placed",
    [[], [(26, "01"), (128, "00000900"), (132, "00000c00")], [(128, "00000800")]],
    ids=["inactive", "index beyond the formats", "256-byte blocks"],
)
def test_no_block_size_is_refused(placed: list[tuple[int, str]]) -> None:
    """Without a block size no transfer could be checked, so there is no namespace to work with."""
    with pytest.raises(ValueError, match=r"no block size"):
        IdentifyNamespace.parse(page(*placed))


def test_unavailable_format_has_no_block_size() -> None:
    """LBADS 0 marks a format that cannot be used."""
    assert LbaFormat(0, 0, 0).lba_size == 0


def test_zoned_namespace() -> None:
    """Limits are counted from one, sizes are those of the format in use."""
    data = page(
        (0, "0300"),  # ZOC: both bits
        (2, "0100"),  # OZCS: bit 0
        (4, "07000000"),  # MAR 7 allows 8
        (8, "05000000"),  # MOR 5 allows 6
        (2816, "0010000000000000 01"),  # format 0: ZSZE, ZDES
        (2832, "0040000000000000 02"),  # format 1
        (3824, "0080000000000000 00"),  # format 63
    )
    zoned = IdentifyZonedNamespace.parse(data, 1)
    assert (zoned.zsze, zoned.zdes_bytes, zoned.mar, zoned.mor) == (0x4000, 128, 8, 6)
    assert zoned.zoc == Zoc.VARIABLE_ZONE_CAPACITY | Zoc.ZONE_ACTIVE_EXCURSIONS
    assert zoned.ozcs == Ozcs.READ_ACROSS_ZONE_BOUNDARIES
    assert IdentifyZonedNamespace.parse(data, 0).zsze == 0x1000
    assert IdentifyZonedNamespace.parse(data, 63).zdes_bytes == 0


def test_optional_zoned_features_are_bits() -> None:
    """Bit 0 of OZCS allows reads across zones, bit 1 announces random write areas."""
    parsed = [IdentifyZonedNamespace.parse(page((2, f"0{n}00"), (2816, "01")), 0).ozcs for n in range(4)]
    assert parsed == [
        Ozcs(0),
        Ozcs.READ_ACROSS_ZONE_BOUNDARIES,
        Ozcs.ZRWA,
        Ozcs.READ_ACROSS_ZONE_BOUNDARIES | Ozcs.ZRWA,
    ]
    assert (Ozcs.ZRWA, Zoc.ZONE_ACTIVE_EXCURSIONS, Zoc.VARIABLE_ZONE_CAPACITY) == (2, 2, 1)


def test_zoned_namespace_without_limits() -> None:
    """FFFFFFFFh is no limit, not one more than four thousand million zones."""
    zoned = IdentifyZonedNamespace.parse(page((4, "ffffffff"), (8, "feffffff"), (2816, "01")), 0)
    assert (zoned.mar, zoned.mor) == (None, 0xFFFFFFFF)


def test_zone_size_zero_is_refused() -> None:
    """A format that has no zones is not that of a zoned namespace."""
    with pytest.raises(ValueError, match=r"no zone size for LBA format 1"):
        IdentifyZonedNamespace.parse(page((2816, "01")), 1)


def test_zasl() -> None:
    """ZASL counts as MDTS does, and 0 leaves the limit to MDTS."""
    assert IdentifyZonedController.parse(page((0, "05"))).zasl_bytes() == 32 * 4096
    assert IdentifyZonedController.parse(page((0, "05"))).zasl_bytes(page_size=8192) == 32 * 8192
    assert IdentifyZonedController.parse(page()).zasl_bytes() is None


def test_namespace_descriptors() -> None:
    """Each descriptor is type, length, two reserved bytes, identifier; unknown types are passed over, length 0 ends."""
    data = page(
        (0, "01 08 0000 0011223344556677"),
        (12, "7f 02 0000 abcd"),
        (18, "02 10 0000 00112233445566778899aabbccddeeff"),
        (38, "03 10 0000 123e4567e89b12d3a456426614174000"),
        (58, "04 01 0000 02"),
        (67, "04 01 0000 00"),  # after the end
    )
    assert parse_namespace_descriptors(data) == NamespaceDescriptors(
        eui64=bytes.fromhex("0011223344556677"),
        nguid=bytes.fromhex("00112233445566778899aabbccddeeff"),
        uuid=UUID("123e4567-e89b-12d3-a456-426614174000"),
        csi=2,
    )


def test_no_namespace_descriptors() -> None:
    """An empty list identifies nothing."""
    assert parse_namespace_descriptors(page()) == NamespaceDescriptors()


def test_namespace_descriptors_to_the_end_of_the_data() -> None:
    """A list that fills its data needs no end."""
    assert parse_namespace_descriptors(bytes.fromhex("04 01 0000 02")) == NamespaceDescriptors(csi=2)


@pytest.mark.parametrize(
    "data",
    [page((0, "01 07 0000 00112233445566")), bytes.fromhex("03 10 0000 123e4567"), bytes.fromhex("03 10 0000")],
    ids=["EUI64 of 7 bytes", "cut off", "cut off before the identifier"],
)
def test_broken_namespace_descriptor_is_refused(data: bytes) -> None:
    """An identifier of the wrong length, or with bytes missing, is no identifier."""
    with pytest.raises(ValueError, match=r"identifier type"):
        parse_namespace_descriptors(data)


def test_namespace_list() -> None:
    """Identifiers run up to the first zero, or to the end of a full page."""
    assert parse_namespace_list(page((0, "01000000 05000000 00010000"), (16, "09000000"))) == [1, 5, 256]
    assert parse_namespace_list(page()) == []
    assert len(parse_namespace_list(np.arange(1, 1025, dtype="<u4"))) == 1024
    assert parse_namespace_list(bytes.fromhex("01000000 05000000 0600")) == [1, 5]


@pytest.mark.parametrize("parse", [IdentifyController.parse, IdentifyZonedController.parse, IdentifyNamespace.parse])
def test_short_data_is_refused(parse: object) -> None:
    """A structure is whole or not at all."""
    assert callable(parse)
    with pytest.raises(ValueError, match=r"4095 bytes of data, where the structure has 4096"):
        parse(bytes(4095))


def test_any_buffer_and_a_copy_of_it() -> None:
    """Bytes, memoryview and array parse alike, equal structures compare equal, and the buffer may be used again."""
    data = page((0, "2a"), (128, "00000900"), (4095, "77"))
    buffer = np.frombuffer(data, np.uint8).copy()
    parsed = [IdentifyNamespace.parse(source) for source in (bytes(data), memoryview(data), buffer)]
    buffer[:] = 0
    assert parsed[0] == parsed[1] == parsed[2]
    assert parsed[2].nsze == int(parsed[2].raw["nsze"]) == 0x2A
    assert parsed[2].raw["vs"][-1] == 0x77
    with pytest.raises(ValueError, match=r"read-only"):
        parsed[2].raw["nsze"] = 1


def test_nvm_namespace() -> None:
    """STS is bits 6:0 of an extended LBA format, PIF bits 8:7."""
    data = page((0, "ffff0000 00000000 07"), (12, "20000000 90000000 10010000"))
    identity = IdentifyNvmNamespace.parse(data)
    assert (identity.lbstm, identity.pic) == (0xFFFF, 7)
    assert identity.elbafs[:4] == ((32, 0), (16, 1), (16, 2), (0, 0))
    assert len(identity.elbafs) == 64


def test_nvm_controller() -> None:
    """Its limits, as they are on the wire."""
    identity = IdentifyNvmController.parse(page((0, "01020304 05000000 0600000000000001")))
    assert (identity.vsl, identity.wzsl, identity.wusl, identity.dmrl) == (1, 2, 3, 4)
    assert (identity.dmrsl, identity.dmsl) == (5, 0x0100000000000006)


def test_command_sets() -> None:
    """A bit for each command set, 64 to a combination; combinations have an index, so an empty one in between stays."""
    data = page((0, "0100000000000000"), (16, "0500000000000080"))
    assert parse_command_sets(data) == [{0}, frozenset(), {0, 2, 63}]
    assert parse_command_sets(bytes(4096)) == []
