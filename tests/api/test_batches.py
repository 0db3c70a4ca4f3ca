"""Arrays of commands: what each of them did, against single commands and against what was written."""

import gc
import weakref
from typing import Any

import anyio
import anyio.lowlevel
import numpy as np
import pytest

import aionvme
from aionvme.nvme import nvm as builders
from aionvme.nvme import zoned as zoned_builders
from aionvme.nvme.opcodes import ZoneSendAction
from tests.conftest import Place

pytestmark = [pytest.mark.anyio, pytest.mark.feature("arrays of commands")]

DICE = np.random.default_rng(20)


def random_bytes(n: int) -> Any:
    """So many bytes of noise."""
    return DICE.integers(0, 256, n, np.uint8)


def all_well(completions: Any) -> bool:
    """Whether no command of an array failed."""
    return not completions["status"].any() and not completions["errno"].any()


@pytest.mark.parametrize("registered", [False, True], ids=["any memory", "registered"])
async def test_what_is_written_by_arrays_is_read_back(nvm: aionvme.Namespace, registered: bool) -> None:
    """Blocks at random places, one command each: single reads find them, and an array of reads does in another order."""
    n, size = 700, nvm.lba_size
    slba = DICE.permutation(2000)[:n]
    data = nvm.alloc(n * size) if registered else np.empty(n * size, np.uint8)
    data[:] = random_bytes(n * size)
    written = await nvm.write_many(slba, 1, data)
    assert len(written) == n
    assert all_well(written)
    for i in (0, 1, n - 1):
        assert np.array_equal(await nvm.read(int(slba[i]), 1), data[i * size : (i + 1) * size])
    order = DICE.permutation(n)
    into = nvm.alloc(n * size) if registered else np.zeros(n * size, np.uint8)
    read = await nvm.read_many(slba[order], 1, into)
    assert all_well(read)
    assert (read["latency_ns"] > 0).all()
    assert np.array_equal(into.reshape(n, size), data.reshape(n, size)[order])


async def test_a_buffer_is_free_when_its_array_is_done(nvm: aionvme.Namespace) -> None:
    """At once, not when the task gives way the next time."""
    data = bytearray(4 * nvm.lba_size)
    await nvm.write_many(range(4), 1, data)
    data.append(0)
    data.pop()
    await nvm.read_many(range(4), 1, data)
    data.append(0)


async def test_lengths_may_differ(nvm: aionvme.Namespace) -> None:
    """Each command has a length of its own; the buffer has their data one after the other."""
    nlb = DICE.integers(1, 9, 100)
    slba = np.cumsum(nlb) - nlb
    data = random_bytes(int(nlb.sum()) * nvm.lba_size)
    assert all_well(await nvm.write_many(slba, nlb, data))
    assert np.array_equal(await nvm.read(0, int(nlb.sum())), data)
    back = np.zeros_like(data)
    assert all_well(await nvm.read_many(slba.astype(np.uint16), nlb.astype(np.int8), back))
    assert np.array_equal(back, data)


