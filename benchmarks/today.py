"""What do people do today, and what does the same work cost with a queue on the device?

Where it runs, and what "the same work" is:

- "null", on this machine: requests that find nothing to do, on /dev/null. The others read 4 KiB from it and get none; the
  library, which does not read files, sends it a uring_cmd. What is left is what a request costs by itself.
- "device", in the test bed's virtual machine: random reads of 4 KiB from one namespace, all interrupt driven. The others read
  its block device with O_DIRECT, the library its character device.

Contenders, all on asyncio unless said otherwise, with as many requests under way as the queue is deep: os.pread in
asyncio.to_thread (whose executor has at most 32 threads, and fewer on a small machine) and in a ThreadPoolExecutor of that many
threads; aiofile, on what it chooses itself, and caio, which it stands on, with Linux AIO and with its threads; liburing, a
binding that knows no event loop, so a plain loop that submits and waits; pyuring, whose completions one task awaits, and which
submits the next read for each; the library with one await for each read, and with one for an array (64 times as long as the
queue is deep).

The other packages are those of the extra "bench". What a contender cannot do is told in the result.
"""

import asyncio
import fcntl
import importlib
import os
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

import aionvme
from benchmarks import harness, load, report
from benchmarks.null_namespace import null_namespace

SIZE = 4096
NS_BYTES = 64 << 20
OURS = ("aionvme await", "aionvme read_many")


@dataclass(frozen=True)
class Place:
    """What is read: a file, how many bytes a read of it gives, and a namespace for the library."""

    path: str
    flags: int
    len_bytes: int
    namespace: Callable[[int], Any]

    def check(self, len_bytes: int) -> None:
        """Raise unless a read gave as much as it had to."""
        if len_bytes != self.len_bytes:
            raise OSError(f"a read gave {len_bytes} bytes")


def place_of(part: str) -> Place:
    """Where a part of the benchmark reads."""
    if part == "null":
        return Place("/dev/null", 0, 0, null_namespace)
    return Place("/dev/nvme0n1", os.O_DIRECT, SIZE, device)


@asynccontextmanager
async def device(depth: int) -> AsyncIterator[aionvme.Namespace]:
    """The namespace, interrupt driven as the block device is."""
    async with aionvme.open("/dev/ng0n1", queue="interrupt", depth=depth) as ns:
        yield ns


def package(name: str) -> Any:
    """One of the packages that may be missing."""
    return importlib.import_module(name)


Read = Callable[[int, int], Awaitable[bytes]]
"""Read from a file descriptor, at an offset in bytes."""


