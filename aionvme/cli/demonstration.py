"""What ``aionvme demo`` does, apart from showing it: append from many tasks at once, read everything back, provoke an error.

The namespace is emulated, with a seed, delays and limits on zones, so it runs anywhere and completes out of order as a device
would. Whatever turns out other than it should is put into ``problems``.
"""

import asyncio
import hashlib
import time
from collections import defaultdict
from dataclasses import dataclass
from itertools import chain, count, pairwise

from aionvme.errors import NvmeError
from aionvme.namespace import Namespace
from aionvme.nvme.opcodes import ZoneState
from aionvme.nvme.status import StatusCodeType
from aionvme.opening import open_namespace

LATENCY = "seed=7&latency=60us-600us"
ZONED = f"emu:zns?zones=12&zone_size=1MiB&zone_capacity=768KiB&lba=4096&mar=8&mor=4&{LATENCY}"
CONVENTIONAL = f"emu:nvm?size=16MiB&lba=512&mdts=256KiB&{LATENCY}"

TASKS_IN_ZONE = (16, 14, 12, 10, 8, 4)
"""64 tasks over six zones, more than the four that may be open: the device closes some. The first zone becomes full."""

RECORD_BLOCKS = (1, 2, 3, 1, 2, 3)
"""The records that each task appends, one after the other."""

CONVENTIONAL_SLBA = 100
CONVENTIONAL_BYTES = 1 << 20


@dataclass(frozen=True)
class Append:
    """A record: ``order`` counts appends as they were submitted, ``lba`` is where the device says it put it."""

    order: int
    task: int
    record: int
    zslba: int
    nlb: int
    lba: int


@dataclass(frozen=True)
class Zone:
    """A zone afterwards: ``fill`` blocks are written; ``wp`` is None where the state has no write pointer."""

    zslba: int
    zcap: int
    wp: int | None
    zs: str
    fill: int


@dataclass(frozen=True)
class Transfer:
    """A write to the conventional namespace, and the read of the same blocks; ``commands`` is how many each took."""

    target: str
    slba: int
    nlb: int
    len_bytes: int
    commands: int


@dataclass(frozen=True)
class Refusal:
    """A command the device refused, and what its status says."""

    attempt: str
    raised: str
    status: int
    sct: int
    sct_name: str
    sc: int
    dnr: bool
    name: str
    remedy: str


@dataclass(frozen=True)
class Demonstration:
    """All of it. ``overtaken`` counts the appends that landed behind one submitted later to the same zone."""

    target: str
    tasks: int
    lba_size: int
    zsze: int
    mar: int | None
    mor: int | None
    seconds: float
    appends: list[Append]
    overtaken: int
    zones: list[Zone]
    transfer: Transfer
    refusal: Refusal | None
    problems: list[str]


async def demonstrate() -> Demonstration:
    """Do it."""
    problems: list[str] = []
    started = time.perf_counter()
    async with open_namespace(ZONED) as ns:
        appends = await _append_from_many_tasks(ns)
        await ns.open_zone(len(TASKS_IN_ZONE) * ns.zsze)
        zones = await _zones(ns)
        problems += await _verify(ns, appends) + _account(appends, zones)
        refusal = await _provoke(ns, zones[1])
        if refusal is None:
            problems.append("a write that was not at the write pointer was not refused")
        target, lba_size, zsze, mar, mor = ns.target, ns.lba_size, ns.zsze, ns.mar, ns.mor
    async with open_namespace(CONVENTIONAL) as ns:
        transfer, differs = await _write_and_read(ns)
        problems += differs
    return Demonstration(
        target=target,
        tasks=sum(TASKS_IN_ZONE),
        lba_size=lba_size,
        zsze=zsze,
        mar=mar,
        mor=mor,
        seconds=time.perf_counter() - started,
        appends=appends,
        overtaken=_overtaken(appends),
        zones=zones,
        transfer=transfer,
        refusal=refusal,
        problems=problems,
    )


