"""The program of zone_append.py on trio: ``python examples/zone_append_trio.py [TARGET]``."""

import sys

import trio

import aionvme

TASKS = 16


async def append(ns: aionvme.Namespace, task: int, where: dict[int, int]) -> None:
    """Append one block, and note which LBA it got."""
    record = f"record of task {task}".encode().ljust(ns.lba_size, b"\0")
    where[task] = await ns.zone_append(0, record)


async def main(target: str) -> None:
    """Append concurrently, then read every record where its append said that it is."""
    async with aionvme.open(target) as ns:
        await ns.reset_zone(0)
        where: dict[int, int] = {}
        async with trio.open_nursery() as nursery:
            for task in range(TASKS):
                nursery.start_soon(append, ns, task, where)
        for task, lba in sorted(where.items()):
            record = (await ns.read(lba, 1)).tobytes().rstrip(b"\0").decode()
            assert record == f"record of task {task}"
            print(f"task {task:2} -> LBA {lba:#x}: {record}")
        (zone,) = await ns.report_zones(nr_zones=1)
        print(f"zone 0 is {aionvme.ZoneState(zone['zs']).name}, its write pointer at {zone['wp']:#x}")


if __name__ == "__main__":
    trio.run(main, sys.argv[1] if len(sys.argv) > 1 else "emu:zns?latency=20us-200us")