def offsets() -> Callable[[], int]:
    """Random places, in bytes."""
    draw = random.Random(1).random
    return lambda: int(draw() * (NS_BYTES // SIZE)) * SIZE


async def files(place: Place, read: Read, depth: int, seconds: float) -> harness.Measures:
    """Reads of a file, one await each."""
    fd = os.open(place.path, os.O_RDONLY | place.flags)
    offset = offsets()

    async def call(_: int) -> None:
        place.check(len(await read(fd, offset())))

    return await load.rate(call, depth, seconds)


async def to_thread(place: Place, depth: int, seconds: float) -> harness.Measures:
    """os.pread, in whatever threads asyncio has."""
    return await files(place, lambda fd, offset: asyncio.to_thread(os.pread, fd, SIZE, offset), depth, seconds)


async def executor(place: Place, depth: int, seconds: float) -> harness.Measures:
    """os.pread, in a thread for each request under way."""
    with ThreadPoolExecutor(depth) as threads:
        run = asyncio.get_running_loop().run_in_executor
        return await files(place, lambda fd, offset: run(threads, os.pread, fd, SIZE, offset), depth, seconds)


async def aiofile(place: Place, depth: int, seconds: float) -> harness.Measures:
    """aiofile as it comes; it has no word for O_DIRECT, which is therefore set on its file."""
    offset = offsets()
    async with package("aiofile").AIOFile(place.path, "rb") as file:
        fcntl.fcntl(file.fileno(), fcntl.F_SETFL, place.flags)

        async def call(_: int) -> None:
            place.check(len(await file.read_bytes(SIZE, offset())))

        return await load.rate(call, depth, seconds)


async def caio(module: str, place: Place, depth: int, seconds: float) -> harness.Measures:
    """caio, by the name of one of its implementations."""
    async with getattr(package("caio"), module).AsyncioContext(max_requests=depth) as context:
        return await files(place, lambda fd, offset: context.read(SIZE, fd, offset), depth, seconds)


async def pyuring(place: Place, depth: int, seconds: float) -> harness.Measures:
    """pyuring: a task awaits completions, whichever comes, and submits a read for each."""
    lib = package("pyuring")
    fd = os.open(place.path, os.O_RDONLY | place.flags)
    buffers = [bytearray(SIZE) for _ in range(depth)]
    offset = offsets()
    reads = 0
    with lib.UringCtx(entries=depth) as ring:
        async with lib.UringAsync(ring) as completions:
            clock = load.Clock(seconds)
            for slot, buffer in enumerate(buffers):
                ring.read_async(fd, buffer, offset(), slot)
            while clock.going():
                slot, res = await completions.wait_completion()
                place.check(res)
                reads += 1
                ring.read_async(fd, buffers[slot], offset(), slot)
            for _ in buffers:
                await completions.wait_completion()
            return clock.measures(reads + depth)


def liburing(place: Place, depth: int, seconds: float) -> harness.Measures:
    """liburing: submit as much as there is room for, wait for one completion, take all that there are."""
    lib = package("liburing")
    fd = os.open(place.path, os.O_RDONLY | place.flags)
    buffers = [bytearray(SIZE) for _ in range(depth)]
    offset = offsets()
    ring, cqe = lib.Ring(), lib.Cqe()
    lib.io_uring_queue_init(depth, ring)

    def stage(slot: int) -> None:
        sqe = lib.io_uring_get_sqe(ring)
        lib.io_uring_prep_read(sqe, fd, buffers[slot], SIZE, offset())
        sqe.user_data = slot

    reads = 0
    clock = load.Clock(seconds)
    for slot in range(depth):
        stage(slot)
    while clock.going():
        lib.io_uring_submit_and_wait(ring, 1)
        for _ in range(lib.io_uring_cq_ready(ring)):
            lib.io_uring_wait_cqe(ring, cqe)
            slot = cqe[0].user_data
            place.check(cqe[0].res)
            lib.io_uring_cqe_seen(ring, cqe[0])
            reads += 1
            stage(slot)
    found = clock.measures(reads)
    lib.io_uring_submit_and_wait(ring, depth)
    lib.io_uring_queue_exit(ring)
    return found


async def awaits(place: Place, depth: int, seconds: float) -> harness.Measures:
    """The library, one await for each read, into registered memory."""
    async with place.namespace(depth) as ns:
        nlb = SIZE // ns.lba_size
        into = np.split(ns.alloc(depth * SIZE), depth)
        offset = offsets()
        return await load.rate(lambda task: ns.read(offset() // ns.lba_size, nlb, into=into[task]), depth, seconds)


async def read_many(place: Place, depth: int, seconds: float) -> harness.Measures:
    """The library, one await for an array of reads."""
    async with place.namespace(depth) as ns:
        nlb = SIZE // ns.lba_size
        size = 64 * depth
        into = ns.alloc(size * SIZE)
        draw = np.random.default_rng(1)

        async def call(_: int) -> None:
            done = await ns.read_many(draw.integers(NS_BYTES // SIZE, size=size) * nlb, nlb, into)
            if done["status"].any() or done["errno"].any():
                raise OSError("a read failed")

        return await load.rate(call, 1, seconds, size)


CONTENDERS: dict[str, Callable[[Place, int, float], Any]] = {
    "to_thread(os.pread)": to_thread,
    "ThreadPoolExecutor": executor,
    "aiofile": aiofile,
    "caio, Linux AIO": lambda *arguments: caio("linux_aio_asyncio", *arguments),
    "caio, threads": lambda *arguments: caio("thread_aio_asyncio", *arguments),
    "liburing, no event loop": liburing,
    "pyuring": pyuring,
    "aionvme await": awaits,
    "aionvme read_many": read_many,
}


def measure(part: str, contender: str, depth: int, seconds: float) -> harness.Measures:
    """One measurement, in this process."""
    try:
        found = CONTENDERS[contender](place_of(part), depth, seconds)
        measures: harness.Measures = asyncio.run(found) if asyncio.iscoroutine(found) else found
        return measures
    except ImportError as error:
        raise harness.CannotError(f"{error}: it is in the extra bench.") from None
    except (OSError, ValueError, RuntimeError) as error:
        if contender in OURS:
            raise
        raise harness.CannotError(f"{type(error).__name__}: {error}.") from None


def remarks(result: report.Result) -> list[str]:
    """The library beside each of the others."""
    others = [contender for contender in CONTENDERS if contender not in OURS]
    parts = result["parts"].values()
    return [
        line
        for part in parts
        for line in (
            f"## {part['title']}: the library beside the others",
            report.ratios(part, [(one, other) for one in OURS for other in others]),
        )
    ]


BENCHMARK = harness.Benchmark(
    name="today",
    title="Reading from Python: what people do today",
    parts={
        "null": harness.Part(
            title="Requests to /dev/null",
            contenders=tuple(CONTENDERS),
            measure=lambda *arguments: measure("null", *arguments),
            full=harness.Settings(depths=(1, 8, 64), rounds=3, seconds=0.5),
            quick=harness.Settings(depths=(1, 64), rounds=1, seconds=0.2),
        ),
        "device": harness.Part(
            title="Random reads of 4 KiB from one namespace",
            contenders=tuple(CONTENDERS),
            measure=lambda *arguments: measure("device", *arguments),
            full=harness.Settings(depths=(1, 8, 64), rounds=3, seconds=1.0),
            quick=harness.Settings(depths=(1, 64), rounds=1, seconds=0.5),
            guest=True,
        ),
    },
    remarks=remarks,
)

if __name__ == "__main__":
    harness.main(BENCHMARK)
