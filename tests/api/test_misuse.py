"""Bad input is refused with a message that says what was wrong and what would do, and nothing is submitted."""

import ctypes
from collections.abc import Awaitable, Callable
from typing import Any, cast

import anyio
import anyio.lowlevel
import numpy as np
import pytest

import aionvme
from aionvme import Command, Namespace
from tests.conftest import Place

pytestmark = [pytest.mark.anyio, pytest.mark.once]

Call = Callable[[Namespace], Awaitable[Any]]


def block(ns: Namespace, nlb: int = 1) -> np.ndarray:
    """A writable buffer of whole blocks."""
    return np.zeros(nlb * ns.lba_size, np.uint8)


def read_only(ns: Namespace) -> np.ndarray:
    """A buffer of one block that cannot be written to."""
    buffer = block(ns)
    buffer.flags.writeable = False
    return buffer


def masked(values: Any) -> Any:
    """The same as a masked array, in which the first does not count."""
    array = np.ma.array(values)
    array[0] = np.ma.masked
    return array


def with_an_object(ns: Namespace) -> Any:
    """A structure as long as a block."""
    fields = [("data", ctypes.py_object), ("rest", ctypes.c_uint8 * (ns.lba_size - ctypes.sizeof(ctypes.py_object)))]
    return type("Structure", (ctypes.Structure,), {"_fields_": fields})


