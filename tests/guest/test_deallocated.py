"""Blocks that were deallocated, as the controller tells them from others: with DULBE it fails to read them.

(Deallocated or Unwritten Logical Block Error Enable, in the Error Recovery feature of the NVM Command Set Specification 1.0.)
"""

from collections.abc import AsyncIterator

import numpy as np
import pytest

import aionvme
from aionvme import Namespace
from aionvme.queues.attach import QueueChoice
from tests.conftest import node

pytestmark = [pytest.mark.anyio]

ERROR_RECOVERY, DULBE = 0x05, 1 << 16
BLOCKS = 256


@pytest.fixture
def anyio_backend() -> str:
    """It is the controller that is asked here."""
    return "asyncio"


@pytest.fixture(params=["interrupt", "polled"])
async def ns(request: pytest.FixtureRequest) -> AsyncIterator[Namespace]:
    """A namespace that gives deallocated blocks back, its first blocks written, and DULBE enabled."""
    queue: QueueChoice = request.param
    async with aionvme.open(node(22), queue=queue) as ns:
        await ns.write(0, np.full(BLOCKS * 512, 7, np.uint8))
        await ns.admin.set_features(ERROR_RECOVERY, DULBE, nsid=ns.nsid)
        try:
            yield ns
        finally:
            await ns.admin.set_features(ERROR_RECOVERY, 0, nsid=ns.nsid)


async def check(ns: Namespace, first: int, nlb: int) -> None:
    """Expect these blocks to be deallocated, and those beside them to be as they were written."""
    assert (await ns.read(0, first) == 7).all()
    assert (await ns.read(first + nlb, BLOCKS - first - nlb) == 7).all()
    for slba in (first, first + nlb - 1):
        with pytest.raises(aionvme.DeallocatedBlockError) as caught:
            await ns.read(slba, 1)
        assert (caught.value.sct, caught.value.sc) == (2, 0x87)
    with pytest.raises(aionvme.DeallocatedBlockError):
        await ns.read(0, BLOCKS)
    await ns.admin.set_features(ERROR_RECOVERY, 0, nsid=ns.nsid)
    assert not (await ns.read(first, nlb)).any()


@pytest.mark.feature("dataset management, verify")
async def test_dataset_management(ns: Namespace) -> None:
    """A range that is deallocated is gone, and nothing else is."""
    assert (await ns.read(0, BLOCKS) == 7).all()
    await ns.deallocate([(64, 64)])
    await check(ns, 64, 64)


@pytest.mark.feature("write zeroes")
async def test_write_zeroes(ns: Namespace) -> None:
    """With ``deallocate`` zeroes are deallocated blocks."""
    await ns.write_zeroes(128, 64, deallocate=True)
    await check(ns, 128, 64)
