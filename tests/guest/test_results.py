"""What a completion has besides its status: 64 bits of result, of every command that has one, and 0 of those that have none."""

from collections.abc import AsyncIterator

import pytest

import aionvme
from aionvme import Command, Namespace
from aionvme.nvme import admin, nvm, zoned
from aionvme.nvme.opcodes import ZoneReceiveAction, ZoneSendAction
from aionvme.queues.attach import QueueChoice
from tests.conftest import node

pytestmark = [pytest.mark.anyio, pytest.mark.feature("64-bit results")]


@pytest.fixture
def anyio_backend() -> str:
    """It is the kernel that hands the results on."""
    return "asyncio"


@pytest.fixture(params=["interrupt", "polled"])
def queue(request: pytest.FixtureRequest) -> QueueChoice:
    """Results take the same way on both."""
    choice: QueueChoice = request.param
    return choice


@pytest.fixture
async def nvm_ns(queue: QueueChoice) -> AsyncIterator[Namespace]:
    """A conventional namespace."""
    async with aionvme.open(node(1), queue=queue) as ns:
        yield ns


@pytest.fixture
async def zns(queue: QueueChoice) -> AsyncIterator[Namespace]:
    """A zoned one, all zones empty."""
    async with aionvme.open(node(2), queue=queue) as ns:
        await ns.reset_zone(select_all=True)
        yield ns


async def test_commands_without_a_result(nvm_ns: Namespace) -> None:
    """They give 0, whatever the command before had."""
    ns, block = nvm_ns, bytes(512)
    for command, buffers in (
        (nvm.write(0, 1), {"data": block}),
        (nvm.read(0, 1), {"into": bytearray(512)}),
        (nvm.compare(0, 1), {"data": block}),
        (nvm.flush(), {}),
        (nvm.write_zeroes(0, 8), {}),
        (nvm.verify(0, 8), {}),
        (nvm.dataset_management(1, deallocate=True), {"data": nvm.dsm_ranges([(0, 8)])}),
        (nvm.copy(100, 1), {"data": nvm.copy_ranges([(0, 8)])}),
    ):
        assert await ns.submit(command, **buffers) == (0, 0), command


async def test_appends(zns: Namespace) -> None:
    """The result is where the data went, in each zone up to the last, and in order; other zone commands have none."""
    block = bytes(zns.lba_size)
    last = zns.nsze - zns.zsze
    for zslba in (0, zns.zsze, last):
        for n in range(3):
            assert await zns.submit(zoned.zone_append(zslba, 1), data=block) == (0, zslba + n)
    for action in (ZoneSendAction.CLOSE, ZoneSendAction.OPEN, ZoneSendAction.FINISH, ZoneSendAction.RESET):
        assert await zns.submit(zoned.zone_management_send(action, last)) == (0, 0), action
    report = zoned.zone_management_receive(ZoneReceiveAction.REPORT_ZONES, 0, 4096)
    assert await zns.submit(report, into=bytearray(4096)) == (0, 0)


async def test_results_beside_an_error(zns: Namespace, nvm_ns: Namespace) -> None:
    """A failed command gives its status; whatever result the controller has beside it does not leak into the next one."""
    block = bytes(zns.lba_size)
    await zns.finish_zone(0)
    assert (await zns.submit(zoned.zone_append(0, 1), data=block)).status.name == "Zone Is Full"
    assert await zns.submit(zoned.zone_append(zns.zsze, 1), data=block) == (0, zns.zsze)
    assert (await nvm_ns.submit(nvm.compare(0, 1), data=b"\1" * 512)).status.name == "Compare Failure"
    assert await nvm_ns.submit(nvm.read(0, 1), into=bytearray(512)) == (0, 0)


async def test_features(nvm_ns: Namespace) -> None:
    """Get Features gives dword 0, as Set Features does of the queues; dword 1 is 0."""
    ns = nvm_ns
    queues = 63 << 16 | 63
    assert await ns.submit_admin(admin.get_features(0x07)) == (0, queues)
    assert await ns.submit_admin(admin.get_features(0x06)) == (0, 1)
    assert await ns.submit_admin(admin.get_features(0x07, sel=3)) == (0, 4)
    assert await ns.submit_admin(admin.get_features(0x0E), into=bytearray(8)) == (0, 0)
    assert await ns.submit_admin(admin.set_features(0x06, 1)) == (0, 0)
    assert await ns.submit_admin(admin.identify(1), into=bytearray(4096)) == (0, 0)
    assert await ns.submit_admin(admin.get_log_page(2, 512), into=bytearray(512)) == (0, 0)
    # Abort: bit 0 says that the command was not aborted, as there is none of that identifier in flight.
    assert await ns.submit_admin(Command(0x08, cdw10=0xFFF0_0000)) == (0, 1)


async def test_results_of_arrays(zns: Namespace) -> None:
    """Arrays of commands have them by position."""
    zslba = [n % 5 * zns.zsze for n in range(40)]
    done = await zns.append_many(zslba, 1, bytes(40 * zns.lba_size))
    assert not done["status"].any()
    assert sorted(done["result"].tolist()) == sorted(zone * zns.zsze + n for zone in range(5) for n in range(8))
    assert [result // zns.zsze * zns.zsze for result in done["result"].tolist()] == zslba


async def test_results_beyond_32_bits(queue: QueueChoice) -> None:
    """Where an append went takes 33 bits in the last zones of a namespace of more than 2 TiB: of single ones and of arrays."""
    async with aionvme.open(node(21), queue=queue) as ns:
        await ns.reset_zone(select_all=True)
        first, last = 1 << 32, ns.nsze - ns.zsze
        assert first % ns.zsze == 0 < last - first
        for zslba in (first, last):
            for n in range(3):
                data = bytes([n + 1]) * 512
                assert await ns.submit(zoned.zone_append(zslba, 1), data=data) == (0, zslba + n)
                assert (await ns.read(zslba + n, 1)).tobytes() == data
        done = await ns.append_many([first, last, first], 1, bytes(3 * 512))
        assert not done["status"].any()
        assert sorted(done["result"].tolist()) == [first + 3, first + 4, last + 3]
        assert await ns.zones[last // ns.zsze].append(bytes(512)) == last + 4
        (zone,) = await ns.report_zones(last, nr_zones=1)
        assert (zone["zslba"], zone["wp"]) == (last, last + 5)
