"""Placement identifiers on writes, taken by a controller with Flexible Data Placement."""

import numpy as np
import pytest

import aionvme
from tests.conftest import Place, node

pytestmark = [pytest.mark.anyio, pytest.mark.feature("placement identifiers on writes")]


async def test_writes_name_their_placement(place: Place) -> None:
    """Data lands where it is addressed, whatever its handle, in one command or split; identifiers have 16 bits."""
    async with place.open(node(1, "fdp")) as ns:
        data = np.random.default_rng(1).integers(0, 256, ns.max_transfer_bytes + 2 * ns.lba_size, np.uint8)
        nlb = data.size // ns.lba_size
        for pid in range(3):
            await ns.write(pid * nlb, data, placement=pid)
        for pid in range(3):
            assert (await ns.read(pid * nlb, nlb) == data).all()
        with pytest.raises(aionvme.UsageError, match="has 16 bits"):
            await ns.write(0, data, placement=1 << 16)
