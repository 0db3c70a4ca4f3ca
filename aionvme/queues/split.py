"""Two rings for one device: a better one for the commands it is fit for, and an interrupt driven one for all others."""

import math
from abc import ABC, abstractmethod

from aionvme.latency import Latencies
from aionvme.queues.base import CQE, Entries
from aionvme.queues.batch import Batch
from aionvme.queues.ring import Polls, RingQueue


class SplitQueue(ABC):
    """A pair of rings that is used as one queue; a subclass says which commands take the better one."""

    detour: str
    """Which commands take the other one, in words."""

    port: tuple[int, bytes] | None = None
    batches = True

    def __init__(self, better: RingQueue, fd: int, cmd_op: int) -> None:
        """Take over ``better`` and open the other ring beside it. Raises as :class:`RingQueue` does, with neither left open."""
        self.kind = better.kind
        self.depth = better.depth
        self._better = better
        try:
            self._other = RingQueue(fd, cmd_op, kind="interrupt", depth=better.depth)
        except OSError:
            better.close()
            raise
        self._better_batches: set[Batch] = set()

    @abstractmethod
    def takes(self, entry: bytes, buf_index: int) -> bool:
        """Whether a command is for the better ring."""

    def stage(self, user_data: int, entry: bytes, buf_index: int) -> None:
        """Put a command on the ring that it is for."""
        if self.takes(entry, buf_index):
            self._better.stage(user_data, entry, buf_index)
        else:
            # Buffers are registered with the better ring only.
            self._other.stage(user_data, entry, -1)

    @abstractmethod
    def takes_batch(self, batch: Batch) -> bool:
        """Whether all of a batch is for the better ring."""

    def stage_batch(self, batch: Batch) -> None:
        """Put a batch on the better ring where that takes all of it."""
        if self.takes_batch(batch):
            self._better_batches.add(batch)
            self._better.stage_batch(batch)
        else:
            batch.buf_index = -1
            self._other.stage_batch(batch)

    def stop_batch(self, batch: Batch) -> None:
        """Stop it on the ring that has it."""
        (self._better if batch in self._better_batches else self._other).stop_batch(batch)

    def ended_batches(self) -> list[Batch]:
        """Those of both rings."""
        better, other = self._better.ended_batches(), self._other.ended_batches()
        self._better_batches.difference_update(better)
        return better + other

    def tick(self, budget: int) -> Entries:
        """Tick the better ring while it has something in flight, and the other where it may have something to say.

        That is also when nothing has come: a signal of its eventfd that came late would keep an idle loop awake.
        """
        completions = self._better.tick(budget) if self._better.busy else b""
        n = len(completions) // CQE.size
        if n and not (self._other.busy and n < budget):
            return completions
        try:
            others = self._other.tick(budget - n)
        except OSError:
            if not completions:
                raise
            return completions  # what was reaped must reach the caller; the error comes again
        return b"".join((completions, others)) if completions else others

    def pause(self, idle: bool) -> float:
        """As long as the better ring says; the other one's eventfd is armed meanwhile, and wakes the loop before that."""
        other = self._other.pause(idle and not self._better.busy) if self._other.busy else math.inf
        better = self._better.pause(idle and other > 0) if self._better.busy else math.inf
        return min(other, better)

    def record(self, latencies: Latencies | None) -> None:
        """Those of both rings."""
        self._better.record(latencies)
        self._other.record(latencies)

    def polls(self) -> Polls:
        """Those of the better ring."""
        return self._better.polls()

    def fileno(self) -> int | None:
        """The eventfd of the ring that is interrupt driven."""
        return self._other.fileno()

    def register(self, addr: int, len_bytes: int) -> int | None:
        """Register with the better ring."""
        return self._better.register(addr, len_bytes)

    def unregister(self, buf_index: int) -> None:
        """Give back to the better ring."""
        self._better.unregister(buf_index)

    def close(self) -> None:
        """Close both rings."""
        self._better.close()
        self._other.close()
