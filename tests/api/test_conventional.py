"""Conventional namespaces: what is written is what is read, and what fails says how the specification names it."""

import ctypes
from typing import Any

import anyio
import numpy as np
import pytest

import aionvme
from aionvme.nvme import nvm as commands
from tests.conftest import Place

pytestmark = pytest.mark.anyio

RANDOM = np.random.default_rng(20_23)


def blocks(ns: aionvme.Namespace, nlb: int) -> np.ndarray:
    """Random data of ``nlb`` logical blocks."""
    return RANDOM.integers(0, 256, nlb * ns.lba_size, np.uint8)


@pytest.mark.feature("read, write")
async def test_what_is_written_is_read(nvm: aionvme.Namespace) -> None:
    """A read gives the bytes of the write before it, as a flat uint8 array."""
    data = blocks(nvm, 8)
    await nvm.write(16, data)
    got = await nvm.read(16, 8)
    assert got.dtype == np.uint8
    assert got.shape == (8 * nvm.lba_size,)
    assert np.array_equal(got, data)


@pytest.mark.feature("read, write")
@pytest.mark.parametrize("kind", ["bytes", "bytearray", "memoryview", "2d array", "float array", "registered slice"])
async def test_any_contiguous_buffer_is_written(nvm: aionvme.Namespace, kind: str) -> None:
    """Data may come in whatever holds it: the bytes arrive as they lie in memory."""
    raw = blocks(nvm, 2)
    registered = nvm.alloc(4 * nvm.lba_size)[nvm.lba_size : 3 * nvm.lba_size]
    registered[:] = raw
    kinds: dict[str, Any] = {
        "bytes": raw.tobytes(),
        "bytearray": bytearray(raw),
        "memoryview": memoryview(raw.tobytes()),
        "2d array": raw.reshape(2, -1),
        "float array": raw.view(np.float64),
        "registered slice": registered,
    }
    await nvm.write(64, kinds[kind])
    assert np.array_equal(await nvm.read(64, 2), raw)


@pytest.mark.parametrize("kind", ["ctypes structure", "memoryview of a structured array"])
async def test_a_structure_whose_fields_have_names(nvm: aionvme.Namespace, kind: str) -> None:
    """They may be any, with an O in them, too, which in a format stands for a Python object: the short way takes them as well."""
    rest = nvm.lba_size - 128
    raw = blocks(nvm, 1)
    if kind == "ctypes structure":
        fields = [("Offset", ctypes.c_uint64 * 8), ("O", ctypes.c_float * 16), ("rest", ctypes.c_uint8 * rest)]
        structure: Any = type("Structure", (ctypes.Structure,), {"_fields_": fields})
        data: Any = structure.from_buffer_copy(raw)
    else:
        data = raw.view([("Offset", "<u8", 8), ("O", "<f4", 16), ("rest", "u1", rest)]).data
    await nvm.write(64, data)
    assert np.array_equal(await nvm.read(64, 1), raw)
    flight = nvm._launch(0x01, 65, None, data, False)
    assert flight is not None
    assert await flight == 0
    assert np.array_equal(await nvm.read(65, 1), raw)


async def test_an_array_of_a_class_of_its_own(nvm: aionvme.Namespace) -> None:
    """It is data as any other, for the short way, too."""

    class Own(np.ndarray[Any, Any]):
        """An array."""

    raw = blocks(nvm, 1)
    flight = nvm._launch(0x01, 64, None, raw.view(Own), False)
    assert flight is not None
    assert await flight == 0
    assert np.array_equal(await nvm.read(64, 1), raw)


@pytest.mark.parametrize("kind", ["bytearray", "array", "registered", "registered slice", "odd address"])
async def test_read_fills_the_buffer_it_was_given(nvm: aionvme.Namespace, kind: str) -> None:
    """``into`` receives the data in place, and nothing beside it is touched."""
    data = blocks(nvm, 2)
    await nvm.write(128, data)
    room = nvm.alloc(4 * nvm.lba_size) if kind.startswith("registered") else np.zeros(4 * nvm.lba_size, np.uint8)
    room[:] = 0xEE
    start = {"registered slice": nvm.lba_size, "odd address": 12}.get(kind, 0)
    target = room[start : start + 2 * nvm.lba_size]
    into = bytearray(2 * nvm.lba_size) if kind == "bytearray" else target
    got = await nvm.read(128, 2, into=into)
    assert bytes(into) == data.tobytes()
    assert np.shares_memory(got, np.frombuffer(into, np.uint8))
    if kind != "bytearray":
        assert (room[:start] == 0xEE).all()
        assert (room[start + 2 * nvm.lba_size :] == 0xEE).all()


