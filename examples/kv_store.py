"""A key-value store on a log over zones: ``python examples/kv_store.py [TARGET] [--full] [--figure OUT.png]``.

Every put and delete is a record of the log; an index in memory tells which is a key's newest. The others are taken out of the
log, and where zones run short, one is reclaimed: what of it is still in the log moves, and it is reset. How much is written for
each block that was put (write amplification), by how full the store is and how the zone is chosen? TARGET is a zoned namespace;
all its zones are reset.
"""

import argparse
import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from struct import Struct

import numpy as np

import aionvme

TARGET = "emu:zns?zones=32&zone_size=512KiB&mor=6&mar=8&model=flash&channels=4&dies=2&zone_dies=4"
RECORDS = 32
"""How many records a zone holds, so that the experiment is the same whatever the size of zones."""
TASKS = 16
SPARE = 1
"""Empty zones for what reclaiming moves."""
HEADER = Struct("<HB")  # length of the key, and what the record is
PUT, DELETE = 0, 1

Policy = Callable[[Sequence[aionvme.ZoneUsage]], aionvme.ZoneUsage | None]


def cost_benefit(zones: Sequence[aionvme.ZoneUsage]) -> aionvme.ZoneUsage | None:
    """The zone with most to be gained, for what it costs to read it and move what is live: space, and for how long it is going to
    last, of which the age of the newest record is a sign."""
    now = max((zone.newest for zone in zones), default=0) + 1

    def gain(zone: aionvme.ZoneUsage) -> float:
        live = zone.live / zone.written
        return (1 - live) * (now - zone.newest) / (1 + live)

    best = max(zones, key=gain, default=None)
    return best if best is not None and best.live < best.written else None


POLICIES: dict[str, Policy] = {"least live": aionvme.least_live, "cost-benefit": cost_benefit}


class Store:
    """Values by key. Of puts and deletes of a key at the same time, the one that was called last counts."""

    def __init__(self, log: aionvme.ZoneLog, policy: Policy) -> None:
        self.log = log
        self._policy = policy
        self._newest: dict[bytes, int] = {}
        self._reclaiming = asyncio.Lock()

    @classmethod
    async def recover(cls, ns: aionvme.Namespace, zones: list[aionvme.Zone], policy: Policy) -> "Store":
        """The store that these zones hold."""
        store = cls(await aionvme.ZoneLog.recover(ns, zones, spare=SPARE), policy)
        for record in list(store.log):
            key, _, _ = parse(await store.log.read(record))
            store._learn(key, record.sequence)
        return store

    async def put(self, key: bytes, value: bytes) -> None:
        """Set a key's value."""
        await self._append(key, PUT, value)

    async def delete(self, key: bytes) -> None:
        """Have a key no more. That is a record too, and stays: there may be older ones of the key that recovery finds."""
        await self._append(key, DELETE, b"")

    async def get(self, key: bytes) -> bytes | None:
        """A key's value, None where there is none."""
        if key not in self._newest:
            return None
        _, kind, value = parse(await self.log.read(self._newest[key]))
        return value if kind == PUT else None

    async def _append(self, key: bytes, kind: int, value: bytes) -> None:
        async with self._reclaiming:
            while self.log.free_zones <= SPARE and await self.log.reclaim(self._policy):
                pass
        record = await self.log.append(HEADER.pack(len(key), kind) + key + value)
        self._learn(key, record.sequence)

    def _learn(self, key: bytes, sequence: int) -> None:
        """A record of the key is in the log; the older one goes."""
        known = self._newest.get(key, sequence)
        if known != sequence:
            self.log.discard(min(known, sequence))
        self._newest[key] = max(known, sequence)


def parse(record: bytes) -> tuple[bytes, int, bytes]:
    """Key, kind and value."""
    length, kind = HEADER.unpack_from(record)
    return record[HEADER.size : HEADER.size + length], kind, record[HEADER.size + length :]


