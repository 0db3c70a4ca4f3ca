"""What is more than one append takes is refused, with nothing submitted, whatever the limit is that it exceeds."""

import anyio
import pytest

import aionvme

pytestmark = pytest.mark.anyio


async def refused(ns: aionvme.Namespace, data: bytes | list[bytes], message: str) -> None:
    """Expect UsageError from each way to append to the second zone, and no command submitted for it."""
    before = ns._io.submitted
    with pytest.raises(aionvme.UsageError, match=message):
        await ns.zone_append(ns.zsze, data)
    with anyio.fail_after(10), pytest.raises(aionvme.UsageError, match=message):
        await ns.zones[1].append(data)
    if isinstance(data, bytes):
        with pytest.raises(aionvme.UsageError, match="one command takes 1 to"):
            await ns.append_many([ns.zsze], len(data) // ns.lba_size, data)
    assert ns._io.submitted == before


async def test_more_blocks_than_a_command_counts() -> None:
    """NLB has 16 bits, 0's based: 65536 blocks, also where ZASL is more."""
    async with aionvme.open("emu:zns?lba=512&zones=2&zone_size=64MiB&zasl=64MiB&mdts=64MiB") as ns:
        assert ns.max_append_bytes == 65536 * 512
        await refused(ns, bytes(65537 * 512), "at most 33554432 ")
        assert await ns.zones[1].append(bytes(65536 * 512)) == ns.zsze