async def refused(ns: Namespace, call: Call, message: str) -> None:
    """Expect UsageError with ``message``, and no command submitted for it."""
    before = ns._io.submitted + ns._admin.submitted
    with pytest.raises(aionvme.UsageError, match=message):
        await call(ns)
    assert ns._io.submitted + ns._admin.submitted == before
    assert ns._io.in_flight == 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        pytest.param(lambda ns: ns.read(0, 0), "nlb = 0: at least one", id="nlb 0"),
        pytest.param(lambda ns: ns.read(0, -1), "nlb = -1: at least one", id="nlb negative"),
        pytest.param(lambda ns: ns.read(-1, 1), "the namespace has", id="slba negative"),
        pytest.param(lambda ns: ns.read(ns.nsze, 1), "the namespace has", id="beyond the end"),
        pytest.param(lambda ns: ns.read(ns.nsze - 1, 2), "the namespace has", id="across the end"),
        pytest.param(lambda ns: ns.write(ns.nsze - 1, block(ns, 2)), "the namespace has", id="write across the end"),
        pytest.param(lambda ns: ns.read(0, 2, into=block(ns)), "take exactly .* alloc", id="short buffer"),
        pytest.param(lambda ns: ns.read(0, 1, into=block(ns, 2)), "pass a slice", id="long buffer"),
        pytest.param(lambda ns: ns.read(0, 1, into=read_only(ns)), "read-only", id="read-only array"),
        pytest.param(lambda ns: ns.read(0, 1, into=bytes(ns.lba_size)), "read-only", id="bytes to read into"),
        pytest.param(lambda ns: ns.read(0, 1, into=block(ns, 2)[::2]), "not contiguous", id="every other byte"),
        pytest.param(lambda ns: ns.write(0, block(ns, 2)[::2]), "not contiguous", id="write every other byte"),
        pytest.param(lambda ns: ns.write(0, block(ns)[:-1]), "not a multiple of the logical block", id="misaligned"),
        pytest.param(lambda ns: ns.read(0, 1, metadata=block(ns)), "blocks have none", id="metadata of none"),
        pytest.param(
            lambda ns: ns.write(0, block(ns), protection=aionvme.Protection()),
            "without protection information",
            id="no protection information",
        ),
        pytest.param(
            lambda ns: ns.verify(0, 1, protection=aionvme.Protection()),
            "without protection information",
            id="no protection information to verify",
        ),
        pytest.param(
            lambda ns: ns.write(0, block(ns), placement=1), "no Flexible Data Placement", id="no data placement"
        ),
        pytest.param(lambda ns: ns.write(0, b""), "not a multiple of the logical block", id="no data"),
        pytest.param(lambda ns: ns.write(0, "text"), "holds no memory", id="a string"),
        pytest.param(lambda ns: ns.write(0, None), "holds no memory", id="None"),
        pytest.param(lambda ns: ns.write(0, [1, 2]), "holds no memory", id="a list"),
        pytest.param(lambda ns: ns.read(0, 1, into=np.zeros(64, object)), "Python objects", id="an array of objects"),
        pytest.param(lambda ns: ns.write(0, with_an_object(ns)()), "Python objects", id="a structure with an object"),
        pytest.param(lambda ns: ns.write(0, masked(block(ns))), "masked array.*filled", id="masked data"),
        pytest.param(lambda ns: ns.write(0, [masked(block(ns))]), "masked array.*filled", id="masked piece"),
        pytest.param(lambda ns: ns.read(0, 1, into=masked(block(ns))), "masked array.*data", id="masked room"),
        pytest.param(
            lambda ns: ns.submit(Command(0x02), into=masked(block(ns))), "masked array", id="masked room of a command"
        ),
        pytest.param(
            lambda ns: ns.read_many(masked([1, 2]), 1, block(ns, 2)), "slba is a masked.*compressed", id="masked slba"
        ),
        pytest.param(lambda ns: ns.read_many([1, 2], masked([1, 1]), block(ns, 2)), "nlb is a masked", id="masked nlb"),
        pytest.param(lambda ns: ns.write_many([1, 2], 1, masked(block(ns, 2))), "masked array", id="masked array data"),
        pytest.param(
            lambda ns: ns.submit_many(masked(np.zeros(2, aionvme.COMMAND))),
            "commands is a masked",
            id="masked commands",
        ),
        pytest.param(
            lambda ns: ns.write(0, np.zeros(1024, "M8[s]")[::2]), "cannot be handed to a device", id="every other date"
        ),
        pytest.param(lambda ns: ns.deallocate([(0,)]), "takes .slba, nlb.", id="half a range"),
        pytest.param(lambda ns: ns.deallocate([]), "0 ranges", id="no ranges"),
        pytest.param(lambda ns: ns.deallocate([(0, 1)] * 257), "257 ranges", id="too many ranges"),
        pytest.param(lambda ns: ns.copy(0, [(ns.nsze, 1)]), "the namespace has", id="copy from beyond the end"),
        pytest.param(lambda ns: ns.zone_append(0, block(ns)), "conventional namespace", id="append"),
        pytest.param(lambda ns: ns.report_zones(), "conventional namespace", id="report zones"),
        pytest.param(lambda ns: ns.reset_zone(0), "conventional namespace", id="reset zone"),
    ],
)
async def test_calls_on_a_conventional_namespace(nvm: Namespace, call: Call, message: str) -> None:
    """Each call that makes no sense on a conventional namespace is refused."""
    await refused(nvm, call, message)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        pytest.param(
            lambda ns: ns.zone_append(0, np.zeros(ns.max_append_bytes + 4096, np.uint8)),
            "at most 131072",
            id="above ZASL",
        ),
        pytest.param(lambda ns: ns.zone_append(1, block(ns)), "does not start a zone", id="inside a zone"),
        pytest.param(lambda ns: ns.zone_append(ns.nsze, block(ns)), "does not start a zone", id="beyond the end"),
        pytest.param(lambda ns: ns.zone_append(0, b"x"), "not a multiple", id="misaligned"),
        pytest.param(lambda ns: ns.reset_zone(), "select_all", id="no zone named"),
        pytest.param(lambda ns: ns.reset_zone(0, select_all=True), "select_all", id="one zone and all"),
        pytest.param(lambda ns: ns.open_zone(7), "does not start a zone", id="open inside a zone"),
        pytest.param(lambda ns: ns.report_zones(ns.nsze), "counted from 0", id="report beyond the end"),
        pytest.param(lambda ns: ns.report_zones(nr_zones=0), "at least one", id="report no zone"),
        pytest.param(
            lambda ns: ns.report_zones(options=cast(aionvme.ReportingOptions, 256)), "ReportingOptions", id="options"
        ),
        pytest.param(
            lambda ns: ns.submit(
                Command(0x7A, cdw12=cast(int, np.uint8(79)), cdw13=1 << 16), into=np.zeros(64, np.uint8)
            ),
            "moves 320 bytes",
            id="numpy dword, report",
        ),
    ],
)
async def test_calls_on_a_zoned_namespace(zns: Namespace, call: Call, message: str) -> None:
    """Each call that makes no sense on a zoned namespace is refused."""
    await refused(zns, call, message)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        pytest.param(lambda ns: ns.submit(Command(0x02, cdw12=1), into=block(ns)), "moves", id="shorter than nlb"),
        pytest.param(lambda ns: ns.submit(Command(0x02), into=block(ns, 2)), "moves", id="longer than nlb"),
        pytest.param(lambda ns: ns.submit(Command(0x02)), "moves", id="read without a buffer"),
        # Fixed-width integers wrap: 256 blocks, and 256 ranges, would look like none.
        pytest.param(
            lambda ns: ns.submit(Command(0x02, cdw12=cast(int, np.uint8(255)))), "moves", id="numpy dword, read"
        ),
        pytest.param(
            lambda ns: ns.submit(Command(0x09, cdw10=cast(int, np.uint8(255)))), "moves 4096", id="numpy dword, ranges"
        ),
        pytest.param(
            lambda ns: ns.submit_admin(
                Command(0x02, cdw10=2 | 15 << 16, cdw11=cast(int, np.uint16(1))), into=bytearray(64)
            ),
            "moves 262208 bytes",
            id="numpy dword, log page",
        ),
        pytest.param(lambda ns: ns.submit(cast(Command, (2, 1))), "not a Command", id="a tuple"),
        pytest.param(lambda ns: ns.submit(Command(0x02, cdw10=cast(int, None))), "cdw10", id="None in a dword"),
        pytest.param(lambda ns: ns.submit(Command(0x02), data=block(ns)), "sends no data", id="data for a read"),
        pytest.param(lambda ns: ns.submit(Command(0x01), into=block(ns)), "receives no data", id="room for a write"),
        pytest.param(lambda ns: ns.submit(Command(0x00), data=block(ns)), "sends no data", id="data for a flush"),
        pytest.param(
            lambda ns: ns.submit(Command(0x01), data=block(ns), into=block(ns)), "one buffer", id="two buffers"
        ),
        pytest.param(lambda ns: ns.submit(Command(0x100)), "opcode = 256", id="opcode above 8 bits"),
        pytest.param(lambda ns: ns.submit(Command(0x90, cdw15=1 << 32)), "cdw15", id="dword above 32 bits"),
        pytest.param(lambda ns: ns.submit(Command(0x90, cdw2=-1)), "cdw2", id="negative dword"),
        pytest.param(
            lambda ns: ns.submit(Command(0x90, timeout_ms=cast(int, 1.5))), "timeout_ms", id="fractional time"
        ),
        pytest.param(
            lambda ns: ns.submit(Command(0x82), into=np.zeros(8 << 20, np.uint8)), "at most", id="vendor above MDTS"
        ),
        pytest.param(
            lambda ns: ns.submit_admin(Command(0x06), into=bytearray(512)), "moves 4096 bytes", id="short identify"
        ),
        pytest.param(
            lambda ns: ns.submit(Command(0x0E, cdw10=1023), into=bytearray(4)),
            "moves 4096",
            id="short reservation report",
        ),
        pytest.param(lambda ns: ns.submit(Command(0x0D)), "moves 16 bytes", id="registration without keys"),
        pytest.param(
            lambda ns: ns.submit_admin(Command(0x86, cdw12=1023), into=bytearray(4)),
            "moves 4096",
            id="short LBA status",
        ),
        pytest.param(
            lambda ns: ns.submit_admin(Command(0x1A, cdw10=1023)), "moves 4096", id="directive without a buffer"
        ),
        pytest.param(
            lambda ns: ns.submit_admin(Command(0x81, cdw11=512), data=bytes(4)), "moves 512", id="short security send"
        ),
        pytest.param(
            lambda ns: ns.submit_admin(Command(0x11, cdw10=1023), data=bytes(4)), "moves 4096", id="short firmware"
        ),
    ],
)
async def test_hand_made_commands(nvm: Namespace, call: Call, message: str) -> None:
    """A command whose buffer does not fit it, or whose fields do not fit their widths, is refused."""
    await refused(nvm, call, message)


