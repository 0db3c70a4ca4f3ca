"""The io_uring queues: interrupt driven, polled, and polled with a hardware queue of the ring's own (raw).

A command is packed once, here, into the 128 bytes of its submission queue entry: io_uring's own fields in the first 48, the
``nvme_uring_cmd`` in the 80 after them. One native call per tick submits what is staged and reaps what is there.
"""

import errno
import math
import time
from dataclasses import dataclass
from struct import Struct
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from numpy.typing import NDArray

from aionvme._core import ffi, lib
from aionvme.errors import os_error
from aionvme.latency import Latencies
from aionvme.nvme.command import is_vectored, vectored
from aionvme.queues.base import CQE, Entries
from aionvme.queues.batch import Batch

# opcode flags ioprio fd | cmd_op (and pad) | addr | len | uring_cmd_flags | user_data | buf_index personality file_index | cmd
SQE = Struct("<BBHiQQIIQHHI72s8x")
assert SQE.size == 128

COLUMN = Struct("<IIqQ")
"""``struct aionvme_column``: offset, width, stride, address of the values."""

RingKind = Literal["raw", "polled", "interrupt"]

REAP_MAX = 64
"""Completions one tick can give: enough to amortise its cost, few enough to keep an event loop's pass short."""

REGISTERED_BUFFERS = 1024
"""Size of a ring's table of registered buffers; the kernel allows 16384."""

SPIN_S = 0.001
"""How long after its last progress a queue that is polled asks to be ticked without a pause."""

LINGER_NS = 50_000
"""How long an idle loop waits for a completion before it goes to sleep: going there and waking up takes about half of that."""

SQ_IDLE_MS = 10
"""How long the thread that submits looks for commands before it goes to sleep; waking it costs a system call."""

SETUP_CAUSES = MappingProxyType(
    {
        errno.ENOSYS: "this kernel was built without io_uring, or a seccomp filter (a container's) hides it",
        errno.EPERM: "io_uring is switched off by the sysctl kernel.io_uring_disabled, or a seccomp filter (a container's) "
        "forbids it",
        errno.EACCES: "a security module forbids io_uring",
        errno.EINVAL: "this kernel is older than 5.19 and has no 128-byte submission or 32-byte completion entries",
        errno.ENOMEM: "not enough memory that may be locked: raise RLIMIT_MEMLOCK (ulimit -l)",
        errno.EMFILE: "too many open files: raise RLIMIT_NOFILE (ulimit -n)",
    }
)

RAW_CAUSES = MappingProxyType(
    {
        errno.EINVAL: "every raw queue of the controller is taken, or it is being reset",
        errno.EACCES: "a raw queue needs CAP_SYS_ADMIN: run as root",
        errno.ENOMEM: "not enough memory",
    }
)

ENTER_CAUSES = MappingProxyType(
    {
        errno.EEXIST: "the ring was entered from a thread that did not open it",
        errno.EBADR: "the kernel ran out of memory and dropped a completion: a command's outcome is lost",
    }
)


VECTORED: int = lib.NVME_URING_CMD_IO_VEC - lib.NVME_URING_CMD_IO
"""What makes of an operation, I/O or admin, the one for a command with its data in several pieces."""
assert lib.NVME_URING_CMD_ADMIN_VEC - lib.NVME_URING_CMD_ADMIN == VECTORED

CMD_OFFSET, BUF_INDEX_OFFSET = 48, 40
"""Of the command bytes and of buf_index in a submission queue entry."""


@dataclass
class _PackedBatch:
    """A batch as the core knows it, and whether it does."""

    batch: Any
    columns: Any
    added: bool = False


class Polls(NamedTuple):
    """How often a polled ring was asked for completions; in vain; and how often it was not, because that was too early."""

    polls: int
    empty: int
    spared: int


