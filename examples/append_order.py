"""Orders of appends, and readers that cope: ``python examples/append_order.py [TARGET...] [--full] [--figure OUT.png]``.

Records of different sizes are appended to one zone, many at a time. How far apart are the orders in which they were submitted,
lie on the zone, and completed? Two readers put the stream together again: one by the LBAs that the appends returned, one from the
zone alone, by sequence numbers in the records. Each TARGET is a zoned namespace; all its zones are reset.
"""

import argparse
import asyncio
import zlib
from struct import Struct

import numpy as np
from numpy.typing import NDArray

import aionvme

TARGETS = [
    "emu:zns?zone_size=16MiB&model=flash&channels=4&dies=2&zone_dies=4",
    "emu:zns?zone_size=16MiB&latency=100us-2ms",
]
HEADER = Struct("<IIII")  # magic, sequence number, length of the payload, its CRC-32
MAGIC = 0x6F726472
MOST_BYTES = 32 << 10


def record(sequence: int, payload: bytes, lba_size: int) -> bytes:
    """A record as it lies on the zone: whole blocks."""
    data = HEADER.pack(MAGIC, sequence, len(payload), zlib.crc32(payload)) + payload
    return data + bytes(-len(data) % lba_size)


def parse(data: memoryview) -> tuple[int, bytes]:
    """Number and payload of the record at the start of some data."""
    magic, sequence, length, crc = HEADER.unpack_from(data)
    payload = bytes(data[HEADER.size : HEADER.size + length])
    assert magic == MAGIC
    assert zlib.crc32(payload) == crc
    return sequence, payload


async def append(ns: aionvme.Namespace, records: list[bytes], in_flight: int) -> tuple[list[int], list[int]]:
    """Append them all, so many at a time; the LBA of each, and their numbers in the order of completion."""
    await ns.reset_zone(select_all=True)
    await ns.zones.refresh()
    zone = ns.zones[0]
    lbas = [-1] * len(records)
    completed: list[int] = []
    left = iter(enumerate(records))

    async def work() -> None:
        for sequence, data in left:
            lbas[sequence] = await zone.append(data)
            completed.append(sequence)

    async with asyncio.TaskGroup() as group:
        for _ in range(in_flight):
            group.create_task(work())
    return lbas, completed


async def read_by_index(ns: aionvme.Namespace, extents: list[tuple[int, int]]) -> bytes:
    """The stream, by where each record is and how many blocks it has: whoever appended has kept that."""
    records = await asyncio.gather(*(ns.read(lba, nlb) for lba, nlb in extents))
    return b"".join(parse(data.data)[1] for data in records)


async def read_by_sequence(ns: aionvme.Namespace) -> tuple[bytes, int]:
    """The stream from the zone alone, from its start to its write pointer, and the most records that had to be held back because
    one before them was still to come."""
    zone = ns.zones[0]
    await zone.refresh()
    data = (await ns.read(zone.zslba, zone.written)).data
    early: dict[int, bytes] = {}
    stream: list[bytes] = []
    at = most = 0
    while at < len(data):
        sequence, payload = parse(data[at:])
        at += -(-(HEADER.size + len(payload)) // ns.lba_size) * ns.lba_size
        early[sequence] = payload
        while len(stream) in early:
            stream.append(early.pop(len(stream)))
        most = max(most, len(early))
    assert not early  # nothing is missing
    return b"".join(stream), most


def disorder(numbers: list[int] | NDArray[np.int64]) -> str:
    """Of all pairs, how many are the wrong way round; and how far the farthest is from its place in order."""
    rank = np.argsort(np.argsort(numbers))
    places = np.arange(rank.size)
    inversions = int((np.triu(rank[:, None] > rank[None, :], 1)).sum())
    return f"{inversions / (rank.size * (rank.size - 1) / 2):8.2%} {int(abs(rank - places).max()):4}"


def draw(orders: dict[str, tuple[list[int], list[int]]], in_flight: int, file: str) -> None:
    """Submission against LBA, a panel for each target; the colour is the order of completion."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6 * len(orders), 5), layout="constrained")
    panels = figure.subplots(1, len(orders), squeeze=False)[0]
    for axes, (target, (lbas, completed)) in zip(panels, orders.items(), strict=True):
        points = axes.scatter(range(len(lbas)), lbas, s=14, c=np.argsort(completed), cmap="viridis")
        axes.set(xlabel="order of submission", ylabel="LBA")
        axes.set_title(f"{target}, {in_flight} in flight", fontsize=8)
        axes.grid(alpha=0.3)
    figure.colorbar(points, ax=panels, label="order of completion")
    figure.savefig(file, dpi=110)


async def main(targets: list[str], full: bool, file: str | None) -> None:
    """The three orders, and the two readers."""
    random = np.random.default_rng(1)
    sizes = random.integers(1, MOST_BYTES - HEADER.size, 400 if full else 100)
    payloads = [random.bytes(int(size)) for size in sizes]
    concurrency = [1, 2, 4, 8, 16, 32, 64] if full else [1, 8, 64]
    orders = {}
    for target in targets:
        print(target)
        print("           inversions, and how far off the farthest is")
        print("in flight  LBA/submitted completed/LBA  compl./submitted  held back by the reader")
        for in_flight in concurrency:
            async with aionvme.open(target) as ns:
                fitting = payloads[: ns.zones[0].zcap * ns.lba_size // MOST_BYTES]
                records = [record(sequence, payload, ns.lba_size) for sequence, payload in enumerate(fitting)]
                lbas, completed = await append(ns, records, in_flight)
                stream, held = await read_by_sequence(ns)
                extents = [(lba, len(data) // ns.lba_size) for lba, data in zip(lbas, records, strict=True)]
                assert stream == await read_by_index(ns, extents) == b"".join(fitting)
            orders[target] = lbas, completed
            print(
                f"{in_flight:9}  {disorder(lbas)} {disorder([lbas[n] for n in completed])}   {disorder(completed)}  {held:10}"
            )
        print(f"both readers have the stream: {len(stream)} bytes in {len(fitting)} records")
    if file:
        draw(orders, concurrency[-1], file)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("targets", nargs="*", default=TARGETS, metavar="TARGET")
    parser.add_argument("--full", action="store_true", help="append more records, at more depths")
    parser.add_argument("--figure", metavar="OUT.png", help="draw a figure (extra: plots)")
    arguments = parser.parse_args()
    asyncio.run(main(arguments.targets, arguments.full, arguments.figure))
