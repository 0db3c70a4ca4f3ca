"""A replayed trace leaves the device as it was left, keeps what was in order in order, and lets the rest go together.

What is expected is computed from the two traces by small models here: which blocks hold what, where appended blocks are now, and
which commands had not overlapped.
"""

import math
import time
from pathlib import Path
from typing import Any

import anyio
import numpy as np
import pytest

import aionvme
from tests.conftest import Place

pytestmark = [pytest.mark.anyio, pytest.mark.once, pytest.mark.feature("replay")]

ZONES = 5  # no more than may be open at a time: which zone the controller closes then is its own affair
WRITE, READ, COMPARE, SEND, RECEIVE, APPEND = 0x01, 0x02, 0x05, 0x79, 0x7A, 0x7D
CHANGES = (WRITE, 0x04, 0x08, SEND, APPEND)


def another(target: str) -> str:
    """The same namespace, an emulated one anew and in another mood: commands take other times, and complete in other orders."""
    return target.replace("seed=", "seed=7") if target.startswith("emu:") else target


async def use_zones(ns: aionvme.Namespace) -> None:
    """Two tasks for each zone at once: appends, reads and compares of what they wrote; zones are closed, finished, reset."""
    dice = np.random.default_rng(5)

    async def append(zslba: int, lengths: list[int]) -> None:
        for nlb in lengths:
            data = np.full(nlb * ns.lba_size, nlb, np.uint8)
            lba = await ns.zone_append(zslba, data)
            assert (await ns.read(lba, nlb) == data).all()
            await ns.compare(lba + nlb - 1, data[-ns.lba_size :])

    async def live(zone: int) -> None:
        zslba = zone * ns.zsze
        for cycle in range(3):
            async with anyio.create_task_group() as tasks:
                for _ in range(2):
                    tasks.start_soon(append, zslba, dice.integers(1, 4, 5).tolist())
            (now,) = await ns.report_zones(zslba, nr_zones=1)
            await ns.write(int(now["wp"]), bytes(2 * ns.lba_size))
            await ns.read(zslba, int(now["wp"]) - zslba)
            if zone == 1:
                await ns.close_zone(zslba)
            if cycle < 2 or zone == 2:
                await ns.finish_zone(zslba)
                await ns.reset_zone(zslba)
            if zone == 3:
                await ns.open_zone(zslba)

    async with anyio.create_task_group() as tasks:
        for zone in range(ZONES):
            tasks.start_soon(live, zone)
    await ns.finish_zone(4 * ns.zsze)
    await ns.flush()


async def traced(place: Place, target: str, file: Path, use: Any, **options: Any) -> tuple[Any, Any]:
    """The trace of a use of a namespace, its zones empty before, and its zones in the end."""
    async with place.open(target) as ns:
        if ns.zoned and not target.startswith("emu:"):
            await ns.reset_zone(select_all=True)
    async with place.open(target, trace=file, **options) as ns:
        await use(ns)
        report = await ns.report_zones() if ns.zoned else None
    trace = aionvme.load_trace(file)
    return (trace[trace["opcode"] != RECEIVE] if ns.zoned else trace), report


def layout(trace: Any, replayed: Any) -> dict[int, int]:
    """Which address each block holds after a replay: a model of a zoned device that runs the commands by their completion."""
    blocks: dict[int, int] = {}
    for i in np.argsort(replayed["complete_ns"], kind="stable"):
        old, new = trace[i], replayed[i]
        if new["status"]:
            continue
        if old["opcode"] == APPEND:
            blocks |= {int(new["result"]) + k: int(old["result"]) + k for k in range(old["nlb"])}
        elif old["opcode"] == WRITE:
            blocks |= {int(old["slba"]) + k: int(old["slba"]) + k for k in range(old["nlb"])}
        elif old["opcode"] == SEND and old["action"] == 4:
            zone = range(old["slba"], old["slba"] + old["zsze"])
            blocks = {lba: value for lba, value in blocks.items() if lba not in zone}
    return blocks