class RingQueue:
    """Commands for one character device over one ring."""

    detour = ""
    batches = True

    def __init__(self, fd: int, cmd_op: int, *, kind: RingKind, depth: int, sqpoll: bool = False) -> None:
        """Open a ring for the device open as ``fd``; ``cmd_op`` says I/O or admin (NVME_URING_CMD_IO or _ADMIN).

        With ``sqpoll`` a thread of the kernel's submits, and polls where that is to be done.

        Raises OSError with the likely cause where the kernel gives no such ring. The kind "raw" is only for kernels that have
        raw queues (:meth:`raw_supported`).
        """
        self.kind: RingKind = kind
        self.depth = depth
        self._cmd_op = cmd_op
        self._flags = lib.AIONVME_URING_CMD_DIRECT if kind == "raw" else 0
        self._sqes = ffi.new("struct aionvme_sqe[]", depth)
        self._sqe_bytes = memoryview(ffi.buffer(self._sqes)).cast("B")
        self._cqes = ffi.new("struct aionvme_cqe[]", REAP_MAX)
        self._cqe_bytes = memoryview(ffi.buffer(self._cqes)).cast("B")
        self._accepted = ffi.new("unsigned *")
        self._staged = 0
        self._progress = 0.0
        self._latencies: Any = None  # what the core writes to lives as long as it does
        self._position = 0
        self._eventfd: int | None = None
        self._armed = False
        self._batches: dict[Batch, _PackedBatch] = {}
        self._stopped_early: list[Batch] = []
        self._free_buffers = list(range(REGISTERED_BUFFERS - 1, -1, -1))

        self._ring = _open_ring(depth, iopoll=kind != "interrupt", sqpoll=sqpoll)
        try:
            _check(lib.aionvme_ring_register_files(self._ring, [fd], 1), "registering the device with its ring")
            _check(lib.aionvme_ring_reserve_buffers(self._ring, REGISTERED_BUFFERS), "reserving registered buffers")
            if kind == "raw":
                _check(lib.aionvme_ring_register_queue(self._ring, 0), "registering a raw queue", RAW_CAUSES)
            if kind == "interrupt":
                self._eventfd = _check(lib.aionvme_ring_register_eventfd(self._ring), "registering an eventfd")
        except OSError:
            lib.aionvme_ring_close(self._ring)
            raise

    @staticmethod
    def polling_supported() -> bool:
        """Whether this kernel polls passthrough commands: that came with Linux 6.1, and DEFER_TASKRUN with it.

        Raises OSError where there is no io_uring at all.
        """
        ring = _open_ring(1, iopoll=True)
        flags: int = lib.aionvme_ring_flags(ring)
        lib.aionvme_ring_close(ring)
        return bool(flags & lib.IORING_SETUP_DEFER_TASKRUN)

    @staticmethod
    def raw_supported() -> bool:
        """Whether this kernel's io_uring has raw queues: asked of a fresh ring, in the one way that is safe on any kernel."""
        ring = _open_ring(1, iopoll=True)
        ret: int = lib.aionvme_ring_unregister_queue(ring)
        lib.aionvme_ring_close(ring)
        return ret == 0

    @property
    def port(self) -> tuple[int, bytes] | None:
        """See :attr:`Queue.port`."""
        header = bytearray(SQE.size)
        SQE.pack_into(
            header, 0,
            lib.IORING_OP_URING_CMD, lib.IOSQE_FIXED_FILE, 0, 0, self._cmd_op, 0, 0, self._flags, 0, 0, 0, 0, b"",
        )  # fmt: skip
        return int(ffi.cast("uintptr_t", self._ring)), bytes(header)

    def stage(self, user_data: int, entry: bytes, buf_index: int) -> None:
        """Pack a command into the next entry of the batch."""
        flags, cmd_op = self._flags, self._cmd_op
        if buf_index < 0:
            buf_index = 0
        else:
            flags |= lib.IORING_URING_CMD_FIXED
        if is_vectored(entry):
            entry, cmd_op = vectored(entry), cmd_op + VECTORED
        self.stage_sqe(
            lib.IORING_OP_URING_CMD, lib.IOSQE_FIXED_FILE, 0, 0,
            cmd_op, 0, 0, flags, user_data,
            buf_index, 0, 0, entry,
        )  # fmt: skip

    def stage_batch(self, batch: Batch) -> None:
        """Hand a batch to the core; behind as many as it takes, it waits for one of them to end."""
        self._batches[batch] = self._pack_batch(batch)
        self._add_batches()

    def stop_batch(self, batch: Batch) -> None:
        """Have the core submit no more of a batch."""
        packed = self._batches.get(batch)
        if packed is None:  # it never got here
            batch.stopped_at = 0
            self._stopped_early.append(batch)
        elif packed.added:
            lib.aionvme_ring_stop_batch(self._ring, packed.batch)
            batch.stopped_at = packed.batch.n
        else:
            batch.stopped_at = packed.batch.n = 0

    def ended_batches(self) -> list[Batch]:
        """Those whose completions the core has all stored."""
        ended = [batch for batch, packed in self._batches.items() if packed.batch.completed == packed.batch.n]
        for batch in ended:
            del self._batches[batch]
        if ended:
            self._add_batches()
        if self._stopped_early:
            ended += self._stopped_early
            self._stopped_early = []
        return ended

    def _add_batches(self) -> None:
        for packed in self._batches.values():
            if not packed.added and packed.batch.n:
                # In this order, because a signal's handler may raise in between: a batch must not be added twice.
                packed.added = True
                if lib.aionvme_ring_add_batch(self._ring, packed.batch) < 0:
                    packed.added = False
                    break

    def _pack_batch(self, batch: Batch) -> "_PackedBatch":
        flags, buf_index = self._flags, 0
        columns = [(CMD_OFFSET + offset, values) for offset, values in batch.columns]
        if not isinstance(batch.buf_index, int):
            flags |= lib.IORING_URING_CMD_FIXED
            columns.append((BUF_INDEX_OFFSET, batch.buf_index))
        elif batch.buf_index >= 0:
            flags |= lib.IORING_URING_CMD_FIXED
            buf_index = batch.buf_index
        packed = ffi.new("struct aionvme_batch *")
        SQE.pack_into(
            ffi.buffer(packed), 0,
            lib.IORING_OP_URING_CMD, lib.IOSQE_FIXED_FILE, 0, 0,
            self._cmd_op, 0, 0, flags, 0,
            buf_index, 0, 0, batch.template,
        )  # fmt: skip
        fields = bytearray(len(columns) * COLUMN.size)
        for i, (offset, values) in enumerate(columns):
            COLUMN.pack_into(fields, i * COLUMN.size, offset, values.itemsize, values.strides[0], _address(values))
        packed.columns = kept = ffi.from_buffer("struct aionvme_column *", fields)
        packed.n_columns = len(columns)
        packed.n = batch.n
        packed.completions = ffi.from_buffer("struct aionvme_completion *", batch.completions)
        return _PackedBatch(packed, kept)

    def stage_sqe(self, *fields: int | bytes) -> None:
        """Pack an entry of any kind, its fields in the order of the structure :data:`SQE`."""
        SQE.pack_into(self._sqe_bytes, self._staged * SQE.size, *fields)
        self._staged += 1

    def tick(self, budget: int) -> Entries:
        """Submit the batch, let the kernel do its deferred work or poll, and reap."""
        if self._armed:
            lib.aionvme_ring_disarm(self._ring)
            self._armed = False
        staged = self._staged
        n = lib.aionvme_ring_tick(
            self._ring, self._sqes, staged, self._accepted, self._cqes, budget if budget < REAP_MAX else REAP_MAX
        )
        if staged:
            self._keep_rest(staged)
        if n < 0:
            raise os_error(-n, "entering an io_uring", ENTER_CAUSES)
        if self._eventfd is None and (n or self._moved()):
            self._progress = time.monotonic()
        return self._cqe_bytes[: n * CQE.size]

    def _keep_rest(self, staged: int) -> None:
        """What found no room in the submission queue is first in the next tick's line."""
        accepted = self._accepted[0]
        self._staged = staged - accepted
        if self._staged:
            rest = self._sqe_bytes[accepted * SQE.size : staged * SQE.size].tobytes()
            self._sqe_bytes[: len(rest)] = rest

    def _moved(self) -> bool:
        """Whether a command has been submitted, or one of a batch has completed, since this was asked last."""
        position = lib.aionvme_ring_submitted(self._ring) + sum(
            packed.batch.completed for packed in self._batches.values()
        )
        moved: bool = position != self._position
        self._position = position
        return moved

    @property
    def busy(self) -> bool:
        """Whether a command is staged or in flight, or a batch under way; not once it is closed."""
        if self._ring is None:
            return False
        return self._staged > 0 or bool(self._batches) or lib.aionvme_ring_busy(self._ring)

    def record(self, latencies: Latencies | None) -> None:
        """Have the core count latencies."""
        to = ffi.NULL if latencies is None else ffi.from_buffer("struct aionvme_latencies *", latencies.record)
        _check(lib.aionvme_ring_record(self._ring, to), "recording latencies")
        self._latencies = to

    def pause(self, idle: bool) -> float:
        """Polled: at once, then ever more slowly. Interrupt: sleep on the eventfd, unless something came meanwhile."""
        if self._staged or lib.aionvme_ring_queued(self._ring):
            return 0.0
        if idle and lib.aionvme_ring_linger(self._ring, LINGER_NS):
            return 0.0
        if self._eventfd is not None:
            self._armed = not lib.aionvme_ring_arm(self._ring)
            return math.inf if self._armed else 0.0
        # Nobody wakes the waiter of a queue that is polled. A slow command is asked after at an eighth of the time it has taken,
        # so that the wait grows by an eighth at most and a command of seconds costs no processor.
        waited = time.monotonic() - self._progress
        return 0.0 if waited < SPIN_S else min(waited / 8, 0.01)

    def fileno(self) -> int | None:
        """The eventfd of an interrupt driven ring."""
        return self._eventfd

    def register(self, addr: int, len_bytes: int) -> int | None:
        """Put memory into the ring's table of buffers; None where the table or the memory that may be locked is used up.

        None as well once the queue is closed: memory can outlive it.
        """
        if self._ring is None or not self._free_buffers:
            return None
        index = self._free_buffers[-1]
        if lib.aionvme_ring_set_buffer(self._ring, index, ffi.cast("void *", addr), len_bytes) < 0:
            return None
        self._free_buffers.pop()
        return index

    def unregister(self, buf_index: int) -> None:
        """Take a buffer out of the table; once the queue is closed it is out already."""
        if self._ring is None:
            return
        _check(lib.aionvme_ring_set_buffer(self._ring, buf_index, ffi.NULL, 0), "unregistering a buffer")
        self._free_buffers.append(buf_index)

    def polls(self) -> Polls:
        """What polling has come to since the queue was opened."""
        found = lib.aionvme_ring_polls(self._ring)
        return Polls(found.polls, found.empty, found.spared)

    def close(self) -> None:
        """Unmap and close the ring; a second time, do nothing."""
        if self._ring is not None:
            lib.aionvme_ring_close(self._ring)
            # cffi takes no None for a pointer: a call that comes too late raises TypeError and touches no freed memory.
            self._ring = None


def _address(values: NDArray[Any]) -> int:
    """Where an array begins. cffi tells in a third of the time that numpy takes, but only of contiguous ones."""
    if values.flags.c_contiguous:
        return int(ffi.cast("uintptr_t", ffi.from_buffer(values)))
    address: int = values.__array_interface__["data"][0]
    return address


def _open_ring(depth: int, iopoll: bool, sqpoll: bool = False) -> Any:
    out = ffi.new("struct aionvme_ring **")
    if sqpoll:
        ret = lib.aionvme_ring_open_sqpoll(depth, 2 * depth, iopoll, SQ_IDLE_MS, out)
    else:
        ret = lib.aionvme_ring_open(depth, 2 * depth, iopoll, out)
    _check(ret, "setting up an io_uring", SETUP_CAUSES)
    return out[0]


def _check(ret: int, doing: str, causes: MappingProxyType[int, str] = MappingProxyType({})) -> int:
    if ret < 0:
        raise os_error(-ret, doing, causes)
    return ret