async def _append_from_many_tasks(ns: Namespace) -> list[Append]:
    orders = count(1)

    async def one_task(task: int, zslba: int) -> list[Append]:
        done = []
        for record, nlb in enumerate(RECORD_BLOCKS):
            order = next(orders)
            lba = await ns.zone_append(zslba, _content(task, record, nlb * ns.lba_size))
            done.append(Append(order, task, record, zslba, nlb, lba))
        return done

    # Round robin, so that tasks of all the zones are submitted in turn.
    waiting = [[index * ns.zsze] * tasks for index, tasks in enumerate(TASKS_IN_ZONE)]
    zslbas = [zone.pop() for _ in range(max(TASKS_IN_ZONE)) for zone in waiting if zone]
    per_task = await asyncio.gather(*(one_task(task, zslba) for task, zslba in enumerate(zslbas)))
    return sorted(chain.from_iterable(per_task), key=lambda append: append.order)


def _content(task: int, record: int, len_bytes: int) -> bytes:
    """What a record holds: bytes that no other record, and no other block of this one, has."""
    return hashlib.shake_128(f"task {task}, record {record}".encode()).digest(len_bytes)


async def _verify(ns: Namespace, appends: list[Append]) -> list[str]:
    """Read every record at the LBA its append returned, all at once."""
    read = await asyncio.gather(*(ns.read(append.lba, append.nlb) for append in appends))
    return [
        f"task {append.task}, record {append.record}: LBA {append.lba:#x} holds something else"
        for append, data in zip(appends, read, strict=True)
        if data.tobytes() != _content(append.task, append.record, append.nlb * ns.lba_size)
    ]


def _account(appends: list[Append], zones: list[Zone]) -> list[str]:
    """Records of a zone lie side by side from its start up to its write pointer, without gaps and overlaps."""
    problems = []
    extents = defaultdict(list)
    for append in appends:
        extents[append.zslba].append((append.lba, append.lba + append.nlb))
    for zone in zones:
        end = zone.zslba + zone.fill
        placed = [(zone.zslba, zone.zslba), *sorted(extents[zone.zslba]), (end, end)]
        if any(before[1] != after[0] for before, after in pairwise(placed)):
            problems.append(f"zone {zone.zslba:#x}: its records do not fill {zone.fill} blocks without gap or overlap")
    return problems


async def _zones(ns: Namespace) -> list[Zone]:
    zones = []
    for entry in await ns.report_zones():
        zslba, zcap, zs = int(entry["zslba"]), int(entry["zcap"]), ZoneState(int(entry["zs"]))
        wp = None if zs is ZoneState.FULL else int(entry["wp"])
        zones.append(Zone(zslba, zcap, wp, zs.name, zcap if wp is None else wp - zslba))
    return zones


async def _provoke(ns: Namespace, zone: Zone) -> Refusal | None:
    """Write where a zone begins though its write pointer has moved on."""
    try:
        await ns.write(zone.zslba, bytes(ns.lba_size))
    except NvmeError as error:
        return Refusal(
            attempt=f"a write of 1 block at LBA {zone.zslba:#x}, in a zone whose write pointer is at {zone.wp:#x}",
            raised=type(error).__name__,
            status=int(error.status),
            sct=error.sct,
            sct_name=StatusCodeType(error.sct).name,
            sc=error.sc,
            dnr=error.dnr,
            name=error.status.name,
            remedy="write at the wp that report_zones() gives, or let the device choose the place: zone_append()",
        )
    return None


async def _write_and_read(ns: Namespace) -> tuple[Transfer, list[str]]:
    data = _content(0, 0, CONVENTIONAL_BYTES)
    nlb = len(data) // ns.lba_size
    await ns.write(CONVENTIONAL_SLBA, data)
    read = await ns.read(CONVENTIONAL_SLBA, nlb)
    commands = -(-len(data) // ns.max_transfer_bytes)
    problems = [] if read.tobytes() == data else [f"{ns.target}: LBA {CONVENTIONAL_SLBA:#x} holds something else"]
    return Transfer(ns.target, CONVENTIONAL_SLBA, nlb, len(data), commands), problems


def _overtaken(appends: list[Append]) -> int:
    overtaken = 0
    lowest: dict[int, int] = {}
    for append in reversed(appends):
        lowest_later = lowest.setdefault(append.zslba, append.lba)
        overtaken += lowest_later < append.lba
        lowest[append.zslba] = min(lowest_later, append.lba)
    return overtaken