@pytest.mark.feature("transfers of any length")
@pytest.mark.parametrize("registered", [False, True])
async def test_transfers_longer_than_one_command_are_split(nvm: aionvme.Namespace, registered: bool) -> None:
    """Three and a half times MDTS goes through one call, both ways, block for block."""
    nlb = 7 * (nvm.max_transfer_bytes // nvm.lba_size) // 2
    data = blocks(nvm, nlb)
    into = nvm.alloc(data.size) if registered else np.empty(data.size, np.uint8)
    source = nvm.alloc(data.size) if registered else data
    source[:] = data
    await nvm.write(1000, source)
    await nvm.read(1000, nlb, into=into)
    assert np.array_equal(into, data)
    edge = nvm.max_transfer_bytes // nvm.lba_size
    across = await nvm.read(1000 + edge - 1, 2)
    assert np.array_equal(across, data[(edge - 1) * nvm.lba_size : (edge + 1) * nvm.lba_size])


async def test_the_last_block_can_be_read(nvm: aionvme.Namespace) -> None:
    """The highest address is nsze - 1."""
    assert (await nvm.read(nvm.nsze - 1, 1)).size == nvm.lba_size


@pytest.mark.feature("flush, forced unit access")
async def test_flush_and_forced_unit_access(nvm: aionvme.Namespace) -> None:
    """Flush completes, and so do writes and reads that bypass caches."""
    data = blocks(nvm, 1)
    await nvm.write(7, data, fua=True)
    await nvm.flush()
    assert np.array_equal(await nvm.read(7, 1, fua=True), data)


async def test_many_tasks_at_once(nvm: aionvme.Namespace) -> None:
    """Hundreds of tasks, many more than the queue is deep, each find their own data."""
    data = blocks(nvm, 300)
    size = nvm.lba_size

    async def there_and_back(i: int) -> None:
        await nvm.write(2000 + i, data[i * size : (i + 1) * size])
        got = await nvm.read(2000 + i, 1)
        assert np.array_equal(got, data[i * size : (i + 1) * size])

    async with anyio.create_task_group() as tasks:
        for i in range(300):
            tasks.start_soon(there_and_back, i)
    assert np.array_equal(await nvm.read(2000, 300), data)


async def test_commands_with_and_without_data_at_once(nvm: aionvme.Namespace) -> None:
    """Commands that move data and commands that move none go through one queue together, and each does its own."""
    data = blocks(nvm, 100)
    size = nvm.lba_size

    async def work(i: int) -> None:
        await nvm.write(3000 + i, data[i * size : (i + 1) * size])
        await nvm.write_zeroes(3200 + i, 1)
        await nvm.flush()
        await nvm.verify(3000 + i, 1)
        assert np.array_equal(await nvm.read(3000 + i, 1), data[i * size : (i + 1) * size])

    async with anyio.create_task_group() as tasks:
        for i in range(100):
            tasks.start_soon(work, i)
    assert not (await nvm.read(3200, 100)).any()


@pytest.mark.feature("compare")
async def test_compare(nvm: aionvme.Namespace) -> None:
    """Equal data compares, different data raises Compare Failure: SCT 2, SC 85h. Whether DNR is set is the controller's."""
    data = blocks(nvm, 2)
    await nvm.write(32, data)
    await nvm.compare(32, data)
    data[-1] ^= 1
    with pytest.raises(aionvme.CompareFailureError, match="Compare Failure") as caught:
        await nvm.compare(32, data)
    assert (caught.value.sct, caught.value.sc) == (2, 0x85)


@pytest.mark.feature("write zeroes")
async def test_write_zeroes(nvm: aionvme.Namespace) -> None:
    """Blocks set to zero read as zero, their neighbours as before."""
    await nvm.write(40, np.full(4 * nvm.lba_size, 0xAB, np.uint8))
    await nvm.write_zeroes(41, 2)
    got = (await nvm.read(40, 4)).reshape(4, -1)
    assert [set(block.tolist()) for block in got] == [{0xAB}, {0}, {0}, {0xAB}]


@pytest.mark.feature("dataset management, verify")
async def test_deallocate_and_verify(nvm: aionvme.Namespace) -> None:
    """Deallocated blocks can be read and verified; the blocks between the ranges keep their data."""
    await nvm.write(80, np.full(16 * nvm.lba_size, 0xCD, np.uint8))
    await nvm.deallocate([(80, 4), (92, 4)])
    assert ((await nvm.read(84, 8)) == 0xCD).all()
    await nvm.verify(80, 16)


@pytest.mark.feature("dataset management, verify")
async def test_one_range_may_be_the_whole_namespace(nvm: aionvme.Namespace) -> None:
    """A range of dataset management has a 32-bit length: more blocks than a read or write could name."""
    await nvm.deallocate([(0, nvm.nsze)])


async def test_numpy_integers_are_integers(nvm: aionvme.Namespace) -> None:
    """Addresses and numbers of blocks may come from arrays, and flags from comparisons of them."""
    data = blocks(nvm, 2)
    await nvm.write(np.uint16(300), data, fua=bool(np.True_))
    assert np.array_equal(await nvm.read(np.int64(300), np.uint8(2)), data)
    await nvm.deallocate(np.array([[300, 1]]).tolist())
    dwords: dict[str, Any] = {"opcode": np.uint8(2), "cdw10": np.uint32(300), "cdw12": np.uint16(1)}
    done = await nvm.submit(aionvme.Command(**dwords), into=data.copy())
    assert done.status == 0


@pytest.mark.feature("copy")
async def test_copy(nvm: aionvme.Namespace) -> None:
    """Two ranges are copied one behind the other."""
    data = blocks(nvm, 4)
    await nvm.write(200, data)
    await nvm.copy(300, [(202, 2), (200, 1)])
    size = nvm.lba_size
    assert np.array_equal(await nvm.read(300, 3), np.concatenate([data[2 * size :], data[:size]]))


@pytest.mark.feature("any opcode")
async def test_any_opcode_can_be_submitted(nvm: aionvme.Namespace) -> None:
    """A hand-made command goes the same way: a read by its dwords gives the data and completion (0, 0)."""
    data = blocks(nvm, 2)
    await nvm.write(0x1234, data)
    into = np.zeros(2 * nvm.lba_size, np.uint8)
    done = await nvm.submit(aionvme.Command(opcode=0x02, cdw10=0x1234, cdw12=1), into=into)
    assert done == (0, 0)
    assert np.array_equal(into, data)


@pytest.mark.parametrize(
    ("command", "status"),
    [
        pytest.param(aionvme.Command(opcode=0x90), 0x4001, id="unknown opcode"),
        pytest.param(commands.verify(2**40, 1), 0x4080, id="beyond the end"),
        pytest.param(commands.write_zeroes(2**63, 8), 0x4080, id="far beyond the end"),
    ],
)
async def test_an_error_status_is_returned_by_submit(
    nvm: aionvme.Namespace, command: aionvme.Command, status: int
) -> None:
    """submit() gives the status as the controller set it and does not raise."""
    assert (await nvm.submit(command)).status == status


async def test_reading_beyond_the_end_raises_lba_out_of_range(nvm: aionvme.Namespace) -> None:
    """A command that the library could not check fails with its own exception: LBA Out of Range, 0x4080."""
    done = await nvm.submit(commands.read(nvm.nsze, 1), into=bytearray(nvm.lba_size))
    assert done.status == 0x4080
    assert done.status.name == "LBA Out of Range"
    assert done.status.dnr


async def test_identify_through_the_controller(nvm: aionvme.Namespace) -> None:
    """An admin command reaches the controller: Identify Namespace holds nsze in its first 8 bytes (Base 2.0)."""
    page = bytearray(4096)
    done = await nvm.submit_admin(aionvme.Command(opcode=0x06, nsid=nvm.nsid, cdw10=0), into=page)
    assert done == (0, 0)
    assert int.from_bytes(page[:8], "little") == nvm.nsze


async def test_geometry(nvm: aionvme.Namespace, place: Place) -> None:
    """Size, limits and kind are those of the device: 64 MiB, MDTS of 512 KiB or a little less where segments limit it."""
    assert nvm.nsze * nvm.lba_size == 64 << 20
    assert 496 << 10 <= nvm.max_transfer_bytes <= 512 << 10
    assert not nvm.zoned
    assert nvm.queue.kind == place.queue
    assert nvm.controller.mdts == 7
