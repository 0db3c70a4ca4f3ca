"""Zoned namespaces: appends, write pointers, zone states and limits."""

import anyio
import numpy as np
import pytest

import aionvme
from aionvme import ZoneState
from aionvme.nvme import zoned
from aionvme.nvme.nvm import write
from aionvme.nvme.opcodes import ZoneSendAction
from tests.conftest import Place

pytestmark = pytest.mark.anyio

BLOCK = 4096
ZONE = 1024  # blocks: 4 MiB
CAPACITY = 768  # blocks: 3 MiB


def blocks(nlb: int, value: int = 0x5A) -> np.ndarray:
    """``nlb`` blocks of one value."""
    return np.full(nlb * BLOCK, value, np.uint8)


async def states(ns: aionvme.Namespace) -> list[int]:
    """The state of every zone."""
    return (await ns.report_zones())["zs"].tolist()  # type: ignore[no-any-return]


async def test_geometry(zns: aionvme.Namespace) -> None:
    """Zone size, number, capacity and limits are those of the device."""
    assert (zns.zoned, zns.lba_size, zns.zsze, zns.nr_zones, zns.mor, zns.mar) == (True, BLOCK, ZONE, 32, 6, 8)
    assert zns.max_append_bytes == 128 << 10
    zones = await zns.report_zones()
    assert zones["zslba"].tolist() == list(range(0, 32 * ZONE, ZONE))
    assert set(zones["zcap"].tolist()) == {CAPACITY}
    assert set(zones["zt"].tolist()) == {2}
    assert set(zones["zs"].tolist()) == {ZoneState.EMPTY}
    assert zones["wp"].tolist() == zones["zslba"].tolist()


@pytest.mark.feature("zone append, its 64-bit result")
async def test_append_gives_the_lba_of_each(zns: aionvme.Namespace) -> None:
    """Three appends to the zone at 0x4000 are put at 0x4000, 0x4001, 0x4002: the 64-bit result of the completion."""
    got = [await zns.zone_append(0x4000, blocks(1, i)) for i in range(3)]
    assert got == [0x4000, 0x4001, 0x4002]
    assert [set((await zns.read(lba, 1)).tolist()) for lba in got] == [{0}, {1}, {2}]


