"""What keeps a queue full, and counts what completes.

Either two arrays of commands are in flight all the time, so that the queue stays full while Python looks after the one that has
completed; or as many tasks as the queue is deep each await one command after the other.
"""

import asyncio
import errno
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aionvme.batch_commands import Completions
from aionvme.cli.bench.places import Places
from aionvme.cli.bench.plan import Pattern
from aionvme.doctor import one_line
from aionvme.errors import NvmeError, nvme_error
from aionvme.latency import Latencies
from aionvme.namespace import Namespace
from aionvme.nvme import nvm, zoned
from aionvme.nvme.command import Command
from aionvme.nvme.opcodes import NvmOpcode
from aionvme.prepare import describe

ARRAY_S = 0.03
"""How long an array should take, alone in the queue: what Python does for it then does not count, and its end is not far."""

ARRAY_BYTES = 16 << 20
"""Most data of an array, unless the depth needs more."""

ARRAY_MAX = 1 << 16
"""Most commands of an array."""

PIECE = 512
"""Addresses, and latencies, that single awaits handle at a time."""

COMMANDS: dict[NvmOpcode, Callable[[int, int], Command]] = {
    NvmOpcode.READ: nvm.read,
    NvmOpcode.WRITE: nvm.write,
    NvmOpcode.ZONE_APPEND: zoned.zone_append,
}


class Tally:
    """What has completed."""

    def __init__(self) -> None:
        self.commands = 0
        self.errors = 0
        self.first_error: str | None = None
        self.latencies = Latencies()

    def add_array(self, opcode: NvmOpcode, slba: NDArray[np.uint64], nlb: int, done: Completions) -> None:
        """Count the commands of an array."""
        failed = (done["status"] != 0) | (done["errno"] != 0)
        self.commands += len(done)
        if failed.any():
            i = int(np.argmax(failed))
            what = describe(COMMANDS[opcode](int(slba[i]), nlb))
            self._note(int(failed.sum()), _failure(what, int(done["status"][i]), int(done["errno"][i])))
            done = done[~failed]
        self.latencies.add_many(done["latency_ns"])

    def add_successes(self, latency_ns: list[int]) -> None:
        """Count commands that were awaited one by one, and empty the list."""
        self.commands += len(latency_ns)
        self.latencies.add_many(np.array(latency_ns, np.uint64))
        latency_ns.clear()

    def add_failure(self, what: str) -> None:
        """Count one that failed."""
        self.commands += 1
        self._note(1, what)

    def _note(self, errors: int, what: str) -> None:
        self.errors += errors
        self.first_error = self.first_error or what


def _failure(what: str, status: int, number: int) -> str:
    if number:
        return f"{what}: {os.strerror(number)} [{errno.errorcode.get(number, number)}]"
    return str(nvme_error(status, what))


class Load(ABC):
    """What keeps the queue full of one kind of command."""

    def __init__(self, ns: Namespace, pattern: Pattern, nlb: int, places: Places, rng: np.random.Generator) -> None:
        self.tally = Tally()
        self._ns = ns
        self._opcode = pattern.opcode
        self._overwrites = pattern.overwrites
        self._nlb = nlb
        self._command_bytes = nlb * block_bytes(ns)
        self._places = places
        self._rng = rng

    @abstractmethod
    async def lap(self, deadline: float) -> None:
        """Go on until :func:`time.perf_counter` reaches the deadline, or the places of the lap are used up."""

    def _alloc(self, commands: int) -> NDArray[np.uint8]:
        data = self._ns.alloc(commands * self._command_bytes)
        if self._overwrites:  # nothing that a device could compress
            data[:] = np.frombuffer(self._rng.bytes(data.size), np.uint8)
        return data