def kept(trace: Any, replayed: Any) -> int:
    """How many pairs of commands that had not overlapped, on the same zone or blocks, one of them changing something, kept
    their order: all of them, or it fails."""
    place = trace["slba"] // trace["zsze"] if trace["zsze"].all() else None
    end = trace["slba"] + trace["nlb"]
    changes = np.isin(trace["opcode"], CHANGES)
    everywhere = trace["opcode"] == 0
    pairs = 0
    for j in range(len(trace)):
        same = place == place[j] if place is not None else (trace["slba"] < end[j]) & (trace["slba"][j] < end)
        before = (trace["complete_ns"] <= trace["submit_ns"][j]) & (same | everywhere | everywhere[j])
        before &= changes | changes[j]
        assert (replayed["complete_ns"][before] <= replayed["submit_ns"][j]).all()
        pairs += int(before.sum())
    return pairs


@pytest.mark.parametrize("speed", [1.0, 30, None])
async def test_zones_end_as_they_were(place: Place, tmp_path: Path, speed: float | None) -> None:
    """The same zone report, each block where the new run's own results say, no status differs, and nothing out of order."""
    trace, before = await traced(place, place.zns, tmp_path / "run.npy", use_zones)
    async with place.open(another(place.zns)) as ns:
        await ns.reset_zone(select_all=True)
        replayed = await aionvme.replay(trace, ns, speed=speed)
        after = await ns.report_zones()
        assert after.tolist() == before.tolist()
        assert replayed.dtype == aionvme.TRACE
        for name in (
            "opcode",
            "nlb",
            "len_bytes",
            "cdw12",
            "cdw13",
            "action",
            "status",
            "errno",
            "zsze",
            "block_bytes",
        ):
            assert (replayed[name] == trace[name]).all(), name
        blocks = layout(trace, replayed)
        assert len(blocks) > 50
        for lba, address in blocks.items():
            block = await ns.read(lba, 1)
            assert int(block[:8].view("<u8")[0]) == address
            assert len(np.unique(block[8:])) > 100
    assert kept(trace, replayed) > 1000


async def test_reads_follow_the_appends(place: Place, tmp_path: Path) -> None:
    """Each read and compare of one append's blocks goes to where those are now, and each compare finds the data that was
    written there; a read over several goes to where they are if that is one piece, and else stays."""
    trace, _ = await traced(place, place.zns, tmp_path / "run.npy", use_zones)
    async with place.open(another(place.zns)) as ns:
        await ns.reset_zone(select_all=True)
        replayed = await aionvme.replay(trace, ns, speed=None)
    moved: dict[int, int] = {}
    followed = stayed = 0
    for old, new in zip(trace, replayed, strict=True):
        if old["opcode"] == APPEND:
            moved |= {int(old["result"]) + k: int(new["result"]) + k for k in range(old["nlb"])}
        elif old["opcode"] in (READ, COMPARE):
            slba, nlb = int(old["slba"]), int(old["nlb"])
            now = [moved.get(slba + k) for k in range(nlb)]
            in_one_piece = now[0] is not None and now == list(range(now[0], now[0] + nlb))
            assert int(new["slba"]) == (now[0] if in_one_piece else slba)
            followed += in_one_piece and now[0] != slba
            stayed += not in_one_piece
    assert not replayed["status"].any()
    if place.queue == "emulated":  # whose seed decides the order; another controller may have kept it
        assert followed
        assert stayed


async def test_blocks_end_as_they_were(place: Place, tmp_path: Path) -> None:
    """Writes and reads of the same few blocks, many at once, on a conventional namespace: the order that there was is kept."""
    dice = np.random.default_rng(6)

    async def use(ns: aionvme.Namespace) -> None:
        async def task(slba: list[int], nlb: list[int]) -> None:
            for i, (first, n) in enumerate(zip(slba, nlb, strict=True)):
                if i % 3:
                    await ns.write(first, bytes(n * ns.lba_size))
                else:
                    await ns.read(first, n)
            await ns.write_zeroes(slba[0], 1)

        async with anyio.create_task_group() as tasks:
            for _ in range(6):
                tasks.start_soon(task, dice.integers(0, 60, 20).tolist(), dice.integers(1, 9, 20).tolist())
        await ns.flush()

    trace, _ = await traced(place, place.nvm_512, tmp_path / "run.npy", use)
    async with place.open(another(place.nvm_512)) as ns:
        replayed = await aionvme.replay(trace, ns, speed=None)
        assert not replayed["status"].any()
        assert kept(trace, replayed) > 500
        assert replayed["in_flight"].max() > 3