@pytest.mark.feature("zone append, its 64-bit result")
async def test_concurrent_appends_each_get_their_own_place(zns: aionvme.Namespace) -> None:
    """Appends of many tasks to few zones fill each without a gap or an overlap, and each finds its data where it was told."""
    where: dict[int, int] = {}

    async def append(i: int) -> None:
        data = np.frombuffer(i.to_bytes(4, "little") * (BLOCK // 4), np.uint8)
        where[i] = await zns.zone_append(i % 3 * ZONE, data)

    async with anyio.create_task_group() as tasks:
        for i in range(150):
            tasks.start_soon(append, i)
    assert sorted(where.values()) == [zone * ZONE + i for zone in range(3) for i in range(50)]
    for i, lba in where.items():
        assert int.from_bytes((await zns.read(lba, 1))[:4].tobytes(), "little") == i
    assert (await zns.report_zones(nr_zones=3))["wp"].tolist() == [50, ZONE + 50, 2 * ZONE + 50]


async def test_write_at_the_write_pointer(zns: aionvme.Namespace) -> None:
    """Writes that follow the write pointer succeed, also one that is longer than a command takes."""
    await zns.write(0, blocks(1, 1))
    long = np.repeat(np.arange(200, dtype=np.uint8), BLOCK)
    await zns.write(1, long)
    assert np.array_equal(await zns.read(1, 200), long)
    assert (await zns.report_zones(nr_zones=1))["wp"].tolist() == [201]


async def test_write_elsewhere_raises_zone_invalid_write(zns: aionvme.Namespace) -> None:
    """A write that is not at the write pointer: Zone Invalid Write, 0x41bc."""
    with pytest.raises(aionvme.ZoneInvalidWriteError) as caught:
        await zns.write(5, blocks(1))
    assert caught.value.status == 0x41BC
    assert "LBA 0x5" in str(caught.value)


async def test_append_to_a_full_zone(zns: aionvme.Namespace) -> None:
    """A zone that was finished takes no more: Zone Is Full, 0x41b9."""
    await zns.zone_append(ZONE, blocks(4))
    await zns.finish_zone(ZONE)
    with pytest.raises(aionvme.ZoneFullError) as caught:
        await zns.zone_append(ZONE, blocks(1))
    assert caught.value.status == 0x41B9


async def test_filling_a_zone_makes_it_full(zns: aionvme.Namespace) -> None:
    """The block at the capacity's edge ends the zone, and nothing goes past it: Zone Boundary Error, 0x41b8."""
    await zns.write(0, blocks(CAPACITY - 1))
    assert (await states(zns))[0] == ZoneState.IMPLICITLY_OPENED
    with pytest.raises(aionvme.ZoneBoundaryError) as caught:
        await zns.zone_append(0, blocks(2))
    assert caught.value.status == 0x41B8
    assert await zns.zone_append(0, blocks(1)) == CAPACITY - 1
    assert (await states(zns))[0] == ZoneState.FULL


async def test_append_elsewhere_than_the_start_is_an_invalid_field(zns: aionvme.Namespace) -> None:
    """An append whose address does not start a zone, sent past the library's own check: 0x4002."""
    done = await zns.submit(zoned.zone_append(0x4001, 1), data=blocks(1))
    assert done.status == 0x4002


@pytest.mark.feature("zone management, report")
async def test_each_action_moves_the_zone(zns: aionvme.Namespace) -> None:
    """Open, close, finish and reset take a zone through its states, and the report follows."""
    seen = []
    await zns.open_zone(ZONE)
    seen.append((await states(zns))[1])
    await zns.zone_append(ZONE, blocks(2))
    await zns.close_zone(ZONE)
    seen.append((await states(zns))[1])
    await zns.zone_append(ZONE, blocks(2))
    seen.append((await states(zns))[1])
    await zns.finish_zone(ZONE)
    seen.append((await states(zns))[1])
    await zns.reset_zone(ZONE)
    seen.append((await states(zns))[1])
    # Explicitly opened, closed, implicitly opened, full, empty: Zoned Namespace Command Set, zone states.
    assert seen == [0x3, 0x4, 0x2, 0xE, 0x1]


@pytest.mark.feature("zone management, report")
async def test_actions_on_all_zones(zns: aionvme.Namespace) -> None:
    """Select All closes what is open, opens what is closed, finishes both, and resets everything."""
    for zone in range(3):
        await zns.zone_append(zone * ZONE, blocks(1))
    await zns.close_zone(select_all=True)
    assert (await states(zns))[:4] == [0x4, 0x4, 0x4, 0x1]
    await zns.open_zone(select_all=True)
    assert (await states(zns))[:4] == [0x3, 0x3, 0x3, 0x1]
    await zns.finish_zone(select_all=True)
    assert (await states(zns))[:4] == [0xE, 0xE, 0xE, 0x1]
    await zns.reset_zone(select_all=True)
    assert set(await states(zns)) == {0x1}


async def test_the_seventh_explicit_open_is_too_many(zns: aionvme.Namespace) -> None:
    """With six zones opened explicitly a seventh is refused: Too Many Open Zones, 0x41be."""
    for zone in range(6):
        await zns.open_zone(zone * ZONE)
    with pytest.raises(aionvme.TooManyOpenZonesError) as caught:
        await zns.open_zone(6 * ZONE)
    assert caught.value.status == 0x41BE


async def test_the_ninth_active_zone_is_too_many(zns: aionvme.Namespace) -> None:
    """Eight zones may be active; the ninth is refused: Too Many Active Zones, 0x41bd."""
    for zone in range(8):
        await zns.zone_append(zone * ZONE, blocks(1))
    with pytest.raises(aionvme.TooManyActiveZonesError) as caught:
        await zns.zone_append(8 * ZONE, blocks(1))
    assert caught.value.status == 0x41BD


async def test_an_implicitly_opened_zone_makes_room(zns: aionvme.Namespace) -> None:
    """At the limit of open zones, the controller closes one that it opened itself."""
    for zone in range(7):
        await zns.zone_append(zone * ZONE, blocks(1))
    now = await states(zns)
    assert sorted(now[:7]) == [0x2] * 6 + [0x4]


async def test_a_transition_that_does_not_exist(zns: aionvme.Namespace) -> None:
    """Closing an empty zone: Invalid Zone State Transition, 0x41bf."""
    with pytest.raises(aionvme.InvalidZoneStateTransitionError) as caught:
        await zns.close_zone(0)
    assert caught.value.status == 0x41BF


@pytest.mark.feature("zone management, report")
async def test_report_from_the_middle_and_of_some(zns: aionvme.Namespace) -> None:
    """A report starts with the zone that holds the address, ends after nr_zones, and lists one state when asked."""
    await zns.zone_append(9 * ZONE, blocks(1))
    await zns.open_zone(4 * ZONE)
    assert (await zns.report_zones(3 * ZONE + 17, nr_zones=2))["zslba"].tolist() == [3 * ZONE, 4 * ZONE]
    assert (await zns.report_zones(31 * ZONE))["zslba"].tolist() == [31 * ZONE]
    opened = await zns.report_zones(options=aionvme.ReportingOptions.EXPLICITLY_OPENED)
    assert opened["zslba"].tolist() == [4 * ZONE]
    assert len(await zns.report_zones(options=aionvme.ReportingOptions.FULL)) == 0
    assert len(await zns.report_zones(5 * ZONE, options=aionvme.ReportingOptions.EMPTY, nr_zones=5)) == 5


async def test_reading_an_empty_zone_gives_zeroes(zns: aionvme.Namespace) -> None:
    """Blocks above the write pointer read as zero on both controllers."""
    assert not (await zns.read(20 * ZONE, 4)).any()


async def test_a_write_past_the_capacity_by_its_dwords(zns: aionvme.Namespace) -> None:
    """The controller's own check: a write across the zone's end gives Zone Boundary Error, 0x41b8."""
    await zns.write(0, blocks(CAPACITY - 1))
    assert (await zns.submit(write(CAPACITY - 1, 2), data=blocks(2))).status == 0x41B8


async def test_an_unknown_zone_action(zns: aionvme.Namespace) -> None:
    """A Zone Send Action that the specification does not define: Invalid Field in Command, 0x4002."""
    command = zoned.zone_management_send(ZoneSendAction.CLOSE, 0)._replace(cdw13=0x0F)
    assert (await zns.submit(command)).status == 0x4002


async def test_two_opens_of_one_namespace(place: Place) -> None:
    """A conventional and a zoned namespace can be open at once, each with its own queue."""
    async with place.open(place.nvm_4096) as conventional, place.open(place.zns) as zoned_ns:
        await zoned_ns.reset_zone(select_all=True)
        lba = await zoned_ns.zone_append(0, blocks(1, 7))
        await conventional.write(9, await zoned_ns.read(lba, 1))
        assert set((await conventional.read(9, 1)).tolist()) == {7}