@pytest.mark.parametrize(
    ("len_bytes", "message"), [(0, "at least 1"), (-1, "at least 1"), (2**70, "more than there are")]
)
async def test_a_buffer_that_cannot_be_allocated(nvm: Namespace, len_bytes: int, message: str) -> None:
    """alloc() gives at least one byte, and no more than there is room for."""
    with pytest.raises(aionvme.UsageError, match=message):
        nvm.alloc(len_bytes)


async def test_more_blocks_than_one_command_counts(place: Place) -> None:
    """Commands without data are not split: 65536 blocks are the most that NLB can say."""
    async with place.open(place.nvm_512) as ns:
        await refused(ns, lambda ns: ns.write_zeroes(0, 65537), "65536")


async def test_a_compare_of_more_than_one_command(nvm: Namespace) -> None:
    """A compare is one command, and refused where it would have to be more."""
    await refused(
        nvm,
        lambda ns: ns.compare(0, np.zeros(65537 * ns.lba_size, np.uint8)),
        "one command takes at most 65536|the namespace has",
    )


async def test_after_a_format_nothing_goes(place: Place) -> None:
    """Blocks may have another size then, and a device would write past buffers: the namespace is to be opened again."""
    async with place.open(place.nvm_512) as ns:
        into = block(ns)
        # One that no controller carries out: the LBA format is none.
        await ns.submit_admin(Command(0x80, nsid=ns.nsid, cdw10=0xF))
        await refused(ns, lambda ns: ns.read(0, 1, into=into), "perhaps another one.*Format NVM.*open it again")
        await refused(ns, lambda ns: ns.write(0, into), "open it again")
        await refused(ns, lambda ns: ns.read_many([0], 1, into), "open it again")
        await refused(ns, lambda ns: ns.submit(Command(0x02), into=into), "open it again")
    async with place.open(place.nvm_512) as ns:
        await ns.read(0, 1, into=into)


