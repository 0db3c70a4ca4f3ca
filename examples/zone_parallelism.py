"""Zones over few dies or many: ``python examples/zone_parallelism.py [TARGET] [--full] [--figure OUT.png]``.

How fast are appends to 1, 2, 4... zones at a time, and what has the width of a zone to do with it? Without TARGET the devices
have the same dies in all, and zones that are striped over ``zone_dies`` of them, and the larger for it. A real device has one
geometry, and is measured as it is. TARGET is a zoned namespace; all its zones are reset.
"""

import argparse
import asyncio
import gc
import time

import numpy as np
from numpy.typing import NDArray

import aionvme

DIES = 16
DIE_MIB = 4
"""What a zone holds on each of its dies."""
TARGET = "emu:zns?zones=64&zone_size={size}MiB&model=flash&channels=8&dies=2&zone_dies={zone_dies}"
APPEND_BYTES = 16 << 10


async def measure(ns: aionvme.Namespace, nr_zones: int, appends: int, data: NDArray[np.uint8]) -> tuple[int, float]:
    """Append to so many zones in turn, with as many in flight as the queue is deep, till they are full or it is enough. How many
    it were, and MiB/s."""
    await ns.reset_zone(select_all=True)
    zones = await ns.report_zones(nr_zones=nr_zones)
    nlb = APPEND_BYTES // ns.lba_size
    each = min(int(zones["zcap"].min()) // nlb, appends // nr_zones)
    zslba = np.tile(zones["zslba"], each)
    data = data[: zslba.size]
    start = time.perf_counter()
    done = await ns.append_many(zslba, nlb, data)
    elapsed = time.perf_counter() - start
    await check(ns, zslba, done, data)
    return len(data), data.nbytes / elapsed / (1 << 20)


async def check(
    ns: aionvme.Namespace, zslba: NDArray[np.uint64], done: NDArray[np.void], data: NDArray[np.uint8]
) -> None:
    """Every append is in its zone, where its result said, and they are there without a gap."""
    assert not done["status"].any()
    assert not done["errno"].any()
    assert (done["result"] // ns.zsze * ns.zsze == zslba).all()
    nlb = APPEND_BYTES // ns.lba_size
    each = done["result"].size // np.unique(zslba).size
    for first in np.unique(zslba):
        lbas = np.sort(done["result"][zslba == first])
        assert (lbas == first + np.arange(each, dtype=np.uint64) * nlb).all()
    blocks = np.empty((len(data), ns.lba_size), np.uint8)
    read = await ns.read_many(done["result"], 1, blocks)
    assert not read["status"].any()
    assert not read["errno"].any()
    assert (blocks == data[:, : ns.lba_size]).all()


async def sweep(target: str, open_zones: list[int], appends: int) -> list[tuple[int, float]]:
    """Number of appends and MiB/s for each number of zones, as far as the namespace lets so many be open."""
    found = []
    gc.collect()  # the memory of the device before this one goes now, not while the clock is running
    async with aionvme.open(target) as ns:
        data = ns.alloc(appends * APPEND_BYTES).reshape(appends, APPEND_BYTES)
        data.view(np.uint64)[:, 0] = np.arange(appends)
        most = min(ns.nr_zones, ns.mor or ns.nr_zones)
        for nr_zones in open_zones:
            if nr_zones <= most:
                found.append(await measure(ns, nr_zones, appends, data))
    return found


def draw(open_zones: list[int], curves: dict[str, list[float]], file: str) -> None:
    """MiB/s over the number of zones, by the width of a zone."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    for (name, rates), marker in zip(curves.items(), "osv^D", strict=False):
        axes.plot(open_zones[: len(rates)], rates, f"-{marker}", label=name)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log", base=2)
    axes.set_xticks(open_zones, map(str, open_zones))
    axes.yaxis.set_major_formatter("{x:,.0f}")
    axes.set(xlabel="zones written to at a time", ylabel="MiB/s")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(file, dpi=110)


async def main(target: str | None, full: bool, file: str | None) -> None:
    """A curve for each width of a zone, or one for the device there is."""
    open_zones = [1, 2, 4, 8, 16] if full else [1, 4, 16]
    widths = [1, 2, 4, 8, 16] if full else [1, 4, 16]
    targets = {f"zone_dies={n}": TARGET.format(zone_dies=n, size=DIE_MIB * n) for n in widths}
    if target:
        targets = {"this device": target}
    print(f"MiB/s of appends of {APPEND_BYTES >> 10} KiB, by the number of zones written to at a time")
    print(f"{'zones':>12}", *(f"{nr_zones:7}" for nr_zones in open_zones))
    curves = {}
    sent = 0
    for name, place in targets.items():
        found = await sweep(place, open_zones, appends=4096 if full else 512)
        sent += sum(n for n, _ in found)
        curves[name] = [rate for _, rate in found]
        print(f"{name:>12}", *(f"{rate:7.1f}" for rate in curves[name]))
    print(f"{sent} appends, each found where its result said that it is")
    if file:
        draw(open_zones, curves, file)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target", nargs="?", help="without: emulated devices with zones of several widths")
    parser.add_argument("--full", action="store_true", help="measure more points, each for longer")
    parser.add_argument("--figure", metavar="OUT.png", help="draw a figure (extra: plots)")
    arguments = parser.parse_args()
    asyncio.run(main(arguments.target, arguments.full, arguments.figure))
