"""What happened to each zone, where the device counts it: on an emulated namespace."""

import time

import numpy as np
import pytest

import aionvme
from tests.conftest import IN_VM, Place

pytestmark = pytest.mark.anyio

ZONE = 1024  # blocks


async def test_only_an_emulated_zoned_namespace_counts(place: Place, zns: aionvme.Namespace) -> None:
    """Anything else says so: a conventional namespace, and every real device."""
    real = [zns] if IN_VM else []
    async with place.open(place.nvm_512) as conventional:
        for ns in (conventional, *real):
            with pytest.raises(aionvme.UsageError, match="only an emulated zoned namespace counts"):
                ns.zone_counters()


if not IN_VM:

    async def test_counters_of_an_opened_namespace(zns: aionvme.Namespace) -> None:
        """Single commands, arrays of them and limited namespaces are counted alike, from when the namespace was opened."""
        block = np.zeros(zns.lba_size, np.uint8)
        start = time.monotonic_ns()
        await zns.zone_append(0, block)
        await zns.limited(aionvme.Limiter(depth=4)).write(ZONE, np.zeros(300 * zns.lba_size, np.uint8))
        await zns.append_many(np.full(10, 2 * ZONE), 1, np.zeros(10 * zns.lba_size, np.uint8))
        await zns.finish_zone(0)
        rows = zns.zone_counters()
        passed = time.monotonic_ns() - start
        assert rows["zslba"].tolist() == list(range(0, 32 * ZONE, ZONE))
        assert rows["appends"].tolist()[:4] == [1, 0, 10, 0]
        assert rows["append_blocks"].tolist()[:4] == [1, 0, 10, 0]
        assert rows["writes"].tolist()[:4] == [0, 3, 0, 0]  # 300 blocks of 4 KiB, at most 512 KiB a command
        assert rows["write_blocks"].tolist()[:4] == [0, 300, 0, 0]
        assert rows["implicit_opens"].tolist()[:4] == [1, 1, 1, 0]
        assert rows["finishes"].tolist()[:4] == [1, 0, 0, 0]
        assert 0 < rows["open_ns"][2] < rows["open_ns"][1] < passed
        assert rows["open_ns"][3] == 0
        assert zns.limited(aionvme.Limiter(depth=4)).zone_counters()["appends"].sum() == 11

    async def test_not_after_closing(place: Place) -> None:
        """As with everything else of a namespace."""
        async with place.open(place.zns) as ns:
            pass
        with pytest.raises(aionvme.ClosedError):
            ns.zone_counters()
