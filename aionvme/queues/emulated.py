"""The queue of an emulated device: real addresses, real delays, no kernel.

A command is carried out when it is due, not when it is submitted, and due times follow from the device's seed: with a range
of latencies commands complete in another order than they came in, and without any latency those submitted together are
shuffled, as a real controller may. Until then its data pointer is an address, as it is for the kernel: a buffer that goes away
too early is written to all the same, which is what makes this queue a test of who owns what. With a model of the device a
command's completion may be due later than the command, and is kept until then.
"""

import heapq
import math
import random
import time
from dataclasses import dataclass
from typing import Literal

from aionvme.emulator import Device
from aionvme.emulator.timing import timing_of
from aionvme.latency import Latencies
from aionvme.nvme.command import Command, DataPointers, decode
from aionvme.nvme.status import Completion
from aionvme.nvme.transfer import Direction, direction
from aionvme.queues.base import CQE, Entries
from aionvme.queues.batch import Batch
from aionvme.queues.host_memory import memory_of, scatter
from aionvme.queues.timer import Timer

EARLY_NS = 100_000
"""How much sooner than a command is due the loop is woken, which takes tens of microseconds; it goes round until then."""


_Due = tuple[int, float, int, Command, DataPointers, int, Completion | None]
"""When, what breaks ties, user_data, the command and its data, when it was submitted, and how it ended once carried out."""


@dataclass
class _Progress:
    """How far a batch is; commands of batches have user_data below 0 among those that are due."""

    submitted: int = 0
    completed: int = 0


class EmulatedQueue:
    """Commands for an emulated device; ``admin`` for those of its controller."""

    kind: Literal["emulated"] = "emulated"
    detour = ""
    port = None
    batches = True

    def __init__(self, device: Device, *, depth: int, admin: bool = False) -> None:
        self.depth = depth
        self._device = device
        self._admin = admin
        self._random = random.Random(device.spec.seed)
        self._timing = timing_of(device, self._random, admin=admin)
        self._timer = Timer()
        self._staged: list[tuple[int, bytes]] = []
        self._due: list[_Due] = []
        self._batches: dict[Batch, _Progress] = {}
        self._members: dict[int, tuple[Batch, int]] = {}
        self._latencies: Latencies | None = None
        self._recording_since = 0
        self._next_member = -1
        self._ended: list[Batch] = []

    def stage(self, user_data: int, entry: bytes, buf_index: int) -> None:
        """Take a command; registration makes no difference here."""
        self._staged.append((user_data, entry))

    def stage_batch(self, batch: Batch) -> None:
        """Take commands that follow each other as there is room."""
        self._batches[batch] = _Progress()

    def stop_batch(self, batch: Batch) -> None:
        """Take no more of a batch."""
        if batch in self._batches:
            batch.stopped_at = self._batches[batch].submitted
            self._end_if_done(batch)
        else:  # it never got here
            batch.stopped_at = 0
            self._ended.append(batch)

    def ended_batches(self) -> list[Batch]:
        """Those that ended in the last tick, or were stopped with nothing in flight."""
        ended, self._ended = self._ended, []
        return ended

    def tick(self, budget: int) -> Entries:
        """Carry out the commands that are due, and give the completions that are."""
        now = time.monotonic_ns()
        if 0 < self._timer.at <= now:
            self._timer.set(0)
        for user_data, entry in self._staged:
            self._schedule(now, user_data, entry)
        self._staged.clear()
        self._schedule_batches(now)
        completions = bytearray()
        for _ in range(budget):
            if not self._due or self._due[0][0] > now:
                break
            due, order, user_data, command, pointers, submitted, completion = heapq.heappop(self._due)
            if completion is None:
                memory = memory_of(pointers)
                completion = self._device.execute(command, memory, admin=self._admin)
                if direction(command.opcode) & Direction.CONTROLLER_TO_HOST:
                    scatter(memory, pointers)
                # Reckoned from when it was due, not from now: that we are late delays no other command.
                complete_at = self._timing.complete_at(due, command, completion, memory)
                if complete_at > due:
                    heapq.heappush(self._due, (complete_at, order, user_data, command, pointers, submitted, completion))
                    continue
            res, result = completion
            latency_ns = time.monotonic_ns() - submitted
            if self._latencies is not None and submitted >= self._recording_since:
                self._latencies.add(latency_ns)
            if user_data < 0:
                self._complete_member(user_data, res, result, latency_ns)
            else:
                completions += CQE.pack(user_data, res, result)
        return bytes(completions)

    def pause(self, idle: bool) -> float:
        """Seconds, 0 where the next command is about to be due; else infinity, and the timer goes off shortly before it is."""
        if self._staged or not self._due:
            return 0.0
        if len(self._due) < self.depth and any(p.submitted < batch.stopped_at for batch, p in self._batches.items()):
            return 0.0
        wake_at = self._due[0][0] - EARLY_NS
        if wake_at <= time.monotonic_ns():
            return 0.0
        if wake_at != self._timer.at:
            self._timer.set(wake_at)
        return math.inf

    def record(self, latencies: Latencies | None) -> None:
        """Record latencies up to a command's own end: waiting for those before it in a tick is part of it."""
        self._latencies = latencies
        self._recording_since = time.monotonic_ns()

    def fileno(self) -> int:
        """The timer's: nothing completes but in a tick."""
        return self._timer.fd

    def register(self, addr: int, len_bytes: int) -> int:
        """Any memory will do."""
        return 0

    def unregister(self, buf_index: int) -> None:
        """Nothing was taken, nothing is given back."""

    def close(self) -> None:
        """Close the timer; the device belongs to whoever opened it."""
        self._timer.close()

    def _schedule(self, now: int, user_data: int, entry: bytes) -> None:
        command, pointers = decode(entry)
        due = self._timing.execute_at(now, command)
        heapq.heappush(self._due, (due, self._random.random(), user_data, command, pointers, now, None))

    def _schedule_batches(self, now: int) -> None:
        for batch, progress in self._batches.items():
            # A quarter of the queue is theirs, however many commands come one by one.
            while progress.submitted < batch.stopped_at and (
                len(self._due) < self.depth or len(self._members) < max(1, self.depth // 4)
            ):
                self._members[self._next_member] = (batch, progress.submitted)
                self._schedule(now, self._next_member, batch.entry(progress.submitted))
                self._next_member -= 1
                progress.submitted += 1

    def _complete_member(self, user_data: int, res: int, result: int, latency_ns: int) -> None:
        batch, i = self._members.pop(user_data)
        batch.completions[i] = (res, 0, result, latency_ns)
        self._batches[batch].completed += 1
        self._end_if_done(batch)

    def _end_if_done(self, batch: Batch) -> None:
        if self._batches[batch].completed == batch.stopped_at:
            del self._batches[batch]
            self._ended.append(batch)
