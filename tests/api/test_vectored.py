"""Data in several pieces: what is written from them, and read into them, is where it belongs, and nothing beside them changes."""

import gc
import os
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import numpy as np
import pytest

import aionvme
from aionvme import UsageError
from aionvme.nvme import nvm as builders
from aionvme.nvme.admin import identify
from aionvme.nvme.command import decode
from aionvme.nvme.identify import Cns
from tests.conftest import Place

pytestmark = [pytest.mark.anyio, pytest.mark.feature("vectored")]

PAGE = 4096
UNTOUCHED = 0xA5
Array = np.ndarray[Any, np.dtype[np.uint8]]


@pytest.fixture
def anyio_backend() -> Any:
    """Where a command's data is makes no difference to the loop, but for those tests that name two."""
    return "asyncio"


EACH_LIBRARY = pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])


class Arena:
    """Memory with pieces in it, and bytes between them that nobody may touch."""

    def __init__(self, memory: Array, places: list[tuple[int, int]]) -> None:
        self.memory = memory
        self.memory[:] = UNTOUCHED
        self.pieces = [memory[start : start + n] for start, n in places]
        self._between = np.ones(memory.size, bool)
        for start, n in places:
            self._between[start : start + n] = False

    def fill(self, data: Array) -> None:
        """Put data into the pieces, one after the other."""
        start = 0
        for piece in self.pieces:
            piece[:] = data[start : start + piece.size]
            start += piece.size

    def data(self) -> Array:
        """What is in the pieces, after a look between them."""
        assert (self.memory[self._between] == UNTOUCHED).all()
        return np.concatenate(self.pieces)


def aligned(len_bytes: int) -> Array:
    """Ordinary memory that begins on a page."""
    memory = np.empty(len_bytes + PAGE, np.uint8)
    start = -memory.__array_interface__["data"][0] % PAGE
    return memory[start : start + len_bytes]


def pages(total: int, memory: Callable[[int], Array]) -> Arena:
    """In reverse order; all but the first begin on a page, all but the last end on one. No controller needs a copy of these."""
    n = total // PAGE + 1
    places = [((2 * n - 2 * i - 1) * PAGE, PAGE) for i in range(n)]
    places[0] = (places[0][0] + PAGE - 52, 52)
    places[-1] = (places[-1][0], total - 52 - (n - 2) * PAGE)
    return Arena(memory(2 * n * PAGE), [place for place in places if place[1]])


