"""Protection information: what guards a logical block end to end (NVM Command Set Specification 1.0, section 5.2).

Eight bytes of a block's metadata, its last or its first: a guard, the CRC of the block; an application tag, the host's own; and a
reference tag, which says where the block belongs. Two types of it count the reference tag up from block to block, of which type 1
begins with the block's address; type 3 leaves it to the host.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from aionvme._core import ffi, lib

PI_TUPLE = np.dtype([("guard", ">u2"), ("app_tag", ">u2"), ("ref_tag", ">u4")])
"""Protection Information with a guard of 16 bits (figure 108), most significant byte first."""
assert PI_TUPLE.itemsize == 8

PRACT = 1 << 29
"""Protection Information Action, in dword 12: the controller makes and strips it, or with longer metadata fills it in."""

PRCHK_GUARD, PRCHK_APP_TAG, PRCHK_REF_TAG = 1 << 28, 1 << 27, 1 << 26
"""Protection Information Check, in dword 12."""

PRINFO_MASK = 0xF << 26

PIREMAP = 1 << 25
"""Protection Information Remap, in dword 12 of Zone Append: reference tags are counted from the block that it gets."""

UNCHECKED_APP_TAG, UNCHECKED_REF_TAG = 0xFFFF, 0xFFFF_FFFF
"""Nothing of a block with this application tag is checked; with type 3 it takes the reference tag as well."""

Bytes = NDArray[np.uint8]
"""A row of bytes for each block; the rows may lie apart, as those of extended blocks do."""


class Mismatch(NamedTuple):
    """The first block whose protection information is not what it should be, and which part of it."""

    block: int
    tag: str
    expected: int
    found: int


@dataclass(frozen=True)
class ProtectionFormat:
    """The protection information of a namespace: its ``type``, 1 to 3; ``pi_bytes`` of the ``ms`` bytes of metadata; whether
    those are the ``first``; and whether it is the tuple of 8 bytes that this module knows (``known``), without a storage tag."""

    type: int
    ms: int
    first: bool
    pi_bytes: int = 8
    known: bool = True

    @classmethod
    def of(cls, dps: int, ms: int, sts: int = 0, pif: int = 0) -> Self | None:
        """That of a namespace by DPS, metadata and its format's storage tag size and PIF, None where it has none."""
        type_ = dps & 0x7
        if not type_:
            return None
        return cls(type_, ms, bool(dps & 0x8), 16 if pif else 8, type_ <= 3 and not pif and not sts)

    @property
    def all_of_it(self) -> bool:
        """Whether metadata is nothing but protection information: then it is not transferred with PRACT."""
        return self.ms == self.pi_bytes

    @property
    def counts(self) -> bool:
        """Whether the reference tag goes up from block to block, and is checked."""
        return self.type < 3

    @property
    def prchk(self) -> int:
        """What can be checked without knowing an application tag."""
        return PRCHK_GUARD | (PRCHK_REF_TAG if self.counts else 0)

    def generate(self, data: Bytes, metadata: Bytes, app_tag: int, ref_tag: int) -> None:
        """Fill in the protection information in ``metadata``: blocks in rows, as ``data`` has them."""
        tuples = self._tuples(metadata)
        tuples["guard"] = self._guards(data, metadata)
        tuples["app_tag"] = app_tag
        tuples["ref_tag"] = self._ref_tags(len(data), ref_tag)

    def check(
        self, data: Bytes, metadata: Bytes, ref_tag: int, app_tag: int = 0, app_tag_mask: int = 0
    ) -> Mismatch | None:
        """The first block that is not what its protection information says: in it guard, application tag (the bits of the mask)
        and reference tag are looked at in this order."""
        tuples = self._tuples(metadata)
        checked = tuples["app_tag"] != UNCHECKED_APP_TAG
        if not self.counts:
            checked |= tuples["ref_tag"] != UNCHECKED_REF_TAG
        mask = np.uint16(app_tag_mask)
        wanted: list[tuple[str, Any, Any]] = [
            ("guard", self._guards(data, metadata), tuples["guard"]),
            ("app_tag", np.full(len(data), app_tag & app_tag_mask), tuples["app_tag"] & mask),
        ]
        if self.counts:
            wanted.append(("ref_tag", self._ref_tags(len(data), ref_tag), tuples["ref_tag"]))
        wrong = np.array([checked & (expected != found) for _, expected, found in wanted])
        blocks = wrong.any(axis=0)
        if not blocks.any():
            return None
        block = int(np.argmax(blocks))
        tag, expected, found = wanted[int(np.argmax(wrong[:, block]))]
        return Mismatch(block, tag, int(expected[block]), int(found[block]))

    @property
    def _offset(self) -> int:
        return 0 if self.first else self.ms - PI_TUPLE.itemsize

    def _tuples(self, metadata: Bytes) -> NDArray[np.void]:
        start = self._offset
        tuples: NDArray[np.void] = metadata[:, start : start + PI_TUPLE.itemsize].view(PI_TUPLE)[:, 0]
        return tuples

    def _guards(self, data: Bytes, metadata: Bytes) -> NDArray[np.uint16]:
        return guards(data, metadata[:, : self._offset])

    def _ref_tags(self, n: int, ref_tag: int) -> NDArray[np.uint32]:
        if not self.counts:
            return np.full(n, ref_tag, np.uint32)
        return (np.arange(ref_tag, ref_tag + n, dtype=np.uint64) & np.uint64(0xFFFF_FFFF)).astype(np.uint32)


def guards(data: Bytes, covered: Bytes) -> NDArray[np.uint16]:
    """CRC-16/T10-DIF of each row of ``data``, gone on with over the row of metadata that is ``covered`` as well."""
    crcs = np.empty(len(data), np.uint16)
    lib.aionvme_guards(
        _address(data), data.strides[0], data.shape[1], _address(covered), covered.strides[0], covered.shape[1],
        len(data), ffi.from_buffer("uint16_t *", crcs),
    )  # fmt: skip
    return crcs


def _address(array: Bytes) -> Any:
    return ffi.cast("const uint8_t *", array.__array_interface__["data"][0])
