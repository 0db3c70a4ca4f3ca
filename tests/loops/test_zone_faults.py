"""Zones and the log where things cross each other: cancellations, refusals, reports that are out of date, zones freed past their
objects. Each of these lost a record, a place or the right write pointer once."""

from dataclasses import replace
from pathlib import Path

import anyio
import numpy as np
import pytest

import aionvme
from aionvme import UsageError, ZoneLog, ZoneState
from aionvme.emulator.zone_states import Event
from aionvme.nvme.identify import IDENTIFY_NAMESPACE, IdentifyNamespace

pytestmark = pytest.mark.anyio

BLOCK = bytes(4096)
APPEND = bytes(128 * 1024 - 44)
"""A record that takes one append of the greatest length."""


async def test_a_zone_that_is_reclaimed_as_soon_as_it_is_full() -> None:
    """Nothing in it has to be moved; records that come after are whole, also for recovery."""
    async with aionvme.open("emu:zns?zones=4&zone_size=64KiB") as ns:
        log = await ZoneLog.create(ns)
        for _ in range(16):
            log.discard(await log.append(b"old"))
        await log.reclaim()
        contents = {}
        for i in range(4):
            data = bytes([i]) * (5000 + i * 7000)
            contents[(await log.append(data)).sequence] = data
        for found in (log, await ZoneLog.recover(ns)):
            assert {record.sequence: await found.read(record) for record in found} == contents
        assert log.free_zones == 4 - 2