async def read_one_by_one(ns: aionvme.Namespace) -> None:
    """40 reads of different blocks, none before the other has ended."""
    for lba in range(40):
        await ns.read(lba, 1)


@pytest.mark.parametrize("limited", [False, True], ids=["whole", "limited"])
async def test_what_does_not_depend_goes_together(place: Place, tmp_path: Path, limited: bool) -> None:
    """Reads that were awaited one by one fill the queue when they are replayed as fast as possible, and no more than that; on a
    limited namespace, no more than its limiter allows."""
    trace, _ = await traced(place, place.nvm_4096, tmp_path / "run.npy", read_one_by_one)
    assert set(trace["in_flight"]) == {1}
    async with place.open(place.nvm_4096, depth=8) as ns:
        some = ns.limited(aionvme.Limiter(depth=3)) if limited else ns
        replayed = await aionvme.replay(trace, some, speed=None)
    assert replayed["in_flight"].max() == (3 if limited else 8)
    assert replayed["slba"].tolist() == list(range(40))


@pytest.mark.parametrize(("speed", "gap_ns"), [(1, 60e6), (3.0, 20e6), (0.5, 120e6)])
async def test_times_are_kept(place: Place, tmp_path: Path, speed: float, gap_ns: float) -> None:
    """Reads 60 ms apart come again at those times from the beginning, divided by the speed; not before, and not much later."""

    async def use(ns: aionvme.Namespace) -> None:
        for lba in range(3):
            await ns.read(lba, 1)
            await anyio.sleep(0.06)

    trace, _ = await traced(place, place.nvm_512, tmp_path / "run.npy", use)
    async with place.open(place.nvm_512) as ns:
        replayed = await aionvme.replay(trace, ns, speed=speed)
    expected = (trace["submit_ns"] - trace["submit_ns"][0]) / speed
    late = replayed["submit_ns"] - expected
    assert expected[1] > 0.95 * gap_ns  # uvloop's timers may be a millisecond early
    assert (late >= 0).all()
    assert np.median(late) < gap_ns  # a busy machine is late at times


