"""A cache of tensors on zones: ``python examples/tensor_cache.py [TARGET] [--full] [--figure OUT.png]``.

Model servers keep blocks of attention keys and values on NVMe and want many of them at once. Here blocks are appended to zones,
an index in memory tells where each is, and a batch of them is read with one await, straight into one array of tensors. When all
zones are in use, the oldest is reset with all that it holds. TARGET is a zoned namespace; all its zones are reset.
"""

import argparse
import asyncio
import time
from collections.abc import Awaitable, Callable

import numpy as np
from numpy.typing import NDArray

import aionvme

TARGET = "emu:zns?zones=16&zone_size=2MiB&model=flash&channels=4&dies=2&zone_dies=4&read=100us"
SHAPE = (2, 16, 256)  # keys and values of 16 tokens
DTYPE = np.float32
ZONES = 4
ZONE_BLOCKS = 64
"""Most blocks of a zone that are used, so that the experiment is the same whatever the size of zones."""
BLOCK_BYTES = int(np.prod(SHAPE)) * np.dtype(DTYPE).itemsize

Tensors = NDArray[np.float32]


class Cache:
    """Tensors by key, on zones that are filled in turn. One task uses it at a time."""

    def __init__(self, ns: aionvme.Namespace, zones: list[aionvme.Zone]) -> None:
        self._ns = ns
        self._zones = zones
        self._nlb = BLOCK_BYTES // ns.lba_size
        self._zone_blocks = min(ZONE_BLOCKS, zones[0].zcap // self._nlb)
        self.capacity = len(zones) * self._zone_blocks
        self._current = self._room = 0
        self._keys: dict[int, list[int]] = {zone.zslba: [] for zone in zones}
        self._lbas: dict[int, int] = {}
        self.evicted = 0

    def __len__(self) -> int:
        return len(self._lbas)

    def __contains__(self, key: int) -> bool:
        return key in self._lbas

    async def put(self, keys: list[int], tensors: Tensors) -> None:
        """Append new blocks, as many of them at once as the zone has room for."""
        while keys:
            if not self._room:
                await self._next_zone()
            n = min(self._room, len(keys))
            zslba = self._zones[self._current].zslba
            done = await self._ns.append_many([zslba] * n, self._nlb, tensors[:n])
            assert not done["status"].any()
            assert not done["errno"].any()
            self._lbas.update(zip(keys[:n], done["result"].tolist(), strict=True))
            self._keys[zslba] += keys[:n]
            self._room -= n
            keys, tensors = keys[n:], tensors[n:]

    async def _next_zone(self) -> None:
        """Go on in the zone that was filled first, without what it held."""
        await self._zones[self._current].finish()
        self._current = (self._current + 1) % len(self._zones)
        zone = self._zones[self._current]
        for key in self._keys[zone.zslba]:
            del self._lbas[key]
        self.evicted += len(self._keys[zone.zslba])
        self._keys[zone.zslba] = []
        await zone.reset()
        self._room = self._zone_blocks

    async def read_many(self, keys: list[int], into: Tensors) -> None:
        """Blocks that are there, with one await."""
        done = await self._ns.read_many([self._lbas[key] for key in keys], self._nlb, into)
        assert not done["status"].any()
        assert not done["errno"].any()

    async def read_gathered(self, keys: list[int], into: Tensors) -> None:
        """The same with a task for each block, all at once."""
        reads = (self._ns.read(self._lbas[key], self._nlb, into=into[i]) for i, key in enumerate(keys))
        await asyncio.gather(*reads)

    async def read_in_turn(self, keys: list[int], into: Tensors) -> None:
        """The same with an await for each block, one after the other."""
        for i, key in enumerate(keys):
            await self._ns.read(self._lbas[key], self._nlb, into=into[i])


def made_up(keys: list[int]) -> Tensors:
    """What a model would compute: tensors that show whose they are."""
    return np.broadcast_to(np.reshape(keys, (-1, 1, 1, 1)), (len(keys), *SHAPE)).astype(DTYPE)


async def serve(ns: aionvme.Namespace, batch: int, turns: int) -> tuple[float, int, dict[str, float]]:
    """Ask for as many keys as the cache has room for, so many times, in batches and some more often than others, and put what is
    missing. The hit rate, how many blocks were evicted, and MiB/s of reading hits in each of three ways."""
    await ns.reset_zone(select_all=True)
    await ns.zones.refresh()
    cache = Cache(ns, ns.zones[:ZONES])
    random = np.random.default_rng(1)
    popularity = 1 / np.arange(1, 4 * cache.capacity + 1)
    memory = ns.alloc(batch * BLOCK_BYTES).view(DTYPE).reshape(batch, *SHAPE)
    asked = found = put = 0
    seconds: dict[str, float] = {}
    for i in range(turns * cache.capacity // batch):
        keys = random.choice(popularity.size, batch, replace=False, p=popularity / popularity.sum()).tolist()
        hits = [key for key in keys if key in cache]
        misses = [key for key in keys if key not in cache]
        if hits:
            readers: list[Callable[[list[int], Tensors], Awaitable[None]]]
            readers = [cache.read_many, cache.read_gathered, cache.read_in_turn]
            for read in readers[i % 3 :] + readers[: i % 3]:  # each first as often as the others
                tensors = memory[: len(hits)]
                tensors.fill(-1)
                start = time.perf_counter()
                await read(hits, tensors)
                seconds[read.__name__] = seconds.get(read.__name__, 0) + time.perf_counter() - start
                assert (tensors == made_up(hits)).all()
        await cache.put(misses, made_up(misses))
        asked, found, put = asked + batch, found + len(hits), put + len(misses)
    assert asked == found + put
    assert put == len(cache) + cache.evicted
    assert len(cache) <= cache.capacity
    return (
        found / asked,
        cache.evicted,
        {name: found * BLOCK_BYTES / (1 << 20) / spent for name, spent in seconds.items()},
    )


def draw(batches: list[int], rates: list[dict[str, float]], target: str, file: str) -> None:
    """MiB/s over the size of a batch."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    names = {
        "read_many": "one read_many",
        "read_gathered": "a task for each block",
        "read_in_turn": "one after the other",
    }
    for (name, label), marker in zip(names.items(), "osv", strict=True):
        axes.plot(batches, [rate[name] for rate in rates], f"-{marker}", label=label)
    axes.set_xscale("log", base=2)
    axes.set_xticks(batches, map(str, batches))
    axes.set_ylim(bottom=0)
    axes.set(
        xlabel="blocks asked for at once (hits are read)",
        ylabel=f"MiB/s of blocks of {BLOCK_BYTES >> 10} KiB",
    )
    axes.set_title(target, fontsize=8)
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(file, dpi=110)


async def main(target: str, full: bool, file: str | None) -> None:
    """Hit rate and bandwidth for each size of a batch."""
    batches = [1, 2, 4, 8, 16, 32, 64, 128, 256] if full else [4, 32, 128]
    rates = []
    print("batch  hit rate  evicted  MiB/s: read_many  a task each  in turn")
    async with aionvme.open(target) as ns:
        for batch in batches:
            hit_rate, evicted, rate = await serve(ns, batch, turns=16 if full else 4)
            rates.append(rate)
            print(f"{batch:5} {hit_rate:9.1%} {evicted:8} {rate['read_many']:17.1f}", end=" ")
            print(f"{rate['read_gathered']:12.1f} {rate['read_in_turn']:8.1f}")
    print("every tensor was the one that was asked for")
    if file:
        draw(batches, rates, target, file)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target", nargs="?", default=TARGET)
    parser.add_argument("--full", action="store_true", help="measure more points, each for longer")
    parser.add_argument("--figure", metavar="OUT.png", help="draw a figure (extra: plots)")
    arguments = parser.parse_args()
    asyncio.run(main(arguments.target, arguments.full, arguments.figure))