async def test_a_part_that_went_elsewhere_is_not_reclaimed_before_its_record_is_there() -> None:
    """A zone was finished behind the log's back, and another task reclaims all the time: the record that is split over others is
    not lost."""
    async with aionvme.open("emu:zns?zones=6&zone_size=1MiB&latency=2ms") as ns:
        log = await ZoneLog.create(ns, spare=1, in_flight=2)
        await ns.finish_zone(0)
        data = bytes(range(256)) * (16 * len(APPEND) // 256)

        async def reclaim() -> None:
            while True:
                await log.reclaim()
                await anyio.sleep(0.0005)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(reclaim)
            record = await log.append(data)
            tasks.cancel_scope.cancel()
        assert await log.read(record) == data
        assert await (await ZoneLog.recover(ns)).read(record.sequence) == data


async def test_a_zone_that_does_not_get_full_does_not_keep_others_waiting() -> None:
    """The append of a zone's last block is cancelled before it was sent: another, which waits for the zone to become inactive,
    goes on."""
    async with aionvme.open("emu:zns?zones=4&zone_size=1MiB&mor=1&mar=1&latency=20ms") as ns:
        log = await ZoneLog.create(ns, in_flight=1)
        for data in (*[APPEND] * 7, *[b"x"] * 30):
            await log.append(data)  # 254 of 256 blocks
        scope, done = anyio.CancelScope(), []

        async def append(name: str) -> None:
            await log.append(b"y")
            done.append(name)

        async def cancelled() -> None:
            with scope:
                await append("cancelled")

        with anyio.fail_after(10):
            async with anyio.create_task_group() as tasks:
                for task in (lambda: append("first"), cancelled, lambda: append("last")):
                    tasks.start_soon(task)
                    await anyio.sleep(0.002)
                scope.cancel()
        assert done == ["first", "last"]
        assert ns.zones[0].zs is ZoneState.FULL


async def test_cancelled_reclaims_do_not_use_up_the_room() -> None:
    """However often reclaiming is cancelled in the middle of a zone, it can be done in the end."""
    async with aionvme.open("emu:zns?zones=4&zone_size=1MiB&latency=200us-2ms") as ns:
        log = await ZoneLog.create(ns, spare=1)
        with pytest.raises(aionvme.LogFullError):
            while True:
                await log.append(APPEND)
        for record in list(log)[::3]:
            log.discard(record)
        kept = {record.sequence for record in log}
        for i in range(12):
            with anyio.move_on_after(0.0005 * (i % 6)):
                await log.reclaim()
        assert await log.reclaim() is not None
        assert {record.sequence for record in log} == kept
        for sequence in kept:
            assert await log.read(sequence) == APPEND


@pytest.mark.parametrize("fua", [False, True])
async def test_what_is_to_survive_a_loss_of_power(tmp_path: Path, fua: bool) -> None:
    """With ``fua`` each append has Force Unit Access (dword 12, bit 30), without it none; copies are flushed before their
    original is reset, either way."""
    async with aionvme.open("emu:zns?zones=4&zone_size=1MiB", trace=tmp_path / "run.npy") as ns:
        log = await ZoneLog.create(ns, spare=1, fua=fua)
        records = [await log.append(APPEND) for _ in range(10)]
        log.discard(records[0])
        await log.reclaim()
    trace = aionvme.load_trace(tmp_path / "run.npy")
    appends = trace[trace["opcode"] == 0x7D]
    assert len(appends) == 10 + 7
    assert set((appends["cdw12"] >> 30 & 1).tolist()) == {int(fua)}
    assert trace["opcode"][-3:].tolist() == [0x7D, 0x00, 0x79]  # the last copy, Flush, Zone Management Send
    assert trace["action"][-1] == 4  # reset


async def test_a_worn_out_zone_is_not_offered_again() -> None:
    """Its records are moved; the reset fails, which is said once, and the next reclaim chooses another zone."""
    async with aionvme.open("emu:zns?zones=4&zone_size=1MiB") as ns:
        log = await ZoneLog.create(ns, spare=1)
        for i in range(24):
            record = await log.append(APPEND)
            if i % 2:
                log.discard(record)
        ns._io.queue._device.namespace.zones.fire(0, Event.WEAR_OUT)  # type: ignore[attr-defined]
        asked = []

        def lowest(usages: object) -> aionvme.ZoneUsage:
            asked.append([usage.zone.index for usage in usages])  # type: ignore[attr-defined]
            return usages[0]  # type: ignore[index,no-any-return]

        with pytest.raises(aionvme.InvalidZoneStateTransitionError):
            await log.reclaim(lowest)
        usage = await log.reclaim(lowest)
        assert usage is not None
        assert usage.zone.index == 1
        assert asked == [[0, 1, 2], [1, 2]]
        for record in log:
            assert await log.read(record) == APPEND


async def test_a_policy_chooses_among_what_it_is_offered() -> None:
    """One that names a zone that is being written to is told so, and nothing happens to that."""
    async with aionvme.open("emu:zns?zones=4&zone_size=1MiB") as ns:
        log = await ZoneLog.create(ns)
        record = await log.append(b"keep")
        with pytest.raises(UsageError, match="none of the zones"):
            await log.reclaim(lambda _: aionvme.ZoneUsage(ns.zones[0], 1, 1, 0))
        assert await log.read(record) == b"keep"


@pytest.mark.parametrize("data", ["text", None, [1, 2]], ids=str)
async def test_what_is_no_data(data: object) -> None:
    """A log and a zone refuse it as a namespace does, and wait for nothing first."""
    async with aionvme.open("emu:zns?zones=4&zone_size=1MiB&mor=1&mar=1") as ns:
        await ns.zones[0].append(BLOCK)
        log = await ZoneLog.create(ns, ns.zones[2:])
        with anyio.fail_after(2):
            for call in (log.append, ns.zones[1].append, ns.zones[1].write):
                with pytest.raises(UsageError, match="memory"):
                    await call(data)  # type: ignore[arg-type]
            with pytest.raises(UsageError, match="multiple of the logical block"):
                await ns.zones[1].append(b"abc")
            await ns.zones[3].finish()
            with pytest.raises(aionvme.ZoneFullError):
                await ns.zones[3].append(BLOCK)


@pytest.mark.parametrize("free", ["reset_zone", "finish_zone"])
async def test_waiters_hear_of_what_goes_past_the_objects(free: str) -> None:
    """A task waits for an active zone, and one is reset or finished by the namespace's own command: it goes on."""
    async with aionvme.open("emu:zns?zones=4&zone_size=1MiB&mor=1&mar=1&latency=100us") as ns:
        await ns.zones[0].append(BLOCK)
        with anyio.fail_after(5):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(ns.zones[1].append, BLOCK)
                await anyio.sleep(0.01)
                assert ns.zones.waiting() == [ns.zones[1]]
                await getattr(ns, free)(0)
        assert ns.zones[1].written == 1


async def test_a_cancelled_append_does_not_cost_a_zone_its_place() -> None:
    """The zone was opened explicitly and is in doubt: it is not closed for another while its context lasts."""
    async with aionvme.open("emu:zns?zones=4&zone_size=1MiB&mor=1&latency=2ms") as ns:
        async with ns.zones[0].opened():
            with anyio.move_on_after(0.001):
                await ns.zones[0].append(BLOCK)
            with anyio.move_on_after(0.05) as waited:
                await ns.zones[1].append(BLOCK)
            assert waited.cancelled_caught
            await ns.zones[0].refresh()
            assert ns.zones[0].zs is ZoneState.EXPLICITLY_OPENED
        await ns.zones[1].append(BLOCK)


@pytest.mark.parametrize("seed", range(8))
async def test_reports_that_are_out_of_date(seed: int) -> None:
    """A report is under way while an append is cancelled, or a zone reset past its object: what is known afterwards is right."""
    async with aionvme.open(f"emu:zns?zones=3000&zone_size=64KiB&latency=1ms-6ms&seed={seed}") as ns:
        zone = ns.zones[0]
        await zone.append(BLOCK)
        scope = anyio.CancelScope()

        async def cancelled() -> None:
            with scope:
                await zone.append(BLOCK)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ns.zones.refresh)
            await anyio.sleep(0.0015)
            tasks.start_soon(cancelled)
            await anyio.sleep(0.0005)
            scope.cancel()
        assert await ns.zones.check() == []
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ns.reset_zone, 0)
            tasks.start_soon(zone.refresh)
        assert await ns.zones.check() == []
        await zone.write(BLOCK)