async def measure(
    ns: aionvme.Namespace, nr_zones: int, fill: float, policy: Policy, turns: int
) -> tuple[int, float, float]:
    """Fill a store, overwrite all it has room for so many times, some keys more often than others, and check it. How many
    keys have a value, the write amplification, and changes per second."""
    await ns.reset_zone(select_all=True)
    await ns.zones.refresh()
    zones = ns.zones[:nr_zones]
    store = Store(await aionvme.ZoneLog.create(ns, zones, spare=SPARE), policy)
    random = np.random.default_rng(1)
    keys = [b"key %d" % i for i in range(round(fill * nr_zones * RECORDS))]
    popularity = 1 / random.permutation(np.arange(1, len(keys) + 1)) ** 0.99
    chosen = random.choice(len(keys), turns * nr_zones * RECORDS, p=popularity / popularity.sum()).tolist()
    value_len = zones[0].zcap // RECORDS * ns.lba_size - 64  # the headers have room in the last block
    expected: dict[bytes, bytes] = {}

    async def change(changes: Iterable[tuple[int, bytes]]) -> None:
        """Put a new version of each of these keys, but for each fiftieth, which is deleted."""
        left = iter(changes)  # shared by the tasks

        async def work() -> None:
            for version, key in left:
                if version % 50:
                    expected[key] = b"%d of %s" % (version, key)
                    await store.put(key, expected[key].ljust(value_len, b"."))
                else:
                    expected.pop(key, None)
                    await store.delete(key)

        async with asyncio.TaskGroup() as group:
            for _ in range(TASKS):
                group.create_task(work())

    await change(enumerate(keys))
    appended, moved = -store.log.appended_blocks, -store.log.moved_blocks
    start = time.perf_counter()
    await change(enumerate((keys[i] for i in chosen), len(keys)))
    elapsed = time.perf_counter() - start
    appended, moved = appended + store.log.appended_blocks, moved + store.log.moved_blocks

    for found in store, await Store.recover(ns, zones, policy):
        for key in keys:
            value = await found.get(key)
            assert value == (expected[key].ljust(value_len, b".") if key in expected else None)
    return len(expected), (appended + moved) / appended, len(chosen) / elapsed


def draw(fills: list[float], curves: dict[str, list[float]], target: str, file: str) -> None:
    """Write amplification over how full the store is."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    for (name, found), marker in zip(curves.items(), "os", strict=True):
        axes.plot([100 * fill for fill in fills], found, f"-{marker}", label=name)
    axes.set(xlabel="keys, % of the records that the zones have room for", ylabel="blocks written for each block put")
    axes.set_ylim(bottom=0)
    axes.set_title(target, fontsize=8)
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(file, dpi=110)


async def main(target: str, full: bool, file: str | None) -> None:
    """Write amplification for both policies, from half full to nearly full."""
    fills = [0.5, 0.6, 0.7, 0.8, 0.85] if full else [0.5]
    curves: dict[str, list[float]] = {name: [] for name in POLICIES}
    async with aionvme.open(target) as ns:
        nr_zones = min(32 if full else 10, ns.nr_zones)
        print("fill  policy        keys  write amplification  changes/s")
        for fill in fills:
            for name, policy in POLICIES.items():
                nr_keys, amplification, rate = await measure(ns, nr_zones, fill, policy, turns=8 if full else 1)
                curves[name].append(amplification)
                print(f"{fill:4.0%}  {name:12} {nr_keys:5} {amplification:20.3f} {rate:10.0f}")
    print("every key had its newest value, also after recovery from the zones alone")
    if file:
        draw(fills, curves, target, file)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target", nargs="?", default=TARGET)
    parser.add_argument("--full", action="store_true", help="measure more points, each for longer")
    parser.add_argument("--figure", metavar="OUT.png", help="draw a figure (extra: plots)")
    arguments = parser.parse_args()
    asyncio.run(main(arguments.target, arguments.full, arguments.figure))
