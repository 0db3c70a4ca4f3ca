"""What could be written nowhere is refused, with nothing submitted and no other zone closed for it, whatever forbids it."""

from collections.abc import Awaitable, Callable
from dataclasses import replace

import anyio
import numpy as np
import pytest

import aionvme
from aionvme import Protection, UsageError, Zone, ZoneState
from aionvme.nvme.identify import IDENTIFY_NAMESPACE, IdentifyNamespace
from aionvme.nvme.protection import ProtectionFormat

pytestmark = pytest.mark.anyio


async def refused(ns: aionvme.Namespace, data: bytes | list[bytes], message: str) -> None:
    """Expect UsageError from each way to append to the second zone, and no command submitted for it."""
    before = ns._io.submitted
    with pytest.raises(UsageError, match=message):
        await ns.zone_append(ns.zsze, data)
    with anyio.fail_after(10), pytest.raises(UsageError, match=message):
        await ns.zones[1].append(data)
    if isinstance(data, bytes):
        with pytest.raises(UsageError, match="one command takes 1 to"):
            await ns.append_many([ns.zsze], len(data) // ns.lba_size, data)
    assert ns._io.submitted == before


async def test_more_blocks_than_a_command_counts() -> None:
    """NLB has 16 bits, 0's based: 65536 blocks, also where ZASL is more."""
    async with aionvme.open("emu:zns?lba=512&zones=2&zone_size=64MiB&zasl=64MiB&mdts=64MiB") as ns:
        assert ns.max_append_bytes == 65536 * 512
        await refused(ns, bytes(65537 * 512), "at most 33554432 ")
        assert await ns.zones[1].append(bytes(65536 * 512)) == ns.zsze


async def test_more_than_a_zone() -> None:
    """A zone is less than ZASL: an append longer than it does not close another one, and goes nowhere."""
    async with aionvme.open("emu:zns?zones=4&zone_size=64KiB&zasl=128KiB&mor=1") as ns:
        assert ns.max_append_bytes == 64 << 10
        await ns.zones[0].append(bytes(4096))
        await refused(ns, bytes(68 << 10), "at most 65536 ")
        await refused(ns, [bytes(64 << 10), bytes(4096)], "at most 65536 ")
        assert ns.zones[0].zs is ZoneState.IMPLICITLY_OPENED
        assert await ns.zones[1].append(bytes(64 << 10)) == ns.zsze


async def zone_after(
    ns: aionvme.Namespace, segments: int | None = None, dps: int = 0, *, extended: bool = False
) -> Zone:
    """The second zone, beside one that was opened by writing to it, where only one may be: as one of a device with so many
    segments, or of a format with protection information in 8 bytes of metadata."""
    await ns.zones[0].append(bytes(4096))
    zone = ns.zones[1]
    geometry = replace(zone._book.geometry, segments=segments)
    if dps:
        page = np.zeros((), IDENTIFY_NAMESPACE)
        page["nsze"] = page["ncap"] = ns.nsze
        page["flbas"], page["dps"], page["lbaf"][0] = extended << 4, dps, (8, 12, 0)
        namespace = IdentifyNamespace.parse(page.tobytes())
        geometry = replace(geometry, namespace=namespace, protection=ProtectionFormat.of(dps, 8))
    zone._book.geometry = geometry
    return zone


LIMITED = "emu:zns?zones=4&zone_size=1MiB&zasl=512KiB&mor=1"
BLOCK = bytes(4096)

Call = Callable[[Zone], Awaitable[object]]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        # Data in pieces may have to be copied, to one page less than there are segments: 126 * 4096 bytes.
        pytest.param(lambda zone: zone.append([bytes(126 << 12), BLOCK]), "at most 516096 .*segments", id="pieces"),
        pytest.param(lambda zone: zone.append([bytes(4)] * 1024), "1024 pieces", id="append of many pieces"),
        pytest.param(lambda zone: zone.write([bytes(2)] * 2048), "more than 1023 pieces", id="write of many pieces"),
        pytest.param(lambda zone: zone.set_extension(bytes(64)), "no descriptor extensions", id="extension"),
    ],
)
async def test_data_that_no_command_takes(call: Call, message: str) -> None:
    """It is refused before the open zone is closed for it."""
    async with aionvme.open(LIMITED) as ns:
        zone = await zone_after(ns, segments=127)
        await told_at_once(ns, zone, call, message)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        # Zones have 256 blocks: the second's are 100h to 1FFh.
        pytest.param(
            lambda zone: zone.append(BLOCK, protection=Protection(ref_tag=0x101)), "address, 0x100$", id="append"
        ),
        pytest.param(
            lambda zone: zone.write(BLOCK, protection=Protection(ref_tag=0xFF)), "0x100 to 0x1ff$", id="write below"
        ),
        pytest.param(
            lambda zone: zone.write(BLOCK, protection=Protection(ref_tag=0x200)), "0x100 to 0x1ff$", id="write above"
        ),
        pytest.param(
            lambda zone: zone.write_zrwa(0x104, BLOCK, protection=Protection(ref_tag=0x105)),
            "address, 0x104$",
            id="area",
        ),
    ],
)
async def test_reference_tags_of_type_1(call: Call, message: str) -> None:
    """They are the low half of an address: one of another zone's is refused before the open zone is closed for it."""
    async with aionvme.open(LIMITED) as ns:
        zone = await zone_after(ns, dps=1)
        await told_at_once(ns, zone, call, message)


async def test_blocks_that_grow_by_protection_information() -> None:
    """With 8 bytes more in each block, 512 KiB are 127 blocks and not 128."""
    async with aionvme.open(LIMITED) as ns:
        zone = await zone_after(ns, dps=1, extended=True)
        await told_at_once(ns, zone, lambda zone: zone.append(BLOCK * 128, protection=Protection()), "525312 bytes")


async def test_more_than_a_zone_whose_state_is_in_doubt() -> None:
    """A write longer than any zone needs no look at how much room there is."""
    async with aionvme.open(LIMITED) as ns:
        zone = await zone_after(ns)
        zone._record.doubt()
        await told_at_once(ns, zone, lambda zone: zone.write(BLOCK * 257), "257 blocks at LBA 0x100 are not all")


async def told_at_once(ns: aionvme.Namespace, zone: Zone, call: Call, message: str) -> None:
    """Expect UsageError with nothing submitted, and the first zone left open."""
    before = ns._io.submitted
    with anyio.fail_after(10), pytest.raises(UsageError, match=message):
        await call(zone)
    assert ns._io.submitted == before
    assert ns.zones[0].zs is ZoneState.IMPLICITLY_OPENED
    assert ns.zones.waiting() == []