class ArrayLoad(Load):
    """Arrays of commands: two in flight, or one where the commands must not overtake each other."""

    def __init__(self, ns: Namespace, pattern: Pattern, nlb: int, places: Places, rng: np.random.Generator) -> None:
        super().__init__(ns, pattern, nlb, places, rng)
        self._least = ns.queue.depth
        self._most = min(max(ARRAY_BYTES // self._command_bytes, self._least), ARRAY_MAX)
        self._length = self._least
        self._before, self._start = 0, 0.0
        in_order = ns.zoned and pattern.opcode == NvmOpcode.WRITE
        self._buffers = [self._alloc(self._most) for _ in range(1 if in_order else 2)]
        calls = {
            NvmOpcode.READ: ns.read_many,
            NvmOpcode.WRITE: ns.write_many,
            NvmOpcode.ZONE_APPEND: ns.append_many,
        }
        self._call = calls[pattern.opcode]

    async def lap(self, deadline: float) -> None:
        """See :meth:`Load.lap`."""
        self._before, self._start = self.tally.commands, time.perf_counter()
        await _together([self._arrays(data, deadline) for data in self._buffers])

    async def _arrays(self, data: NDArray[np.uint8], deadline: float) -> None:
        while time.perf_counter() < deadline:
            # The two share the queue: of equal lengths they could end together, and the queue would run empty.
            n = max(self._least, int(self._length * self._rng.uniform(0.5, 1)))
            slba = self._places.take(n)
            if not slba.size:
                break
            done = await self._call(slba, self._nlb, data[: slba.size * self._command_bytes])
            self.tally.add_array(self._opcode, slba, self._nlb, done)
            self._adapt()

    def _adapt(self) -> None:
        # By the rate of both together: which of them the queue prefers is its own affair, and the other one must be long enough
        # to fill it whenever the first has ended.
        rate = (self.tally.commands - self._before) / (time.perf_counter() - self._start)
        self._length = min(max(int(rate * ARRAY_S), self._least), 4 * self._length, self._most)


class AwaitLoad(Load):
    """Single awaits: a task for each place in the queue."""

    def __init__(self, ns: Namespace, pattern: Pattern, nlb: int, places: Places, rng: np.random.Generator) -> None:
        super().__init__(ns, pattern, nlb, places, rng)
        data = self._alloc(ns.queue.depth)
        self._buffers = data.reshape(ns.queue.depth, self._command_bytes)
        self._latency_ns: list[int] = []

    async def lap(self, deadline: float) -> None:
        """See :meth:`Load.lap`."""
        addresses = self._addresses()
        await _together([self._awaits(data, addresses, deadline) for data in self._buffers])
        self.tally.add_successes(self._latency_ns)

    async def _awaits(self, data: NDArray[np.uint8], addresses: Iterator[int], deadline: float) -> None:
        while time.perf_counter() < deadline and (slba := next(addresses, None)) is not None:
            start = time.perf_counter_ns()
            try:
                await self._one(slba, data)
            except (NvmeError, OSError) as error:
                self.tally.add_failure(one_line(error))
            else:
                self._latency_ns.append(time.perf_counter_ns() - start)
                if len(self._latency_ns) == PIECE:
                    self.tally.add_successes(self._latency_ns)

    async def _one(self, slba: int, data: NDArray[np.uint8]) -> None:
        if self._opcode == NvmOpcode.READ:
            await self._ns.read(slba, self._nlb, into=data)
        elif self._opcode == NvmOpcode.WRITE:
            await self._ns.write(slba, data)
        else:
            await self._ns.zone_append(slba, data)

    def _addresses(self) -> Iterator[int]:
        while (piece := self._places.take(PIECE)).size:
            yield from piece.tolist()


async def _together(tasks: list[Coroutine[Any, Any, None]]) -> None:
    """Run them all; the first that fails ends the others, and its exception is raised."""
    try:
        async with asyncio.TaskGroup() as group:
            for task in tasks:
                group.create_task(task)
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from None


def block_bytes(ns: Namespace) -> int:
    """Bytes of a logical block in a buffer: with its metadata, where the format interleaves them."""
    return ns.block_bytes