async def test_appends_say_where_each_is(zns: aionvme.Namespace) -> None:
    """Appends to two zones at once: results are different places of the right zone, and the data is there."""
    n = 60
    zslba = (np.arange(n) % 2) * zns.zsze
    nlb = DICE.integers(1, 4, n)
    data = random_bytes(int(nlb.sum()) * zns.lba_size)
    done = await zns.append_many(zslba, nlb, data)
    assert all_well(done)
    assert np.array_equal(done["result"] // zns.zsze, zslba // zns.zsze)
    taken = np.concatenate([np.arange(lba, lba + count) for lba, count in zip(done["result"], nlb, strict=True)])
    assert len(np.unique(taken)) == nlb.sum()
    back = np.zeros_like(data)
    assert all_well(await zns.read_many(done["result"], nlb, back))
    assert np.array_equal(back, data)
    with pytest.raises(aionvme.UsageError, match="does not start a zone"):
        await zns.append_many([1], 1, bytes(zns.lba_size))


async def test_errors_belong_to_their_commands(zns: aionvme.Namespace) -> None:
    """Commands that fail among others that do not: each status is the one that the command has when it is alone."""
    block = bytes(zns.lba_size)
    commands = [
        zoned_builders.zone_append(0, 1),
        aionvme.Command(0x90),
        builders.read(0, 1),
        builders.write(zns.zsze + 5, 1),  # not at the write pointer
        builders.flush(),
        zoned_builders.zone_management_send(ZoneSendAction.OPEN, 3 * zns.zsze),
        builders.read(zns.nsze, 1),
        zoned_builders.zone_append(7, 1),
    ]
    done = await zns.submit_many(commands, bytearray(block * 5))
    assert not done["errno"].any()
    singly = []
    await zns.reset_zone(select_all=True)
    for command in commands:
        moves = command.opcode in (0x01, 0x02, 0x7D)
        way = {"into" if command.opcode == 0x02 else "data": bytearray(block)} if moves else {}
        singly.append((await zns.submit(command, **way)).status)
    assert done["status"].tolist() == singly
    assert [bool(status) for status in singly] == [False, True, False, True, False, False, True, True]


async def test_an_array_of_commands_names_its_places(nvm: aionvme.Namespace) -> None:
    """In a structured array each command says where in the buffer its data is: forwards, backwards, or not at all."""
    size, n = nvm.lba_size, 64
    rows = np.zeros(2 * n, aionvme.COMMAND)
    rows["opcode"][:n] = 1
    rows["cdw10"][:n] = np.arange(n)
    rows["data_len"][:n] = size
    rows["offset"][:n] = np.arange(n)[::-1] * size
    rows["opcode"][n:] = 8  # write zeroes, elsewhere
    rows["cdw10"][n:] = 1000 + np.arange(n)
    data = random_bytes(n * size)
    assert all_well(await nvm.submit_many(rows, data))
    assert np.array_equal((await nvm.read(0, n)).reshape(n, size), data.reshape(n, size)[::-1])
    assert not (await nvm.read(1000, n)).any()


async def test_longer_than_the_queue_with_others_beside_it(place: Place) -> None:
    """Thousands of commands through a queue of eight; meanwhile other tasks read, write, and the loop goes round."""
    async with place.open(place.nvm_4096, depth=8) as ns:
        turns = 0
        n = 1000

        async def look() -> None:
            nonlocal turns
            while True:
                await ns.read(9, 1)
                turns += 1

        slba = 100 + np.arange(n) % 64
        data = random_bytes(64 * 4096)
        await ns.write(100, data)
        into = np.zeros(n * 4096, np.uint8)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(look)
            done = await ns.read_many(slba, 1, into)
            tasks.cancel_scope.cancel()
        assert turns > 10
        assert all_well(done)
        assert np.array_equal(into.reshape(n, 4096), data.reshape(64, 4096)[np.arange(n) % 64])


async def test_many_arrays_at_once(place: Place) -> None:
    """A hundred tasks with an array each, more than the ring has slots for: each gets its own completions."""
    async with place.open(place.nvm_512, depth=16) as ns:
        data = random_bytes(100 * 20 * 512)
        await ns.write(0, data)
        done: list[int] = []

        async def work(i: int) -> None:
            into = np.zeros(20 * 512, np.uint8)
            assert all_well(await ns.read_many(np.arange(i * 20, i * 20 + 20), 1, into))
            assert np.array_equal(into, data[i * 20 * 512 : (i + 1) * 20 * 512])
            done.append(i)

        async with anyio.create_task_group() as tasks:
            for i in range(100):
                tasks.start_soon(work, i)
        assert sorted(done) == list(range(100))
        assert ns._io.in_flight == 0


async def test_cancelling_stops_the_rest(place: Place) -> None:
    """A cancelled task leaves when what was submitted has completed: nothing is in flight, nothing is kept, the queue works."""
    async with place.open(place.nvm_4096, depth=4) as ns:
        into: Any = np.zeros(3000 * 4096, np.uint8)
        kept = weakref.ref(into)
        with anyio.move_on_after(0.02):
            await ns.read_many(np.zeros(3000, int), 1, into)
        assert ns._io.in_flight == 0
        del into
        await anyio.lowlevel.checkpoint()
        gc.collect()
        assert kept() is None
        assert all_well(await ns.read_many([0, 1], 1, np.zeros(8192, np.uint8)))


async def test_a_cancelled_array_is_never_taken_for_a_done_one(place: Place) -> None:
    """The task does not go on as if all had been written: on every loop the cancellation is raised out of the call."""
    async with place.open(place.nvm_4096, depth=4) as ns:
        went_on = False
        with anyio.move_on_after(0.02) as scope:
            await ns.write_many(np.zeros(20000, int), 1, np.zeros(20000 * 4096, np.uint8))
            went_on = True
        assert scope.cancelled_caught
        assert not went_on


async def test_a_coroutine_closed_by_force_submits_no_more(place: Place) -> None:
    """Nobody awaits the array any more: what was submitted completes, the rest is not begun, and closing does not hang."""
    async with place.open(place.nvm_4096, depth=4) as ns:
        waiting = ns.read_many(np.zeros(20000, int), 1, np.zeros(20000 * 4096, np.uint8))
        waiting.send(None)
        waiting.close()
        with anyio.fail_after(20):
            while ns._io.in_flight:
                await anyio.sleep(0.001)
        await ns.read(0, 1)


async def test_single_commands_do_not_starve_an_array(place: Place) -> None:
    """As many tasks as the queue is deep, with a command each all the time: an array gets through beside them."""
    async with place.open(place.nvm_4096, depth=4) as ns, anyio.create_task_group() as tasks:

        async def busy() -> None:
            while True:
                await ns.read(0, 1)

        for _ in range(8):
            tasks.start_soon(busy)
        await anyio.sleep(0.01)
        with anyio.fail_after(20):
            assert all_well(await ns.read_many(np.arange(50), 1, np.zeros(50 * 4096, np.uint8)))
        tasks.cancel_scope.cancel()


async def test_closing_ends_what_is_left(place: Place) -> None:
    """A namespace that closes under an array: what was submitted completes, and the task is told that it closed."""
    ended: list[type[BaseException] | None] = []

    async def work(ns: aionvme.Namespace) -> None:
        try:
            await ns.read_many(np.zeros(3000, int), 1, np.zeros(3000 * 4096, np.uint8))
        except aionvme.ClosedError as error:
            ended.append(type(error))
        else:
            ended.append(None)

    async with anyio.create_task_group() as tasks, place.open(place.nvm_4096, depth=4) as ns:
        tasks.start_soon(work, ns)
        while not ns._io.in_flight and not ended:
            await anyio.lowlevel.checkpoint()
    assert ended == [aionvme.ClosedError]


async def test_on_another_thread(nvm: aionvme.Namespace) -> None:
    """Refused before anything is looked up, and the registered buffers stay what they are."""
    buffer = nvm.alloc(nvm.lba_size)
    registered = len(nvm._pool._starts)
    other = nvm.alloc(nvm.lba_size)
    del other

    def call() -> None:
        for method in (nvm.read_many, nvm.write_many):
            with pytest.raises(aionvme.WrongLoopError):
                method([0], 1, buffer).send(None)
        with pytest.raises(aionvme.WrongLoopError):
            nvm.submit_many([]).send(None)

    await anyio.to_thread.run_sync(call)
    assert all_well(await nvm.read_many([0], 1, buffer))
    assert len(nvm._pool._starts) == registered


async def test_nothing_is_nothing(nvm: aionvme.Namespace) -> None:
    """Empty arrays give empty completions."""
    assert len(await nvm.read_many([], 1, bytearray())) == 0
    assert len(await nvm.write_many(np.zeros(0, int), np.zeros(0, int), b"")) == 0
    assert len(await nvm.submit_many([])) == 0
    assert len(await nvm.submit_many(np.zeros(0, aionvme.COMMAND))) == 0


@pytest.mark.parametrize(
    ("slba", "nlb", "blocks", "message"),
    [
        ([0.5], 1, 1, "array of float64"),
        ([-1], 1, 1, "has -1"),
        (["0"], 1, 1, "it takes integers"),
        ([[1], [1, 2]], 1, 1, "no array of integers"),
        ([[0, 1]], 1, 2, "shape"),
        ([0, 1], [1], 2, "shape"),
        ([0], 0, 0, "nlb from 0"),
        ([0], 1 << 20, 1, "one command takes 1 to"),
        ([0, 1], 1, 1, "take exactly"),
        ([0, 1], 1, 3, "take exactly"),
        ([1 << 40], 1, 1, "beyond the end"),
        ([(1 << 64) - 1], 1, 1, "beyond the end"),
    ],
)
async def test_bad_arrays(nvm: aionvme.Namespace, slba: Any, nlb: Any, blocks: int, message: str) -> None:
    """What cannot be is refused before anything is submitted, saying what."""
    before = nvm._io.submitted
    for method in (nvm.read_many, nvm.write_many):
        with pytest.raises(aionvme.UsageError, match=message):
            await method(slba, nlb, bytearray(blocks * nvm.lba_size))
    assert nvm._io.submitted == before
    with pytest.raises(aionvme.UsageError, match="read-only"):
        await nvm.read_many([0], 1, bytes(nvm.lba_size))
    with pytest.raises(aionvme.UsageError, match="no zones"):
        await nvm.append_many([0], 1, bytes(nvm.lba_size))


async def test_bad_commands(nvm: aionvme.Namespace) -> None:
    """A command whose length is not what its data_len says, whose data is beyond the buffer, or that cannot be known."""
    size = nvm.lba_size
    row = np.zeros(1, aionvme.COMMAND)
    row["opcode"], row["data_len"] = 2, size
    for change, message in (
        ({"data_len": size - 4}, "and its data_len is"),
        ({"cdw12": 1}, "moves"),
        ({"offset": 1}, "beyond the buffer"),
        ({"offset": (1 << 64) - 4}, "beyond the buffer"),
        ({"opcode": 0x08}, "moves 0 bytes"),
    ):
        wrong = row.copy()
        for name, value in change.items():
            wrong[name] = value
        with pytest.raises(aionvme.UsageError, match=message):
            await nvm.submit_many(wrong, bytearray(size))
    with pytest.raises(aionvme.UsageError, match="beyond the buffer"):
        await nvm.submit_many(row)
    masked = np.ma.MaskedArray(row.copy(), mask=True)
    masked.data["cdw12"] = 1
    with pytest.raises(aionvme.UsageError, match="masked"):
        await nvm.submit_many(masked, bytearray(size))
    with pytest.raises(aionvme.UsageError, match="more than any command"):
        await nvm.submit_many([aionvme.Command(0x7A, cdw12=0xFFFF_FFFF)], bytearray(size))
    with pytest.raises(aionvme.UsageError, match="is not known"):
        await nvm.submit_many([aionvme.Command(0xC2)], bytearray(size))
    with pytest.raises(aionvme.UsageError, match=r"dtype aionvme\.COMMAND"):
        await nvm.submit_many(np.zeros(3), bytearray(size))  # type: ignore[arg-type]
    with pytest.raises(aionvme.UsageError, match="not a Command"):
        await nvm.submit_many(["read"])  # type: ignore[list-item]
    assert all_well(await nvm.submit_many(row, bytearray(size)))


async def test_limited_arrays(place: Place) -> None:
    """On a limited namespace an array goes command by command through the limiter, and does the same."""
    async with place.open(place.nvm_512) as ns:
        tenant = ns.limited(aionvme.Limiter(depth=3))
        data = random_bytes(100 * 512)
        assert all_well(await tenant.write_many(np.arange(100), 1, data))
        done = await tenant.submit_many(
            [builders.read(i, 1) for i in range(100)] + [aionvme.Command(0x90)], into := bytearray(51200)
        )
        assert np.array_equal(into, data)
        assert not done["status"][:100].any()
        assert done["status"][100]