def ragged(total: int, memory: Callable[[int], Array], step: int = 1, longest: int = 3000) -> Arena:
    """Of random lengths at random addresses, in units of ``step``."""
    random = np.random.default_rng(total)
    places, start, left = [], 0, total
    while left:
        n = min(left, int(random.integers(1, longest // step)) * step)
        start += int(random.integers(1, 200)) * step
        places.append((start, n))
        start += n
        left -= n
    random.shuffle(places)
    return Arena(memory(start + PAGE), places)


def dwords(total: int, memory: Callable[[int], Array]) -> Arena:
    """Aligned to 4 bytes: a controller that takes SGLs can reach them where they are."""
    return ragged(total, memory, step=4)


def crumbs(total: int, memory: Callable[[int], Array]) -> Arena:
    """So, and so short that they are more than any device has segments."""
    return ragged(total, memory, step=4, longest=180)


def one(total: int, memory: Callable[[int], Array]) -> Arena:
    """A single one, with nothing in two others."""
    return Arena(memory(total + 100), [(0, 0), (40, total), (total + 60, 0)])


def adjacent(total: int, memory: Callable[[int], Array]) -> Arena:
    """One after the other, without a gap."""
    return Arena(memory(total), [(start, min(1000, total - start)) for start in range(0, total, 1000)])


@pytest.mark.parametrize(
    ("shape", "registered"),
    [
        (pages, False),
        (pages, True),
        (ragged, False),
        (ragged, True),
        (dwords, False),
        (crumbs, False),
        (one, True),
        (adjacent, True),
    ],
)
async def test_round_trips(nvm: aionvme.Namespace, shape: Callable[..., Arena], registered: bool) -> None:
    """What is written from pieces is read as a whole, and what is written as a whole is read into pieces."""
    data = np.random.default_rng(1).integers(0, 256, 20 * PAGE, np.uint8)
    nlb = data.size // nvm.lba_size
    arena = shape(data.size, nvm.alloc if registered else aligned)
    arena.fill(data)
    await nvm.write(5, tuple(arena.pieces))
    assert np.array_equal(await nvm.read(5, nlb), data)
    await nvm.compare(5, arena.pieces)
    await nvm.write(5, data[::-1].copy())
    arena.memory[:] = UNTOUCHED
    got = await nvm.read(5, nlb, into=arena.pieces)
    assert np.array_equal(arena.data(), data[::-1])
    assert np.array_equal(np.concatenate(got), data[::-1])
    assert [len(piece) for piece in got] == [piece.size for piece in arena.pieces]
    with pytest.raises(aionvme.CompareFailureError):
        await nvm.compare(5, [data[: PAGE // 2], data[PAGE // 2 :]])


async def test_pieces_of_many_kinds(nvm: aionvme.Namespace) -> None:
    """Bytes, memoryviews, numpy arrays of other types and registered memory go together."""
    size = nvm.lba_size
    registered = nvm.alloc(PAGE)
    registered[:] = 3
    await nvm.write(0, [b"\1" * (size - 9), memoryview(b"\2" * 9), registered, np.full((size // 8, 2), 4, np.float32)])
    expected = np.concatenate(
        [
            np.full(size - 9, 1, np.uint8), np.full(9, 2, np.uint8), registered,
            np.full(size // 4, 4, np.float32).view(np.uint8),
        ]
    )  # fmt: skip
    nlb = expected.size // size
    assert np.array_equal(await nvm.read(0, nlb), expected)
    into: list[Any] = [
        bytearray(11),
        np.empty(size - 11, np.int8),
        registered[:100],
        bytearray(expected.size - size - 100),
    ]
    got = await nvm.read(0, nlb, into=into)
    assert b"".join(bytes(piece) for piece in got) == bytes(expected)
    assert b"".join(bytes(piece) for piece in into) == bytes(expected)


async def test_rows_of_a_matrix(nvm: aionvme.Namespace) -> None:
    """Blocks are read into part of each row of a matrix; the other columns stay."""
    size = nvm.lba_size
    await nvm.write(0, np.repeat(np.arange(16, dtype=np.uint8), size))
    matrix = np.full((16, 3 * size), UNTOUCHED, np.uint8)
    await nvm.read(0, 16, into=list(matrix[:, size : 2 * size]))
    assert (matrix[:, size : 2 * size] == np.arange(16)[:, None]).all()
    assert (matrix[:, :size] == UNTOUCHED).all()
    assert (matrix[:, 2 * size :] == UNTOUCHED).all()


@contextmanager
def watched(ns: aionvme.Namespace, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[int, int, int, int]]]:
    """The slba, nlb, bytes and number of pieces of each command that the queue gets."""
    commands: list[tuple[int, int, int, int]] = []
    stage = ns._io.queue.stage

    def note(user_data: int, entry: bytes, buf_index: int) -> None:
        command, pointers = decode(entry)
        commands.append((command.slba, (command.cdw12 & 0xFFFF) + 1, pointers.data_len, pointers.iovecs))
        stage(user_data, entry, buf_index)

    with monkeypatch.context() as patch:
        patch.setattr(ns._io.queue, "stage", note)
        yield commands


@pytest.mark.parametrize("shape", [pages, ragged])
async def test_longer_than_one_command(
    nvm: aionvme.Namespace, monkeypatch: pytest.MonkeyPatch, shape: Callable[..., Arena]
) -> None:
    """Such data is split, in the middle of pieces, into commands of whole blocks that are as long as they may be."""
    size, most = nvm.lba_size, nvm._geometry.max_vectored_bytes
    assert nvm.max_transfer_bytes - 2 * PAGE <= most <= nvm.max_transfer_bytes
    data = np.random.default_rng(2).integers(0, 256, 2 * nvm.max_transfer_bytes + 3 * PAGE, np.uint8)
    arena = shape(data.size, aligned)
    arena.fill(data)
    lengths = [most, most, data.size - 2 * most]
    blocks = [(9 + sum(lengths[:i]) // size, n // size, n) for i, n in enumerate(lengths)]
    with watched(nvm, monkeypatch) as commands:
        await nvm.write(9, arena.pieces)
    assert [command[:3] for command in commands] == blocks
    assert all(1 < command[3] <= 1024 for command in commands)
    arena.memory[:] = UNTOUCHED
    with watched(nvm, monkeypatch) as commands:
        await nvm.read(9, data.size // size, into=arena.pieces)
    assert [command[:3] for command in commands] == blocks
    assert np.array_equal(arena.data(), data)


async def test_more_pieces_than_one_command_takes(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such data is split as well; but for a block whose own pieces are too many, which is refused."""
    async with place.open(place.nvm_512) as ns:
        data = np.random.default_rng(3).integers(0, 256, 32 * 512, np.uint8)
        arena = Arena(aligned(7 * 4000), [(7 * i, 5) for i in range(3276)] + [(7 * 3900, 4)])
        assert sum(piece.size for piece in arena.pieces) == data.size
        arena.fill(data)
        with watched(ns, monkeypatch) as commands:
            await ns.write(0, arena.pieces)
        # 1023 pieces of 5 bytes are 9 blocks and a bit.
        assert [command[:3] for command in commands] == [(0, 9, 4608), (9, 9, 4608), (18, 9, 4608), (27, 5, 2560)]
        arena.memory[:] = UNTOUCHED
        await ns.read(0, 32, into=arena.pieces)
        assert np.array_equal(arena.data(), data)
        with pytest.raises(UsageError, match="1024 pieces of data: one command takes at most 1023"):
            await ns.compare(0, [data[i : i + 8] for i in range(0, 2 * 8192, 16)])
    async with place.open(place.nvm_4096) as ns:
        submitted = ns._io.submitted
        with pytest.raises(UsageError, match="a logical block in more than 1023 pieces"):
            await ns.write(0, [data[i : i + 3] for i in range(0, 4 * 1365, 4)] + [data[:1]])
        assert ns._io.submitted == submitted


@pytest.mark.parametrize("shape", [pages, ragged, crumbs])
async def test_appends(zns: aionvme.Namespace, shape: Callable[..., Arena]) -> None:
    """An append puts all pieces where it says, in their order; zone objects take pieces as well."""
    size, zsze = zns.lba_size, zns.zsze
    data = np.random.default_rng(4).integers(0, 256, 8 * size, np.uint8)
    arena = shape(data.size, aligned)
    arena.fill(data)
    assert await zns.zone_append(zsze, arena.pieces) == zsze
    assert await zns.zone_append(zsze, arena.pieces) == zsze + 8
    assert np.array_equal(await zns.read(zsze + 8, 8), data)
    zone = zns.zones[2]
    assert await zone.append(arena.pieces) == 2 * zsze
    assert await zone.write(arena.pieces) == 2 * zsze + 8
    assert zone.wp == 2 * zsze + 16
    for slba in (2 * zsze, 2 * zsze + 8):
        arena.memory[:] = UNTOUCHED
        await zone.read(slba, 8, into=arena.pieces)
        assert np.array_equal(arena.data(), data)


async def test_an_append_is_as_long_as_another(zns: aionvme.Namespace) -> None:
    """ZASL is the limit of pieces together, and an append is not split."""
    most = zns.max_append_bytes
    memory = np.arange(2 * most, dtype=np.uint32).view(np.uint8)
    lba = await zns.zone_append(0, [memory[:1000], memory[2000 : most + 1000]])
    assert np.array_equal(
        await zns.read(lba, most // zns.lba_size), np.concatenate([memory[:1000], memory[2000 : most + 1000]])
    )
    with pytest.raises(UsageError, match="ZASL"):
        await zns.zone_append(0, [memory[:1000], memory[2000 : most + 1000 + zns.lba_size]])


async def test_any_command(nvm: aionvme.Namespace) -> None:
    """Commands by hand take pieces, admin commands as well."""
    size = nvm.lba_size
    memory = np.arange(4 * size, dtype=np.uint8)
    assert not (
        await nvm.submit(builders.write(0, 2), data=[memory[: size + 7], memory[size + 9 : 2 * size + 2]])
    ).status
    halves = [bytearray(size - 1), bytearray(size + 1)]
    assert not (await nvm.submit(builders.read(0, 2), into=halves)).status
    assert b"".join(halves) == bytes(memory[: size + 7]) + bytes(memory[size + 9 : 2 * size + 2])
    page = np.zeros(PAGE, np.uint8)
    assert not (await nvm.submit_admin(identify(Cns.CONTROLLER), into=page)).status
    pieces = [bytearray(24), bytearray(40), bytearray(PAGE - 64)]  # up to the serial number; serial and model; the rest
    assert not (await nvm.submit_admin(identify(Cns.CONTROLLER), into=pieces)).status
    assert b"".join(pieces) == bytes(page)


MISUSES: list[tuple[Any, str]] = [
    ([], "a buffer of 0 bytes, and 2 blocks take exactly 1024"),
    ([bytearray(1000)], "a buffer of 1000 bytes, and 2 blocks take exactly 1024"),
    ([bytearray(1000), bytearray(20)], "a buffer of 1020 bytes"),
    ((bytearray(1000), bytearray(25)), "a buffer of 1025 bytes"),
    ([bytearray(1000), b"\0" * 24], "piece 1 of the data: .*read-only"),
    ([bytearray(1000), [bytearray(24)]], "piece 1 of the data: 'list' object holds no memory"),
    ([bytearray(1000), 24], "piece 1 of the data: 'int' object holds no memory"),
    ([bytearray(1000), "text"], "piece 1 of the data: 'str' object holds no memory"),
    ([bytearray(1000), None], "piece 1 of the data: 'NoneType' object holds no memory"),
    ([np.array([None] * 128)], "piece 0 of the data: the array holds Python objects"),
    ([np.zeros(1000, np.uint8), np.zeros(48, np.uint8)[::2]], "piece 1 of the data: .*not contiguous"),
    ({bytes(1024): 1}, "'dict' object holds no memory"),
]


async def test_misuse(place: Place) -> None:
    """What is no data, or not as much as the blocks, is refused before anything is submitted."""
    async with place.open(place.nvm_512) as ns:
        submitted = ns._io.submitted
        for into, message in MISUSES:
            with pytest.raises(UsageError, match=message):
                await ns.read(0, 2, into=into)
        assert ns._io.submitted == submitted


async def test_writes_that_are_no_blocks(nvm: aionvme.Namespace) -> None:
    """Pieces that are nothing together, or not whole blocks, or beyond the end, are refused; so are two ways at once."""
    size = nvm.lba_size
    for pieces in ([], [b""], [bytes(size), b"\0"]):
        with pytest.raises(UsageError, match="not a multiple of the logical block"):
            await nvm.write(0, pieces)
    halves = [bytes(size - 1), bytes(size + 1)]
    with pytest.raises(UsageError, match="the namespace has"):
        await nvm.write(nvm.nsze - 1, halves)
    with pytest.raises(UsageError, match=r"moves .* bytes, and its buffer holds"):
        await nvm.submit(builders.write(0, 1), data=halves)
    with pytest.raises(UsageError, match="sends no data"):
        await nvm.submit(builders.read(0, 2), data=halves)


@EACH_LIBRARY
async def test_pieces_belong_to_the_command(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a cancelled read is in flight its pieces live, whoever else has dropped them; afterwards they are let go."""
    async with place.open(place.nvm_4096) as ns:
        await ns.write(0, np.arange(PAGE, dtype=np.uint32).view(np.uint8))
        pieces = [np.empty(n, np.uint8) for n in (5000, 1000, 4 * PAGE - 6000)]
        refs = [weakref.ref(piece) for piece in pieces]
        tick, kept = ns._io.queue.tick, bytearray()

        def hold_back(budget: int) -> bytes:
            kept.extend(tick(budget))
            return b""

        with monkeypatch.context() as patch:
            patch.setattr(ns._io.queue, "tick", hold_back)
            async with anyio.create_task_group() as tasks:
                scope = anyio.CancelScope()

                async def read(pieces: list[Array]) -> None:
                    with scope:
                        await ns.read(0, 4, into=pieces)

                tasks.start_soon(read, pieces)
                del pieces
                while not kept:
                    await anyio.lowlevel.checkpoint()
                scope.cancel()
                for _ in range(5):
                    await anyio.lowlevel.checkpoint()
                gc.collect()
                assert ns._io.in_flight == 1
                held: list[Any] = [ref() for ref in refs]
                assert np.array_equal(np.concatenate(held), np.arange(PAGE, dtype=np.uint32).view(np.uint8))
                del held
                patch.setattr(ns._io.queue, "tick", lambda budget: bytes(kept))
                ns._io._host.kick()
                while ns._io.in_flight:
                    await anyio.lowlevel.checkpoint()
                patch.setattr(ns._io.queue, "tick", tick)
        await anyio.lowlevel.checkpoint()
        gc.collect()
        assert [ref() for ref in refs] == [None] * 3


@EACH_LIBRARY
async def test_many_at_once(place: Place) -> None:
    """Many tasks with pieces at odd addresses find each their own data, with more of them than there are places."""
    size = PAGE

    async def work(nvm: aionvme.Namespace, i: int) -> None:
        mine = np.full(3 * size + 7, i, np.uint8)
        await nvm.write(2 * i, [mine[1 : size - 2], mine[size : 2 * size + 3]])
        into = np.full(3 * size + 7, UNTOUCHED, np.uint8)
        await nvm.read(2 * i, 2, into=[into[3 : size + 3], into[2 * size : 3 * size]])
        assert (into[3 : size + 3] == i).all()
        assert (into[2 * size : 3 * size] == i).all()
        assert (into[size + 3 : 2 * size] == UNTOUCHED).all()

    async with place.open(place.nvm_4096, depth=16) as ns, anyio.create_task_group() as tasks:
        for i in range(40):
            tasks.start_soon(work, ns, i)


async def test_what_limiters_and_traces_count(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bytes that a command moves are counted, not its pieces, and a trace has one row for it."""
    file = tmp_path / "run.npy"
    charged: list[int] = []
    take = aionvme.Limiter.take_nowait

    def note(self: aionvme.Limiter, len_bytes: int) -> bool:
        charged.append(len_bytes)
        return take(self, len_bytes)

    monkeypatch.setattr(aionvme.Limiter, "take_nowait", note)
    async with place.open(place.nvm_512, trace=file) as ns:
        tenant = ns.limited(aionvme.Limiter(bytes_per_s=1e12))
        pieces = [bytearray(100), bytearray(412), bytearray(1024)]
        await tenant.write(7, pieces)
        await ns.read(7, 3, into=pieces)
        await tenant.read(8, 2, into=[*pieces[:1], bytearray(924)])
    assert charged == [1536, 1024]
    trace = aionvme.load_trace(file)
    rows = trace[["opcode", "slba", "nlb", "len_bytes", "status", "errno"]].tolist()
    assert rows == [(1, 7, 3, 1536, 0, 0), (2, 7, 3, 1536, 0, 0), (2, 8, 2, 1024, 0, 0)]


async def test_a_failed_command(zns: aionvme.Namespace) -> None:
    """A status of the device is raised as for any other command."""
    size = zns.lba_size
    with pytest.raises(aionvme.ZoneInvalidWriteError):
        await zns.write(3, [bytes(size - 5), bytes(5)])
    assert (await zns.report_zones(0, nr_zones=1))["wp"].tolist() == [0]


async def test_forked_children_leave_pieces_alone(place: Place) -> None:
    """A fork between submission and completion changes nothing for the parent, whose pieces are registered memory."""
    async with place.open(place.nvm_4096) as ns:
        await ns.write(0, np.full(2 * PAGE, 7, np.uint8))
        registered = ns.alloc(4 * PAGE)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lambda: ns.read(0, 2, into=[registered[:100], registered[200 : 2 * PAGE + 100]]))
            await anyio.lowlevel.checkpoint()
            pid = os.fork()
            if not pid:
                os._exit(0)
            registered[3 * PAGE :] = 1
        os.waitpid(pid, 0)
        assert (registered[:100] == 7).all()
        assert (registered[200 : 2 * PAGE + 100] == 7).all()