async def test_rows_stay_where_they_are(place: Place, tmp_path: Path) -> None:
    """A part of a trace, in any order of its rows, is replayed in the order of time and told in the order of its rows."""
    trace, _ = await traced(place, place.zns, tmp_path / "run.npy", use_zones)
    zone = trace[(trace["slba"] // trace["zsze"] == 3) & (trace["opcode"] != 0)]
    mixed = zone[np.random.default_rng(1).permutation(len(zone))]
    async with place.open(another(place.zns)) as ns:
        await ns.reset_zone(select_all=True)
        replayed = await aionvme.replay(mixed, ns, speed=None)
        assert (await ns.report_zones())["zs"].tolist()[:5] == [1, 1, 1, 3, 1]
    assert (replayed["cdw12"] == mixed["cdw12"]).all()
    assert not replayed["status"].any()
    by_time = np.argsort(mixed["submit_ns"], kind="stable")
    assert kept(mixed[by_time], replayed[by_time])


async def test_statuses_that_differ_are_told(place: Place, tmp_path: Path) -> None:
    """Writes to a zone that is not as it was fail now: Zone Invalid Write, for each, and nothing is raised."""

    async def use(ns: aionvme.Namespace) -> None:
        for lba in range(4):
            await ns.write(lba, bytes(ns.lba_size))
        with pytest.raises(aionvme.LbaOutOfRangeError):
            await anyway(ns)

    async def anyway(ns: aionvme.Namespace) -> None:
        done = await ns.submit(aionvme.Command(READ, cdw10=ns.nsze & 0xFFFFFFFF), into=bytearray(ns.lba_size))
        raise aionvme.LbaOutOfRangeError(int(done.status), "a read beyond the end")

    trace, _ = await traced(place, place.zns, tmp_path / "run.npy", use)
    # One at a time: Linux 6.1 can crash when one of several fails that are polled for.
    async with place.open(place.zns, depth=1) as ns:
        await ns.reset_zone(select_all=True)
        await ns.write(0, bytes(9 * ns.lba_size))
        replayed = await aionvme.replay(trace, ns, speed=None)
        assert replayed["status"].tolist() == [0x41BC] * 4 + [trace["status"][4]]
        assert trace["status"][4] & 0x3FFF == 0x80
        assert (await ns.report_zones())["wp"][0] == 9


async def test_a_cancelled_replay_leaves_nothing_in_flight(place: Place, tmp_path: Path) -> None:
    """Cancelled while its commands are in flight, it ends when those have completed; the namespace goes on, as does a replay."""
    trace, _ = await traced(place, place.nvm_512, tmp_path / "run.npy", read_one_by_one)
    trace = np.concatenate([trace] * 50)
    trace["submit_ns"], trace["complete_ns"] = 0, 1
    async with place.open(place.nvm_512, depth=4) as ns:
        before = ns._io.submitted
        async with anyio.create_task_group() as tasks:

            async def cancel() -> None:
                while ns._io.submitted < before + 10:
                    await anyio.lowlevel.checkpoint()
                assert ns._io.in_flight
                tasks.cancel_scope.cancel()

            tasks.start_soon(cancel)
            await aionvme.replay(trace, ns, speed=None)
            raise AssertionError("it was cancelled")
        assert ns._io.in_flight == 0
        assert ns._io.submitted < before + len(trace)
        await ns.read(0, 1)
        assert len(await aionvme.replay(trace[:100], ns, speed=None)) == 100


async def test_one_at_a_time(place: Place, tmp_path: Path) -> None:
    """A second replay on the namespace is refused while one goes on; after it, another is not."""
    trace, _ = await traced(place, place.nvm_512, tmp_path / "run.npy", read_one_by_one)
    async with place.open(place.nvm_512) as ns:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(aionvme.replay, trace, ns)
            while not ns._io.submitted:
                await anyio.lowlevel.checkpoint()
            with pytest.raises(aionvme.UsageError, match="being replayed"):
                await aionvme.replay(trace, ns)
        await aionvme.replay(trace, ns)


async def test_a_replay_is_traced_as_well(place: Place, tmp_path: Path) -> None:
    """On a traced namespace, other commands at the same time: its file has both, the replay's array its own only, the same
    commands with times that differ by when the clock began."""
    trace, _ = await traced(place, place.nvm_512, tmp_path / "run.npy", read_one_by_one)
    async with (
        place.open(place.nvm_512, trace=tmp_path / "again.npy", depth=4) as ns,
        anyio.create_task_group() as tasks,
    ):
        for lba in range(100, 150):
            tasks.start_soon(ns.read, lba, 2)
        replayed = await aionvme.replay(trace, ns, speed=None)
    again = aionvme.load_trace(tmp_path / "again.npy")
    assert len(again) == 90
    assert len(replayed) == 40
    own = again[again["nlb"] == 1]
    own = own[np.argsort(own["slba"])]
    assert own["slba"].tolist() == replayed["slba"].tolist()
    took = [rows["complete_ns"] - rows["submit_ns"] for rows in (own, replayed)]
    assert (took[1] >= took[0]).all()  # it looks at the clock outside of the other
    assert np.median(took[1] - took[0]) < 1e6


async def test_an_empty_trace(place: Place) -> None:
    """Nothing to do, at any speed."""
    async with place.open(place.nvm_512) as ns:
        for speed in (1.0, None):
            assert len(await aionvme.replay(np.zeros(0, aionvme.TRACE), ns, speed=speed)) == 0


def changed(**fields: int) -> Any:
    """A change of the third command of a trace."""

    def change(trace: Any, ns: aionvme.Namespace) -> Any:
        trace = trace.copy()
        for name, value in fields.items():
            trace[name][2] = value
        return trace

    return change


REFUSED = {
    "other blocks": (changed(block_bytes=520), "520 bytes"),
    "zones": (changed(zsze=16), "zones of 16 blocks"),
    "beyond the end": (lambda trace, ns: changed(slba=ns.nsze)(trace, ns), "beyond the end"),
    "over the end": (
        lambda trace, ns: changed(slba=ns.nsze - 1, nlb=2, cdw12=1, len_bytes=1024)(trace, ns),
        "beyond the end",
    ),
    "far beyond": (changed(slba=2**64 - 1), "beyond the end"),
    "too long": (changed(nlb=65536, cdw12=65535, len_bytes=65536 * 512), "at most"),
    "other length": (changed(len_bytes=4096), "len_bytes = 4096"),
    "other nlb": (changed(nlb=7), "nlb = 7"),
    "flush with data": (changed(opcode=0), "nlb = 1"),
    "dataset management": (changed(opcode=9), "opcode"),
    "copy": (changed(opcode=0x19), "data that no trace has"),
    "unknown": (changed(opcode=0xC1), "data that no trace has"),
    "descriptor extension": (changed(opcode=SEND, action=0x10), "data that no trace has"),
    "other action": (changed(opcode=SEND, nlb=0, len_bytes=0, cdw13=0x10, action=4), "action = 0x4"),
    "no select_all": (changed(opcode=SEND, nlb=0, len_bytes=0, cdw13=0x104, action=4), "select_all = False"),
    "no trace": (lambda trace, ns: trace.tolist(), "list"),
    "numbers": (lambda trace, ns: trace["slba"], "uint64"),
    "two dimensions": (lambda trace, ns: trace.reshape(2, 20), "2 dimensions"),
}


@pytest.mark.parametrize("case", REFUSED)
async def test_what_does_not_fit_is_refused(place: Place, tmp_path: Path, case: str) -> None:
    """UsageError that says why, with nothing sent, not even the commands before."""
    trace, _ = await traced(place, place.nvm_512, tmp_path / "run.npy", read_one_by_one)
    change, reason = REFUSED[case]
    async with place.open(place.nvm_512) as ns:
        before = ns._io.submitted
        with pytest.raises(aionvme.UsageError, match=reason):
            await aionvme.replay(change(trace, ns), ns)
        assert ns._io.submitted == before


@pytest.mark.parametrize("speed", [0, -1, math.nan, math.inf, "fast"])
async def test_speeds_that_are_none(place: Place, speed: Any) -> None:
    """UsageError for what is no number above 0."""
    async with place.open(place.nvm_512) as ns:
        with pytest.raises(aionvme.UsageError, match="speed="):
            await aionvme.replay(np.zeros(0, aionvme.TRACE), ns, speed=speed)


async def test_a_closed_namespace(place: Place, tmp_path: Path) -> None:
    """ClosedError where it is closed; and where it closes in the middle, once its commands have completed."""
    trace, _ = await traced(place, place.nvm_512, tmp_path / "run.npy", read_one_by_one)
    trace["submit_ns"][20:] += 3_600_000_000_000
    trace["complete_ns"][20:] += 3_600_000_000_000
    async with anyio.create_task_group() as tasks:
        async with place.open(place.nvm_512) as ns:
            ended: list[float] = []

            async def replay() -> None:
                with pytest.raises(aionvme.ClosedError):
                    await aionvme.replay(trace, ns, speed=12_000)
                ended.append(time.monotonic())

            tasks.start_soon(replay)
            while ns._io.submitted < 10:
                await anyio.lowlevel.checkpoint()
        assert ns._io.in_flight == 0
    assert ended
    with pytest.raises(aionvme.ClosedError):
        await aionvme.replay(trace, ns)
