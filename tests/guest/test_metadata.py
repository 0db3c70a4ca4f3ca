"""Metadata in a buffer of its own, which never carries protection information here."""

import gc
import weakref
from collections.abc import AsyncIterator
from typing import Any

import anyio
import numpy as np
import pytest

import aionvme
from aionvme.nvme import nvm
from tests.conftest import ASYNCIO, TRIO, Place, node
from tests.guest.traps import sysfs_without_integrity

pytestmark = [pytest.mark.anyio, pytest.mark.feature("metadata, separate")]

MS = 8


@pytest.fixture(params=[ASYNCIO, TRIO], ids=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    """What is tested is the kernel's and the controller's, and who owns memory, which two loops tell as well as three."""
    return request.param


@pytest.fixture
async def ns(place: Place) -> AsyncIterator[aionvme.Namespace]:
    """A namespace of 512-byte blocks with 8 bytes of metadata each."""
    async with place.open(node(1, "nvme2")) as opened:
        yield opened


def noise(len_bytes: int, seed: int) -> np.ndarray:
    """Bytes that are nothing else's."""
    return np.random.default_rng(seed).integers(0, 256, len_bytes, np.uint8)


async def test_metadata_comes_back(ns: aionvme.Namespace) -> None:
    """Written and read with its blocks, by ordinary and by registered buffers, and left out on request."""
    data, metadata = noise(5 * 512, 1), noise(5 * MS, 2)
    await ns.write(3, data, metadata=metadata)
    seen = np.zeros(5 * MS, np.uint8)
    assert (await ns.read(3, 5, metadata=seen) == data).all()
    assert (seen == metadata).all()
    into, beside = ns.alloc(5 * 512), ns.alloc(4096)
    await ns.read(3, 5, into=into, metadata=beside[: 5 * MS])
    assert (into == data).all()
    assert (beside[: 5 * MS] == metadata).all()
    assert not beside[5 * MS :].any()
    assert (await ns.read(4, 2) == data[512 : 3 * 512]).all()
    await ns.compare(3, data, metadata=metadata)
    with pytest.raises(aionvme.CompareFailureError):
        await ns.compare(3, data, metadata=noise(5 * MS, 3))


async def test_metadata_is_split_with_its_blocks(ns: aionvme.Namespace) -> None:
    """A transfer above MDTS: each part has the metadata of its own blocks.

    (A part's is a multiple of 512 bytes, or less than that: of anything else QEMU 7.2 moves the remainder alone.)
    """
    blocks = 2 * ns.max_transfer_bytes // 512 + 60
    data, metadata = noise(blocks * 512, 4), noise(blocks * MS, 5)
    await ns.write(100, data, metadata=metadata)
    seen = np.zeros(blocks * MS, np.uint8)
    assert (await ns.read(100, blocks, metadata=seen) == data).all()
    assert (seen == metadata).all()
    await ns.read(100 + blocks - 64, 64, metadata=seen[: 64 * MS])
    assert (seen[: 64 * MS] == metadata[-64 * MS :]).all()


async def test_any_command_takes_metadata(ns: aionvme.Namespace) -> None:
    """submit() with a buffer of each, of exactly the lengths that the command moves."""
    data, metadata = noise(2 * 512, 6), noise(2 * MS, 7)
    assert (await ns.submit(nvm.write(9, 2), data=data, metadata=metadata)).status == 0
    into, seen = bytearray(2 * 512), bytearray(2 * MS)
    assert (await ns.submit(nvm.read(9, 2), into=into, metadata=seen)).status == 0
    assert (bytes(into), bytes(seen)) == (data.tobytes(), metadata.tobytes())
    for wrong in (None, bytearray(MS), bytearray(3 * MS)):
        with pytest.raises(aionvme.UsageError, match="moves 16 bytes of metadata"):
            await ns.submit(nvm.read(9, 2), into=into, metadata=wrong)
    with pytest.raises(aionvme.UsageError, match="moves 0 bytes of metadata"):
        await ns.submit(nvm.flush(), metadata=seen)
    with pytest.raises(aionvme.UsageError, match="read-only"):
        await ns.submit(nvm.read(9, 2), into=into, metadata=bytes(2 * MS))


@pytest.mark.parametrize("nlb", [1, 3, [2, 1, 5] * 40], ids=["one block", "three", "several"])
async def test_arrays_take_metadata(ns: aionvme.Namespace, nlb: int | list[int]) -> None:
    """Each command has that of its own blocks, wherever it goes: what arrays write single reads find, and the other way round."""
    counts = np.broadcast_to(nlb, 120)
    starts = np.random.default_rng(11).permutation(120) * 5 + 400
    total = int(counts.sum())
    data, metadata = noise(total * 512, 12), noise(total * MS, 13)
    assert not (await ns.write_many(starts, nlb, data, metadata=metadata))["status"].any()
    first = 0
    for slba, count in zip(starts.tolist(), counts.tolist(), strict=True):
        seen = np.zeros(count * MS, np.uint8)
        assert (await ns.read(slba, count, metadata=seen) == data[first * 512 : (first + count) * 512]).all()
        assert (seen == metadata[first * MS : (first + count) * MS]).all()
        first += count
    into, beside = ns.alloc(total * 512), np.zeros(total * MS, np.uint8)
    assert not (await ns.read_many(starts, nlb, into, metadata=beside))["status"].any()
    assert (into == data).all()
    assert (beside == metadata).all()
    into[:] = 0
    assert not (await ns.read_many(starts, nlb, into))[
        "status"
    ].any()  # without: it goes to memory that nobody looks at
    assert (into == data).all()


async def test_zones_take_metadata(place: Place) -> None:
    """Zone objects pass it on. An append that waits for an open zone keeps hold of both of its buffers."""
    async with place.open(node(9, "nvme2")) as zns:
        await zns.reset_zone(select_all=True)
        zone, other = zns.zones[1], zns.zones[2]
        data, metadata = noise(4 * 4096, 9), noise(4 * MS, 10)
        lba = await zone.append(data[:8192], metadata=metadata[: 2 * MS])
        assert await zone.write(data[8192:], metadata=metadata[2 * MS :]) == lba + 2
        seen = np.zeros(4 * MS, np.uint8)
        assert (await zone.read(lba, 4, metadata=seen) == data).all()
        assert (seen == metadata).all()
        for call in (zone.append(data), zone.write(data)):
            with pytest.raises(aionvme.UsageError, match="pass metadata=, 32 bytes"):
                await call
        assert zone.written == 4
        data, metadata = noise(6 * 4096, 14), noise(6 * MS, 15)
        done = await zns.append_many([zone.zslba] * 3, 2, data, metadata=metadata)
        for i, lba in enumerate(done["result"].tolist()):
            seen = np.zeros(2 * MS, np.uint8)
            assert (await zns.read(lba, 2, metadata=seen) == data[i * 8192 : (i + 1) * 8192]).all()
            assert (seen == metadata[i * 2 * MS : (i + 1) * 2 * MS]).all()

        block, beside = bytearray(data[:4096]), bytearray(metadata[:MS])
        async with anyio.create_task_group() as tasks, zone.opened():
            tasks.start_soon(lambda: other.append(block, metadata=beside))
            with anyio.fail_after(10):
                while not zns.zones.waiting():
                    await anyio.sleep(0.001)
            for buffer in (block, beside):
                with pytest.raises(BufferError):
                    buffer.append(0)
        seen = np.zeros(MS, np.uint8)
        assert (await other.read(other.zslba, 1, metadata=seen) == data[:4096]).all()
        assert (seen == metadata[:MS]).all()


@pytest.mark.once
async def test_no_block_moves_without_its_metadata(ns: aionvme.Namespace) -> None:
    """What would go without is refused, and says what to pass."""
    for call in (ns.write(0, bytes(1024)), ns.compare(0, bytes(1024))):
        with pytest.raises(aionvme.UsageError, match=r"8 bytes of metadata for each block.*pass metadata=, 16 bytes"):
            await call
    with pytest.raises(aionvme.UsageError, match="metadata= holds 8 bytes"):
        await ns.write(0, bytes(1024), metadata=bytes(8))
    with pytest.raises(aionvme.UsageError, match="without protection information"):
        await ns.read(0, 1, protection=aionvme.Protection())
    with pytest.raises(aionvme.UsageError, match="pass metadata=, 16 bytes"):
        await ns.write_many([0, 1], 1, bytes(1024))
    with pytest.raises(aionvme.UsageError, match="metadata= holds 8 bytes"):
        await ns.read_many([0, 1], 1, bytearray(1024), metadata=bytearray(8))
    with pytest.raises(aionvme.UsageError, match="read-only"):
        await ns.read_many([0, 1], 1, bytearray(1024), metadata=bytes(16))
    with pytest.raises(aionvme.UsageError, match="there is none here"):
        await ns.submit_many([nvm.read(0, 1)], bytearray(512))


async def test_blocks_without_metadata_take_none(place: Place) -> None:
    """On other formats metadata= is refused: it does not exist, or is in the data."""
    async with place.open(place.nvm_512) as plain:
        with pytest.raises(aionvme.UsageError, match="blocks have none"):
            await plain.read(0, 1, metadata=bytearray(8))
    async with place.open(node(7)) as extended:
        with pytest.raises(aionvme.UsageError, match="8 bytes behind each block"):
            await extended.write(0, bytes(520), metadata=bytes(8))
        data = noise(2 * 520, 8)
        await extended.write(0, data)
        assert extended.block_bytes == 520
        assert (await extended.read(0, 2) == data).all()


@pytest.mark.parametrize("profile", [None, "none"], ids=["no-folder", "no-profile"])
async def test_a_kernel_that_passes_no_metadata(place: Place, profile: str | None) -> None:
    """Where sysfs shows no integrity, every command with a buffer of metadata is refused for that reason, and not submitted.

    What the controller makes and strips by itself needs none, and works.
    """
    both = (node(1, "nvme2"), node(2, "nvme2"))
    with sysfs_without_integrity(both[0], profile), sysfs_without_integrity(both[1], profile):
        async with place.open(both[0]) as ns, place.open(both[1]) as protected:
            into, beside = bytearray(1024), bytearray(2 * MS)
            before = ns._io.submitted, protected._io.submitted
            for call in (
                ns.read(0, 2, metadata=beside),
                ns.read(0, 2),  # which needs a place for it as well
                ns.write(0, into, metadata=beside),
                ns.compare(0, into, metadata=beside),
                ns.submit(nvm.read(0, 2), into=into, metadata=beside),
                ns.read_many([0, 1], 1, into, metadata=beside),
                ns.write_many([0, 1], 1, into, metadata=beside),
                protected.read(0, 2, protection=aionvme.Protection()),
                protected.write(0, into, protection=aionvme.Protection()),
            ):
                with pytest.raises(aionvme.UsageError, match=r"Linux shows no integrity for .*BLK_DEV_INTEGRITY"):
                    await call
            assert (ns._io.submitted, protected._io.submitted) == before
            await protected.write(0, noise(1024, 16))
            assert (await protected.read(0, 2) == noise(1024, 16)).all()
    if profile is not None:
        async with place.open(both[0]) as ns:
            await ns.write(0, into, metadata=beside)


async def test_cancelled_commands_keep_their_metadata(place: Place) -> None:
    """The device takes 300 ms: a task that is cancelled before leaves both buffers to the command until it has completed."""
    async with place.open(node(6)) as slow:
        buffers: list[weakref.ref[Any]] = []

        async def read() -> None:
            into, beside = np.zeros(512, np.uint8), np.zeros(8, np.uint8)
            buffers.extend(map(weakref.ref, (into, beside)))
            await slow.read(0, 1, into=into, metadata=beside)

        start = anyio.current_time()
        with anyio.move_on_after(0.05):
            await read()
        assert anyio.current_time() - start > 0.25
        gc.collect()
        assert [buffer() for buffer in buffers] == [None, None]
        reading = slow.read(0, 1)  # its scratch memory belongs to nobody else
        with anyio.move_on_after(0.05):
            await reading
        assert anyio.current_time() - start > 0.5


async def test_commands_left_by_force_keep_their_metadata(place: Place) -> None:
    """A coroutine that is closed with its command in flight drops its own references, and the memory stays."""
    async with place.open(node(6)) as slow:
        into, beside = np.zeros(512, np.uint8), np.zeros(8, np.uint8)
        seen = weakref.ref(beside)
        reading = slow.read(0, 1, into=into, metadata=beside)
        reading.send(None)
        reading.close()
        del beside, into, reading
        await anyio.sleep(0.1)
        gc.collect()
        assert seen() is not None
    gc.collect()
    assert seen() is None
