"""A queue whose commands are recorded: what each was, when it was submitted and reaped, and how it ended.

A recorder stands around a queue, so that it sees what every kind of queue sees. Without one nothing is looked at.
"""

import time
from struct import Struct
from typing import Any

import numpy as np

from aionvme.nvme.command import NVME_URING_CMD, NVME_URING_CMD_DTYPE
from aionvme.nvme.opcodes import NvmOpcode
from aionvme.nvme.transfer import ADDRESSES_BLOCKS
from aionvme.queues.base import CQE, Entries, Queue
from aionvme.trace import TRACE, Trace

_ROW = np.dtype(
    [
        ("submit_ns", "<u8"), ("complete_ns", "<u8"), ("result", "<u8"), ("res", "<i4"), ("in_flight", "<u4"),
        ("command", NVME_URING_CMD_DTYPE),
    ]
)  # fmt: skip
_STAGED, _STAGED_OFFSET = Struct(f"<I{NVME_URING_CMD.size}s"), 28
_COMPLETED, _COMPLETED_OFFSET = Struct("<QQi"), 8
assert _ROW.itemsize == _STAGED_OFFSET + _STAGED.size

_ROWS = 1024
"""How many commands there is room for at first; that doubles when it is used up."""

_ZONE_MANAGEMENT = (NvmOpcode.ZONE_MANAGEMENT_SEND, NvmOpcode.ZONE_MANAGEMENT_RECEIVE)
_HAVE_SLBA = (*ADDRESSES_BLOCKS, *_ZONE_MANAGEMENT, NvmOpcode.COPY)


class Recorder:
    """Rows of commands, as bytes: a command costs no Python object once it has completed."""

    def __init__(self) -> None:
        self.n = 0
        """How many commands there are so far."""
        self.start_ns = time.monotonic_ns()
        """Where its times begin."""
        self._submitted = 0
        self._in_flight: dict[int, int] = {}
        self._rows = np.zeros(_ROWS, _ROW)
        self._bytes = self._rows.data.cast("B")

    def begin(self) -> None:
        """Forget what there was, and begin anew, at a time when nothing is in flight."""
        self._rows[: self.n] = 0
        self.n = self._submitted = 0
        self.start_ns = time.monotonic_ns()

    def staged(self, user_data: int, entry: bytes) -> None:
        """A command was staged; the next tick submits it."""
        if self.n == len(self._rows):
            rows = np.zeros(2 * self.n, _ROW)
            rows[: self.n] = self._rows
            self._rows, self._bytes = rows, rows.data.cast("B")
        self._in_flight[user_data] = self.n
        _STAGED.pack_into(self._bytes, self.n * _ROW.itemsize + _STAGED_OFFSET, len(self._in_flight), entry)
        self.n += 1

    def submitting(self) -> None:
        """What was staged is submitted now."""
        if self._submitted < self.n:
            self._rows["submit_ns"][self._submitted : self.n] = time.monotonic_ns() - self.start_ns
            self._submitted = self.n

    def reaped(self, completions: Entries) -> None:
        """These have completed; those of commands that were not recorded are nothing to us."""
        if not completions:
            return
        now = time.monotonic_ns() - self.start_ns
        for user_data, res, result in CQE.iter_unpack(completions):
            row = self._in_flight.pop(user_data, None)
            if row is not None:
                _COMPLETED.pack_into(self._bytes, row * _ROW.itemsize + _COMPLETED_OFFSET, now, result, res)

    def completion(self, row: int) -> tuple[int, int] | None:
        """The res and result of a command, None where it has not completed."""
        complete_ns, result, res = _COMPLETED.unpack_from(self._bytes, row * _ROW.itemsize + _COMPLETED_OFFSET)
        return (res, result) if complete_ns else None

    def trace(self, block_bytes: int, zsze: int) -> Trace:
        """What was submitted so far, on a namespace of such blocks and zones."""
        rows = self._rows[: self._submitted]
        command = rows["command"]
        opcode = command["opcode"]
        zone_management = np.isin(opcode, _ZONE_MANAGEMENT)
        columns: dict[str, Any] = {
            **{name: rows[name] for name in ("submit_ns", "complete_ns", "result", "in_flight")},
            **{name: command[name] for name in ("opcode", "nsid", "cdw12", "cdw13")},
            "slba": (command["cdw10"] | command["cdw11"].astype("<u8") << np.uint64(32)) * np.isin(opcode, _HAVE_SLBA),
            "nlb": ((command["cdw12"] & 0xFFFF) + 1) * np.isin(opcode, list(ADDRESSES_BLOCKS)),
            "len_bytes": command["data_len"],
            "action": (command["cdw13"] & 0xFF) * zone_management,
            "select_all": (opcode == NvmOpcode.ZONE_MANAGEMENT_SEND) & (command["cdw13"] >> 8 & 1 != 0),
            "status": np.maximum(rows["res"], 0),
            "errno": np.maximum(-rows["res"], 0),
            "block_bytes": block_bytes,
            "zsze": zsze,
        }
        trace = np.zeros(len(rows), TRACE)
        for name, values in columns.items():
            trace[name] = values
        return trace


class WatchedQueue:
    """Another queue, whose completions a recorder gets to see; somebody else tells it what was staged."""

    def __init__(self, queue: Queue, recorder: Recorder) -> None:
        self.inner = queue
        self._recorder = recorder

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def tick(self, budget: int) -> Entries:
        """See :meth:`Queue.tick`."""
        self._recorder.submitting()
        completions = self.inner.tick(budget)
        self._recorder.reaped(completions)
        return completions


class TracingQueue(WatchedQueue):
    """Another queue, all of whose commands are recorded. Each passes here: there is no port for C, and no batch."""

    port = None
    batches = False

    def stage(self, user_data: int, entry: bytes, buf_index: int) -> None:
        """See :meth:`Queue.stage`."""
        self._recorder.staged(user_data, entry)
        self.inner.stage(user_data, entry, buf_index)
