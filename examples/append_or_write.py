"""Appends against writes, in one zone and in many: ``python examples/append_or_write.py [TARGET] [--full] [--figure OUT.png]``.

A write has to arrive at its zone's write pointer, so writes to a zone go one after the other, which ``Zone.write`` sees to.
Appends to it are in flight together, and the device says where each went. TARGET is a zoned namespace; all its zones are reset.
"""

import argparse
import asyncio
import time

import numpy as np

import aionvme

TARGET = "emu:zns?zones=16&zone_size=64MiB&model=flash&channels=8&dies=2&zone_dies=4"
COMMAND_BYTES = 16 << 10
MANY = 4

Curves = dict[tuple[str, int], list[float]]
"""Commands per second for each number of tasks, by command and number of zones."""


async def measure(ns: aionvme.Namespace, kind: str, nr_zones: int, tasks: int, seconds: float) -> tuple[int, float]:
    """Have so many tasks await one command after the other, each to one of the zones. How many were sent, and how many per
    second."""
    await ns.reset_zone(select_all=True)
    await ns.zones.refresh()
    nlb = COMMAND_BYTES // ns.lba_size
    zones = ns.zones[:nr_zones]
    rooms = [iter(range(zone.zcap // nlb)) for zone in zones]
    lbas: list[int] = []

    async def work(task: int) -> None:
        zone = zones[task % nr_zones]
        data = np.zeros(COMMAND_BYTES, np.uint8)
        for _ in rooms[task % nr_zones]:  # shared by the zone's tasks, so it ends when the zone is full
            number = len(lbas)
            lbas.append(-1)
            data.view(np.uint64)[0] = number
            lbas[number] = await (zone.append(data) if kind == "append" else zone.write(data))
            if time.perf_counter() > end:
                break

    start = time.perf_counter()
    end = start + seconds
    async with asyncio.TaskGroup() as group:
        for task in range(tasks):
            group.create_task(work(task))
    elapsed = time.perf_counter() - start
    await check(ns, zones, lbas, nlb)
    return len(lbas), len(lbas) / elapsed


async def check(ns: aionvme.Namespace, zones: list[aionvme.Zone], lbas: list[int], nlb: int) -> None:
    """Every command is where its result said that it is, and there is nothing else in the zones."""
    written = [lba for zone in zones for lba in range(zone.zslba, zone.zslba + zone.written, nlb)]
    assert sorted(lbas) == written
    assert not await ns.zones.check()  # the device reports the same write pointers
    blocks = np.empty((len(lbas), ns.lba_size), np.uint8)
    done = await ns.read_many(lbas, 1, blocks)
    assert not done["status"].any()
    assert not done["errno"].any()
    assert (blocks.view(np.uint64)[:, 0] == np.arange(len(lbas))).all()


def draw(concurrency: list[int], curves: Curves, target: str, file: str) -> None:
    """Commands per second over the number of tasks."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    for (kind, nr_zones), rates in curves.items():
        style = ("-" if nr_zones == 1 else "--") + ("o" if kind == "append" else "s")
        colour = "tab:blue" if kind == "append" else "tab:orange"
        axes.plot(concurrency, rates, style, color=colour, label=f"{kind}, {nr_zones} zone{'s' * (nr_zones > 1)}")
    axes.set_xscale("log", base=2)
    axes.set_yscale("log", base=2)
    axes.set_xticks(concurrency, map(str, concurrency))
    axes.yaxis.set_major_formatter("{x:,.0f}")
    axes.set(xlabel="tasks", ylabel=f"commands of {COMMAND_BYTES >> 10} KiB per second")
    axes.set_title(target, fontsize=8)
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(file, dpi=110)


async def main(target: str, full: bool, file: str | None) -> None:
    """Four curves: appends and writes, in one zone and in many."""
    concurrency = [1, 2, 4, 8, 16, 32, 64] if full else [1, 4, 16]
    async with aionvme.open(target, depth=concurrency[-1]) as ns:
        many = min(MANY, ns.nr_zones, ns.mor or MANY)
        curves: Curves = {(kind, zones): [] for zones in (1, many) for kind in ("append", "write")}
        print("commands per second")
        print("tasks", *(f"{f'{kind}, {zones} zone(s)':>18}" for kind, zones in curves))
        sent = 0
        for tasks in concurrency:
            for (kind, zones), rates in curves.items():
                n, rate = await measure(ns, kind, zones, tasks, seconds=0.4 if full else 0.08)
                sent += n
                rates.append(rate)
            print(f"{tasks:5}", *(f"{rates[-1]:18,.0f}" for rates in curves.values()))
    print(f"{sent} commands, each found where its result said that it is")
    if file:
        draw(concurrency, curves, target, file)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target", nargs="?", default=TARGET)
    parser.add_argument("--full", action="store_true", help="measure more points, each for longer")
    parser.add_argument("--figure", metavar="OUT.png", help="draw a figure (extra: plots)")
    arguments = parser.parse_args()
    asyncio.run(main(arguments.target, arguments.full, arguments.figure))
