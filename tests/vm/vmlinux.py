"""The uncompressed kernel inside a bzImage.

An emulated CPU takes seconds to decompress what the host's decompresses in half a second, and QEMU
boots the ELF file directly (through its PVH entry).
"""

from __future__ import annotations

import lzma
import struct
import zlib
from collections.abc import Callable

# Offsets in the setup header: Documentation/arch/x86/boot.rst.
_SETUP_SECTS = 0x1F1
_PAYLOAD = struct.Struct("<II")  # payload_offset, payload_length
_PAYLOAD_AT = 0x248
_SECTOR = 512

# The decompressor objects, not the one-shot functions: the payload ends with four bytes (its
# uncompressed size) that are not part of the stream.
_DECOMPRESSORS: dict[bytes, Callable[[bytes], bytes]] = {
    b"\xfd7zXZ\x00": lambda payload: lzma.LZMADecompressor().decompress(payload),
    b"\x1f\x8b": lambda payload: zlib.decompressobj(wbits=31).decompress(payload),
}


def extract_vmlinux(image: bytes) -> bytes:
    """Return the ELF file inside ``image``, or ``image`` if its compression is not one of ours."""
    payload_offset, payload_length = _PAYLOAD.unpack_from(image, _PAYLOAD_AT)
    start = (image[_SETUP_SECTS] + 1) * _SECTOR + payload_offset
    payload = image[start : start + payload_length]
    for magic, decompress in _DECOMPRESSORS.items():
        if payload.startswith(magic):
            return decompress(payload)
    return image
