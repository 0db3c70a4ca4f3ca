"""The queue of an emulated device: real addresses, real delays, no kernel.

A command is carried out when it is due, not when it is submitted, and due times are drawn from the device's seed: with a range
of latencies commands complete in another order than they came in, and without any latency those submitted together are
shuffled, as a real controller may. Until then its data pointer is an address, as it is for the kernel: a buffer that goes away
too early is written to all the same, which is what makes this queue a test of who owns what.
"""

import heapq
import random
import time
from typing import Literal

from aionvme._core import ffi
from aionvme.emulator import Device
from aionvme.nvme.command import decode
from aionvme.queues.base import CompletionTuple

NS_PER_S = 1_000_000_000


class EmulatedQueue:
    """Commands for an emulated device; ``admin`` for those of its controller."""

    kind: Literal["emulated"] = "emulated"
    detour = ""

    def __init__(self, device: Device, *, depth: int, admin: bool = False) -> None:
        self.depth = depth
        self._device = device
        self._admin = admin
        self._latency_ns = device.spec.latency_ns
        self._random = random.Random(device.spec.seed)
        self._staged: list[tuple[int, bytes]] = []
        self._due: list[tuple[int, float, int, bytes]] = []

    def stage(self, user_data: int, entry: bytes, buf_index: int) -> None:
        """Take a command; registration makes no difference here."""
        self._staged.append((user_data, entry))

    def tick(self, budget: int) -> list[CompletionTuple]:
        """Carry out the commands that are due."""
        now = time.monotonic_ns()
        for user_data, entry in self._staged:
            due = now + self._random.randint(*self._latency_ns)
            heapq.heappush(self._due, (due, self._random.random(), user_data, entry))
        self._staged.clear()
        completions: list[CompletionTuple] = []
        while self._due and self._due[0][0] <= now and len(completions) < budget:
            _, _, user_data, entry = heapq.heappop(self._due)
            completions.append((user_data, *self._execute(entry)))
        return completions

    def pause(self) -> float:
        """Seconds until the next command is due."""
        if self._staged or not self._due:
            return 0.0
        return max(0.0, (self._due[0][0] - time.monotonic_ns()) / NS_PER_S)

    def fileno(self) -> None:
        """There is none: nothing completes but in a tick."""

    def register(self, addr: int, len_bytes: int) -> int:
        """Any memory will do."""
        return 0

    def unregister(self, buf_index: int) -> None:
        """Nothing was taken, nothing is given back."""

    def close(self) -> None:
        """The device belongs to whoever opened it."""

    def _execute(self, entry: bytes) -> tuple[int, int]:
        command, pointers = decode(entry)
        memory = ffi.buffer(ffi.cast("char *", pointers.addr), pointers.data_len)
        status, result = self._device.execute(command, memoryview(memory).cast("B"), admin=self._admin)
        return int(status), result