FORMAT = Command(0x80, cdw10=0xF)  # one that no controller carries out: the LBA format is none


async def test_a_format_waits_for_what_is_in_flight_and_nothing_follows(place: Place) -> None:
    """What was in flight before completes; what waits for a place, what of an array was not submitted, and what comes while the
    Format is under way, is refused."""
    async with place.open(place.nvm_512, depth=4) as ns:
        ends: list[BaseException | None] = []

        async def note(call: Callable[[aionvme.Namespace], Awaitable[Any]]) -> None:
            try:
                await call(ns)
            except aionvme.AionvmeError as error:
                ends.append(error)
            else:
                ends.append(None)

        seen: list[int] = []

        async def format_it() -> None:
            await ns.submit_admin(FORMAT._replace(nsid=ns.nsid))
            seen.extend((ns._io.in_flight, ns._io.submitted))

        async with anyio.create_task_group() as tasks:
            for i in range(20):
                tasks.start_soon(note, lambda ns, i=i: ns.read(i, 1, into=bytearray(512)))
                tasks.start_soon(note, lambda ns, i=i: ns.submit(Command(0x02, cdw10=i), into=bytearray(512)))
            tasks.start_soon(note, lambda ns: ns.read_many(range(4000), 1, ns.alloc(4000 * 512)))
            while ns._io.submitted < 4000:  # of which most are the array's
                await anyio.lowlevel.checkpoint()
            tasks.start_soon(format_it)
            for _ in range(3):
                await anyio.lowlevel.checkpoint()
            tasks.start_soon(note, lambda ns: ns.read(0, 1, into=bytearray(512)))
        assert len(ends) == 42
        refused_ones = [end for end in ends if end is not None]
        assert {type(end) for end in refused_ones} == {aionvme.ClosedError}
        assert 2 <= len(refused_ones) < 42
        assert seen == [0, ns._io.submitted]


async def test_a_format_that_was_not_sent() -> None:
    """A namespace whose Format was cancelled while it waited for what was in flight is what it was."""
    async with aionvme.open("emu:nvm?latency=50ms") as ns, anyio.create_task_group() as tasks:
        tasks.start_soon(ns.read, 0, 1)
        while not ns._io.in_flight:
            await anyio.lowlevel.checkpoint()
        before, scope = ns._admin.submitted, anyio.CancelScope()

        async def format_it() -> None:
            with scope:
                await ns.submit_admin(FORMAT._replace(nsid=ns.nsid))

        tasks.start_soon(format_it)
        for _ in range(3):
            await anyio.lowlevel.checkpoint()
        with pytest.raises(aionvme.ClosedError, match="perhaps another one"):
            await ns.read(0, 1)
        scope.cancel()
        while ns._io.in_flight:
            await anyio.sleep(0.001)
        await anyio.sleep(0.001)
        assert len(await ns.read(0, 1, into=bytearray(512))) == 512
        assert ns._admin.submitted == before
