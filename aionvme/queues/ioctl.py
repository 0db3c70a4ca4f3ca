"""Admin commands by ioctl on a namespace's node: for a process that has that node and not the controller's.

A ring takes admin commands on the controller's node only; the older ioctl takes them on the namespace's, too. It blocks until the
command has completed, and the event loop with it. That is as good as no time for what a process without privileges may ask,
which is some of Identify (Linux 6.2, ``nvme_cmd_allowed`` in drivers/nvme/host/ioctl.c).
"""

import fcntl
import math
from struct import Struct
from typing import Literal

from aionvme._core import ffi, lib
from aionvme.latency import Latencies
from aionvme.nvme.command import NVME_URING_CMD, DataPointers, decode, encode, is_vectored
from aionvme.nvme.transfer import Direction, direction
from aionvme.queues.base import CQE, Entries
from aionvme.queues.batch import Batch
from aionvme.queues.host_memory import memory_of, scatter

_RESULT = Struct("<Q")
"""What ``struct nvme_passthru_cmd64`` has behind the fields of ``struct nvme_uring_cmd``."""


class IoctlQueue:
    """Admin commands, each carried out within the tick after it was staged."""

    kind: Literal["interrupt"] = "interrupt"
    detour = ""
    port = None
    batches = False

    def __init__(self, fd: int, *, depth: int) -> None:
        """``fd`` is the namespace's node, which stays its owner's."""
        self.depth = depth
        self._fd = fd
        self._staged: list[tuple[int, bytes]] = []

    def stage(self, user_data: int, entry: bytes, buf_index: int) -> None:
        """Take a command; no buffer is registered here."""
        self._staged.append((user_data, entry))

    def stage_batch(self, batch: Batch) -> None:
        """Not for a queue that takes none."""
        raise NotImplementedError

    def stop_batch(self, batch: Batch) -> None:
        """Not for a queue that takes none."""
        raise NotImplementedError

    def ended_batches(self) -> list[Batch]:
        """None."""
        return []

    def tick(self, budget: int) -> Entries:
        """Carry out what was staged."""
        now, self._staged = self._staged[:budget], self._staged[budget:]
        return b"".join(self._carry_out(user_data, entry) for user_data, entry in now)

    def _carry_out(self, user_data: int, entry: bytes) -> bytes:
        if is_vectored(entry):
            return self._carry_out_in_one(user_data, entry)
        command = bytearray(entry + bytes(_RESULT.size))
        try:
            res = fcntl.ioctl(self._fd, lib.NVME_IOCTL_ADMIN64_CMD, command)
        except OSError as error:
            return CQE.pack(user_data, -(error.errno or 0), 0)
        return CQE.pack(user_data, res, *_RESULT.unpack_from(command, NVME_URING_CMD.size))

    def _carry_out_in_one(self, user_data: int, entry: bytes) -> bytes:
        """Data in several pieces goes by a copy: this ioctl would take their list for the data."""
        command, pieces = decode(entry)
        whole = memory_of(pieces)
        addr = int(ffi.cast("uintptr_t", ffi.from_buffer(whole)))
        completion = self._carry_out(user_data, encode(command, 0, DataPointers(addr, pieces.data_len)))
        if direction(command.opcode) & Direction.CONTROLLER_TO_HOST:
            scatter(whole, pieces)
        return completion

    def pause(self, idle: bool) -> float:
        """Nothing is ever in flight between ticks."""
        return 0.0 if self._staged else math.inf

    def record(self, latencies: Latencies | None) -> None:
        """Latencies are those of I/O commands."""

    def fileno(self) -> None:
        """Nothing to wait for."""

    def register(self, addr: int, len_bytes: int) -> None:
        """Registered buffers are the I/O queue's."""

    def unregister(self, buf_index: int) -> None:
        """Nothing was registered."""

    def close(self) -> None:
        """The node is its owner's to close."""
