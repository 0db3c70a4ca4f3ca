"""Protection information against an implementation bit by bit, and the check value of the CRC catalogues."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aionvme.nvme.protection import Mismatch, ProtectionFormat, guards


def crc_t10_dif(data: bytes) -> int:
    """Polynomial 8BB7h, from 0, highest bit first: one bit after the other."""
    crc = 0
    for byte in data:
        for bit in range(7, -1, -1):
            crc = (crc << 1 ^ 0x8BB7 * ((crc >> 15) ^ (byte >> bit & 1))) & 0xFFFF
    return crc


def rows(*blocks: bytes) -> np.ndarray:
    """Blocks as rows of bytes."""
    return np.frombuffer(b"".join(blocks), np.uint8).reshape(len(blocks), -1).copy()


def none(n: int) -> np.ndarray:
    """No metadata that a guard covers."""
    return np.empty((n, 0), np.uint8)


def test_guard_is_crc_16_t10_dif() -> None:
    """The catalogues' check value, and the test patterns of SBC-3, of 32 bytes: zeroes, ones, counting up."""
    assert guards(rows(b"123456789"), none(1)).tolist() == [0xD0DB]
    assert guards(rows(bytes(32), bytes([0xFF]) * 32), none(2)).tolist() == [0x0000, 0xA293]
    assert guards(rows(bytes(range(32))), none(1)).tolist() == [0x0224]


@given(data=st.binary(min_size=1, max_size=100), covered=st.binary(max_size=40), n=st.integers(1, 4))
def test_guard_of_any_block(data: bytes, covered: bytes, n: int) -> None:
    """Any length, with metadata behind it, for each of several blocks that lie apart."""
    block = data + covered + b"rest"
    blocks = np.tile(np.frombuffer(block, np.uint8), (n, 1))
    blocks[:, 0] += np.arange(n, dtype=np.uint8)
    covers = slice(len(data), len(data) + len(covered))
    found = guards(blocks[:, : len(data)], blocks[:, covers])
    assert found.tolist() == [crc_t10_dif(row[: covers.stop].tobytes()) for row in blocks]


def test_last_bytes_guard_the_metadata_before_them() -> None:
    """Type 1: most significant byte first, the reference tag counted up and wrapped; the guard goes on over metadata."""
    data, metadata = rows(b"A" * 512, b"B" * 512), rows(b"metadata--------", b"METADATA--------")
    ProtectionFormat(1, 16, first=False).generate(data, metadata, 0x1234, 0xFFFF_FFFF)
    assert metadata[0].tobytes() == (
        b"metadata" + crc_t10_dif(b"A" * 512 + b"metadata").to_bytes(2, "big") + bytes.fromhex("1234 ffffffff")
    )
    assert metadata[1].tobytes() == (
        b"METADATA" + crc_t10_dif(b"B" * 512 + b"METADATA").to_bytes(2, "big") + bytes.fromhex("1234 00000000")
    )


def test_first_bytes_guard_the_data_alone() -> None:
    """Type 3: the reference tag is the same in each block."""
    data, metadata = rows(b"A" * 512, b"B" * 512), rows(b"--------metadata", b"--------METADATA")
    ProtectionFormat(3, 16, first=True).generate(data, metadata, 7, 9)
    assert metadata.tobytes() == b"".join(
        crc_t10_dif(letter * 512).to_bytes(2, "big") + bytes.fromhex("0007 00000009") + rest
        for letter, rest in ((b"A", b"metadata"), (b"B", b"METADATA"))
    )


def protected(type_: int, n: int = 4) -> tuple[ProtectionFormat, np.ndarray, np.ndarray]:
    """Extended blocks with their protection information."""
    form = ProtectionFormat(type_, 8, first=False)
    blocks = np.random.default_rng(type_).integers(0, 256, (n, 520), np.uint8)
    data, metadata = blocks[:, :512], blocks[:, 512:]
    form.generate(data, metadata, 0xBEEF, 100)
    return form, data, metadata


@pytest.mark.parametrize("type_", [1, 2, 3])
def test_what_was_generated_is_right(type_: int) -> None:
    """Nothing is found where nothing is wrong."""
    form, data, metadata = protected(type_)
    assert form.check(data, metadata, 100, 0xBEEF, 0xFFFF) is None


@pytest.mark.parametrize("type_", [1, 2, 3])
def test_every_part_is_checked(type_: int) -> None:
    """Block, tag, what it should be and is; the reference tag is not checked with type 3."""
    form, data, metadata = protected(type_)
    assert form.check(data, metadata, 100, 0xBEE0, 0xFFF0) is None
    assert form.check(data, metadata, 100, 0xBEE0, 0xFFFF) == Mismatch(0, "app_tag", 0xBEE0, 0xBEEF)
    wrong = Mismatch(0, "ref_tag", 99, 100) if type_ < 3 else None
    assert form.check(data, metadata, 99) == wrong
    guard = int.from_bytes(metadata[2, :2].tobytes(), "big")
    data[2, 511] ^= 1
    assert form.check(data, metadata, 100) == Mismatch(2, "guard", crc_t10_dif(data[2].tobytes()), guard)


def test_some_tags_stand_for_no_check() -> None:
    """FFFFh as application tag, and with type 3 FFFFFFFFh as reference tag besides (section 5.2.1.2)."""
    for type_ in (1, 2, 3):
        form, data, metadata = protected(type_)
        metadata[1] = 0xFF
        data[1] ^= 1
        assert form.check(data, metadata, 100, 0xBEEF, 0xFFFF) is None
        metadata[1, 4:] = 0
        assert (form.check(data, metadata, 100) is None) == (type_ < 3)


def test_formats_are_told_by_dps() -> None:
    """DPS: type in bits 2:0, first bytes in bit 3. With a longer guard (PIF) the tuple has 16 bytes."""
    assert ProtectionFormat.of(0b0000, 8) is None
    assert ProtectionFormat.of(0b0001, 8) == ProtectionFormat(1, 8, first=False)
    assert ProtectionFormat.of(0b1011, 16) == ProtectionFormat(3, 16, first=True)
    with_64_bits = ProtectionFormat.of(0b0001, 16, pif=2)
    assert with_64_bits is not None
    assert (with_64_bits.known, with_64_bits.all_of_it) == (False, True)
    with_storage_tag = ProtectionFormat.of(0b0001, 8, sts=16)
    assert with_storage_tag is not None
    assert not with_storage_tag.known
