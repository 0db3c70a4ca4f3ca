"""What is left of the device's speed in Python? Ways of reading from one NVMe namespace, over the queue depth.

Random reads of 4 KiB in the test bed's virtual machine, everything on one and the same of its two processors, all from one
thread. Contenders: the synchronous ioctl (sync_passthrough.c), which has one command under way whatever the depth, and the same
with a thread for each; fio over the block device with io_uring and O_DIRECT; fio with io_uring_cmd over the character device,
interrupt driven and polled; this library over the character device, interrupt driven and polled, with one await for an array
of reads and with one await for each.

fio and the library have the same settings: file and buffers registered, commands not vectored. fio submits and reaps up to 32
at once, which is faster here than one by one, and takes no latencies (gtod_reduce). An array is 64 times as long as the queue
is deep. The library's addresses are random numbers made while measuring, like fio's.
"""

import asyncio
import json
import os
import random
import subprocess

import numpy as np

import aionvme
from aionvme.queues.attach import QueueChoice
from benchmarks import harness, load, report

CHARACTER, BLOCK = "/dev/ng0n1", "/dev/nvme0n1"
SIZE = 4096
NS_BYTES = 64 << 20
BATCH = 32
"""Most commands that fio submits and reaps at once."""

SYNC = "sync ioctl, a thread each"
SYNC_ALONE = "sync ioctl, one thread"
FIO = {
    "fio io_uring, block": (f"--filename={BLOCK}", "--ioengine=io_uring", "--direct=1"),
    "fio io_uring_cmd, interrupt": (f"--filename={CHARACTER}", "--ioengine=io_uring_cmd", "--nonvectored=1"),
    "fio io_uring_cmd, polled": (f"--filename={CHARACTER}", "--ioengine=io_uring_cmd", "--nonvectored=1", "--hipri=1"),
}
QUEUES: tuple[QueueChoice, ...] = ("interrupt", "polled")


def sync(depth: int, seconds: float) -> harness.Measures:
    """The ioctl, from as many threads as the queue would be deep."""
    command = [str(harness.program("sync_passthrough")), CHARACTER, str(SIZE), str(depth), str(seconds)]
    found = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.split()
    return {"commands_per_second": float(found[0]), "processor_us_per_command": float(found[1])}


def fio(options: tuple[str, ...], depth: int, seconds: float) -> harness.Measures:
    """fio, with what distinguishes a contender as options."""
    batch = min(depth, BATCH)
    command = [
        *("fio", "--name=read", "--rw=randread", f"--bs={SIZE}", f"--size={NS_BYTES}", f"--iodepth={depth}", *options),
        *("--fixedbufs=1", "--registerfiles=1", "--norandommap=1", "--gtod_reduce=1"),
        *(f"--iodepth_batch_submit={batch}", "--iodepth_batch_complete_min=1", f"--iodepth_batch_complete_max={batch}"),
        *("--time_based", f"--runtime={seconds * 1000:.0f}ms", "--output-format=json"),
    ]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    (job,) = json.loads(output[output.index("{") :])["jobs"]
    busy = (job["usr_cpu"] + job["sys_cpu"]) / 100
    return {
        "commands_per_second": job["read"]["iops"],
        "processor_us_per_command": busy * job["read"]["runtime"] / job["read"]["total_ios"] * 1e3,
    }


async def awaits(queue: QueueChoice, depth: int, seconds: float) -> harness.Measures:
    """One await for each read, from as many tasks as the queue is deep."""
    async with aionvme.open(CHARACTER, queue=queue, depth=depth) as ns:
        nlb = SIZE // ns.lba_size
        into = np.split(ns.alloc(depth * SIZE), depth)
        places = ns.nsze // nlb
        draw = random.Random(1).random
        return await load.rate(lambda task: ns.read(int(draw() * places) * nlb, nlb, into=into[task]), depth, seconds)


async def batches(queue: QueueChoice, depth: int, seconds: float) -> harness.Measures:
    """One await for an array of reads."""
    async with aionvme.open(CHARACTER, queue=queue, depth=depth) as ns:
        nlb = SIZE // ns.lba_size
        size = 64 * depth
        into = ns.alloc(size * SIZE)
        draw = np.random.default_rng(1)

        async def read(_: int) -> None:
            done = await ns.read_many(draw.integers(ns.nsze // nlb, size=size) * nlb, nlb, into)
            if done["status"].any() or done["errno"].any():
                raise OSError("a read failed")

        return await load.rate(read, 1, seconds, size)


def measure(contender: str, depth: int, seconds: float) -> harness.Measures:
    """One measurement, in this process or one that it starts, on one processor."""
    os.sched_setaffinity(0, {0})
    if contender in (SYNC, SYNC_ALONE):
        return sync(depth if contender == SYNC else 1, seconds)
    if contender in FIO:
        return fio(FIO[contender], depth, seconds)
    how, queue = contender.removeprefix("aionvme ").split(", ")
    work = batches if how == "batch" else awaits
    return asyncio.run(work("polled" if queue == "polled" else "interrupt", depth, seconds))


def remarks(result: report.Result) -> list[str]:
    """The library beside fio."""
    pairs = [
        (f"aionvme {how}, {queue}", f"fio io_uring_cmd, {queue}") for how in ("batch", "await") for queue in QUEUES
    ]
    part = result["parts"]["device"]
    tables = [report.ratios(part, pairs, metric) for metric in ("commands_per_second", "processor_us_per_command")]
    return ["## The library beside fio, at the same settings", *tables]


BENCHMARK = harness.Benchmark(
    name="passthrough",
    title="Reading from an NVMe namespace: ioctl, block layer, passthrough, Python",
    parts={
        "device": harness.Part(
            title="Random reads of 4 KiB from one namespace",
            contenders=(
                SYNC_ALONE,
                SYNC,
                *FIO,
                *(f"aionvme {how}, {queue}" for how in ("batch", "await") for queue in QUEUES),
            ),
            measure=measure,
            full=harness.Settings(depths=(1, 2, 4, 8, 16, 32, 64, 128), rounds=3, seconds=0.8),
            quick=harness.Settings(depths=(1, 64), rounds=3, seconds=0.4),
            guest=True,
        )
    },
    programs=("sync_passthrough",),
    remarks=remarks,
)

if __name__ == "__main__":
    harness.main(BENCHMARK)
