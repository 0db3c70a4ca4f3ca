"""What exceeds a limit of the device's or the kernel's still works, or is refused before it is submitted.

How deep a queue is at most is tested with the paths, and how data in pieces is split with vectored commands.
"""

import asyncio
import ctypes
import mmap
import os
import resource
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import aionvme
from aionvme.devices import find, kernel_version
from aionvme.privileges import CAP_IPC_LOCK
from aionvme.queues import ring
from tests.cli.confined import LIBC, called
from tests.conftest import Place, node
from tests.guest.traps import in_child

pytestmark = [pytest.mark.anyio, pytest.mark.feature("transfers of any length")]

MIB = 1 << 20
PAGE = 4096
CAPABILITY_VERSION_3 = 0x2008_0522
Array = NDArray[np.uint8]


@pytest.fixture
def anyio_backend() -> str:
    """What the kernel and the device take has nothing to do with the loop."""
    return "asyncio"


def registered(ns: aionvme.Namespace, len_bytes: int) -> Array:
    """In as many registrations as it takes."""
    return ns.alloc(len_bytes)


def scattered(_: aionvme.Namespace, len_bytes: int) -> Array:
    """Small pages that came to be in random order, so that hardly two of them are neighbours; it begins inside of one."""
    memory = mmap.mmap(-1, len_bytes + PAGE)
    memory.madvise(mmap.MADV_NOHUGEPAGE)
    pages = np.frombuffer(memory, np.uint8)
    for page in np.random.default_rng(1).permutation(len(memory) // PAGE):
        pages[page * PAGE] = 1
    return pages[PAGE - 512 : PAGE - 512 + len_bytes]


def dword(_: aionvme.Namespace, len_bytes: int) -> Array:
    """As far into a page as the kernel lets a controller reach without a copy."""
    return np.frombuffer(mmap.mmap(-1, len_bytes + PAGE), np.uint8)[PAGE - 4 : PAGE - 4 + len_bytes]


def odd(_: aionvme.Namespace, len_bytes: int) -> Array:
    """At an address for which the kernel copies."""
    return np.frombuffer(mmap.mmap(-1, len_bytes + PAGE), np.uint8)[PAGE - 1 : PAGE - 1 + len_bytes]


def stored(target: str, len_bytes: int) -> Array:
    """What the namespace has from its start, read by the block layer past the page cache."""
    memory = mmap.mmap(-1, len_bytes)
    fd = os.open(f"/dev/{find(Path(target)).block_name}", os.O_RDONLY | os.O_DIRECT)
    try:
        for start in range(0, len_bytes, MIB):
            assert os.preadv(fd, [memoryview(memory)[start : start + MIB]], start) == MIB
    finally:
        os.close(fd)
    return np.frombuffer(memory, np.uint8)


MDTS_BYTES = 512 << 10


def longest(place: Place) -> int:
    """The most that one command may move, by the kernel's limits in sysfs.

    Memory that begins inside of a page is in one page more than its length fills, and each page may be a segment. A raw queue has
    no segments.
    """
    queue = Path("/sys/class/block", find(Path(place.nvm_512)).block_name, "queue")
    segments, kib = (int((queue / name).read_text()) for name in ("max_segments", "max_hw_sectors_kb"))
    most = min(MDTS_BYTES, kib << 10)
    return most if place.queue == "raw" else min(most, (segments - 1) * PAGE)


@pytest.mark.parametrize(
    ("memory", "len_bytes"), [(registered, 64 * MIB), (scattered, 16 * MIB), (dword, 4 * MIB), (odd, 4 * MIB)]
)
async def test_one_call_for_a_whole_namespace(
    place: Place, tmp_path: Path, memory: Callable[[aionvme.Namespace, int], Array], len_bytes: int
) -> None:
    """It is as many commands as MDTS and segments ask for, in flight together up to the depth, and every byte is right."""
    file, depth = tmp_path / "run.npy", 6
    async with place.open(place.nvm_512, depth=depth, trace=file) as ns:
        source, target = memory(ns, len_bytes), memory(ns, len_bytes)
        source[:] = np.random.default_rng(2).integers(0, 256, len_bytes, np.uint8)
        most, nlb = ns.max_transfer_bytes, len_bytes // 512
        assert most == longest(place)
        if kernel_version() == (6, 1) and place.queue != "raw":
            assert most == 126 * PAGE  # the driver takes 127 segments
        await ns.write(0, source)
        assert np.array_equal(stored(place.nvm_512, len_bytes), source)
        await ns.read(0, nlb, into=target)
        assert np.array_equal(target, source)
    trace = aionvme.load_trace(file)
    n = -(-len_bytes // most)
    assert trace["opcode"].tolist() == [1] * n + [2] * n
    assert trace["len_bytes"].tolist() == 2 * ([most] * (n - 1) + [len_bytes - (n - 1) * most])
    assert trace["len_bytes"].max() <= most
    assert trace["slba"][:n].tolist() == list(range(0, nlb, most // 512))
    assert trace["in_flight"].max() == depth
    assert not trace["status"].any()
    assert not trace["errno"].any()


async def test_an_append_of_zasl(place: Place) -> None:
    """One of ZASL, which is smaller than MDTS, goes; one of a block more is refused, and nothing is submitted."""
    async with place.open(place.zns) as ns:
        await ns.reset_zone(0)
        most = ns.max_append_bytes
        assert most == 128 << 10 < ns.max_transfer_bytes
        data = np.random.default_rng(3).integers(0, 256, most, np.uint8)
        assert await ns.zone_append(0, data) == 0
        assert np.array_equal(await ns.read(0, most // ns.lba_size), data)
        submitted = ns._io.submitted
        with pytest.raises(aionvme.UsageError, match="ZASL"):
            await ns.zone_append(0, bytes(most + ns.lba_size))
        with pytest.raises(aionvme.UsageError, match="one command takes 1 to 32 blocks"):
            await ns.append_many([0], most // ns.lba_size + 1, bytes(most + ns.lba_size))
        assert ns._io.submitted == submitted


async def test_across_registrations(place: Place) -> None:
    """A buffer of more pages than the device has segments is several registrations; what crosses from one to the next works."""
    async with place.open(place.nvm_4096) as ns:
        buffer = ns.alloc(4 * MIB)
        starts = [start - ns._pool._starts[0] for start in ns._pool._starts]
        assert place.queue == "raw" or len(starts) > 4
        buffer[:] = np.arange(MIB, dtype=np.uint32).view(np.uint8)
        expected = buffer.copy()
        await ns.write(0, buffer)
        for middle in (*starts[1:], 2 * MIB):
            piece = buffer[middle - 2 * PAGE : middle + PAGE]
            piece[:] = 0
            await ns.read(middle // PAGE - 2, 3, into=piece)
        assert np.array_equal(buffer, expected)


async def test_more_buffers_than_can_be_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that are too many are ordinary ones, which the kernel takes as well; when others go, they make room."""
    room = 24  # instead of a thousand, which take long
    monkeypatch.setattr(ring, "REGISTERED_BUFFERS", room)
    async with aionvme.open(node(3)) as ns:
        buffers = [ns.alloc(PAGE) for _ in range(room + 6)]
        assert len(ns._pool._starts) == room
        for i in (0, 1, room - 2, room - 1, room, room + 1, room + 5):
            buffers[i][:] = i + 1
            await ns.write(i, buffers[i])
            buffers[i][:] = 0
            await ns.read(i, 1, into=buffers[i])
            assert (buffers[i] == i + 1).all()
        del buffers[:10]
        buffers.append(ns.alloc(PAGE))
        assert len(ns._pool._starts) == room - 10 + 1
        await ns.read(room + 5, 1, into=buffers[-1])
        assert (buffers[-1] == room + 6).all()


async def registered_of_a_mebibyte(place: Place) -> str:
    """How many pieces of a buffer of that size are registered, and of how many; after it was written and read."""
    async with place.open(place.nvm_4096) as ns:
        buffer = ns.alloc(MIB)
        registered = len(ns._pool._starts)
        buffer[:] = np.arange(MIB // 4, dtype=np.uint32).view(np.uint8)
        expected = buffer.copy()
        await ns.write(0, buffer)
        buffer[:] = 0
        await ns.read(0, MIB // PAGE, into=buffer)
        assert np.array_equal(buffer, expected)
        return f"{registered} {-(-buffer.size // ns._pool._chunk_bytes)}"


def without(capability: int) -> None:
    """Give up a capability."""
    header = struct.pack("=Ii", CAPABILITY_VERSION_3, 0)
    sets = bytearray(6 * 4)  # effective, permitted, inheritable; the lower 32 capabilities, then the others
    data = (ctypes.c_char * len(sets)).from_buffer(sets)
    called(LIBC.capget, header, data)
    words = [word & ~(1 << capability) for word in struct.unpack("=3I", sets[:12])]
    struct.pack_into("=3I", sets, 0, *words)
    called(LIBC.capset, header, data)


@pytest.mark.parametrize("limit_kib", [64, 640])
def test_little_memory_may_be_locked(place: Place, limit_kib: int) -> None:
    """Without CAP_IPC_LOCK and with a small RLIMIT_MEMLOCK a buffer is registered in part or not at all, and works."""

    def work() -> str:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (limit_kib << 10, limit_kib << 10))
        without(CAP_IPC_LOCK)
        return asyncio.run(registered_of_a_mebibyte(place))

    registered, pieces = map(int, in_child(work).split())
    if limit_kib == 64 or pieces == 1:  # through a raw queue it is registered as a whole
        assert registered == 0
    else:
        assert 0 < registered < pieces
