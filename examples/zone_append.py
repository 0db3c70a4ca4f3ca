"""Append to one zone from many tasks at once: ``python examples/zone_append.py [TARGET]``.

The device decides where each record goes and says so in the 64-bit result of the completion. TARGET is a zoned namespace; its
first zone is reset.
"""

import asyncio
import sys

import aionvme

TASKS = 16


async def append(ns: aionvme.Namespace, task: int) -> tuple[int, int]:
    """Append one block, and return which task got which LBA."""
    record = f"record of task {task}".encode().ljust(ns.lba_size, b"\0")
    return task, await ns.zone_append(0, record)


async def main(target: str) -> None:
    """Append concurrently, then read every record where its append said that it is."""
    async with aionvme.open(target) as ns:
        await ns.reset_zone(0)
        for task, lba in await asyncio.gather(*(append(ns, task) for task in range(TASKS))):
            record = (await ns.read(lba, 1)).tobytes().rstrip(b"\0").decode()
            assert record == f"record of task {task}"
            print(f"task {task:2} -> LBA {lba:#x}: {record}")
        (zone,) = await ns.report_zones(nr_zones=1)
        print(f"zone 0 is {aionvme.ZoneState(zone['zs']).name}, its write pointer at {zone['wp']:#x}")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "emu:zns?latency=20us-200us"))
