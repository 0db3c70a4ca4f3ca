"""The polled queue: a polled ring for commands that move data, an interrupt driven one beside it for those that move none.

Two reasons. A command without data (flush, zone management, write zeroes) takes the device long and leaves nothing to gain from
asking in a loop. And Linux 6.1 to 6.4 crash on one: such a request has no bio, so the driver sends it to an interrupt
queue, whose completion stores a function pointer where the poller of the same ring looks for the bio (``cookie`` and
``task_work_cb`` share a union in struct io_uring_cmd). Linux 6.5 tells the two apart by a flag, 6.8 has no union.
The crash was seen on 6.1; the other versions are read off the kernel's history.
"""

import math
from collections.abc import Iterable
from struct import Struct
from typing import Literal

from aionvme.queues.base import CompletionTuple
from aionvme.queues.ring import RingQueue

_DATA_LEN = Struct("<36xI")
"""Where struct nvme_uring_cmd has data_len."""


class PolledQueue:
    """Commands for one character device over a pair of rings."""

    kind: Literal["polled"] = "polled"

    def __init__(self, fd: int, cmd_op: int, *, depth: int) -> None:
        """Open both rings; raises as :class:`RingQueue` does."""
        self.depth = depth
        self._polled = RingQueue(fd, cmd_op, kind="polled", depth=depth)
        try:
            self._unpolled = RingQueue(fd, cmd_op, kind="interrupt", depth=depth)
        except OSError:
            self._polled.close()
            raise
        self._polled_in_flight = 0
        self._unpolled_in_flight = 0

    def stage(self, user_data: int, entry: bytes, buf_index: int) -> None:
        """Put a command on the ring that its data length calls for."""
        if _DATA_LEN.unpack_from(entry)[0]:
            self._polled.stage(user_data, entry, buf_index)
            self._polled_in_flight += 1
        else:
            self._unpolled.stage(user_data, entry, buf_index)
            self._unpolled_in_flight += 1

    def tick(self, budget: int) -> Iterable[CompletionTuple]:
        """Tick the polled ring while it has something in flight, and the other where it may have something to say.

        That is also when nothing has come: a signal of its eventfd that came late would keep an idle loop awake.
        """
        completions: list[CompletionTuple] = []
        if self._polled_in_flight:
            completions += self._polled.tick(budget)
            self._polled_in_flight -= len(completions)
        if not completions or (self._unpolled_in_flight and len(completions) < budget):
            try:
                unpolled = list(self._unpolled.tick(budget - len(completions)))
            except OSError:
                if not completions:
                    raise
                return completions  # what was reaped must reach the caller; the error comes again
            self._unpolled_in_flight -= len(unpolled)
            completions += unpolled
        return completions

    def pause(self) -> float:
        """As long as the polled ring says; the other one's eventfd is armed meanwhile, and wakes the loop before that."""
        unpolled = self._unpolled.pause() if self._unpolled_in_flight else math.inf
        polled = self._polled.pause() if self._polled_in_flight else math.inf
        return min(unpolled, polled)

    def fileno(self) -> int | None:
        """The eventfd of the ring that is not polled."""
        return self._unpolled.fileno()

    def register(self, addr: int, len_bytes: int) -> int | None:
        """Register with the polled ring: the other one's commands have no data."""
        return self._polled.register(addr, len_bytes)

    def unregister(self, buf_index: int) -> None:
        """Give back to the polled ring."""
        self._polled.unregister(buf_index)

    def close(self) -> None:
        """Close both rings."""
        self._polled.close()
        self._unpolled.close()
