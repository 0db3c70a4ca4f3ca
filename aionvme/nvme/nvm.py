"""Commands of the NVM Command Set (NVM Command Set Specification 1.0, section 3.2).

``nlb`` is 1-based in every signature, 1 to 65536; the field on the wire is 0's based, and the subtraction is made here,
once.
"""

from collections.abc import Iterable
from operator import index
from struct import Struct

from aionvme.nvme.command import Command, fit
from aionvme.nvme.opcodes import NvmOpcode

NLB_MAX = 1 << 16
"""Most logical blocks a 16-bit, 0's based NLB field can ask for."""

DSM_NLB_MAX = (1 << 32) - 1
"""Most logical blocks one range of a dataset management command has: its length is 32 bits, and not 0's based."""

_DSM_RANGE = Struct("<IIQ")
_COPY_SOURCE_RANGE = Struct("<8xQH6xIHH")
assert _DSM_RANGE.size == 16
assert _COPY_SOURCE_RANGE.size == 32


def flush() -> Command:
    """Commit data and metadata to non-volatile media (NVM Express Base 2.0, section 7.1)."""
    return Command(NvmOpcode.FLUSH)


def read(slba: int, nlb: int, *, fua: bool = False, limited_retry: bool = False) -> Command:
    """Read ``nlb`` logical blocks from ``slba`` (section 3.2.4)."""
    return _blocks(NvmOpcode.READ, slba, nlb, fua, limited_retry)


def write(
    slba: int, nlb: int, *, fua: bool = False, limited_retry: bool = False, dtype: int = 0, dspec: int = 0
) -> Command:
    """Write ``nlb`` logical blocks at ``slba`` (section 3.2.6).

    ``dtype`` and ``dspec`` name a directive, such as a stream (1) or a data placement handle (2).
    """
    command = _blocks(NvmOpcode.WRITE, slba, nlb, fua, limited_retry)
    return command._replace(cdw12=command.cdw12 | fit("dtype", dtype, 4) << 20, cdw13=fit("dspec", dspec, 16) << 16)


def compare(slba: int, nlb: int, *, fua: bool = False, limited_retry: bool = False) -> Command:
    """Compare ``nlb`` logical blocks from ``slba`` with the data sent (section 3.2.1)."""
    return _blocks(NvmOpcode.COMPARE, slba, nlb, fua, limited_retry)


def verify(slba: int, nlb: int, *, fua: bool = False, limited_retry: bool = False) -> Command:
    """Check the integrity of stored blocks without transferring them (section 3.2.5)."""
    return _blocks(NvmOpcode.VERIFY, slba, nlb, fua, limited_retry)


def write_zeroes(slba: int, nlb: int, *, fua: bool = False, limited_retry: bool = False, deac: bool = False) -> Command:
    """Set logical blocks to zero (section 3.2.8); ``deac`` asks the controller to deallocate them as well."""
    command = _blocks(NvmOpcode.WRITE_ZEROES, slba, nlb, fua, limited_retry)
    return command._replace(cdw12=command.cdw12 | bool(deac) << 25)


def write_uncorrectable(slba: int, nlb: int) -> Command:
    """Mark logical blocks invalid, so that reading them fails (section 3.2.7)."""
    return _blocks(NvmOpcode.WRITE_UNCORRECTABLE, slba, nlb, False, False)


def dataset_management(
    nr: int, *, deallocate: bool = False, integral_read: bool = False, integral_write: bool = False
) -> Command:
    """Attributes for ``nr`` ranges, 1 to 256, sent as data made by :func:`dsm_ranges` (section 3.2.3)."""
    if not 1 <= nr <= 256:
        raise ValueError(f"nr = {nr}: a dataset management command takes 1 to 256 ranges")
    attributes = bool(integral_read) << 0 | bool(integral_write) << 1 | bool(deallocate) << 2
    return Command(NvmOpcode.DATASET_MANAGEMENT, cdw10=nr - 1, cdw11=attributes)


def dsm_ranges(ranges: Iterable[tuple[int, int]]) -> bytes:
    """The data of a dataset management command from ``(slba, nlb)`` pairs (figure 41: 16 bytes each).

    The length on the wire is not 0's based here, and has 32 bits.
    """
    return b"".join(_DSM_RANGE.pack(0, fit("nlb", nlb, 32), fit("slba", slba, 64)) for slba, nlb in ranges)


def copy(sdlba: int, nr: int, *, fua: bool = False, limited_retry: bool = False) -> Command:
    """Copy ``nr`` source ranges, 1 to 256, to consecutive blocks from ``sdlba`` (section 3.2.2, descriptor format 0).

    The data is made by :func:`copy_ranges`.
    """
    if not 1 <= nr <= 256:
        raise ValueError(f"nr = {nr}: a copy command takes 1 to 256 ranges")
    low, high = split_lba(sdlba, "sdlba")
    return Command(NvmOpcode.COPY, cdw10=low, cdw11=high, cdw12=nr - 1 | bool(fua) << 30 | bool(limited_retry) << 31)


def copy_ranges(ranges: Iterable[tuple[int, int]], *, ref_tags: bool = False) -> bytes:
    """The data of a copy command from ``(slba, nlb)`` pairs (figure 34: format 0, 32 bytes each).

    With ``ref_tags`` the reference tag expected of each range's first block is the low half of its address.
    """
    return b"".join(
        _COPY_SOURCE_RANGE.pack(fit("slba", slba, 64), wire_nlb(nlb), slba & 0xFFFF_FFFF if ref_tags else 0, 0, 0)
        for slba, nlb in ranges
    )


def wire_nlb(nlb: int) -> int:
    """The 0's based field of a 1-based number of logical blocks; ValueError where it does not fit."""
    nlb = index(nlb)  # a numpy integer would overflow where flags are shifted in beside it
    if not 1 <= nlb <= NLB_MAX:
        raise ValueError(f"nlb = {nlb}: one command takes 1 to {NLB_MAX} logical blocks")
    return nlb - 1


def split_lba(lba: int, name: str = "slba") -> tuple[int, int]:
    """The two dwords, low first, of a logical block address; ValueError naming it where it is not one."""
    lba = index(lba)
    if not 0 <= lba < 1 << 64:
        raise ValueError(f"{name} = {lba} is not a logical block address, 0 to 2**64 - 1")
    return lba & 0xFFFF_FFFF, lba >> 32


def _blocks(opcode: NvmOpcode, slba: int, nlb: int, fua: bool, limited_retry: bool) -> Command:
    low, high = split_lba(slba)
    return Command(opcode, cdw10=low, cdw11=high, cdw12=wire_nlb(nlb) | bool(fua) << 30 | bool(limited_retry) << 31)
