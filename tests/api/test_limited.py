"""A limited namespace does all that the other does, with no more than its depth in flight."""

from collections.abc import AsyncIterator
from typing import Any

import anyio
import numpy as np
import pytest

import aionvme
from tests.conftest import Place

pytestmark = [pytest.mark.anyio, pytest.mark.once, pytest.mark.feature("limits")]

DEPTH = 2
RANDOM = np.random.default_rng(20_26)


@pytest.fixture(params=["nvm_512", "nvm_4096", "zns"])
async def tenant(
    request: pytest.FixtureRequest, place: Place, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[aionvme.Namespace]:
    """A limited namespace of each kind, zones empty, whose test passes if what was in flight never exceeded the limit."""
    async with place.open(getattr(place, request.param)) as ns:
        if ns.zoned:
            await ns.reset_zone(select_all=True)
        seen: list[int] = []
        tick = ns._io.queue.tick

        def sample(budget: int) -> Any:
            seen.append(ns._io.in_flight)
            return tick(budget)

        monkeypatch.setattr(ns._io.queue, "tick", sample)
        yield ns.limited(aionvme.Limiter(depth=DEPTH, commands_per_s=1e6, bytes_per_s=1e10))
        assert max(seen) == DEPTH


async def test_what_is_written_is_read(tenant: aionvme.Namespace) -> None:
    """A write and a read longer than one command, in a registered buffer, go through in parts; so do what moves no data."""
    source = tenant.alloc(3 * tenant.max_transfer_bytes)
    source[:] = RANDOM.integers(0, 256, source.size, np.uint8)
    await tenant.write(0, source)
    await tenant.flush()
    nlb = source.size // tenant.lba_size
    assert np.array_equal(await tenant.read(0, nlb), source)
    (tail,) = await many(tenant, [nlb - 1])
    assert np.array_equal(tail, source[-tenant.lba_size :])


async def test_many_tasks(tenant: aionvme.Namespace) -> None:
    """Many more tasks than may be in flight each find their own data; on a zoned namespace the device says where."""
    size = tenant.lba_size
    data = RANDOM.integers(0, 256, 60 * size, np.uint8)
    where: dict[int, int] = {}

    async def put(i: int) -> None:
        block = data[i * size : (i + 1) * size]
        if tenant.zoned:
            where[i] = await tenant.zone_append(i % 3 * tenant.zsze, block)
        else:
            await tenant.write(i, block)
            where[i] = i

    async with anyio.create_task_group() as tasks:
        for i in range(60):
            tasks.start_soon(put, i)
    got = await many(tenant, [where[i] for i in range(60)])
    assert np.array_equal(np.concatenate(got), data)
    if tenant.zoned:
        zones = await tenant.report_zones(nr_zones=3)
        assert (zones["wp"] - zones["zslba"]).tolist() == [20] * 3


async def test_statuses_and_results(tenant: aionvme.Namespace) -> None:
    """Any command can be submitted, an error status comes back as it was, and the places with it."""
    size = tenant.lba_size
    await tenant.write(0, bytes(size))
    for _ in range(2 * DEPTH):
        assert (await tenant.submit(aionvme.Command(opcode=0x90))).status == 0x4001
        with pytest.raises(aionvme.CompareFailureError):
            await tenant.compare(0, b"\1" * size)
    assert not np.concatenate(await many(tenant, [0] * 8)).any()
    done = await tenant.submit_admin(aionvme.Command(opcode=0x06, cdw10=1), into=bytearray(4096))
    assert done.status == 0


async def many(ns: aionvme.Namespace, lbas: list[int]) -> list[np.ndarray]:
    """One block from each address, all asked for at once."""
    got: dict[int, np.ndarray] = {}

    async def read(i: int, lba: int) -> None:
        got[i] = await ns.read(lba, 1)

    async with anyio.create_task_group() as tasks:
        for i, lba in enumerate(lbas):
            tasks.start_soon(read, i, lba)
    return [got[i] for i in range(len(lbas))]