async def test_random_write_areas_stay_in_their_zone() -> None:
    """Blocks of other zones, and more than there are, are refused before anything is done."""
    async with aionvme.open("emu:zns?zones=4&zone_size=1MiB&zrwas=64KiB") as ns:
        async with ns.zones[1].opened(zrwa=True) as zone:
            for slba in (0, 255, 511, 512):
                with pytest.raises(UsageError, match="not all of the zone's"):
                    await zone.write_zrwa(slba, BLOCK * 2)
            for nlb in (-1, 0, 257):
                with pytest.raises(UsageError, match="room for 256"):
                    await zone.flush_zrwa(nlb)
        assert [zone.written for zone in ns.zones] == [0, 0, 0, 0]


async def test_a_log_wider_than_zones_may_be_active() -> None:
    """It would wait for itself: refused."""
    async with aionvme.open("emu:zns?zones=8&zone_size=1MiB&mor=2&mar=2") as ns:
        with pytest.raises(UsageError, match="at most 2"):
            await ZoneLog.create(ns, width=3)


async def test_a_hundred_tasks_on_fifty_zones() -> None:
    """Six zones may be open: appends and writes of all tasks succeed, and each zone has what its two tasks put there."""
    async with aionvme.open("emu:zns?zones=60&zone_size=1MiB&mor=6&latency=20us-200us&seed=4") as ns:

        async def work(task: int) -> None:
            zone = ns.zones[task % 50]
            for _ in range(20):
                await (zone.append(BLOCK) if task < 50 else zone.write(BLOCK * 2))

        async with anyio.create_task_group() as tasks:
            for task in range(100):
                tasks.start_soon(work, task)
        assert [zone.written for zone in ns.zones] == [60] * 50 + [0] * 10
        assert await ns.zones.check() == []
        counters = ns.zone_counters()
        assert counters["implicit_closes"].sum() == 0  # the device had to close none itself


@pytest.mark.parametrize("extended", [False, True], ids=["separate", "interleaved"])
async def test_a_log_over_blocks_with_metadata(extended: bool) -> None:
    """It is not recovered, as it is not made: frames have no metadata."""
    async with aionvme.open("emu:zns?zones=4&zone_size=64KiB") as ns:
        page = np.zeros((), IDENTIFY_NAMESPACE)
        page["nsze"] = page["ncap"] = ns.nsze
        page["flbas"], page["lbaf"][0] = extended << 4, (8, 12, 0)
        ns._geometry = replace(ns._geometry, namespace=IdentifyNamespace.parse(page.tobytes()))
        for call in (ZoneLog.create, ZoneLog.recover):
            before = ns._io.submitted
            with pytest.raises(UsageError, match="metadata"):
                await call(ns)
            assert ns._io.submitted == before


