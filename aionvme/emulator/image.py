"""What an emulated namespace consists of, and where on its media each part is.

::

    0        header     magic, version and geometry, UUID; at byte 512 whether any block was ever marked
    4096     zones      16 bytes each: blocks written, state, attributes
             extensions the zone descriptor extension of each zone
             marks      one byte for each logical block, 1 where Write Uncorrectable declared it bad
             data       the logical blocks

Every part is valid when it is all zeroes, so a file is complete as soon as its header is there. Each entry is written
by one ``pwrite`` within one page, which a signal cannot tear, and always after the data it speaks of: a process killed
between the two leaves blocks behind that lie above the write pointer, where nobody can read them. When the machine
loses power, what was written after the last Flush may be gone, as with any volatile write cache, while the write
pointers may already have passed it.
"""

import random
from struct import Struct
from typing import Any
from uuid import UUID

from aionvme.emulator.media import FileMedia, Media, MemoryMedia
from aionvme.emulator.spec import DeviceSpec
from aionvme.errors import UsageError
from aionvme.nvme.opcodes import ZoneState

_MAGIC = b"aionvme\0"
_VERSIONS = (1, 2)
"""Version 1 ends its header after the UUID, with zeroes, and has neither attributes nor extensions: it is read as 2."""
_HEADER = Struct("<8sII QQQ II 16s IIII")
_GEOMETRY = ("lba", "size_bytes", "zone_size", "zone_capacity", "mar", "mor")
_GEOMETRY_2 = ("zdes", "zrwas", "zrwafg", "numzrwa")
_ZONE = Struct("<QBB6x")
_MARKED_OFFSET = 512
_PAGE = 4096
assert _HEADER.size <= _MARKED_OFFSET
assert _PAGE % _ZONE.size == 0


class Image:
    """The blocks, marks and zone table of one namespace, on memory or in a file."""

    def __init__(self, spec: DeviceSpec) -> None:
        """Open the file that ``spec`` names, or start with a namespace of zeroes."""
        self._lba = spec.lba
        self._zdes = spec.zdes
        self._extensions_offset = _PAGE + _pages(spec.zones * _ZONE.size)
        self._marks_offset = self._extensions_offset + _pages(spec.zones * spec.zdes)
        self._data_offset = self._marks_offset + _pages(spec.nsze)
        length = self._data_offset + spec.size_bytes
        self.media: Media
        if spec.file is None:
            self.media = MemoryMedia(length)
            self.uuid = _new_uuid(random.Random(spec.seed))
            self.has_marks = False
        else:
            self.media = file = FileMedia(spec.file)
            try:
                self.uuid, self.has_marks = _open_header(file, spec)
                file.extend(length, self._marks_offset)
            except BaseException:
                file.close()
                raise

    def read_blocks(self, slba: int, view: memoryview) -> None:
        """Fill ``view`` with the blocks from ``slba``."""
        self.media.read_into(self._data_offset + slba * self._lba, view)

    def write_blocks(self, slba: int, view: memoryview) -> None:
        """Store the blocks from ``slba``, and take their marks off."""
        self.media.write(self._data_offset + slba * self._lba, view)
        if self.has_marks:
            self.media.zero(self._marks_offset + slba, view.nbytes // self._lba)

    def zero_blocks(self, slba: int, nlb: int) -> None:
        """Make blocks read as zeroes, and take their marks off."""
        self.media.zero(self._data_offset + slba * self._lba, nlb * self._lba)
        if self.has_marks:
            self.media.zero(self._marks_offset + slba, nlb)

    def mark_blocks(self, slba: int, nlb: int) -> None:
        """Declare blocks bad."""
        if not self.has_marks:
            self.media.write(_MARKED_OFFSET, b"\1")
            self.has_marks = True
        self.media.write(self._marks_offset + slba, b"\1" * nlb)

    def marked(self, slba: int, nlb: int) -> bool:
        """Whether any of these blocks was declared bad."""
        if not self.has_marks:
            return False
        marks = bytearray(nlb)
        self.media.read_into(self._marks_offset + slba, memoryview(marks))
        return 1 in marks

    def load_zones(self, count: int) -> list[tuple[int, ZoneState, int]]:
        """Blocks written, state and attributes of each zone, as last saved; ValueError where the media holds no such thing."""
        table = bytearray(count * _ZONE.size)
        self.media.read_into(_PAGE, memoryview(table))
        return [(written, ZoneState(zs or ZoneState.EMPTY), za) for written, zs, za in _ZONE.iter_unpack(table)]

    def save_zone(self, index: int, written: int, zs: int, za: int) -> None:
        """Save one entry of the zone table."""
        self.media.write(_PAGE + index * _ZONE.size, _ZONE.pack(written, zs, za))

    def load_extension(self, index: int, view: memoryview) -> None:
        """Fill ``view`` with the descriptor extension of a zone."""
        self.media.read_into(self._extensions_offset + index * self._zdes, view)

    def save_extension(self, index: int, extension: memoryview) -> None:
        """Save the descriptor extension of a zone."""
        self.media.write(self._extensions_offset + index * self._zdes, extension)

    def close(self) -> None:
        """Give the media back."""
        self.media.close()


def _open_header(file: FileMedia, spec: DeviceSpec) -> tuple[UUID, bool]:
    """Read the header of an existing file and compare it with the description, or give a new file its header."""
    asked = {name: getattr(spec, name) for name in _GEOMETRY + _GEOMETRY_2}
    if file.length == 0:
        uuid = _new_uuid(random.SystemRandom())
        first, second = ([asked[name] for name in names] for names in (_GEOMETRY, _GEOMETRY_2))
        file.write(0, _HEADER.pack(_MAGIC, _VERSIONS[-1], *first, uuid.bytes, *second).ljust(_PAGE, b"\0"))
        file.length = _PAGE
        return uuid, False
    page = bytearray(_PAGE)
    if file.length >= _PAGE:
        file.read_into(0, memoryview(page))
    magic, version, *fields = _HEADER.unpack_from(page)
    uuid_bytes = fields.pop(len(_GEOMETRY))
    if magic != _MAGIC:
        raise UsageError(f"{spec.file} holds something else than an emulated device, and is left as it is")
    if version not in _VERSIONS:
        raise UsageError(
            f"{spec.file} is of version {version}; this library reads versions {_VERSIONS[0]} to {_VERSIONS[-1]}"
        )
    differences = _differences(dict(zip(asked, fields, strict=True)), asked)
    if differences:
        raise UsageError(f"{spec.file} holds a device of another geometry: {differences}")
    return UUID(bytes=uuid_bytes), page[_MARKED_OFFSET] == 1


def _differences(found: dict[str, Any], asked: dict[str, Any]) -> str:
    return ", ".join(f"{name} is {found[name]}, not {asked[name]}" for name in asked if found[name] != asked[name])


def _new_uuid(source: random.Random) -> UUID:
    return UUID(bytes=source.randbytes(16), version=4)


def _pages(length: int) -> int:
    return -(-length // _PAGE) * _PAGE
