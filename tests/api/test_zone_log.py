"""The log over zones: what is appended is found again, whatever happens to the zones, the tasks and the process."""

import random
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest

import aionvme
from aionvme import ZoneLog, ZoneState
from tests.conftest import EMULATED, IN_VM, RAW, Place, guest

pytestmark = [pytest.mark.anyio, pytest.mark.feature("log over zones")]

PROJECT = Path(__file__).resolve().parents[2]
BLOCK = 4096
DICE = random.Random(5)
ZONE = 1024  # blocks: 4 MiB
CAPACITY = 768  # blocks: 3 MiB
HEADER = struct.Struct("<8sQQQIII")
"""A frame's header, as aionvme/log/frame.py draws it: magic, sequence, offset, total, length, moves, CRC-32."""


def frame(sequence: int, offset: int, total: int, payload: bytes) -> bytes:
    """A frame that was never moved, put together by hand."""
    head = struct.pack("<8sQQQII", b"aionvlog", sequence, offset, total, len(payload), 0)
    whole = head + struct.pack("<I", zlib.crc32(head + payload)) + payload
    return whole.ljust(-(-len(whole) // BLOCK) * BLOCK, b"\0")


def some(length: int, seed: int = 0) -> bytes:
    """So many bytes that no other record has."""
    return random.Random(length * 1000 + seed).randbytes(length)


@pytest.fixture
async def zones(zns: aionvme.Namespace) -> list[aionvme.Zone]:
    """Four empty zones."""
    await zns.zones.refresh()
    return zns.zones[2:6]


LENGTHS = (0, 1, 4052, 4053, 8148, 8149, 100_000, 131_028, 131_029, 1_000_000)
"""Around the ends of one block, of two, and of one append (128 KiB), a header of 44 bytes included."""


async def test_records_of_any_length(zns: aionvme.Namespace, zones: list[aionvme.Zone]) -> None:
    """Each is read back by its number, in the order of appending, from where the log says that it is, and takes the blocks that
    its frames need."""
    log = await ZoneLog.create(zns, zones)
    records = [await log.append(some(length)) for length in LENGTHS]
    assert [record.len_bytes for record in records] == list(LENGTHS)
    assert [record.sequence for record in log] == list(range(len(LENGTHS)))
    for record, length in zip(records, LENGTHS, strict=True):
        assert await log.read(record) == await log.read(record.sequence) == some(length)
        assert sum(extent.len_bytes for extent in record.extents) == length
        for extent in record.extents:
            found = HEADER.unpack_from((await zns.read(extent.lba, extent.nlb)).data)
            assert found[:5] == (b"aionvlog", record.sequence, extent.offset, length, extent.len_bytes)
    assert [len(record.extents) for record in records] == [1] * 8 + [2, 8]
    assert [sum(extent.nlb for extent in record.extents) for record in records[:9]] == [1, 1, 1, 2, 2, 3, 25, 32, 33]
    written = sum(extent.nlb for record in records for extent in record.extents)
    assert log.appended_blocks == written == sum(zone.written for zone in zones)


async def test_frames_are_what_their_description_says(zns: aionvme.Namespace, zones: list[aionvme.Zone]) -> None:
    """A record's blocks are those of a frame that is put together by hand."""
    log = await ZoneLog.create(zns, zones)
    record = await log.append(b"one")
    record = await log.append(some(5000))
    (extent,) = record.extents
    assert (await zns.read(extent.lba, extent.nlb)).tobytes() == frame(1, 0, 5000, some(5000))


@pytest.mark.parametrize("width", [1, 3])
async def test_recovery_from_the_zones_alone(zns: aionvme.Namespace, zones: list[aionvme.Zone], width: int) -> None:
    """Records that many tasks appended to one zone or three side by side, into the next ones when they are full, are all found
    again, and the log goes on behind them."""
    log = await ZoneLog.create(zns, zones, width=width, in_flight=8)
    contents: dict[int, bytes] = {}

    async def append(i: int) -> None:
        data = some(DICE.choice((10, 5000, 70_000, 300_000)), i)
        contents[(await log.append(data)).sequence] = data

    async with anyio.create_task_group() as tasks:
        for i in range(50):
            tasks.start_soon(append, i)
    if width == 3:
        first = {extent.lba // ZONE for record in log for extent in record.extents[:1]}
        assert len(first) >= 3
    again = await ZoneLog.recover(zns, zones, width=width)
    assert [record.sequence for record in again] == sorted(contents) == list(range(50))
    assert list(again) == list(log)
    added = await again.append(b"after")
    assert added.sequence == 50
    for sequence, data in contents.items():
        assert await again.read(sequence) == data
    assert again.damaged_blocks == 0
    assert await zns.zones.check() == []


async def test_a_full_log(zns: aionvme.Namespace, zones: list[aionvme.Zone]) -> None:
    """Where a record does not fit nothing of it is written; smaller ones go in, to the last block; reclaiming makes room."""
    log = await ZoneLog.create(zns, zones[:2])
    big = some(1_000_000)
    for _ in range(6):
        await log.append(big)
    before = [zone.written for zone in zones[:2]]
    for _ in range(2):
        with pytest.raises(aionvme.LogFullError, match="2 zones"):
            await log.append(big)
    assert [zone.written for zone in zones[:2]] == before
    for i in range(2 * CAPACITY - sum(before)):
        await log.append(b"%d" % i)
    assert [zone.zs for zone in zones[:2]] == [ZoneState.FULL] * 2
    with pytest.raises(aionvme.LogFullError, match="reclaim"):
        await log.append(b"")
    assert await log.reclaim() is None
    for record in list(log):
        log.discard(record)
    assert await log.reclaim(lambda usages: None) is None
    usage = await log.reclaim()
    assert usage is not None
    assert (usage.written, usage.live) == (CAPACITY, 0)
    assert await log.read(await log.append(big)) == big


async def test_reclaiming_moves_what_is_still_in_the_log(zns: aionvme.Namespace, zones: list[aionvme.Zone]) -> None:
    """A zone of which half was discarded is emptied: the rest is moved and keeps its numbers, contents and order, also for
    recovery; what was moved is counted."""
    log = await ZoneLog.create(zns, zones, spare=1)
    per_zone = CAPACITY // 32
    payload = 32 * BLOCK - HEADER.size
    for i in range(2 * per_zone):
        await log.append(some(payload, i))
    for sequence in range(0, per_zone, 2):
        log.discard(sequence)
    asked: list[Any] = []

    def first_zone(usages: Any) -> Any:
        asked.extend(usages)
        return next(usage for usage in usages if usage.zone == zones[0])

    assert log.free_zones == 2
    usage = await log.reclaim(first_zone)
    assert usage == (zones[0], CAPACITY, CAPACITY // 2, per_zone - 1)
    assert [usage.zone for usage in asked] == zones[:2]
    assert (zones[0].zs, zones[2].written, log.free_zones) == (ZoneState.EMPTY, CAPACITY // 2, 2)
    assert (log.appended_blocks, log.moved_blocks) == (2 * CAPACITY, CAPACITY // 2)
    kept = [i for i in range(2 * per_zone) if i >= per_zone or i % 2]
    for found in (log, await ZoneLog.recover(zns, zones, spare=1)):
        assert [record.sequence for record in found] == kept
        for i in kept:
            assert await found.read(i) == some(payload, i)
    with pytest.raises(aionvme.UsageError, match="record 0 is not in the log"):
        await log.read(0)
    with pytest.raises(aionvme.UsageError, match="record 0"):
        log.discard(0)


async def test_a_record_that_is_split_when_it_is_moved(zns: aionvme.Namespace, zones: list[aionvme.Zone]) -> None:
    """A frame that does not fit what is left of a zone is moved in pieces; a copy and its original side by side, as a crash in
    between leaves them, are one record."""
    log = await ZoneLog.create(zns, zones[:3])
    payload = 32 * BLOCK - HEADER.size
    for i in range(CAPACITY // 32):
        await log.append(some(payload, i))
    await log.append(some((CAPACITY - 10) * BLOCK - 24 * HEADER.size))
    keep = CAPACITY // 32 - 1
    for record in list(log):
        if record.sequence != keep:
            log.discard(record)
    assert zones[1].room == 10
    await log.reclaim()
    assert [extent.nlb for extent in log[keep].extents] == [10, 23]
    assert await log.read(keep) == some(payload, keep)
    # As if the zone had not been reset: the original in one piece, beside its copy in two.
    await zns.zone_append(zones[0].zslba, frame(keep, 0, payload, some(payload, keep)))
    await zns.zones.refresh()
    found = await ZoneLog.recover(zns, zones[:3])
    assert await found.read(keep) == some(payload, keep)


async def test_reading_while_reclaiming(zns: aionvme.Namespace, zones: list[aionvme.Zone]) -> None:
    """Tasks that read all the time never see anything but what was appended, while zones are emptied under them."""
    log = await ZoneLog.create(zns, zones, spare=1)
    for i in range(60):
        await log.append(some(60_000, i))

    async def read() -> None:
        while True:
            i = DICE.randrange(1, 60, 2)
            assert await log.read(i) == some(60_000, i)

    async with anyio.create_task_group() as tasks:
        for _ in range(4):
            tasks.start_soon(read)
        for i in range(0, 60, 2):
            log.discard(i)
        for _ in range(3):
            await log.reclaim()
        await anyio.sleep(0.01)
        tasks.cancel_scope.cancel()
    assert log.moved_blocks > 0


async def test_damage_is_noticed(zns: aionvme.Namespace, zones: list[aionvme.Zone]) -> None:
    """Recovery finds the frames around one that is damaged, and says how many blocks were; a record without one of its parts is
    not there; a record that changes after it was found raises DamagedRecordError."""
    damaged = bytearray(frame(2, 0, 5000, some(5000)))
    damaged[4500] ^= 1
    lost_part = frame(4, 4, 8, b"half")
    parts = [frame(0, 0, 3, b"one"), bytes(damaged), lost_part, frame(3, 0, 5, b"three")]
    for part in parts:
        await zns.zone_append(zones[1].zslba, part)
    await zns.zones.refresh()
    log = await ZoneLog.recover(zns, zones[:2])
    assert [record.sequence for record in log] == [0, 3]
    assert (await log.read(0), await log.read(3), log.damaged_blocks) == (b"one", b"three", 2)
    record = await log.append(b"next")
    assert record.sequence == 5
    await zns.reset_zone(zones[1].zslba)
    await zns.zone_append(zones[1].zslba, bytes(damaged))
    with pytest.raises(aionvme.DamagedRecordError, match="record 0"):
        await log.read(0)


async def test_what_is_no_log(zns: aionvme.Namespace, zones: list[aionvme.Zone]) -> None:
    """Zones with something else in them are refused; empty ones are an empty log."""
    assert len(await ZoneLog.recover(zns, zones)) == 0
    await zns.zones[2].append(b"x" * BLOCK)
    with pytest.raises(aionvme.UsageError, match="somebody else's"):
        await ZoneLog.recover(zns, zones)


async def test_a_zone_of_somebody_elses(zns: aionvme.Namespace, zones: list[aionvme.Zone]) -> None:
    """Among a log's zones, one that holds nothing of it is neither reclaimed nor written to, whatever a log is short of."""
    log = await ZoneLog.create(zns, zones[:2])
    theirs, mine = zones[2], some(3 * BLOCK)
    await theirs.reset()
    await theirs.append(b"x" * BLOCK)
    record = await log.append(mine)
    log = await ZoneLog.recover(zns, zones)
    assert (log.strange_zones, log.damaged_blocks) == ([theirs], 1)
    assert theirs not in [usage.zone for usage in log.usage()]
    with pytest.raises(aionvme.LogFullError):
        while True:
            log.discard(await log.append(some(20 * BLOCK)))
    while await log.reclaim() is not None:
        pass
    await log.append(mine)
    assert await log.read(record) == mine
    await theirs.refresh()
    assert (await zns.read(theirs.zslba, 1)).tobytes() == b"x" * BLOCK
    assert theirs.written == 1
    await theirs.reset()
    assert (await ZoneLog.recover(zns, zones)).strange_zones == []


async def test_a_zone_that_takes_no_more(zns: aionvme.Namespace, zones: list[aionvme.Zone]) -> None:
    """Where a zone was made full behind the log's back its next records go elsewhere, and none is lost."""
    log = await ZoneLog.create(zns, zones, width=2)
    for i in range(4):
        await log.append(some(50_000, i))
    await zns.finish_zone(zones[0].zslba)
    await anyio.lowlevel.checkpoint()
    for i in range(4, 30):
        await log.append(some(50_000, i))
    for i in range(30):
        assert await log.read(i) == some(50_000, i)
    assert [record.sequence for record in await ZoneLog.recover(zns, zones)] == list(range(30))


async def test_appends_that_are_cancelled(zns: aionvme.Namespace, zones: list[aionvme.Zone]) -> None:
    """Tasks are cancelled in the middle of their records, over and over: the others' records are all there, zones that got not as
    much as they were given are finished, and active resources do not leak."""
    log = await ZoneLog.create(zns, zones, width=2, spare=1)
    kept: dict[int, bytes] = {}

    async def append(i: int) -> None:
        data = some(200_000, i)
        kept[(await log.append(data)).sequence] = data

    for i in range(40):
        with anyio.move_on_after(DICE.random() * 0.004):
            await append(i)
        if log.free_zones < 2:
            for record in list(log)[:-8]:
                log.discard(record)
                del kept[record.sequence]
            await log.reclaim()
    for sequence, data in kept.items():
        assert await log.read(sequence) == data
    found = await ZoneLog.recover(zns, zones, spare=1)
    assert set(kept) <= {record.sequence for record in found}
    assert len(zns.zones.holders()) <= 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"width": 0}, "width = 0"),
        ({"in_flight": 0}, "in_flight = 0"),
        ({"spare": 4}, "0 to 3"),
        ({"spare": -1}, "0 to 3"),
    ],
)
async def test_misuse(
    zns: aionvme.Namespace, zones: list[aionvme.Zone], arguments: dict[str, Any], message: str
) -> None:
    """What makes no sense is refused before a zone is touched."""
    await zones[0].append(b"x" * BLOCK)
    with pytest.raises(aionvme.UsageError, match=message):
        await ZoneLog.create(zns, zones, **arguments)
    for wrong in ([], [zones[0], zones[0]]):
        with pytest.raises(aionvme.UsageError, match="at least one zone, each once"):
            await ZoneLog.create(zns, wrong)
    assert zones[0].written == 1


@pytest.mark.timeout(300)
# Not through the polled queue: Linux 6.1 crashes where a process is killed that has polled commands in flight.
@pytest.mark.parametrize("place", [guest()[0] if IN_VM else EMULATED], ids=lambda place: place.queue)
def test_a_writer_that_is_killed_over_and_over(place: Place, tmp_path: Path) -> None:
    """After each SIGKILL the log has every record that was acknowledged and not discarded, also where it was reclaiming."""
    target = place.zns_zrwa if IN_VM else f"{place.zns_zrwa}&file={tmp_path}/image"
    kills = 40 if RAW else 100 if IN_VM else 200  # a guest takes a second for each, and there are two of them
    command = [sys.executable, "-m", "tests.api.log_writer", target, place.queue, str(kills), "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, cwd=PROJECT)
    assert done.returncode == 0, done.stderr
    rounds, acknowledged, reclaimed, cut_short = map(int, done.stdout.split())
    assert rounds == kills
    assert acknowledged > 5 * kills
    assert reclaimed > kills // 10
    assert cut_short > kills // 40