@pytest.mark.parametrize("width", [1, 2])
async def test_what_is_refused_takes_no_room(width: int) -> None:
    """Records of a block, of a zone and of several, refused because the namespace is in use: all of its blocks, 64 in four zones,
    can be filled afterwards."""
    async with aionvme.open("emu:zns?zones=4&zone_size=64KiB") as ns:
        log = await ZoneLog.create(ns, width=width)
        await log.append(b"first")
        ns._geometry.guard.why_not = "it is mounted"
        for length in [10, 60_000, 100_000, 200_000] * 20:
            with pytest.raises(aionvme.NamespaceInUseError):
                await log.append(bytes(length))
        ns._geometry.guard.why_not = None
        for _ in range(63):
            await log.append(b"after")
        with pytest.raises(aionvme.LogFullError):
            await log.append(b"too much")
        assert [zone.zs for zone in ns.zones] == [ZoneState.FULL] * 4
        assert len(await ZoneLog.recover(ns)) == 64


async def test_what_finds_no_open_zone_takes_no_room() -> None:
    """Somebody else keeps the only open zone that there may be; when that is closed, the log takes all there is room for."""
    async with aionvme.open("emu:zns?zones=4&zone_size=64KiB&mor=1") as ns:
        log = await ZoneLog.create(ns, ns.zones[:3])
        await ns.open_zone(3 * 16)
        await ns.zones.refresh()
        for length in [10, 100_000] * 30:
            with pytest.raises(UsageError, match="somebody else") as caught:
                await log.append(bytes(length))
            assert not isinstance(caught.value, aionvme.LogFullError)
        await ns.close_zone(3 * 16)
        await ns.zones.refresh()
        for _ in range(48):
            await log.append(b"after")
        assert [zone.zs for zone in ns.zones[:3]] == [ZoneState.FULL] * 3


async def test_a_refusal_while_another_record_is_written() -> None:
    """A zone has room for the last block of a record when that is refused, and another task's record has gone on to the next
    zone: no more zones than allowed are active, and nobody waits for good."""
    async with aionvme.open("emu:zns?zones=4&zone_size=64KiB&mar=1&mor=1&latency=1ms") as ns:
        log = await ZoneLog.create(ns)
        await log.append(bytes(14 * 4096))
        refused: list[int] = []
        write = aionvme.Zone.append

        async def append(zone: aionvme.Zone, data: bytes, *, fua: bool) -> int:
            if b"refuse" in bytes(data):
                refused.append(zone.index)
                await anyio.sleep(0.01)
                raise UsageError("not now")
            return await write(zone, data, fua=fua)

        with pytest.MonkeyPatch.context() as patch, anyio.fail_after(10):
            patch.setattr(aionvme.Zone, "append", append)

            async def refuse() -> None:
                with pytest.raises(UsageError, match="not now"):
                    await log.append(b"refuse")

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(refuse)
                await anyio.sleep(0.001)
                tasks.start_soon(log.append, b"goes on")
                await anyio.sleep(0.05)
                await log.append(b"and on")
        assert refused == [0]
        assert len(log) == 3
        assert len(await ZoneLog.recover(ns)) == 3


async def test_a_record_that_is_too_long_begins_no_zone() -> None:
    """Two zones were begun, and one is to be written to at a time: so it is, too, after a record that would have taken both, and
    more."""
    async with aionvme.open("emu:zns?zones=2&zone_size=64KiB&latency=1ms") as ns:
        log = await ZoneLog.create(ns, width=2)
        async with anyio.create_task_group() as tasks:
            for _ in range(2):
                tasks.start_soon(log.append, bytes(5 * 4096))
        assert [zone.written for zone in ns.zones] == [6, 6]
        log = await ZoneLog.recover(ns, width=1)
        for _ in range(3):
            with pytest.raises(aionvme.LogFullError):
                await log.append(bytes(30 * 4096))
        async with anyio.create_task_group() as tasks:
            for _ in range(10):
                tasks.start_soon(log.append, b"small")
        assert sorted(zone.written for zone in ns.zones) == [6, 16]
