"""Zones as objects: what is known of them, the order of writes, and limits as something to wait for."""

import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, cast

import anyio
import anyio.lowlevel
import numpy as np
import pytest

import aionvme
from aionvme import ZoneState
from tests.conftest import EMULATED, IN_VM, Place, guest

pytestmark = [pytest.mark.anyio, pytest.mark.feature("zones as objects")]

BLOCK = 4096
ZONE = 1024  # blocks: 4 MiB
CAPACITY = 768  # blocks: 3 MiB
MOR, MAR = 6, 8
OPEN = (ZoneState.IMPLICITLY_OPENED, ZoneState.EXPLICITLY_OPENED)


def blocks(nlb: int, value: int = 0x5A) -> np.ndarray:
    """``nlb`` blocks of one value."""
    return np.full(nlb * BLOCK, value, np.uint8)


async def opened(ns: aionvme.Namespace) -> list[int]:
    """The zones that the device says are open."""
    report = await ns.report_zones()
    return [int(zslba) // ZONE for zslba in report["zslba"][np.isin(report["zs"], OPEN)]]


async def settle() -> None:
    """Let every task get as far as it can without a device."""
    for _ in range(20):
        await anyio.lowlevel.checkpoint()


async def test_state_and_write_pointer_follow_the_commands(zns: aionvme.Namespace) -> None:
    """After each command the object says what the zone state machine (ZNS 1.1, section 2.1.1.3) has, and so does a report."""
    zone = zns.zones[3]
    await zone.refresh()
    seen = [(zone.zs, zone.wp, zone.room)]
    for step in (
        zone.open,
        lambda: zone.append(blocks(2)),
        lambda: zone.write(blocks(3)),
        zone.close,
        lambda: zone.append(blocks(1)),
        zone.finish,
        zone.reset,
        lambda: zone.write(blocks(1)),
    ):
        await step()
        seen.append((zone.zs, zone.wp, zone.room))
        assert await zns.zones.check() == []
    base = 3 * ZONE
    assert seen == [
        (ZoneState.EMPTY, base, CAPACITY),
        (ZoneState.EXPLICITLY_OPENED, base, CAPACITY),
        (ZoneState.EXPLICITLY_OPENED, base + 2, CAPACITY - 2),
        (ZoneState.EXPLICITLY_OPENED, base + 5, CAPACITY - 5),
        (ZoneState.CLOSED, base + 5, CAPACITY - 5),
        (ZoneState.IMPLICITLY_OPENED, base + 6, CAPACITY - 6),
        (ZoneState.FULL, None, 0),
        (ZoneState.EMPTY, base, CAPACITY),
        (ZoneState.IMPLICITLY_OPENED, base + 1, CAPACITY - 1),
    ]


async def test_opening_a_namespace_tells_its_zones(place: Place, tmp_path: Path) -> None:
    """What one namespace left is known to the next from its opening on; zones are found by number, slice and LBA."""
    target = f"{place.zns}&file={tmp_path}/image" if place.queue == "emulated" else place.zns
    async with place.open(target) as ns:
        await ns.reset_zone(select_all=True)
        await ns.zones[1].write(blocks(4))
        await ns.zones[2].finish()
    async with place.open(target) as ns:
        zones = ns.zones
        assert len(zones) == 32
        assert [zone.zs for zone in zones] == (await ns.report_zones())["zs"].tolist()
        assert [zone.written for zone in zones[:4]] == [0, 4, CAPACITY, 0]
        assert (zones[1].wp, zones[-31].written, zones[1].zcap) == (ZONE + 4, 4, CAPACITY)
        assert zones.at(2 * ZONE - 1) == zones[1]
        assert [zone.index for zone in zones] == list(range(32))
        with pytest.raises(IndexError, match="32"):
            zones[32]
        with pytest.raises(aionvme.UsageError, match="0x8000 blocks"):
            zones.at(32 * ZONE)


async def test_writes_of_many_tasks_go_one_after_the_other(zns: aionvme.Namespace) -> None:
    """Forty tasks write one to three blocks each to one zone: all succeed, in the order in which they were called for."""
    zone = zns.zones[0]
    where: dict[int, int] = {}

    async def write(i: int) -> None:
        where[i] = await zone.write(blocks(i % 3 + 1, i))

    async with anyio.create_task_group() as tasks:
        for i in range(40):
            tasks.start_soon(write, i)
    in_order = sorted(where, key=where.__getitem__)
    lengths = [i % 3 + 1 for i in in_order]
    assert [where[i] for i in in_order] == [sum(lengths[:k]) for k in range(40)]
    data = (await zone.read(0, sum(lengths))).reshape(-1, BLOCK)
    assert data[:, 0].tolist() == [i for i, nlb in zip(in_order, lengths, strict=True) for _ in range(nlb)]


async def test_writes_keep_the_order_of_calls(zns: aionvme.Namespace) -> None:
    """Tasks that come one after the other, among them a long write that is split, find their data in that order."""
    zone = zns.zones[5]
    where: list[int] = []

    async def write(nlb: int, value: int) -> None:
        where.append(await zone.write(blocks(nlb, value)))

    async with anyio.create_task_group() as tasks:
        for value, nlb in enumerate((1, 300, 2, 1)):
            tasks.start_soon(write, nlb, value)
            await settle()
    assert where == [5 * ZONE, 5 * ZONE + 1, 5 * ZONE + 301, 5 * ZONE + 303]
    assert (await zone.read(5 * ZONE + 300, 4)).reshape(-1, BLOCK)[:, 0].tolist() == [1, 2, 2, 3]


async def test_appends_writes_and_resets_together(zns: aionvme.Namespace) -> None:
    """Tasks that append, write and reset the same zone never get an error, and the write pointer is right at the end."""
    zone = zns.zones[7]

    async def work(kind: int) -> None:
        for _ in range(8):
            if kind == 0:
                await zone.reset()
            elif kind == 1:
                await zone.write(blocks(2))
            else:
                await zone.append(blocks(1))

    async with anyio.create_task_group() as tasks:
        for kind in (0, 1, 1, 2, 2, 2, 2):
            tasks.start_soon(work, kind)
    assert await zns.zones.check() == []


async def test_a_full_zone_and_too_much_data(zns: aionvme.Namespace) -> None:
    """An append to a full zone is Zone Is Full; a write beyond the room is refused, and says how much there is."""
    zone = zns.zones[4]
    await zone.write(blocks(CAPACITY - 1))
    with pytest.raises(aionvme.UsageError, match="room for 1"):
        await zone.write(blocks(2))
    with pytest.raises(aionvme.ZoneBoundaryError):
        await zone.append(blocks(2))
    assert (zone.zs, zone.room) == (ZoneState.IMPLICITLY_OPENED, 1)
    await zone.append(blocks(1))
    assert (zone.zs, zone.wp) == (ZoneState.FULL, None)
    with pytest.raises(aionvme.ZoneFullError):
        await zone.append(blocks(1))
    with pytest.raises(aionvme.UsageError, match="FULL"):
        await zone.write(blocks(1))
    with pytest.raises(aionvme.UsageError, match="not all of the zone's"):
        await zone.read(5 * ZONE - 1, 2)


async def test_mistakes_are_told_before_anything_is_waited_for(zns: aionvme.Namespace) -> None:
    """What could not be written anywhere is refused though every open zone is taken, and no other zone is closed for it."""
    zones = zns.zones[:2]
    await zns.zones.refresh()
    assert zns.mor is not None
    async with AsyncExitStack() as stack:
        for zone in zns.zones[10 : 10 + zns.mor]:
            await stack.enter_async_context(zone.opened())
        before = (await zns.report_zones())["zs"].tolist()
        too_much = bytes(zns.max_append_bytes + zns.lba_size)
        calls: list[Callable[[aionvme.Zone], Awaitable[object]]] = [
            lambda zone: zone.append(blocks(1), metadata=bytes(8)),
            lambda zone: zone.write(blocks(1), metadata=bytes(8)),
            lambda zone: zone.append(blocks(1), protection=aionvme.Protection()),
            lambda zone: zone.write(blocks(1), protection=cast("Any", True)),
            lambda zone: zone.append(too_much),
            lambda zone: zone.append(bytes(100)),
        ]
        for zone in zones:
            for call in calls:
                with anyio.fail_after(10), pytest.raises(aionvme.UsageError):
                    await call(zone)
            assert (zone.zs, zone.wp) == (ZoneState.EMPTY, zone.zslba)
        assert (await zns.report_zones())["zs"].tolist() == before
    assert zns.zones.waiting() == []


async def test_others_are_noticed(zns: aionvme.Namespace) -> None:
    """What goes past the object shows in check(), makes its next write fail once, and is known after that or a refresh()."""
    zone = zns.zones[6]
    await zone.write(blocks(1))
    lba = await zns.zone_append(zone.zslba, blocks(1))
    (difference,) = await zns.zones.check()
    assert difference == (zone.zslba, ZoneState.IMPLICITLY_OPENED, lba, ZoneState.IMPLICITLY_OPENED, lba + 1)
    with pytest.raises(aionvme.ZoneInvalidWriteError):
        await zone.write(blocks(1))
    assert await zone.write(blocks(1)) == lba + 1
    await zns.reset_zone(zone.zslba)
    with pytest.raises(aionvme.UsageError, match="in doubt"):
        assert zone.wp
    assert await zone.write(blocks(1)) == zone.zslba
    await zns.reset_zone(select_all=True)
    await zns.zones.refresh()
    assert {zone.zs for zone in zns.zones} == {ZoneState.EMPTY}


async def test_a_cancelled_write_leaves_the_zone_in_doubt(zns: aionvme.Namespace) -> None:
    """A task is cancelled while its write is in flight: the next write goes to where the device says the pointer is."""
    zone = zns.zones[8]
    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(zone.write, blocks(4))
            await settle()
            scope.cancel()
    report = await zns.report_zones(zone.zslba, nr_zones=1)
    assert await zone.write(blocks(1)) == report["wp"][0]
    assert await zns.zones.check() == []


async def fill(zone: aionvme.Zone, appends: int, nlb: int) -> None:
    """Append so often."""
    for _ in range(appends):
        await zone.append(blocks(nlb))


async def test_limits_are_waited_for(zns: aionvme.Namespace) -> None:
    """A hundred tasks fill 25 zones where six may be open and eight active: no command fails, and there are never more."""
    most = 0

    async def watch() -> None:
        nonlocal most
        while True:
            most = max(most, len(await opened(zns)))
            assert len(zns.zones.holders()) <= MOR
            await anyio.sleep(0.005)

    async with anyio.create_task_group() as watching:
        watching.start_soon(watch)
        async with anyio.create_task_group() as tasks:
            for task in range(100):
                tasks.start_soon(fill, zns.zones[task % 25], 6, CAPACITY // 24)
        watching.cancel_scope.cancel()
    assert {zone.zs for zone in zns.zones[:25]} == {ZoneState.FULL}
    assert 0 < most <= MOR
    assert zns.zones.waiting() == []
    assert zns.zones.holders() == []
    assert await zns.zones.check() == []


async def test_an_open_zone_is_closed_for_another(zns: aionvme.Namespace) -> None:
    """With six zones opened by writes, a seventh gets the place of the one that was not written to for longest."""
    for zone in zns.zones[:MOR]:
        await zone.append(blocks(1))
    await zns.zones[0].append(blocks(1))
    await zns.zones[6].append(blocks(1))
    assert await opened(zns) == [0, 2, 3, 4, 5, 6]
    assert [holder.zslba // ZONE for holder in zns.zones.holders()] == [2, 3, 4, 5, 0, 6]
    assert zns.zones[1].zs is ZoneState.CLOSED


async def test_busy_zones_take_turns(zns: aionvme.Namespace) -> None:
    """Three tasks write to each of six zones without a pause; one of a seventh and an eighth gets its turn before any of them is
    done."""
    await zns.zones.refresh()
    appended, done = 0, []

    async def keep_busy(zone: aionvme.Zone) -> None:
        nonlocal appended
        for _ in range(CAPACITY // 3):
            await zone.append(blocks(1))
            appended += 1
        done.append(zone)

    with anyio.fail_after(60):
        async with anyio.create_task_group() as tasks:
            for zone in zns.zones[:MOR]:
                for _ in range(3):
                    tasks.start_soon(keep_busy, zone)
            while appended < 60:
                await anyio.lowlevel.checkpoint()
            for zone in zns.zones[6:8]:
                await zone.append(blocks(1))
            assert not done
            tasks.cancel_scope.cancel()
    await zns.zones[7].refresh()  # it may have been about to be closed for one of the others
    assert zns.zones[7].written == 1


async def test_explicitly_opened_zones_stay(zns: aionvme.Namespace) -> None:
    """Those that are kept open are not closed for others, who wait, are listed, may be cancelled, and go on in the end."""
    await zns.zones.refresh()
    done: list[int] = []

    async def append(i: int) -> None:
        await zns.zones[i].append(blocks(1))
        done.append(i)

    for zone in zns.zones[1:MOR]:
        await zone.open()
    async with anyio.create_task_group() as tasks:
        async with zns.zones[0].opened() as kept:
            for i in (6, 7):
                tasks.start_soon(append, i)
                await settle()
            with anyio.move_on_after(0.05) as given_up:
                await zns.zones[0].append(blocks(1))  # of the one that is open
                await append(9)
            assert given_up.cancelled_caught
            assert [zone.index for zone in zns.zones.waiting()] == [6, 7]
            assert {(holder.zslba // ZONE, holder.zs) for holder in zns.zones.holders()} == {
                (i, ZoneState.EXPLICITLY_OPENED) for i in range(MOR)
            }
            assert all(holder.task for holder in zns.zones.holders())
            assert done == []
        assert kept.zs is ZoneState.CLOSED
    assert done == [6, 7]
    assert await zns.zones.check() == []


async def test_active_zones_are_waited_for(zns: aionvme.Namespace) -> None:
    """With eight zones active, two more wait until others are finished and reset, first come first served."""
    await zns.zones.refresh()
    done: list[int] = []

    async def append(i: int) -> None:
        await zns.zones[i].append(blocks(1))
        done.append(i)

    for zone in zns.zones[:MAR]:
        await zone.append(blocks(1))
    async with anyio.create_task_group() as tasks:
        for i in (20, 21):
            tasks.start_soon(append, i)
            await settle()
        await anyio.sleep(0.02)
        await zns.zones[0].append(blocks(1))  # an active one is open to all
        assert done == []
        await zns.zones[3].finish()
        await anyio.sleep(0.05)
        assert done == [20]
        await zns.zones[4].reset()
    assert done == [20, 21]
    assert await zns.zones.check() == []


async def test_what_others_left_open_is_not_waited_for(zns: aionvme.Namespace) -> None:
    """Where all open or active zones were left so by somebody else, waiting would never end: the error names them."""
    for i in range(MOR):
        await zns.open_zone(i * ZONE)
    await zns.zones.refresh()
    with pytest.raises(aionvme.UsageError, match=r"open at a time, and as many were left so .* 0x0, 0x400,"):
        await zns.zones[10].append(blocks(1))
    assert zns.zones[10].zs is ZoneState.EMPTY
    await zns.zones[0].close()
    await zns.zones[10].append(blocks(1))


async def test_what_others_left_active_is_not_waited_for(zns: aionvme.Namespace) -> None:
    """The same with active zones, which implicitly opened ones are too; one that is finished makes room."""
    for i in range(MAR):
        await zns.zone_append(i * ZONE, blocks(1))
    await zns.zones.refresh()
    with pytest.raises(aionvme.UsageError, match="active at a time"):
        await zns.zones[12].append(blocks(1))
    await zns.zones[7].finish()
    await zns.zones[12].append(blocks(1))
    assert await zns.zones.check() == []


async def test_a_limited_namespace_shares_the_zones(zns: aionvme.Namespace) -> None:
    """Writes through a limited namespace and through its own go to one zone in turn: both know where it is."""
    limited = zns.limited(aionvme.Limiter(depth=1))
    await zns.zones[2].write(blocks(1))
    assert await limited.zones[2].write(blocks(2)) == 2 * ZONE + 1
    assert await zns.zones[2].write(blocks(1)) == 2 * ZONE + 3
    assert limited.zones[2] == zns.zones[2]


# Not through the polled queue: Linux 6.1 may crash where polled commands fail while others are in flight.
@pytest.mark.parametrize("place", [guest()[0] if IN_VM else EMULATED], ids=lambda place: place.queue)
async def test_random_use(zns: aionvme.Namespace) -> None:
    """Tasks that do anything with any zone, and are cancelled at any time: no limit is hit, nobody hangs, and in the end what
    is known is what the device says, once what is in doubt was looked up."""
    dice = random.Random(11)

    async def work() -> None:
        while True:
            zone = zns.zones[dice.randrange(12)]
            action = dice.random()
            try:
                if action < 0.45:
                    await zone.append(blocks(dice.choice((1, 8, 32))))
                elif action < 0.7:
                    await zone.write(blocks(dice.choice((1, 8, 200))))
                elif action < 0.78:
                    await zone.reset()
                elif action < 0.9:
                    await zone.finish()
                elif action < 0.95:
                    await zone.close()
                else:
                    async with zone.opened():
                        await zone.append(blocks(1))
            except (aionvme.ZoneFullError, aionvme.ZoneBoundaryError, aionvme.InvalidZoneStateTransitionError):
                pass
            except aionvme.UsageError as error:
                if "room for" not in str(error):
                    raise

    async def short_lived() -> None:
        for _ in range(8):
            with anyio.move_on_after(dice.random() * 0.02):
                await work()

    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            for _ in range(16):
                tasks.start_soon(short_lived)
    for zone in zns.zones[:12]:
        await zone.refresh()
    assert await zns.zones.check() == []
    assert zns.zones.waiting() == []
    assert sorted(holder.zslba // ZONE for holder in zns.zones.holders()) == await opened(zns)
    assert all(holder.users == 0 for holder in zns.zones.holders())


async def test_conventional_namespaces_have_none(nvm: aionvme.Namespace) -> None:
    """Asking for zones where there are none is a mistake, and said to be one."""
    with pytest.raises(aionvme.UsageError, match="conventional"):
        assert nvm.zones


EXTENDED_ZONE, WINDOW, STEP, ZDES = 256, 16, 4, 128
"""Of the namespace with random write areas: blocks of a zone, of an area, of its flush granularity; bytes of an extension."""


@pytest.fixture
async def extended(place: Place) -> AsyncIterator[aionvme.Namespace]:
    """A namespace with zone descriptor extensions and random write areas, its zones empty and known."""
    async with place.open(place.zns_zrwa) as ns:
        await ns.reset_zone(select_all=True)
        await ns.zones.refresh()
        yield ns


async def test_descriptor_extensions(extended: aionvme.Namespace, zns: aionvme.Namespace) -> None:
    """An extension makes its zone closed, is read back, and goes with a reset (ZNS 1.1, section 3.4.3)."""
    zone = extended.zones[2]
    data = np.arange(ZDES, dtype=np.uint8)
    assert await zone.extension() is None
    await zone.set_extension(data)
    assert zone.zs is ZoneState.CLOSED
    assert zone.za & aionvme.ZoneAttributes.DESCRIPTOR_EXTENSION_VALID
    found = await zone.extension()
    assert found is not None
    assert found.tolist() == data.tolist()
    assert await extended.zones.check() == []
    with pytest.raises(aionvme.InvalidZoneStateTransitionError):
        await zone.set_extension(data)
    await zone.reset()
    assert await zone.extension() is None
    with pytest.raises(aionvme.UsageError, match="no descriptor extensions"):
        await zns.zones[0].extension()


async def test_a_random_write_area(extended: aionvme.Namespace) -> None:
    """Blocks in the area are written in any order and again; a flush moves the write pointer, and so does a write beyond the
    area, as far as it has to (Technical Proposal 4076)."""
    zone = extended.zones[1]
    base = zone.zslba
    async with zone.opened(zrwa=True):
        async with anyio.create_task_group() as tasks:
            for i in range(WINDOW):
                tasks.start_soon(zone.write_zrwa, base + i, blocks(1, i))
        await zone.write_zrwa(base + 3, blocks(1, 99))
        await zone.refresh()
        assert zone.wp == base
        await zone.refresh()
        with pytest.raises(aionvme.UsageError, match="blocks have none"):
            await zone.write_zrwa(base, blocks(1), metadata=bytes(8))
        assert zone.wp == base  # as it was: nothing was submitted
        with pytest.raises(aionvme.UsageError, match="write_zrwa"):
            await zone.write(blocks(1))
        await zone.flush_zrwa(2 * STEP)
        assert zone.wp == base + 2 * STEP
        assert await extended.zones.check() == []
        await zone.write_zrwa(base + 2 * STEP + WINDOW, blocks(1, 7))
        await zone.refresh()
        assert zone.wp == base + 3 * STEP
    assert (await zone.read(base, 6)).reshape(-1, BLOCK)[:, 0].tolist() == [0, 1, 2, 99, 4, 5]
