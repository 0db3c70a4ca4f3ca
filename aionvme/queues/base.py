"""What a queue is to the driver above it.

A queue takes commands as the 72 bytes of ``struct nvme_uring_cmd`` and gives completions as io_uring does, an array of 32-byte
entries with user_data, res and the 64-bit result (:data:`CQE`), in any order and whatever carried the command out. ``res`` is in
the kernel's convention: 0 is success, a positive number is the NVMe status, a negative one an errno. The data pointers inside
the 72 bytes are addresses of this process: whoever stages a command keeps that memory alive until its completion is handed out.
Where the data is in several pieces, the 72 bytes say so as :class:`~aionvme.nvme.command.DataPointers` does.
"""

from struct import Struct
from typing import Literal, Protocol

from aionvme.latency import Latencies
from aionvme.queues.batch import Batch

QueueKind = Literal["raw", "polled", "interrupt", "emulated"]

CQE = Struct("<Qi4xQ8x")
"""user_data, res, big_cqe[0]; the flags and big_cqe[1] mean nothing to a passthrough command."""
assert CQE.size == 32

Entries = bytes | memoryview
"""Completion queue entries, one after the other; good until the next tick."""


class Queue(Protocol):
    """One submission and completion queue pair, used by one thread."""

    @property
    def kind(self) -> QueueKind:
        """Which path commands take."""

    @property
    def depth(self) -> int:
        """Most commands that may be staged one by one or in flight so; batches fill up what these leave, or take a quarter."""

    @property
    def detour(self) -> str:
        """Which commands take another path, in words; empty where none does."""

    @property
    def batches(self) -> bool:
        """Whether it takes batches; where not, their commands are staged one by one."""

    @property
    def port(self) -> tuple[int, bytes] | None:
        """Where C code can stage commands that move data: the address of a ``struct aionvme_ring``, and an entry of it without
        user_data and command. None where each has to be staged by :meth:`stage`."""

    def stage(self, user_data: int, entry: bytes, buf_index: int) -> None:
        """Take a command to be submitted by the next tick; ``user_data`` has 63 bits, ``buf_index`` is its registered buffer or
        -1."""

    def stage_batch(self, batch: Batch) -> None:
        """Take many commands, to be submitted as there is room, beside those that are staged one by one."""

    def stop_batch(self, batch: Batch) -> None:
        """Submit no more of a batch, and note in it how many were; it ends when those have completed."""

    def ended_batches(self) -> list[Batch]:
        """After a tick: the batches whose last command has completed, each once."""

    def tick(self, budget: int) -> Entries:
        """Submit what was staged and give the completions that are there, at most ``budget``. Never blocks.

        Raises OSError where the queue itself is broken.
        """

    def pause(self, idle: bool) -> float:
        """After a tick that gave nothing, with commands in flight: seconds until the next one is worth making.

        ``math.inf`` means that :meth:`fileno` will become readable. With ``idle``, nobody else wants the loop: some
        microseconds may be spent here on waiting for a completion.
        """

    def record(self, latencies: Latencies | None) -> None:
        """Record the latencies of commands submitted from now on, or with None no more."""

    def fileno(self) -> int | None:
        """A file descriptor that becomes readable when completions arrive after an infinite pause."""

    def register(self, addr: int, len_bytes: int) -> int | None:
        """Register memory and give its buf_index, or None where that cannot be had; commands then go without."""

    def unregister(self, buf_index: int) -> None:
        """Give a registered buffer back."""

    def close(self) -> None:
        """Release the queue. The caller has reaped every command, or keeps their buffers forever."""
