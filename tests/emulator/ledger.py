"""What a zoned device in a file must hold after it was stopped: a model of its zones, kept by whoever writes to it."""

from aionvme.emulator import Device
from aionvme.nvme import nvm

from .host import run, zones

LBA, ZSZE, ZCAP, ZONES = 4096, 64, 48, 8
SPEC = f"emu:zns?zones={ZONES}&zone_size={ZSZE * LBA}&zone_capacity={ZCAP * LBA}&lba={LBA}&mar=6&mor=3&file="

Zone = tuple[bool, tuple[int, ...]]
"""Whether it is full, and the tag of each block written."""


def apply(zone: Zone, kind: str, nlb: int, tag: int) -> Zone:
    """A zone after one operation that succeeded."""
    full, tags = zone
    if kind == "r":
        return False, ()
    if kind == "f":
        return True, tags
    if kind == "a":
        tags += tuple(tag << 8 | block for block in range(nlb))
    return full or len(tags) == ZCAP, tags


def blocks(nlb: int, tag: int) -> bytes:
    """The data of an append: each block repeats a number of its own."""
    return b"".join((tag << 8 | block).to_bytes(8, "little") * (LBA // 8) for block in range(nlb))


def stored(device: Device) -> list[Zone]:
    """The zones as the device has them. Every block of a zone is read: what is not written must be zeroes."""
    found: list[Zone] = []
    for index, (zs, wp) in enumerate(zones(device)):
        data = bytearray(ZSZE * LBA)
        assert run(device, nvm.read(index * ZSZE, ZSZE), data) == (0, 0)
        tags = []
        for at in range(0, len(data), LBA):
            block = data[at : at + LBA]
            assert block == block[:8] * 512, "a torn block can be read"
            tags.append(int.from_bytes(block[:8], "little"))
        written = len(tags) - next((n for n, tag in enumerate(reversed(tags)) if tag), len(tags))
        if zs == 0xE:
            found.append((True, tuple(tags[:written])))
        else:
            assert (zs, wp) == (4 if written else 1, index * ZSZE + written)
            found.append((False, tuple(tags[:written])))
    return found
