"""What do the library's conveniences cost?

Reads of one kind in several ways, each beside the first of its group:

- one await for each: into registered memory, into a numpy array, into a bytearray, and without ``into``, where the library
  makes an array for the data; with latencies recorded, for which the core looks at the clock twice a batch; into two pieces of
  memory; and submitted by a thread of the kernel's (SQPOLL), which then has a processor for itself;
- one await for 4096: with registered memory and one length for all, with ordinary memory, with a length for each (two columns
  more), as an array of commands of which every field is a column (submit_many), with latencies recorded, and with SQPOLL.

In three places: on /dev/null on this machine, where memory is looked up but not touched, in time and (the full run) in
instructions of user space, as valgrind counts them; and reads of 4 KiB from a namespace in the test bed's virtual machine,
where ordinary memory has its pages pinned for each command.
"""

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, nullcontext

import numpy as np

import aionvme
from aionvme.buffers import Buffer
from benchmarks import harness, load, report
from benchmarks.null_namespace import null_namespace

SINGLE = (
    "await, registered memory",
    "await, numpy array",
    "await, bytearray",
    "await, no into",
    "await, latencies recorded",
    "await, two pieces",
    "await, SQPOLL",
)
ARRAY = (
    "array, registered memory",
    "array, ordinary memory",
    "array, a length for each",
    "array of commands",
    "array, latencies recorded",
    "array, SQPOLL",
)
CONTENDERS = (*SINGLE, *ARRAY)
COUNTED = tuple(contender for contender in CONTENDERS if not contender.endswith("SQPOLL"))
"""Those whose instructions are always the same: who waits for a thread goes round until it has done something."""
LEN = 4096
"""Commands in an array."""


@asynccontextmanager
async def device(depth: int, sqpoll: bool = False) -> AsyncIterator[aionvme.Namespace]:
    """A namespace of the virtual machine's."""
    async with aionvme.open("/dev/ng0n1", queue="interrupt", depth=depth, sqpoll=sqpoll) as ns:
        yield ns


PLACES = {"null": null_namespace, "device": device}


def call_of(contender: str, ns: aionvme.Namespace, nlb: int, depth: int) -> tuple[load.Call, int]:
    """What a contender does again and again, and how many commands that is."""
    size = nlb * ns.lba_size
    if contender == "await, no into":
        return lambda _: ns.read(0, nlb), 1
    if contender == "await, two pieces":
        halves = [[np.empty(size // 2, np.uint8) for _ in range(2)] for _ in range(depth)]
        return lambda task: ns.read(0, nlb, into=halves[task]), 1
    if contender in SINGLE:
        makes: dict[str, Callable[[int], Buffer]] = {
            "await, registered memory": ns.alloc,
            "await, latencies recorded": ns.alloc,
            "await, SQPOLL": ns.alloc,
            "await, numpy array": lambda len_bytes: np.empty(len_bytes, np.uint8),
            "await, bytearray": bytearray,
        }
        into = [makes[contender](size) for _ in range(depth)]
        return lambda task: ns.read(0, nlb, into=into[task]), 1
    data = np.zeros(LEN * size, np.uint8) if contender == "array, ordinary memory" else ns.alloc(LEN * size)
    slba = np.arange(LEN, dtype=np.uint64) * nlb
    if contender != "array of commands":
        lengths = np.full(LEN, nlb) if contender == "array, a length for each" else nlb
        return lambda _: ns.read_many(slba, lengths, data), LEN
    commands = np.zeros(LEN, aionvme.COMMAND)
    commands["opcode"] = 2
    commands["cdw10"] = slba
    commands["cdw12"] = nlb - 1
    commands["offset"] = np.arange(LEN) * size
    commands["data_len"] = size
    return lambda _: ns.submit_many(commands, data), LEN


async def timed(place: str, contender: str, depth: int, seconds: float) -> harness.Measures:
    """A contender by the clock."""
    async with PLACES[place](depth, contender.endswith("SQPOLL")) as ns:
        recording = ns.latencies() if contender.endswith("recorded") else nullcontext()
        nlb = 4096 // ns.lba_size
        call, commands = call_of(contender, ns, nlb, depth)
        with recording:
            return await load.rate(call, depth if contender in SINGLE else 1, seconds, commands)


async def repeated(contender: str, depth: int, commands: int) -> None:
    """A contender for a number of commands on /dev/null: what is run for :func:`counted`."""
    async with null_namespace(depth) as ns:
        call, each = call_of(contender, ns, 1, depth)
        with ns.latencies() if contender.endswith("recorded") else nullcontext():
            await load.repeat(call, depth if contender in SINGLE else 1, commands // each)


def counted(contender: str, depth: int, _seconds: float) -> harness.Measures:
    """Instructions for each command: those of a run less those of a shorter one."""
    few, many = (3200, 16000) if contender in SINGLE else (LEN, 100 * LEN)
    instructions = [
        _instructions(
            f"import asyncio; from benchmarks.features import *; asyncio.run(repeated({contender!r}, {depth}, {n}))"
        )
        for n in (few, many)
    ]
    return {"instructions_per_command": (instructions[1] - instructions[0]) / (many - few)}


def _instructions(code: str) -> int:
    command = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", sys.executable, "-c", code]
    # With names hashed the same each time: starting Python takes more instructions than what is measured.
    environment = os.environ | {"PYTHONHASHSEED": "0"}
    done = subprocess.run(command, check=True, cwd=harness.PROJECT, env=environment, capture_output=True, text=True)
    found = re.search(r"Collected : (\d+)", done.stderr)
    assert found, done.stderr
    return int(found[1])


def remarks(result: report.Result) -> list[str]:
    """Each way beside the first of its group."""
    groups = [[(way, group[0]) for way in group[1:]] for group in (SINGLE, ARRAY)]
    pairs = [pair for group in groups for pair in group]
    found = []
    for name, part in result["parts"].items():
        metric = "instructions_per_command" if name == "instructions" else "commands_per_second"
        found += [f"## {part['title']}: compared", report.ratios(part, pairs, metric)]
    return found


BENCHMARK = harness.Benchmark(
    name="features",
    title="What registered memory, conversion and columns cost or save",
    parts={
        "null": harness.Part(
            title="uring_cmd on /dev/null",
            contenders=CONTENDERS,
            measure=lambda contender, depth, seconds: asyncio.run(timed("null", contender, depth, seconds)),
            full=harness.Settings(depths=(64,), rounds=5, seconds=0.5),
            quick=harness.Settings(depths=(64,), rounds=3, seconds=0.2),
        ),
        "instructions": harness.Part(
            title="uring_cmd on /dev/null, counted",
            contenders=COUNTED,
            measure=counted,
            full=harness.Settings(depths=(64,), rounds=1, seconds=0),
            quick=None,
        ),
        "device": harness.Part(
            title="Reads of 4 KiB from one namespace, interrupt driven",
            contenders=CONTENDERS,
            measure=lambda contender, depth, seconds: asyncio.run(timed("device", contender, depth, seconds)),
            full=harness.Settings(depths=(64,), rounds=5, seconds=0.8),
            quick=harness.Settings(depths=(64,), rounds=3, seconds=0.4),
            guest=True,
        ),
    },
    remarks=remarks,
)

if __name__ == "__main__":
    harness.main(BENCHMARK)
